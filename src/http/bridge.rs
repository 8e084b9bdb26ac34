//! From hyper's request to tide's and back. http-types parses no foreign byte: it gets a method we
//! know and a path that has been checked; the head travels beside it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tide::http::Url;

use crate::runtime::Stop;

use super::access::Access;
use super::answer::Answer;
use super::body::{AnswerBody, RequestBody};
use super::config::PublicUrl;
use super::connections::ConnectionPermit;
use super::edge;
use super::error::Failure;
use super::forwarded::Forwarded;
use super::head::{self, Head, Upgrade};
use super::io::{Answering, Phase};
use super::state::{App, RequestPermit};

/// What all requests of a connection share.
pub(super) struct Connection {
    pub(super) app: tide::Server<App>,
    pub(super) peer: IpAddr,
    /// Whether TLS of our own is spoken.
    pub(super) over_tls: bool,
    pub(super) phase: Arc<Phase>,
    pub(super) permit: Arc<ConnectionPermit>,
    pub(super) stop: Stop,
}

impl Connection {
    /// Answers one request. Never fails: what goes wrong is an answer.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Infallible> {
        let mut response = self.answer_to(request).await;
        if response.headers().contains_key(header::SET_COOKIE) {
            // Whatever it answers: a cache that kept it would hand a session to others.
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        }
        if self.over_tls {
            // A proxy that speaks TLS for us decides this itself.
            let year = HeaderValue::from_static("max-age=31536000");
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
        Ok(response)
    }

    async fn answer_to(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let mut answering = self.phase.begin();
        // hyper answers what a client has sent ahead one after the other without a pause. The connection is at
        // work by now, so that it is not closed as an idle one meanwhile.
        futures_lite::future::yield_now().await;
        let state = self.app.state();
        if state.config.request_logging {
            let (method, path) = (request.method(), request.uri().path());
            answering.tell(Access::new(method, path, self.peer.to_canonical(), &state.clock));
        }
        let request = match self.accept(request) {
            Ok(request) => {
                if let Some(access) = answering.access() {
                    access.client = request.head.client;
                }
                request
            }
            Err(answer) => return send(*answer, answering),
        };
        let (path, client) = (&request.head.path, request.head.client);
        let is_health = edge::is_health(path);
        let counted = if is_health { Ok(()) } else { self.permit.count_for(client) };
        if answering.has_yielded || counted.is_err() {
            return send(self.busy(&request.head).closing(), answering);
        }
        let permit = if is_health { None } else { state.admit(client) };
        if permit.is_none() && !is_health {
            return send(self.busy(&request.head), answering);
        }
        self.respond(request, permit, answering).await
    }

    fn busy(&self, head: &Head) -> Answer {
        let mut answer = Failure::busy().answer_for(&head.path);
        edge::decorate(&head.path, &head.headers, &mut answer.headers);
        answer
    }

    /// Checks the head; the error is the answer to a request that is not looked at further.
    fn accept(&self, mut request: Request<Incoming>) -> Result<Accepted, Box<Answer>> {
        let state = self.app.state();
        let on_upgrade = request
            .headers()
            .contains_key(header::UPGRADE)
            .then(|| hyper::upgrade::on(&mut request));
        let (parts, incoming) = request.into_parts();
        let config = &state.config;
        let (clock, phase) = (state.clock.clone(), Arc::clone(&self.phase));
        // Made first: whatever the answer is, the connection knows that a body was left unread.
        let stall = config.deadlines.body_stall;
        let body = RequestBody::new((incoming, clock), phase, stall, self.stop.clone());
        let told = Forwarded::of(self.peer, &parts.headers, &config.trusted_proxies);
        let host = host(&parts, &config.public_url, told.host)?;
        let head = Head {
            path: parts.uri.path().to_owned(),
            client: told.client,
            is_https: self.over_tls || told.is_https || config.public_url.is_https(),
            method: parts.method,
            headers: parts.headers,
            host,
            upgrade: self.upgrade(on_upgrade),
        };
        Ok(Accepted { head: Arc::new(head), body })
    }

