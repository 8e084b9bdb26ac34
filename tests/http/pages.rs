//! The embedded web client and the pages below `/setup`: complete, packed, cacheable, with the strictest policy.

use super::support::{Edge, Response};
use chatto::http::Config;

fn edge() -> Edge {
    Edge::start(Config::default())
}

/// The files that a page of ours names.
fn named(page: &str) -> Vec<String> {
    let parts = page.split("=\"/").skip(1).filter_map(|rest| rest.split('"').next());
    parts.filter(|path| path.contains('.')).map(|path| format!("/{path}")).collect()
}

#[test]
fn the_pages_are_ours_complete_and_cacheable() {
    let edge = edge();
    let home = edge.get("/", &[]);
    let setup = edge.get("/setup", &[]);
    let lost = edge.get("/setup/nowhere", &[]);
    assert_eq!((home.status, setup.status, lost.status), (200, 200, 404));
    assert_eq!(home.header("cache-control"), Some("no-store"), "it brings cookies");
    assert_eq!(setup.header("cache-control"), Some("no-cache"));
    let policy = |response: &Response| {
        let policy = response.header("content-security-policy").unwrap();
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    };
    for page in [&home, &setup, &lost] {
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        policy(page);
        let files = named(&page.text());
        assert!(files.iter().any(|path| path.ends_with(".css")), "{files:?}");
        for path in files {
            let kind = match path.rsplit('.').next().unwrap() {
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "svg" => "image/svg+xml",
                other => panic!("a page names a file of type {other}"),
            };
            let response = edge.get(&path, &[]);
            assert_eq!(
                (response.status, response.header("content-type")),
                (200, Some(kind)),
                "{path}"
            );
            let cache = response.header("cache-control");
            assert_eq!(cache, Some("public, max-age=31536000, immutable"), "{path}");
            policy(&response);
            let tag = response.header("etag").unwrap();
            let again = edge.get(&path, &[("If-None-Match", tag)]);
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
            assert_eq!(again.header("etag"), Some(tag));
        }
    }
    // Its icon is the server's logo, or ours.
    assert!(home.text().contains(r#"<link rel="icon" href="/favicon">"#), "{}", home.text());
    let icon = edge.get("/favicon", &[]);
    let ours = edge.get(icon.header("location").unwrap(), &[]);
    assert_eq!((icon.status, ours.header("content-type")), (302, Some("image/svg+xml")));
    assert!(named(&setup.text()).iter().any(|path| path.ends_with(".svg")), "{}", setup.text());
    let tag = setup.header("etag").unwrap();
    assert_eq!(edge.get("/setup", &[("If-None-Match", tag)]).status, 304);
    assert_eq!(edge.post("/setup", &[], &serde_json::json!({})).status, 405);
}

#[test]
fn every_path_of_the_client_gets_its_page_and_machines_get_404() {
    let edge = edge();
    let home = edge.get("/", &[]).text();
    assert!(home.contains(r#"<meta property="og:title" content="Chatto">"#), "{home}");
    for path in ["/login", "/rooms", "/chat/-/R1/m/E2?x=1", "/register", "/oauth/consent", "/a.b"] {
        let page = edge.get(path, &[]);
        assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")), "{path}");
        assert_eq!(named(&page.text()), named(&home), "{path}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        assert_eq!(page.header("referrer-policy"), Some("strict-origin-when-cross-origin"));
    }
    for path in [
        "/_app/immutable/none.js",
        "/_app/version.json",
        "/service-worker.js",
        "/manifest.webmanifest",
        "/setup/immutable/none.js",
        "/setup/index.htm",
        "/api/x",
        "/auth/x",
        "/assets/x",
    ] {
        assert_eq!(edge.get(path, &[]).status, 404, "{path}");
    }
    let icon = edge.get("/favicon", &[]);
    let target = icon.header("location").unwrap().to_owned();
    assert_eq!((icon.status, edge.get(&target, &[]).status), (302, 200), "{target}");
}

#[test]
fn the_client_comes_packed_to_who_takes_it() {
    let edge = edge();
    let script = named(&edge.get("/", &[]).text()).into_iter().find(|path| path.ends_with(".js"));
    let script = script.unwrap();
    let plain = edge.get(&script, &[]);
    assert_eq!(plain.header("content-encoding"), None);
    let mut sizes = vec![plain.body.len()];
    let mut tags = vec![plain.header("etag").unwrap().to_owned()];
    for (accepts, coding) in [("gzip", "gzip"), ("gzip, br, zstd", "br")] {
        let packed = edge.get(&script, &[("Accept-Encoding", accepts)]);
        assert_eq!(packed.header("content-encoding"), Some(coding));
        assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
        sizes.push(packed.body.len());
        tags.push(packed.header("etag").unwrap().to_owned());
    }
    assert!(sizes[0] > 2 * sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    assert!(tags[0] != tags[1] && tags[1] != tags[2], "each form has its own tag: {tags:?}");
}

#[test]
fn the_embedded_page_brings_the_csrf_cookie_and_shared_files_bring_none() {
    let edge = edge();
    edge.owner();
    let body = serde_json::json!({"identifier": "ada", "password": "correct horse"});
    let login = edge.post("/auth/login", &[], &body);
    let session = format!("chatto_session={}", login.cookie("chatto_session").unwrap().0);
    let headers = [("Cookie", session.as_str())];
    let page = edge.get("/chat", &headers);
    assert!(page.cookie("chatto_csrf").is_some());
    let setup = edge.get("/setup", &headers);
    for path in named(&page.text()).into_iter().chain(named(&setup.text())) {
        let shared = edge.get(&path, &headers);
        assert_eq!(shared.status, 200, "{path}");
        assert!(shared.cookie("chatto_csrf").is_none(), "{path}: a cache would give it to others");
    }
}
