//! Where facts live: layout, subjects, stored encoding, journal, fold, pages, records, leases.
//!
//! JetStream is the only store. What happens in a room is appended to its journal; a fold writes the
//! journal into pages of 64 rows, so that reading costs a page and starting costs nothing. Users,
//! rooms, memberships, roles and settings lie in STATE and are mirrored in memory. The rules that
//! carry the guarantees are in `docs/architecture.md`.

mod access;
mod append;
mod apply;
mod background;
mod barrier;
mod checkpoint;
mod commit;
mod counters;
mod due;
mod encoding;
mod error;
mod feed;
mod fold;
mod follow;
#[cfg(test)]
mod golden;
mod head;
mod held;
mod keys;
mod layout;
mod lease;
mod live;
mod mark;
mod markers;
mod memory;
mod mirror;
mod open;
mod overlay;
mod page;
mod page_cache;
mod page_writer;
mod record_cache;
mod register;
mod spill;
mod state;
mod store;
mod timeline;
mod tokens;
mod writer;

/// Stored records, version 1, as generated from `stored.v1.proto`.
pub mod records {
    #![allow(missing_docs, clippy::all, reason = "generated")]

    include!(concat!(env!("OUT_DIR"), "/chatto.stored.v1.rs"));
}

pub use append::{Appended, Draft, DraftView, RequestId};
pub use counters::{Counted, FoundCounter};
pub use encoding::DecodeError;
pub use error::{ChangeError, StorageError};
pub use head::{RoomHead, is_message};
pub use held::{HeldRoom, HoldReason};
pub use keys::{Opener, Sealer};
pub use layout::{LAYOUT, stream_names};
pub use lease::Lease;
pub use live::{Changed, Gap, JournalEvent, Listener, Live, Told, Whisper};
pub use mirror::Tables;
pub use open::{Config, OpenError};
pub use register::live_processes;
pub use state::{Change, Claim, Claimed};
pub use store::Storage;
pub use tokens::FoundToken;
