//! Log-in and log-out (contract 6.1).

use std::sync::Arc;

use hyper::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tide::Request;

use crate::service::{CallKind, LogIn, LoggedIn};

use super::super::answer::Answer;
use super::super::error::Failure;
use super::super::head::Head;
use super::super::state::{App, InWork, Shared};
use super::{Presented, cookies, has_csrf, json};

#[derive(Deserialize)]
struct LogInBody {
    identifier: Option<String>,
    /// An accepted other name of `identifier`.
    login: Option<String>,
    password: Option<String>,
}

/// `POST /auth/login`
pub(super) async fn login(request: Request<App>) -> tide::Result {
    let request = match json::read::<LogInBody>(request).await {
        Ok(request) => request,
        Err(answer) => return answer.into(),
    };
    let LogInBody { identifier, login, password } = request.body;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Some((identifier, password)) = given(identifier).or(given(login)).zip(given(password))
    else {
        let text = "Login and password are required";
        return Answer::failure(StatusCode::BAD_REQUEST, text).into();
    };
    let (state, address) = (Arc::clone(&request.state), request.head.client);
    let work = async move {
        let attempt = LogIn { identifier: &identifier, password: &password, address };
        Ok(Box::pin(state.service.sessions().log_in(attempt)).await?)
    };
    match request.state.finish("log in", request.permit, work).await {
        Ok(logged_in) => welcome(&request.state, &request.head, &logged_in).into(),
        Err(failure) => failure.plain_answer().into(),
    }
}

/// The answer of everything that ends with somebody logged in.
pub(super) fn welcome(state: &Shared, head: &Head, logged_in: &LoggedIn) -> Answer {
    let body = json!({
        "success": true,
        "user": { "id": logged_in.user.as_str(), "login": logged_in.login },
        "token": logged_in.token,
    });
    with_cookies(Answer::json(StatusCode::OK, &body), state, head, logged_in)
}

/// The same answer with both cookies of a new session. A page of another origin gets none: it would log this
/// browser in as somebody else.
pub(super) fn with_cookies(
    answer: Answer,
    state: &Shared,
    head: &Head,
    logged_in: &LoggedIn,
) -> Answer {
    if !head.is_own_origin(&state.config.public_url) {
        return answer;
    }
    let ttl = state.service.sessions().ttl();
    answer
        .with(header::SET_COOKIE, &cookies::session_line(head, &logged_in.cookie, ttl))
        .with(header::SET_COOKIE, &cookies::csrf_line(head, &logged_in.csrf, ttl))
}

/// `POST /auth/logout`: ends what is presented, bearer and cookie alike.
pub(super) async fn logout(request: Request<App>) -> tide::Result {
    let state = Arc::clone(request.state());
    let Some(head) = request.ext::<Arc<Head>>().map(Arc::clone) else {
        return Failure::internal().plain_answer().into();
    };
    let permit = InWork::of(&request);
    let presented = Presented::of(&head);
    let mut ends = vec![presented.clone()];
    let cookie = cookies::session(&head).map(|cookie| Presented::Cookie(cookie.to_owned()));
    match (&presented, cookie) {
        // A bearer that counts protects itself, and the cookie beside it goes too.
        (Presented::Bearer(_), Some(cookie)) => {
            match may_end_beside(&state, &head, &presented, &cookie).await {
                Ok(true) => ends.push(cookie),
                Ok(false) => return without_csrf(),
                Err(failure) => return failure.plain_answer().into(),
            }
        }
        (Presented::Cookie(_), _) => match protected(&state, &head, &presented).await {
            Ok(true) => {}
            Ok(false) => return without_csrf(),
            Err(failure) => return failure.plain_answer().into(),
        },
        _ => {}
    }
    let owner = Arc::clone(&state);
    let work = async move {
        let credentials: Vec<_> = ends.iter().filter_map(Presented::credential).collect();
        Ok(owner.service.sessions().log_out(&credentials).await?)
    };
    match state.finish("log out", permit, work).await {
        Ok(()) => {
            let answer = Answer::json(StatusCode::OK, &json!({ "success": true }));
            // A page of another origin, whose request carries no cookie, takes none away either.
            let is_own = head.is_own_origin(&state.config.public_url);
            if is_own { cookies::clear(answer, &head).into() } else { answer.into() }
        }
        Err(failure) => failure.plain_answer().into(),
    }
}

fn without_csrf() -> tide::Result {
    Answer::failure(StatusCode::FORBIDDEN, "CSRF token is missing or wrong").into()
}

/// Whether a cookie may end its session beside a bearer: one that counts is something that no page of another
/// origin has.
async fn may_end_beside(
    state: &Shared,
    head: &Head,
    bearer: &Presented,
    cookie: &Presented,
) -> Result<bool, Failure> {
    let Some(credential) = bearer.credential() else { return Ok(false) };
    match state.service.sessions().authenticate(credential, CallKind::Read).await {
        Ok(_session) => Ok(true),
        Err(crate::service::AuthenticateError::Required) => protected(state, head, cookie).await,
        Err(error) => Err(error.into()),
    }
}

/// Whether the cookie alone may end its session: with its CSRF token, or when it is dead anyway.
async fn protected(state: &Shared, head: &Head, presented: &Presented) -> Result<bool, Failure> {
    let Some(credential) = presented.credential() else { return Ok(true) };
    match state.service.sessions().authenticate(credential, CallKind::Read).await {
        Ok(session) => Ok(has_csrf(state, head, &session)),
        Err(crate::service::AuthenticateError::Required) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
