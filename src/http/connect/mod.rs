//! Connect calls: `POST /api/connect/{package}.{Service}/{Method}` with the bare message as body.
//!
//! The contract prescribes the order of checks: authenticate, decode, value rules, then the service. One file per
//! service of the contract registers its methods; all other methods return `unimplemented`.

mod account;
mod admin_server;
mod assets;
mod directory;
mod discovery;
mod features;
mod gzip;
mod messages;
mod roles;
mod rooms;
mod server;
mod users;
mod viewer;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{self, HeaderName};
use hyper::{Method as Verb, StatusCode};
use tide::Request;

use crate::contract::{
    CallAccess, Code, DecodeError, EncodeError, Encoding, Method, Rpc, Validate, decode, encode,
};
use crate::domain::text::IdempotencyKey;
use crate::limits;
use crate::service::{CallKind, Session};

use super::auth::{self, Caller, PresentedCredential};
use super::body::{BodyPermit, BufferedBody, read_body};
use super::error::HttpError;
use super::head::{BodyCoding, Head};
use super::response::Response;
use super::state::{App, PausablePermit, RequestPermit};

type HandlerFuture = Pin<Box<dyn Future<Output = Result<Vec<u8>, HttpError>> + Send>>;
type Handler = Box<dyn Fn(Caller, Encoding, Bytes) -> HandlerFuture + Send + Sync>;

struct ServedMethod {
    /// [`CallKind::Read`]: the work is dropped when the client disconnects. [`CallKind::Write`]: once begun, it is
    /// finished whatever the client does.
    effect: CallKind,
    handler: Handler,
}

/// The methods that are served.
pub(super) struct MethodTable {
    entries: BTreeMap<Method, ServedMethod>,
}

impl MethodTable {
    /// All methods that this server implements.
    pub(super) fn new() -> Self {
        let mut table = Self { entries: BTreeMap::new() };
        discovery::register(&mut table);
        viewer::register(&mut table);
        account::register(&mut table);
        users::register(&mut table);
        roles::register(&mut table);
        server::register(&mut table);
        directory::register(&mut table);
        rooms::register(&mut table);
        messages::register(&mut table);
        assets::register(&mut table);
        features::register(&mut table);
        admin_server::register(&mut table);
        table
    }

    /// Whether a method reads or changes; one that is not served counts as a read.
    fn effect(&self, method: Method) -> CallKind {
        self.entries.get(&method).map_or(CallKind::Read, |entry| entry.effect)
    }

    /// Whether a method is served.
    pub(super) fn is_served(&self, method: Method) -> bool {
        self.entries.contains_key(&method)
    }

    /// Registers a method. The type names it: `table.add(GetViewer, CallKind::Read, handler)`.
    fn add<R, F, A>(&mut self, _method: R, effect: CallKind, handler: F)
    where
        R: Rpc,
        F: Fn(Caller, R::Request) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<R::Response, HttpError>> + Send + 'static,
        R::Request: Send,
        R::Response: Send,
    {
        let handler: Handler = Box::new(move |caller, encoding, body| {
            let handler = handler.clone();
            Box::pin(async move {
                let request: R::Request = decode(encoding, body).map_err(undecodable)?;
                request.validate().map_err(|broken| HttpError::invalid(broken.text(R::METHOD)))?;
                let response = handler(caller, request).await?;
                encode(&response, encoding).map_err(|error| unencodable(R::METHOD, &error))
            })
        });
        self.entries.insert(R::METHOD, ServedMethod { effect, handler });
    }
}

fn undecodable(error: DecodeError) -> HttpError {
    // The source may quote the body, so only the kind of error is sent.
    HttpError::invalid(error.to_string())
}

fn unencodable(method: Method, error: &EncodeError) -> HttpError {
    log::error!(method = method.path(), error:err = *error; "cannot encode a response");
    HttpError::internal()
}

/// The route of all calls.
pub(super) async fn route(request: Request<App>) -> tide::Result {
    respond(request).await.unwrap_or_else(HttpError::connect_response).into()
}

