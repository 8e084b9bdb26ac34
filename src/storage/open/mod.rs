//! Opening a store: creating it once, recognising it ever after, and refusing a damaged one.
//!
//! Streams are created only where there never was a store. A META record is created first (create
//! only, state *creating*), then every stream from one table, then the record says *ready*, then
//! `<data_dir>/initialised` is written. Whoever loses a race or comes back after a kill reads the
//! record and helps. From *ready* on a missing stream is damage, never a reason to start empty.

pub(crate) mod integrity;
pub(crate) mod writer;

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::crypto::{KekId, KeyEncryptionKey, Secret, hex};
use crate::nats::{Nats, NatsError, StreamConfig};
use crate::runtime::{Clock, blocking, limited_read, write_durably};
use crate::storage::encoding::encode;
use crate::storage::error::StorageError;
use crate::storage::kv::keys::Keys;
use crate::storage::kv::{self, Entry};
use crate::storage::kv::{bucket_get, bucket_get_known};
use crate::storage::layout::{
    LAYOUT, META, Missing, SETTINGS, SETTINGS_KEY, STREAMS, StreamSpec, stream, stream_list,
};
use crate::storage::open::writer::WRITER;
use crate::storage::records::{Meta, MetaState};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Config {
    /// Copies of every stream: 1, 3 or 5.
    pub replicas: usize,
    /// The private server of this process: it is the only writer.
    pub embedded: bool,
    /// `core.secret_key`: wraps the data keys.
    pub secret_key: Secret,
    /// `core.secret_key_previous`: everything is rewrapped from it.
    pub secret_key_previous: Option<Secret>,
    /// `<data_dir>/initialised`, embedded only.
    pub initialised_marker: Option<PathBuf>,
    /// Whether a store may be created where there is none.
    pub create: bool,
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store, and this command may not create one.
    #[error("there is no data yet")]
    NoStore,
    /// Streams of an initialised store are missing: files were removed or are damaged.
    #[error("the store is damaged: {} missing", missing.join(", "))]
    Damaged {
        /// Bare names of what is missing.
        missing: Vec<String>,
    },
    /// A stream holds less than it did: nats-server drops damaged blocks without a word.
    #[error("the store is damaged: {stream} has lost messages")]
    Holes {
        /// Its bare name.
        stream: &'static str,
    },
    /// A restore or a key import has begun here and is not complete.
    #[error(
        "this store has no complete data: a restore was interrupted, or only keys were imported"
    )]
    Partial,
    #[error("stream {stream} belongs to another Chatto server; use another NATS account")]
    Foreign {
        /// JetStream's name of the stream.
        stream: String,
    },
    #[error("the store has layout {found}; this program knows up to {LAYOUT}")]
    Newer { found: u32 },
    /// A newer program has taken the store over: this one would drop what it has written.
    #[error(
        "the store wants programs that write version {least} or newer; this one writes {WRITER}: update it"
    )]
    Outdated {
        /// META's least version.
        least: u32,
    },
    /// What this process knows of the store is worthless.
    #[error("the store was restored while this process was connected to it")]
    Restored,
    #[error("core.secret_key is not the one this store was made with")]
    SecretChanged,
    #[error("{} cannot be used", path.display())]
    Marker {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The store did not answer, or refused.
    #[error("the store cannot be opened")]
    Storage(#[from] StorageError),
}

impl From<NatsError> for OpenError {
    fn from(error: NatsError) -> Self {
        Self::Storage(error.into())
    }
}

impl OpenError {
    /// Whether waiting may help: no quorum yet, or fewer nodes than replicas.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_transient())
    }
}

/// What an opened store is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) server_id: String,
    pub(crate) epoch: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    server: String,
    streams: Vec<String>,
}

pub(crate) const META_SUBJECT: &str = "$KV.META.store";
/// nats-server's codes for "not enough servers for so many replicas" and "peers offline".
const TOO_FEW_NODES: [u64; 2] = [10_005, 10_074];

