//! Log-in and log-out (contract 6.1).

use std::sync::Arc;

use hyper::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tide::Request;

use crate::service::{CallKind, LogIn, LoggedIn};

use super::super::error::HttpError;
use super::super::head::Head;
use super::super::response::Response;
use super::super::state::{App, AppState, PausablePermit};
use super::{PresentedCredential, cookies, csrf_error, has_csrf, json};

#[derive(Deserialize)]
struct LogInBody {
    identifier: Option<String>,
    /// Another accepted name for `identifier`.
    login: Option<String>,
    password: Option<String>,
}

/// `POST /auth/login`
pub(super) async fn login(request: Request<App>) -> Result<Response, Response> {
    let request = json::read::<LogInBody>(request).await?;
    let LogInBody { identifier, login, password } = request.body;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Some((identifier, password)) = given(identifier).or(given(login)).zip(given(password))
    else {
        let text = "Login and password are required";
        return Err(Response::error(StatusCode::BAD_REQUEST, text));
    };
    let (state, address) = (Arc::clone(&request.state), request.head.client);
    let work = async move {
        let attempt = LogIn { identifier: &identifier, password: &password, address };
        Ok(state.service.sessions().log_in(attempt).await?)
    };
    let logged_in = request.state.finish("log in", request.permit, work).await?;
    Ok(logged_in_response(&request.state, &request.head, &logged_in))
}

/// The response of every request that logs somebody in.
pub(super) fn logged_in_response(state: &AppState, head: &Head, logged_in: &LoggedIn) -> Response {
    let body = json!({
        "success": true,
        "user": { "id": logged_in.user.as_str(), "login": logged_in.login },
        "token": logged_in.token,
    });
    with_cookies(Response::json(StatusCode::OK, &body), state, head, logged_in)
}

/// Adds both cookies of a new session. A page of another origin gets none: it could log this browser in as somebody
/// else.
pub(super) fn with_cookies(
    response: Response,
    state: &AppState,
    head: &Head,
    logged_in: &LoggedIn,
) -> Response {
    if !head.is_own_origin(&state.config.public_url) {
        return response;
    }
    let ttl = state.service.sessions().ttl();
    response
        .with(header::SET_COOKIE, &cookies::session_line(head, &logged_in.cookie, ttl))
        .with(header::SET_COOKIE, &cookies::csrf_line(head, &logged_in.csrf, ttl))
}

/// `POST /auth/logout`: ends the sessions of all presented credentials, bearer and cookie alike.
pub(super) async fn logout(request: Request<App>) -> Result<Response, Response> {
    let state = Arc::clone(request.state());
    let head = Head::of(&request)?;
    let permit = PausablePermit::of(&request);
    let presented = PresentedCredential::of(&head);
    let mut ends = vec![presented.clone()];
    let cookie =
        cookies::session(&head).map(|cookie| PresentedCredential::Cookie(cookie.to_owned()));
    let may_end = match (&presented, cookie) {
        // A valid bearer token needs no CSRF token, and the session of the cookie beside it ends too.
        (PresentedCredential::Bearer(_), Some(cookie)) => {
            let may_end = may_end_with_bearer(&state, &head, &presented, &cookie).await?;
            ends.push(cookie);
            may_end
        }
        (PresentedCredential::Cookie(_), _) => may_end_session(&state, &head, &presented).await?,
        (PresentedCredential::Bearer(_) | PresentedCredential::Nothing, _) => true,
    };
    if !may_end {
        return Err(csrf_error().into());
    }
    let owner = Arc::clone(&state);
    let work = async move {
        let credentials: Vec<_> = ends.iter().filter_map(PresentedCredential::credential).collect();
        Ok(owner.service.sessions().log_out(&credentials).await?)
    };
    state.finish("log out", permit, work).await?;
    let response = Response::success();
    // A page of another origin, whose request carries no cookie, deletes none either.
    let is_own = head.is_own_origin(&state.config.public_url);
    Ok(if is_own { cookies::clear(response, &head) } else { response })
}

/// Whether the session of a cookie may be ended together with that of a bearer token. A valid bearer token is
/// enough: no page of another origin has one.
async fn may_end_with_bearer(
    state: &AppState,
    head: &Head,
    bearer: &PresentedCredential,
    cookie: &PresentedCredential,
) -> Result<bool, HttpError> {
    let Some(credential) = bearer.credential() else { return Ok(false) };
    match state.service.sessions().authenticate(credential, CallKind::Read).await {
        Ok(_session) => Ok(true),
        Err(crate::service::AuthenticateError::Required) => {
            may_end_session(state, head, cookie).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the cookie alone may end its session: with its CSRF token, or when it is no longer valid anyway.
async fn may_end_session(
    state: &AppState,
    head: &Head,
    presented: &PresentedCredential,
) -> Result<bool, HttpError> {
    let Some(credential) = presented.credential() else { return Ok(true) };
    match state.service.sessions().authenticate(credential, CallKind::Read).await {
        Ok(session) => Ok(has_csrf(state, head, &session)),
        Err(crate::service::AuthenticateError::Required) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
