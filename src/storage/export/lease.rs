//! One archive at a time, and no erased files meanwhile.
//!
//! The record lies in PRESENCE and expires, so that a backup that was killed blocks nothing for long. Whoever erases a file
//! first stores that it is being erased and then asks for this record; whoever makes an archive first stores the record
//! and then reads the files: so one of both sees the other.

use std::sync::Arc;

use super::{Export, ExportError};
use crate::crypto::{hex, random};
use crate::limits::{EXPORT_LEASE, EXPORT_LEASE_RENEWAL};
use crate::nats::Nats;
use crate::runtime::{Clock, Scope, Stop};
use crate::storage::encoding::encode;
use crate::storage::error::StorageError;
use crate::storage::kv::memory::MemoryStreams;
use crate::storage::kv::{self, Entry};
use crate::storage::layout::stream;
use crate::storage::records::Claim;

const SUBJECT: &str = "$KV.PRESENCE.export";

/// Says that an archive is being made, until [`Self::end`]. Clones share it.
#[derive(Clone)]
pub struct ExportLease {
    memory: Arc<MemoryStreams>,
    nats: Nats,
    clock: Clock,
    holder: String,
    stop: Stop,
}

/// Whether an archive is being made.
pub(crate) async fn is_exporting(memory: &MemoryStreams) -> Result<bool, StorageError> {
    let (present, _) = memory.get::<Claim>(stream::PRESENCE, SUBJECT).await?;
    Ok(present.is_some())
}

impl Export {
    /// Whether another archive is being made.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn is_running(&self) -> Result<bool, StorageError> {
        is_exporting(&self.memory).await
    }

    /// Takes the lease, and renews it until it is ended.
    ///
    /// # Errors
    /// [`ExportError::Running`] while another archive is made.
    pub async fn lease<E>(&self, scope: &Scope) -> Result<ExportLease, ExportError<E>> {
        let lease = ExportLease {
            memory: Arc::clone(&self.memory),
            nats: self.nats.clone(),
            clock: self.clock.clone(),
            holder: hex(&random::<8>()),
            stop: Stop::new(),
        };
        if !lease.renew().await? {
            return Err(ExportError::Running);
        }
        // A command has room for its one task.
        if scope.spawn("export-lease", keep(lease.clone())).is_err() {
            return Err(StorageError::Busy.into());
        }
        Ok(lease)
    }
}

async fn keep(lease: ExportLease) {
    while lease.stop.or(lease.clock.sleep(EXPORT_LEASE_RENEWAL)).await.is_some() {
        match lease.renew().await {
            Ok(true) => {}
            Ok(false) => log::warn!("another backup of this store has begun"),
            Err(error) => {
                log::warn!(error:err = error; "the lease of the backup cannot be renewed now");
            }
        }
    }
}

impl ExportLease {
    /// `false`: somebody else holds it.
    async fn renew(&self) -> Result<bool, StorageError> {
        let (present, revision) = self.memory.get::<Claim>(stream::PRESENCE, SUBJECT).await?;
        if present.is_some_and(|present| present.holder_id != self.holder) {
            return Ok(false);
        }
        let claim = Claim {
            holder_id: self.holder.clone(),
            claimed_ms: self.clock.unix_ms(),
            request_id: String::new(),
        };
        let entry = Entry { subject: SUBJECT, payload: encode(&claim), revision };
        self.memory.put(entry, EXPORT_LEASE).await
    }

    /// Lets files be erased again.
    pub async fn end(self) {
        self.stop.stop();
        let ended = async {
            let (present, revision) = self.memory.get::<Claim>(stream::PRESENCE, SUBJECT).await?;
            if present.is_some_and(|present| present.holder_id == self.holder) {
                kv::delete(&self.nats, SUBJECT, revision).await?;
            }
            Ok::<_, StorageError>(())
        };
        if let Err(error) = ended.await {
            log::debug!(error:err = error; "the lease of the backup stays until it expires");
        }
    }
}
