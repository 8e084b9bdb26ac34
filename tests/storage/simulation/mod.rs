//! The store under everything that may happen to it: lists of events and of folds by several processes,
//! which are cut at any await, stopped, continued and killed, as is nats-server; and a model of what
//! must come of it.
//!
//! Whenever everything has come to rest: what was acknowledged is stored, once and in order; every
//! process, and one that has just started, reads what the model contains; no page has parts that it does
//! not name; no removed text is in the server's files.
//!
//! Lists are numbered. A check of every change runs the fixed ones, and those that failed once and were
//! shrunk (`kept.jsonl`); `make simulate` runs others for `CHATTO_SIMULATION_SECONDS`, and
//! `CHATTO_SEED=n` runs one, `CHATTO_SIMULATION_LIST` one in the form in which they are kept. What happens when is
//! left to the machine: the same list may pass and fail.
#![expect(clippy::disallowed_methods, reason = "a run lasts as long as the wall clock counts")]

mod check;
mod counts;
mod foreign;
mod model;
mod ops;
mod process;
mod protocol;
mod responses;
mod rest;
mod run;
mod shrink;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use counts::Counts;
use ops::{Op, Patience};
use run::{Fault, Run};

/// The lists of a check of every change.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=6;
/// Further ones, while a kind of event or of cut has not happened yet.
const MORE_SEEDS: std::ops::RangeInclusive<u64> = 7..=18;

/// Runs one list; prints what it was about when it fails.
fn once(name: &str, ops: &[Op], counts: &mut Counts) -> Result<(), Fault> {
    let started = Instant::now();
    let trace = format!("{}/simulation-{name}.log", env!("CARGO_TARGET_TMPDIR"));
    let mut run = || Run::new(name, counts).list(ops, Path::new(&trace));
    let result = catch_unwind(AssertUnwindSafe(&mut run));
    let result = result.unwrap_or_else(|_| Err("a panic, see above".to_owned()));
    let verdict = result.as_ref().err().map_or("ok", String::as_str);
    eprintln!("list {name}: {} steps in {:.1?}: {verdict}", ops.len(), started.elapsed());
    result.map_err(|fault| format!("{fault}\n(what happened is in {trace})"))
}

fn seconds() -> Option<Duration> {
    let seconds = std::env::var("CHATTO_SIMULATION_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("CHATTO_SIMULATION_SECONDS is a number")))
}

/// Runs a list; shrinks and keeps it when it fails.
fn list(seed: u64, patience: Patience, counts: &mut Counts) {
    let ops = ops::list(seed, patience);
    if let Err(fault) = once(&seed.to_string(), &ops, counts) {
        let (ops, fault) = shrink::shrink(ops, fault);
        shrink::keep(&fault, &ops);
        panic!("seed {seed}: {fault}\nshrunk to {ops:?}");
    }
}

#[test]
fn acknowledged_events_are_stored_once_and_in_order_whatever_happens() {
    let mut counts = Counts::default();
    if let Ok(ops) = std::env::var("CHATTO_SIMULATION_LIST") {
        let ops: Vec<Op> = serde_json::from_str(&ops).expect("CHATTO_SIMULATION_LIST is a list");
        return once("given", &ops, &mut counts).unwrap();
    }
    if let Ok(seed) = std::env::var("CHATTO_SEED") {
        let seed = seed.parse().expect("CHATTO_SEED is a number");
        let deadline = seconds().map(|seconds| Instant::now() + seconds);
        list(seed, Patience::Short, &mut counts);
        while deadline.is_some_and(|deadline| Instant::now() < deadline) {
            list(seed, Patience::Short, &mut counts);
        }
        return counts.print();
    }
    for (n, ops) in shrink::kept().into_iter().enumerate() {
        if let Err(fault) = once(&format!("kept{n}"), &ops, &mut counts) {
            panic!("kept list {n}: {fault}");
        }
    }
    for seed in SEEDS {
        list(seed, Patience::Short, &mut counts);
    }
    // What happens when is left to the machine: on a busy one a kind may need more lists.
    for seed in MORE_SEEDS {
        if counts.missing().is_empty() {
            break;
        }
        list(seed, Patience::Short, &mut counts);
    }
    if let Some(seconds) = seconds() {
        let deadline = Instant::now() + seconds;
        while Instant::now() < deadline {
            let bytes = chatto::crypto::random::<8>();
            list(u64::from_le_bytes(bytes) >> 20, Patience::Long, &mut counts);
        }
    }
    counts.print();
    let missing = counts.missing();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}
