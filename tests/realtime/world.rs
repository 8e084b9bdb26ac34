//! A server, or several on one store, and the people there. Each call and each connection takes the next
//! of its endpoints: with several processes they come to another one every time.

use std::cell::Cell;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::certificates::Authority;
use crate::support::filter::Filter;
use crate::support::nats::NatsServer;
use crate::support::port::free_port;
use crate::support::proxy::{Kind, PortTaken, Proxy};
use crate::support::realtime::{Endpoint, Follower, Key, Response, Socket};
pub(super) use crate::support::server::SECRET_KEY;
use crate::support::server::Server;
use crate::support::wait::until;

/// A busy machine starts slowly.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The processes under test and the people who use them.
pub(super) struct World {
    endpoints: Vec<Endpoint>,
    turn: Cell<usize>,
    owner: Option<Person>,
    pub(super) servers: Vec<Server>,
    /// Dropped after the servers that use it.
    pub(super) nats: Option<NatsServer>,
    proxy: Option<Proxy>,
}

/// Somebody with a session.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) login: String,
    pub(super) token: String,
    session: String,
    csrf: String,
}

impl Person {
    pub(super) fn bearer(&self) -> Key {
        Key::Bearer(self.token.clone())
    }

    pub(super) fn cookie(&self) -> Key {
        Key::Cookie(format!("chatto_session={}; chatto_csrf={}", self.session, self.csrf))
    }

    fn of(login: &str, response: &Response) -> Self {
        let json = &response.json;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Self {
            id: text(&json["user"]["id"]),
            login: login.to_owned(),
            token: text(&json["token"]),
            session: response.cookie("chatto_session").expect("a session cookie"),
            csrf: response.cookie("chatto_csrf").expect("a CSRF cookie"),
        }
    }
}

impl World {
    /// One process with its own nats-server.
    pub(super) fn one() -> Self {
        let server = Server::start();
        let endpoints = vec![Endpoint::local(server.port())];
        Self::of(endpoints, vec![server], None)
    }

    /// One process that speaks TLS.
    pub(super) fn tls() -> Self {
        let authority = Arc::new(Authority::new());
        let mut server = Server::prepare();
        let (certificate, key) = authority.issue().write(server.dir());
        let endpoint = Endpoint::tls(server.port(), &authority);
        server.set("CHATTO_WEBSERVER_TLS_ENABLED", "true");
        server.set("CHATTO_WEBSERVER_TLS_CERT_FILE", &certificate.to_string_lossy());
        server.set("CHATTO_WEBSERVER_TLS_KEY_FILE", &key.to_string_lossy());
        server.set("CHATTO_WEBSERVER_URL", &endpoint.origin());
        server.spawn();
        until("it responds over TLS", STARTS_WITHIN, || {
            let open = TcpStream::connect(("127.0.0.1", server.port())).is_ok();
            (open && endpoint.request("GET", "/readyz", &[], "").status == 200).then_some(())
        });
        Self::of(vec![endpoint], vec![server], None)
    }

    /// One process behind a reverse proxy that speaks TLS for it.
    pub(super) fn behind(kind: Kind) -> Self {
        let authority = Arc::new(Authority::new());
        let mut server = Server::prepare();
        for _ in 0..5 {
            let endpoint = Endpoint::tls(free_port(), &authority);
            server.set("CHATTO_WEBSERVER_URL", &endpoint.origin());
            server.run();
            match Proxy::start(kind, endpoint.port(), server.port(), &authority.issue()) {
                Ok(proxy) => {
                    let mut world = Self::of(vec![endpoint], vec![server], None);
                    world.proxy = Some(proxy);
                    return world;
                }
                Err(PortTaken) => assert!(server.stop().success()),
            }
        }
        panic!("no free port in five attempts");
    }

    /// Three processes on one external NATS.
    pub(super) fn three() -> Self {
        Self::shared(3)
    }

