//! The web client in `webserver.client_dir` (contract 9): which file a path gets, and with which headers.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderName};
use serde_json::{Value, json};

use crate::limits::{self, FAVICON_SIDE, MANIFEST_ICON_SIDES, TOUCH_ICON_SIDE};
use crate::runtime::blocking;
use crate::service::ServerView;
use crate::web::{self, Coding, FALLBACK, Folder, OpenedFile};

use super::client_file::{FileBody, read};
use super::error::HttpError;
use super::head::Head;
use super::response::Response;
use super::state::App;

/// The policy for pages of the original client, as wide as it needs: inline scripts and styles, any http(s) and
/// ws(s) connection, images and media of other origins, embedded videos.
const CONTENT_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; \
    style-src 'self' 'unsafe-inline'; connect-src 'self' http: https: ws: wss:; \
    img-src 'self' http: https: data: blob:; media-src 'self' http: https: blob:; \
    font-src 'self' data:; worker-src 'self' blob:; \
    frame-src https://www.youtube-nocookie.com; object-src 'none'; base-uri 'self'; \
    frame-ancestors 'none'";

/// The text of the comment in the fallback page that the OpenGraph tags replace.
const PLACEHOLDER: &str = "OG_META_PLACEHOLDER";

pub(super) const IMMUTABLE: &str = "public, max-age=31536000, immutable";
pub(super) const NO_STORE: &str = "no-store";

/// Whether a path below a prefix of the API is nevertheless a page of the client.
pub(super) fn is_page(path: &str) -> bool {
    path == "/oauth/consent"
}

/// Whether shared caches may store the response: it must not carry a cookie.
pub(super) fn is_shared(path: &str) -> bool {
    web::is_hashed(path)
}

/// The `Cache-Control` of a file, and whether its absence is a 404 instead of the client's page.
pub(super) fn rule(path: &str) -> (&'static str, bool) {
    match path {
        _ if is_shared(path) => (IMMUTABLE, true),
        "/service-worker.js" => ("no-cache, must-revalidate", true),
        "/_app/version.json" => (NO_STORE, true),
        _ => (NO_STORE, false),
    }
}

/// Responds to a GET or HEAD that matches no route of ours.
pub(super) async fn serve(state: &App, folder: &Folder, head: &Head) -> tide::Response {
    let path = head.path.as_str();
    match path {
        "/favicon" => return icon(state, path, "/icons/favicon.png").into(),
        "/apple-touch-icon" => return icon(state, path, "/icons/apple-touch-icon.png").into(),
        "/manifest.webmanifest" => return manifest(state, folder).await.into(),
        _ => {}
    }
    let (cache, is_strict) = rule(path);
    let codings = head.accepted_codings();
    match find(folder, path, codings.clone()).await {
        Ok(Some((found, start))) => file(head, found, start, cache),
        Ok(None) if is_strict => missing().into(),
        Ok(None) => page(state, folder, head, codings).await,
        Err(failed) => failed.into(),
    }
}

pub(super) fn missing() -> Response {
    Response::error(StatusCode::NOT_FOUND, "not found").with(header::CACHE_CONTROL, NO_STORE)
}

/// Redirects to the server's logo in the size of the icon at `path`, or to the icon of the client at `built`.
pub(super) fn icon(state: &App, path: &str, built: &str) -> Response {
    let side = if path == "/apple-touch-icon" { TOUCH_ICON_SIDE } else { FAVICON_SIDE };
    let logo = state.service.server().profile().logo_key.map(|key| icon_path(&key, side));
    Response::empty(StatusCode::FOUND)
        .with(header::LOCATION, logo.as_deref().unwrap_or(built))
        .with(header::CACHE_CONTROL, "no-cache")
}

/// Relative, as all our redirects are: the browser may use another host name.
fn logo_path(key: &str) -> String {
    format!("/assets/server/{key}")
}

/// The logo as an icon.
fn icon_path(key: &str, side: u32) -> String {
    format!("{}/image/{side}x{side}/cover", logo_path(key))
}

/// The manifest of the client with the server's own name and logo.
async fn manifest(state: &App, folder: &Folder) -> Response {
    let found = match find(folder, "/manifest.webmanifest", Vec::new()).await {
        Ok(Some(found)) => found,
        Ok(None) => return missing(),
        Err(failed) => return failed,
    };
    let bytes = match whole(found).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) | Err(_) => return unreadable("/manifest.webmanifest", "it is too large"),
    };
    let body = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(mut manifest)) => {
            let server = state.service.server().profile();
            manifest.insert("name".to_owned(), json!(server.name));
            manifest.insert("short_name".to_owned(), json!(server.name));
            if let Some(key) = server.logo_key {
                let icons = MANIFEST_ICON_SIDES.map(|side| {
                    json!({ "src": icon_path(&key, side), "sizes": format!("{side}x{side}") })
                });
                manifest.insert("icons".to_owned(), json!(icons));
            }
            Value::Object(manifest).to_string().into()
        }
        Ok(_) | Err(_) => {
            log::warn!("manifest.webmanifest in webserver.client_dir is not a JSON object");
            Bytes::from(bytes)
        }
    };
    Response::of(StatusCode::OK, "application/manifest+json", body)
        .with(header::CACHE_CONTROL, "no-cache")
}

