//! Lists of steps, and how they are made.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::{Deserialize, Serialize};

use super::foreign::Novelty;

/// Rooms of a list. The first gets most of what is large.
pub(super) const ROOMS: usize = 3;
/// Worker processes of a list.
pub(super) const WORKERS: usize = 3;

/// One step. Numbers of messages count modulo what there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Op {
    /// One event; `cut`: the worker drops it at that await, and another one repeats it.
    Act { by: usize, room: usize, act: Wish, cut: Option<u32> },
    /// So many events at once, by all workers.
    Burst { room: usize, act: Wish, count: usize },
    /// Messages so large that their page spills.
    Fill { by: usize, room: usize },
    /// Reactions to one message that spill.
    Reactions { by: usize, room: usize, at: usize },
    /// A fold of all rooms; `cut`: dropped at that await.
    Fold { by: usize, cut: Option<u32> },
    /// Two folds at once. The first is stopped after `after_us`, and goes on when the second is done.
    FoldBeside { first: usize, second: usize, after_us: u64 },
    /// Reads a room while things happen.
    Read { by: usize, room: usize },
    /// SIGSTOP; it goes on after `for_ms`, while the others work.
    Stop { by: usize, for_ms: u64 },
    /// `kill -9` while it appends and folds, `after_us` after the command.
    Kill { by: usize, room: usize, after_us: u64 },
    /// It closes its store and ends; a new one takes its place.
    Close { by: usize },
    /// `kill -9` of nats-server; it is away for `for_ms`.
    KillNats { for_ms: u64 },
    /// Waits for responses.
    Wait { ms: u64 },
    /// Everything comes to rest and is compared with the model.
    Quiesce,
    /// A newer program writes into a room what ours cannot read.
    Foreign { room: usize, novelty: Novelty },
    /// The newer program takes the place of ours.
    Upgrade,
}

/// What an act is to be about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Wish {
    Post { bytes: usize },
    Reply { root: usize, bytes: usize, echo: bool },
    Edit { at: usize, bytes: usize },
    ShowEcho { at: usize },
    HideEcho { at: usize },
    Delete { at: usize },
    DeleteEcho { at: usize },
    React { at: usize, emoji: usize, user: u64 },
    Unreact { at: usize },
    Pin { at: usize, remove: bool },
    Member { user: u64, left: bool },
}

/// How long a run stops its workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Patience {
    /// Fractions of a second: a check of every change cannot wait longer.
    Short,
    /// Now and then beyond the fold's lease of 15 s.
    Long,
}

fn wish() -> impl Strategy<Value = Wish> {
    let at = 0..10_000_usize;
    let bytes = prop_oneof![6 => 0..400_usize, 1 => 8_000..10_000_usize];
    // The first root gets most replies, so that its thread outgrows a page.
    let root = prop_oneof![2 => Just(0_usize), 1 => 0..10_000_usize];
    let (emoji, user) = (0..3_usize, 0..5_u64);
    let reaction = || (at.clone(), emoji.clone(), user.clone());
    prop_oneof![
        8 => bytes.clone().prop_map(|bytes| Wish::Post { bytes }),
        8 => (root, bytes.clone(), prop::bool::weighted(0.3))
            .prop_map(|(root, bytes, echo)| Wish::Reply { root, bytes, echo }),
        3 => (at.clone(), bytes).prop_map(|(at, bytes)| Wish::Edit { at, bytes }),
        1 => at.clone().prop_map(|at| Wish::ShowEcho { at }),
        1 => at.clone().prop_map(|at| Wish::HideEcho { at }),
        2 => at.clone().prop_map(|at| Wish::Delete { at }),
        1 => at.clone().prop_map(|at| Wish::DeleteEcho { at }),
        7 => reaction().prop_map(|(at, emoji, user)| Wish::React { at, emoji, user }),
        2 => at.clone().prop_map(|at| Wish::Unreact { at }),
        2 => (at.clone(), prop::bool::weighted(0.3))
            .prop_map(|(at, remove)| Wish::Pin { at, remove }),
        2 => (0..9_u64, any::<bool>()).prop_map(|(user, left)| Wish::Member { user, left }),
    ]
}

