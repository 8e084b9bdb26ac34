//! A web client of `webserver.client_dir`, line by line of the contract's section on plain HTTP.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use chatto::http::Config;
use chatto::web::Folder;
use tempfile::TempDir;

use super::support::{Edge, Response, head};
use crate::support::server::Server;

const PAGE: &str = "<html><head><!-- OG_META_PLACEHOLDER --></head><body>app</body></html>";

/// A build of a client, as small as it can be.
fn build() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("200.html", PAGE.as_bytes());
    write("_app/immutable/entry/start.abc.js", b"start()");
    write("_app/immutable/entry/start.abc.js.br", b"BR");
    write("_app/immutable/entry/start.abc.js.gz", b"GZ");
    write("_app/immutable/entry/start.abc.js.zst", b"ZST");
    write("_app/version.json", br#"{"version":"1"}"#);
    write("service-worker.js", b"worker()");
    write("manifest.webmanifest", br#"{"name":"x","short_name":"x","display":"standalone"}"#);
    write("icons/favicon.png", b"PNG");
    write("robots.txt", b"User-agent: *");
    write(".env", b"SECRET=1");
    dir
}

fn serve(dir: &Path) -> Edge {
    let client_dir = Some(Folder::at(dir.to_owned()));
    Edge::start(Config { client_dir, ..Config::default() })
}

fn text<'a>(response: &'a Response, name: &str) -> &'a str {
    response.header(name).unwrap_or("")
}