    /// Three processes on one external NATS; the last one's line can lose everything about STATE.
    pub(super) fn partly_behind_a_filter() -> (Self, Filter) {
        let nats = NatsServer::start();
        let filter = Filter::of_state(nats.port());
        let urls = [nats.url(), nats.url(), filter.url()];
        let servers: Vec<Server> = urls.iter().map(|url| process(url)).collect();
        let endpoints = servers.iter().map(|server| Endpoint::local(server.port())).collect();
        (Self::of(endpoints, servers, Some(nats)), filter)
    }

    /// Processes that reach one external NATS at these addresses.
    pub(super) fn reaching(urls: &[String], nats: NatsServer) -> Self {
        let servers: Vec<Server> = urls.iter().map(|url| process(url)).collect();
        let endpoints = servers.iter().map(|server| Endpoint::local(server.port())).collect();
        Self::of(endpoints, servers, Some(nats))
    }

    /// So many processes on one external NATS.
    pub(super) fn shared(processes: usize) -> Self {
        let nats = NatsServer::start();
        let servers: Vec<Server> = (0..processes).map(|_| process(&nats.url())).collect();
        let endpoints = servers.iter().map(|server| Endpoint::local(server.port())).collect();
        Self::of(endpoints, servers, Some(nats))
    }

    /// Servers that run already, reached through these endpoints.
    pub(super) fn of(
        endpoints: Vec<Endpoint>,
        servers: Vec<Server>,
        nats: Option<NatsServer>,
    ) -> Self {
        let turn = Cell::new(0);
        let mut world = Self { endpoints, turn, owner: None, servers, nats, proxy: None };
        // Each process makes a link of its own when it has started, which replaces every former one.
        world.owner = Some(until("an owner", STARTS_WITHIN, || {
            let link = world.servers[0].chatto_ok(["setup-link"]);
            world.try_redeem(link.split('#').nth(1).unwrap().trim(), "ada").ok()
        }));
        world
    }

    pub(super) fn owner(&self) -> &Person {
        self.owner.as_ref().unwrap()
    }

    /// Where the next call goes.
    pub(super) fn endpoint(&self) -> &Endpoint {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        &self.endpoints[turn % self.endpoints.len()]
    }

    /// Somebody new, in no room but by rule.
    pub(super) fn person(&self, login: &str) -> Person {
        let link = self.plain(self.owner(), "/auth/join-links", &json!({}));
        assert_eq!(link.status, 200, "{}", link.body);
        let url = link.json["url"].as_str().unwrap().to_owned();
        self.redeem(url.split('#').nth(1).unwrap(), login)
    }

    /// Another session of somebody.
    pub(super) fn log_in(&self, login: &str) -> Person {
        let body = json!({"identifier": login, "password": password(login)});
        let response = self.endpoint().request("POST", "/auth/login", &[JSON], &body.to_string());
        assert_eq!(response.status, 200, "{}", response.body);
        Person::of(login, &response)
    }

    /// A POST with a bearer to a path that is no Connect call.
    pub(super) fn plain(&self, who: &Person, path: &str, body: &Value) -> Response {
        Self::send(self.endpoint(), who, path, body)
    }

    /// A Connect call that must succeed.
    #[track_caller]
    pub(super) fn call(&self, who: &Person, method: &str, body: &Value) -> Value {
        Self::call_at(self.endpoint(), who, method, body)
    }

    /// The same at one process.
    #[track_caller]
    pub(super) fn call_at(endpoint: &Endpoint, who: &Person, method: &str, body: &Value) -> Value {
        let package = match method {
            _ if method.starts_with("ServerDiscovery") => "discovery",
            _ if method.starts_with("Admin") => "admin",
            _ => "api",
        };
        let response =
            Self::send(endpoint, who, &format!("/api/connect/chatto.{package}.v1.{method}"), body);
        assert_eq!(response.status, 200, "{method}: {}", response.body);
        response.json
    }

