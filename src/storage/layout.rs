//! The layout: every stream and bucket of the store, in one table, and the subjects inside them.

use std::collections::HashMap;
use std::time::Duration;

use crate::limits::{
    ADDRESS_COUNTER_TTL, ADDRESS_COUNTERS_MAX, CALLS_MAX_BYTES, LOGIN_COUNTER_TTL,
    LOGIN_COUNTERS_MAX, PRESENCE_MAX_BYTES,
};
use crate::nats::{DiscardPolicy, Republish, StorageType, StreamConfig};

/// The layout's number in META; raised when a later version needs a migration.
pub const LAYOUT: u32 = 1;

/// The number of the streams' settings below; raised with each change, so that an older program does not set
/// them back.
pub(crate) const SETTINGS: u32 = 4;
/// Where a stream's metadata has it.
pub(crate) const SETTINGS_KEY: &str = "chatto.settings";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a missing stream of an initialised store means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Damage: facts are lost. The server refuses to start.
    IsDamage,
    /// It holds caches, tokens or memory only and is created again.
    IsCreatedAgain,
}

/// How a stream's messages are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream(&'static str),
    Bucket,
    Objects,
}

/// One stream of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamSpec {
    /// The bare name used in archives and texts.
    pub(crate) name: &'static str,
    kind: Kind,
    pub(crate) memory: bool,
    per_subject: i64,
    max_age: Option<Duration>,
    max_bytes: Option<i64>,
    max_messages: Option<i64>,
    message_ttl: bool,
    republish_to: Option<&'static str>,
    pub(crate) missing: Missing,
}

const PERSISTENT: StreamSpec = StreamSpec {
    name: "",
    kind: Kind::Bucket,
    memory: false,
    per_subject: 1,
    max_age: None,
    max_bytes: None,
    max_messages: None,
    message_ttl: false,
    republish_to: None,
    missing: Missing::IsDamage,
};
const DISPOSABLE: StreamSpec = StreamSpec { missing: Missing::IsCreatedAgain, ..PERSISTENT };
/// In nats-server's memory, so in no backup. All of them fit into the embedded server's limit (`limits`).
const MEMORY: StreamSpec = StreamSpec { memory: true, ..DISPOSABLE };

/// Bare names.
pub(crate) const META: &str = "META";

/// JetStream's names of the streams that code addresses.
pub(crate) mod stream {
    pub(crate) const JOURNAL: &str = "JOURNAL";
    pub(crate) const PAGES: &str = "PAGES";
    pub(crate) const STATE: &str = "KV_STATE";
    pub(crate) const READ_MARKERS: &str = "KV_READ_MARKERS";
    pub(crate) const FILES: &str = "FILES";
    pub(crate) const ASSETS: &str = "OBJ_ASSETS";
    pub(crate) const AUTH_TOKENS: &str = "KV_AUTH_TOKENS";
    pub(crate) const META: &str = "KV_META";
    pub(crate) const ENCRYPTION_KEYS: &str = "KV_ENCRYPTION_KEYS";
    pub(crate) const PRESENCE: &str = "KV_PRESENCE";
    pub(crate) const LOGIN_COUNTERS: &str = "LOGIN_COUNTERS";
    pub(crate) const ADDRESS_COUNTERS: &str = "ADDRESS_COUNTERS";
}

/// Every stream of the store. META comes first: its record says that the others may be created.
pub(crate) const STREAMS: &[StreamSpec] = &[
    StreamSpec { name: META, ..PERSISTENT },
    StreamSpec {
        name: "JOURNAL",
        kind: Kind::Stream("journal.*"),
        per_subject: -1,
        republish_to: Some("live.journal.{{wildcard(1)}}"),
        ..PERSISTENT
    },
    // Two revisions: a fold first erases the record before the last, then puts, then erases the last.
    StreamSpec { name: "PAGES", kind: Kind::Stream("pages.>"), per_subject: 2, ..PERSISTENT },
    StreamSpec { name: "STATE", republish_to: Some("live.state.>"), ..PERSISTENT },
    StreamSpec { name: "READ_MARKERS", ..PERSISTENT },
    StreamSpec { name: "NOTIFICATIONS", message_ttl: true, ..PERSISTENT },
    // Two revisions, as with PAGES: a record names files, and the former one is erased after each change.
    StreamSpec { name: "FILES", kind: Kind::Stream("files.>"), per_subject: 2, ..PERSISTENT },
    StreamSpec {
        name: "AUTH_TOKENS",
        message_ttl: true,
        republish_to: Some("live.token.>"),
        ..DISPOSABLE
    },
    StreamSpec { name: "UPLOADS", kind: Kind::Objects, max_age: Some(DAY), ..DISPOSABLE },
    StreamSpec {
        name: "LINK_PREVIEWS",
        max_age: Some(Duration::from_secs(14 * 24 * 3600)),
        max_bytes: Some(24 << 20),
        message_ttl: true,
        ..DISPOSABLE
    },
    StreamSpec { name: "ENCRYPTION_KEYS", per_subject: 2, ..PERSISTENT },
    StreamSpec {
        name: "PRESENCE",
        max_bytes: Some(PRESENCE_MAX_BYTES),
        message_ttl: true,
        ..MEMORY
    },
    StreamSpec { name: "CALLS", max_bytes: Some(CALLS_MAX_BYTES), message_ttl: true, ..MEMORY },
    // Identifiers and addresses lie apart: a flood of the ones must not push the others out.
    StreamSpec {
        name: stream::LOGIN_COUNTERS,
        kind: Kind::Stream("counter.login.*"),
        max_age: Some(LOGIN_COUNTER_TTL),
        max_messages: Some(LOGIN_COUNTERS_MAX),
        ..MEMORY
    },
    StreamSpec {
        name: stream::ADDRESS_COUNTERS,
        kind: Kind::Stream("counter.address.*"),
        max_age: Some(ADDRESS_COUNTER_TTL),
        max_messages: Some(ADDRESS_COUNTERS_MAX),
        ..MEMORY
    },
    StreamSpec { name: "ASSETS", kind: Kind::Objects, ..PERSISTENT },
    StreamSpec {
        name: "ASSET_CACHE",
        kind: Kind::Objects,
        // Each message has its own. No `max_age`, which would end those that are to be kept longer, and no
        // `max_bytes`: nats-server reserves it at once, and a small disk could not even start.
        message_ttl: true,
        ..DISPOSABLE
    },
];

