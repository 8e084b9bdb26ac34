//! Turns hyper's requests into tide's, and the responses back. http-types never parses a byte of the client's:
//! it gets a known method and a checked path, and the head travels beside them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, StatusCode};
use tide::http::Url;

use crate::domain::Authority;
use crate::runtime::Stop;

use super::access_log::AccessRecord;
use super::body::{RequestBody, ResponseBody};
use super::config::PublicUrl;
use super::connections::ConnectionPermit;
use super::edge;
use super::error::HttpError;
use super::forwarded::Forwarded;
use super::head::{self, Head, Upgrade};
use super::io::{Phase, ResponseGuard};
use super::response::Response;
use super::state::{App, RequestPermit};

/// What all requests of a connection share.
pub(super) struct Connection {
    pub(super) app: tide::Server<App>,
    pub(super) peer: IpAddr,
    /// Whether this server itself speaks TLS on the connection.
    pub(super) over_tls: bool,
    pub(super) phase: Arc<Phase>,
    pub(super) permit: Arc<ConnectionPermit>,
    pub(super) stop: Stop,
}

impl Connection {
    /// Responds to one request. Never fails: an error is a response too.
    pub(super) async fn respond(
        &self,
        request: Request<Incoming>,
    ) -> Result<hyper::Response<ResponseBody>, Infallible> {
        let mut response = self.response_to(request).await;
        if response.headers().contains_key(header::SET_COOKIE) {
            // Whatever the response is: a cache that stored it would hand the session to others.
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        }
        if self.over_tls {
            // A proxy that terminates TLS for us decides this itself.
            let year = HeaderValue::from_static("max-age=31536000");
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
        Ok(response)
    }

    async fn response_to(&self, request: Request<Incoming>) -> hyper::Response<ResponseBody> {
        let mut guard = self.phase.begin_request();
        // hyper handles pipelined requests one after the other without a pause, so yield here. The connection
        // already counts as busy, so it is not closed as idle meanwhile.
        futures_lite::future::yield_now().await;
        let state = self.app.state();
        if state.config.request_logging {
            let (method, path) = (request.method(), request.uri().path());
            guard.set_access_record(AccessRecord::new(
                method,
                path,
                self.peer.to_canonical(),
                &state.clock,
            ));
        }
        let request = match self.check(request) {
            Ok(request) => {
                if let Some(record) = guard.access_record() {
                    record.client = request.head.client;
                }
                request
            }
            Err(response) => return to_hyper(*response, guard),
        };
        let (path, client) = (&request.head.path, request.head.client);
        let is_health = edge::is_health(path);
        let counted = if is_health { Ok(()) } else { self.permit.count_for(client) };
        if guard.was_evicted || counted.is_err() {
            return to_hyper(self.busy(&request.head).closing(), guard);
        }
        let permit = if is_health { None } else { state.admit(client) };
        if permit.is_none() && !is_health {
            return to_hyper(self.busy(&request.head), guard);
        }
        self.run_app(request, permit, guard).await
    }

    fn busy(&self, head: &Head) -> Response {
        let mut response = HttpError::busy().response_for(&head.path);
        edge::decorate(&head.path, &head.headers, &mut response.headers);
        response
    }

    /// Checks the head. The error is the response to a request that is not processed further.
    fn check(&self, mut request: Request<Incoming>) -> Result<CheckedRequest, Box<Response>> {
        let state = self.app.state();
        let on_upgrade = request
            .headers()
            .contains_key(header::UPGRADE)
            .then(|| hyper::upgrade::on(&mut request));
        let (parts, incoming) = request.into_parts();
        let config = &state.config;
        let (clock, phase) = (state.clock.clone(), Arc::clone(&self.phase));
        // Created first: whatever the response is, the connection then knows that a body was left unread.
        let stall = config.deadlines.body_stall;
        let body = RequestBody::new(incoming, clock, phase, stall, self.stop.clone());
        let forwarded = Forwarded::of(self.peer, &parts.headers, &config.trusted_proxies);
        let host = host(&parts, &config.public_url, forwarded.host)?;
        let head = Head {
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            client: forwarded.client,
            is_https: self.over_tls || forwarded.is_https || config.public_url.is_https(),
            method: parts.method,
            headers: parts.headers,
            host,
            upgrade: self.upgrade(on_upgrade),
        };
        Ok(CheckedRequest { head: Arc::new(head), body })
    }

    fn upgrade(&self, on_upgrade: Option<OnUpgrade>) -> Upgrade {
        Upgrade::new(on_upgrade, Arc::clone(&self.permit), self.stop.clone())
    }

    async fn run_app(
        &self,
        request: CheckedRequest,
        permit: Option<RequestPermit>,
        guard: ResponseGuard,
    ) -> hyper::Response<ResponseBody> {
        let CheckedRequest { head, body } = request;
        let Some((method, url)) = method(&head.method).zip(url(&head)) else {
            let response = Response::error(StatusCode::NOT_FOUND, "not found");
            return to_hyper(response, guard);
        };
        let mut request = tide::http::Request::new(method, url);
        let len = body.len();
        request.set_body(tide::Body::from_reader(body, len));
        request.ext_mut().insert(Arc::clone(&head));
        request.ext_mut().insert(permit);
        match self.app.respond::<_, tide::Response>(request).await {
            Ok(response) => tide_to_hyper(response, guard),
            Err(error) => {
                let cause: &(dyn std::error::Error + Send + Sync) = error.as_ref();
                log::error!(error:err = *cause; "the handler of a request failed");
                to_hyper(HttpError::internal().response_for(&head.path), guard)
            }
        }
    }
}

/// The host that a request names, after the checks that every head must pass. The error is the response to a
/// request that is not processed further. A host that a trusted proxy `forwarded` takes precedence in links and
/// in comparisons of the origin; both hosts must be ours.
pub(super) fn host(
    parts: &Parts,
    url: &PublicUrl,
    forwarded: Option<String>,
) -> Result<String, Box<Response>> {
    let path = parts.uri.path();
    let decorated = |mut response: Response| {
        edge::decorate(path, &parts.headers, &mut response.headers);
        Box::new(response)
    };
    let checked = head::check(&parts.method, &parts.uri, parts.version, &parts.headers);
    let host = checked.map_err(|error| {
        log::debug!(status = error.status.as_u16(); "rejected a request head");
        let response = Response::error(error.status, error.text);
        decorated(if error.closes { response.closing() } else { response })
    })?;
    let forwarded = forwarded
        .filter(|host| Authority::parse(host).is_some())
        .map(|host| host.to_ascii_lowercase());
    // HTTP/1.0 may come without a host.
    let is_foreign = |host: &str| !host.is_empty() && !url.accepts(host);
    if !edge::is_health(path) && (is_foreign(&host) || forwarded.as_deref().is_some_and(is_foreign))
    {
        let text = "unrecognised host name; set webserver.url to the address that clients use";
        return Err(decorated(Response::error(StatusCode::MISDIRECTED_REQUEST, text)));
    }
    Ok(forwarded.unwrap_or(host))
}

struct CheckedRequest {
    head: Arc<Head>,
    body: RequestBody,
}

/// The method as http-types has it; `head::check` has rejected all others.
fn method(method: &Method) -> Option<tide::http::Method> {
    Some(match *method {
        Method::GET => tide::http::Method::Get,
        Method::HEAD => tide::http::Method::Head,
        Method::POST => tide::http::Method::Post,
        Method::PUT => tide::http::Method::Put,
        Method::PATCH => tide::http::Method::Patch,
        Method::DELETE => tide::http::Method::Delete,
        Method::OPTIONS => tide::http::Method::Options,
        _ => return None,
    })
}

/// A URL with the request's path, for the router only. Its host is not that of the request.
fn url(head: &Head) -> Option<Url> {
    let mut url = Url::parse("http://chatto.invalid/").ok()?;
    url.set_path(&head.path);
    Some(url)
}

/// Turns a response in memory into hyper's.
pub(super) fn to_hyper(
    response: Response,
    mut guard: ResponseGuard,
) -> hyper::Response<ResponseBody> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        guard.leave_http();
    }
    if let Some(record) = guard.access_record() {
        record.status = Some(response.status);
    }
    let mut converted = hyper::Response::new(ResponseBody::bytes(response.body, guard));
    *converted.status_mut() = response.status;
    *converted.headers_mut() = response.headers;
    remove_framing_headers(converted.headers_mut());
    converted
}

fn tide_to_hyper(
    mut response: tide::Response,
    mut guard: ResponseGuard,
) -> hyper::Response<ResponseBody> {
    let inner: &mut tide::http::Response = response.as_mut();
    if let Some(carried) = inner.ext_mut().remove::<Response>() {
        return to_hyper(carried, guard);
    }
    let mut headers = HeaderMap::new();
    for (name, values) in inner.iter() {
        let Ok(name) = HeaderName::from_bytes(name.as_str().as_bytes()) else { continue };
        for value in values {
            if let Ok(value) = HeaderValue::from_str(value.as_str()) {
                headers.append(name.clone(), value);
            }
        }
    }
    let status = StatusCode::from_u16(u16::from(inner.status()));
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(record) = guard.access_record() {
        record.status = Some(status);
    }
    let mut converted = hyper::Response::new(ResponseBody::stream(inner.take_body(), guard));
    *converted.status_mut() = status;
    *converted.headers_mut() = headers;
    remove_framing_headers(converted.headers_mut());
    converted
}

/// hyper derives the framing from the size of the body.
fn remove_framing_headers(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
}
