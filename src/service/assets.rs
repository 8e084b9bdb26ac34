//! Files as viewers get them: what is known of them, tickets in their addresses, and their bytes.

use std::ops::Range;

use bytes::Bytes;

use super::attachments::Attachments;
use super::error::{StoreError, blob_kind};
use super::rights::readable_room;
use super::users::distinct;
use super::{ErrorKind, FileView, ReadError, Session};
use crate::blobs::{BlobError, BlobReader, Blobs, FileCipher};
use crate::crypto::{MacKey, from_hex, hex, sha256};
use crate::domain::{AssetId, File, FileState, UserId};
use crate::limits::VARIANT_SIDE_MAX;
use crate::media;
use crate::runtime::Clock;
use crate::storage::{Storage, StorageError};

const HOUR_MS: i64 = 3_600_000;
/// Hours that a ticket is valid, counted from the beginning of the hour in which it was made (contract 10.3).
const TICKET_HOURS: i64 = 24;

/// The address of a file for one viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetUrl {
    /// Path and query.
    pub path: String,
    /// When its ticket ends, milliseconds since 1970.
    pub expires_ms: i64,
}

/// An image of another size, made from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Pixels, 1 to 4096.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Cut to fill the whole area, instead of lying inside it.
    pub cover: bool,
}

impl Variant {
    /// Reads `960x400` and `contain` or `cover`; `None` for anything else.
    #[must_use]
    pub fn parse(size: &str, fit: &str) -> Option<Self> {
        let side = |text: &str| {
            let side = text.parse().ok().filter(|side| (1..=VARIANT_SIDE_MAX).contains(side))?;
            // The address is signed as it is written.
            (text == side.to_string()).then_some(side)
        };
        let (width, height) = size.split_once('x')?;
        let cover = match fit {
            "contain" => false,
            "cover" => true,
            _ => return None,
        };
        Some(Self { width: side(width)?, height: side(height)?, cover })
    }

    /// It as a token of a subject.
    pub(super) fn token(self) -> String {
        variant_path(self).replace('/', "-")
    }
}

/// Signs addresses for one viewer at one time.
#[derive(Clone, Copy)]
pub struct Tickets<'a> {
    key: &'a MacKey,
    viewer: UserId,
    /// Hours since 1970.
    hour: i64,
}

