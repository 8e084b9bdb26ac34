//! Fuzzing on the pinned stable toolchain: a seeded mutator over a pool of inputs, and targets that process them:
//! the decoders of the contract and of images and the readers of archives and of key exports here, requests and realtime
//! sockets in `http::fuzz`.
//!
//! Measuring coverage needs a nightly compiler. Instead, a target returns the outcome of each input, and an input
//! with a new outcome joins the pool. A finding prints the seed and the bytes, and stores them in the corpus, with
//! which every run begins.

mod archive;
mod decoder;
mod images;
mod keys;
mod mutate;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use mutate::Mutator;

/// The most inputs in the pool; the oldest found ones are removed first.
const POOL_MAX: usize = 2_000;
/// The longest input.
const INPUT_MAX_BYTES: usize = 16 * 1024;

/// The length of a run.
enum Length {
    Iterations(u64),
    Time(Duration),
}

impl Length {
    /// `CHATTO_FUZZ_SECONDS`, or else this many iterations, which a test can afford.
    fn of_run(iterations: u64) -> Self {
        match std::env::var("CHATTO_FUZZ_SECONDS") {
            Ok(seconds) => Self::Time(Duration::from_secs(seconds.parse().unwrap())),
            Err(_) => Self::Iterations(iterations),
        }
    }
}

/// Runs a target on its corpus, then on mutations of the pool.
///
/// `target` returns the outcome of an input, or what is wrong. A panic is a finding too.
pub(crate) fn run<S: std::hash::Hash + Eq>(
    name: &str,
    seeds: Vec<Vec<u8>>,
    dictionary: &'static [&'static [u8]],
    iterations: u64,
    mut target: impl FnMut(&[u8]) -> Result<S, String>,
) {
    let seed = match std::env::var("CHATTO_FUZZ_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    let corpus = Path::new("tests/fuzz/corpus").join(name);
    let mut pool = Vec::new();
    let mut seen = HashSet::new();
    for input in seeds.into_iter().chain(kept(&corpus)) {
        seen.insert(verdict(&corpus, seed, &input, &mut target));
        pool.push(input);
    }
    assert!(!pool.is_empty(), "a target needs something to begin with");
    let fixed = pool.len();
    let mut mutator = Mutator::new(seed, dictionary);
    let length = Length::of_run(iterations);
    let started = now();
    let mut done: u64 = 0;
    loop {
        match length {
            Length::Iterations(max) if done >= max => break,
            Length::Time(max) if now() - started >= max => break,
            Length::Iterations(_) | Length::Time(_) => done += 1,
        }
        let input = mutator.next(&pool, INPUT_MAX_BYTES);
        if seen.insert(verdict(&corpus, seed, &input, &mut target)) {
            if pool.len() >= POOL_MAX {
                pool.remove(fixed);
            }
            pool.push(input);
        }
    }
    eprintln!(
        "{name}: {done} inputs in {:?} with CHATTO_FUZZ_SEED={seed}, {} outcomes, no finding",
        now() - started,
        seen.len()
    );
}

/// Runs one input; ends the test at a finding.
fn verdict<S>(
    corpus: &Path,
    seed: u64,
    input: &[u8],
    target: &mut impl FnMut(&[u8]) -> Result<S, String>,
) -> S {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(input)));
    let wrong = match ran {
        Ok(Ok(saw)) => return saw,
        Ok(Err(wrong)) => wrong,
        Err(_) => "it panicked".to_owned(),
    };
    let file = corpus.join(format!("found-{:016x}", mutate::hash(input)));
    fs::create_dir_all(corpus).unwrap();
    fs::write(&file, input).unwrap();
    panic!(
        "{wrong}\nCHATTO_FUZZ_SEED={seed}\nkept as {}\n{} bytes: {}",
        file.display(),
        input.len(),
        input.escape_ascii()
    );
}

/// The inputs that were kept, in a fixed order.
fn kept(corpus: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let bytes = chatto::runtime::limited_read(file, INPUT_MAX_BYTES as u64);
        bytes.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    files.iter().map(read).collect()
}

#[expect(clippy::disallowed_methods, reason = "a run is as long as the clock on the wall says")]
fn now() -> Instant {
    Instant::now()
}
