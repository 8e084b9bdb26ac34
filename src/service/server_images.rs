//! Images that everybody may see, even without a log-in: avatars.
//!
//! Each is a file of no room, whose id is its key. A new image is a new file, so that its address may be cached for
//! ever; a file that no record names any more is removed.

use bytes::Bytes;
use futures_lite::stream;

use super::error::{StoreError, blob_kind, flatten};
use super::file_eraser::{EraseError, FileEraser};
use super::{ErrorKind, Session};
use crate::blobs::{BlobError, Blobs, FileCipher};
use crate::crypto::{random, sha256};
use crate::domain::{AssetId, File, FileGroup, FileLocation, FileState, User, UserId};
use crate::limits::AVATAR_SIDE_MAX;
use crate::media::detect;
use crate::media::image::{self, ImageError, Images, Made, Order};
use crate::runtime::Clock;
use crate::storage::{RecordChange, Storage, StorageError};

/// An image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ServerImageError {
    #[error("the image must be a PNG, JPEG, GIF or WebP image")]
    NotAnImage,
    /// It is damaged, or decoding takes too much memory or time.
    #[error("the image cannot be decoded")]
    Undecodable,
    #[error("the account has ended")]
    NoAccount,
    /// Storing it took so long that the sweep removed it.
    #[error("the image was not stored in time")]
    GivenUp,
    #[error("the image was not made")]
    Image(#[source] ImageError),
    #[error("the bytes of an image failed")]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServerImageError {
    /// What kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnImage | Self::Undecodable => ErrorKind::InvalidArgument,
            Self::NoAccount => ErrorKind::NotFound,
            Self::GivenUp | Self::Image(ImageError::Busy | ImageError::Late) => {
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
    pub(super) eraser: FileEraser<'a>,
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
        let Some(former) = former.and_then(|key| AssetId::try_from(key.as_str()).ok()) else {
            return Ok(());
        };
        if let Err(error) = self.eraser.erase(&former, |state| *state == FileState::Ready).await {
            log::warn!(error:err = error; "a former image is not removed yet");
        }
        Ok(())
    }

    /// Stores what the order makes of the image as a file of no room.
    async fn store(
        self,
        uploader: UserId,
        image: Bytes,
        order: &Order,
    ) -> Result<AssetId, ServerImageError> {
        if !image::is_resizable(detect(&image).content_type) {
            return Err(ServerImageError::NotAnImage);
        }
        let slot = self.images.slot().await?;
        let file = Box::pin(stream::once(Ok(image)));
        let made = self.images.make(&slot, order, file).await?;
        let Made::Image { content_type, bytes } = made else {
            return Err(ServerImageError::Undecodable);
        };
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
        };
        // The record comes first: what a crash leaves behind has a record.
        self.storage.files().create(&file).await?;
        match &mut file.location {
            FileLocation::Nats(chunks) => {
                let key = self.storage.files().key(&id).await?.ok_or(BlobError::Missing)?;
                let cipher = FileCipher { id, key };
                chunks.push(self.blobs.files.put(&cipher, 0, &bytes).await?);
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
}
