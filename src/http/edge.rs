//! What every response gets, whatever made it: CORS (contract 5.5), security headers, a JSON body for what
//! the router rejected, the log line.

use std::sync::Arc;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use tide::utils::async_trait;
use tide::{Middleware, Next, Request};

use super::auth;
use super::error::HttpError;
use super::head::Head;
use super::response::Response;
use super::state::App;
use super::{client_dir, pages};
use crate::contract::Code;

/// Paths that monitors request; they need no request permit.
pub(super) fn is_health(path: &str) -> bool {
    path == "/healthz" || path == "/readyz"
}

/// Whether an unknown path gets a JSON 404 and never a page (contract 1).
fn is_machine_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "api" | "auth" | "oauth" | "assets" | "webhooks")
}

/// The outermost middleware.
pub(super) struct Edge;

#[async_trait]
impl Middleware<App> for Edge {
    async fn handle(&self, request: Request<App>, next: Next<'_, App>) -> tide::Result {
        let state = Arc::clone(request.state());
        let head = match Head::of(&request) {
            Ok(head) => head,
            Err(error) => return error.plain_response().into(),
        };
        let mut response: tide::Response = if head.method == Method::OPTIONS {
            Response::empty(StatusCode::NO_CONTENT).into()
        } else {
            next.run(request).await
        };
        if response.ext::<Response>().is_none()
            && let Some(replacement) = router_response(&state, &head, response.status()).await
        {
            response = replacement;
        }
        if head.is_safe() && !is_health(&head.path) && !client_dir::is_shared(&head.path) {
            let lines = auth::cookies_of_safe_request(&state, &head).await;
            append_cookies(response.as_mut(), &lines);
        }
        finish(&head, response.as_mut());
        Ok(response)
    }
}

/// Adds the headers that every response carries.
fn finish(head: &Head, response: &mut tide::http::Response) {
    if let Some(carried) = response.ext_mut().get_mut::<Response>() {
        decorate(&head.path, &head.headers, &mut carried.headers);
        return;
    }
    let mut headers = HeaderMap::new();
    decorate(&head.path, &head.headers, &mut headers);
    for (name, value) in &headers {
        // Our own ASCII constants, which http-types accepts.
        if let Ok(value) = value.to_str()
            && response.header(name.as_str()).is_none()
        {
            response.insert_header(name.as_str(), value);
        }
    }
}

fn append_cookies(response: &mut tide::http::Response, lines: &[String]) {
    for line in lines {
        match response.ext_mut().get_mut::<Response>() {
            Some(carried) => *carried = carried.clone().with(header::SET_COOKIE, line),
            // The service makes ASCII cookies only.
            None => response.append_header("set-cookie", line.as_str()),
        }
    }
}

/// The response in our form when no route matched; `None` when a handler responded.
async fn router_response(
    state: &App,
    head: &Head,
    status: tide::StatusCode,
) -> Option<tide::Response> {
    match status {
        tide::StatusCode::NotFound => {}
        tide::StatusCode::MethodNotAllowed => {
            let response = Response::error(StatusCode::METHOD_NOT_ALLOWED, "wrong method");
            return Some(response.into());
        }
        tide::StatusCode::InternalServerError => {
            return Some(HttpError::internal().plain_response().into());
        }
        _ => return None,
    }
    let wants_page = matches!(head.method, Method::GET | Method::HEAD)
        && !is_health(&head.path)
        && (!is_machine_path(&head.path) || client_dir::is_page(&head.path));
    if !wants_page {
        return Some(HttpError::new(Code::NotFound, "not found").response_for(&head.path).into());
    }
    Some(match &state.client {
        Some(folder) if !pages::is_ours(&head.path) => client_dir::serve(state, folder, head).await,
        None if !pages::is_ours(&head.path) => pages::client(state, head).into(),
        _ => pages::not_found().into(),
    })
}

/// Adds the headers that every response carries. The request was for `path` with the headers `request`.
pub(super) fn decorate(path: &str, request: &HeaderMap, headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    if request.contains_key(header::ORIGIN) {
        // Any origin, but never with credentials: another origin must send a bearer token.
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, OPTIONS");
        set(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, \
             X-CSRF-Token, Idempotency-Key, Range, If-None-Match, If-Modified-Since",
        );
        set(header::ACCESS_CONTROL_MAX_AGE, "86400");
    }
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "strict-origin-when-cross-origin");
    if is_machine_path(path) || is_health(path) {
        set(header::CACHE_CONTROL, "no-store");
        set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    }
}