    fn send(endpoint: &Endpoint, who: &Person, path: &str, body: &Value) -> Response {
        let bearer = format!("Bearer {}", who.token);
        let headers = [JSON, ("Authorization", bearer.as_str())];
        endpoint.request("POST", path, &headers, &body.to_string())
    }

    /// A new channel with these members.
    pub(super) fn room(&self, name: &str, members: &[&Person]) -> String {
        let groups = self.call(self.owner(), "RoomDirectoryService/ListRoomGroups", &json!({}));
        let body = json!({"name": name, "groupId": groups["groups"][0]["id"]});
        let made = self.call(self.owner(), "RoomService/CreateRoom", &body);
        let id = made["room"]["id"].as_str().unwrap().to_owned();
        for member in members {
            self.join(member, &id);
        }
        id
    }

    pub(super) fn join(&self, who: &Person, room: &str) {
        self.call(who, "RoomService/JoinRoom", &json!({"roomId": room}));
    }

    pub(super) fn leave(&self, who: &Person, room: &str) {
        self.call(who, "RoomService/LeaveRoom", &json!({"roomId": room}));
    }

    /// Posts and returns the id of the message.
    #[track_caller]
    pub(super) fn post(&self, who: &Person, room: &str, body: &str) -> String {
        Self::post_by(self.endpoint(), who, room, body)
    }

    /// The same at one process.
    #[track_caller]
    pub(super) fn post_by(endpoint: &Endpoint, who: &Person, room: &str, body: &str) -> String {
        let request = json!({"roomId": room, "body": body});
        let response = Self::call_at(endpoint, who, "MessageService/CreateMessage", &request);
        response["message"]["id"].as_str().unwrap().to_owned()
    }

    /// One attempt that may fail and be repeated with the same key.
    pub(super) fn try_post(
        &self,
        who: &Person,
        room: &str,
        body: &str,
        key: &str,
    ) -> Option<String> {
        Self::try_post_by(self.endpoint(), who, room, body, key)
    }

    /// The same at one process.
    pub(super) fn try_post_by(
        endpoint: &Endpoint,
        who: &Person,
        room: &str,
        body: &str,
        key: &str,
    ) -> Option<String> {
        let bearer = format!("Bearer {}", who.token);
        let headers = [JSON, ("Authorization", bearer.as_str()), ("Idempotency-Key", key)];
        let request = json!({"roomId": room, "body": body}).to_string();
        let path = "/api/connect/chatto.api.v1.MessageService/CreateMessage";
        let response = endpoint.request("POST", path, &headers, &request);
        assert!([200, 503].contains(&response.status), "{}", response.body);
        Some(response.json["message"]["id"].as_str()?.to_owned())
    }

    /// Every process.
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The operator's command at the first process.
    pub(super) fn operate(&self, args: &[&str]) -> String {
        self.servers[0].chatto_ok(args)
    }

    /// A client that has loaded a snapshot and retains these rooms.
    #[track_caller]
    pub(super) fn follow(&self, who: &Person, rooms: &[&str]) -> Follower {
        let mut follower = Follower::new(who.bearer());
        follower.retain(rooms.iter().copied());
        follower.connect(self.endpoint());
        follower
    }

    /// A socket before its first frame.
    pub(super) fn socket(&self, key: &Key) -> Socket {
        Socket::open(self.endpoint(), key)
    }

    fn redeem(&self, token: &str, login: &str) -> Person {
        self.try_redeem(token, login).unwrap()
    }

    fn try_redeem(&self, token: &str, login: &str) -> Result<Person, Response> {
        let body = json!({"token": token, "login": login, "password": password(login)});
        let response = self.endpoint().request("POST", "/auth/setup", &[JSON], &body.to_string());
        if response.status == 200 { Ok(Person::of(login, &response)) } else { Err(response) }
    }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(super) fn password(login: &str) -> String {
    format!("the password of {login}")
}

/// A running process that keeps everything in this NATS.
fn process(url: &str) -> Server {
    let mut server = Server::prepare();
    server.use_external(url);
    server.run();
    server
}
