//! `ServerDiscoveryService`: what anybody may know without a credential.

use crate::contract::rpc::server_discovery_service::GetServer;
use crate::contract::{api, discovery};
use crate::service::ServerView;

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    table.add(GetServer, CallKind::Read, |caller, _request| async move {
        let server = caller.state.service.server().profile();
        Ok(response(&caller.origin(), &server))
    });
}

fn response(origin: &str, server: &ServerView) -> discovery::GetServerResponse {
    let policy = if server.invite_only {
        api::AccountCreationPolicy::InviteOnly
    } else {
        api::AccountCreationPolicy::Open
    };
    discovery::GetServerResponse {
        profile: Some(present::profile(origin, server)),
        login: Some(api::ServerLogin {
            direct_registration_enabled: server.direct_registration,
            providers: Vec::new(),
            // Empty means that other clients cannot add this server: there is no `/oauth` yet.
            authorize_url: String::new(),
            account_creation_policy: policy.into(),
            direct_login_enabled: Some(server.direct_login),
        }),
    }
}
