//! Images that everybody may see, even without a log-in: avatars, and the server's logo and banner.
//!
//! Each is a file of no room, whose id is its key. A new image is a new file, so that its address may be cached for
//! ever; a file that no record names any more is removed.

use bytes::Bytes;
use futures_lite::stream;

use super::error::{StoreError, blob_kind, flatten};
use super::file_eraser::{EraseError, FileEraser};
use super::rights::ViewerRights;
use super::{Assets, ErrorKind, FileError, OpenFile, Session, Variant, Variants};
use crate::blobs::{BlobError, Blobs, FileCipher};
use crate::crypto::{random, sha256};
use crate::domain::permission::Permission;
use crate::domain::{
    AssetId, Chunk, File, FileGroup, FileLocation, FileState, ServerSettings, User, UserId,
};
use crate::limits::{
    AVATAR_SIDE_MAX, BANNER_HEIGHT_MAX, BANNER_WIDTH_MAX, FAVICON_SIDE, LOGO_SIDE_MAX,
    MANIFEST_ICON_SIDES, TOUCH_ICON_SIDE, UPLOAD_CHUNK_MAX_BYTES,
};
use crate::media::detect;
use crate::media::image::{self, ImageError, Images, Made, Order};
use crate::runtime::Clock;
use crate::storage::{RecordChange, Storage, StorageError};

/// An image of the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerImage {
    Logo,
    Banner,
}

/// An image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ServerImageError {
    #[error("the image must be a PNG, JPEG, GIF or WebP image")]
    NotAnImage,
    /// It is damaged, or decoding takes too much memory or time.
    #[error("the image cannot be decoded")]
    Undecodable,
    #[error("the image has too many pixels")]
    TooManyPixels,
    /// Too many bytes are left of it.
    #[error("the image has too many details; choose one without transparent parts")]
    TooDetailed,
    #[error("the account has ended")]
    NoAccount,
    /// The right to manage the server is missing.
    #[error("permission denied")]
    Denied,
    /// Storing it took so long that the sweep removed it.
    #[error("the image was not stored in time")]
    GivenUp,
    #[error("the image was not made")]
    Image(#[source] ImageError),
    #[error("cannot read or write the image's bytes")]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServerImageError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnImage | Self::Undecodable | Self::TooManyPixels | Self::TooDetailed => {
                ErrorKind::InvalidArgument
            }
            Self::NoAccount => ErrorKind::NotFound,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::GivenUp
            | Self::Image(ImageError::Busy | ImageError::Late | ImageError::Killed) => {
                ErrorKind::Unavailable
            }
            Self::Image(_) => ErrorKind::Internal,
            Self::Blob(error) => blob_kind(error),
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for ServerImageError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<EraseError> for ServerImageError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Blob(error) => Self::Blob(error),
            EraseError::Store(error) => Self::Store(error),
        }
    }
}

impl From<ImageError> for ServerImageError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Undecodable => Self::Undecodable,
            ImageError::TooLarge => Self::TooDetailed,
            error => Self::Image(error),
        }
    }
}

/// Images that everybody may see.
#[derive(Clone, Copy)]
pub struct ServerImages<'a> {
    pub(super) storage: &'a Storage,
    pub(super) blobs: &'a Blobs,
    pub(super) clock: &'a Clock,
    pub(super) images: &'a Images,
    pub(super) assets: Assets<'a>,
    pub(super) variants: Variants<'a>,
    pub(super) eraser: FileEraser<'a>,
}

impl ServerImage {
    /// What is made of the image that was sent.
    fn order(self) -> Order {
        let (width, height) = match self {
            Self::Logo => (LOGO_SIDE_MAX, LOGO_SIDE_MAX),
            Self::Banner => (BANNER_WIDTH_MAX, BANNER_HEIGHT_MAX),
        };
        Order { width, height, cover: false, still: true }
    }

