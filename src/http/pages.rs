//! The built-in pages of `web`.
//!
//! `/setup` and what lies below it is ours whatever client is served: the way in must not depend on
//! somebody else's build.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header;
use tide::Request;

use crate::web::{self, Asset};

use super::answer::Answer;
use super::head::Head;
use super::state::App;

/// The routes of the built-in pages.
pub(super) fn routes(app: &mut tide::Server<App>) {
    for (path, asset) in web::FILES {
        app.at(path).get(move |request| serve(request, asset));
    }
    // A client of `webserver.client_dir` takes this path and all that no other route knows.
    if app.state().client.is_none() {
        app.at("/").get(|request| serve(request, web::HOME));
    }
}

/// Whether no web client decides what is at this path.
pub(super) fn is_ours(path: &str) -> bool {
    path == "/setup" || path.starts_with("/setup/")
}

async fn serve(request: Request<App>, asset: Asset) -> tide::Result {
    let tag = format!("\"{:032x}\"", asset.tag);
    let known = request.ext::<Arc<Head>>().is_some_and(|head| head.knows(&tag));
    let answer = if known {
        Answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        Answer::of(StatusCode::OK, asset.content_type, Bytes::from_static(asset.bytes))
    };
    page_headers(answer).with(header::ETAG, &tag).into()
}

/// The page for a path that leads nowhere.
pub(super) fn not_found() -> Answer {
    let body = Bytes::from_static(web::LOST.bytes);
    page_headers(Answer::of(StatusCode::NOT_FOUND, web::LOST.content_type, body))
}

fn page_headers(answer: Answer) -> Answer {
    answer
        .with(header::CONTENT_SECURITY_POLICY, web::CONTENT_POLICY)
        .with(header::CACHE_CONTROL, "no-cache")
}
