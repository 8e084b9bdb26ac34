//! What the bytes of an upload must be like, whichever way they come.

use super::uploads::{NewChunk, UploadError};
use crate::crypto::{Sha256State, from_hex, sha256};
use crate::domain::{Upload, UploadStatus};
use crate::limits::{FILE_CHUNKS_MAX, UPLOAD_CHUNK_MAX_BYTES};

/// Whether all bytes are there, and the right ones.
pub(super) fn check_whole(
    upload: &Upload,
    received: u64,
    hash: Sha256State,
) -> Result<(), UploadError> {
    if received < upload.size {
        return Err(UploadError::Incomplete { received, size: upload.size });
    }
    if hash.finish() == upload.sha256 { Ok(()) } else { Err(UploadError::FileHash) }
}

/// Whether this is the next chunk.
pub(super) fn check_chunk(upload: &Upload, new: &NewChunk<'_>) -> Result<(), UploadError> {
    if upload.status != UploadStatus::Open {
        return Err(UploadError::Closed);
    }
    if new.offset != upload.offset {
        return Err(UploadError::Offset { committed: upload.offset });
    }
    if new.content.is_empty() || new.content.len() > UPLOAD_CHUNK_MAX_BYTES {
        return Err(UploadError::ChunkLength);
    }
    check_fits(upload, upload.offset, new.content.len())?;
    check_chunk_count(upload)?;
    if from_hex(new.sha256).ok_or(UploadError::NotAHash)? != sha256(&new.content) {
        return Err(UploadError::ChunkHash);
    }
    Ok(())
}

/// Whether the file has this many more bytes.
pub(super) fn check_fits(upload: &Upload, offset: u64, length: usize) -> Result<(), UploadError> {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if upload.size.saturating_sub(offset) < length {
        return Err(UploadError::BeyondSize);
    }
    Ok(())
}

/// Whether the upload may have one more chunk.
pub(super) fn check_chunk_count(upload: &Upload) -> Result<(), UploadError> {
    if upload.chunks.len() >= FILE_CHUNKS_MAX {
        return Err(UploadError::TooManyChunks);
    }
    Ok(())
}