/// Opens the store, creating it where there never was one.
pub(crate) async fn open(
    nats: &Nats,
    clock: &Clock,
    config: &Config,
) -> Result<Identity, OpenError> {
    let marker = read_marker(config).await?;
    let meta_exists = nats.stream(stream::META).await?.is_some();
    if !meta_exists {
        if let Some(marker) = marker {
            return Err(OpenError::Damaged { missing: missing(nats, &marker.streams).await? });
        }
        let orphans = ours(nats).await?;
        // Another process that creates the store makes META first: it may be there by now.
        if !orphans.is_empty() && nats.stream(stream::META).await?.is_none() {
            return Err(OpenError::Damaged { missing: vec![META.to_owned()] });
        }
        if !config.create {
            return Err(OpenError::NoStore);
        }
        let spec = STREAMS.iter().find(|spec| spec.name == META).ok_or(OpenError::NoStore)?;
        create(nats, &spec.config(config.replicas, "")).await?;
    }
    let mut meta = match read_meta(nats).await? {
        (Some(meta), _) => meta,
        (None, _) if marker.is_some() => {
            return Err(OpenError::Damaged { missing: vec![META.to_owned()] });
        }
        (None, _) if !config.create => return Err(OpenError::NoStore),
        (None, revision) => found(nats, clock, revision).await?,
    };
    check_versions(&meta)?;
    match meta.state() {
        MetaState::Partial => return Err(OpenError::Partial),
        MetaState::Creating => {}
        MetaState::Ready => {
            let lost = missing(nats, &meta.streams).await?;
            let damage: Vec<_> = lost.into_iter().filter(|name| is_damage(name)).collect();
            if !damage.is_empty() {
                return Err(OpenError::Damaged { missing: damage });
            }
        }
    }
    for spec in STREAMS {
        ensure(nats, spec, config.replicas, &meta.server_id).await?;
    }
    let unlisted = |meta: &Meta| {
        let mut list = stream_list();
        list.retain(|name| !meta.streams.contains(name));
        list
    };
    if meta.state() != MetaState::Ready || !unlisted(&meta).is_empty() {
        // A stream that only a newer program knows stays on the list.
        meta = change_meta(nats, clock, |meta| {
            meta.set_state(MetaState::Ready);
            meta.streams.extend(unlisted(meta));
        })
        .await?;
    }
    write_marker(config, &meta, marker).await?;
    check_secret(nats, clock, config, &meta).await?;
    Ok(Identity { server_id: meta.server_id, epoch: meta.epoch })
}

/// Refuses a store that a newer program has written, or has taken over.
fn check_versions(meta: &Meta) -> Result<(), OpenError> {
    if meta.layout > LAYOUT {
        return Err(OpenError::Newer { found: meta.layout });
    }
    if meta.least_writer > WRITER {
        return Err(OpenError::Outdated { least: meta.least_writer });
    }
    Ok(())
}

/// META's record of a store that this program may read; `None`: there is no store.
async fn known_meta(nats: &Nats) -> Result<Option<Meta>, OpenError> {
    let meta = match nats.stream(stream::META).await? {
        Some(_) => read_meta(nats).await?.0,
        None => None,
    };
    match &meta {
        Some(meta) => check_versions(meta)?,
        None if ours(nats).await?.is_empty() => {}
        None => return Err(OpenError::Damaged { missing: vec![META.to_owned()] }),
    }
    Ok(meta)
}

/// Checks, without writing, that there is a complete store that this program may read.
pub(crate) async fn check_complete(nats: &Nats) -> Result<Identity, OpenError> {
    let meta = known_meta(nats).await?.ok_or(OpenError::NoStore)?;
    if meta.state() != MetaState::Ready {
        return Err(OpenError::Partial);
    }
    let mut missing = missing(nats, &meta.streams).await?;
    missing.retain(|name| is_damage(name));
    if !missing.is_empty() {
        return Err(OpenError::Damaged { missing });
    }
    Ok(Identity { server_id: meta.server_id, epoch: meta.epoch })
}

/// Founds a store: the one step that decides which process creates it.
async fn found(nats: &Nats, clock: &Clock, revision: u64) -> Result<Meta, OpenError> {
    let server_id = format!("S{}", hex(&crate::crypto::random::<8>()));
    let meta = Meta { state: MetaState::Creating.into(), ..new_meta(server_id, clock) };
    let entry = Entry { subject: META_SUBJECT, payload: encode(&meta), revision };
    if kv::put(nats, clock, entry, None).await? {
        log::info!("a new store is being created");
        return Ok(meta);
    }
    read_meta(nats).await?.0.ok_or(OpenError::Storage(StorageError::LATE))
}

pub(crate) fn new_meta(server_id: String, clock: &Clock) -> Meta {
    Meta {
        server_id,
        epoch: crate::crypto::random::<16>().to_vec().into(),
        layout: LAYOUT,
        created_ms: clock.unix_ms(),
        ..Meta::default()
    }
}

/// META of a store whose keys are read or written, whatever else it lacks; `None`: there is no store.
pub(crate) async fn meta_for_keys(nats: &Nats) -> Result<Option<Meta>, OpenError> {
    let Some(meta) = known_meta(nats).await? else { return Ok(None) };
    // Says which accounts are deleted.
    if meta.state() == MetaState::Ready && nats.stream(stream::STATE).await?.is_none() {
        return Err(OpenError::Damaged { missing: vec!["STATE".to_owned()] });
    }
    Ok(Some(meta))
}

