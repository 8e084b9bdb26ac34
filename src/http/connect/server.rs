//! `ServerService`: what clients need to know of the server.

use crate::contract::api;
use crate::contract::rpc::server_service::{GetMotd, GetRuntimeConfig};

use super::{Effect, Table};

pub(super) fn register(table: &mut Table) {
    table.add(GetMotd, Effect::Reads, |caller, _request| async move {
        let motd = caller.state.service.motd(caller.session()?);
        Ok(api::GetMotdResponse { motd })
    });
    table.add(GetRuntimeConfig, Effect::Reads, |caller, _request| async move {
        let runtime = caller.state.service.runtime(caller.session()?);
        let upload = i64::try_from(runtime.max_upload_bytes).unwrap_or(i64::MAX);
        let window = i32::try_from(runtime.message_edit_window_seconds).unwrap_or(i32::MAX);
        Ok(api::GetRuntimeConfigResponse {
            runtime: Some(api::ServerRuntimeConfig {
                max_upload_size: upload,
                max_video_upload_size: upload,
                message_edit_window_seconds: window,
                ..api::ServerRuntimeConfig::default()
            }),
        })
    });
}
