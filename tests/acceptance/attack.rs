//! All floods that strangers can send without a log-in, at the same time and from one address, while a member posts
//! and reads from another one. `CHATTO_ATTACK_SECONDS` sets the duration (30), `CHATTO_ATTACK_SERVER` the binary.
#![expect(clippy::disallowed_methods, reason = "tests measure real time; the slow are slow")]

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::Account;
use crate::support::flood::{empty_frame, send_on, upgrade};
use crate::support::realtime::Endpoint;
use crate::support::server::Server;

const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const MEMBER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// The longest time that a call of the member may take.
const CALL_MAX: Duration = Duration::from_secs(2);
/// The limit of `make attack` for the member's 99th percentile: this, or [`WANTED_FACTOR`] times the one without an
/// attack.
const WANTED: Duration = Duration::from_millis(250);
const WANTED_FACTOR: u32 = 4;
/// The longest time that one connection of a flood lasts, so that a flood notices the end of the attack.
const TURN: Duration = Duration::from_secs(2);

/// One connection of a flood from beginning to end; an error names how the server ended it.
type Turn = fn(&Endpoint) -> io::Result<()>;

/// The name, the number of sockets, and what each socket does again and again.
const FLOODS: [(&str, usize, Turn); 11] = [
    ("pings before the hello", 8, |endpoint| noise(endpoint, &[], &empty_frame(0x89))),
    ("pongs before the hello", 4, |endpoint| noise(endpoint, &[], &empty_frame(0x8a))),
    ("pieces of one message", 8, |endpoint| {
        noise(endpoint, &empty_frame(0x02), &empty_frame(0x00))
    }),
    ("idle connections", 8, idle),
    ("slow heads", 4, |endpoint| slowly(endpoint, "GET / HTTP/1.1\r\nX-Slow: ")),
    ("slow bodies", 12, |endpoint| {
        let head = post("/auth/login", "Content-Type: application/json\r\nContent-Length: 60000");
        slowly(endpoint, &head)
    }),
    ("responses that nobody reads", 4, unread),
    ("requests without end", 4, |endpoint| {
        send_on(
            endpoint.tcp()?,
            &[],
            b"GET /no-such-page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            TURN,
        )
        .0
    }),
    ("failed log-ins", 4, |endpoint| {
        ask(endpoint, "/auth/login", &json!({"identifier": any_name(), "password": "wrong horse"}))
    }),
    ("guessed links", 4, |endpoint| {
        let token = any_name();
        ask(
            endpoint,
            "/auth/setup",
            &json!({"token": token, "login": "eve", "password": "wrong horse"}),
        )
    }),
    ("compressed bodies", 4, packed),
];

