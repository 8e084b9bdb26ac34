//! Registration, invites and password resets by mail. This server has none of them, and responds as the contract
//! (6.2 to 6.4) requires where they are off.

use hyper::{StatusCode, header};
use tide::Request;

use crate::contract::texts;

use super::super::response::Response;
use super::super::state::App;

/// `POST /auth/register`
pub(super) async fn register(_request: Request<App>) -> tide::Result {
    Response::error(StatusCode::FORBIDDEN, texts::REGISTRATION_DISABLED).into()
}

/// `POST /auth/forgot-password`: the same response for every address, so that nobody learns which ones are known.
pub(super) async fn forgot_password(_request: Request<App>) -> tide::Result {
    Response::success().into()
}

/// `GET /invite/{token}`: no invite is valid.
pub(super) async fn invite(_request: Request<App>) -> tide::Result {
    Response::empty(StatusCode::FOUND)
        .with(header::LOCATION, "/register?error=invalid_invitation")
        .with(header::CACHE_CONTROL, "no-store")
        .with(header::REFERRER_POLICY, "no-referrer")
        .into()
}
