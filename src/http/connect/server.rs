//! `ServerService`: what clients need to know about the server.

use crate::contract::api;
use crate::contract::rpc::server_service::{GetMotd, GetRuntimeConfig};

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    table.add(GetMotd, CallKind::Read, |caller, _request| async move {
        let motd = caller.state.service.server().motd(caller.session()?);
        Ok(api::GetMotdResponse { motd })
    });
    table.add(GetRuntimeConfig, CallKind::Read, |caller, _request| async move {
        let runtime = caller.state.service.server().limits(caller.session()?);
        Ok(api::GetRuntimeConfigResponse { runtime: Some(present::runtime(&runtime)) })
    });
}
