//! The embedded web client of `web`, and its pages below `/setup`.
//!
//! `/setup` and everything below it is ours whatever client is served: logging in for the first time must not
//! depend on another client's build.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header;
use tide::Request;

use crate::web::{self, Asset};

use super::client_dir;
use super::head::Head;
use super::response::Response;
use super::state::App;

/// The routes of the pages that are ours whatever client is served. All paths without a route belong to the
/// client: see [`client`].
pub(super) fn routes(app: &mut tide::Server<App>) {
    if let Some(page) = web::asset(web::SETUP) {
        app.at("/setup").get(move |request| serve(request, page));
    }
    for asset in web::assets().filter(|asset| is_ours(asset.path)) {
        app.at(asset.path).get(move |request| serve(request, asset));
    }
}

/// Whether this path never belongs to a web client.
pub(super) fn is_ours(path: &str) -> bool {
    path == "/setup" || path.starts_with("/setup/")
}

async fn serve(request: Request<App>, asset: &'static Asset) -> tide::Result {
    match Head::of(&request) {
        Ok(head) => file(&head, asset, "no-cache").into(),
        Err(error) => error.plain_response().into(),
    }
}

/// Responds to a GET or HEAD that matches no route: a file of the embedded client, otherwise its page.
pub(super) fn client(state: &App, head: &Head) -> Response {
    let path = head.path.as_str();
    if path == "/favicon" || path == "/apple-touch-icon" {
        let mark = web::assets().find(|asset| asset.path.ends_with(".svg") && asset.is_hashed());
        return client_dir::icon(state, path, mark.map_or("/", |asset| asset.path));
    }
    let (cache, is_strict) = client_dir::rule(path);
    match web::asset(path).filter(|asset| asset.path != web::PAGE) {
        Some(asset) => file(head, asset, cache),
        None if is_strict || path == "/manifest.webmanifest" => client_dir::missing(),
        None => page(state, head),
    }
}

/// The client's page, with the server's OpenGraph tags for link previews.
fn page(state: &App, head: &Head) -> Response {
    let Some(asset) = web::asset(web::PAGE) else { return not_found() };
    let html = String::from_utf8_lossy(asset.plain());
    let tags = || {
        client_dir::tags(&state.service.server().profile(), &head.origin(&state.config.public_url))
    };
    let html = client_dir::with_tags(&html, tags).unwrap_or_else(|| html.into_owned());
    let response = Response::of(StatusCode::OK, asset.content_type(), html);
    let policy = web::content_policy(state.config.files_origin.as_deref());
    let response = response.with(header::CONTENT_SECURITY_POLICY, &policy);
    response.with(header::CACHE_CONTROL, client_dir::NO_STORE)
}

fn file(head: &Head, asset: &Asset, cache: &str) -> Response {
    let (coding, bytes) = asset.encoded(&head.accepted_codings());
    let tag = format!("\"{}\"", asset.tag(coding));
    let response = if head.knows(&tag) {
        Response::empty(StatusCode::NOT_MODIFIED)
    } else {
        let response =
            Response::of(StatusCode::OK, asset.content_type(), Bytes::from_static(bytes));
        match coding {
            Some(coding) => response.with(header::CONTENT_ENCODING, coding.name()),
            None => response,
        }
    };
    let cache = if asset.is_hashed() { client_dir::IMMUTABLE } else { cache };
    with_policy(response)
        .with(header::CACHE_CONTROL, cache)
        .with(header::VARY, "Accept-Encoding")
        .with(header::ETAG, &tag)
}

/// The page for a path that does not exist.
pub(super) fn not_found() -> Response {
    let Some(asset) = web::asset(web::NOT_FOUND_PAGE) else { return client_dir::missing() };
    let body = Bytes::from_static(asset.plain());
    let response = Response::of(StatusCode::NOT_FOUND, asset.content_type(), body);
    with_policy(response).with(header::CACHE_CONTROL, "no-cache")
}

fn with_policy(response: Response) -> Response {
    response.with(header::CONTENT_SECURITY_POLICY, &web::content_policy(None))
}
