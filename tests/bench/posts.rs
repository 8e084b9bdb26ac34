//! `CreateMessage`: how many a second and how long one takes, by clients, rooms and sync.

use chatto::contract::api::CreateMessageRequest;
use prost::Message as _;

use crate::Bench;
use crate::content::text;
use crate::fill::Filled;
use crate::flushes;
use crate::http::call;
use crate::load::{self, Requests, Run};
use crate::report::{Report, Target};

/// The store is synced once a second: a power cut may lose what was posted since.
pub(crate) const INTERVAL: (&str, &str) = ("CHATTO_NATS_EMBEDDED_SYNC_INTERVAL", "1s");
/// Every message is on disk before it is acknowledged.
pub(crate) const ALWAYS: (&str, &str) = ("CHATTO_NATS_EMBEDDED_SYNC_INTERVAL", "always");
/// Texts that one client sends in turn.
const TEXTS: u64 = 64;
/// Digits in front of every text, which make it another one.
const DIGITS: usize = 10;

/// Clients and rooms of a figure.
struct Case {
    clients: usize,
    rooms: usize,
    name: &'static str,
    /// At an interval sync.
    least_rate: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
}

const CASES: [Case; 3] = [
    Case {
        clients: 1,
        rooms: 1,
        name: "1 client",
        least_rate: None,
        p50: Some(1.0),
        p99: Some(4.0),
    },
    Case {
        clients: 16,
        rooms: 16,
        name: "16 clients, 16 rooms",
        least_rate: Some(5_000.0),
        p50: None,
        p99: None,
    },
    Case {
        clients: 16,
        rooms: 1,
        name: "16 clients, one room",
        least_rate: Some(2_500.0),
        p50: None,
        p99: None,
    },
];

/// All figures of posting.
pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let filled = bench.filled();
    for sync in [INTERVAL, ALWAYS] {
        report.part(&format!("CreateMessage, sync_interval {}", sync.1));
        let data = filled.copy(&bench.options, "posts");
        let server = bench.server(&data, &[sync]);
        for case in &CASES {
            let runs: Vec<Run> = (0..bench.options.runs)
                .map(|_| {
                    let mut clients = clients(filled, case.clients, case.rooms);
                    load::run(&server, &mut clients, bench.options.run)
                })
                .collect();
            report_runs(report, case, sync, &runs);
        }
        server.stop();
        if sync == ALWAYS {
            flushes::count(bench, filled, &data, report);
            flushes::disk(bench, report);
        }
    }
}

fn report_runs(report: &mut Report, case: &Case, sync: (&str, &str), runs: &[Run]) {
    let interval = sync == INTERVAL;
    let at_most = |limit: Option<f64>| limit.filter(|_| interval).map(Target::AtMost);
    let at_least = case.least_rate.filter(|_| interval).map(Target::AtLeast);
    let name = |what: &str| format!("post {}, {}: {what}", sync.1, case.name);
    let all = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<f64>>();
    report.add(&name("rate"), "messages/s", &all(&Run::rate), at_least);
    report.add(&name("p50"), "ms", &all(&|run| run.percentile(50)), at_most(case.p50));
    report.add(&name("p99"), "ms", &all(&|run| run.percentile(99)), at_most(case.p99));
    report.add(&name("written"), "bytes/request", &all(&Run::written), None);
    report.costs(&name(""), runs);
    report.errors(&name(""), runs);
}

/// Clients of as many users, spread over the first rooms.
pub(crate) fn clients(filled: &Filled, clients: usize, rooms: usize) -> Vec<Box<dyn Requests>> {
    let one = |number: usize| -> Box<dyn Requests> {
        let room = &filled.rooms[number % rooms];
        let token = filled.token(room, number);
        Box::new(Posts::new(&room.id, token, number))
    };
    (0..clients).map(one).collect()
}

/// Prepared posts of one client.
struct Posts {
    requests: Vec<(Vec<u8>, usize)>,
    sent: usize,
}

impl Posts {
    fn new(room: &str, token: &str, client: usize) -> Self {
        let requests = (0..TEXTS)
            .map(|number| {
                let digits = "0".repeat(DIGITS);
                let text = format!("{digits} {}", text((client as u64) << 40 | number));
                let place = text.len();
                let message = CreateMessageRequest {
                    room_id: room.to_owned(),
                    body: text,
                    ..CreateMessageRequest::default()
                };
                let request =
                    call("MessageService/CreateMessage", "proto", token, &message.encode_to_vec());
                // The text is the last field.
                let place = request.len() - place;
                (request, place)
            })
            .collect();
        Self { requests, sent: 0 }
    }
}

impl Requests for Posts {
    fn next(&mut self) -> &[u8] {
        let number = self.sent % self.requests.len();
        let (request, place) = &mut self.requests[number];
        let mut rest = self.sent;
        for digit in request[*place..*place + DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.sent += 1;
        request
    }
}
