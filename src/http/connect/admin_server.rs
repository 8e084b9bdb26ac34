//! `AdminServerService`: what administrators set for the whole server. Of its methods, those of the logo and the banner
//! are served.

use crate::contract::rpc::admin_server_service::{
    DeleteServerBanner, DeleteServerLogo, UploadServerBanner, UploadServerLogo,
};
use crate::contract::{admin, api};
use crate::present;
use crate::service::ServerImage;

use super::super::auth::Caller;
use super::super::error::HttpError;
use super::{CallKind, MethodTable};

pub(super) fn register(table: &mut MethodTable) {
    table.add(UploadServerLogo, CallKind::Write, |caller, request| async move {
        let public_profile = Some(upload(&caller, ServerImage::Logo, request.image).await?);
        Ok(admin::UploadServerLogoResponse { public_profile })
    });
    table.add(DeleteServerLogo, CallKind::Write, |caller, _| async move {
        let public_profile = Some(delete(&caller, ServerImage::Logo).await?);
        Ok(admin::DeleteServerLogoResponse { public_profile })
    });
    table.add(UploadServerBanner, CallKind::Write, |caller, request| async move {
        let public_profile = Some(upload(&caller, ServerImage::Banner, request.image).await?);
        Ok(admin::UploadServerBannerResponse { public_profile })
    });
    table.add(DeleteServerBanner, CallKind::Write, |caller, _| async move {
        let public_profile = Some(delete(&caller, ServerImage::Banner).await?);
        Ok(admin::DeleteServerBannerResponse { public_profile })
    });
}

async fn upload(
    caller: &Caller,
    which: ServerImage,
    upload: Option<api::ImageUpload>,
) -> Result<api::ServerPublicProfile, HttpError> {
    // The name and the type that the client states count for nothing.
    let image = upload.map(|upload| upload.image).unwrap_or_default();
    let images = caller.state.service.server_images();
    Box::pin(images.set(caller.session()?, which, image)).await?;
    Ok(profile(caller))
}

async fn delete(
    caller: &Caller,
    which: ServerImage,
) -> Result<api::ServerPublicProfile, HttpError> {
    let images = caller.state.service.server_images();
    Box::pin(images.delete(caller.session()?, which)).await?;
    Ok(profile(caller))
}

fn profile(caller: &Caller) -> api::ServerPublicProfile {
    present::profile(&caller.origin(), &caller.state.service.server().profile())
}
