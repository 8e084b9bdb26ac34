//! The 50 newest messages of a room, as a client asks for them when it opens the room.

use chatto::contract::api::GetRoomEventsRequest;
use fastrand::Rng;
use prost::Message as _;
use serde_json::json;

use crate::Bench;
use crate::fill::Filled;
use crate::http::call;
use crate::load::{self, Requests, Run};
use crate::report::{Report, Target};

/// Rows of a page.
pub(crate) const ROWS: i32 = 50;
/// The method that answers it.
const METHOD: &str = "RoomService/GetRoomEvents";

/// All figures of reading.
pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let filled = bench.filled();
    report.part("Timeline pages of the 50 newest messages, random rooms");
    let data = filled.copy(&bench.options, "pages");
    let server = bench.server(&data, &[]);
    for kind in ["proto", "json"] {
        for clients in [1, 16] {
            let runs: Vec<Run> = (0..bench.options.runs)
                .map(|run| {
                    let mut all: Vec<Box<dyn Requests>> = (0..clients)
                        .map(|client| -> Box<dyn Requests> {
                            Box::new(Pages::new(filled, kind, run * clients + client))
                        })
                        .collect();
                    load::run(&server, &mut all, bench.options.run)
                })
                .collect();
            report_runs(report, kind, clients, &runs);
        }
    }
    server.stop();
}

fn report_runs(report: &mut Report, kind: &str, clients: usize, runs: &[Run]) {
    let name = |what: &str| format!("page {kind}, {clients} clients: {what}");
    let wanted = |limit: Target, of: usize| (kind == "proto" && clients == of).then_some(limit);
    let all = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<f64>>();
    let least = wanted(Target::AtLeast(4_000.0), 16);
    report.add(&name("rate"), "pages/s", &all(&Run::rate), least);
    let most = wanted(Target::AtMost(0.6), 1);
    report.add(&name("p50"), "ms", &all(&|run| run.percentile(50)), most);
    report.add(&name("p99"), "ms", &all(&|run| run.percentile(99)), None);
    report.add(&name("answer"), "bytes", &all(&|run| run.answer_bytes as f64), None);
    report.costs(&name(""), runs);
    report.errors(&name(""), runs);
}

/// One client's calls, one for each room; their order is random.
struct Pages {
    requests: Vec<Vec<u8>>,
    numbers: Rng,
}

impl Pages {
    fn new(filled: &Filled, kind: &str, client: usize) -> Self {
        let request = |room: &crate::fill::FilledRoom| {
            let body = if kind == "json" {
                json!({ "roomId": room.id, "limit": ROWS }).to_string().into_bytes()
            } else {
                let room_id = room.id.clone();
                GetRoomEventsRequest { room_id, limit: ROWS, cursor: None }.encode_to_vec()
            };
            call(METHOD, kind, filled.token(room, client), &body)
        };
        let requests = filled.rooms.iter().map(request).collect();
        Self { requests, numbers: Rng::with_seed(client as u64) }
    }
}

impl Requests for Pages {
    fn next(&mut self) -> &[u8] {
        let room = self.numbers.usize(..self.requests.len());
        &self.requests[room]
    }
}
