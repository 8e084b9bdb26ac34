//! `[[bootstrap.users]]` and `[bootstrap.server]`.

use serde_json::{Value, json};

use super::{Response, browser, call, is_owner, post, rooms, start};
use crate::support::server::Server;

const USERS: &str = r#"
[[bootstrap.users]]
login = "anna"
display_name = "Anna A."
email = "anna@example.org"
password = "the password of anna"
server_role = "owner"

[[bootstrap.users]]
login = "bert"
password = "the password of bert"
"#;

fn log_in(server: &Server, login: &str) -> Response {
    let body = json!({"identifier": login, "password": format!("the password of {login}")});
    let answer = post(server, "/auth/login", &body);
    assert_eq!(answer.status, 200, "{}", answer.json);
    answer
}

fn rows(server: &Server, cookies: &str, name: &str) -> Vec<Value> {
    let answer = call(server, cookies, "RoomDirectoryService/ListRooms", &json!({}));
    let all = answer["rooms"].as_array().unwrap().clone();
    let room = all.iter().find(|room| room["room"]["name"] == name).expect("the room");
    let request = json!({"roomId": room["room"]["id"]});
    let answer = call(server, cookies, "RoomService/GetRoomEvents", &request);
    answer["page"]["events"].as_array().unwrap().clone()
}

#[test]
fn everything_is_there_when_the_server_is_ready() {
    let text =
        "[bootstrap.server]\nname = \"Club\"\nrooms = [\"workshop\"]\ndescription = \"not ours\"\n";
    let mut server = start(&format!("{text}{USERS}"));
    assert!(server.log().contains("this is a test build"), "it says what it is");
    let found = post(
        &server,
        "/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer",
        &json!({}),
    );
    assert_eq!(found.json["profile"]["name"], "Club");
    assert_eq!(found.json["profile"]["description"], Value::Null, "accepted and ignored");
    let anna = browser(&log_in(&server, "anna"));
    let bert = browser(&log_in(&server, "bert"));
    assert_eq!(
        rooms(&server, &anna),
        ["announcements", "general"],
        "workshop is there, not joined"
    );
    assert_eq!(rooms(&server, &bert), ["announcements", "general"]);
    assert!(is_owner(&server, &anna) && !is_owner(&server, &bert));
    let viewer = call(&server, &anna, "ViewerService/GetViewer", &json!({}));
    assert_eq!(viewer["user"]["hasVerifiedEmail"], true);
    assert_eq!(viewer["user"]["profile"]["displayName"], "Anna A.");
    let shown = rows(&server, &anna, "general");
    let joined: Vec<_> = shown.iter().filter_map(|row| row.get("userJoinedRoom")).collect();
    assert_eq!(joined.len(), 2, "a row for each of them: {shown:?}");
    assert_eq!(rows(&server, &anna, "announcements").len(), 1, "members by rule have no row");
    assert!(server.stop().success());
    server.run();
    assert_eq!(rows(&server, &bert, "general").len(), shown.len(), "written once");
}

#[test]
fn users_alone_join_no_room() {
    let server = start(USERS);
    let bert = browser(&log_in(&server, "bert"));
    assert_eq!(rooms(&server, &bert), ["announcements"], "everybody is there by rule");
}

#[test]
fn a_user_that_cannot_be_made_stops_the_start() {
    let mut server = Server::prepare_test_build();
    let config = "[[bootstrap.users]]\nlogin = \"anna\"\npassword = \"short\"\n";
    std::fs::write(server.dir().join("chatto.toml"), config).unwrap();
    let (exit, said) = server.run_refused();
    assert_eq!(exit, 78, "{said}");
    assert!(said.contains("anna") && said.contains("[[bootstrap.users]]"), "{said}");
    assert!(!said.contains("\"short\""), "{said}");
}
