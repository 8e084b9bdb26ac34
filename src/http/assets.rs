//! `/assets/files/`: files of rooms, to whoever may read them (contract 10.3), and `/assets/server/`: images that
//! everybody may see (10.4).

use std::ops::Range;
use std::sync::Arc;

use futures_lite::{AsyncReadExt, future};
use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tide::Request;

use crate::contract::{Code, Encoding, encode};
use crate::limits;
use crate::present;
use crate::service::{CallKind, FileError, FileReader, OpenFile, Session, Variant};

use super::auth::{self, PresentedCredential};
use super::body::BodyError;
use super::error::HttpError;
use super::file_body::FileBody;
use super::head::Head;
use super::response::{Response, plain};
use super::state::{App, PausablePermit, RequestPermit};

/// What RFC 5987 lets stand in a value without encoding: its `attr-char`.
const ATTR_CHAR: AsciiSet = NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The routes of files.
pub(super) fn routes(app: &mut tide::Server<App>) {
    app.at("/assets/files/:id").get(original);
    app.at("/assets/files/:id/image/:size/:fit").get(variant);
    app.at("/assets/server/:key").get(public_image);
    app.at("/assets/server/:key/image/:size/:fit").get(icon);
    app.at("/assets/uploads/:id").put(plain(upload));
}

/// The bytes that a request wants of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    Unsatisfiable,
}

async fn original(request: Request<App>) -> tide::Result {
    respond(&request, None).await
}

/// A variant of an image; the file itself if none can be made of it, as the contract allows (10.3).
async fn variant(request: Request<App>) -> tide::Result {
    match requested_variant(&request) {
        Some(variant) => respond(&request, Some(variant)).await,
        None => HttpError::new(Code::NotFound, "not found").plain_response().into(),
    }
}

fn requested_variant(request: &Request<App>) -> Option<Variant> {
    Variant::parse(request.param("size").ok()?, request.param("fit").ok()?)
}

async fn public_image(request: Request<App>) -> tide::Result {
    let state = Arc::clone(request.state());
    let head = match Head::of(&request) {
        Ok(head) => head,
        Err(error) => return error.plain_response().into(),
    };
    match state.service.assets().open_public(request.param("key").unwrap_or_default()).await {
        Ok(open) => send(&state, &head, open).await,
        Err(error) => HttpError::from(error).bare_response().into(),
    }
}

/// The server's logo as an icon.
async fn icon(request: Request<App>) -> tide::Result {
    let state = Arc::clone(request.state());
    let head = match Head::of(&request) {
        Ok(head) => head,
        Err(error) => return error.plain_response().into(),
    };
    let Some(variant) = requested_variant(&request) else {
        return HttpError::new(Code::NotFound, "not found").bare_response().into();
    };
    let key = request.param("key").unwrap_or_default();
    match Box::pin(state.service.server_images().icon(key, variant)).await {
        Ok(open) => send(&state, &head, open).await,
        Err(error) => HttpError::from(error).bare_response().into(),
    }
}

async fn respond(request: &Request<App>, variant: Option<Variant>) -> tide::Result {
    let state = Arc::clone(request.state());
    let head = match Head::of(request) {
        Ok(head) => head,
        Err(error) => return error.plain_response().into(),
    };
    let id = request.param("id").unwrap_or_default();
    match open(&state, &head, id, variant).await {
        Ok(open) => match Box::pin(redirect(&state, &head, &open)).await {
            Ok(Some(redirect)) => redirect.into(),
            Ok(None) => send(&state, &head, open).await,
            Err(error) => error.bare_response().into(),
        },
        // Whoever has no access learns nothing more than the status (contract 10.3).
        Err(error) => error.bare_response().into(),
    }
}

/// Takes a whole file, after CreateUpload; the response is that of CompleteUpload in JSON.
async fn upload(mut request: Request<App>) -> Result<Response, Response> {
    let state = Arc::clone(request.state());
    let head = Head::of(&request)?;
    let permit = PausablePermit::of(&request);
    let body = request.take_body();
    let id = request.param("id").unwrap_or_default().to_owned();
    Box::pin(receive(&state, &head, &id, body, permit)).await
}

