//! Where facts live: layout, subjects, stored encoding, journal, fold, pages, records, leases.
//!
//! JetStream is the only store. What happens in a room is appended to its journal; a fold writes the
//! journal into pages of 64 rows, so that reading costs a page and starting costs nothing. Users,
//! rooms, memberships, roles and settings lie in STATE and are mirrored in memory. The rules that
//! carry the guarantees are in `docs/architecture.md`.

mod encoding;
mod error;
mod export;
mod feed;
mod files;
mod fold;
#[cfg(test)]
mod golden;
mod import;
mod journal;
mod kv;
mod layout;
mod open;
mod purge;
mod state;
mod store;
mod timeline;
mod timelines;

/// Stored records, version 1, as generated from `stored.v1.proto`.
mod records {
    #![allow(clippy::all, unreachable_pub, reason = "generated")]

    include!(concat!(env!("OUT_DIR"), "/chatto.stored.v1.rs"));
}

pub use crate::domain::timeline::Sealed;
pub use encoding::DecodeError;
pub use error::{ChangeError, FileKeyError, StorageError};
#[cfg(test)]
pub(crate) use export::record_of;
pub use export::{
    ArchivedRecord, ArchivedStream, CutCount, Export, ExportError, ExportLease, ExportedFile,
    FileBytes, FilePart, StoreVersions, StreamCount, check_archived, excluded_streams,
    restored_data, subject_number,
};
pub use feed::live::{
    EphemeralEvent, Feed, FeedPosition, FeedSubscriber, FeedUpdate, Gap, JournalEvent,
};
pub use files::{Files, UnreadableFile, Uploads};
pub use fold::held::{HoldReason, RoomHold};
pub use import::{Import, Kept, Lacking, Present, Source};
pub use journal::append::{Appended, Draft, DraftView, RequestId};
pub use kv::backup_results::{BackupLog, KnownBackups};
pub use kv::counters::{Counted, Counter, Counters, FoundCounter};
pub use kv::key_store::{
    KeyStore, KeyStoreFound, KeysImported, KeysRead, StoredKey, Unexported, is_key_id,
};
pub use kv::keys::{Opener, Sealer};
pub use kv::lease::Lease;
pub use kv::markers::Markers;
pub use kv::presences::Presences;
pub use kv::register::{Fingerprint, Process, Register, live_processes};
pub use kv::texts::Texts;
pub use kv::tokens::{FoundToken, Tokens};
pub use kv::user_keys::{UserKeys, unwrap_archived_key};
pub use layout::{LAYOUT, stream_names};
pub use open::{Config, OpenError, write_initialised};
pub use state::key::{Claim, ClaimKey};
pub use state::mirror::{StateChange, StateRecord, Tables};
pub use state::{ClaimHolder, ClaimRecord, Claimed, RecordChange, State};
pub use store::Storage;
pub use timeline::head::{AuthorRow, NewestRow, PinnedRow, RoomHead};
pub use timelines::Timelines;

/// The capacity of a cache, which is never zero.
const fn capacity(n: usize) -> std::num::NonZeroUsize {
    match std::num::NonZeroUsize::new(n) {
        Some(n) => n,
        None => std::num::NonZeroUsize::MIN,
    }
}