/// Creates what keys need where it is absent: META, with state *partial*, and ENCRYPTION_KEYS.
pub(crate) async fn create_for_keys(
    (nats, clock): (&Nats, &Clock),
    server_id: &str,
    replicas: usize,
) -> Result<(), OpenError> {
    let specs = || STREAMS.iter().filter(|spec| [META, "ENCRYPTION_KEYS"].contains(&spec.name));
    for spec in specs() {
        if spec.name != META {
            ensure(nats, spec, replicas, server_id).await?;
            continue;
        }
        if nats.stream(stream::META).await?.is_none() {
            create(nats, &spec.config(replicas, server_id)).await?;
        }
        let (None, revision) = read_meta(nats).await? else { continue };
        let streams = specs().map(|spec| spec.name.to_owned()).collect();
        let new = new_meta(server_id.to_owned(), clock);
        let meta = Meta { state: MetaState::Partial.into(), streams, ..new };
        let entry = Entry { subject: META_SUBJECT, payload: encode(&meta), revision };
        if !kv::put(nats, clock, entry, None).await? {
            return Err(OpenError::Storage(StorageError::LATE));
        }
    }
    Ok(())
}

/// Writes whose secret wraps the keys.
pub(crate) async fn set_kek_id((nats, clock): (&Nats, &Clock), id: KekId) -> Result<(), OpenError> {
    let (meta, _) = read_meta(nats).await?;
    if meta.is_some_and(|meta| meta.kek_id == id.0[..]) {
        return Ok(());
    }
    change_meta(nats, clock, |meta| meta.kek_id = id.0.to_vec().into()).await.map(drop)
}

pub(crate) async fn read_meta(nats: &Nats) -> Result<(Option<Meta>, u64), StorageError> {
    bucket_get(nats, stream::META, META_SUBJECT).await
}

/// Changes META's record by compare-and-set.
pub(crate) async fn change_meta(
    nats: &Nats,
    clock: &Clock,
    mut f: impl FnMut(&mut Meta),
) -> Result<Meta, OpenError> {
    let change = |meta: Option<Meta>| {
        let mut meta = meta?;
        f(&mut meta);
        Some(meta)
    };
    put_meta(nats, clock, change).await
}

/// Writes META's record by compare-and-set, as `f` makes it of the present one; `None`: it cannot be made of that.
pub(crate) async fn put_meta(
    nats: &Nats,
    clock: &Clock,
    mut f: impl FnMut(Option<Meta>) -> Option<Meta>,
) -> Result<Meta, OpenError> {
    for _ in 0..kv::CHANGE_ATTEMPTS {
        let (meta, revision) = bucket_get_known::<Meta>(nats, stream::META, META_SUBJECT).await?;
        let Some(meta) = f(meta) else { break };
        let entry = Entry { subject: META_SUBJECT, payload: encode(&meta), revision };
        if kv::put(nats, clock, entry, None).await? {
            return Ok(meta);
        }
    }
    Err(OpenError::Storage(StorageError::LATE))
}

/// Streams of our names, META aside, that exist.
async fn ours(nats: &Nats) -> Result<Vec<String>, OpenError> {
    let mut found = Vec::new();
    for spec in STREAMS.iter().filter(|spec| spec.name != META) {
        if nats.stream(&spec.stream_name()).await?.is_some() {
            found.push(spec.name.to_owned());
        }
    }
    Ok(found)
}

/// Which of the listed streams do not exist.
async fn missing(nats: &Nats, listed: &[String]) -> Result<Vec<String>, OpenError> {
    let mut missing = Vec::new();
    for spec in STREAMS.iter().filter(|spec| listed.iter().any(|name| name == spec.name)) {
        if nats.stream(&spec.stream_name()).await?.is_none() {
            missing.push(spec.name.to_owned());
        }
    }
    Ok(missing)
}

fn is_damage(name: &str) -> bool {
    STREAMS.iter().any(|spec| spec.name == name && spec.missing == Missing::IsDamage)
}

/// Creates the stream, or brings an existing one to the present configuration.
pub(crate) async fn ensure(
    nats: &Nats,
    spec: &StreamSpec,
    replicas: usize,
    server_id: &str,
) -> Result<(), OpenError> {
    let wanted = spec.config(replicas, server_id);
    let Some(info) = nats.stream(&wanted.name).await? else {
        create(nats, &wanted).await?;
        return Ok(());
    };
    let owner = info.config.metadata.get("chatto.server").map_or("", String::as_str);
    if !owner.is_empty() && owner != server_id {
        return Err(OpenError::Foreign { stream: wanted.name });
    }
    if settings_number(&info.config) > SETTINGS {
        log::debug!(stream = spec.name; "a newer program configured this stream; its settings are kept");
        return Ok(());
    }
    if differs(&info.config, &wanted) {
        let former = info.config.num_replicas;
        nats.update_stream(&wanted).await.map_err(wait_for_nodes)?;
        if former == replicas {
            log::debug!(stream = spec.name; "the stream's settings are updated");
        } else {
            log::info!(
                stream = spec.name, replicas = replicas, former = former;
                "the stream's replicas are changed"
            );
        }
    }
    Ok(())
}

