//! The use cases: one handle and one file per group, permission first, then effects.
//!
//! A caller holds a [`Session`], which only [`Sessions`] creates, and gets the service's own view types back.
//! This module knows neither HTTP nor the messages of the contract; every error has an [`ErrorKind`], which
//! the edge turns into a code.

mod accounts;
mod assets;
mod attachments;
mod barrier;
mod coalesce;
mod cookies;
mod create_account;
mod cursors;
mod deletions;
mod directory;
mod error;
mod file_eraser;
mod file_steps;
mod file_sweep;
mod file_work;
mod first_boot;
mod handles;
mod links;
mod markers;
mod members;
mod messages;
mod opened_rows;
mod owner_notices;
mod passwords;
mod presence;
mod rights;
mod roles;
mod room_files;
mod rooms;
mod server;
mod server_images;
mod sessions;
mod sign_up;
mod sweep;
#[cfg(feature = "test-support")]
mod test_support;
mod throttle;
mod timeline;
mod typing;
mod upload_checks;
mod upload_stream;
mod uploads;
mod users;
mod variants;
mod view;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use accounts::{Accounts, ManageAccountError, NewUser};
pub use assets::{AssetUrl, Assets, FileError, FileReader, OpenFile, Tickets, Variant};
pub use barrier::{CallKind, ReadBarrier};
pub use coalesce::PendingUpdates;
pub use create_account::AccountError;
pub use cursors::{ResumeCursors, RightsFingerprint};
pub use deletions::{DeleteError, Deletions};
pub use directory::{Directory, ShownRoom};
pub use error::{AuthenticateError, ErrorKind, ReadError, RoomError, StoreError};
pub use file_work::{
    Backend, FileWork, FileWorkError, FileWorks, Finding, FindingKind, WorkPosition, WorkStep,
};
pub use links::{JoinFields, LinkError, Links};
pub use markers::Markers;
pub use members::Members;
pub use messages::{Messages, NewMessage, PostError};
pub use owner_notices::{BackupOverview, OverviewError, OwnerNotice, OwnerNotices};
pub use passwords::PasswordHashError;
pub use presence::Presences;
pub use roles::Roles;
pub use room_files::RoomFiles;
pub use rooms::{NewRoom, Rooms};
pub use server::Server;
pub use server_images::{ServerImage, ServerImageError, ServerImages};
pub use sessions::{Credential, LogIn, LogInError, Session, SessionId, SessionState, Sessions};
pub use sign_up::{RedeemError, RedeemRequest, SignUp};
pub use sweep::Sweeper;
#[cfg(feature = "test-support")]
pub use test_support::{BootstrapError, BootstrapServer, ProviderUser, TestSupport};
pub use timeline::{ShownRow, Timeline};
pub use typing::Typing;
pub use upload_stream::{StreamedFile, UploadStream};
pub use uploads::{NewChunk, NewUpload, UploadError, UploadView, Uploads};
pub use users::Users;
pub use variants::Variants;
pub use view::{
    AccountView, BucketView, CustomStatusView, DirectoryMember, FileView, Grants, GroupView,
    LinkContent, LinkView, LoggedIn, MarkedRead, MessageView, OpenLink, Page, PagePosition,
    PageRequest, RoleView, RoomFileView, RoomKind, RoomScope, RoomView, RoomViewerState,
    RoomWithState, RowView, RowViewKind, RuntimeView, ServerView, TimelinePage, TimelineWindow,
    UserView, ViewerView,
};

use parking_lot::Mutex;

pub use crate::blobs::{BlobError, BlobReader};
pub use crate::domain::{Presence, UploadStatus};

use crate::blobs::s3::Bucket;
use crate::blobs::{self, Blobs};
use crate::crypto::password::Params;
use crate::crypto::{DataKey, MacKey, Secret};
use crate::domain::{EventId, File, FileLocation, RoomId};
use crate::limits::{
    DELIVERY_TIMEOUT, OPERATOR_CONNECTIONS_MAX, PASSWORD_QUEUE_MAX, S3_PARTS_WAITING_MAX,
    STAGED_PARTS_MAX,
};
use crate::media::image::{self, Images};
use crate::runtime::{Clock, MemorySlots, Pace, Stop};
use crate::storage::{Storage, Tables};

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
    /// `core.assets.storage_backend`, `core.assets.encrypt` and `core.assets.s3.*`.
    pub blobs: blobs::Config,
    /// Files that may be streamed in at a time, [`UPLOAD_STREAMS_MAX`](crate::limits::UPLOAD_STREAMS_MAX) or fewer.
    pub upload_streams: usize,
    /// How images are resized.
    pub images: image::Config,
    /// `core.assets.signing_secret`.
    pub asset_signing_secret: Secret,
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
    blobs: Blobs,
    /// Parts of uploads to S3 that are in memory: one for each file that is streamed in, and one for everything else.
    part_slots: MemorySlots,
    /// Uploads in chunks that send a part.
    staged_slots: MemorySlots,
    images: Images,
    clock: Clock,
    config: Config,
    keys: Keys,
    password_slots: MemorySlots,
    /// How fast passwords of log-ins are compared.
    attempts: Mutex<Pace>,
    presences: presence::KnownPresences,
    pending_presences: coalesce::Coalescer<Vec<presence::Update>>,
    pending_typing: coalesce::Coalescer<(RoomId, Option<EventId>)>,
    opened_rows: opened_rows::OpenedRows,
    /// Steps of work on all files: one at a time.
    file_step_slots: MemorySlots,
    between_file_steps: Mutex<file_steps::BetweenSteps>,
    /// See [`file_sweep::FileSweep`].
    recent_files_swept: AtomicU64,
    /// Claims that the sweep watches.
    orphans: Mutex<sweep::Orphans>,
}

