//! How far a long command is: a bar on a terminal, otherwise a line now and then, for people or for programs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::Progress;
use super::output::{print_stderr, print_stderr_raw};
use crate::runtime::Clock;
use crate::supervisor::Notify;

/// Between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// Characters of a bar.
const WIDTH: usize = 30;

/// How progress is shown by this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgressStyle {
    Bar,
    Lines,
    Json,
    Nothing,
}

impl ProgressStyle {
    /// As the flags say; a bar needs a terminal that can move its cursor.
    pub(super) fn of(progress: Progress, is_quiet: bool, is_plain: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match progress {
            Progress::None => Self::Nothing,
            Progress::Json => Self::Json,
            Progress::Plain => Self::Lines,
            Progress::Auto if is_quiet => Self::Nothing,
            Progress::Auto if is_plain || dumb || !std::io::stderr().is_terminal() => Self::Lines,
            Progress::Auto => Self::Bar,
        }
    }
}

/// Shows how far a command is.
pub(super) struct ProgressBar {
    style: ProgressStyle,
    clock: Clock,
    shown: Instant,
    notify: Notify,
}

impl ProgressBar {
    pub(super) fn new(style: ProgressStyle) -> Self {
        let clock = Clock::system();
        let notify = Notify::from_env(|name| std::env::var_os(name));
        Self { style, shown: clock.now(), clock, notify }
    }

    /// Shows that `done` of `total` is reached.
    pub(super) fn show(&mut self, done: u64, total: u64, text: &str) {
        let percent = done.min(total).saturating_mul(100).checked_div(total).unwrap_or(100);
        match self.style {
            ProgressStyle::Nothing => {}
            ProgressStyle::Bar => print_stderr_raw(&format!("\r\x1b[K{}", bar(percent, text))),
            ProgressStyle::Json => {
                print_stderr(
                    &json!({ "progress": { "percent": percent, "text": text } }).to_string(),
                );
            }
            ProgressStyle::Lines => {
                let now = self.clock.now();
                if now - self.shown >= LINE_INTERVAL {
                    self.shown = now;
                    print_stderr(&format!("{percent} %, {text}"));
                    self.notify.status(&format!("{percent} %, {text}"));
                }
            }
        }
    }

    /// Says what is done next, before anything is measured; a bar replaces it.
    pub(super) fn say(&mut self, text: &str) {
        match self.style {
            ProgressStyle::Nothing => {}
            ProgressStyle::Bar => print_stderr_raw(&format!("\r\x1b[K{text}")),
            ProgressStyle::Json => {
                print_stderr(&json!({ "progress": { "percent": 0, "text": text } }).to_string());
            }
            ProgressStyle::Lines => {
                print_stderr(text);
                self.notify.status(text);
            }
        }
    }

    /// Removes the bar.
    pub(super) fn end(self) {
        if self.style == ProgressStyle::Bar {
            print_stderr_raw("\r\x1b[K");
        }
    }
}

fn bar(percent: u64, text: &str) -> String {
    let filled = usize::try_from(percent).unwrap_or(100).min(100) * WIDTH / 100;
    format!("[{}{}] {percent} %, {text}", "#".repeat(filled), " ".repeat(WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0, "x"), format!("[{}] 0 %, x", " ".repeat(30)));
        assert_eq!(bar(50, "x"), format!("[{}{}] 50 %, x", "#".repeat(15), " ".repeat(15)));
        assert_eq!(bar(100, "x"), format!("[{}] 100 %, x", "#".repeat(30)));
    }

    #[test]
    fn flags_decide_how_progress_is_shown() {
        assert_eq!(ProgressStyle::of(Progress::None, false, false), ProgressStyle::Nothing);
        assert_eq!(ProgressStyle::of(Progress::Json, true, true), ProgressStyle::Json);
        assert_eq!(ProgressStyle::of(Progress::Plain, false, false), ProgressStyle::Lines);
        assert_eq!(ProgressStyle::of(Progress::Auto, true, false), ProgressStyle::Nothing);
        assert_eq!(ProgressStyle::of(Progress::Auto, false, true), ProgressStyle::Lines);
    }
}
