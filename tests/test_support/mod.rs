//! The test build (feature `test-support`): bootstrap data, the routes of the contract's section 11, and
//! that no other build has any of them. `.ci/test-build dev` makes the program, beside the ordinary one.

mod absent;
mod bootstrap;
mod routes;

use serde_json::{Value, json};

use crate::support::realtime::{Endpoint, Response};
use crate::support::server::Server;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A running test build; `config` is its `chatto.toml`.
fn start(config: &str) -> Server {
    let mut server = Server::prepare_test_build();
    std::fs::write(server.dir().join("chatto.toml"), config).unwrap();
    server.run();
    server
}

/// The session as a browser sends it.
fn browser(answer: &Response) -> String {
    let cookie = |name| answer.cookie(name).expect("the cookie is set");
    let (session, csrf) = (cookie("chatto_session"), cookie("chatto_csrf"));
    format!("chatto_session={session}; chatto_csrf={csrf}")
}

fn send(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    Endpoint::local(server.port()).request(method, path, headers, body)
}

fn post(server: &Server, path: &str, body: &Value) -> Response {
    send(server, "POST", path, &[JSON], &body.to_string())
}

/// A Connect call by a browser that has cookies alone.
fn call(server: &Server, cookies: &str, method: &str, body: &Value) -> Value {
    let path = format!("/api/connect/chatto.api.v1.{method}");
    let answer = send(server, "POST", &path, &[JSON, ("Cookie", cookies)], &body.to_string());
    assert_eq!(answer.status, 200, "{method}: {}", answer.body);
    answer.json
}

/// The names of the rooms a browser's user is in.
fn rooms(server: &Server, cookies: &str) -> Vec<String> {
    let answer = call(server, cookies, "RoomDirectoryService/ListRooms", &json!({}));
    let rooms = answer["rooms"].as_array().unwrap().clone();
    let joined = rooms.iter().filter(|room| room["viewerState"]["isMember"] == true);
    joined.map(|room| room["room"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Whether a browser's user is owner: owners alone make join links.
fn is_owner(server: &Server, cookies: &str) -> bool {
    let csrf = cookies.split("chatto_csrf=").nth(1).unwrap();
    let headers = [JSON, ("Cookie", cookies), ("X-CSRF-Token", csrf)];
    send(server, "POST", "/auth/join-links", &headers, "{}").status == 200
}
