//! Clients that send one request after the other for a while, and what came of it.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::process::{self, Used};
use crate::server::Server;

/// Makes the next request of one client; what it returns is sent as it is.
pub(crate) trait Requests: Send {
    fn next(&mut self) -> &[u8];
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// Time of every answered request, ascending, in nanoseconds.
    times: Vec<u64>,
    pub(crate) elapsed: Duration,
    /// Answers other than 200.
    pub(crate) errors: usize,
    /// The first of them.
    pub(crate) first_error: Option<String>,
    /// Bytes of one answer's body, on average.
    pub(crate) answer_bytes: usize,
    /// What chatto, nats-server and this program used meanwhile.
    used: [Used; 3],
}

impl Run {
    /// Requests that were answered with 200, in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// A percentile of the requests' times, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let last = self.times.len().saturating_sub(1);
        let time = self.times.get(last * percent / 100).copied().unwrap_or_default();
        time as f64 / 1e6
    }

    /// Bytes on their way to the disk for one request.
    pub(crate) fn written(&self) -> f64 {
        let written: u64 = self.used.iter().take(2).map(|used| used.written).sum();
        written as f64 / self.times.len().max(1) as f64
    }

    /// Processor time for one request, in microseconds: chatto's, nats-server's and ours.
    pub(crate) fn cpu(&self) -> [f64; 3] {
        self.used.map(|used| used.cpu_us as f64 / self.times.len().max(1) as f64)
    }

    /// Context switches for one request.
    pub(crate) fn switches(&self) -> [f64; 3] {
        self.used.map(|used| used.switches as f64 / self.times.len().max(1) as f64)
    }
}

/// Lets each client send for `length`, all at once, each on a connection of its own.
pub(crate) fn run(server: &Server, clients: &mut [Box<dyn Requests>], length: Duration) -> Run {
    // Nothing is counted until every connection has had its first answer.
    let start = Barrier::new(clients.len() + 1);
    let mut run = Run::default();
    std::thread::scope(|threads| {
        let clients: Vec<_> = clients
            .iter_mut()
            .map(|client| threads.spawn(|| one(server.port, client.as_mut(), length, &start)))
            .collect();
        start.wait();
        let (before, began) = (used(server), Instant::now());
        let done: Vec<Run> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        run.elapsed = began.elapsed();
        let after = used(server);
        for (used, (after, before)) in run.used.iter_mut().zip(after.iter().zip(before)) {
            used.cpu_us = after.cpu_us.saturating_sub(before.cpu_us);
            used.switches = after.switches.saturating_sub(before.switches);
            used.written = after.written.saturating_sub(before.written);
        }
        for part in done {
            run.times.extend(part.times);
            run.errors += part.errors;
            run.answer_bytes += part.answer_bytes;
            run.first_error = run.first_error.take().or(part.first_error);
        }
    });
    run.answer_bytes /= run.times.len().max(1);
    run.times.sort_unstable();
    run
}

fn used(server: &Server) -> [Used; 3] {
    let [chatto, nats] = server.used();
    [chatto, nats, process::used(std::process::id())]
}

fn one(port: u16, client: &mut dyn Requests, length: Duration, start: &Barrier) -> Run {
    let mut connection = Connection::open(port);
    let mut run = Run { times: Vec::with_capacity(1 << 16), ..Run::default() };
    // The first request opens what is opened once: session, key, the room's writer.
    connection.exchange(client.next()).unwrap();
    start.wait();
    let began = Instant::now();
    loop {
        let sent = Instant::now();
        if sent - began >= length {
            return run;
        }
        let answer = connection.exchange(client.next()).unwrap();
        if answer.status == 200 {
            run.times.push(u64::try_from(sent.elapsed().as_nanos()).unwrap());
            run.answer_bytes += answer.body.len();
        } else {
            run.errors += 1;
            let described =
                || format!("{} {}", answer.status, String::from_utf8_lossy(answer.body));
            run.first_error.get_or_insert_with(described);
        }
    }
}