/// Keys for what the service signs and looks up by hash.
struct Keys {
    tokens: MacKey,
    counters: MacKey,
    cursors: MacKey,
    assets: MacKey,
    resume: DataKey,
    cookies: cookies::CookieKeys,
}

impl Service {
    /// The service over an open store. It starts nothing: [`Self::prepare`] writes the defaults of a
    /// new server, [`Sweeper::run`] tidies up.
    #[must_use]
    pub fn build(config: Config, storage: Storage, clock: Clock) -> Self {
        let keys = Keys {
            tokens: MacKey::derive(&config.secret_key, "chatto tokens v1"),
            counters: MacKey::derive(&config.secret_key, "chatto login counters v1"),
            cursors: MacKey::derive(&config.secret_key, "chatto cursors v1"),
            assets: MacKey::derive(&config.asset_signing_secret, "chatto asset URLs v1"),
            resume: DataKey::derive(&config.secret_key, "chatto resume v1"),
            cookies: cookies::CookieKeys::derive(
                &config.cookie_signing_secret,
                config.cookie_encryption_secret.as_ref(),
            ),
        };
        let password_slots = MemorySlots::new(config.password_slots.max(1), PASSWORD_QUEUE_MAX);
        Self {
            inner: Arc::new(Inner {
                blobs: Blobs::build(config.blobs.clone(), storage.nats(), &clock),
                staged_slots: MemorySlots::new(STAGED_PARTS_MAX, S3_PARTS_WAITING_MAX),
                part_slots: MemorySlots::new(
                    config.upload_streams.saturating_add(1),
                    S3_PARTS_WAITING_MAX,
                ),
                images: Images::build(config.images.clone(), &clock),
                storage,
                clock,
                config,
                keys,
                password_slots,
                attempts: Mutex::new(throttle::pace()),
                presences: presence::KnownPresences::default(),
                pending_presences: coalesce::Coalescer::default(),
                pending_typing: coalesce::Coalescer::default(),
                opened_rows: opened_rows::OpenedRows::default(),
                file_step_slots: MemorySlots::new(1, OPERATOR_CONNECTIONS_MAX),
                between_file_steps: Mutex::default(),
                recent_files_swept: AtomicU64::new(0),
                orphans: Mutex::default(),
            }),
        }
    }

    /// Writes the defaults of a new server and makes the users of `owners.emails` owners. Called at
    /// every start, before the first request.
    ///
    /// # Cancel safety
    /// Dropping it leaves some steps done; the next call does the rest.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        self.first_boot().prepare().await
    }

    /// Checks the bucket of files until it can be used, see [`Blobs::prepare`], and again whenever requests have failed.
    /// Without one it warns if files are in one.
    pub async fn watch_files(&self, stop: &Stop) {
        if self.inner.blobs.s3().is_err() {
            if let Some(Err(error)) = stop.or(self.warn_of_unreadable_files()).await {
                log::debug!(error:err = error; "files in S3 were not counted");
            }
            return;
        }
        let blobs = &self.inner.blobs;
        while let Some(found) = blobs.prepare(stop).await {
            if found == Bucket::Created
                && let Some(Err(error)) = stop.or(self.warn_of_an_empty_bucket()).await
            {
                log::debug!(error:err = error; "files in S3 were not counted");
            }
            if blobs.wait_until_unusable(stop).await.is_none() {
                return;
            }
        }
    }

    async fn warn_of_unreadable_files(&self) -> Result<(), StoreError> {
        let count = self.count_files_in_s3().await?;
        if count > 0 {
            log::warn!(files = count; "files are in S3, but core.assets.s3 names no bucket that can be used, so nobody can read them; put its settings back");
        }
        Ok(())
    }

    async fn warn_of_an_empty_bucket(&self) -> Result<(), StoreError> {
        let count = self.count_files_in_s3().await?;
        if count > 0 {
            log::warn!(files = count; "the S3 bucket is new and empty, but files should be in it, so nobody can read them; check core.assets.s3.bucket and endpoint");
        }
        Ok(())
    }

    async fn count_files_in_s3(&self) -> Result<u64, StoreError> {
        let mut count = 0_u64;
        let is_lost = |file: &File| file.location == FileLocation::S3 && file.state.is_complete();
        let each =
            |file: Result<File, _>| count += u64::from(file.is_ok_and(|file| is_lost(&file)));
        self.storage().files().each_file(each).await?;
        Ok(count)
    }

    /// Stores what this process keeps in memory for some seconds, so that a backup contains it.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn prepare_backup(&self) -> Result<(), StoreError> {
        Ok(self.storage().markers().flush().await?)
    }

    /// The bucket of files, if the settings name one.
    #[must_use]
    pub fn bucket(&self) -> Option<BucketView> {
        let s3 = self.inner.blobs.s3().ok()?;
        Some(BucketView { name: s3.bucket().to_owned(), origin: s3.origin(), health: s3.health() })
    }

    /// The highest STATE revision that what this process shows may contain.
    #[must_use]
    pub fn state_seen(&self) -> u64 {
        self.storage().state().read(Tables::highest)
    }

    /// Waits until everything this process has written so far was delivered to its sockets, for
    /// [`DELIVERY_TIMEOUT`] at most: a feed that is behind does not hold up responses.
    pub async fn wait_until_delivered(&self) {
        if let Err(error) = self.storage().feed().wait_until_delivered(DELIVERY_TIMEOUT).await {
            log::debug!(error:err = error; "a response is sent before its live event");
        }
    }

    fn storage(&self) -> &Storage {
        &self.inner.storage
    }
}

/// Milliseconds of a duration, for times that are stored.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