async fn respond(mut request: Request<App>) -> Result<Response, HttpError> {
    let state = Arc::clone(request.state());
    let began = state.clock.now();
    let head = Head::of(&request)?;
    let permit = PausablePermit::of(&request).ok_or_else(HttpError::internal)?;
    let method = Method::from_path(&head.path)
        .ok_or_else(|| HttpError::new(Code::NotFound, "no such method"))?;
    if head.method != Verb::POST {
        let error = HttpError::new(Code::Unimplemented, "calls are POST requests");
        let mut response = error.connect_response();
        response.status = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(response.with(header::ALLOW, "POST, OPTIONS"));
    }
    let content_type = head.header(&header::CONTENT_TYPE).unwrap_or_default();
    let Some(encoding) = Encoding::from_content_type(content_type) else {
        return Ok(Response::empty(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    };
    let presented = PresentedCredential::of_own_origin(&state, &head);
    let effect = state.methods.effect(method);
    let session = match method.access() {
        // The client has not authenticated, so nothing is decompressed for it.
        CallAccess::Public if head.body_coding() != BodyCoding::Identity => {
            let response = Response::empty(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            return Ok(response.with(header::ACCEPT_ENCODING, "identity"));
        }
        CallAccess::Public => None,
        CallAccess::User => {
            // A wrong header is reported only to those who may call.
            let deadline = timeout(&head).unwrap_or(limits::HTTP_CALL_TIMEOUT_MAX);
            let required = Box::pin(auth::require(&state, &presented, effect));
            Some(before(deadline, &state, required).await?)
        }
    };
    let cookie = auth::renewed_cookie(&state, &head, &presented, session.as_ref());
    let body = request.take_body();
    let (app, request_head) = (Arc::clone(&state), Arc::clone(&head));
    let call = Call { state: app, head: request_head, method, encoding, began };
    let response = match call.run(body, session, presented, permit).await {
        Ok(bytes) => {
            let response = Response::of(StatusCode::OK, encoding.content_type(), bytes);
            gzip::compress(response, &head, state.config.compression_min_bytes).await
        }
        Err(error) => error.connect_response(),
    };
    Ok(match cookie {
        Some(line) => response.with(header::SET_COOKIE, &line),
        None => response,
    })
}

/// A call whose headers are valid.
struct Call {
    state: App,
    head: Arc<Head>,
    method: Method,
    encoding: Encoding,
    /// The deadline counts from here.
    began: Instant,
}

impl Call {
    async fn run(
        self,
        body: tide::Body,
        session: Option<Session>,
        presented: PresentedCredential,
        permit: RequestPermit,
    ) -> Result<Vec<u8>, HttpError> {
        let Some(entry) = self.state.methods.entries.get(&self.method) else {
            return Err(HttpError::new(
                Code::Unimplemented,
                "this server does not implement the method",
            ));
        };
        let spent = self.state.clock.now().saturating_duration_since(self.began);
        let deadline = timeout(&self.head)?.saturating_sub(spent);
        let key = idempotency_key(&self.head)?;
        let response = async {
            let BufferedBody { bytes, was_awaited, permit: held } =
                self.read(body, &permit).await?;
            let session = match session {
                // The session may have ended while we waited for the body.
                Some(_) if was_awaited => {
                    Some(auth::require(&self.state, &presented, entry.effect).await?)
                }
                session => session,
            };
            let (state, head) = (Arc::clone(&self.state), Arc::clone(&self.head));
            let (service, effect) = (self.state.service.clone(), entry.effect);
            let caller = Caller::new(state, head, session, key);
            let work = (entry.handler)(caller, self.encoding, Bytes::from(bytes));
            let work = async move {
                let response = work.await;
                // Live events are queued before the call is answered (contract 4.5).
                if effect == CallKind::Write && response.is_ok() {
                    service.wait_until_delivered().await;
                }
                // The memory of the body is reserved as long as the work runs.
                drop(held);
                response
            };
            match entry.effect {
                CallKind::Read => work.await,
                CallKind::Write => self.state.finish("call", Some(permit), work).await,
            }
        };
        before(deadline, &self.state, response).await
    }

    async fn read(
        &self,
        body: tide::Body,
        permit: &RequestPermit,
    ) -> Result<BufferedBody, HttpError> {
        let max = self.method.size_class().max_bytes(self.state.config.upload_max_bytes);
        let whole = read_body(body, max, &self.state, permit).await?;
        match self.head.body_coding() {
            BodyCoding::Identity => Ok(whole),
            BodyCoding::Gzip => {
                let unpacked = BodyPermit::new(&self.state, permit.client);
                let was_awaited = whole.was_awaited;
                let expanded = gzip::expand(whole, max, unpacked).await?;
                Ok(BufferedBody { was_awaited, ..expanded })
            }
            BodyCoding::Unknown => {
                Err(HttpError::new(Code::Unimplemented, "only gzip and identity are supported"))
            }
        }
    }
}

/// Ends work with an error after this time.
async fn before<T>(
    deadline: Duration,
    state: &App,
    work: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    let done = state.clock.timeout(deadline, work).await;
    done.unwrap_or_else(|_elapsed| {
        Err(HttpError::new(Code::DeadlineExceeded, "the deadline has passed"))
    })
}

/// The time that the client allows for the call, but never more than our own limit.
fn timeout(head: &Head) -> Result<Duration, HttpError> {
    let name = HeaderName::from_static("connect-timeout-ms");
    let max = limits::HTTP_CALL_TIMEOUT_MAX;
    match head.header(&name) {
        None => Ok(max),
        // The Connect protocol allows at most ten digits.
        Some(text) if text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let requested = text.parse().map(Duration::from_millis).unwrap_or(max);
            Ok(requested.min(max))
        }
        Some(_) => Err(HttpError::invalid("connect-timeout-ms is not a number of milliseconds")),
    }
}

/// The key that makes a repeat of a call the same call.
fn idempotency_key(head: &Head) -> Result<Option<IdempotencyKey>, HttpError> {
    let name = HeaderName::from_static("idempotency-key");
    let mut values = head.headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // Two keys, or one that is not text, are invalid.
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    match IdempotencyKey::parse(text.unwrap_or_default()) {
        Ok(key) => Ok(Some(key)),
        Err(error) => Err(HttpError::invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_changes_match_the_names_of_the_methods() {
        let reads = ["Get", "BatchGet", "List", "Search"];
        for (method, entry) in MethodTable::new().entries {
            let named = reads.iter().any(|verb| method.name().starts_with(verb));
            // Typing is published, not stored.
            let is_read = named || method.name() == "UpdateTypingIndicator";
            let expected = if is_read { CallKind::Read } else { CallKind::Write };
            assert_eq!(entry.effect, expected, "{}", method.path());
            // The read barrier of a change is where its caller is authenticated.
            let is_public = method.access() == CallAccess::Public;
            assert!(!is_public || is_read, "{}: it would skip the read barrier", method.path());
        }
    }
}
