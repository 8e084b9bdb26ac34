//! `doctor`: looks for what is wrong with the machine, the settings, the data directory and the running server.
//!
//! Each check is a function that turns facts into [`Check`]s, and knows no other check. Nothing is changed, with one
//! exception: the latency of the disk is measured with a small file, which is removed before it is written
//! (`latency.rs`). Nothing is read without a limit.

mod account;
mod board;
mod clock;
mod copies;
mod disk;
mod files;
mod latency;
mod memory;
mod online;
mod port;
mod settings;
mod store;
mod system;
mod tls;

use crate::config::{Examined, Inputs, Purpose, Settings, examine};
use crate::runtime::Clock;

use account::Account;
use store::Running;
use system::System;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It is worth knowing, and needs no action.
    Note,
    /// Something should be done; the server works without it.
    Warn,
    /// Something must be done.
    Fail,
    /// The check could not be made; the text says why and what it needs.
    Skipped,
}

impl Verdict {
    /// For people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// What one check says. Several may have the same code, for example one for each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable across versions.
    pub code: &'static str,
    pub verdict: Verdict,
    /// A sentence for people.
    pub text: String,
    /// A command, or what to set.
    pub fix: Option<String>,
}

impl Check {
    fn new(code: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { code, verdict, text: text.into(), fix: None }
    }

    fn ok(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Ok, text)
    }

    fn note(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Note, text)
    }

    fn warn(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Warn, text)
    }

    fn fail(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Fail, text)
    }

    fn skipped(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Skipped, text)
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// All that checks may need; the settings are known.
struct Facts<'a> {
    system: &'a System,
    examined: &'a Examined,
    settings: &'a Settings,
    account: Account,
    running: &'a Running,
    clock: &'a Clock,
}

/// Which checks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Those of this machine.
    Local,
    /// Also those that use the network.
    Online,
}

/// Makes the checks, in the order in which they are shown. Blocks.
#[must_use]
pub fn doctor(inputs: &Inputs, extent: Extent, clock: &Clock) -> Vec<Check> {
    let system = System::of_machine();
    let examined = examine(inputs, Purpose::Examine);
    let mut checks = settings::check(&examined);
    if let Some(settings) = &examined.settings {
        let account = Account::of_process(&settings.data_dir);
        let running = store::running(settings);
        let (examined, running) = (&examined, &running);
        let facts = Facts { system: &system, examined, settings, account, running, clock };
        checks.extend(of_the_server(&facts));
        if extent == Extent::Online {
            checks.extend(online::check(&facts));
        }
    }
    checks.extend(clock::check(&system, &examined, clock.unix_ms()));
    checks.extend(board::check(&system));
    checks.extend(memory::of_the_machine(&system));
    checks
}

/// The checks that need the settings.
fn of_the_server(facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = files::check(facts);
    checks.extend(store::check(facts));
    checks.push(port::check(facts));
    checks.extend(tls::check(facts));
    checks.extend(disk::check(facts));
    checks.push(latency::check(facts));
    checks.extend(copies::check(facts));
    checks.extend(memory::of_the_server(facts));
    checks
}
