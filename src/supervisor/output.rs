//! Parses the child's log lines and logs them under the target `nats` with our levels.

use std::collections::VecDeque;

use log::Level;

use crate::limits::{CHILD_LINE_MAX_BYTES, CHILD_LINES_KEPT};

/// One line of nats-server's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: String,
    /// It reports that a stream could not be read: the server continues without it.
    pub(super) damage: bool,
    /// It reports that a write failed: until it is restarted, the server stores nothing more on that stream and
    /// does not reply to publishers.
    pub(super) write_error: bool,
}

impl Line {
    /// Reads `[PID] [LVL] text`, as nats-server writes with `logtime: false`; other lines (a crash of
    /// the Go runtime) are errors.
    pub(super) fn parse(raw: &[u8]) -> Self {
        let raw = raw.get(..CHILD_LINE_MAX_BYTES).unwrap_or(raw);
        let raw: String = String::from_utf8_lossy(raw)
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        let tagged = raw.strip_prefix('[').and_then(|rest| {
            let (_pid, rest) = rest.split_once("] [")?;
            rest.split_once("] ")
        });
        let Some((tag, text)) = tagged else {
            return Self { level: Level::Error, text: raw, damage: false, write_error: false };
        };
        let damage = tag == "WRN" && reports_damage(text);
        let write_error = matches!(tag, "ERR" | "WRN") && reports_write_error(text);
        let level = match tag {
            _ if damage => Level::Error,
            "FTL" | "ERR" => Level::Error,
            "WRN" if is_routine(text) => Level::Info,
            "WRN" => Level::Warn,
            // Its banner, listeners and recovered streams: our own lines report the same life cycle.
            "INF" => Level::Debug,
            "DBG" | "TRC" => Level::Trace,
            _ => Level::Warn,
        };
        Self { level, text: text.trim().to_owned(), damage, write_error }
    }

    /// Hands the line to our log.
    pub(super) fn log(&self) {
        log::log!(target: "nats", self.level, "{}", self.text);
    }
}

/// Warnings of JetStream's recovery after which a stream is missing although the server reports "ready"
/// (nats-server 2.15.1, `server/jetstream.go`, recovery of streams).
fn reports_damage(text: &str) -> bool {
    [
        "Missing stream metafile",
        "Missing stream checksum file",
        "Error reading metafile",
        "Error reading Stream metafile",
        "Stream metafile ",
        "Error unmarshalling stream metafile",
        "Error decrypting our stream metafile",
        "Bad stream encryption key",
        "Detected unsupported stream",
        "Error recreating stream",
    ]
    .iter()
    .any(|start| text.trim_start().starts_with(start))
}

/// What nats-server 2.15.1 logs when a write has failed (`server/stream.go`, `filestore.go`,
/// `jetstream.go`). The log line comes up to two seconds before any other sign; publishers get no reply.
fn reports_write_error(text: &str) -> bool {
    text.starts_with("JetStream failed to store a msg on stream")
        || text.to_ascii_lowercase().contains("critical write error")
        || text.contains("permission denied while writing")
        || text.starts_with("JetStream out of ")
}

/// Warnings that follow every `kill -9` and need no action: the index is rebuilt from the
/// records themselves.
fn is_routine(text: &str) -> bool {
    text.starts_with("Filestore [")
        && ["Stream state outdated", "Stream state too short", "TTL state is outdated"]
            .iter()
            .any(|part| text.contains(part))
}

/// The newest errors of one run of the child, to explain why it ended.
#[derive(Debug, Default, Clone)]
pub(super) struct LastErrors(VecDeque<String>);

impl LastErrors {
    pub(super) fn record(&mut self, line: &Line) {
        if line.level == Level::Error {
            if self.0.len() >= CHILD_LINES_KEPT {
                self.0.pop_front();
            }
            self.0.push_back(line.text.clone());
        }
    }

    /// The last of them; empty when there was none.
    pub(super) fn last(&self) -> String {
        self.0.back().cloned().unwrap_or_default()
    }

    pub(super) fn any(&self, part: &str) -> bool {
        self.0.iter().any(|line| line.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_get_our_levels() {
        for (raw, level, text) in [
            ("[12] [INF] Server is ready", Level::Debug, "Server is ready"),
            ("[12] [WRN] Slow something", Level::Warn, "Slow something"),
            ("[12] [ERR] 127.0.0.1:1 - cid:5 - nope", Level::Error, "127.0.0.1:1 - cid:5 - nope"),
            ("[12] [FTL] Error listening", Level::Error, "Error listening"),
            ("[12] [DBG] d", Level::Trace, "d"),
            ("goroutine 1 [running]:", Level::Error, "goroutine 1 [running]:"),
            ("", Level::Error, ""),
            (
                "[1] [WRN] Filestore [JOURNAL] Stream state outdated, last block has additional entries, will rebuild",
                Level::Info,
                "Filestore [JOURNAL] Stream state outdated, last block has additional entries, will rebuild",
            ),
        ] {
            let line = Line::parse(raw.as_bytes());
            assert_eq!(
                (line.level, line.text.as_str(), line.damage),
                (level, text, false),
                "{raw}"
            );
        }
    }

    #[test]
    fn a_stream_left_out_is_an_error_and_damage() {
        let raw =
            br#"[7] [WRN]   Stream metafile "/d/meta.inf": checksums do not match "a" vs "b""#;
        let line = Line::parse(raw);
        assert!(line.damage);
        assert_eq!(line.level, Level::Error);
        assert!(line.text.starts_with("Stream metafile"));
    }

    #[test]
    fn a_failed_write_is_recognised() {
        for text in [
            "JetStream failed to store a msg on stream '$G > JOURNAL': no space left on device",
            "JetStream stream '$G > JOURNAL' critical write error: read-only file system",
            "Filestore [JOURNAL] Critical write error: input/output error",
            "File system permission denied while writing, disabling JetStream",
        ] {
            assert!(Line::parse(format!("[7] [ERR] {text}").as_bytes()).write_error, "{text}");
            assert!(!Line::parse(format!("[7] [INF] {text}").as_bytes()).write_error, "{text}");
        }
        assert!(!Line::parse(b"[7] [ERR] Error listening").write_error);
    }

    #[test]
    fn foreign_bytes_are_bounded_and_harmless() {
        let line = Line::parse(&[b'x'; CHILD_LINE_MAX_BYTES * 2]);
        assert_eq!(line.text.len(), CHILD_LINE_MAX_BYTES);
        let line = Line::parse(b"[1] [INF] a\x1b[31mb\xff");
        assert!(!line.text.contains('\x1b'), "{}", line.text);
    }

    #[test]
    fn the_newest_errors_are_kept() {
        let mut errors = LastErrors::default();
        for n in 0..=CHILD_LINES_KEPT {
            errors.record(&Line::parse(format!("[1] [ERR] number {n}").as_bytes()));
            errors.record(&Line::parse(b"[1] [INF] nothing"));
        }
        assert_eq!(errors.last(), format!("number {CHILD_LINES_KEPT}"));
        assert!(!errors.any("number 0"));
        assert!(errors.any("number 1"));
    }
}
