//! Files and uploads as messages of the contract.

use super::time;
use crate::contract::api;
use crate::limits::UPLOAD_CHUNK_MAX_BYTES;
use crate::service::{
    AssetUrl, FileView, RoomFileView, Tickets, UploadStatus, UploadView, Variant,
};

/// The image that a timeline shows (contract 10.3).
const DEFAULT_THUMBNAIL: Variant = Variant { width: 960, height: 400, cover: false };

/// The image that a list of files shows (contract 5.5).
const LIST_THUMBNAIL: Variant = Variant { width: 120, height: 120, cover: true };

/// An upload.
#[must_use]
pub fn upload(upload: &UploadView) -> api::AssetUpload {
    let status = match upload.status {
        UploadStatus::Open => api::AssetUploadStatus::Open,
        UploadStatus::Completed => api::AssetUploadStatus::Completed,
        UploadStatus::Cancelled => api::AssetUploadStatus::Cancelled,
    };
    let is_complete = upload.status == UploadStatus::Completed;
    api::AssetUpload {
        upload_id: upload.id.to_string(),
        room_id: upload.room.to_string(),
        status: status.into(),
        committed_offset: i64::try_from(upload.offset).unwrap_or(i64::MAX),
        size: i64::try_from(upload.size).unwrap_or(i64::MAX),
        max_chunk_size: i32::try_from(UPLOAD_CHUNK_MAX_BYTES).unwrap_or(i32::MAX),
        sha256: upload.sha256.clone(),
        expires_at: Some(time(upload.expires_ms)),
        asset_id: if is_complete { upload.id.to_string() } else { String::new() },
    }
}

/// A completed upload and what became of it.
#[must_use]
pub fn completed(
    tickets: Tickets<'_>,
    done: &UploadView,
    file: FileView,
) -> api::CompleteUploadResponse {
    let asset = Some(asset(tickets, None, file));
    api::CompleteUploadResponse { upload: Some(upload(done)), asset }
}

/// A file, with addresses for the viewer of the tickets.
#[must_use]
pub fn asset(
    tickets: Tickets<'_>,
    thumbnail: Option<api::ImageTransformOptions>,
    file: FileView,
) -> api::Asset {
    with_thumbnail(tickets, thumbnail.map_or(DEFAULT_THUMBNAIL, variant), file)
}

/// An entry of a room's list of files.
#[must_use]
pub fn room_file(
    tickets: Tickets<'_>,
    thumbnail: Option<api::ImageTransformOptions>,
    entry: RoomFileView,
) -> api::RoomAttachmentListItem {
    let thumbnail = thumbnail.map_or(LIST_THUMBNAIL, variant);
    api::RoomAttachmentListItem {
        attachment: Some(with_thumbnail(tickets, thumbnail, entry.file)),
        message_event_id: entry.message.to_string(),
        thread_root_event_id: entry.thread_root.map(|id| id.to_string()).unwrap_or_default(),
        created_at: Some(time(entry.posted_ms)),
    }
}

fn with_thumbnail(tickets: Tickets<'_>, thumbnail: Variant, file: FileView) -> api::Asset {
    api::Asset {
        id: file.id.to_string(),
        asset_url: Some(address(tickets.url(file.id))),
        thumbnail_asset_url: thumbnail_url(tickets, thumbnail, &file),
        filename: file.name,
        content_type: file.content_type,
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        width: pixels(file.width),
        height: pixels(file.height),
        video_processing: None,
    }
}

/// A file of a message, with addresses for the viewer of the tickets.
#[must_use]
pub fn attachment(tickets: Tickets<'_>, file: &FileView) -> api::MessageAttachment {
    api::MessageAttachment {
        id: file.id.to_string(),
        filename: file.name.clone(),
        content_type: file.content_type.clone(),
        width: pixels(file.width),
        height: pixels(file.height),
        asset_url: Some(address(tickets.url(file.id))),
        thumbnail_asset_url: thumbnail_url(tickets, DEFAULT_THUMBNAIL, file),
        video_processing: None,
    }
}

fn thumbnail_url(
    tickets: Tickets<'_>,
    wanted: Variant,
    file: &FileView,
) -> Option<api::MessageAssetUrl> {
    (file.width > 0).then(|| address(tickets.variant_url(file.id, wanted)))
}

fn variant(options: api::ImageTransformOptions) -> Variant {
    let side = |pixels: i32| u32::try_from(pixels).unwrap_or(1);
    let cover = options.fit() == api::ImageFitMode::Cover;
    Variant { width: side(options.width), height: side(options.height), cover }
}

fn address(url: AssetUrl) -> api::MessageAssetUrl {
    api::MessageAssetUrl { url: url.path, expires_at: Some(time(url.expires_ms)) }
}

fn pixels(side: u32) -> i32 {
    i32::try_from(side).unwrap_or(i32::MAX)
}