    fn upgrade(&self, on_upgrade: Option<OnUpgrade>) -> Upgrade {
        Upgrade::new(on_upgrade, Arc::clone(&self.permit), self.stop.clone())
    }

    async fn respond(
        &self,
        request: Accepted,
        permit: Option<RequestPermit>,
        answering: Answering,
    ) -> Response<AnswerBody> {
        let Accepted { head, body } = request;
        let Some((method, url)) = method(&head.method).zip(url(&head)) else {
            let answer = Answer::failure(StatusCode::NOT_FOUND, "not found");
            return send(answer, answering);
        };
        let mut request = tide::http::Request::new(method, url);
        let len = body.len();
        request.set_body(tide::Body::from_reader(body, len));
        request.ext_mut().insert(Arc::clone(&head));
        request.ext_mut().insert(permit);
        match self.app.respond::<_, tide::Response>(request).await {
            Ok(response) => convert(response, answering),
            Err(error) => {
                let cause: &(dyn std::error::Error + Send + Sync) = error.as_ref();
                log::error!(error:err = *cause; "a request was not answered by its handler");
                send(Failure::internal().answer_for(&head.path), answering)
            }
        }
    }
}

/// The host a request names, after the checks that every head passes; the error is the answer to a
/// request that is not looked at further. A host that a trusted proxy `told` counts instead for what is
/// made of it (links, our own origin); answered is only who may name both.
pub(super) fn host(
    parts: &Parts,
    url: &PublicUrl,
    told: Option<String>,
) -> Result<String, Box<Answer>> {
    let path = parts.uri.path();
    let refuse = |mut answer: Answer| {
        edge::decorate(path, &parts.headers, &mut answer.headers);
        Box::new(answer)
    };
    let checked = head::check(&parts.method, &parts.uri, parts.version, &parts.headers);
    let host = checked.map_err(|refusal| {
        log::debug!(status = refusal.status.as_u16(); "refused a request head");
        let answer = Answer::failure(refusal.status, refusal.text);
        refuse(if refusal.closes { answer.closing() } else { answer })
    })?;
    let told = told.filter(|told| head::is_host(told)).map(|told| told.to_ascii_lowercase());
    // HTTP/1.0 without a host names nothing foreign.
    let is_foreign = |host: &str| !host.is_empty() && !url.accepts(host);
    if !edge::is_health(path) && (is_foreign(&host) || told.as_deref().is_some_and(is_foreign)) {
        let text = "this server does not know itself by that host name; \
             its operator can set webserver.url";
        return Err(refuse(Answer::failure(StatusCode::MISDIRECTED_REQUEST, text)));
    }
    Ok(told.unwrap_or(host))
}

struct Accepted {
    head: Arc<Head>,
    body: RequestBody,
}

/// The method in http-types' words; `head::check` lets no other through.
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

/// A URL with the request's path, for the router alone. Its host is not the request's.
fn url(head: &Head) -> Option<Url> {
    let mut url = Url::parse("http://chatto.invalid/").ok()?;
    url.set_path(&head.path);
    Some(url)
}

/// Turns an answer into hyper's response.
pub(super) fn send(answer: Answer, mut answering: Answering) -> Response<AnswerBody> {
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        answering.leave();
    }
    if let Some(access) = answering.access() {
        access.status = Some(answer.status);
    }
    let mut response = Response::new(AnswerBody::bytes(answer.body, answering));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    framing_is_hypers(response.headers_mut());
    response
}

fn convert(mut response: tide::Response, mut answering: Answering) -> Response<AnswerBody> {
    let inner: &mut tide::http::Response = response.as_mut();
    if let Some(answer) = inner.ext_mut().remove::<Answer>() {
        return send(answer, answering);
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
    if let Some(access) = answering.access() {
        access.status = Some(status);
    }
    let mut converted = Response::new(AnswerBody::stream(inner.take_body(), answering));
    *converted.status_mut() = status;
    *converted.headers_mut() = headers;
    framing_is_hypers(converted.headers_mut());
    converted
}

/// A body's framing follows from its size alone.
fn framing_is_hypers(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
}
