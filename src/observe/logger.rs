//! The backend of the `log` macros.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

use super::errors;
use super::format::{self, Format};
use super::output::{Stream, print};

pub use log::LevelFilter as Level;

struct Logger {
    format: Format,
    /// The configured level as a number of `LevelFilter`.
    level: AtomicUsize,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Installs the backend. A second call changes the level only.
pub fn init(format: Format, level: LevelFilter) {
    let logger = LOGGER.get_or_init(|| Logger { format, level: AtomicUsize::new(level as usize) });
    // Fails only when it is installed already.
    log::set_logger(logger).ok();
    set_level(level);
}

/// Changes the level of our own lines.
pub fn set_level(level: LevelFilter) {
    if let Some(logger) = LOGGER.get() {
        logger.level.store(level as usize, Ordering::Relaxed);
        // Libraries log from `warn` upwards even where our own level is `error`.
        log::set_max_level(level);
    }
}

/// Our own lines and those of nats-server follow the configured level; libraries log warnings and errors.
fn is_ours(target: &str) -> bool {
    target == "nats" || target == "chatto" || target.starts_with("chatto::")
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let configured = self.level.load(Ordering::Relaxed);
        let level = metadata.level() as usize;
        let library_level = LevelFilter::Warn as usize;
        level <= configured && (is_ours(metadata.target()) || level <= library_level)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let fields = format::fields(record);
        let now = unix_ms();
        let line = format::line(self.format, now, record, &fields);
        if record.level() == log::Level::Error {
            let mut text = record.args().to_string();
            for (key, value) in &fields {
                text.push_str(&format!(" {key}={value}"));
            }
            errors::record(now, record.target(), &text);
        }
        print(Stream::Error, line);
    }

    fn flush(&self) {}
}

#[expect(clippy::disallowed_methods, reason = "the logger is below the clock and needs real time")]
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_log_from_warn_upwards() {
        let logger =
            Logger { format: Format::Text, level: AtomicUsize::new(LevelFilter::Info as usize) };
        let enabled = |target: &str, level| {
            logger.enabled(&Metadata::builder().target(target).level(level).build())
        };
        assert!(enabled("chatto::app", log::Level::Info));
        assert!(enabled("nats", log::Level::Info));
        assert!(!enabled("chatto::app", log::Level::Debug));
        assert!(!enabled("async_nats", log::Level::Info));
        assert!(!enabled("chatto_other", log::Level::Info));
        assert!(enabled("async_nats", log::Level::Warn));
    }
}