#[test]
fn a_member_is_served_while_strangers_flood() {
    assert_eq!(FLOODS.iter().map(|(_, sockets, _)| sockets).sum::<usize>(), 64);
    let seconds = std::env::var("CHATTO_ATTACK_SECONDS").map_or(30, |text| text.parse().unwrap());
    let server = match std::env::var("CHATTO_ATTACK_SERVER") {
        Ok(binary) => Server::start_binary(binary),
        Err(_) => Server::start(),
    };
    let owner = server.owner();
    let room = owner.room("general");
    let member = owner.invite("mia");
    member.join(&room);
    let endpoint = Endpoint::local(server.port());
    let caller = Caller { endpoint: endpoint.clone().from(MEMBER), member: &member, room: &room };

    let quiet = caller.calls(Duration::from_secs(seconds).min(Duration::from_secs(10)));
    let strangers = endpoint.from(STRANGER);
    let over = AtomicBool::new(false);
    let turns: Vec<AtomicU64> = FLOODS.iter().map(|_| AtomicU64::new(0)).collect();
    let flooded = std::thread::scope(|scope| {
        for ((_, sockets, turn), turns) in FLOODS.iter().zip(&turns) {
            for _ in 0..*sockets {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        // Refused, cut or ended: open the next one. Only the member's calls count.
                        if turn(&strangers).is_err() {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        // A call that fails ends the floods too, so that the failure is seen.
        let _stopping = SetOnDrop(&over);
        caller.calls(Duration::from_secs(seconds))
    });
    for ((name, sockets, _), turns) in FLOODS.iter().zip(turns) {
        let turns = turns.into_inner();
        eprintln!("{sockets:3} sockets: {name}, {turns} connections");
        assert!(turns >= *sockets as u64, "{name}: {turns} connections");
    }
    let wanted = WANTED.max(quiet.p99 * WANTED_FACTOR);
    let met = if flooded.p99 <= wanted { "met" } else { "MISSED" };
    eprintln!("quiet:   {quiet:?}\nflooded: {flooded:?}\nwanted:  p99 ≤ {wanted:?}: {met}");
    assert!(flooded.slowest <= CALL_MAX, "{flooded:?}");
}

/// The member, on a new connection for each call.
struct Caller<'a> {
    endpoint: Endpoint,
    member: &'a Account,
    room: &'a str,
}

/// The durations of the member's calls.
#[derive(Debug)]
#[expect(dead_code, reason = "shown")]
struct Times {
    calls: usize,
    p50: Duration,
    p99: Duration,
    slowest: Duration,
}

impl Caller<'_> {
    /// Posts, reads and checks readiness in turn for this long. No call may be refused.
    fn calls(&self, how_long: Duration) -> Times {
        let token = self.member.client.token().unwrap();
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let call = |method: &str, body: &Value| {
            let path = format!("/api/connect/chatto.api.v1.{method}");
            timed(|| {
                let response = self.endpoint.request("POST", &path, &headers, &body.to_string());
                assert_eq!(response.status, 200, "{method}: {}", response.body);
            })
        };
        let (post, page) = (
            json!({"roomId": self.room, "body": "still here"}),
            json!({"roomId": self.room, "limit": 50}),
        );
        let started = Instant::now();
        let mut times = Vec::new();
        while started.elapsed() < how_long {
            times.push(call("MessageService/CreateMessage", &post));
            times.push(call("RoomService/GetRoomEvents", &page));
            times.push(timed(|| {
                assert_eq!(self.endpoint.request("GET", "/readyz", &[], "").status, 200);
            }));
        }
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        Times { calls: times.len(), p50: at(50), p99: at(99), slowest: at(100) }
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn noise(endpoint: &Endpoint, first: &[u8], noise: &[u8]) -> io::Result<()> {
    send_on(upgrade(endpoint)?, first, noise, TURN).0
}

fn idle(endpoint: &Endpoint) -> io::Result<()> {
    let mut stream = endpoint.tcp()?;
    stream.set_read_timeout(Some(TURN))?;
    stream.read(&mut [0]).map(|_| ())
}

/// Sends a request one byte at a time.
fn slowly(endpoint: &Endpoint, head: &str) -> io::Result<()> {
    let mut stream = endpoint.tcp()?;
    let started = Instant::now();
    stream.write_all(head.as_bytes())?;
    while started.elapsed() < TURN {
        stream.write_all(b"x")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Sends requests and never reads the responses.
fn unread(endpoint: &Endpoint) -> io::Result<()> {
    let mut stream = endpoint.tcp()?;
    stream.set_write_timeout(Some(TURN))?;
    let many = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(1000);
    loop {
        stream.write_all(many.as_bytes())?;
    }
}

fn ask(endpoint: &Endpoint, path: &str, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let framing = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    exchange(endpoint, &[post(path, &framing).as_bytes(), body.as_bytes()].concat())
}

/// A call without a log-in whose body consists of 40,000 empty gzip members (RFC 1952).
fn packed(endpoint: &Endpoint) -> io::Result<()> {
    const EMPTY: [u8; 20] = [31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let body = EMPTY.repeat(40_000);
    let path = "/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer";
    let framing = format!(
        "Content-Type: application/proto\r\nContent-Encoding: gzip\r\nContent-Length: {}",
        body.len()
    );
    exchange(endpoint, &[post(path, &framing).as_bytes(), &body].concat())
}

fn exchange(endpoint: &Endpoint, request: &[u8]) -> io::Result<()> {
    let mut stream = endpoint.tcp()?;
    stream.set_write_timeout(Some(TURN))?;
    stream.set_read_timeout(Some(TURN))?;
    stream.write_all(request)?;
    stream.read(&mut [0; 1024]).map(|_| ())
}

fn post(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n\r\n")
}

/// A different name each time.
fn any_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("somebody{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
