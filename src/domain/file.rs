//! Uploaded files: what is known of each, and where its bytes are.

use super::{AssetId, EventId, RoomId, UserId};

/// A file that was uploaded or is being uploaded. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub id: AssetId,
    /// `None`: an image of the server, which everybody may see.
    pub room: Option<RoomId>,
    pub uploader: UserId,
    /// For display; without path parts and control characters.
    pub name: String,
    /// Detected from the bytes.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    pub sha256: [u8; 32],
    /// Pixels of an image as shown; 0: unknown.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    pub created_ms: i64,
    pub state: FileState,
    pub location: FileLocation,
    /// Its key is wrapped with its uploader's, and an object of it in S3 is ciphertext.
    pub encrypted: bool,
}

/// The life of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Its bytes are arriving.
    Pending,
    /// Complete, and attached to no message.
    Ready,
    /// A post with this request id is about to attach it, or has just done so.
    Reserved { request: String, at_ms: i64 },
    /// Attached to this message for ever.
    Attached(EventId),
    /// The deletion of its message has begun: when the message is gone, so is the file.
    Deleting { message: EventId, at_ms: i64 },
    /// Nobody may read it any more; its bytes are being removed.
    Erasing,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileLocation {
    /// In chunks in ASSETS.
    Nats(Vec<Chunk>),
    /// One object in the bucket; its key is the file's id.
    S3,
}

/// A chunk of a file in NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// In the stream.
    pub sequence: u64,
    /// Bytes of the file in it.
    pub length: u32,
}

/// An upload in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub status: UploadStatus,
    pub uploader: UserId,
    pub room: RoomId,
    pub size: u64,
    pub sha256: [u8; 32],
    /// Bytes received.
    pub offset: u64,
    /// The state of the SHA-256 of the bytes received; that of an encrypted file is encrypted too.
    pub hash: Vec<u8>,
    /// Those of ASSETS, or with S3 those staged in UPLOADS.
    pub chunks: Vec<Chunk>,
    /// Detected from the first bytes.
    pub detected: Option<Detected>,
    /// The parts that S3 has; `None`: the file goes to NATS.
    pub parts: Option<Multipart>,
    /// Of the last chunk; the upload ends an hour later.
    pub updated_ms: i64,
}

/// Whether an upload still takes chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the contract")]
pub enum UploadStatus {
    Open,
    Completed,
    Cancelled,
}

/// What the first bytes of a file say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    pub content_type: String,
    /// Pixels of an image as shown; 0: unknown.
    pub width: u32,
    /// See `width`.
    pub height: u32,
}

/// A multipart upload of S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    /// `None`: not begun.
    pub id: Option<String>,
    /// Bytes of each part but the last.
    pub part_size: u64,
    /// The ETags of the parts, in order.
    pub etags: Vec<String>,
}

impl FileState {
    /// Whether all bytes have arrived and are not being removed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self == Self::Ready || self.is_shown()
    }

    /// Whether members of its room may read the file.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        matches!(self, Self::Reserved { .. } | Self::Attached(_) | Self::Deleting { .. })
    }
}
