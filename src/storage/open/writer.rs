//! Which programs may write: META holds the least number a writer must have. A newer program raises it before
//! it writes what an older one would drop; the older one then reads, or stops, but never writes.

use std::sync::atomic::Ordering;

use crate::nats::WritesRefused;
use crate::storage::error::StorageError;
use crate::storage::open::read_meta;
use crate::storage::store::Inner;

/// The number of this program as a writer. Raised with each change of the stored records after which a
/// program before it would lose something by writing.
pub(crate) const WRITER: u32 = 1;

impl Inner {
    /// Asks META whether this program may write. Once it may not, it never writes again.
    pub(crate) async fn may_write(&self) -> Result<bool, StorageError> {
        let (meta, _) = read_meta(&self.nats).await?;
        let least = meta.map_or(0, |meta| meta.least_writer);
        if least > WRITER && self.outdated.swap(least, Ordering::SeqCst) == 0 {
            self.nats.refuse_writes(Some(WritesRefused::Outdated));
            log::error!(
                least_writer = least, writer = WRITER;
                "a newer program has taken over this store; this program writes nothing more; update it"
            );
        }
        Ok(self.outdated.load(Ordering::SeqCst) == 0)
    }
}
