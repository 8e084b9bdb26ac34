//! Presence records: in nats-server's memory, each with a life of its own.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{UserId, UserPresence};
use crate::nats::Nats;
use crate::storage::encoding::{decode_value, encode_value};
use crate::storage::error::StorageError;
use crate::storage::kv::CHANGE_ATTEMPTS;
use crate::storage::kv::memory::MemoryStreams;
use crate::storage::kv::{Entry, each_entry};
use crate::storage::layout::stream;

/// Where presence records lie.
const STATUS: &str = "$KV.PRESENCE.status.";

/// The presence of all users.
pub struct Presences {
    pub(crate) nats: Nats,
    pub(crate) memory: Arc<MemoryStreams>,
}

impl Presences {
    /// Changes a user's presence record, which disappears `ttl` after its last change.
    ///
    /// A record that a newer program wrote is changed for the caller only and not stored. The status of the
    /// user's sessions here is published all the same, with each refresh, and so shown; the record is not renewed
    /// and is gone within `ttl`, unless the newer program writes it again.
    pub async fn change<T>(
        &self,
        user: &UserId,
        ttl: Duration,
        mut f: impl FnMut(&mut UserPresence) -> T,
    ) -> Result<T, StorageError> {
        let subject = format!("{STATUS}{user}");
        for _ in 0..CHANGE_ATTEMPTS {
            let (found, revision) =
                self.memory.get_any::<UserPresence>(stream::PRESENCE, &subject).await?;
            let (mut record, is_known) = found.unwrap_or((UserPresence::default(), true));
            let answer = f(&mut record);
            if !is_known {
                return Ok(answer);
            }
            let entry = Entry { subject: &subject, payload: encode_value(&record), revision };
            if self.memory.put(entry, ttl).await? {
                return Ok(answer);
            }
        }
        Err(StorageError::Busy)
    }

    /// Every presence record there is.
    pub async fn all(&self) -> Result<Vec<(UserId, UserPresence)>, StorageError> {
        let mut found = Vec::new();
        let each = |subject: &str, payload: &[u8]| {
            let user = subject.strip_prefix(STATUS);
            let user = user.and_then(|user| UserId::try_from(user).ok());
            found.extend(user.and_then(|user| Some((user, decode_value(payload).ok()?.0))));
        };
        match each_entry(&self.nats, stream::PRESENCE, each).await {
            Err(error) if error.is_missing_stream() => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }
}
