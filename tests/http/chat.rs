//! The chat end to end over HTTP, and what becomes of calls whose client goes away.

use chatto::http::Config;
use serde_json::json;

use super::support::{Edge, PATIENCE, head};
use crate::support::wait::until;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn edge() -> Edge {
    Edge::start(Config::default())
}

#[test]
fn two_people_talk() {
    let edge = edge();
    let ada = edge.owner();
    let bob = edge.person(&ada, "bob");
    let viewer = edge.call_ok(&bob, "ViewerService/GetViewer", &json!({}));
    assert_eq!(viewer["user"]["profile"]["login"], "bob");
    let rooms = edge.call_ok(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let general = rooms["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .find(|room| room["room"]["name"] == "general")
        .unwrap();
    let room = general["room"]["id"].as_str().unwrap();
    for who in [&ada, &bob] {
        edge.call_ok(who, "RoomService/JoinRoom", &json!({"roomId": room}));
    }
    let posted = edge.call_ok(
        &ada,
        "MessageService/CreateMessage",
        &json!({"roomId": room, "body": "Hello, Bob"}),
    );
    assert_eq!(posted["message"]["body"], "Hello, Bob");
    let id = posted["message"]["id"].as_str().unwrap();
    let events = edge.call_ok(&bob, "RoomService/GetRoomEvents", &json!({"roomId": room}));
    let rows = events["page"]["events"].as_array().unwrap();
    let last = rows.last().unwrap();
    assert_eq!(last["messagePosted"]["message"]["body"], "Hello, Bob");
    let author = last["actorId"].as_str().unwrap();
    assert_eq!(events["page"]["includes"]["users"][author]["login"], "ada");
    let around = edge.call_ok(
        &bob,
        "RoomService/GetRoomEventsAround",
        &json!({"roomId": room, "eventId": id}),
    );
    let index = around["targetIndex"].as_u64().unwrap_or_default();
    assert_eq!(around["page"]["events"][usize::try_from(index).unwrap()]["id"], id);
    let message =
        edge.call_ok(&bob, "MessageService/GetMessage", &json!({"roomId": room, "eventId": id}));
    assert_eq!(message["message"], posted["message"]);
    let read = edge.call_ok(&bob, "RoomService/MarkRoomAsRead", &json!({"roomId": room}));
    assert!(read["lastReadAt"].is_string());
    let users = edge.call_ok(&bob, "UserService/ListUsers", &json!({}));
    assert_eq!(users["page"]["totalCount"], "2");
    let roles = edge.call_ok(&bob, "RoleService/ListRoles", &json!({}));
    let names: Vec<_> =
        roles["roles"].as_array().unwrap().iter().map(|role| role["name"].clone()).collect();
    assert_eq!(names, ["everyone", "moderator", "admin", "owner"]);
}

#[test]
fn a_repeat_with_the_same_key_is_the_same_message() {
    let edge = edge();
    let ada = edge.owner();
    let rooms = edge.call_ok(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let room = rooms["rooms"][1]["room"]["id"].as_str().unwrap();
    edge.call_ok(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
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
        let response = post(bad);
        assert_eq!(response.status, 400, "{bad}");
        assert_eq!(response.json()["code"], "invalid_argument");
    }
}

#[test]
fn a_repeat_through_another_process_after_a_cut_connection_is_the_same_message() {
    let [one, other] = Edge::start_two();
    let ada = one.owner();
    let rooms = one.call_ok(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let room = rooms["rooms"][1]["room"]["id"].as_str().unwrap();
    one.call_ok(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
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
        let events = other.call_ok(&ada, "RoomService/GetRoomEvents", &json!({"roomId": room}));
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
    let group = &edge.call_ok(&ada, "RoomDirectoryService/ListRoomGroups", &json!({}))["groups"][0];
    let room = json!({"name": "kitchen", "groupId": group["id"], "description": "pots"});
    let room = edge.call_ok(&ada, "RoomService/CreateRoom", &room);
    let room = room["room"]["id"].as_str().unwrap();
    let outside = edge.call(&bob, "RoomService/GetRoomEvents", &json!({"roomId": room}));
    assert_eq!(outside.json()["code"], "permission_denied");
    edge.call_ok(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
    let id = |token: &str| {
        let viewer = edge.call_ok(token, "ViewerService/GetViewer", &json!({}));
        viewer["user"]["profile"]["id"].as_str().unwrap().to_owned()
    };
    let (ada_id, bob_id) = (id(&ada), id(&bob));
    let request = json!({"roomId": room, "userIds": [bob_id, ada_id, ada_id, "Unobody"]});
    let members = edge.call_ok(&ada, "RoomService/BatchGetMembers", &request);
    assert_eq!(members["members"].as_array().unwrap().len(), 1);
    let one = |user: &str| {
        edge.call(&ada, "RoomService/GetMember", &json!({"roomId": room, "userId": user}))
    };
    assert_eq!(one(&ada_id).json()["member"]["user"]["login"], "ada");
    assert_eq!(one(&bob_id).status, 404);
    edge.call_ok(&bob, "RoomService/JoinRoom", &json!({"roomId": room}));
    let members = edge.call_ok(&ada, "RoomService/BatchGetMembers", &request);
    assert_eq!(members["members"][0]["user"]["login"], "bob");
    assert_eq!(
        edge.call_ok(&bob, "RoomService/ListMembers", &json!({"roomId": room}))["page"]["totalCount"],
        "2"
    );
    let post = |body: &str| {
        let posted = json!({"roomId": room, "body": body});
        edge.call_ok(&bob, "MessageService/CreateMessage", &posted)["message"]["id"].clone()
    };
    let (first, second) = (post("one"), post("two"));
    let request = json!({"roomId": room, "eventIds": [second, first, second, "Enothing"]});
    let messages = edge.call_ok(&ada, "MessageService/BatchGetMessages", &request);
    let bodies: Vec<_> =
        messages["messages"].as_array().unwrap().iter().map(|one| one["body"].clone()).collect();
    assert_eq!(bodies, ["two", "one"]);
    assert_eq!(edge.call_ok(&bob, "RoomService/LeaveRoom", &json!({"roomId": room}))["left"], true);
    assert_eq!(one(&bob_id).status, 404);
}

#[test]
fn a_post_is_stored_although_its_client_goes_away() {
    let edge = edge();
    let ada = edge.owner();
    let rooms = edge.call_ok(&ada, "RoomDirectoryService/ListRooms", &json!({}));
    let room = rooms["rooms"][1]["room"]["id"].as_str().unwrap();
    edge.call_ok(&ada, "RoomService/JoinRoom", &json!({"roomId": room}));
    let bearer = format!("Bearer {ada}");
    let body = json!({"roomId": room, "body": "and gone"}).to_string();
    let length = body.len().to_string();
    let path = "/api/connect/chatto.api.v1.MessageService/CreateMessage";
    let headers = [JSON, ("Authorization", &bearer), ("Content-Length", &length)];
    let request = head("POST", path, &headers) + &body;
    // Ten clients cut their connection right behind the last byte; what was begun is finished. A
    // server that saw the end first has begun nothing, so the test requires whole messages only.
    for _ in 0..10 {
        let mut raw = edge.connect();
        raw.send(request.as_bytes());
        drop(raw);
    }
    let mut last = None;
    until("stable timeline", PATIENCE, || {
        let events = edge.call_ok(&ada, "RoomService/GetRoomEvents", &json!({"roomId": room}));
        let count = events["page"]["events"].as_array().unwrap().len();
        let stable = last == Some(count);
        last = Some(count);
        stable.then_some(())
    });
    assert_eq!(
        edge.call_ok(&ada, "ViewerService/GetViewer", &json!({}))["user"]["profile"]["login"],
        "ada"
    );
}