    /// Its key in the settings of the server.
    fn key(self, settings: &mut ServerSettings) -> &mut Option<String> {
        match self {
            Self::Logo => &mut settings.logo_key,
            Self::Banner => &mut settings.banner_key,
        }
    }
}

impl ServerImages<'_> {
    /// Makes a square of the image, the viewer's new avatar.
    ///
    /// # Cancel safety
    /// Dropping it may leave a file, which the sweep removes.
    pub async fn set_avatar(self, session: &Session, image: Bytes) -> Result<(), ServerImageError> {
        let side = AVATAR_SIDE_MAX;
        let order = Order { width: side, height: side, cover: true, still: true };
        let key = Box::pin(self.store(session.user, image, &order)).await?;
        self.change_avatar(session.user, Some(key)).await
    }

    /// Removes the viewer's avatar, if there is one.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn delete_avatar(self, session: &Session) -> Result<(), ServerImageError> {
        self.change_avatar(session.user, None).await
    }

    /// Makes the server's logo or banner of an image.
    ///
    /// # Errors
    /// [`ServerImageError::Denied`] without `server.manage`.
    ///
    /// # Cancel safety
    /// As with [`Self::set_avatar`].
    pub async fn set(
        self,
        session: &Session,
        which: ServerImage,
        image: Bytes,
    ) -> Result<(), ServerImageError> {
        self.check_manager(session)?;
        let key = Box::pin(self.store(session.user, image, &which.order())).await?;
        self.change(session, which, Some(key)).await
    }

    /// Removes the server's logo or banner, if there is one.
    ///
    /// # Errors
    /// [`ServerImageError::Denied`] without `server.manage`.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn delete(
        self,
        session: &Session,
        which: ServerImage,
    ) -> Result<(), ServerImageError> {
        self.change(session, which, None).await
    }

    /// The server's logo as an icon. Strangers may ask for it, so it has a few sizes, each of which is decoded once;
    /// without a cache it is the logo itself.
    ///
    /// # Errors
    /// [`FileError::NotFound`] for another image, and for a variant that is none of the icons.
    pub async fn icon(self, key: &str, variant: Variant) -> Result<OpenFile, FileError> {
        let Variant { width: side, height, cover } = variant;
        let has_side =
            [FAVICON_SIDE, TOUCH_ICON_SIDE].contains(&side) || MANIFEST_ICON_SIDES.contains(&side);
        let is_icon = cover && side == height && has_side;
        let is_logo =
            self.storage.state().read(|tables| tables.server.logo_key.as_deref() == Some(key));
        if !is_icon || !is_logo {
            return Err(FileError::NotFound);
        }
        let logo = self.assets.open_public(key).await?;
        if !self.blobs.variants.is_enabled() {
            return Ok(logo.shown_as(None));
        }
        Box::pin(self.variants.show(logo, variant)).await
    }

    fn check_manager(self, session: &Session) -> Result<(), ServerImageError> {
        self.storage.state().read(|tables| {
            let rights = ViewerRights::of(tables, session.user);
            let may = rights.can_at_server(Permission::ServerManage);
            if may { Ok(()) } else { Err(ServerImageError::Denied) }
        })
    }

    async fn change_avatar(
        self,
        user: UserId,
        key: Option<AssetId>,
    ) -> Result<(), ServerImageError> {
        let avatar_key = key.map(|key| key.to_string());
        let mut former = None;
        let change = |user: Option<&User>| {
            let user = user.filter(|user| !user.deleted).ok_or(ServerImageError::NoAccount)?;
            former.clone_from(&user.avatar_key);
            Ok(match user.avatar_key == avatar_key {
                true => RecordChange::Keep,
                false => RecordChange::Put(User { avatar_key: avatar_key.clone(), ..user.clone() }),
            })
        };
        let changed = self.storage.state().change(&user, change).await;
        changed.map_err(flatten::<ServerImageError>)?;
        self.erase_former(former).await;
        Ok(())
    }

    async fn change(
        self,
        session: &Session,
        which: ServerImage,
        key: Option<AssetId>,
    ) -> Result<(), ServerImageError> {
        let key = key.map(|key| key.to_string());
        let mut former = None;
        let change = |settings: Option<&ServerSettings>| {
            // The right may have been taken away meanwhile.
            self.check_manager(session)?;
            let mut settings = settings.cloned().unwrap_or_default();
            former = std::mem::replace(which.key(&mut settings), key.clone());
            Ok(if former == key { RecordChange::Keep } else { RecordChange::Put(settings) })
        };
        let changed = self.storage.state().change(&(), change).await;
        changed.map_err(flatten::<ServerImageError>)?;
        self.erase_former(former).await;
        Ok(())
    }

    /// Removes an image that no record names any more; if that fails, the sweep does it.
    async fn erase_former(self, key: Option<String>) {
        let Some(former) = key.and_then(|key| AssetId::try_from(key.as_str()).ok()) else { return };
        if let Err(error) = self.eraser.erase(&former, |state| *state == FileState::Ready).await {
            log::warn!(error:err = error; "a former image is not removed yet");
        }
    }

    /// Stores what the order makes of the image as a file of no room.
    async fn store(
        self,
        uploader: UserId,
        image: Bytes,
        order: &Order,
    ) -> Result<AssetId, ServerImageError> {
        let (content_type, bytes) = Box::pin(self.make(image, order)).await?;
        let detected = detect(&bytes);
        let id = AssetId::new(FileGroup::SERVER, u64::from_be_bytes(random()));
        let mut file = File {
            id,
            room: None,
            uploader,
            name: "image".to_owned(),
            content_type: content_type.to_owned(),
            size: bytes.len() as u64,
            sha256: sha256(&bytes),
            width: detected.width,
            height: detected.height,
            created_ms: self.clock.unix_ms(),
            state: FileState::Pending,
            location: self.blobs.location()?,
            // Everybody may see it.
            encrypted: false,
        };
        // The record comes first: what a crash leaves behind has a record.
        let key = self.storage.files().create(&file).await?;
        let cipher = FileCipher::of(&file, key);
        match &mut file.location {
            FileLocation::Nats(chunks) => {
                *chunks = Box::pin(self.put_chunks(&cipher, &bytes)).await?;
            }
            FileLocation::S3 => {
                let put = Box::pin(self.blobs.s3()?.put(id.as_str(), bytes)).await;
                put.map_err(BlobError::from)?;
            }
        }
        let finish = |pending: &File| File { location: file.location.clone(), ..pending.clone() };
        let finished = self.storage.files().finish(&id, finish).await?;
        if finished.is_none_or(|finished| finished.state != FileState::Ready) {
            // The sweep gave the file up: what was stored since then has no record.
            self.eraser.erase_content(&file).await?;
            return Err(ServerImageError::GivenUp);
        }
        Ok(id)
    }

    /// What the order makes of the image, and its type.
    async fn make(
        self,
        image: Bytes,
        order: &Order,
    ) -> Result<(&'static str, Bytes), ServerImageError> {
        let sent = detect(&image);
        if !image::is_resizable(sent.content_type) {
            return Err(ServerImageError::NotAnImage);
        }
        if !self.images.takes(sent.width, sent.height) {
            return Err(ServerImageError::TooManyPixels);
        }
        let slot = self.images.slot().await?;
        let file = Box::pin(stream::once(Ok(image)));
        match self.images.make(&slot, order, file).await? {
            Made::Image { content_type, bytes } => Ok((content_type, bytes)),
            // A still one was ordered.
            Made::Animated => Err(ServerImageError::Undecodable),
        }
    }

    async fn put_chunks(
        self,
        cipher: &FileCipher,
        bytes: &[u8],
    ) -> Result<Vec<Chunk>, ServerImageError> {
        let (mut chunks, mut begin) = (Vec::new(), 0_u64);
        for plain in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
            let chunk = self.blobs.files.put(cipher, begin, plain).await?;
            begin = begin.saturating_add(chunk.length.into());
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}