/// Who wants a file.
#[derive(Debug, Clone, Copy)]
pub enum FileReader<'a> {
    /// Whoever has this ticket.
    Ticket(&'a str),
    Session(&'a Session),
}

/// A file that its reader may have.
pub struct OpenFile {
    pub file: File,
    pub(super) cipher: FileCipher,
    /// An image made from the file, which is shown in its place.
    shown: Option<VariantFile>,
    is_substitute: bool,
}

/// An image made from a file.
pub(super) struct VariantFile {
    content_type: &'static str,
    pub(super) bytes: Bytes,
}

/// A file was not given out.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No ticket, or one that is not valid here.
    #[error("authentication required")]
    Ticket,
    /// Unknown, deleted or not complete.
    #[error("file not found")]
    NotFound,
    /// Not a member of its room.
    #[error("permission denied")]
    Denied,
    #[error("a file cannot be read or written")]
    Blob(#[from] BlobError),
    /// Too many images are being made.
    #[error("no image of this size can be made now")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FileError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Ticket => ErrorKind::Unauthenticated,
            Self::NotFound => ErrorKind::NotFound,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Blob(error) => blob_kind(error),
            Self::Busy => ErrorKind::Unavailable,
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for FileError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Files as viewers get them.
#[derive(Clone, Copy)]
pub struct Assets<'a> {
    pub(super) storage: &'a Storage,
    pub(super) blobs: &'a Blobs,
    pub(super) clock: &'a Clock,
    pub(super) key: &'a MacKey,
    pub(super) attachments: Attachments<'a>,
}

impl<'a> Assets<'a> {
    /// Files of a room by id in order of first appearance. Those of other rooms, those that are deleted, and those
    /// of others that no message has are left out.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room, [`ReadError::Denied`] for others than members.
    pub async fn of_room(
        self,
        session: &Session,
        room: &str,
        ids: &[String],
    ) -> Result<Vec<FileView>, ReadError> {
        let room = readable_room(self.storage, session, room)?;
        let ids: Vec<AssetId> = distinct(ids).filter_map(|id| id.parse().ok()).collect();
        let mut views = Vec::new();
        for file in self.storage.files().get_all(&ids).await? {
            let is_visible =
                is_own(&file, session.user) || self.attachments.is_shown(&file).await?;
            if file.room == Some(room) && is_visible {
                views.push(file.into());
            }
        }
        Ok(views)
    }

    /// Signs addresses for this viewer.
    #[must_use]
    pub fn tickets(self, viewer: UserId) -> Tickets<'a> {
        Tickets { key: self.key, viewer, hour: self.clock.unix_ms().div_euclid(HOUR_MS) }
    }

    /// A file, if the reader may have it, or a variant of it.
    pub async fn open(
        self,
        reader: FileReader<'_>,
        id: &str,
        variant: Option<Variant>,
    ) -> Result<OpenFile, FileError> {
        let id = AssetId::try_from(id).map_err(|_| FileError::NotFound)?;
        let viewer = match reader {
            FileReader::Session(session) => session.user,
            FileReader::Ticket(ticket) => {
                let now = self.clock.unix_ms();
                ticket_holder(self.key, ticket, id, variant, now).ok_or(FileError::Ticket)?
            }
        };
        let file = self.storage.files().get_to_show(&id).await?.ok_or(FileError::NotFound)?;
        let room = file.room.ok_or(FileError::NotFound)?;
        super::rights::check_member(self.storage, viewer, room).map_err(|_| FileError::Denied)?;
        if !is_own(&file, viewer) && !self.attachments.is_shown(&file).await? {
            return Err(FileError::NotFound);
        }
        let key = self.storage.files().key_to_show(&file).await?.ok_or(FileError::NotFound)?;
        Ok(OpenFile { cipher: FileCipher::of(&file, key), file, shown: None, is_substitute: false })
    }

    /// An image that everybody may see.
    pub async fn open_public(self, key: &str) -> Result<OpenFile, FileError> {
        let id = AssetId::try_from(key).map_err(|_| FileError::NotFound)?;
        let file = self.storage.files().get_to_show(&id).await?;
        let is_shown = |file: &File| file.room.is_none() && file.state == FileState::Ready;
        let file = file.filter(is_shown).ok_or(FileError::NotFound)?;
        let key = self.storage.files().key_to_show(&file).await?.ok_or(FileError::NotFound)?;
        Ok(OpenFile { cipher: FileCipher::of(&file, key), file, shown: None, is_substitute: false })
    }

    /// A URL of S3 at which the reader may fetch the whole file with this `Content-Disposition`; `None`: it comes from
    /// here. Text that browsers show and variants are never redirected.
    pub async fn redirect(
        self,
        open: &OpenFile,
        disposition: &str,
    ) -> Result<Option<String>, FileError> {
        let content_type = open.content_type();
        let is_text = content_type.starts_with("text/") && open.is_inline();
        if is_text || open.shown.is_some() {
            return Ok(None);
        }
        Ok(self.blobs.redirect(&open.file, &content_type, disposition).await?)
    }

    /// Reads bytes `range` of a file.
    pub fn read(self, open: OpenFile, range: Range<u64>) -> Result<BlobReader, FileError> {
        if let Some(shown) = open.shown {
            let size = shown.bytes.len();
            let within = |at: u64| usize::try_from(at).unwrap_or(size).min(size);
            let range = within(range.start)..within(range.end);
            return Ok(BlobReader::Memory(shown.bytes.slice(range)));
        }
        Ok(self.blobs.read(open.file, open.cipher, range)?)
    }
}

impl VariantFile {
    pub(super) fn new(content_type: &'static str, bytes: Bytes) -> Self {
        Self { content_type, bytes }
    }
}

impl OpenFile {
    /// A variant of it, or the file itself in its place.
    pub(super) fn shown_as(self, shown: Option<VariantFile>) -> Self {
        Self { is_substitute: shown.is_none(), shown, ..self }
    }

