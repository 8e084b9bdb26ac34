//! Routes for the tests of the edge only: bodies and responses that the product itself never has.
//!
//! Only in builds with debug assertions; no release build contains them.

use futures_lite::{AsyncBufReadExt, AsyncReadExt, io};
use hyper::StatusCode;
use hyper::header::HeaderName;
use serde_json::json;
use tide::Request;

use super::body::read_body;
use super::response::Response;
use super::state::{App, PausablePermit};

/// Adds the routes.
pub(super) fn routes(app: &mut tide::Server<App>) {
    app.at("/probe/sink").post(sink);
    app.at("/probe/source/:bytes").get(|request| source(request, true));
    app.at("/probe/chunks/:bytes").get(|request| source(request, false));
    app.at("/probe/short/:bytes").get(short);
    app.at("/probe/status/:status").all(status);
    app.at("/probe/header").post(header);
}

/// Counts the bytes of a body of any length.
async fn sink(mut request: Request<App>) -> tide::Result {
    let mut body = request.take_body();
    let mut bytes: usize = 0;
    loop {
        match body.fill_buf().await.map(<[u8]>::len) {
            Ok(0) => return Response::json(StatusCode::OK, &json!({ "bytes": bytes })).into(),
            Ok(n) => {
                bytes = bytes.saturating_add(n);
                std::pin::Pin::new(&mut body).consume(n);
            }
            Err(_) => return Response::error(StatusCode::BAD_REQUEST, "the body broke off").into(),
        }
    }
}

fn wanted(request: &Request<App>) -> usize {
    request.param("bytes").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

/// A body of this many bytes, with or without `Content-Length`.
async fn source(request: Request<App>, with_length: bool) -> tide::Result {
    let bytes = wanted(&request);
    let body = io::repeat(b'x').take(u64::try_from(bytes).unwrap_or(u64::MAX));
    let mut response = tide::Response::new(tide::StatusCode::Ok);
    let body = tide::Body::from_reader(io::BufReader::new(body), with_length.then_some(bytes));
    response.set_body(body);
    Ok(response)
}

/// Declares twice the length of its body.
async fn short(request: Request<App>) -> tide::Result {
    let bytes = wanted(&request);
    let mut response = tide::Response::new(tide::StatusCode::Ok);
    let half = u64::try_from(bytes / 2).unwrap_or_default();
    let body = io::BufReader::new(io::repeat(b'x').take(half));
    response.set_body(tide::Body::from_reader(body, Some(bytes)));
    Ok(response)
}

/// Any status, including those that http-types does not know.
async fn status(request: Request<App>) -> tide::Result {
    let status = request.param("status").ok().and_then(|status| status.parse().ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    Response::error(status.unwrap_or(StatusCode::BAD_REQUEST), "as requested").into()
}

/// Returns the body as a header.
async fn header(mut request: Request<App>) -> tide::Result {
    let body = request.take_body();
    let Some(permit) = PausablePermit::of(&request) else {
        return Response::error(StatusCode::INTERNAL_SERVER_ERROR, "no permit").into();
    };
    let Ok(whole) = read_body(body, 1024, request.state(), &permit).await else {
        return Response::error(StatusCode::BAD_REQUEST, "unreadable").into();
    };
    let text = String::from_utf8_lossy(&whole.bytes);
    Response::json(StatusCode::OK, &json!({ "chars": text.chars().count() }))
        .with(HeaderName::from_static("x-probe"), &text)
        .into()
}
