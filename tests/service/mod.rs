//! The use cases against a real nats-server.

mod announce;
mod bucket;
mod clock;
mod crashes;
mod encryption;
mod file_sweep;
mod file_work;
pub(crate) mod files;
mod guesses;
mod images;
mod leftovers;
mod links;
mod log_in;
mod markers;
pub(crate) mod messages;
mod model;
mod operator;
mod removal;
mod restarts;
mod restored;
mod room_files;
mod rooms;
mod sessions;
mod standstill;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chatto::crypto::password::Params;
use chatto::crypto::{DataKey, Secret};
use chatto::domain::AssetId;
use chatto::runtime::{Clock, Runtime};
use chatto::service::{
    CallKind, Config, Credential, LogIn, LoggedIn, NewUser, RedeemRequest, Service, Session,
};
use chatto::storage::Storage;

use super::storage::{config, connect};
use super::support::nats::NatsServer;

pub(crate) use super::storage::{CutAt, pause_at, run};

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server with its store and a clock of its own.
pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) storage: Storage,
    pub(crate) clock: Clock,
}

pub(crate) fn settings() -> Config {
    Config {
        secret_key: Secret::from("a secret of the tests, long enough".to_owned()),
        cookie_signing_secret: Secret::from("another secret of the tests".to_owned()),
        blobs: crate::support::blobs(),
        upload_streams: 1,
        images: crate::support::images(),
        asset_signing_secret: Secret::from("a third secret of the tests".to_owned()),
        cookie_encryption_secret: None,
        session_ttl: Duration::from_secs(90 * 24 * 3600),
        direct_login: true,
        invite_only: false,
        owner_emails: vec!["Boss@example.com".to_owned()],
        max_users: None,
        max_upload_bytes: 25 << 20,
        password_params: Params::cheapest(),
        password_slots: 1,
    }
}

impl World {
    /// A new process on the store of `server`.
    pub(crate) async fn open(server: &NatsServer, runtime: &Runtime, settings: Config) -> Self {
        let clock = Clock::default();
        let nats = connect(&server.url()).await;
        let storage = Storage::open(nats, config(None), runtime, clock.clone()).await.unwrap();
        let service = Service::build(settings, storage.clone(), clock.clone());
        Self { service, storage, clock }
    }

    /// A further process with settings of its own.
    pub(crate) async fn open_with(
        server: &NatsServer,
        runtime: &Runtime,
        settings: Config,
    ) -> Self {
        let clock = Clock::default();
        let nats = connect(&server.url()).await;
        let shared = chatto::storage::Config { embedded: false, ..config(None) };
        let storage = Storage::open(nats, shared, runtime, clock.clone()).await.unwrap();
        let service = Service::build(settings, storage.clone(), clock.clone());
        Self { service, storage, clock }
    }

    /// One of several processes on an external server: every call waits until it has seen what was
    /// acknowledged before.
    pub(crate) async fn open_shared(server: &NatsServer, runtime: &Runtime) -> Self {
        let world = Self::open_with(server, runtime, settings()).await;
        world.service.prepare().await.unwrap();
        world
    }

    /// The same with the defaults written.
    pub(crate) async fn start(server: &NatsServer, runtime: &Runtime) -> Self {
        let world = Self::open(server, runtime, settings()).await;
        world.service.prepare().await.unwrap();
        world
    }

    /// A new account and its session.
    pub(crate) async fn person(&self, login: &str, role: Option<&str>) -> Session {
        let new = NewUser { login, display_name: None, email: None, role, password: PASSWORD };
        self.service.accounts().create(new).await.unwrap();
        self.session(login).await
    }

    /// A new log-in.
    pub(crate) async fn session(&self, login: &str) -> Session {
        let handed = self.log_in(login, PASSWORD).await.unwrap();
        self.bearer(&handed).await
    }

    pub(crate) async fn log_in(
        &self,
        identifier: &str,
        password: &str,
    ) -> Result<LoggedIn, chatto::service::LogInError> {
        self.service.sessions().log_in(LogIn { identifier, password, address: HERE }).await
    }

    pub(crate) async fn bearer(&self, handed: &LoggedIn) -> Session {
        self.service
            .sessions()
            .authenticate(Credential::Bearer(&handed.token), CallKind::Read)
            .await
            .unwrap()
    }

    /// The id of a room by its name, as this viewer sees it.
    pub(crate) async fn room(&self, session: &Session, name: &str) -> String {
        let rooms =
            self.service.directory().list_rooms(session, chatto::service::RoomScope::All).await;
        let found = rooms.unwrap().into_iter().find(|room| room.room.name == name);
        found.unwrap().room.id.to_string()
    }

    /// The key of a file that has a record.
    pub(crate) async fn file_key(&self, id: &AssetId) -> Option<DataKey> {
        let file = self.storage.files().get(id).await.unwrap().unwrap();
        self.storage.files().key(&file).await.unwrap()
    }

    pub(crate) async fn close(self) {
        self.storage.close().await;
    }
}

/// What the page of a link sends.
pub(crate) fn redeem<'a>(path: &'a str, login: &'a str) -> RedeemRequest<'a> {
    RedeemRequest {
        token: path.strip_prefix("/setup#").unwrap(),
        login,
        display_name: "",
        password: PASSWORD,
        email: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}
