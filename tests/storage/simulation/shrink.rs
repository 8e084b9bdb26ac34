//! Failing lists become short and are kept.
#![expect(clippy::disallowed_methods, reason = "shrinking ends by the clock on the wall")]

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::counts::Counts;
use super::once;
use super::ops::Op;
use super::run::Fault;

/// What happens when is left to the machine: a list counts as passing when it did so this often.
const ATTEMPTS: usize = 3;
/// How long shrinking may take when `CHATTO_SIMULATION_SHRINK_SECONDS` does not set it.
const TIME: Duration = Duration::from_secs(300);

fn time() -> Duration {
    let seconds = std::env::var("CHATTO_SIMULATION_SHRINK_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("seconds are a number"));
    seconds.map_or(TIME, Duration::from_secs)
}

fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/storage/simulation/kept.jsonl"))
}

/// Leaves out halves, quarters and so on for as long as the rest fails, and returns the shortest list
/// that did.
pub(super) fn shrink(mut ops: Vec<Op>, mut fault: Fault) -> (Vec<Op>, Fault) {
    let deadline = Instant::now() + time();
    let mut size = ops.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < ops.len() {
            if Instant::now() > deadline {
                return (ops, fault);
            }
            let mut fewer = ops.clone();
            fewer.drain(from..(from + size).min(ops.len()));
            let mut failed = (0..ATTEMPTS)
                .filter_map(|n| once(&format!("less{n}"), &fewer, &mut Counts::default()).err());
            match failed.next() {
                Some(new) => (ops, fault) = (fewer, new),
                None => from += size,
            }
        }
        size /= 2;
    }
    (ops, fault)
}

/// Adds a list to those that are run first, each on a line: what was wrong, and the steps.
pub(super) fn keep(fault: &str, ops: &[Op]) {
    let line = serde_json::to_string(&(fault, ops)).unwrap();
    let mut file = std::fs::File::options().create(true).append(true).open(path()).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// The lists that failed once.
pub(super) fn kept() -> Vec<Vec<Op>> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str::<(Fault, Vec<Op>)>(line).unwrap().1).collect()
}
