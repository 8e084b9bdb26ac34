//! Authentication: which credential of a request counts (contract 5.2), and the caller that handlers get.

pub(super) mod cookies;
mod join_links;
mod json;
mod login;
mod registration;
mod setup;
#[cfg(feature = "test-support")]
mod test_support;

use std::sync::Arc;

use hyper::header::{self, HeaderName};

use crate::contract::Code;
use crate::domain::text::IdempotencyKey;
use crate::present::Addresses;
use crate::service::{CallKind, Credential, Session, Tickets};

use super::error::HttpError;
use super::head::Head;
use super::response::plain;
use super::state::{App, AppState};

/// The routes of `/auth/*` that this server has.
pub(super) fn routes(app: &mut tide::Server<App>) {
    app.at("/auth/login").post(plain(login::login));
    app.at("/auth/logout").post(plain(login::logout));
    app.at("/auth/setup").post(plain(setup::redeem));
    app.at("/auth/setup/inspect").post(plain(setup::inspect));
    app.at("/auth/join-links").post(plain(join_links::create)).get(plain(join_links::list));
    app.at("/auth/join-links/:id").delete(plain(join_links::revoke));
    app.at("/auth/register").post(registration::register);
    app.at("/auth/forgot-password").post(registration::forgot_password);
    app.at("/invite/*").get(registration::invite);
    #[cfg(feature = "test-support")]
    test_support::routes(app);
}

/// The credential of a request, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PresentedCredential {
    /// `Authorization: Bearer`; takes precedence over a cookie.
    Bearer(String),
    /// The session cookie.
    Cookie(String),
    Nothing,
}

impl PresentedCredential {
    /// The credential in `head`, from whatever origin. An `Authorization` header with another scheme is ignored,
    /// and the cookie counts.
    pub(super) fn of(head: &Head) -> Self {
        let mut values = head.headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = values.next() {
            let text = value.to_str().unwrap_or_default();
            let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                // Two tokens count as none: nothing says which one is meant.
                let one = if values.next().is_none() { token.trim() } else { "" };
                return Self::Bearer(one.to_owned());
            }
        }
        match cookies::session(head) {
            Some(cookie) => Self::Cookie(cookie.to_owned()),
            None => Self::Nothing,
        }
    }

    /// As [`PresentedCredential::of`], but a cookie counts only from our own origin (contract 5.2).
    pub(super) fn of_own_origin(state: &AppState, head: &Head) -> Self {
        match Self::of(head) {
            Self::Cookie(_) if !head.is_own_origin(&state.config.public_url) => Self::Nothing,
            presented => presented,
        }
    }

    /// The credential in the form of the service.
    pub(super) fn credential(&self) -> Option<Credential<'_>> {
        match self {
            Self::Bearer(token) => Some(Credential::Bearer(token)),
            Self::Cookie(cookie) => Some(Credential::Cookie(cookie)),
            Self::Nothing => None,
        }
    }
}

/// The session behind a Connect call with this effect.
///
/// # Errors
/// `unauthenticated` without a valid credential; the error of the store when it is not available.
pub(super) async fn require(
    state: &AppState,
    presented: &PresentedCredential,
    effect: CallKind,
) -> Result<Session, HttpError> {
    let credential = presented.credential().ok_or_else(HttpError::unauthenticated)?;
    Ok(state.service.sessions().authenticate(credential, effect).await?)
}

/// The `Set-Cookie` line that extends the life of a cookie whose session was just extended.
pub(super) fn renewed_cookie(
    state: &AppState,
    head: &Head,
    presented: &PresentedCredential,
    session: Option<&Session>,
) -> Option<String> {
    match presented {
        PresentedCredential::Cookie(cookie) if session?.renewed => {
            Some(cookies::session_line(head, cookie, state.service.sessions().ttl()))
        }
        _ => None,
    }
}

