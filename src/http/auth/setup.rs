//! Setup and join links: what a link prescribes, and redeeming it.
//!
//! `POST /auth/setup/inspect {token}` is for our own page only. It returns
//! `{"kind":"owner"|"join","serverName","fixed":{login?,displayName?,email?}}`, so that the page can show what the
//! link prescribes and ask for the rest. It does not redeem the link.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tide::Request;

use crate::service::RedeemRequest;

use super::super::error::HttpError;
use super::super::response::Response;
use super::super::state::App;
use super::{json, login};

#[derive(Deserialize)]
struct TokenBody {
    token: Option<String>,
}

/// `POST /auth/setup/inspect`
pub(super) async fn inspect(request: Request<App>) -> Result<Response, Response> {
    let request = json::read::<TokenBody>(request).await?;
    let token = request.body.token.unwrap_or_default();
    let service = &request.state.service;
    let content = service.sign_up().link_content(&token).await.map_err(HttpError::from)?;
    let body = json!({
        "kind": if content.is_setup { "owner" } else { "join" },
        "serverName": service.server().profile().name,
        "fixed": {
            "login": content.login,
            "displayName": content.display_name,
            "email": content.email,
        },
    });
    Ok(Response::json(StatusCode::OK, &body))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetupBody {
    token: Option<String>,
    login: Option<String>,
    display_name: Option<String>,
    password: Option<String>,
    email: Option<String>,
}

/// `POST /auth/setup`: creates the account of a link and logs it in.
pub(super) async fn redeem(request: Request<App>) -> Result<Response, Response> {
    let request = json::read::<SetupBody>(request).await?;
    let state = Arc::clone(&request.state);
    let body = request.body;
    let address = request.head.client;
    let work = async move {
        let redeem = RedeemRequest {
            token: &body.token.unwrap_or_default(),
            login: &body.login.unwrap_or_default(),
            display_name: &body.display_name.unwrap_or_default(),
            password: &body.password.unwrap_or_default(),
            email: body.email.as_deref(),
            address,
        };
        Ok(state.service.sign_up().redeem(redeem).await?)
    };
    let logged_in = request.state.finish("setup", request.permit, work).await?;
    Ok(login::logged_in_response(&request.state, &request.head, &logged_in))
}
