//! Connect calls: envelope, order of checks, one test per error code, what is served.

use std::io::{Read, Write};

use chatto::http::{self, Config};
use serde_json::json;

use super::limits::begun;
use super::support::{Edge, head};
use crate::support::golden;

fn edge() -> Edge {
    Edge::start(Config::default())
}

const VIEWER: &str = "/api/connect/chatto.api.v1.ViewerService/GetViewer";
const DISCOVERY: &str = "/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer";
const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn what_is_wrong_with_the_envelope_has_its_status() {
    let edge = edge();
    let unknown = edge.post("/api/connect/chatto.api.v1.RoomService/Nonsense", &[], &json!({}));
    assert_eq!(unknown.status, 404);
    assert!(unknown.json().is_object());
    let verb = edge.get(VIEWER, &[]);
    assert_eq!(verb.status, 405);
    for kind in ["text/plain", "application/grpc", "application/connect+proto"] {
        let response = edge.post_bytes(VIEWER, &[("Content-Type", kind)], b"{}");
        assert_eq!((response.status, response.body.len()), (415, 0), "{kind}");
    }
    let charset =
        edge.post_bytes(DISCOVERY, &[("Content-Type", "application/json; charset=utf-8")], b"");
    assert_eq!(charset.status, 200);
}

#[test]
fn discovery_needs_no_credential_and_is_complete() {
    let edge = edge();
    let json = edge.post(DISCOVERY, &[], &json!({})).json();
    assert_ne!(json["profile"]["name"].as_str().unwrap(), "");
    assert!(json["profile"]["version"].as_str().unwrap().starts_with("0.5.0+"));
    assert_eq!(json["login"]["directLoginEnabled"], true);
    assert_eq!(json["login"]["accountCreationPolicy"], "ACCOUNT_CREATION_POLICY_OPEN");
    let binary = edge.post_bytes(DISCOVERY, &[("Content-Type", "application/proto")], b"");
    assert_eq!(binary.status, 200);
    assert_eq!(binary.header("content-type"), Some("application/proto"));
    assert!(!binary.body.is_empty());
}

#[test]
fn unauthenticated_comes_before_a_broken_body() {
    let edge = edge();
    for (kind, body) in [("application/json", &b"{["[..]), ("application/proto", b"\xff\xff")] {
        let response = edge.post_bytes(VIEWER, &[("Content-Type", kind)], body);
        assert_eq!(response.status, 401);
        assert_eq!(response.header("content-type"), Some("application/json"));
        let text = json!({"code": "unauthenticated", "message": "authentication required"});
        assert_eq!(response.json(), text);
    }
    let token = edge.owner();
    let bearer = format!("Bearer {token}");
    for (kind, body) in [("application/json", &b"{["[..]), ("application/proto", b"\xff\xff")] {
        let headers = [("Content-Type", kind), ("Authorization", bearer.as_str())];
        let response = edge.post_bytes(VIEWER, &headers, body);
        assert_eq!((response.status, &response.json()["code"]), (400, &json!("invalid_argument")));
    }
}

