//! A server's store, opened in this process by the product's own parts while no server runs on it.

use std::path::Path;
use std::time::Duration;

use chatto::config::{Inputs, Purpose, Settings, load};
use chatto::crypto::Secret;
use chatto::crypto::password::Params;
use chatto::nats::Nats;
use chatto::runtime::{Clock, Runtime, Scope};
use chatto::service::{self, Service};
use chatto::storage::{self, Storage};
use chatto::supervisor::{self, DataDir, Embedded, Role, SyncInterval};

/// nats-server may take this long to recover a full store.
const PATIENCE: Duration = Duration::from_secs(120);

/// An open store and what works on it.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) storage: Storage,
    pub(crate) service: Service,
    pub(crate) runtime: Runtime,
}

/// Opens the store of a data directory that a server has made, runs `work`, closes it again.
pub(crate) fn with<T, F: Future<Output = T>>(data: &Path, work: impl FnOnce(Store) -> F) -> T {
    let data = std::path::absolute(data).unwrap();
    let inputs = Inputs {
        file: None,
        variables: vec![("CHATTO_NATS_EMBEDDED_DATA_DIR".into(), data.clone().into())],
        working_dir: data.clone(),
        system_file: data.join("none"),
    };
    let settings = load(&inputs, Purpose::Local).expect("the settings").settings;
    Runtime::run(2, |runtime| async move {
        let clock = Clock::system();
        let role = Role::Offline { command: "bench".to_owned() };
        let locked = Box::pin(DataDir::lock(&data, role, &clock, |_| {})).await.unwrap();
        let scope = Scope::new(&runtime, "nats-server", 8);
        let config = server_config(&settings);
        let embedded = Embedded::start(config, locked, clock.clone(), &scope).await.unwrap();
        let nats = Nats::connect(&embedded.target(), clock.clone()).await.unwrap();
        nats.wait_connected(PATIENCE).await.unwrap();
        let secret = settings.core.secret_key.clone().expect("a secret of the first start");
        let config = storage::Config {
            replicas: 1,
            embedded: true,
            secret_key: secret.clone(),
            secret_key_previous: None,
            initialised_marker: Some(data.join("initialised")),
            create: false,
        };
        let opening = Storage::open(nats.clone(), config, &runtime, clock.clone());
        let storage = Box::pin(opening).await.unwrap();
        let service = Service::build(service_config(secret), storage.clone(), clock);
        let store = Store { storage: storage.clone(), service, runtime };
        let done = Box::pin(work(store)).await;
        Box::pin(storage.close()).await;
        nats.expect_disconnect();
        embedded.stop().await;
        done
    })
}

/// Syncs rarely: after a power cut while it is filled, a store is filled again from the beginning.
fn server_config(settings: &Settings) -> supervisor::Config {
    supervisor::Config {
        data_dir: settings.data_dir.clone(),
        binary: None,
        bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
        port: 0,
        http_port: 0,
        auth_token: None,
        sync: SyncInterval::Every(Duration::from_secs(10)),
        max_file_store: None,
        min_free_disk: 0,
        memory_limit: None,
    }
}

fn service_config(secret: Secret) -> service::Config {
    service::Config {
        cookie_signing_secret: secret.clone(),
        blobs: chatto::blobs::Config::default(),
        upload_streams: 1,
        images: chatto::media::image::Config {
            program: "/proc/self/exe".into(),
            slots: 1,
            limits: chatto::media::image::DecoderLimits {
                memory_max_bytes: 48 << 20,
                pixels_max: chatto::limits::IMAGE_PIXELS_MAX,
            },
        },
        asset_signing_secret: secret.clone(),
        secret_key: secret,
        cookie_encryption_secret: None,
        session_ttl: Duration::from_secs(90 * 24 * 3600),
        direct_login: true,
        invite_only: false,
        owner_emails: Vec::new(),
        max_users: None,
        max_upload_bytes: 1024 * 1024,
        // Everybody knows these passwords: they need no strong hash.
        password_params: Params::for_memory(0),
        password_slots: 2,
    }
}
