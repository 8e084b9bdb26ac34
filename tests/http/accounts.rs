//! Log-in, cookies, CSRF, setup and join links over HTTP.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::time::{Duration, Instant};

use chatto::http::{Config, PublicUrl};
use serde_json::json;

use super::limits::begun;
use super::support::{Edge, head};
use crate::support::server::Server;

fn edge() -> Edge {
    Edge::start(Config::default())
}

#[test]
fn the_first_owner_gets_in_by_a_link_that_works_once() {
    let edge = edge();
    let token = edge.setup_token();
    let seen = edge.post("/auth/setup/inspect", &[], &json!({"token": token}));
    assert_eq!(seen.status, 200);
    assert_eq!(seen.json()["kind"], "owner");
    assert_ne!(seen.json()["serverName"], "");
    let body = json!({
        "token": token, "login": "ada", "displayName": "Ada L.", "password": "correct horse",
        "email": null
    });
    let response = edge.post("/auth/setup", &[], &body);
    assert_eq!(response.status, 200, "{}", response.text());
    let json = response.json();
    assert_eq!((&json["success"], &json["user"]["login"]), (&json!(true), &json!("ada")));
    assert!(json["token"].as_str().unwrap().starts_with("cht_AT"));
    let (_, session) = response.cookie("chatto_session").unwrap();
    for attribute in ["; Path=/", "; Max-Age=7776000", "; SameSite=Lax", "; HttpOnly"] {
        assert!(session.contains(attribute), "{session}");
    }
    assert!(!session.contains("Secure") && !session.contains("Domain"));
    let (value, csrf) = response.cookie("chatto_csrf").unwrap();
    assert!(!csrf.contains("HttpOnly"), "{csrf}");
    assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
    let again = edge.post("/auth/setup", &[], &body);
    assert_eq!(again.status, 400);
    assert_eq!(again.json(), json!({"error": "This link is invalid, used or expired"}));
    let dead = edge.post("/auth/setup/inspect", &[], &json!({"token": token}));
    assert_eq!(dead.status, 400);
}

#[test]
fn a_setup_link_fails_once_there_is_an_owner() {
    let edge = edge();
    let first = edge.setup_token();
    let second = edge.setup_token();
    let body = |token: &str, login: &str| json!({"token": token, "login": login, "password": "correct horse"});
    assert_eq!(edge.post("/auth/setup", &[], &body(&first, "ada")).status, 400, "replaced");
    assert_eq!(edge.post("/auth/setup", &[], &body(&second, "ada")).status, 200);
    let third = edge.operate(|service| async move { service.links().setup_link().await.is_err() });
    assert!(third);
}

#[test]
fn join_links_are_made_by_owners_and_a_taken_login_leaves_them_usable() {
    let edge = edge();
    let owner = edge.owner();
    let bearer = format!("Bearer {owner}");
    let link = edge.post(
        "/auth/join-links",
        &[("Authorization", &bearer)],
        &json!({"displayName": "Bob B.", "role": null}),
    );
    assert_eq!(link.status, 200, "{}", link.text());
    let url = link.json()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://localhost/setup#"), "{url}");
    assert!(link.json()["expiresAt"].as_str().unwrap().ends_with('Z'));
    let token = url.split_once('#').unwrap().1;
    let seen = edge.post("/auth/setup/inspect", &[], &json!({"token": token})).json();
    assert_eq!(seen["kind"], "join");
    assert_eq!(seen["fixed"]["displayName"], "Bob B.");
    assert!(seen["fixed"]["login"].is_null());
    let body = |login: &str| json!({"token": token, "login": login, "password": "correct horse"});
    let taken = edge.post("/auth/setup", &[], &body("ADA"));
    assert_eq!(taken.status, 409, "{}", taken.text());
    let bob = edge.post("/auth/setup", &[], &body("bob"));
    assert_eq!(bob.status, 200, "{}", bob.text());
    let bearer = format!("Bearer {}", bob.json()["token"].as_str().unwrap());
    let rejected = edge.post("/auth/join-links", &[("Authorization", &bearer)], &json!({}));
    assert_eq!(rejected.status, 403);
    assert_eq!(edge.post("/auth/join-links", &[], &json!({})).status, 401);
}

