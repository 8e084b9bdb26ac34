//! The embedded server with real nats-servers: starts, ends, deaths, locks and full disks.

mod build;
mod disk;
mod embedded;
mod helper;
mod lock;
mod orphan;
mod store;

use std::path::Path;

use chatto::nats::{Nats, Publish, PublishError};
use chatto::runtime::{Clock, Runtime, Scope};
use chatto::supervisor::{Config, DataDir, Embedded, LockError, Role, StartError, SyncInterval};

use crate::support::nats::stream_info;

/// Settings for a test: nothing special.
fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        binary: None,
        bind_address: "127.0.0.1".parse().unwrap(),
        port: 0,
        http_port: 0,
        auth_token: None,
        sync: SyncInterval::Always,
        max_file_store: None,
        min_free_disk: 1024 * 1024,
        memory_limit: None,
    }
}

/// Locks as a server and starts.
async fn start(config: Config, scope: &Scope) -> Result<Embedded, StartError> {
    let data_dir = lock(&config.data_dir, Role::Server).await.unwrap();
    Embedded::start(config, data_dir, Clock::system(), scope).await
}

async fn lock(path: &Path, role: Role) -> Result<DataDir, LockError> {
    DataDir::lock(path, role, &Clock::system(), |_| {}).await
}

/// Runs a test with a runtime and a scope of its own.
fn with_scope<F: Future<Output = ()>>(test: impl FnOnce(Scope) -> F) {
    Runtime::run(2, |runtime| test(Scope::new(&runtime, "test", 8)));
}

async fn connect(embedded: &Embedded) -> Nats {
    Nats::connect(&embedded.target(), Clock::system()).await.unwrap()
}

/// A stream `T` that takes `t.*`.
async fn create_stream(nats: &Nats) {
    let config = async_nats::jetstream::stream::Config {
        name: "T".into(),
        subjects: vec!["t.*".into()],
        ..Default::default()
    };
    nats.create_stream(&config).await.unwrap();
}

/// Stores one message of `bytes`; answers its sequence.
async fn post(nats: &Nats, bytes: usize) -> Result<u64, PublishError> {
    let message = Publish {
        subject: "t.a",
        payload: vec![b'x'; bytes].into(),
        message_id: None,
        expected_last: None,
        ttl: None,
        tombstone: false,
    };
    Ok(nats.publish(message).await?.sequence)
}

/// How many messages the stream holds.
async fn stored(nats: &Nats) -> u64 {
    stream_info(nats, "T").await.map_or(0, |info| info.state.messages)
}