#[test]
fn hashed_files_are_immutable_and_absent_ones_are_404() {
    let dir = build();
    let edge = serve(dir.path());
    let found = edge.get("/_app/immutable/entry/start.abc.js", &[]);
    assert_eq!((found.status, found.text().as_str()), (200, "start()"));
    assert_eq!(text(&found, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(text(&found, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(text(&found, "x-content-type-options"), "nosniff");
    for path in ["/_app/immutable/none.js", "/_app/immutable/entry", "/_app/immutable/"] {
        assert_eq!(edge.get(path, &[]).status, 404, "{path}");
    }
}

#[test]
fn the_worker_the_version_and_the_manifest_have_rules_of_their_own() {
    let dir = build();
    let edge = serve(dir.path());
    let worker = edge.get("/service-worker.js", &[]);
    assert_eq!(text(&worker, "cache-control"), "no-cache, must-revalidate");
    let version = edge.get("/_app/version.json", &[]);
    assert_eq!((version.status, version.text().as_str()), (200, r#"{"version":"1"}"#));
    let manifest = edge.get("/manifest.webmanifest", &[]);
    assert_eq!(text(&manifest, "content-type"), "application/manifest+json");
    assert_eq!(manifest.json()["name"], "Chatto");
    assert_eq!(manifest.json()["short_name"], "Chatto");
    assert_eq!(manifest.json()["display"], "standalone", "the rest is the file's");
    for name in ["service-worker.js", "_app/version.json", "manifest.webmanifest"] {
        fs::remove_file(dir.path().join(name)).unwrap();
        let gone = edge.get(&format!("/{name}"), &[]);
        assert_eq!(gone.status, 404, "{name}");
        assert!(!gone.text().contains("<html>"), "{name}");
    }
}

#[test]
fn icons_lead_to_the_images_of_the_build() {
    let dir = build();
    let edge = serve(dir.path());
    for (path, target) in
        [("/favicon", "/icons/favicon.png"), ("/apple-touch-icon", "/icons/apple-touch-icon.png")]
    {
        let response = edge.get(path, &[]);
        assert_eq!((response.status, text(&response, "location")), (302, target));
    }
    assert_eq!(edge.get("/icons/favicon.png", &[]).body, b"PNG");
}

#[test]
fn every_other_path_gets_the_file_or_the_page_and_neither_is_stored() {
    let dir = build();
    let edge = serve(dir.path());
    let robots = edge.get("/robots.txt", &[]);
    assert_eq!((robots.status, robots.text().as_str()), (200, "User-agent: *"));
    assert_eq!(text(&robots, "cache-control"), "no-store");
    for path in ["/", "/login", "/chat/-/R1/m/E2?x=1", "/register", "/icons", "/oauth/consent"] {
        let page = edge.get(path, &[]);
        assert_eq!((page.status, text(&page, "cache-control")), (200, "no-store"), "{path}");
        assert_eq!(text(&page, "content-type"), "text/html; charset=utf-8", "{path}");
        assert!(page.text().contains("app"), "{path}");
        assert_eq!(text(&page, "x-frame-options"), "DENY");
        assert_eq!(text(&page, "referrer-policy"), "strict-origin-when-cross-origin");
        let policy = text(&page, "content-security-policy");
        for part in [
            "script-src 'self' 'unsafe-inline'",
            "style-src 'self' 'unsafe-inline'",
            "connect-src 'self' http: https: ws: wss:",
            "img-src 'self' http: https: data: blob:",
            "media-src 'self' http: https: blob:",
            "frame-src https://www.youtube-nocookie.com",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
    }
}

#[test]
fn machine_paths_and_our_own_pages_stay_ours() {
    let dir = build();
    for name in ["api", "auth", "assets", "setup"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("x"), "theirs").unwrap();
    }
    fs::create_dir_all(dir.path().join("setup/immutable")).unwrap();
    fs::write(dir.path().join("setup/index.html"), "theirs").unwrap();
    fs::write(dir.path().join("setup/immutable/x.js"), "theirs").unwrap();
    let edge = serve(dir.path());
    for path in ["/api", "/api/x", "/auth/x", "/oauth/x", "/assets/x", "/webhooks/x"] {
        let response = edge.get(path, &[]);
        assert_eq!((response.status, text(&response, "content-type")), (404, "application/json"));
    }
    let setup = edge.get("/setup", &[]).text();
    let script = setup.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(script.starts_with("/setup/immutable/"), "its files are ours too: {script}");
    let script = edge.get(script, &[]);
    assert_eq!(
        (script.status, text(&script, "content-type")),
        (200, "text/javascript; charset=utf-8")
    );
    assert_eq!(edge.get("/setup/immutable/x.js", &[]).status, 404);
    assert_eq!(edge.get("/setup/x", &[]).status, 404);
    assert_eq!(edge.post("/login", &[], &serde_json::json!({})).status, 404);
    assert_eq!(edge.get("/healthz", &[]).text(), r#"{"status":"ok"}"#);
}

#[test]
fn the_page_brings_the_csrf_cookie_and_shared_files_bring_none() {
    let dir = build();
    let edge = serve(dir.path());
    edge.owner();
    let body = serde_json::json!({"identifier": "ada", "password": "correct horse"});
    let login = edge.post("/auth/login", &[], &body);
    let session = format!("chatto_session={}", login.cookie("chatto_session").unwrap().0);
    let headers = [("Cookie", session.as_str())];
    assert!(edge.get("/chat", &headers).cookie("chatto_csrf").is_some());
    let shared = edge.get("/_app/immutable/entry/start.abc.js", &headers);
    assert_eq!(shared.status, 200);
    assert!(shared.cookie("chatto_csrf").is_none(), "a cache would give it to others");
}

#[test]
fn packed_files_are_served_to_who_takes_them() {
    let dir = build();
    let edge = serve(dir.path());
    let path = "/_app/immutable/entry/start.abc.js";
    for (accepts, coding, body) in [
        ("gzip, br, zstd", "br", "BR"),
        ("gzip, zstd", "zstd", "ZST"),
        ("gzip", "gzip", "GZ"),
        ("br;q=0.1, gzip;q=0.9", "gzip", "GZ"),
        ("br;q=0, *", "zstd", "ZST"),
        ("identity", "", "start()"),
        ("br;q=0", "", "start()"),
    ] {
        let response = edge.get(path, &[("Accept-Encoding", accepts)]);
        assert_eq!(text(&response, "content-encoding"), coding, "{accepts}");
        assert_eq!(response.text(), body, "{accepts}");
        assert_eq!(text(&response, "vary"), "Accept-Encoding");
        assert_eq!(text(&response, "content-type"), "text/javascript; charset=utf-8");
    }
    let tags = ["br", "gzip", ""]
        .map(|accepts| text(&edge.get(path, &[("Accept-Encoding", accepts)]), "etag").to_owned());
    assert!(tags[0] != tags[1] && tags[1] != tags[2], "each form has its own tag: {tags:?}");
}

#[test]
fn a_known_version_is_304_and_head_has_no_body() {
    let dir = build();
    let edge = serve(dir.path());
    for path in ["/_app/immutable/entry/start.abc.js", "/service-worker.js"] {
        let first = edge.get(path, &[]);
        let tag = text(&first, "etag").to_owned();
        let again = edge.get(path, &[("If-None-Match", &tag)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(text(&again, "etag"), tag);
        assert_eq!(text(&again, "cache-control"), text(&first, "cache-control"));
        assert_eq!(edge.get(path, &[("If-None-Match", "\"other\"")]).status, 200);
        let brief = edge.exchange(&head("HEAD", path, &[]));
        assert_eq!(brief.status, 200);
        assert_eq!(text(&brief, "content-length"), first.body.len().to_string());
    }
    let page = edge.exchange(&head("HEAD", "/login", &[]));
    assert_eq!((page.status, page.body.len()), (200, 0));
    fs::write(dir.path().join("service-worker.js"), "newer()").unwrap();
    assert_eq!(edge.get("/service-worker.js", &[]).text(), "newer()", "a new build counts at once");
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let dir = build();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "SECRET").unwrap();
    symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
    symlink(outside.path(), dir.path().join("folder")).unwrap();
    symlink(dir.path().join("robots.txt"), dir.path().join("inside")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    let edge = serve(dir.path());
    let absolute = outside.path().join("secret");
    let absolute = absolute.to_str().unwrap();
    for path in [
        "/link",
        "/folder/secret",
        "/loop",
        "/.env",
        "/%2eenv",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/../../../../etc/passwd",
        "/..\\..\\etc\\passwd",
        "/%5c..%5c..%5cetc%5cpasswd",
        "/robots.txt%00.html",
        &format!("/{absolute}"),
        &format!("/{}", absolute.replace('/', "%2f")),
        "/icons/",
        "/_app",
        "/%ff%fe",
        "/%c0%ae%c0%ae/secret",
        &format!("/{}", "x".repeat(5000)),
    ] {
        let response = edge.get(path, &[]);
        let body = response.text();
        let is_page = response.status == 200 && body.contains("app</body>");
        assert!(is_page || response.status == 404, "{path}: {} {body}", response.status);
        for secret in ["SECRET", "root:", "favicon.png"] {
            assert!(!body.contains(secret), "{path}: {body}");
        }
    }
    assert_eq!(edge.get("/inside", &[]).text(), "User-agent: *", "a link inside is a file");
}

#[test]
fn the_placeholder_becomes_escaped_tags() {
    let dir = build();
    let edge = serve(dir.path());
    let page = edge.get("/", &[]).text();
    assert!(page.contains(r#"<meta property="og:title" content="Chatto">"#), "{page}");
    assert!(page.contains(r#"<meta property="og:url" content="http://localhost/">"#), "{page}");
    assert!(!page.contains("OG_META_PLACEHOLDER") && page.ends_with("</html>"), "{page}");
    fs::write(dir.path().join("200.html"), "<html>plain</html>").unwrap();
    fs::write(dir.path().join("200.html.gz"), "PACKED").unwrap();
    assert_eq!(edge.get("/", &[]).text(), "<html>plain</html>");
    let packed = edge.get("/", &[("Accept-Encoding", "gzip")]);
    assert_eq!((packed.text().as_str(), text(&packed, "content-encoding")), ("PACKED", "gzip"));
}

#[test]
fn a_large_file_comes_whole_and_a_page_that_vanished_is_an_error_of_ours() {
    let dir = build();
    let bytes: Vec<u8> =
        (0..3_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.path().join("large.bin"), &bytes).unwrap();
    let edge = serve(dir.path());
    let response = edge.get("/large.bin", &[]);
    assert_eq!(text(&response, "content-type"), "application/octet-stream");
    assert_eq!(text(&response, "cache-control"), "no-store");
    assert!(response.body == bytes, "{} bytes came", response.body.len());
    let mut raw = edge.connect();
    raw.send(head("HEAD", "/large.bin", &[]).as_bytes());
    assert_eq!(text(&raw.response_to("HEAD").unwrap(), "content-length"), "3000001");
    fs::remove_file(dir.path().join("200.html")).unwrap();
    assert_eq!(edge.get("/login", &[]).status, 500);
}

#[test]
fn a_folder_without_a_client_is_a_fault_at_the_start() {
    let mut server = Server::prepare();
    let dir = tempfile::tempdir().unwrap();
    server.set("CHATTO_WEBSERVER_CLIENT_DIR", &dir.path().to_string_lossy());
    let (code, output) = server.run_refused();
    assert_eq!(code, 78);
    assert!(output.contains("contains no 200.html"), "{output}");
    server.set("CHATTO_WEBSERVER_CLIENT_DIR", "/nowhere/at/all");
    let (code, output) = server.run_refused();
    assert_eq!(code, 78);
    assert!(output.contains("cannot read the directory"), "{output}");
    fs::write(dir.path().join("200.html"), PAGE).unwrap();
    server.set("CHATTO_WEBSERVER_CLIENT_DIR", &dir.path().to_string_lossy());
    server.run();
    assert!(server.client().get("/any/path").unwrap().1.contains("app</body>"));
    assert!(server.stop().success());
}

/// The client's file stays on the disk while it is read by somebody slow.
#[test]
fn a_client_that_stops_reading_does_not_hold_the_server_up() {
    let dir = build();
    fs::File::create(dir.path().join("huge.bin")).unwrap().set_len(1 << 30).unwrap();
    let edge = serve(dir.path());
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut raw = edge.connect();
            raw.send(head("GET", "/huge.bin", &[]).as_bytes());
            let mut first = [0; 64];
            raw.stream.read_exact(&mut first).unwrap();
            raw
        })
        .collect();
    assert_eq!(edge.get("/robots.txt", &[]).status, 200);
    drop(slow);
}
