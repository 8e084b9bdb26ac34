//! Routes of builds with the feature `test-support` (contract 11): accounts, sessions and addresses on demand, for
//! tests of clients. They need no credential and no CSRF token; no other build contains this file.
//!
//! A missing field or an invalid address is 400, an error of the service 500, and what this server cannot do yet
//! 501, each with `{"error"}`.

use std::fmt::Display;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tide::Request;

use crate::domain::UserId;
use crate::domain::text::Email;
use crate::service::{AccountView, CallKind, Credential, LoggedIn, NewUser, Service};

use super::super::error::HttpError;
use super::super::response::{Response, plain};
use super::super::state::App;
use super::json::{self, JsonRequest};
use super::login::with_cookies;

/// What needs mail, OAuth, external identities or LiveKit.
const NOT_BUILT: [&str; 6] = [
    "/auth/test/create-registration-code",
    "/auth/test/create-registration-token",
    "/auth/test/external-identity-flow",
    "/auth/test/oauth-authorize",
    "/webhooks/test/call-join",
    "/webhooks/test/call-leave",
];

/// The routes that only this build has.
pub(super) fn routes(app: &mut tide::Server<App>) {
    app.at("/auth/test/create-user").post(plain(create_user));
    app.at("/auth/test/create-user-session").post(plain(create_user_session));
    app.at("/auth/test/verify-email").post(plain(verify_email));
    app.at("/auth/test/oauth-callback").post(plain(oauth_callback));
    app.at("/auth/test/last-email").get(not_built);
    app.at("/auth/test/emails").delete(delete_mail);
    for path in NOT_BUILT {
        app.at(path).post(not_built);
    }
}

async fn not_built(_request: Request<App>) -> tide::Result {
    let text = "this server cannot do that yet";
    Response::error(StatusCode::NOT_IMPLEMENTED, text).into()
}

/// `DELETE /auth/test/emails`: nothing sends mail, so there is nothing to delete.
async fn delete_mail(_request: Request<App>) -> tide::Result {
    Response::success().into()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserBody {
    login: Option<String>,
    password: Option<String>,
    display_name: Option<String>,
    email: Option<String>,
    join_default_rooms: Option<bool>,
}

impl UserBody {
    async fn create(
        &self,
        service: &Service,
        email: Option<&str>,
    ) -> Result<AccountView, TestRouteError> {
        let new = NewUser {
            login: required(self.login.as_deref(), "login")?,
            display_name: self.display_name.as_deref(),
            email,
            role: None,
            password: required(self.password.as_deref(), "password")?,
        };
        service.accounts().create(new).await.map_err(internal_error)
    }
}

/// `POST /auth/test/create-user`
async fn create_user(request: Request<App>) -> Result<Response, Response> {
    run(request, async |state: App, body: UserBody| {
        let made = body.create(&state.service, None).await?;
        Ok((Response::json(StatusCode::OK, &user(&made)), None))
    })
    .await
}

/// `POST /auth/test/create-user-session`
async fn create_user_session(request: Request<App>) -> Result<Response, Response> {
    run(request, async |state: App, body: UserBody| {
        let email = address(body.email.as_deref())?;
        let made = body.create(&state.service, Some(email.as_str())).await?;
        let logged_in = log_in(&state.service, &made.user.id).await?;
        if body.join_default_rooms.unwrap_or(true) {
            // As the user, with a session like that of any call.
            let cookie = Credential::Cookie(&logged_in.cookie);
            let session = state.service.sessions().authenticate(cookie, CallKind::Write).await;
            let session = session.map_err(internal_error)?;
            state
                .service
                .test_support()
                .join_default_rooms(&session)
                .await
                .map_err(internal_error)?;
        }
        let body = json!({ "success": true, "user": user(&made) });
        Ok((Response::json(StatusCode::OK, &body), Some(logged_in)))
    })
    .await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddressBody {
    user_id: Option<String>,
    email: Option<String>,
}

/// `POST /auth/test/verify-email`
async fn verify_email(request: Request<App>) -> Result<Response, Response> {
    run(request, async |state: App, body: AddressBody| {
        let user = required(body.user_id.as_deref(), "userId")?;
        let email = address(body.email.as_deref())?;
        state
            .service
            .test_support()
            .add_verified_email(user, &email)
            .await
            .map_err(internal_error)?;
        Ok((Response::success(), None))
    })
    .await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderBody {
    email: Option<String>,
    display_name: Option<String>,
}

/// `POST /auth/test/oauth-callback`
async fn oauth_callback(request: Request<App>) -> Result<Response, Response> {
    run(request, async |state: App, body: ProviderBody| {
        let email = address(body.email.as_deref())?;
        let found =
            state.service.test_support().provider_user(&email, body.display_name.as_deref());
        let found = found.await.map_err(internal_error)?;
        let logged_in = log_in(&state.service, &found.id).await?;
        let body = json!({
            "success": true,
            "isNewUser": found.is_new,
            "user": { "id": found.id.as_str(), "login": found.login },
        });
        Ok((Response::json(StatusCode::OK, &body), Some(logged_in)))
    })
    .await
}

/// Reads the body, runs the work to its end even when the client disconnects, and sets the cookies of a new
/// session.
async fn run<T, F>(
    request: Request<App>,
    work: impl FnOnce(App, T) -> F,
) -> Result<Response, Response>
where
    T: serde::de::DeserializeOwned,
    F: Future<Output = Result<(Response, Option<LoggedIn>), TestRouteError>> + Send + 'static,
{
    let JsonRequest { state, head, permit, body } = json::read::<T>(request).await?;
    let work = work(Arc::clone(&state), body);
    let work = async move { Ok::<_, HttpError>(work.await) };
    match state.finish("test support", permit, work).await? {
        Ok((response, Some(logged_in))) => Ok(with_cookies(response, &state, &head, &logged_in)),
        Ok((response, None)) => Ok(response),
        Err(TestRouteError(status, text)) => Err(Response::error(status, &text)),
    }
}

async fn log_in(service: &Service, id: &UserId) -> Result<LoggedIn, TestRouteError> {
    service.test_support().start_test_session(id).await.map_err(internal_error)
}

fn user(made: &AccountView) -> serde_json::Value {
    let user = &made.user;
    json!({ "id": user.id.as_str(), "login": user.login, "displayName": user.display_name })
}

/// Status and text of an error response.
struct TestRouteError(StatusCode, String);

fn required<'a>(text: Option<&'a str>, name: &str) -> Result<&'a str, TestRouteError> {
    let missing = || TestRouteError(StatusCode::BAD_REQUEST, format!("{name} is missing"));
    text.filter(|text| !text.is_empty()).ok_or_else(missing)
}

fn address(text: Option<&str>) -> Result<Email, TestRouteError> {
    let bad = |error| TestRouteError(StatusCode::BAD_REQUEST, format!("email: {error}"));
    Email::parse(required(text, "email")?).map_err(bad)
}

/// The response names the cause, for the test that reads it.
fn internal_error(error: impl Display) -> TestRouteError {
    TestRouteError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
