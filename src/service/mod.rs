//! What may happen: one file per group of use cases, permission first, then effects.
//!
//! A caller holds a [`Session`], which only [`Service::authenticate`] and a log-in make, and gets
//! views of the service's own back. It knows no HTTP and no message of the contract; every error has
//! a [`ErrorKind`], which the edge turns into a code.

mod accounts;
mod barrier;
mod cookies;
mod create_account;
mod cursor;
mod directory;
mod error;
mod first_boot;
mod kind;
mod link_error;
mod link_throttle;
mod links;
mod live;
mod markers;
mod members;
mod messages;
mod open_links;
mod passwords;
mod presence;
mod resume;
mod rights;
mod roles;
mod rooms;
mod server;
mod sessions;
mod signs;
mod sweep;
#[cfg(feature = "test-support")]
mod test_support;
mod throttle;
mod timeline;
mod users;
mod view;
mod viewer;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use accounts::{ManageAccountError, NewUser};
pub use barrier::CallKind;
pub use create_account::AccountError;
pub use error::{AuthenticateError, ReadError, RoomError, StoreError};
pub use kind::ErrorKind;
pub use link_error::{LinkError, RedeemError};
pub use links::{JoinFields, RedeemRequest};
pub use live::{SessionState, ShownRoom, ShownRow};
pub use messages::{NewMessage, PostError};
pub use passwords::PasswordHashError;
pub use presence::Presence;
pub use resume::RightsFingerprint;
pub use rooms::NewRoom;
pub use sessions::{Credential, LogIn, LogInError, Session, SessionId};
#[cfg(feature = "test-support")]
pub use test_support::{BootstrapError, BootstrapServer, ProviderUser};
pub use view::{
    AccountView, CustomStatusView, DirectoryMember, Grants, GroupView, LinkContent, LinkView,
    LoggedIn, MarkedRead, MessageView, OpenLink, Page, PagePosition, PageRequest, RoleView,
    RoomKind, RoomScope, RoomView, RoomViewerState, RoomWithState, RowKind, RowView, RuntimeView,
    ServerView, TimelinePage, TimelineWindow, UserView, ViewerView,
};

use crate::crypto::password::Params;
use crate::crypto::{DataKey, MacKey, Secret};
use crate::domain::{EventId, RoomId};
use crate::limits::PASSWORD_QUEUE_MAX;
use crate::runtime::{Clock, MemorySlots, Pace};
use crate::storage::Storage;

/// How the chat behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// `core.secret_key`: keys the hashes of tokens.
    pub secret_key: Secret,
    /// `webserver.cookie_signing_secret`.
    pub cookie_signing_secret: Secret,
    /// `webserver.cookie_encryption_secret`.
    pub cookie_encryption_secret: Option<Secret>,
    /// `auth.token_ttl`: life of a session after its last use.
    pub session_ttl: Duration,
    /// `auth.direct_login`.
    pub direct_login: bool,
    /// `auth.account_creation_policy` is `invite_only`.
    pub invite_only: bool,
    /// `owners.emails`: whoever verifies one of these addresses is owner.
    pub owner_emails: Vec<String>,
    /// `limits.max_users`; `None`: no limit.
    pub max_users: Option<u32>,
    /// `core.assets.max_upload_size`.
    pub max_upload_bytes: u64,
    /// Cost of new password hashes.
    pub password_params: Params,
    /// Password hashes computed at a time: one, two above 2 GB of memory.
    pub password_slots: usize,
}

/// The use cases. Clones share one state.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Storage,
    clock: Clock,
    config: Config,
    keys: Keys,
    slots: MemorySlots,
    /// How fast passwords of log-ins are compared.
    attempts: Mutex<Pace>,
    presences: presence::Presences,
    presence_signs: signs::Signs<Vec<presence::Update>>,
    typing_signs: signs::Signs<(RoomId, Option<EventId>)>,
    /// Claims that the sweep watches.
    orphans: Mutex<sweep::Orphans>,
}

/// Keys for what the service signs and looks up by hash.
struct Keys {
    tokens: MacKey,
    counters: MacKey,
    cursors: MacKey,
    resume: DataKey,
    cookies: cookies::CookieKeys,
}

impl Service {
    /// The service over an open store. It starts nothing: [`Self::prepare`] writes the defaults of a
    /// new server, [`Self::sweep`] is called now and then.
    #[must_use]
    pub fn build(config: Config, storage: Storage, clock: Clock) -> Self {
        let keys = Keys {
            tokens: MacKey::derive(&config.secret_key, "chatto tokens v1"),
            counters: MacKey::derive(&config.secret_key, "chatto login counters v1"),
            cursors: MacKey::derive(&config.secret_key, "chatto cursors v1"),
            resume: DataKey::derive(&config.secret_key, "chatto resume v1"),
            cookies: cookies::CookieKeys::derive(
                &config.cookie_signing_secret,
                config.cookie_encryption_secret.as_ref(),
            ),
        };
        let slots = MemorySlots::new(config.password_slots.max(1), PASSWORD_QUEUE_MAX);
        Self {
            inner: Arc::new(Inner {
                storage,
                clock,
                config,
                keys,
                slots,
                attempts: Mutex::new(throttle::pace()),
                presences: presence::Presences::default(),
                presence_signs: signs::Signs::default(),
                typing_signs: signs::Signs::default(),
                orphans: Mutex::default(),
            }),
        }
    }

    fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    fn now_ms(&self) -> i64 {
        self.inner.clock.unix_ms()
    }
}

/// Milliseconds of a duration, for times that are stored.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
