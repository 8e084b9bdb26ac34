//! `MyAccountService`: what users change about themselves.

use crate::contract::api;
use crate::contract::rpc::my_account_service::UpdatePresence;
use crate::present;
use crate::service::Presence;

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
}