async fn create(nats: &Nats, wanted: &StreamConfig) -> Result<(), OpenError> {
    match nats.create_stream(wanted).await {
        // Another process was first, and has given META its owner already.
        Err(error) if error.is_existing_stream() => Ok(()),
        created => created.map(|_| ()).map_err(|error| wait_for_nodes(error).into()),
    }
}

/// Fewer nodes than replicas is a state that passes.
fn wait_for_nodes(error: NatsError) -> StorageError {
    match &error {
        NatsError::Refused { err_code, .. } if TOO_FEW_NODES.contains(err_code) => {
            StorageError::Unavailable { source: Some(error) }
        }
        _ => error.into(),
    }
}

/// The number of the settings that a stream was last given.
fn settings_number(config: &StreamConfig) -> u32 {
    config.metadata.get(SETTINGS_KEY).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn differs(present: &StreamConfig, wanted: &StreamConfig) -> bool {
    let own = |config: &StreamConfig, key: &str| config.metadata.get(key).cloned();
    present.num_replicas != wanted.num_replicas
        || present.max_age != wanted.max_age
        || present.max_bytes != wanted.max_bytes
        || present.max_messages != wanted.max_messages
        || present.max_messages_per_subject != wanted.max_messages_per_subject
        || present.duplicate_window != wanted.duplicate_window
        || present.allow_message_ttl != wanted.allow_message_ttl
        || own(present, "chatto.server") != own(wanted, "chatto.server")
        || own(present, SETTINGS_KEY) != own(wanted, SETTINGS_KEY)
        || own(present, "chatto.layout") != own(wanted, "chatto.layout")
}

/// Compares `core.secret_key` with the store's, and rewraps the keys when the former one is known.
async fn check_secret(
    nats: &Nats,
    clock: &Clock,
    config: &Config,
    meta: &Meta,
) -> Result<(), OpenError> {
    let present = KeyEncryptionKey::derive(&config.secret_key);
    let id = present.id();
    let former = config.secret_key_previous.as_ref().map(KeyEncryptionKey::derive);
    if meta.kek_id.is_empty() {
        change_meta(nats, clock, |meta| meta.kek_id = id.0.to_vec().into()).await?;
        return Ok(());
    }
    let changed = meta.kek_id != id.0[..];
    let Some(former) = former else {
        return if changed { Err(OpenError::SecretChanged) } else { Ok(()) };
    };
    if changed && meta.kek_id != former.id().0[..] {
        return Err(OpenError::SecretChanged);
    }
    let keys = Keys::new((nats.clone(), clock.clone()), present);
    if changed {
        let count = keys.rewrap(&former, false).await?;
        change_meta(nats, clock, |meta| meta.kek_id = id.0.to_vec().into()).await?;
        log::info!(keys = count; "message keys are wrapped with the new core.secret_key");
    }
    keys.rewrap(&former, true).await?;
    Ok(())
}

async fn read_marker(config: &Config) -> Result<Option<Marker>, OpenError> {
    let Some(path) = config.initialised_marker.clone() else { return Ok(None) };
    let read = {
        let path = path.clone();
        blocking(move || limited_read(&path, 64 * 1024)).await
    };
    match read {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| OpenError::Marker { path, source: std::io::Error::other(error) }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Marker { path, source }),
    }
}

/// The server that `<data_dir>/initialised` names; `None`: there is no such file. Blocks.
pub(super) fn marked_server(path: &std::path::Path) -> std::io::Result<Option<String>> {
    match limited_read(path, 64 * 1024) {
        Ok(bytes) => Ok(Some(serde_json::from_slice::<Marker>(&bytes)?.server)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes `<data_dir>/initialised` for a store that was restored. Blocks.
pub fn write_initialised(path: &std::path::Path, server_id: &str) -> std::io::Result<()> {
    let marker = Marker { server: server_id.to_owned(), streams: stream_list() };
    write_durably(path, &serde_json::to_vec(&marker)?, 0o600)
}

async fn write_marker(
    config: &Config,
    meta: &Meta,
    present: Option<Marker>,
) -> Result<(), OpenError> {
    let Some(path) = config.initialised_marker.clone() else { return Ok(()) };
    if present.is_some_and(|marker| marker.streams == meta.streams) {
        return Ok(());
    }
    let marker = Marker { server: meta.server_id.clone(), streams: meta.streams.clone() };
    let bytes = serde_json::to_vec(&marker).unwrap_or_default();
    let write = {
        let path = path.clone();
        blocking(move || write_durably(&path, &bytes, 0o600)).await
    };
    write.map_err(|source| OpenError::Marker { path, source })
}
