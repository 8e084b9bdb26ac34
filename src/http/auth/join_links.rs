//! Join links as owners manage them: create one, list the unused ones, revoke one.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tide::Request;

use crate::contract::Timestamp;
use crate::service::{CallKind, JoinFields, OpenLink};

use super::super::error::HttpError;
use super::super::head::Head;
use super::super::response::Response;
use super::super::state::App;
use super::{PresentedCredential, json, require, require_with_csrf};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JoinLinkBody {
    login: Option<String>,
    display_name: Option<String>,
    email: Option<String>,
    role: Option<String>,
}

/// `POST /auth/join-links`: bearer token, or cookie with CSRF token.
pub(super) async fn create(request: Request<App>) -> tide::Result {
    let request = match json::read::<JoinLinkBody>(request).await {
        Ok(request) => request,
        Err(response) => return response.into(),
    };
    let session = match require_with_csrf(&request.state, &request.head).await {
        Ok(session) => session,
        Err(error) => return error.plain_response().into(),
    };
    let JoinLinkBody { login, display_name, email, role } = request.body;
    let state = Arc::clone(&request.state);
    let work = async move {
        let fields = JoinFields { login, display_name, email, role };
        Ok(state.service.links().join_link(&session, fields).await?)
    };
    match request.state.finish("join link", request.permit, work).await {
        Ok(link) => {
            let origin = request.head.origin(&request.state.config.public_url);
            let body = json!({
                "id": link.id,
                "url": format!("{origin}{}", link.path),
                "expiresAt": time(link.expires_ms),
            });
            Response::json(StatusCode::OK, &body).into()
        }
        Err(error) => error.plain_response().into(),
    }
}

/// `GET /auth/join-links`: the links that can be used now, the newest first.
pub(super) async fn list(request: Request<App>) -> tide::Result {
    let Some(head) = request.ext::<Arc<Head>>() else {
        return HttpError::internal().plain_response().into();
    };
    let listed = async {
        let presented = PresentedCredential::of_own_origin(request.state(), head);
        let session = require(request.state(), &presented, CallKind::Read).await?;
        Ok::<_, HttpError>(request.state().service.links().join_links(&session).await?)
    };
    match listed.await {
        Ok(links) => {
            let links: Vec<Value> = links.iter().map(link_json).collect();
            Response::json(StatusCode::OK, &json!({ "links": links })).into()
        }
        Err(error) => error.plain_response().into(),
    }
}

/// `DELETE /auth/join-links/{id}`: bearer token, or cookie with CSRF token.
pub(super) async fn revoke(request: Request<App>) -> tide::Result {
    let Some(head) = request.ext::<Arc<Head>>() else {
        return HttpError::internal().plain_response().into();
    };
    let revoked = async {
        let session = require_with_csrf(request.state(), head).await?;
        let id = request.param("id").unwrap_or_default();
        Ok::<_, HttpError>(request.state().service.links().revoke_join_link(&session, id).await?)
    };
    match revoked.await {
        Ok(()) => Response::json(StatusCode::OK, &json!({ "success": true })).into(),
        Err(error) => error.plain_response().into(),
    }
}

fn link_json(link: &OpenLink) -> Value {
    let maker = link.maker.as_ref().map(|(id, login)| json!({ "id": id.as_str(), "login": login }));
    json!({
        "id": link.id,
        "createdBy": maker,
        "createdAt": time(link.created_ms),
        "expiresAt": time(link.expires_ms),
        "login": link.content.login,
        "displayName": link.content.display_name,
        "email": link.content.email,
        "role": link.content.role,
    })
}

/// Whole seconds, as the contract writes times.
fn time(unix_ms: i64) -> String {
    Timestamp { seconds: unix_ms.div_euclid(1000), nanos: 0 }.to_string()
}
