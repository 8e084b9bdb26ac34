//! Realtime: how fast a crowd connects, what an idle socket costs, and when the last socket has received a message.

use std::path::Path;
use std::time::{Duration, Instant};

use chatto::contract::api::CreateMessageRequest;
use prost::Message as _;
use rustix::process::{Resource, Rlimit};

use crate::Bench;
use crate::content::text;
use crate::crowd::Crowd;
use crate::fill::Filled;
use crate::http::{Connection, call};
use crate::posts::INTERVAL;
use crate::report::{Report, Target};
use crate::server::Server;
use crate::start::SMALL_BOARD;

/// Messages to each crowd.
const MESSAGES: usize = 31;
/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// Crowds, each on a server of its own.
const CROWDS: usize = 3;
/// Longer than a figure that is worth anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time that sockets are idle before their memory is measured.
const IDLE: Duration = Duration::from_secs(5);
/// Sockets that connect and close first, so that one-time set-up is not counted for a socket.
const FIRST: usize = 32;

/// All figures of sockets.
pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    allow_many_files();
    let filled = bench.filled();
    report.part("Realtime sockets that hold the room that is posted to, 512 MB-board setting");
    let data = filled.copy(&bench.options, "sockets");
    for sockets in &bench.options.sockets {
        one_size(bench, &data, *sockets, report);
    }
}

fn one_size(bench: &Bench, data: &Path, sockets: usize, report: &mut Report) {
    let filled = bench.filled();
    let (mut live, mut both, mut parts) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    let (mut messages, mut cpu) = (Vec::new(), Vec::new());
    let mut refused = 0;
    for _ in 0..bench.options.runs.min(CROWDS) {
        let server = bench.server(data, &[INTERVAL, SMALL_BOARD]);
        drop(come(filled, &server, FIRST));
        std::thread::sleep(IDLE);
        let before = resident(&server);
        let (mut crowd, seconds) = come(filled, &server, sockets);
        live.push(seconds);
        crowd.idle(IDLE);
        let after = resident(&server);
        let each = [0, 1].map(|place| (after[place] - before[place]) / crowd.live().max(1) as f64);
        both.push(each.iter().sum());
        parts.iter_mut().zip(each).for_each(|(part, one)| part.push(one));

        let used = cpu_us(&server);
        messages.extend(time_deliveries(filled, &server, &mut crowd));
        let delivered = MESSAGES * crowd.live().max(1);
        cpu.push((cpu_us(&server) - used) as f64 / delivered as f64);
        refused += sockets - crowd.live();
        drop(crowd);
        server.stop();
    }
    let name = |what: &str| format!("{sockets} sockets: {what}");
    let limit = |limit: f64| (sockets == 500).then_some(Target::AtMost(limit));
    report.add(&name("all live after connecting at once"), "s", &live, limit(3.0));
    report.one(&name("refused or cut"), "", refused as f64, Some(Target::AtMost(0.0)));
    report.add(&name("memory of an idle one, both"), "KiB", &both, Some(Target::AtMost(24.0)));
    report.add(&name("memory of an idle one, chatto"), "KiB", &parts[0], None);
    report.add(&name("memory of an idle one, nats-server"), "KiB", &parts[1], None);
    report.add(&name("last one has a message"), "ms", &messages, limit(40.0));
    report.add(&name("CPU of both for one message to one"), "µs", &cpu, None);
}

/// Sockets that connect at once, and how long it took until all were live, in seconds.
fn come(filled: &Filled, server: &Server, sockets: usize) -> (Crowd, f64) {
    let (mut crowd, began) = (Crowd::new(), Instant::now());
    connect(filled, server, &mut crowd, sockets);
    crowd.wait_until_connected(PATIENCE);
    (crowd, began.elapsed().as_secs_f64())
}

/// As many sockets of all users, the first room open in all of them.
fn connect(filled: &Filled, server: &Server, crowd: &mut Crowd, sockets: usize) {
    let room = &filled.rooms[0];
    for number in 0..sockets {
        crowd.connect(server.port, filled.token(room, number), &room.id);
    }
}

/// From the request until the last socket has read the message, in milliseconds.
fn time_deliveries(filled: &Filled, server: &Server, crowd: &mut Crowd) -> Vec<f64> {
    let room = &filled.rooms[0];
    let mut connection = Connection::open(server.port);
    let mut send = |crowd: &mut Crowd, number: usize| {
        let marker = format!("message {number:06} to everybody");
        let body = format!("{marker} {}", text(number as u64));
        let room_id = room.id.clone();
        let request = CreateMessageRequest { room_id, body, ..CreateMessageRequest::default() };
        let token = filled.token(room, number);
        let request =
            call("MessageService/CreateMessage", "proto", token, &request.encode_to_vec());
        let began = Instant::now();
        connection.send(&request).unwrap();
        let received = crowd.receive_marker(marker.as_bytes(), PATIENCE);
        let ms = began.elapsed().as_secs_f64() * 1e3;
        assert_eq!(received, crowd.live(), "everybody hears of message {number}");
        assert_eq!(connection.receive().unwrap().status, 200);
        crowd.idle(PAUSE);
        ms
    };
    // The first one pays for what is set up once.
    send(crowd, 0);
    (1..=MESSAGES).map(|number| send(crowd, number)).collect()
}

/// Processor time of both processes so far.
fn cpu_us(server: &Server) -> u64 {
    server.used().iter().map(|used| used.cpu_us).sum()
}

/// Resident memory of both processes, in KiB.
fn resident(server: &Server) -> [f64; 2] {
    server.memory().map(|memory| memory.resident as f64)
}

/// As many open files as we may have; the server inherits it.
fn allow_many_files() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap();
}
