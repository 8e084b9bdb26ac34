//! The records of files and uploads.

use bytes::Bytes;

use crate::domain::{
    Chunk, Detected, File, FileLocation, FileState, Multipart, Upload, UploadStatus,
};
use crate::storage::encoding::{DecodeError, Losses, Recorded};
use crate::storage::files::FileRecord;
use crate::storage::records;

impl Recorded for FileRecord {
    type Record = records::File;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let at_ms = record.changed_ms;
        let state = match records::FileState::try_from(record.state) {
            Ok(records::FileState::Pending) => FileState::Pending,
            Ok(records::FileState::Complete) => FileState::Ready,
            Ok(records::FileState::Reserved) => {
                FileState::Reserved { request: record.reserved_by, at_ms }
            }
            Ok(records::FileState::Attached) => {
                FileState::Attached(losses.required(&record.message_id)?)
            }
            Ok(records::FileState::Deleting) => {
                FileState::Deleting { message: losses.required(&record.message_id)?, at_ms }
            }
            Ok(records::FileState::Erasing) => FileState::Erasing,
            Err(_) => return Err(DecodeError::UnknownFields),
        };
        let location = match records::Backend::try_from(record.backend) {
            Ok(records::Backend::Nats) => FileLocation::Nats(chunks(record.chunks)?),
            Ok(records::Backend::S3) => FileLocation::S3,
            Err(_) => return Err(DecodeError::UnknownFields),
        };
        let file = File {
            id: losses.required(&record.id)?,
            // Never none for one that cannot be read: files of no room are public.
            room: match record.room_id.as_str() {
                "" => None,
                room => Some(losses.required(room)?),
            },
            uploader: losses.required(&record.uploader_id)?,
            name: record.name,
            content_type: record.content_type,
            size: record.size,
            sha256: losses.bytes(&record.sha256).unwrap_or_default(),
            width: record.width,
            height: record.height,
            created_ms: record.created_ms,
            state,
            location,
            encrypted: record.encrypted,
        };
        Ok(Self { file, replaced: record.replaced })
    }

    fn to_record(&self) -> Self::Record {
        let Self { file, replaced } = self;
        let mut record = records::File {
            id: file.id.to_string(),
            room_id: file.room.map(|id| id.to_string()).unwrap_or_default(),
            uploader_id: file.uploader.to_string(),
            name: file.name.clone(),
            content_type: file.content_type.clone(),
            size: file.size,
            sha256: Bytes::copy_from_slice(&file.sha256),
            width: file.width,
            height: file.height,
            created_ms: file.created_ms,
            replaced: *replaced,
            encrypted: file.encrypted,
            ..records::File::default()
        };
        let state = match &file.state {
            FileState::Pending => records::FileState::Pending,
            FileState::Ready => records::FileState::Complete,
            FileState::Reserved { request, at_ms } => {
                record.reserved_by.clone_from(request);
                record.changed_ms = *at_ms;
                records::FileState::Reserved
            }
            FileState::Attached(message) => {
                record.message_id = message.to_string();
                records::FileState::Attached
            }
            FileState::Deleting { message, at_ms } => {
                record.message_id = message.to_string();
                record.changed_ms = *at_ms;
                records::FileState::Deleting
            }
            FileState::Erasing => records::FileState::Erasing,
        };
        record.set_state(state);
        match &file.location {
            FileLocation::Nats(chunks) => record.chunks = stored_chunks(chunks),
            FileLocation::S3 => record.set_backend(records::Backend::S3),
        }
        record
    }
}

impl Recorded for Upload {
    type Record = records::Upload;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let status = match records::UploadStatus::try_from(record.status) {
            Ok(records::UploadStatus::Open) => UploadStatus::Open,
            Ok(records::UploadStatus::Completed) => UploadStatus::Completed,
            Ok(records::UploadStatus::Cancelled) => UploadStatus::Cancelled,
            Err(_) => return Err(DecodeError::UnknownFields),
        };
        let detected = Detected {
            content_type: record.content_type,
            width: record.width,
            height: record.height,
        };
        let multipart = Multipart {
            id: Some(record.multipart_id).filter(|id| !id.is_empty()),
            part_size: record.part_size,
            etags: record.etags,
        };
        Ok(Self {
            status,
            uploader: losses.required(&record.uploader_id)?,
            room: losses.required(&record.room_id)?,
            size: record.size,
            sha256: losses.bytes(&record.sha256).unwrap_or_default(),
            offset: record.offset,
            hash: record.hash_state.into(),
            chunks: chunks(record.chunks)?,
            detected: Some(detected).filter(|detected| !detected.content_type.is_empty()),
            parts: Some(multipart).filter(|multipart| multipart.part_size > 0),
            updated_ms: record.updated_ms,
        })
    }

    fn to_record(&self) -> Self::Record {
        let status = match self.status {
            UploadStatus::Open => records::UploadStatus::Open,
            UploadStatus::Completed => records::UploadStatus::Completed,
            UploadStatus::Cancelled => records::UploadStatus::Cancelled,
        };
        let (detected, parts) = (self.detected.as_ref(), self.parts.as_ref());
        records::Upload {
            status: status.into(),
            uploader_id: self.uploader.to_string(),
            room_id: self.room.to_string(),
            size: self.size,
            sha256: Bytes::copy_from_slice(&self.sha256),
            offset: self.offset,
            hash_state: Bytes::copy_from_slice(&self.hash),
            chunks: stored_chunks(&self.chunks),
            content_type: detected.map(|one| one.content_type.clone()).unwrap_or_default(),
            width: detected.map_or(0, |one| one.width),
            height: detected.map_or(0, |one| one.height),
            multipart_id: parts.and_then(|parts| parts.id.clone()).unwrap_or_default(),
            part_size: parts.map_or(0, |parts| parts.part_size),
            etags: parts.map(|parts| parts.etags.clone()).unwrap_or_default(),
            updated_ms: self.updated_ms,
        }
    }
}

fn chunks(stored: Option<records::Chunks>) -> Result<Vec<Chunk>, DecodeError> {
    let stored = stored.unwrap_or_default();
    if stored.sequences.len() != stored.lengths.len() {
        return Err(DecodeError::Malformed);
    }
    let (mut sequence, mut length) = (0_u64, 0_u32);
    let mut chunks = Vec::with_capacity(stored.sequences.len());
    for (step, growth) in stored.sequences.into_iter().zip(stored.lengths) {
        sequence = sequence.checked_add_signed(step).ok_or(DecodeError::Malformed)?;
        let grown = i64::from(length).checked_add(growth).and_then(|sum| u32::try_from(sum).ok());
        length = grown.ok_or(DecodeError::Malformed)?;
        chunks.push(Chunk { sequence, length });
    }
    Ok(chunks)
}

fn stored_chunks(chunks: &[Chunk]) -> Option<records::Chunks> {
    let mut stored = records::Chunks::default();
    let mut former = Chunk { sequence: 0, length: 0 };
    for chunk in chunks {
        // Sequences of a stream stay below 2^63.
        stored.sequences.push(chunk.sequence.wrapping_sub(former.sequence).cast_signed());
        stored.lengths.push(i64::from(chunk.length) - i64::from(former.length));
        former = *chunk;
    }
    (!chunks.is_empty()).then_some(stored)
}
