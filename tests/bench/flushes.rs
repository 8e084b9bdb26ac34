//! What `sync_interval = always` costs: how often the disk can flush at all, and how often nats-server
//! makes it for one message.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Bench;
use crate::fill::Filled;
use crate::http::Connection;
use crate::posts::{ALWAYS, clients};
use crate::report::{Report, Target};
use crate::server::Server;
use crate::trace::Trace;

/// Messages whose flushes are counted.
const POSTS: usize = 1_000;
/// How long the disk alone is measured.
const DISK: Duration = Duration::from_secs(2);
/// How long what the last messages set off may take to reach the disk.
const TAIL: Duration = Duration::from_secs(1);

/// The disk's own rate: a block of 4 KiB written and flushed, again and again, in the same directory.
pub(crate) fn disk(bench: &Bench, report: &mut Report) {
    let path = bench.options.dir.join("run/flush");
    // Of what the posts before left in memory.
    rustix::fs::sync();
    let rates: Vec<f64> = (0..bench.options.runs)
        .map(|_| {
            let mut file = File::create(&path).unwrap();
            let (began, mut count) = (Instant::now(), 0_u32);
            while began.elapsed() < DISK {
                file.write_all(&[1; 4096]).unwrap();
                file.sync_data().unwrap();
                count += 1;
            }
            f64::from(count) / began.elapsed().as_secs_f64()
        })
        .collect();
    std::fs::remove_file(&path).ok();
    report.add("disk alone: 4 KiB written and flushed", "flushes/s", &rates, None);
}

/// Flushes for a message, counted by strace. nats-server 2.15 flushes with `fsync`; files that it
/// replaces as a whole it opens with `O_SYNC`, and every such opening stands for one write.
pub(crate) fn count(bench: &Bench, filled: &Filled, data: &Path, report: &mut Report) {
    for writers in [1, 16] {
        // A server just started has nothing left to fold of what was posted before.
        let server = bench.server(data, &[ALWAYS]);
        let file = bench.options.dir.join("run/strace");
        let Some(trace) = Trace::attach(server.pids()[1], &file) else {
            println!("flushes are not counted: strace is missing or may not attach to nats-server");
            return;
        };
        post(filled, &server, writers);
        std::thread::sleep(TAIL);
        let flushed = trace.finish(&file);
        server.stop();
        let all: usize = flushed.values().sum();
        let name = format!("post always, {writers} clients, one room: flushes");
        let target = Some(Target::AtMost(1.15));
        report.one(&name, "per message", all as f64 / POSTS as f64, target);
        let parts: Vec<String> =
            flushed.iter().map(|(stream, count)| format!("{stream} {count}")).collect();
        println!("  {POSTS} messages: {}", parts.join(", "));
    }
}

fn post(filled: &Filled, server: &Server, writers: usize) {
    let left = AtomicUsize::new(POSTS);
    std::thread::scope(|threads| {
        for mut client in clients(filled, writers, 1) {
            let left = &left;
            threads.spawn(move || {
                let mut connection = Connection::open(server.port);
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let answer = connection.exchange(client.next()).unwrap();
                    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(answer.body));
                }
            });
        }
    });
}
