//! The uploads in progress, in AUTH_TOKENS: they are not backed up, and end by themselves.

use crate::domain::{AssetId, Upload};
use crate::limits::UPLOAD_TTL;
use crate::nats::Nats;
use crate::runtime::Clock;
use crate::storage::encoding::encode_value;
use crate::storage::error::StorageError;
use crate::storage::kv::{Entry, bucket_get_known, put_entry};
use crate::storage::layout::stream;

/// The uploads in progress.
pub struct Uploads {
    nats: Nats,
    clock: Clock,
}

impl Uploads {
    pub(crate) fn new((nats, clock): (Nats, Clock)) -> Self {
        Self { nats, clock }
    }

    /// An upload and its revision, from the leader. `None`: there is none, or its last change is longer ago than
    /// [`UPLOAD_TTL`]; a new one then names this revision.
    pub async fn get(&self, id: &AssetId) -> Result<(Option<Upload>, u64), StorageError> {
        bucket_get_known(&self.nats, stream::AUTH_TOKENS, &subject(id)).await
    }

    /// Stores an upload in the place of the record with this revision, 0: of none, and returns the new revision;
    /// `None`: another call was first.
    ///
    /// # Cancel safety
    /// After dropping it the upload may or may not be stored.
    pub async fn put(
        &self,
        id: &AssetId,
        upload: &Upload,
        revision: u64,
    ) -> Result<Option<u64>, StorageError> {
        let entry = Entry { subject: &subject(id), payload: encode_value(upload), revision };
        put_entry(&self.nats, &self.clock, entry, Some(UPLOAD_TTL)).await
    }
}

fn subject(id: &AssetId) -> String {
    format!("$KV.AUTH_TOKENS.upload.{id}")
}