async fn receive(
    state: &App,
    head: &Head,
    id: &str,
    mut body: tide::Body,
    permit: Option<RequestPermit>,
) -> Result<Response, Response> {
    let session = auth::require_with_csrf(state, head).await?;
    // A slow sender must not hold the permit of a request for hours, nor an upload that waits for memory.
    if let Some(permit) = &permit {
        permit.pause();
    }
    let deadlines = state.config.deadlines;
    let begun = async {
        let of_user = state.user_uploads.wait_for(session.user, 1).await;
        let slot = (of_user, state.uploads.wait_for(head.client.into(), 1).await);
        // There it may wait too, for memory.
        (slot, state.service.uploads().stream(&session, id).await)
    };
    let begun = state.clock.timeout(deadlines.upload_wait, Box::pin(begun)).await;
    let (slot, stream) = begun.map_err(|_elapsed| HttpError::busy())?;
    let mut stream = stream.map_err(HttpError::from)?;
    let mut chunk = vec![0; stream.chunk_bytes()];
    let share = limits::UPLOAD_CHUNK_MAX_BYTES.checked_div(chunk.len()).unwrap_or(1);
    let deadline = deadlines.upload_chunk / u32::try_from(share).unwrap_or(1);
    loop {
        let filled =
            future::or(state.clock.timeout(deadline, fill(&mut body, &mut chunk)), async {
                match stream.drive().await {}
            });
        let filled = filled.await.map_err(|_elapsed| BodyError::TooSlow)??;
        let bytes = chunk.get(..filled).unwrap_or_default();
        if !bytes.is_empty() {
            Box::pin(stream.push(bytes)).await.map_err(HttpError::from)?;
        }
        if filled < chunk.len() {
            break;
        }
    }
    drop(chunk);
    if let Some(permit) = &permit {
        permit.resume().map_err(|_| HttpError::busy())?;
    }
    // The session may have ended while the body arrived.
    let session = auth::require_with_csrf(state, head).await?;
    let user = session.user;
    let (file, service) = (stream.end(), state.service.clone());
    let completed = async move {
        let completed = Box::pin(file.complete(service.uploads(), &session)).await;
        // What is left of the file in memory leaves it only then.
        drop(slot);
        Ok(completed?)
    };
    let (upload, file) = state.finish("upload", permit, completed).await?;
    let tickets = state.service.assets().tickets(user);
    let response = present::completed(tickets, &upload, file);
    let body = encode(&response, Encoding::Json).map_err(|error| {
        log::error!(error:err = error; "the response of an upload cannot be encoded");
        HttpError::internal()
    })?;
    Ok(Response::of(StatusCode::OK, Encoding::Json.content_type(), body))
}

/// Fills the buffer; less than all of it only at the end of the body.
async fn fill(body: &mut tide::Body, buffer: &mut [u8]) -> Result<usize, BodyError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = body.read(rest).await?;
        if read == 0 {
            break;
        }
        filled = filled.saturating_add(read);
    }
    Ok(filled)
}

/// What the address shows, if its ticket, else the credential of the request, gives access to it.
async fn open(
    state: &App,
    head: &Head,
    id: &str,
    variant: Option<Variant>,
) -> Result<OpenFile, HttpError> {
    let open = open_file(state, head, id, variant).await?;
    Ok(match variant {
        Some(variant) => Box::pin(state.service.variants().show(open, variant)).await?,
        None => open,
    })
}

async fn open_file(
    state: &App,
    head: &Head,
    id: &str,
    variant: Option<Variant>,
) -> Result<OpenFile, HttpError> {
    let assets = state.service.assets();
    if let Some(ticket) = head.parameter("access") {
        match assets.open(FileReader::Ticket(ticket), id, variant).await {
            Err(FileError::Ticket) => {}
            opened => return Ok(opened?),
        }
    }
    let session = session(state, head).await?;
    Ok(assets.open(FileReader::Session(&session), id, variant).await?)
}

async fn session(state: &App, head: &Head) -> Result<Session, HttpError> {
    let presented = PresentedCredential::of_own_origin(state, head);
    auth::require(state, &presented, CallKind::Read).await
}

/// The redirect to S3, if that is where the client is to fetch the file. It is valid for a GET only.
async fn redirect(
    state: &App,
    head: &Head,
    open: &OpenFile,
) -> Result<Option<Response>, HttpError> {
    if head.method != Method::GET || head.knows(&format!("\"{}\"", open.tag())) {
        return Ok(None);
    }
    let disposition = disposition(open.is_inline(), &open.file.name);
    let url = state.service.assets().redirect(open, &disposition).await?;
    Ok(url.map(|url| {
        let response = Response::empty(StatusCode::TEMPORARY_REDIRECT);
        response.with(header::LOCATION, &url).with(header::CACHE_CONTROL, "no-store")
    }))
}

