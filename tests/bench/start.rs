//! Start to ready, and the memory of both processes: empty, with the full store, after random pages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chatto::contract::api::GetRoomEventsAroundRequest;
use fastrand::Rng;
use prost::Message as _;

use crate::Bench;
use crate::fill::{Filled, FilledRoom, copy};
use crate::http::{Connection, call};
use crate::pages::ROWS;
use crate::report::{Report, Target};
use crate::server::Server;

/// Starts whose median counts.
const STARTS: usize = 11;
/// Random pages that are read before memory is measured again.
const PAGES: usize = 1_000;
/// The idle time of a server before its memory is measured.
const IDLE: Duration = Duration::from_secs(10);
/// What nats-server is given by itself on a machine with 512 MB.
pub(crate) const SMALL_BOARD: (&str, &str) = ("CHATTO_NATS_EMBEDDED_MEMORY_LIMIT", "40MiB");

/// What was seen of one server, in MiB.
struct Seen {
    resident: [f64; 2],
    own: [f64; 2],
}

impl Seen {
    fn of(server: &Server) -> Self {
        let memory = server.memory();
        let mib = |kib: u64| kib as f64 / 1024.0;
        Self { resident: memory.map(|one| mib(one.resident)), own: memory.map(|one| mib(one.own)) }
    }

    fn sum(&self) -> f64 {
        self.resident.iter().sum()
    }
}

/// Start to ready of the empty and of the full store.
pub(crate) fn starts(bench: &Bench, report: &mut Report) {
    report.part("Start to ready (process start to the first 200 of /readyz)");
    for (name, data, limit) in [
        ("empty", empty(bench), 300.0),
        ("full store", bench.filled().copy(&bench.options, "start"), 600.0),
    ] {
        let times: Vec<f64> = (0..STARTS)
            .map(|_| {
                let server = bench.server(&data, &[]);
                let ms = server.start.as_secs_f64() * 1e3;
                server.stop();
                ms
            })
            .collect();
        report.add(&format!("start, {name}"), "ms", &times, Some(Target::AtMost(limit)));
    }
}

/// Resident memory.
pub(crate) fn memory(bench: &Bench, report: &mut Report) {
    let filled = bench.filled();
    report.part("Memory of chatto and its nats-server");
    let (bare, full) = (empty(bench), filled.copy(&bench.options, "memory"));
    let runs = bench.options.runs.min(3);
    let board = "512 MB board";
    for (setting, settings) in [("", &[][..]), (board, &[SMALL_BOARD][..])] {
        let name = |what: &str| match setting {
            "" => format!("memory, {what}"),
            _ => format!("memory, {setting}, {what}"),
        };
        let base = idle(bench, &bare, settings, runs);
        report_memory(report, &name("empty"), &base, Some(Target::AtMost(45.0)));
        let started = idle(bench, &full, settings, runs);
        report_memory(report, &name("full store"), &started, None);
        let least = base.iter().map(Seen::sum).fold(f64::INFINITY, f64::min);
        let more: Vec<f64> = started.iter().map(|seen| seen.sum() - least).collect();
        report.add(&name("full store: more than empty"), "MiB", &more, Some(Target::AtMost(25.0)));
    }
    if filled.rooms.iter().all(|room| room.messages == 0) {
        return;
    }
    let read: Vec<Seen> = (0..runs)
        .map(|run| {
            let server = bench.server(&full, &[SMALL_BOARD]);
            read_pages(filled, &server, run as u64);
            let seen = Seen::of(&server);
            server.stop();
            seen
        })
        .collect();
    let name = format!("memory, {board}, after {PAGES} random pages");
    report_memory(report, &name, &read, Some(Target::AtMost(100.0)));
}

fn report_memory(report: &mut Report, name: &str, seen: &[Seen], target: Option<Target>) {
    let all = |of: &dyn Fn(&Seen) -> f64| seen.iter().map(of).collect::<Vec<f64>>();
    report.add(&format!("{name}: both"), "MiB", &all(&Seen::sum), target);
    for (place, process) in ["chatto", "nats-server"].into_iter().enumerate() {
        let resident = all(&|seen| seen.resident[place]);
        report.add(&format!("{name}: {process}"), "MiB", &resident, None);
        let own = all(&|seen| seen.own[place]);
        report.add(&format!("{name}: {process}, without files"), "MiB", &own, None);
    }
}

/// The memory of an idle server after its start.
fn idle(bench: &Bench, data: &Path, settings: &[(&str, &str)], runs: usize) -> Vec<Seen> {
    (0..runs)
        .map(|_| {
            let server = bench.server(data, settings);
            std::thread::sleep(IDLE);
            let seen = Seen::of(&server);
            server.stop();
            seen
        })
        .collect()
}

/// A store as the first start leaves it.
fn empty(bench: &Bench) -> PathBuf {
    let made = bench.options.dir.join("stores/empty/data");
    if !made.join("initialised").exists() {
        std::fs::create_dir_all(made.parent().unwrap()).unwrap();
        bench.server(&made, &[]).stop();
    }
    let to = bench.options.dir.join("run/empty");
    copy(&made, &to);
    to
}

/// Reads pages around random messages of random rooms.
fn read_pages(filled: &Filled, server: &Server, seed: u64) {
    let mut connection = Connection::open(server.port);
    let mut numbers = Rng::with_seed(seed);
    let rooms: Vec<&FilledRoom> = filled.rooms.iter().filter(|room| room.messages > 0).collect();
    for page in 0..PAGES {
        let room = rooms[numbers.usize(..rooms.len())];
        let request = GetRoomEventsAroundRequest {
            room_id: room.id.clone(),
            event_id: room.message_id(room.random_row(&mut numbers)),
            limit: ROWS,
        };
        let token = filled.token(room, page);
        let request =
            call("RoomService/GetRoomEventsAround", "proto", token, &request.encode_to_vec());
        let answer = connection.exchange(&request).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(answer.body));
    }
}
