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
pub(super) async fn create(request: Request<App>) -> Result<Response, Response> {
    let request = json::read::<JoinLinkBody>(request).await?;
    let session = require_with_csrf(&request.state, &request.head).await?;
    let JoinLinkBody { login, display_name, email, role } = request.body;
    let state = Arc::clone(&request.state);
    let work = async move {
        let fields = JoinFields { login, display_name, email, role };
        Ok(state.service.links().join_link(&session, fields).await?)
    };
    let link = request.state.finish("join link", request.permit, work).await?;
    let origin = request.head.origin(&request.state.config.public_url);
    let body = json!({
        "id": link.id,
        "url": format!("{origin}{}", link.path),
        "expiresAt": time(link.expires_ms),
    });
    Ok(Response::json(StatusCode::OK, &body))
}

/// `GET /auth/join-links`: the links that can be used now, the newest first.
pub(super) async fn list(request: Request<App>) -> Result<Response, Response> {
    let (state, head) = (request.state(), Head::of(&request)?);
    let presented = PresentedCredential::of_own_origin(state, &head);
    let session = require(state, &presented, CallKind::Read).await?;
    let links = state.service.links().join_links(&session).await.map_err(HttpError::from)?;
    let links: Vec<Value> = links.iter().map(link_json).collect();
    Ok(Response::json(StatusCode::OK, &json!({ "links": links })))
}

/// `DELETE /auth/join-links/{id}`: bearer token, or cookie with CSRF token.
pub(super) async fn revoke(request: Request<App>) -> Result<Response, Response> {
    let (state, head) = (request.state(), Head::of(&request)?);
    let session = require_with_csrf(state, &head).await?;
    let id = request.param("id").unwrap_or_default();
    state.service.links().revoke_join_link(&session, id).await.map_err(HttpError::from)?;
    Ok(Response::success())
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
