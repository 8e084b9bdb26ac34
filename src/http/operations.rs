//! `GET /api/operations`: what owners must know of the server's operation.

use hyper::StatusCode;
use serde_json::{Value, json};
use tide::Request;

use crate::service::{CallKind, OwnerNotice};

use super::auth::{PresentedCredential, require};
use super::error::HttpError;
use super::head::Head;
use super::response::{Response, plain};
use super::state::App;

/// The version of the response's form.
const SCHEMA: u32 = 1;

pub(super) fn routes(app: &mut tide::Server<App>) {
    app.at("/api/operations").get(plain(notices));
}

/// Bearer token, or cookie from our own origin.
async fn notices(request: Request<App>) -> Result<Response, Response> {
    let (state, head) = (request.state(), Head::of(&request)?);
    let presented = PresentedCredential::of_own_origin(state, &head);
    let session = require(state, &presented, CallKind::Read).await?;
    let notices =
        state.service.owner_notices().of_owner(&session).await.map_err(HttpError::from)?;
    let notices: Vec<Value> = notices.iter().map(notice).collect();
    Ok(Response::json(StatusCode::OK, &json!({ "schema": SCHEMA, "notices": notices })))
}

fn notice(notice: &OwnerNotice) -> Value {
    json!({ "code": notice.code, "text": notice.text, "action": notice.action })
}
