//! Connect calls: envelope, order of checks, one test per error code, and the chat end to end.

use std::io::{Read, Write};

use chatto::contract::Method;
use chatto::http::{self, Config};
use serde_json::json;

use super::support::{Edge, PATIENCE, head};
use crate::support::wait::until;

fn edge() -> Edge {
    Edge::start(Config::default())
}

const VIEWER: &str = "/api/connect/chatto.api.v1.ViewerService/GetViewer";
const DISCOVERY: &str = "/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer";
const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn two_people_talk() {
    let edge = edge();
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let viewer = edge.ask(&bob, "ViewerService/GetViewer", &json!({}));
    assert_eq!(viewer["user"]["profile"]["login"], "bob");
    let rooms = edge.ask(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let general = rooms["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .find(|room| room["room"]["name"] == "general")
        .unwrap();
    let room = general["room"]["id"].as_str().unwrap();
    for who in [&ada, &bob] {
        edge.ask(who, "RoomService/JoinRoom", &json!({"roomId": room}));
    }
    let posted = edge.ask(
        &ada,
        "MessageService/CreateMessage",
        &json!({"roomId": room, "body": "Hello, Bob"}),
    );
    assert_eq!(posted["message"]["body"], "Hello, Bob");
    let id = posted["message"]["id"].as_str().unwrap();
    let events = edge.ask(&bob, "RoomService/GetRoomEvents", &json!({"roomId": room}));
    let rows = events["page"]["events"].as_array().unwrap();
    let last = rows.last().unwrap();
    assert_eq!(last["messagePosted"]["message"]["body"], "Hello, Bob");
    let author = last["actorId"].as_str().unwrap();
    assert_eq!(events["page"]["includes"]["users"][author]["login"], "ada");
    let around =
        edge.ask(&bob, "RoomService/GetRoomEventsAround", &json!({"roomId": room, "eventId": id}));
    let index = around["targetIndex"].as_u64().unwrap_or_default();
    assert_eq!(around["page"]["events"][usize::try_from(index).unwrap()]["id"], id);
    let message =
        edge.ask(&bob, "MessageService/GetMessage", &json!({"roomId": room, "eventId": id}));
    assert_eq!(message["message"], posted["message"]);
    let read = edge.ask(&bob, "RoomService/MarkRoomAsRead", &json!({"roomId": room}));
    assert!(read["lastReadAt"].is_string());
    let users = edge.ask(&bob, "UserService/ListUsers", &json!({}));
    assert_eq!(users["page"]["totalCount"], "2");
    let roles = edge.ask(&bob, "RoleService/ListRoles", &json!({}));
    let names: Vec<_> =
        roles["roles"].as_array().unwrap().iter().map(|role| role["name"].clone()).collect();
    assert_eq!(names, ["everyone", "moderator", "admin", "owner"]);
}

#[test]
fn a_repeat_with_the_same_key_is_the_same_message() {
    let edge = edge();
    let ada = edge.owner();
    let rooms = edge.ask(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let room = rooms["rooms"][1]["room"]["id"].as_str().unwrap();
    edge.ask(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
    let post = |key: &str| {
        let bearer = format!("Bearer {ada}");
        let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", key)];
        let body = json!({"roomId": room, "body": "once"});
        edge.post("/api/connect/chatto.api.v1.MessageService/CreateMessage", &headers, &body)
    };
    let first = post("key-1").json();
    assert_eq!(post("key-1").json(), first);
    assert_ne!(post("key-2").json()["message"]["id"], first["message"]["id"]);
    for bad in ["", "with space", &"k".repeat(129), "gr\u{fc}n"] {
        let answer = post(bad);
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(answer.json()["code"], "invalid_argument");
    }
}

#[test]
fn a_repeat_through_another_process_after_a_cut_connection_is_the_same_message() {
    let [one, other] = Edge::start_two();
    let ada = one.owner();
    let rooms = one.ask(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let room = rooms["rooms"][1]["room"]["id"].as_str().unwrap();
    one.ask(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
    let bearer = format!("Bearer {ada}");
    let body = json!({"roomId": room, "body": "stored once"});
    let path = "/api/connect/chatto.api.v1.MessageService/CreateMessage";
    let length = body.to_string().len().to_string();
    let headers = [
        JSON,
        ("Authorization", bearer.as_str()),
        ("Idempotency-Key", "the-same"),
        ("Content-Length", &length),
    ];
    let mut cut = one.connect();
    cut.send((head("POST", path, &headers) + &body.to_string()).as_bytes());
    let stored = || {
        let events = other.ask(&ada, "RoomService/GetRoomEvents", &json!({"roomId": room}));
        let rows = events["page"]["events"].as_array().unwrap().clone();
        let ids = rows.into_iter().filter(|row| row["messagePosted"].is_object());
        ids.map(|row| row["id"].clone()).collect::<Vec<_>>()
    };
    let first = until("the message is stored", PATIENCE, || stored().pop());
    drop(cut);
    let again = other.post(path, &headers[1..3], &body);
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.json()["message"]["id"], first);
    assert_eq!(stored(), [first]);
}

#[test]
fn members_and_messages_are_read_one_by_one_and_in_batches() {
    let edge = edge();
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let group = &edge.ask(&ada, "RoomDirectoryService/ListRoomGroups", &json!({}))["groups"][0];
    let room = json!({"name": "kitchen", "groupId": group["id"], "description": "pots"});
    let room = edge.ask(&ada, "RoomService/CreateRoom", &room);
    let room = room["room"]["id"].as_str().unwrap();
    let outside = edge.call(&bob, "RoomService/GetRoomEvents", &json!({"roomId": room}));
    assert_eq!(outside.json()["code"], "permission_denied");
    edge.ask(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
    let id = |token: &str| {
        let viewer = edge.ask(token, "ViewerService/GetViewer", &json!({}));
        viewer["user"]["profile"]["id"].as_str().unwrap().to_owned()
    };
    let (ada_id, bob_id) = (id(&ada), id(&bob));
    let asked = json!({"roomId": room, "userIds": [bob_id, ada_id, ada_id, "Unobody"]});
    let members = edge.ask(&ada, "RoomService/BatchGetMembers", &asked);
    assert_eq!(members["members"].as_array().unwrap().len(), 1);
    let one = |user: &str| {
        edge.call(&ada, "RoomService/GetMember", &json!({"roomId": room, "userId": user}))
    };
    assert_eq!(one(&ada_id).json()["member"]["user"]["login"], "ada");
    assert_eq!(one(&bob_id).status, 404);
    edge.ask(&bob, "RoomService/JoinRoom", &json!({"roomId": room}));
    let members = edge.ask(&ada, "RoomService/BatchGetMembers", &asked);
    assert_eq!(members["members"][0]["user"]["login"], "bob");
    assert_eq!(
        edge.ask(&bob, "RoomService/ListMembers", &json!({"roomId": room}))["page"]["totalCount"],
        "2"
    );
    let post = |body: &str| {
        let posted = json!({"roomId": room, "body": body});
        edge.ask(&bob, "MessageService/CreateMessage", &posted)["message"]["id"].clone()
    };
    let (first, second) = (post("one"), post("two"));
    let asked = json!({"roomId": room, "eventIds": [second, first, second, "Enothing"]});
    let messages = edge.ask(&ada, "MessageService/BatchGetMessages", &asked);
    let bodies: Vec<_> =
        messages["messages"].as_array().unwrap().iter().map(|one| one["body"].clone()).collect();
    assert_eq!(bodies, ["two", "one"]);
    assert_eq!(edge.ask(&bob, "RoomService/LeaveRoom", &json!({"roomId": room}))["left"], true);
    assert_eq!(one(&bob_id).status, 404);
}

#[test]
fn what_is_wrong_with_the_envelope_has_its_status() {
    let edge = edge();
    let unknown = edge.post("/api/connect/chatto.api.v1.RoomService/Nonsense", &[], &json!({}));
    assert_eq!(unknown.status, 404);
    assert!(unknown.json().is_object());
    let verb = edge.get(VIEWER, &[]);
    assert_eq!(verb.status, 405);
    for kind in ["text/plain", "application/grpc", "application/connect+proto"] {
        let answer = edge.post_bytes(VIEWER, &[("Content-Type", kind)], b"{}");
        assert_eq!((answer.status, answer.body.len()), (415, 0), "{kind}");
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
        let answer = edge.post_bytes(VIEWER, &[("Content-Type", kind)], body);
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let text = json!({"code": "unauthenticated", "message": "authentication required"});
        assert_eq!(answer.json(), text);
    }
    let token = edge.owner();
    let bearer = format!("Bearer {token}");
    for (kind, body) in [("application/json", &b"{["[..]), ("application/proto", b"\xff\xff")] {
        let headers = [("Content-Type", kind), ("Authorization", bearer.as_str())];
        let answer = edge.post_bytes(VIEWER, &headers, body);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_argument")));
    }
}

#[test]
fn each_code_has_its_status() {
    let edge = edge();
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let rooms = edge.ask(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let named = |name: &str| {
        let all = rooms["rooms"].as_array().unwrap();
        let room = all.iter().find(|room| room["room"]["name"] == name).unwrap();
        room["room"]["id"].as_str().unwrap().to_owned()
    };
    let (announcements, general) = (named("announcements"), named("general"));
    let group =
        edge.ask(&ada, "RoomDirectoryService/ListRoomGroups", &json!({}))["groups"][0]["id"]
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
        let answer = edge.call(&bob, method, &body);
        assert_eq!(answer.status, status, "{method}: {}", answer.text());
        assert_eq!(answer.json()["code"], code, "{method}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.json()["message"].is_string());
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
    let late = late.answer().unwrap();
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
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{}").unwrap();
    let packed = packed.finish().unwrap();
    let headers = [
        JSON,
        ("Authorization", &bearer),
        ("Content-Encoding", "gzip"),
        ("Accept-Encoding", "br, gzip;q=0.5"),
    ];
    let answer = edge.post_bytes(VIEWER, &headers, &packed);
    assert_eq!(answer.status, 200, "{:?}", answer.headers);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
    let plain = edge.post(VIEWER, &[("Authorization", &bearer)], &json!({}));
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(text, plain.text());
    let small = edge.post(DISCOVERY, &[("Accept-Encoding", "gzip")], &json!({}));
    assert_eq!(small.header("content-encoding"), None, "below the least size");
    let refused = edge.post(
        VIEWER,
        &[("Authorization", &bearer), ("Accept-Encoding", "gzip;q=0")],
        &json!({}),
    );
    assert_eq!(refused.header("content-encoding"), None);
    let broken = edge.post_bytes(VIEWER, &headers, b"no gzip");
    assert_eq!(broken.status, 400);
    let other = [JSON, ("Authorization", &*bearer), ("Content-Encoding", "br")];
    assert_eq!(edge.post_bytes(VIEWER, &other, b"x").json()["code"], "unimplemented");
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(&vec![b' '; 8 << 20]).unwrap();
    let answer = edge.post_bytes(VIEWER, &headers, &bomb.finish().unwrap());
    assert_eq!(answer.json()["code"], "resource_exhausted");
}

#[test]
fn a_post_is_stored_although_its_client_goes_away() {
    let edge = edge();
    let ada = edge.owner();
    let rooms = edge.ask(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let room = rooms["rooms"][1]["room"]["id"].as_str().unwrap();
    edge.ask(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
    let bearer = format!("Bearer {ada}");
    let body = json!({"roomId": room, "body": "and gone"}).to_string();
    let length = body.len().to_string();
    let path = "/api/connect/chatto.api.v1.MessageService/CreateMessage";
    let headers = [JSON, ("Authorization", &bearer), ("Content-Length", &length)];
    let request = head("POST", path, &headers) + &body;
    // Ten clients cut their connection right behind the last byte; what was begun is finished. A
    // server that saw the end first has begun nothing, so the test asks for whole messages only.
    for _ in 0..10 {
        let mut raw = edge.connect();
        raw.send(request.as_bytes());
        drop(raw);
    }
    let mut last = None;
    until("stable timeline", PATIENCE, || {
        let events = edge.ask(&ada, "RoomService/GetRoomEvents", &json!({"roomId": room}));
        let count = events["page"]["events"].as_array().unwrap().len();
        let stable = last == Some(count);
        last = Some(count);
        stable.then_some(())
    });
    assert_eq!(
        edge.ask(&ada, "ViewerService/GetViewer", &json!({}))["user"]["profile"]["login"],
        "ada"
    );
}

#[test]
fn requests_in_flight_finish_when_the_server_stops() {
    let edge = edge();
    edge.owner();
    let body = json!({"identifier": "ada", "password": "correct horse"}).to_string();
    let mut raw = edge.connect();
    let (first, rest) = body.split_at(10);
    let length = body.len().to_string();
    raw.send(
        (head("POST", "/auth/login", &[JSON, ("Content-Length", &length)]) + first).as_bytes(),
    );
    // The server has begun when it asks nobody else: another request on a new connection is answered.
    assert_eq!(edge.get("/healthz", &[]).status, 200);
    edge.stop.stop();
    raw.send(rest.as_bytes());
    let answer = raw.answer().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(raw.is_closed());
    edge.join();
}

#[test]
fn methods_and_their_states_are_golden() {
    let listing = chatto::contract::listing(http::is_served);
    let golden = include_str!("../golden/methods.txt");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/methods.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &listing).unwrap();
        return;
    }
    assert!(golden == listing, "UPDATE_GOLDEN=1 writes {path} anew");
}

#[test]
fn permissions_are_told_when_all_their_methods_are_served() {
    let served = |name: &&str| {
        let method = Method::ALL.into_iter().find(|method| {
            let service = method.service().rsplit('.').next().unwrap();
            format!("{service}/{}", method.name()) == **name
        });
        http::is_served(method.unwrap_or_else(|| panic!("{name} is no method of the contract")))
    };
    use chatto::domain::permission::{capability_screens, screens};
    for screen in screens() {
        let all = screen.methods.iter().all(|name| served(&name));
        assert_eq!(screen.built, all, "{:?}", screen.permission);
    }
    for (capability, methods, built) in capability_screens() {
        let all = methods.iter().all(|name| served(&name));
        assert_eq!(*built, all, "{capability:?}");
    }
}