/// The response with a file or a part of it.
async fn send(state: &App, head: &Head, open: OpenFile) -> tide::Result {
    let (size, tag) = (open.size(), format!("\"{}\"", open.tag()));
    let cache = match (open.is_public(), open.is_substitute()) {
        (true, false) => "public, max-age=31536000, immutable",
        (true, true) => "public, no-cache",
        (false, _) => "private, no-cache",
    };
    let common = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, cache.to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    if head.knows(&tag) {
        return with_all(Response::empty(StatusCode::NOT_MODIFIED), &common).into();
    }
    let (status, range) = match wanted(head, size, &tag) {
        Wanted::Whole => (tide::StatusCode::Ok, 0..size),
        Wanted::Part(range) => (tide::StatusCode::PartialContent, range),
        Wanted::Unsatisfiable => {
            let response = Response::empty(StatusCode::RANGE_NOT_SATISFIABLE);
            let response = response.with(header::CONTENT_RANGE, &format!("bytes */{size}"));
            return with_all(response, &common).into();
        }
    };
    let length = range.end.saturating_sub(range.start);
    let mut response = tide::Response::new(status);
    for (name, value) in &common {
        response.insert_header(name.as_str(), value.as_str());
    }
    if status == tide::StatusCode::PartialContent {
        let last = range.end.saturating_sub(1);
        let value = format!("bytes {}-{last}/{size}", range.start);
        response.insert_header(header::CONTENT_RANGE.as_str(), value);
    }
    let disposition = disposition(open.is_inline(), &open.name());
    response.insert_header(header::CONTENT_DISPOSITION.as_str(), disposition);
    if open.is_active() {
        response
            .insert_header(header::CONTENT_SECURITY_POLICY.as_str(), "sandbox; default-src 'none'");
    }
    let content_type = open.content_type();
    let body = match Box::pin(body(state, head, open, range)).await {
        Ok(body) => body,
        Err(error) => return HttpError::from(error).bare_response().into(),
    };
    response.set_body(tide::Body::from_reader(body, usize::try_from(length).ok()));
    // After the body, which would set its own.
    response.insert_header(header::CONTENT_TYPE.as_str(), content_type);
    Ok(response)
}

/// The body of the response. A file whose first bytes cannot be read is an error; once the head is sent, only the
/// connection can be cut. The response to HEAD reads nothing.
async fn body(
    state: &App,
    head: &Head,
    open: OpenFile,
    range: Range<u64>,
) -> Result<FileBody, FileError> {
    let reader = state.service.assets().read(open, range)?;
    if head.method == Method::HEAD {
        return Ok(FileBody::new(reader));
    }
    Ok(FileBody::begin(reader).await?)
}

fn with_all(response: Response, headers: &[(HeaderName, String)]) -> Response {
    headers.iter().fold(response, |response, (name, value)| response.with(name.clone(), value))
}

/// One satisfiable range is served; several are answered with the whole file, as RFC 9110 (14.2) allows, and so is
/// what is no range.
fn wanted(head: &Head, size: u64, tag: &str) -> Wanted {
    let Some(range) = head.header(&header::RANGE) else { return Wanted::Whole };
    let condition = head.headers.get(header::IF_RANGE);
    if condition.is_some_and(|condition| condition.as_bytes() != tag.as_bytes()) {
        return Wanted::Whole;
    }
    let Some((unit, set)) = range.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::Whole;
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean a number beyond every file.
        true if !text.is_empty() => Some(text.parse().unwrap_or(u64::MAX)),
        _ => None,
    };
    let range = match (number(first.trim()), last.trim()) {
        (Some(first), "") => first..size,
        (Some(first), last) => match number(last) {
            Some(last) if last >= first => first..last.saturating_add(1).min(size),
            _ => return Wanted::Whole,
        },
        (None, last) => match number(last).filter(|_| first.trim().is_empty()) {
            Some(0) => size..size,
            Some(count) => size.saturating_sub(count)..size,
            None => return Wanted::Whole,
        },
    };
    if range.start < size { Wanted::Part(range) } else { Wanted::Unsatisfiable }
}

/// `Content-Disposition` with the name in both forms of RFC 6266.
fn disposition(is_inline: bool, name: &str) -> String {
    let kind = if is_inline { "inline" } else { "attachment" };
    let plain =
        |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%') { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    let encoded = utf8_percent_encode(name, &ATTR_CHAR);
    format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}
