//! `MyAccountService`: what users change about themselves.

use crate::contract::api;
use crate::contract::rpc::my_account_service::{DeleteAvatar, UpdatePresence, UploadAvatar};
use crate::present;
use crate::service::Presence;

use super::super::auth::Caller;
use super::super::error::HttpError;
use super::{CallKind, MethodTable};

pub(super) fn register(table: &mut MethodTable) {
    table.add(UpdatePresence, CallKind::Write, |caller, request| async move {
        let status = match request.status() {
            api::PresenceStatus::Online => Presence::Online,
            api::PresenceStatus::Away => Presence::Away,
            api::PresenceStatus::DoNotDisturb => Presence::DoNotDisturb,
            // The value rules have rejected these.
            api::PresenceStatus::Unspecified | api::PresenceStatus::Offline => {
                return Err(HttpError::invalid("status must be online, away or do not disturb"));
            }
        };
        let (session, by_hand) = (caller.session()?, request.user_selected);
        let holds = caller.state.service.presences().update(session, status, by_hand).await?;
        Ok(api::UpdatePresenceResponse { status: present::presence(holds).into() })
    });
    table.add(UploadAvatar, CallKind::Write, |caller, request| async move {
        let image = request.image.map(|image| image.image).unwrap_or_default();
        let images = caller.state.service.server_images();
        Box::pin(images.set_avatar(caller.session()?, image)).await?;
        Ok(api::UploadAvatarResponse { user: Some(viewer(&caller)?) })
    });
    table.add(DeleteAvatar, CallKind::Write, |caller, _| async move {
        Box::pin(caller.state.service.server_images().delete_avatar(caller.session()?)).await?;
        Ok(api::DeleteAvatarResponse { user: Some(viewer(&caller)?) })
    });
}

/// The caller as others see it.
fn viewer(caller: &Caller) -> Result<api::User, HttpError> {
    let session = caller.session()?;
    let member = caller.state.service.users().get(session, session.user.as_str())?;
    Ok(present::user(&caller.origin(), member.user))
}
