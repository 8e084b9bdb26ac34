//! `AssetUploadService` and `AssetService`: uploads in chunks, and what is known of files.

use crate::contract::api;
use crate::contract::rpc::asset_service::{BatchGetAssets, GetAsset};
use crate::contract::rpc::asset_upload_service::{
    CancelUpload, CompleteUpload, CreateUpload, GetUpload, UploadChunk,
};
use crate::service::{NewChunk, NewUpload, ReadError};

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    uploads(table);
    files(table);
}

fn uploads(table: &mut MethodTable) {
    table.add(CreateUpload, CallKind::Write, |caller, request| async move {
        let new = NewUpload {
            room: &request.room_id,
            name: &request.filename,
            size: u64::try_from(request.size).unwrap_or_default(),
            sha256: &request.sha256,
        };
        let upload = caller.state.service.uploads().create(caller.session()?, new).await?;
        Ok(api::CreateUploadResponse { upload: Some(present::upload(&upload)) })
    });
    table.add(UploadChunk, CallKind::Write, |caller, request| async move {
        let new = NewChunk {
            upload: &request.upload_id,
            offset: u64::try_from(request.offset).unwrap_or_default(),
            content: request.content,
            sha256: &request.chunk_sha256,
        };
        let upload = caller.state.service.uploads().chunk(caller.session()?, new).await?;
        Ok(api::UploadChunkResponse { upload: Some(present::upload(&upload)) })
    });
    table.add(GetUpload, CallKind::Read, |caller, request| async move {
        let (session, uploads) = (caller.session()?, caller.state.service.uploads());
        let upload = uploads.get(session, &request.upload_id).await?;
        Ok(api::GetUploadResponse { upload: Some(present::upload(&upload)) })
    });
    table.add(CompleteUpload, CallKind::Write, |caller, request| async move {
        let (session, service) = (caller.session()?, &caller.state.service);
        let completed = service.uploads().complete(session, &request.upload_id).await?;
        let tickets = service.assets().tickets(session.user);
        let (upload, file) = completed;
        Ok(present::completed(tickets, &upload, file))
    });
    table.add(CancelUpload, CallKind::Write, |caller, request| async move {
        let (session, uploads) = (caller.session()?, caller.state.service.uploads());
        let upload = uploads.cancel(session, &request.upload_id).await?;
        Ok(api::CancelUploadResponse { upload: Some(present::upload(&upload)) })
    });
}

fn files(table: &mut MethodTable) {
    table.add(BatchGetAssets, CallKind::Read, |caller, request| async move {
        let (session, assets) = (caller.session()?, caller.state.service.assets());
        let found = assets.of_room(session, &request.room_id, &request.asset_ids).await?;
        let tickets = assets.tickets(session.user);
        let asset = |file| present::asset(tickets, request.thumbnail, file);
        Ok(api::BatchGetAssetsResponse { assets: found.into_iter().map(asset).collect() })
    });
    table.add(GetAsset, CallKind::Read, |caller, request| async move {
        let (session, assets) = (caller.session()?, caller.state.service.assets());
        let ids = [request.asset_id];
        let mut found = assets.of_room(session, &request.room_id, &ids).await?;
        let file = found.pop().ok_or(ReadError::NotFound { what: "file" })?;
        let asset = present::asset(assets.tickets(session.user), request.thumbnail, file);
        Ok(api::GetAssetResponse { asset: Some(asset) })
    });
}