#[test]
fn owners_list_and_revoke_join_links() {
    let edge = edge();
    let owner = format!("Bearer {}", edge.owner());
    let auth = [("Authorization", owner.as_str())];
    let made = edge.post("/auth/join-links", &auth, &json!({"login": "bob", "role": "admin"}));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let list = edge.get("/auth/join-links", &auth);
    assert_eq!(list.status, 200, "{}", list.text());
    let one = &list.json()["links"][0];
    assert_eq!(one["id"], id);
    assert_eq!(one["createdBy"]["login"], "ada");
    assert_eq!(one["login"], "bob");
    assert_eq!(one["role"], "admin");
    assert!(one["displayName"].is_null() && one["email"].is_null());
    assert_eq!(one["expiresAt"], made.json()["expiresAt"]);
    let token = made.json()["url"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
    assert!(!list.text().contains(&token) && !token.contains(&id));

    // A cookie reads, and needs its CSRF token to revoke; a page of another origin has neither.
    let log_in = json!({"identifier": "ada", "password": "correct horse"});
    let response = edge.post("/auth/login", &[], &log_in);
    let (session, csrf) =
        (response.cookie("chatto_session").unwrap().0, response.cookie("chatto_csrf").unwrap().0);
    let cookie = format!("chatto_session={session}; chatto_csrf={csrf}");
    let cookie = ("Cookie", cookie.as_str());
    assert_eq!(edge.get("/auth/join-links", &[cookie]).status, 200);
    let foreign = edge.get("/auth/join-links", &[cookie, ("Origin", "https://evil.example")]);
    assert_eq!(foreign.status, 401);
    assert_eq!(edge.get("/auth/join-links", &[]).status, 401);
    let path = format!("/auth/join-links/{id}");
    let revoke = |headers: &[(&str, &str)]| edge.exchange(&head("DELETE", &path, headers)).status;
    assert_eq!(revoke(&[]), 401);
    assert_eq!(revoke(&[cookie]), 403);

    let setup = json!({"token": token, "login": "bob", "password": "correct horse"});
    assert_eq!(revoke(&[cookie, ("X-CSRF-Token", csrf)]), 200);
    assert_eq!(revoke(&auth), 404);
    assert_eq!(edge.post("/auth/setup", &[], &setup).status, 400);
    assert_eq!(edge.get("/auth/join-links", &auth).json()["links"], json!([]));

    let guest = format!("Bearer {}", edge.person(owner.trim_start_matches("Bearer "), "carol"));
    let guest = [("Authorization", guest.as_str())];
    assert_eq!(edge.get("/auth/join-links", &guest).status, 403);
    assert_eq!(revoke(&guest), 403);
}

#[test]
fn log_in_answers_as_the_contract_says() {
    let edge = edge();
    edge.owner();
    let log_in = |body| edge.post("/auth/login", &[], &body);
    let right = log_in(json!({"identifier": "ADA", "password": "correct horse"}));
    assert_eq!(right.status, 200);
    assert!(right.cookie("chatto_session").is_some() && right.cookie("chatto_csrf").is_some());
    assert_eq!(log_in(json!({"login": "ada", "password": "correct horse"})).status, 200);
    for wrong in [("ada", "wrong horse"), ("nobody", "wrong horse")] {
        let response = log_in(json!({"identifier": wrong.0, "password": wrong.1}));
        assert_eq!(response.status, 401);
        assert_eq!(response.json(), json!({"error": "Invalid credentials"}));
    }
    for missing in [json!({}), json!({"identifier": "ada"}), json!({"password": null})] {
        let response = log_in(missing);
        assert_eq!(response.status, 400);
        assert!(response.json()["error"].is_string());
    }
    let nonsense = edge.post_bytes("/auth/login", &[("Content-Type", "application/json")], b"{]");
    assert_eq!(nonsense.status, 400);
    assert!(nonsense.json()["error"].is_string());
    let large = json!({"identifier": "a".repeat(70 << 10), "password": "x"});
    let large = log_in(large);
    assert_eq!(large.status, 413);
    assert!(large.json()["error"].is_string());
    let get = edge.get("/auth/login", &[]);
    assert_eq!(get.status, 405);
    assert!(get.json()["error"].is_string());
}

#[test]
fn the_sixth_wrong_password_is_429_with_retry_after() {
    let edge = edge();
    edge.owner();
    let body = json!({"identifier": "ada", "password": "wrong horse"});
    for _ in 0..5 {
        assert_eq!(edge.post("/auth/login", &[], &body).status, 401);
    }
    let sixth = edge.post("/auth/login", &[], &body);
    assert_eq!(sixth.status, 429);
    assert!(sixth.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(sixth.json()["error"].is_string());
}

#[test]
fn log_out_needs_csrf_with_a_cookie_alone_and_nothing_with_a_bearer() {
    let edge = edge();
    edge.owner();
    let log_in = || {
        let body = json!({"identifier": "ada", "password": "correct horse"});
        let response = edge.post("/auth/login", &[], &body);
        let session = response.cookie("chatto_session").unwrap().0.to_owned();
        let csrf = response.cookie("chatto_csrf").unwrap().0.to_owned();
        let token = response.json()["token"].as_str().unwrap().to_owned();
        (session, csrf, token)
    };
    let alive = |token: &str| edge.call(token, "ViewerService/GetViewer", &json!({})).status;
    let (session, csrf, token) = log_in();
    let cookies = format!("chatto_session={session}; chatto_csrf={csrf}");
    let out = |headers: &[(&str, &str)]| edge.post_bytes("/auth/logout", headers, b"");
    assert_eq!(out(&[("Cookie", &cookies)]).status, 403);
    assert_eq!(out(&[("Cookie", &cookies), ("X-CSRF-Token", "wrong")]).status, 403);
    assert_eq!(alive(&token), 200);
    let gone = out(&[("Cookie", &cookies), ("X-CSRF-Token", &csrf)]);
    assert_eq!((gone.status, gone.json()), (200, json!({"success": true})));
    assert!(gone.cookie("chatto_session").unwrap().1.contains("Max-Age=0"));
    assert!(gone.cookie("chatto_csrf").unwrap().1.contains("Max-Age=0"));
    assert_eq!(alive(&token), 401, "the pair of the log-in ends together");
    assert_eq!(out(&[("Cookie", &cookies)]).status, 200, "a dead cookie counts as none");
    assert_eq!(out(&[]).status, 200);
    let (session, _, token) = log_in();
    let bearer = format!("Bearer {token}");
    let both = [
        ("Cookie", &*format!("chatto_session={session}")),
        ("Authorization", &bearer),
        ("Origin", "https://elsewhere.example"),
    ];
    assert_eq!(out(&both).status, 200);
    assert_eq!(alive(&token), 401);
}

#[test]
fn a_cookie_counts_from_our_own_origin_only() {
    let edge = edge();
    edge.owner();
    let body = json!({"identifier": "ada", "password": "correct horse"});
    let session =
        edge.post("/auth/login", &[], &body).cookie("chatto_session").unwrap().0.to_owned();
    let cookie = format!("chatto_session={session}");
    let viewer = |headers: &[(&str, &str)]| {
        edge.post("/api/connect/chatto.api.v1.ViewerService/GetViewer", headers, &json!({})).status
    };
    assert_eq!(viewer(&[("Cookie", &cookie)]), 200);
    assert_eq!(viewer(&[("Cookie", &cookie), ("Origin", "http://localhost")]), 200);
    for origin in ["https://localhost", "http://localhost:81", "http://evil.example", "null", "x"] {
        assert_eq!(viewer(&[("Cookie", &cookie), ("Origin", origin)]), 401, "{origin}");
    }
    let bearer = [("Cookie", &*cookie), ("Authorization", "Bearer cht_ATnonsense")];
    assert_eq!(viewer(&bearer), 401, "a bearer is the only one that counts");
}

#[test]
fn a_live_session_gets_its_csrf_cookie_on_any_safe_request() {
    let edge = edge();
    edge.owner();
    let body = json!({"identifier": "ada", "password": "correct horse"});
    let session =
        edge.post("/auth/login", &[], &body).cookie("chatto_session").unwrap().0.to_owned();
    let cookie = format!("chatto_session={session}");
    for (method, path) in
        [("GET", "/"), ("HEAD", "/setup"), ("OPTIONS", "/api/x"), ("GET", "/api/x")]
    {
        let response = edge.exchange(&head(method, path, &[("Cookie", &cookie)]));
        let (csrf, _) = response.cookie("chatto_csrf").expect(path);
        let both = format!("{cookie}; chatto_csrf={csrf}");
        let kept = edge.exchange(&head(method, path, &[("Cookie", &both)]));
        assert!(kept.cookie("chatto_csrf").is_none(), "a valid one is kept");
        let other = format!("{cookie}; chatto_csrf=forged");
        assert!(
            edge.exchange(&head(method, path, &[("Cookie", &other)]))
                .cookie("chatto_csrf")
                .is_some()
        );
    }
    let dead = edge.get("/", &[("Cookie", "chatto_session=s.bm90aGluZw.bm90aGluZw")]);
    assert!(dead.cookie("chatto_csrf").is_none());
}

#[test]
fn cookies_are_secure_behind_https() {
    let public_url = PublicUrl::configured("https://chat.example.org").unwrap();
    let edge = Edge::start(Config { public_url, ..Config::default() });
    let body = json!({"token": edge.setup_token(), "login": "ada", "password": "correct horse"});
    let response = edge.post("/auth/setup", &[], &body);
    for cookie in ["chatto_session", "chatto_csrf"] {
        assert!(response.cookie(cookie).unwrap().1.contains("; Secure"));
    }
    let bearer = format!("Bearer {}", response.json()["token"].as_str().unwrap());
    let link = edge.post("/auth/join-links", &[("Authorization", &bearer)], &json!({}));
    let url = link.json()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("https://chat.example.org/setup#"), "{url}");
}

#[test]
fn a_session_slides_while_it_is_used_and_ends_when_it_is_not() {
    let edge = edge();
    edge.owner();
    let body = json!({"identifier": "ada", "password": "correct horse"});
    let response = edge.post("/auth/login", &[], &body);
    let cookie = format!("chatto_session={}", response.cookie("chatto_session").unwrap().0);
    let day = Duration::from_secs(24 * 3600);
    let page = || edge.get("/", &[("Cookie", &cookie)]);
    assert!(page().cookie("chatto_session").is_none(), "set once a day");
    for _ in 0..3 {
        edge.clock.advance(60 * day);
        assert!(page().cookie("chatto_session").unwrap().1.contains("Max-Age=7776000"));
    }
    edge.clock.advance(91 * day);
    assert!(page().cookie("chatto_csrf").is_none(), "a dead session");
}

/// Status, headers and body, without what differs from one response to the next.
fn without_times(response: &super::support::Response) -> (u16, Vec<(String, String)>, String) {
    let timely = ["date", "retry-after"];
    let headers = response.headers.iter().filter(|(name, _)| !timely.contains(&name.as_str()));
    (response.status, headers.cloned().collect(), response.text())
}

#[test]
fn failed_log_ins_are_alike_for_known_and_unknown_names() {
    let edge = edge();
    edge.owner();
    let attempt = |identifier: &str| {
        let body = json!({"identifier": identifier, "password": "wrong horse"});
        edge.post("/auth/login", &[], &body)
    };
    for n in 0..6 {
        let (known, unknown) = (attempt("ada"), attempt("bob"));
        assert_eq!(known.status, if n < 5 { 401 } else { 429 }, "{n}");
        assert_eq!(without_times(&known), without_times(&unknown), "{n}");
        assert_eq!(known.header("retry-after"), unknown.header("retry-after"), "{n}");
    }
}

#[test]
fn a_link_is_no_way_to_try_names_without_end() {
    let edge = edge();
    let owner = format!("Bearer {}", edge.owner());
    let token = || {
        let link = edge.post("/auth/join-links", &[("Authorization", &owner)], &json!({}));
        link.json()["url"].as_str().unwrap().split_once('#').unwrap().1.to_owned()
    };
    let (first, second, third) = (token(), token(), token());
    let redeem = |token: &str, login: &str, client: &str| {
        let body = json!({"token": token, "login": login, "password": "correct horse"});
        edge.post("/auth/setup", &[("X-Forwarded-For", client)], &body)
    };
    for _ in 0..20 {
        assert_eq!(redeem(&first, "ada", "192.0.2.1").status, 409);
    }
    for (token, client) in [(&first, "192.0.2.1"), (&first, "192.0.2.2"), (&second, "192.0.2.1")] {
        let response = redeem(token, "bob", client);
        assert_eq!(response.status, 429, "{client}: {}", response.text());
        assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(redeem(&third, "bob", "192.0.2.2").status, 200, "another link and address");
    edge.clock.advance(Duration::from_secs(61));
    assert_eq!(redeem(&first, "carl", "192.0.2.1").status, 200, "a minute later");
}

/// The product's own cost of a hash.
#[test]
fn a_taken_name_costs_no_hash() {
    let server = Server::start();
    let ada = server.owner();
    let link = ada.client.post("/auth/join-links", &json!({})).unwrap();
    let token = link["url"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
    let stranger = server.client();
    let least = |path: &str, body: &serde_json::Value| {
        let tries = (0..4).map(|_| {
            let start = Instant::now();
            stranger.post(path, body).unwrap_err();
            start.elapsed()
        });
        tries.min().unwrap()
    };
    let hashed = least("/auth/login", &json!({"identifier": "ada", "password": "wrong horse"}));
    let body = json!({"token": token, "login": "ada", "password": "correct horse"});
    let rejected = least("/auth/setup", &body);
    assert!(rejected * 2 < hashed, "{rejected:?}, and a hash takes {hashed:?}");
}

#[test]
fn a_call_whose_session_ends_while_its_body_comes_does_nothing() {
    let edge = edge();
    let owner = edge.owner();
    let room =
        edge.call_ok(&owner, "RoomDirectoryService/ListRooms", &json!({}))["rooms"][0].clone();
    let room = room["room"]["id"].as_str().unwrap().to_owned();
    edge.call_ok(&owner, "RoomService/JoinRoom", &json!({"roomId": room}));
    for (method, ends_by_password) in [
        ("MessageService/CreateMessage", true),
        ("MessageService/CreateMessage", false),
        ("RoomService/GetRoomEvents", false),
    ] {
        let log_in = json!({"identifier": "ada", "password": "correct horse"});
        let token =
            edge.post("/auth/login", &[], &log_in).json()["token"].as_str().unwrap().to_owned();
        let bearer = format!("Bearer {token}");
        let body = json!({"roomId": room, "body": "too late"}).to_string();
        let length = body.len().to_string();
        let path = format!("/api/connect/chatto.api.v1.{method}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Content-Length", &length),
            ("Expect", "100-continue"),
        ];
        let mut raw = edge.connect();
        raw.send(head("POST", &path, &headers).as_bytes());
        // The server sends this when it begins to read, after it has checked the session.
        assert_eq!(raw.response().unwrap().status, 100);
        raw.send(&body.as_bytes()[..5]);
        if ends_by_password {
            edge.operate(|service| async move {
                service.accounts().set_password("ada", "correct horse").await.unwrap();
            });
        } else {
            let auth = [("Authorization", bearer.as_str())];
            assert_eq!(edge.post("/auth/logout", &auth, &json!({})).status, 200);
        }
        raw.send(&body.as_bytes()[5..]);
        assert_eq!(raw.response().unwrap().status, 401, "{method}");
    }
    let again =
        edge.post("/auth/login", &[], &json!({"identifier": "ada", "password": "correct horse"}));
    let token = again.json()["token"].as_str().unwrap().to_owned();
    let events = edge.call_ok(&token, "RoomService/GetRoomEvents", &json!({"roomId": room}));
    assert!(!events.to_string().contains("too late"), "{events}");
}

#[test]
fn a_body_that_does_not_arrive_holds_up_no_stop() {
    let edge = edge();
    let mut raw = begun(&edge, "/auth/login", "192.0.2.1", 100);
    let started = Instant::now();
    edge.stop.stop();
    assert_eq!(raw.response().unwrap().status, 503);
    edge.join();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn an_answer_with_a_cookie_is_never_stored() {
    let edge = edge();
    edge.owner();
    let response =
        edge.post("/auth/login", &[], &json!({"identifier": "ada", "password": "correct horse"}));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let (session, _) = response.cookie("chatto_session").unwrap();
    // A page that caches may keep is none of those when it brings the CSRF cookie.
    let cookie = format!("chatto_session={session}");
    for path in ["/", "/setup"] {
        let page = edge.get(path, &[("Cookie", &cookie)]);
        let brings = page.cookie("chatto_csrf").is_some();
        assert!(!brings || page.header("cache-control") == Some("no-store"), "{path}");
    }
    assert!(edge.get("/", &[("Cookie", &cookie)]).cookie("chatto_csrf").is_some());
}