#[test]
fn each_code_has_its_status() {
    let edge = edge();
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let rooms = edge.call_ok(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let named = |name: &str| {
        let all = rooms["rooms"].as_array().unwrap();
        let room = all.iter().find(|room| room["room"]["name"] == name).unwrap();
        room["room"]["id"].as_str().unwrap().to_owned()
    };
    let (announcements, general) = (named("announcements"), named("general"));
    let group = edge.call_ok(&ada, "RoomDirectoryService/ListRoomGroups", &json!({}))["groups"][0]
        ["id"]
        .clone();
    let cases = [
        ("RoomService/GetRoomEvents", json!({"roomId": general}), 403, "permission_denied"),
        (
            "MessageService/CreateMessage",
            json!({"roomId": announcements, "body": "x"}),
            403,
            "permission_denied",
        ),
        ("RoleService/GetRole", json!({"name": "nobody"}), 404, "not_found"),
        ("RoomDirectoryService/GetRoom", json!({"roomId": "RnotThere000000"}), 404, "not_found"),
        ("RoleService/GetRole", json!({}), 400, "invalid_argument"),
        ("UserService/GetUser", json!({}), 400, "invalid_argument"),
        ("RoomService/LeaveRoom", json!({"roomId": announcements}), 400, "failed_precondition"),
        ("RoomService/BanMember", json!({"roomId": general}), 501, "unimplemented"),
    ];
    for (method, body, status, code) in cases {
        let response = edge.call(&bob, method, &body);
        assert_eq!(response.status, status, "{method}: {}", response.text());
        assert_eq!(response.json()["code"], code, "{method}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert!(response.json()["message"].is_string());
    }
    let room = json!({"groupId": group, "name": "General"});
    let taken = edge.call(&ada, "RoomService/CreateRoom", &room);
    assert_eq!((taken.status, &taken.json()["code"]), (409, &json!("already_exists")));
    assert_eq!(taken.json()["message"], "a room with this name already exists");
    let long = edge.call(
        &ada,
        "RoomService/CreateRoom",
        &json!({"groupId": group, "name": "x".repeat(31)}),
    );
    assert_eq!(long.json()["message"], "room name must be 30 characters or less");
    let big = edge.call(&ada, "RoleService/GetRole", &json!({"name": "x".repeat(1 << 20)}));
    assert_eq!((big.status, &big.json()["code"]), (429, &json!("resource_exhausted")));
    let bearer = format!("Bearer {ada}");
    let mut late = edge.connect();
    let headers = [
        JSON,
        ("Authorization", bearer.as_str()),
        ("Connect-Timeout-Ms", "20"),
        ("Content-Length", "2"),
    ];
    late.send((head("POST", VIEWER, &headers) + "{").as_bytes());
    let late = late.response().unwrap();
    assert_eq!((late.status, &late.json()["code"]), (504, &json!("deadline_exceeded")));
    let odd = edge.post(
        VIEWER,
        &[("Authorization", &format!("Bearer {ada}")), ("Connect-Timeout-Ms", "soon")],
        &json!({}),
    );
    assert_eq!(odd.status, 400);
}

#[test]
fn gzip_goes_both_ways() {
    let edge = edge();
    let ada = edge.owner();
    let bearer = format!("Bearer {ada}");
    let packed = packed(b"{}");
    let headers = [
        JSON,
        ("Authorization", &bearer),
        ("Content-Encoding", "gzip"),
        ("Accept-Encoding", "br, gzip;q=0.5"),
    ];
    let response = edge.post_bytes(VIEWER, &headers, &packed);
    assert_eq!(response.status, 200, "{:?}", response.headers);
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&response.body[..]).read_to_string(&mut text).unwrap();
    let plain = edge.post(VIEWER, &[("Authorization", &bearer)], &json!({}));
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(text, plain.text());
    let small = edge.post(DISCOVERY, &[("Accept-Encoding", "gzip")], &json!({}));
    assert_eq!(small.header("content-encoding"), None, "below the least size");
    let rejected = edge.post(
        VIEWER,
        &[("Authorization", &bearer), ("Accept-Encoding", "gzip;q=0")],
        &json!({}),
    );
    assert_eq!(rejected.header("content-encoding"), None);
    let broken = edge.post_bytes(VIEWER, &headers, b"no gzip");
    assert_eq!(broken.status, 400);
    let other = [JSON, ("Authorization", &*bearer), ("Content-Encoding", "br")];
    assert_eq!(edge.post_bytes(VIEWER, &other, b"x").json()["code"], "unimplemented");
    let response = edge.post_bytes(VIEWER, &headers, &self::packed(&vec![b' '; 8 << 20]));
    assert_eq!(response.json()["code"], "resource_exhausted");
}

/// A gzip member.
pub(super) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Empty members cost time and give nothing: what bounds a body's bytes does not bound their number.
#[test]
fn a_body_is_one_gzip_member() {
    let edge = edge();
    let bearer = format!("Bearer {}", edge.owner());
    let headers = [JSON, ("Authorization", &*bearer), ("Content-Encoding", "gzip")];
    let (one, empty) = (packed(b"{}"), packed(b""));
    for rest in [empty.clone(), empty.repeat(40_000), vec![0]] {
        let response = edge.post_bytes(VIEWER, &headers, &[one.clone(), rest].concat());
        assert_eq!((response.status, &response.json()["code"]), (400, &json!("invalid_argument")));
    }
    assert_eq!(edge.post_bytes(VIEWER, &headers, &one).status, 200);
    let cut = one.len() - 1;
    assert_eq!(edge.post_bytes(VIEWER, &headers, &one[..cut]).status, 400);
}

#[test]
fn nobody_unpacks_for_strangers() {
    let edge = edge();
    let one = packed(b"{}");
    for path in [DISCOVERY, "/auth/login", "/auth/setup"] {
        let response = edge.post_bytes(path, &[JSON, ("Content-Encoding", "gzip")], &one);
        assert_eq!(response.status, 415, "{path}");
        assert_eq!(response.header("accept-encoding"), Some("identity"), "{path}");
        let plain = edge.post_bytes(path, &[JSON, ("Content-Encoding", "identity")], b"{}");
        assert_ne!(plain.status, 415, "{path}");
    }
}

#[test]
fn requests_in_flight_finish_when_the_server_stops() {
    let edge = edge();
    edge.owner();
    let body = json!({"identifier": "ada", "password": "correct horse"}).to_string();
    let mut raw = begun(&edge, "/auth/login", "192.0.2.1", body.len());
    edge.stop.stop();
    raw.send(&body.as_bytes()[1..]);
    let response = raw.response().unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.header("connection"), Some("close"));
    assert!(raw.is_closed());
    edge.join();
}

#[test]
fn features_that_are_off_are_hidden_or_empty() {
    let edge = edge();
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let search = edge.call_ok(&bob, "MessageSearchService/GetStatus", &json!({}));
    assert_eq!(search, json!({"state": "MESSAGE_SEARCH_STATE_DISABLED"}));
    let found = edge.call(&bob, "MessageSearchService/SearchMessages", &json!({"query": "x"}));
    assert_eq!((found.status, &found.json()["code"]), (400, &json!("failed_precondition")));
    for (method, list) in [
        ("NotificationService/ListNotificationOccurrences", "occurrences"),
        ("ThreadService/ListFollowedThreads", "threads"),
    ] {
        let none = edge.call_ok(&bob, method, &json!({}));
        assert_eq!((none.get(list), &none["page"]), (None, &json!({})), "{method}: {none}");
        assert_eq!(edge.call("", method, &json!({})).status, 401, "{method}");
    }
    let rooms = edge.call_ok(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let named = |name: &str| {
        let all = rooms["rooms"].as_array().unwrap();
        let room = all.iter().find(|room| room["room"]["name"] == name).unwrap();
        room["room"]["id"].clone()
    };
    let pins = |room: serde_json::Value| {
        let response = edge.call(&bob, "RoomService/ListPinnedMessages", &json!({"roomId": room}));
        (response.status, response.json())
    };
    assert_eq!(pins(named("announcements")), (200, json!({"page": {}})));
    assert_eq!(pins(named("general")).0, 403, "no member");
    assert_eq!(pins(json!("RnotThere000000")).0, 404);
}

#[test]
fn methods_and_their_states_are_golden() {
    let listed = chatto::contract::method_list(http::is_served);
    golden::compare("tests/golden/methods.txt", &listed);
}