fn op(patience: Patience) -> impl Strategy<Value = Op> {
    let by = 0..WORKERS;
    let room = prop_oneof![2 => Just(0_usize), 1 => 0..ROOMS];
    let after_us = prop_oneof![Just(0_u64), 0..60_000_u64];
    let cut = |most: u32, weight: u32| {
        prop_oneof![
            12 - weight => Just(None),
            weight => (1..most).prop_map(Some),
        ]
    };
    let stop = match patience {
        Patience::Short => (100..600_u64).boxed(),
        Patience::Long => prop_oneof![12 => 100..600_u64, 1 => 15_500..18_000_u64].boxed(),
    };
    prop_oneof![
        40 => (by.clone(), room.clone(), wish(), cut(7, 5))
            .prop_map(|(by, room, act, cut)| Op::Act { by, room, act, cut }),
        5 => (room.clone(), wish(), 2..12_usize)
            .prop_map(|(room, act, count)| Op::Burst { room, act, count }),
        1 => (by.clone(), room.clone()).prop_map(|(by, room)| Op::Fill { by, room }),
        1 => (by.clone(), room.clone(), 0..10_000_usize)
            .prop_map(|(by, room, at)| Op::Reactions { by, room, at }),
        7 => (by.clone(), cut(40, 8)).prop_map(|(by, cut)| Op::Fold { by, cut }),
        3 => (by.clone(), 1..WORKERS, after_us.clone()).prop_map(|(first, next, after_us)| {
            Op::FoldBeside { first, second: (first + next) % WORKERS, after_us }
        }),
        2 => (by.clone(), room.clone()).prop_map(|(by, room)| Op::Read { by, room }),
        1 => (by.clone(), stop).prop_map(|(by, for_ms)| Op::Stop { by, for_ms }),
        2 => (by.clone(), room, after_us)
            .prop_map(|(by, room, after_us)| Op::Kill { by, room, after_us }),
        1 => by.prop_map(|by| Op::Close { by }),
        1 => prop_oneof![2 => Just(0_u64), 1 => 0..800_u64]
            .prop_map(|for_ms| Op::KillNats { for_ms }),
        4 => (1..60_u64).prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::Quiesce),
        1 => (1..ROOMS, prop::sample::select(&Novelty::ALL[..]))
            .prop_map(|(room, novelty)| Op::Foreign { room, novelty }),
        1 => Just(Op::Upgrade),
    ]
}

/// What depends on what was there before, and would seldom come about by chance.
fn rare(novelty: Novelty) -> Vec<Op> {
    let room = 2;
    let act = |act| Op::Act { by: 1, room, act, cut: None };
    let wait = Op::Wait { ms: 50 };
    vec![
        Op::Burst { room, act: Wish::Post { bytes: 20 }, count: 4 },
        wait.clone(),
        Op::Burst { room, act: Wish::Reply { root: 0, bytes: 50, echo: true }, count: 4 },
        act(Wish::Pin { at: 0, remove: false }),
        wait.clone(),
        act(Wish::HideEcho { at: 0 }),
        act(Wish::DeleteEcho { at: 2 }),
        act(Wish::Pin { at: 0, remove: true }),
        wait.clone(),
        act(Wish::ShowEcho { at: 0 }),
        act(Wish::Delete { at: 1 }),
        wait,
        Op::Foreign { room, novelty },
    ]
}

/// The list with this number: the same each time.
pub(super) fn list(seed: u64, patience: Patience) -> Vec<Op> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = prop::collection::vec(op(patience), 60..100);
    let mut ops = strategy.new_tree(&mut runner).unwrap().current();
    // What takes many steps to come about is there from the start, and a newer program comes half-way.
    let middle = ops.len() / 2;
    let novelty = Novelty::ALL[seed as usize % Novelty::ALL.len()];
    ops.splice(middle..middle, rare(novelty));
    // Roots on the first page and on the second one.
    let root = if seed.is_multiple_of(2) { 0 } else { 66 };
    let post = Wish::Post { bytes: 20 };
    let reply = Wish::Reply { root, bytes: 50, echo: false };
    ops.splice(
        0..0,
        [
            Op::Fill { by: 0, room: 0 },
            Op::Reactions { by: 1, room: 0, at: 1 },
            Op::Burst { room: 1, act: post, count: root + 4 },
            Op::Wait { ms: 200 },
            Op::Burst { room: 1, act: reply, count: 66 + seed as usize % 30 },
        ],
    );
    ops
}
