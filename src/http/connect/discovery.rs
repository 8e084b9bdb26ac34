//! `ServerDiscoveryService`: what anybody may know, before any credential.

use crate::contract::rpc::server_discovery_service::GetServer;
use crate::contract::{SERVER_VERSION, api, discovery};
use crate::service::ServerView;

use super::{Effect, Table, map};

pub(super) fn register(table: &mut Table) {
    table.add(GetServer, Effect::Reads, |caller, _request| async move {
        let server = caller.state.service.server();
        Ok(response(&caller.origin(), server))
    });
}

fn response(origin: &str, server: ServerView) -> discovery::GetServerResponse {
    let policy = if server.invite_only {
        api::AccountCreationPolicy::InviteOnly
    } else {
        api::AccountCreationPolicy::Open
    };
    discovery::GetServerResponse {
        profile: Some(api::ServerPublicProfile {
            name: server.name,
            version: SERVER_VERSION.to_owned(),
            logo_url: server.logo_key.map(|key| map::image(origin, &key)),
            banner_url: server.banner_key.map(|key| map::image(origin, &key)),
            welcome_message: server.welcome_message,
            description: server.description,
        }),
        login: Some(api::ServerLogin {
            direct_registration_enabled: server.direct_registration,
            providers: Vec::new(),
            // Empty says that other clients cannot add this server: `/oauth` is not built.
            authorize_url: String::new(),
            account_creation_policy: policy.into(),
            direct_login_enabled: Some(server.direct_login),
        }),
    }
}