    /// Bytes of what is shown.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shown.as_ref().map_or(self.file.size, |shown| shown.bytes.len() as u64)
    }

    /// The name under which it is saved.
    #[must_use]
    pub fn name(&self) -> String {
        let Some(shown) = &self.shown else { return self.file.name.clone() };
        let stem =
            self.file.name.rsplit_once('.').map_or(self.file.name.as_str(), |(stem, _)| stem);
        format!("{stem}.{}", if shown.content_type == "image/jpeg" { "jpg" } else { "webp" })
    }

    fn bare_type(&self) -> &str {
        self.shown.as_ref().map_or(&self.file.content_type, |shown| shown.content_type)
    }

    /// Whether it is the file itself in place of a variant, which may be made later.
    #[must_use]
    pub fn is_substitute(&self) -> bool {
        self.is_substitute
    }

    /// Whether everybody may see it; it then never changes.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.file.room.is_none()
    }

    /// The value of `Content-Type`. Detected text is UTF-8.
    #[must_use]
    pub fn content_type(&self) -> String {
        match self.bare_type() {
            "text/plain" => "text/plain; charset=utf-8".to_owned(),
            other => other.to_owned(),
        }
    }

    /// Whether browsers may show it in place; everything else is downloaded.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        media::is_inline(self.bare_type())
    }

    /// Whether a browser could run scripts of it in the name of this server.
    #[must_use]
    pub fn is_active(&self) -> bool {
        media::is_active(self.bare_type())
    }

    /// Its strong entity tag, without quotes.
    #[must_use]
    pub fn tag(&self) -> String {
        match &self.shown {
            Some(shown) => hex(&sha256(&shown.bytes)),
            None => hex(&self.file.sha256),
        }
    }
}

impl Tickets<'_> {
    /// The address of a file.
    #[must_use]
    pub fn url(&self, id: AssetId) -> AssetUrl {
        self.signed(id, None)
    }

    /// The address of a variant of an image.
    #[must_use]
    pub fn variant_url(&self, id: AssetId, variant: Variant) -> AssetUrl {
        self.signed(id, Some(variant))
    }

    fn signed(&self, id: AssetId, variant: Option<Variant>) -> AssetUrl {
        let Self { key, viewer, hour } = self;
        let mac = hex(&key.mac(&signed_text(*viewer, id, variant, *hour)));
        let path = variant.map(|variant| format!("/image/{}", variant_path(variant)));
        let path = path.unwrap_or_default();
        AssetUrl {
            path: format!("/assets/files/{id}{path}?access={viewer}.{hour}.{mac}"),
            expires_ms: hour.saturating_add(TICKET_HOURS).saturating_mul(HOUR_MS),
        }
    }
}

/// Whose a ticket is, if it is valid for this file and size now.
fn ticket_holder(
    key: &MacKey,
    ticket: &str,
    id: AssetId,
    variant: Option<Variant>,
    now_ms: i64,
) -> Option<UserId> {
    let (viewer, rest) = ticket.split_once('.')?;
    let (hour, mac) = rest.split_once('.')?;
    let viewer = UserId::try_from(viewer).ok()?;
    // As it was written: `+1` and `01` are numbers too.
    let hour = hour.parse::<i64>().ok().filter(|parsed| parsed.to_string() == hour)?;
    let mac: [u8; 32] = from_hex(mac)?;
    let age = now_ms.div_euclid(HOUR_MS).checked_sub(hour)?;
    // The clock of another process may be a little ahead.
    let is_valid = (-1..TICKET_HOURS).contains(&age);
    (key.verify(&signed_text(viewer, id, variant, hour), &mac) && is_valid).then_some(viewer)
}

fn signed_text(viewer: UserId, id: AssetId, variant: Option<Variant>, hour: i64) -> Vec<u8> {
    let variant = variant.map(variant_path).unwrap_or_default();
    format!("{viewer} {id} {variant} {hour}").into_bytes()
}

fn variant_path(variant: Variant) -> String {
    let fit = if variant.cover { "cover" } else { "contain" };
    format!("{}x{}/{fit}", variant.width, variant.height)
}

/// Whether the viewer has uploaded the file, and it is complete.
fn is_own(file: &File, viewer: UserId) -> bool {
    file.uploader == viewer && file.state == FileState::Ready
}
