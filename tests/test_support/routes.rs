//! The routes, as a client's own tests use them.

use serde_json::{Value, json};

use super::{browser, call, is_owner, post, rooms, send, start};
use crate::support::server::Server;

fn account(login: &str) -> Value {
    json!({"login": login, "password": "correct horse", "email": format!("{login}@example.org")})
}

#[test]
fn a_user_with_a_session_is_made_by_one_call() {
    let server = start("[owners]\nemails = [\"boss@example.org\"]\n");
    let made = post(&server, "/auth/test/create-user-session", &account("carla"));
    assert_eq!(made.status, 200, "{}", made.json);
    let id = made.json["user"]["id"].as_str().unwrap();
    let user = json!({"id": id, "login": "carla", "displayName": "carla"});
    assert_eq!(made.json, json!({"success": true, "user": user}), "and no token");
    let cookies = browser(&made);
    assert_eq!(rooms(&server, &cookies), ["announcements", "general"]);
    let viewer = call(&server, &cookies, "ViewerService/GetViewer", &json!({}));
    assert_eq!(viewer["user"]["hasVerifiedEmail"], true);
    assert!(!is_owner(&server, &cookies));
    let mut alone = account("dora");
    alone["joinDefaultRooms"] = json!(false);
    alone["displayName"] = json!("Dora D.");
    let dora = post(&server, "/auth/test/create-user-session", &alone);
    assert_eq!(dora.json["user"]["displayName"], "Dora D.");
    assert_eq!(rooms(&server, &browser(&dora)), ["announcements"]);
    let boss = post(&server, "/auth/test/create-user-session", &account("boss"));
    assert!(is_owner(&server, &browser(&boss)), "owners.emails");
    let csrf = made.cookie("chatto_csrf").unwrap();
    let headers = [("Cookie", cookies.as_str()), ("X-CSRF-Token", csrf.as_str())];
    assert_eq!(send(&server, "POST", "/auth/logout", &headers, "").status, 200, "a real session");
}

#[test]
fn a_plain_user_gets_an_address_later() {
    let server = start("[owners]\nemails = [\"boss@example.org\"]\n");
    let made = post(
        &server,
        "/auth/test/create-user",
        &json!({"login": "emil", "password": "correct horse"}),
    );
    let id = made.json["id"].as_str().unwrap();
    assert_eq!(made.json, json!({"id": id, "login": "emil", "displayName": "emil"}));
    assert!(made.cookie("chatto_session").is_none(), "no session");
    let log_in = json!({"identifier": "emil", "password": "correct horse"});
    let cookies = browser(&post(&server, "/auth/login", &log_in));
    assert!(!is_owner(&server, &cookies));
    let body = json!({"userId": id, "email": "boss@example.org"});
    let verified = post(&server, "/auth/test/verify-email", &body);
    assert_eq!((verified.status, verified.json), (200, json!({"success": true})));
    assert!(is_owner(&server, &cookies), "at once");
    let taken = json!({"login": "fred", "password": "correct horse", "email": "BOSS@example.org"});
    assert_eq!(post(&server, "/auth/test/create-user-session", &taken).status, 500);
}

#[test]
fn a_provider_brings_somebody_in_who_has_no_password() {
    let server = start("");
    let body = json!({"email": "Gina.G+x@example.org", "displayName": "Gina"});
    let first = post(&server, "/auth/test/oauth-callback", &body);
    let id = first.json["user"]["id"].as_str().unwrap();
    let user = json!({"id": id, "login": "gina.gx"});
    assert_eq!(first.json, json!({"success": true, "isNewUser": true, "user": user}));
    let viewer = call(&server, &browser(&first), "ViewerService/GetViewer", &json!({}));
    assert_eq!(viewer["user"]["profile"]["displayName"], "Gina");
    assert_ne!(viewer["user"]["hasPassword"], true);
    let again = post(&server, "/auth/test/oauth-callback", &body);
    assert_eq!(again.json["isNewUser"], false);
    assert_eq!(again.json["user"]["id"], first.json["user"]["id"]);
    assert_ne!(again.cookie("chatto_session"), first.cookie("chatto_session"));
    let log_in = json!({"identifier": "gina.gx", "password": ""});
    assert_ne!(post(&server, "/auth/login", &log_in).status, 200);
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let server = start("");
    let made = post(&server, "/auth/test/create-user", &account("hans"));
    assert_eq!(made.status, 200, "unknown fields are ignored");
    let password = json!("correct horse");
    for (path, body, status) in [
        ("create-user", json!({"password": password}), 400),
        ("create-user", json!({"login": "ida", "password": null}), 400),
        ("create-user", json!({"login": "hans", "password": password}), 500),
        ("create-user", json!({"login": ".", "password": password}), 500),
        ("create-user", json!({"login": "ida", "password": "short"}), 500),
        ("create-user", json!([]), 400),
        ("create-user-session", json!({"login": "ida", "password": password}), 400),
        ("create-user-session", json!({"login": "ida", "password": password, "email": "ida"}), 400),
        ("verify-email", json!({"email": "ida@example.org"}), 400),
        ("verify-email", json!({"userId": "Unobody", "email": "ida@example.org"}), 500),
        ("oauth-callback", json!({"displayName": "Ida"}), 400),
    ] {
        let answer = post(&server, &format!("/auth/test/{path}"), &body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.json);
        assert!(answer.json["error"].is_string(), "{path} {body}: {}", answer.json);
    }
}

#[test]
fn what_is_not_built_says_so() {
    let server: Server = start("");
    let not_built = [
        ("POST", "/auth/test/create-registration-code"),
        ("POST", "/auth/test/create-registration-token"),
        ("GET", "/auth/test/last-email"),
        ("POST", "/auth/test/external-identity-flow"),
        ("POST", "/auth/test/oauth-authorize"),
        ("POST", "/webhooks/test/call-join"),
        ("POST", "/webhooks/test/call-leave"),
    ];
    for (method, path) in not_built {
        let answer = send(&server, method, path, &[], "");
        assert_eq!(answer.status, 501, "{path}: {}", answer.json);
        assert!(answer.json["error"].is_string(), "{path}: {}", answer.json);
    }
    let forgotten = send(&server, "DELETE", "/auth/test/emails", &[], "");
    assert_eq!((forgotten.status, forgotten.json), (200, json!({"success": true})));
}
