//! Logs: one backend that writes lines to standard error in four formats, and keeps the last errors. Also how
//! times and numbers are written.
//!
//! Every module logs through the `log` macros with constant texts and fields. This module does not know what
//! the lines are about; bodies, tokens and secrets never reach it.

mod chain;
mod errors;
mod format;
mod logger;
mod numbers;
mod output;
mod time;

pub use chain::chain;
pub use errors::{KeptError, load_errors, recent_errors, save_errors};
pub use format::{Format, stderr_is_journal};
pub use logger::{Level, init, set_level};
pub use numbers::{binary_size, counted, decimal_size};
pub use output::{Stream, flush, print, write_in_background};
pub use time::{civil, file_time, parse_rfc3339, rfc3339};
