//! How often each kind of thing happened: a simulation in which something never happens proves nothing
//! about it.

use std::collections::BTreeMap;

/// What must happen in a run of the fixed lists.
const EXPECTED: &[&str] = &[
    "event: post",
    "event: reply",
    "event: reply with echo",
    "event: edit",
    "event: echo shown",
    "event: echo hidden",
    "event: echo deleted",
    "event: root message deleted",
    "event: reply deleted",
    "event: reaction",
    "event: reaction removed",
    "event: pin",
    "event: unpin",
    "event: join",
    "event: leave",
    "cut: append",
    "cut: append, stored all the same",
    "cut: append, not stored",
    "cut: fold",
    "kill: worker",
    "kill: worker with appends in work",
    "kill: worker with a fold in work",
    "kill: nats-server",
    "kill: nats-server with appends in work",
    "stop: worker",
    "stop: worker with a fold in work",
    "stop: the other one folded meanwhile",
    "end: worker closed its store",
    "read: while things happen",
    "store: second page of rows",
    "store: page with spilled rows",
    "store: page with spilled reactions",
    "store: thread of the first page with pages of its own",
    "store: thread of a later page with pages of its own",
    "store: text erased from the journal",
    "foreign: event with a new effect",
    "foreign: event with a new field",
    "foreign: event in a new encoding",
    "foreign: page of rows with a new field",
    "foreign: page of threads with a new field",
    "foreign: head with a new field",
    "foreign: the newer program came",
    "rest: compared with the model",
];

/// By kind.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(super) fn add(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Prints all of them.
    pub(super) fn print(&self) {
        let mut kinds: Vec<_> = EXPECTED.to_vec();
        kinds.extend(self.0.keys().filter(|kind| !EXPECTED.contains(kind)));
        for kind in kinds {
            eprintln!("{:>7}  {kind}", self.0.get(kind).unwrap_or(&0));
        }
    }

    /// What never happened but must.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        EXPECTED.iter().filter(|kind| !self.0.contains_key(*kind)).copied().collect()
    }
}