/// The page for every path that the client handles itself.
async fn page(state: &App, folder: &Folder, head: &Head, codings: Vec<Coding>) -> tide::Response {
    let plain = match find(folder, FALLBACK, Vec::new()).await {
        Ok(Some(found)) => found,
        Ok(None) => return unreadable(FALLBACK, "it was removed").into(),
        Err(failed) => return failed.into(),
    };
    if let Ok(Some(bytes)) = whole(plain).await
        && let Ok(html) = std::str::from_utf8(&bytes)
        && let Some(html) = with_tags(html, || {
            tags(&state.service.server().profile(), &head.origin(&state.config.public_url))
        })
    {
        let page = Response::of(StatusCode::OK, "text/html; charset=utf-8", html);
        return html_headers(page.with(header::CACHE_CONTROL, NO_STORE)).into();
    }
    match find(folder, FALLBACK, codings).await {
        Ok(Some((found, start))) => file(head, found, start, NO_STORE),
        Ok(None) => unreadable(FALLBACK, "it was removed").into(),
        Err(failed) => failed.into(),
    }
}

fn html_headers(response: Response) -> Response {
    response.with(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY)
}

/// A file and its first chunk; the whole file when it is small.
type Found = (OpenedFile, Vec<u8>);

/// Opens a file and reads its first chunk. The error is the response.
async fn find(
    folder: &Folder,
    path: &str,
    codings: Vec<Coding>,
) -> Result<Option<Found>, Response> {
    let (folder, name) = (folder.clone(), path.to_owned());
    let found = blocking(move || {
        let Some(mut found) = folder.find(&name, &codings)? else { return Ok(None) };
        if found.len > u64::try_from(limits::CLIENT_FILE_CHUNK_BYTES).unwrap_or(u64::MAX) {
            return Ok(Some((found, Vec::new())));
        }
        let (file, start) = read(found.file, found.len);
        found.file = file;
        start.map(|start| Some((found, start)))
    });
    found.await.map_err(|error: std::io::Error| unreadable(path, &error.to_string()))
}

fn unreadable(name: &str, reason: &str) -> Response {
    log::error!(
        file = name, reason = reason;
        "cannot read a file of the web client; check webserver.client_dir"
    );
    HttpError::internal().plain_response()
}

/// The whole content of a file that is to be modified; `None` when it is too large for that.
async fn whole((found, start): Found) -> std::io::Result<Option<Vec<u8>>> {
    if u64::try_from(start.len()).is_ok_and(|len| len == found.len) {
        return Ok(Some(start));
    }
    if found.len > u64::try_from(limits::CLIENT_PAGE_MAX_BYTES).unwrap_or(u64::MAX) {
        return Ok(None);
    }
    blocking(move || read(found.file, found.len).1).await.map(Some)
}

/// The response with a file.
fn file(head: &Head, found: OpenedFile, start: Vec<u8>, cache: &'static str) -> tide::Response {
    let tag = format!("\"{}\"", found.tag);
    let mut headers = vec![
        (header::CACHE_CONTROL, cache),
        (header::VARY, "Accept-Encoding"),
        (header::ETAG, tag.as_str()),
    ];
    if let Some(coding) = found.coding {
        headers.push((header::CONTENT_ENCODING, coding.name()));
    }
    if found.content_type.starts_with("text/html") {
        headers.push((header::CONTENT_SECURITY_POLICY, CONTENT_POLICY));
    }
    if head.knows(&tag) {
        return with_all(Response::empty(StatusCode::NOT_MODIFIED), &headers).into();
    }
    if u64::try_from(start.len()).is_ok_and(|len| len == found.len) {
        return with_all(Response::of(StatusCode::OK, found.content_type, start), &headers).into();
    }
    let mut response = tide::Response::new(tide::StatusCode::Ok);
    let len = usize::try_from(found.len).ok();
    response.set_body(tide::Body::from_reader(FileBody::new(found.file, found.len), len));
    response.insert_header("content-type", found.content_type);
    for (name, value) in headers {
        // Our own ASCII constants, which http-types accepts.
        response.insert_header(name.as_str(), value);
    }
    response
}

fn with_all(response: Response, headers: &[(HeaderName, &str)]) -> Response {
    headers.iter().fold(response, |response, (name, value)| response.with(name.clone(), value))
}

/// The page with the tags instead of the placeholder comment; `None` when it has no such comment.
pub(super) fn with_tags(html: &str, tags: impl FnOnce() -> String) -> Option<String> {
    let (before, after) = html.split_once(PLACEHOLDER)?;
    let before = before.trim_end().strip_suffix("<!--")?;
    let after = after.trim_start().strip_prefix("-->")?;
    Some([before, &tags(), after].concat())
}

/// The OpenGraph tags, from which other sites build the preview of a link to this server.
pub(super) fn tags(server: &ServerView, origin: &str) -> String {
    let mut tags = String::new();
    let mut add = |property: &str, content: &str| {
        let content = escape(content);
        tags += &format!("<meta property=\"og:{property}\" content=\"{content}\">");
    };
    add("type", "website");
    add("site_name", &server.name);
    add("title", &server.name);
    add("url", &format!("{origin}/"));
    if let Some(description) = &server.description {
        add("description", description);
    }
    if let Some(key) = &server.logo_key {
        add("image", &format!("{origin}{}", logo_path(key)));
    }
    tags
}

/// Escapes text for the value of an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_take_the_place_of_the_comment_alone() {
        let page = "<head><!-- OG_META_PLACEHOLDER --></head>";
        assert_eq!(with_tags(page, || "x".to_owned()).as_deref(), Some("<head>x</head>"));
        for other in
            ["<head></head>", "<p>OG_META_PLACEHOLDER</p>", "<!-- a OG_META_PLACEHOLDER -->"]
        {
            assert_eq!(with_tags(other, || "x".to_owned()), None, "{other}");
        }
        assert_eq!(escape("<\"a\" & 'b'>"), "&lt;&quot;a&quot; &amp; &#39;b&#39;&gt;");
    }
}