impl StreamSpec {
    /// JetStream's name.
    pub(crate) fn stream_name(&self) -> String {
        match self.kind {
            Kind::Stream(_) => self.name.to_owned(),
            Kind::Bucket => format!("KV_{}", self.name),
            Kind::Objects => format!("OBJ_{}", self.name),
        }
    }

    /// The configuration to create or update the stream with.
    pub(crate) fn config(&self, replicas: usize, server_id: &str) -> StreamConfig {
        let name = self.name;
        let subjects = match self.kind {
            Kind::Stream(subjects) => vec![subjects.to_owned()],
            Kind::Bucket => vec![format!("$KV.{name}.>")],
            Kind::Objects => vec![format!("$O.{name}.C.>"), format!("$O.{name}.M.>")],
        };
        let objects = self.kind == Kind::Objects;
        let republish = self.republish_to.map(|destination| Republish {
            source: subjects.first().cloned().unwrap_or_default(),
            destination: destination.to_owned(),
            headers_only: false,
        });
        StreamConfig {
            name: self.stream_name(),
            subjects,
            max_messages_per_subject: if objects { -1 } else { self.per_subject },
            max_messages: self.max_messages.unwrap_or(-1),
            max_bytes: self.max_bytes.unwrap_or(-1),
            max_age: self.max_age.unwrap_or_default(),
            max_consumers: -1,
            max_message_size: -1,
            storage: if self.memory { StorageType::Memory } else { StorageType::File },
            num_replicas: replicas,
            // Repeated posts are recognised for two minutes (contract: Idempotency-Key).
            duplicate_window: Duration::from_secs(120).min(self.max_age.unwrap_or(DAY)),
            // A full cache drops its oldest entries; a full store refuses writes and keeps what it has.
            discard: match (self.max_bytes, self.max_messages) {
                (None, None) => DiscardPolicy::New,
                _ => DiscardPolicy::Old,
            },
            allow_rollup: true,
            allow_direct: true,
            republish,
            allow_message_ttl: self.message_ttl,
            // A marker needs memory: where there is none left, nothing would expire. Nobody reads those of
            // memory streams and of caches.
            subject_delete_marker_ttl: (self.message_ttl && !self.memory && !objects)
                .then_some(Duration::from_secs(60)),
            metadata: HashMap::from([
                ("chatto.server".to_owned(), server_id.to_owned()),
                ("chatto.layout".to_owned(), LAYOUT.to_string()),
                (SETTINGS_KEY.to_owned(), SETTINGS.to_string()),
            ]),
            ..StreamConfig::default()
        }
    }
}

/// JetStream's names of every stream of a store.
#[must_use]
pub fn stream_names() -> Vec<String> {
    STREAMS.iter().map(StreamSpec::stream_name).collect()
}

/// The list that META and the initialised marker carry.
pub(crate) fn stream_list() -> Vec<String> {
    STREAMS.iter().map(|spec| spec.name.to_owned()).collect()
}

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PageKey {
    Head,
    /// Rows 64k to 64k+63 of the room.
    Rows(u32),
    /// Short threads of the roots of row page k.
    Threads(u32),
    /// Replies 64k+1 to 64k+64 of the thread at this root row.
    Replies(u32, u32),
}

/// `journal.<room>`.
pub(crate) fn journal_subject(room: &str) -> String {
    format!("journal.{room}")
}

impl PageKey {
    /// The subject of the page's base record.
    pub(crate) fn subject(self, room: &str) -> String {
        match self {
            Self::Head => format!("pages.{room}.h"),
            Self::Rows(k) => format!("pages.{room}.r.{k}"),
            Self::Threads(k) => format!("pages.{room}.s.{k}"),
            Self::Replies(root, k) => format!("pages.{room}.t.{root}.{k}"),
        }
    }

    /// The room and page of a part's subject.
    pub(crate) fn of_part(subject: &str) -> Option<(String, Self)> {
        let parts: Vec<&str> = subject.split('.').collect();
        let (room, key) = match parts.as_slice() {
            ["pages", room, "r", k, _part] => (room, Self::Rows(k.parse().ok()?)),
            ["pages", room, "t", root, k, _part] => {
                (room, Self::Replies(root.parse().ok()?, k.parse().ok()?))
            }
            _ => return None,
        };
        Some(((*room).to_owned(), key))
    }

    /// Whether records under this key may have parts (`<subject>.<part>`).
    pub(crate) fn has_parts(self) -> bool {
        matches!(self, Self::Rows(_) | Self::Replies(..))
    }
}
