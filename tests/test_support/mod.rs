//! The test build (feature `test-support`): bootstrap data, the routes of the contract's section 11, and
//! that no other build has any of them. `.ci/test-build dev` makes the program, beside the ordinary one.

mod absent;
mod bootstrap;
mod routes;

use serde_json::{Value, json};

use crate::support::server::Server;

/// A running test build; `config` is its `chatto.toml`.
fn start(config: &str) -> Server {
    let mut server = Server::prepare_test_build();
    std::fs::write(server.dir().join("chatto.toml"), config).unwrap();
    server.run();
    server
}

/// What a request was answered, with the cookies it set.
struct Answer {
    status: u16,
    json: Value,
    cookies: Vec<(String, String)>,
}

impl Answer {
    fn cookie(&self, name: &str) -> &str {
        let found = self.cookies.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).expect("the cookie is set")
    }

    /// The session as a browser sends it.
    fn browser(&self) -> String {
        let (session, csrf) = (self.cookie("chatto_session"), self.cookie("chatto_csrf"));
        format!("chatto_session={session}; chatto_csrf={csrf}")
    }
}

fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
    let agent = ureq::Agent::from(config);
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:{}{path}", server.port()))
        .header("Content-Type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
    let cookies = answer.headers().get_all("set-cookie").iter().map(|line| {
        let pair = line.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
        (pair.0.to_owned(), pair.1.to_owned())
    });
    let cookies = cookies.collect();
    let status = answer.status().as_u16();
    let text = answer.body_mut().read_to_string().unwrap();
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, json, cookies }
}

fn post(server: &Server, path: &str, body: &Value) -> Answer {
    send(server, "POST", path, &[], &body.to_string())
}

/// A Connect call by a browser that has cookies alone.
fn call(server: &Server, cookies: &str, method: &str, body: &Value) -> Value {
    let path = format!("/api/connect/chatto.api.v1.{method}");
    let answer = send(server, "POST", &path, &[("Cookie", cookies)], &body.to_string());
    assert_eq!(answer.status, 200, "{method}: {}", answer.json);
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
    let headers = [("Cookie", cookies), ("X-CSRF-Token", csrf)];
    send(server, "POST", "/auth/join-links", &headers, "{}").status == 200
}