/// The `Set-Cookie` lines of the response to a safe request. A browser with a valid session cookie gets a CSRF
/// cookie, unless it already has a valid one (contract 5.3).
pub(super) async fn cookies_of_safe_request(state: &AppState, head: &Head) -> Vec<String> {
    let Some(cookie) = cookies::session(head) else { return Vec::new() };
    let presented = PresentedCredential::Cookie(cookie.to_owned());
    let Some(credential) = presented.credential() else { return Vec::new() };
    let authenticated = state.service.sessions().authenticate(credential, CallKind::Read).await;
    let Ok(session) = authenticated else { return Vec::new() };
    let mut lines = Vec::new();
    lines.extend(renewed_cookie(state, head, &presented, Some(&session)));
    let known = cookies::csrf(head);
    if !known.is_some_and(|token| state.service.sessions().csrf_is_valid(&session, token)) {
        let token = state.service.sessions().csrf_token(&session);
        lines.push(cookies::csrf_line(head, &token, state.service.sessions().ttl()));
    }
    lines
}

/// The session for a plain route that changes something for a user. A cookie needs its CSRF token (contract 5.4);
/// an invalid cookie counts as none.
///
/// # Errors
/// `unauthenticated` without a valid credential, `permission_denied` without a CSRF token, or the error of the store.
pub(super) async fn require_with_csrf(state: &AppState, head: &Head) -> Result<Session, HttpError> {
    let presented = PresentedCredential::of(head);
    let credential = presented.credential().ok_or_else(HttpError::unauthenticated)?;
    let session = state.service.sessions().authenticate(credential, CallKind::Write).await?;
    if matches!(presented, PresentedCredential::Cookie(_)) && !has_csrf(state, head, &session) {
        return Err(csrf_error());
    }
    Ok(session)
}

/// The CSRF token of a cookie is missing or wrong.
fn csrf_error() -> HttpError {
    HttpError::new(Code::PermissionDenied, "CSRF token is missing or wrong")
}

/// Whether the request repeats the CSRF cookie of this session in its header.
pub(super) fn has_csrf(state: &AppState, head: &Head, session: &Session) -> bool {
    let given = head.header(&HeaderName::from_static("x-csrf-token"));
    let cookie = cookies::csrf(head);
    given.zip(cookie).is_some_and(|(given, cookie)| {
        given == cookie && state.service.sessions().csrf_is_valid(session, given)
    })
}

/// The caller of a method, and what belongs to the call besides its message.
pub(super) struct Caller {
    pub(super) state: App,
    pub(super) head: Arc<Head>,
    session: Option<Session>,
    /// Identifies repeats of the call.
    pub(super) idempotency_key: Option<IdempotencyKey>,
}

impl Caller {
    pub(super) fn new(
        state: App,
        head: Arc<Head>,
        session: Option<Session>,
        idempotency_key: Option<IdempotencyKey>,
    ) -> Self {
        Self { state, head, session, idempotency_key }
    }

    /// The viewer's session.
    ///
    /// # Errors
    /// `unauthenticated` when the method is public and has no session.
    pub(super) fn session(&self) -> Result<&Session, HttpError> {
        self.session.as_ref().ok_or_else(HttpError::unauthenticated)
    }

    /// What addresses in the response to this viewer are made of.
    ///
    /// # Errors
    /// As [`Self::session`].
    pub(super) fn addresses<'a>(&'a self, origin: &'a str) -> Result<Addresses<'a>, HttpError> {
        Ok(Addresses { origin, tickets: self.tickets()? })
    }

    /// What addresses of files in the response are made of.
    ///
    /// # Errors
    /// As [`Self::session`].
    pub(super) fn tickets(&self) -> Result<Tickets<'_>, HttpError> {
        Ok(self.state.service.assets().tickets(self.session()?.user))
    }

    /// The origin that URLs in the response start with.
    pub(super) fn origin(&self) -> String {
        self.head.origin(&self.state.config.public_url)
    }
}
