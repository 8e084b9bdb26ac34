//! Requests that a page of another origin can make a browser send; and the responses that the contract requires where registration is off.

use chatto::http::Config;
use serde_json::json;

use super::support::{Edge, Response, head};

fn edge() -> Edge {
    Edge::start(Config::default())
}

/// A log-in as a page of this origin sends it, with this content type.
fn log_in(edge: &Edge, content_type: &str, origin: Option<&str>) -> Response {
    let body = json!({"identifier": "ada", "password": "correct horse"}).to_string();
    let mut headers = vec![("Content-Type", content_type)];
    headers.extend(origin.map(|origin| ("Origin", origin)));
    edge.post_bytes("/auth/login", &headers, body.as_bytes())
}

#[test]
fn only_json_logs_in_and_a_foreign_page_gets_no_cookie() {
    let edge = edge();
    edge.owner();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"]
    {
        let rejected = log_in(&edge, kind, None);
        assert_eq!(rejected.status, 415, "{kind}");
        assert!(rejected.cookie("chatto_session").is_none(), "{kind}");
    }
    for origin in ["https://elsewhere.example", "null"] {
        let response = log_in(&edge, "application/json", Some(origin));
        assert_eq!(response.status, 200, "a client of another address gets its token");
        assert!(response.json()["token"].is_string());
        assert!(response.cookie("chatto_session").is_none(), "{origin}");
        assert!(response.cookie("chatto_csrf").is_none(), "{origin}");
    }
    for origin in [None, Some("http://localhost")] {
        let response = log_in(&edge, "application/json; charset=utf-8", origin);
        assert_eq!(response.status, 200);
        assert!(response.cookie("chatto_session").is_some(), "{origin:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    let body = json!({"token": "any", "login": "eve", "password": "correct horse"}).to_string();
    let plain = edge.post_bytes("/auth/setup", &[("Content-Type", "text/plain")], body.as_bytes());
    assert_eq!(plain.status, 415);
}

#[test]
fn a_bearer_that_does_not_count_excuses_no_log_out_from_csrf() {
    let edge = edge();
    edge.owner();
    let session = || {
        let response = log_in(&edge, "application/json", None);
        let (session, _) = response.cookie("chatto_session").unwrap();
        let bearer = format!("Bearer {}", response.json()["token"].as_str().unwrap());
        (format!("chatto_session={session}"), bearer)
    };
    let lives = |cookie: &str| {
        let call = "/api/connect/chatto.api.v1.ViewerService/GetViewer";
        edge.post(call, &[("Cookie", cookie)], &json!({})).status == 200
    };
    let (cookie, bearer) = session();
    for wrong in ["Bearer nonsense", "Bearer ", "Bearer cht_ATnonsense"] {
        let headers = [("Cookie", cookie.as_str()), ("Authorization", wrong)];
        assert_eq!(edge.post("/auth/logout", &headers, &json!({})).status, 403, "{wrong}");
        assert!(lives(&cookie), "{wrong}");
    }
    let headers = [("Cookie", cookie.as_str()), ("Authorization", bearer.as_str())];
    assert_eq!(edge.post("/auth/logout", &headers, &json!({})).status, 200);
    assert!(!lives(&cookie));
}

#[test]
fn a_foreign_page_takes_no_cookie_away() {
    // A form of another origin comes without cookies (SameSite), and the cookies of the response would still be stored.
    let edge = edge();
    let log_out = |origin| edge.post_bytes("/auth/logout", &[("Origin", origin)], b"");
    assert!(log_out("https://elsewhere.example").cookie("chatto_session").is_none());
    assert!(log_out("null").cookie("chatto_session").is_none());
    let own = log_out("http://localhost");
    assert_eq!(own.cookie("chatto_session").unwrap().0, "", "our own page clears what is left");
}

#[test]
fn registration_that_is_off_answers_as_the_contract_says() {
    let edge = edge();
    let email = json!({"email": "ada@example.org"});
    let register = edge.post("/auth/register", &[], &email);
    assert_eq!(
        (register.status, register.json()),
        (403, json!({"error": "Registration is disabled"}))
    );
    let forgot = edge.post("/auth/forgot-password", &[], &email);
    assert_eq!((forgot.status, forgot.json()), (200, json!({"success": true})));
    let invite = edge.exchange(&head("GET", "/invite/abc", &[]));
    assert_eq!(invite.status, 302);
    assert_eq!(invite.header("location"), Some("/register?error=invalid_invitation"));
    assert_eq!(invite.header("cache-control"), Some("no-store"));
    assert_eq!(invite.header("referrer-policy"), Some("no-referrer"));
}
