//! The formats of a log line.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;

use icu_properties::CodePointSetData;
use icu_properties::props::BidiControl;
use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::chain::chain;
use super::time::rfc3339;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Human-readable, with the time.
    Text,
    /// Human-readable, with the journal's level prefix and without the time, which the journal adds.
    Journal,
    /// One JSON object per line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

impl Format {
    /// The format of a configured name; `auto` is decided by where standard error goes.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "json" => Self::Json,
            "logfmt" => Self::Logfmt,
            _ if stderr_is_journal() => Self::Journal,
            _ => Self::Text,
        }
    }
}

/// Whether standard error is the stream that the journal announced in `JOURNAL_STREAM`
/// (`device:inode`, systemd.exec(5)).
#[must_use]
pub fn stderr_is_journal() -> bool {
    let Ok(announced) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    announced == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// The fields of a record, values as text.
pub(super) fn fields(record: &Record<'_>) -> Vec<(String, String)> {
    struct Collect(Vec<(String, String)>);
    impl<'kvs> VisitSource<'kvs> for Collect {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
            let mut chain = ErrorChain(String::new());
            value.visit(&mut chain)?;
            self.0.push((key.to_string(), chain.0));
            Ok(())
        }
    }
    let mut collect = Collect(Vec::new());
    // The collector never refuses.
    record.key_values().visit(&mut collect).ok();
    collect.0
}

/// A value as text; an error with all its causes.
struct ErrorChain(String);

impl<'v> VisitValue<'v> for ErrorChain {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0 = value.to_string();
        Ok(())
    }

    fn visit_borrowed_error(
        &mut self,
        error: &'v (dyn std::error::Error + 'static),
    ) -> Result<(), Error> {
        self.visit_error(error)
    }

    fn visit_error(&mut self, error: &(dyn std::error::Error + 'static)) -> Result<(), Error> {
        self.0 = chain(error);
        Ok(())
    }
}

/// A record's line, with its line end.
pub(super) fn line(
    format: Format,
    unix_ms: i64,
    record: &Record<'_>,
    fields: &[(String, String)],
) -> String {
    let message = one_line(&record.args().to_string());
    let target = record.target();
    let mut line = match format {
        Format::Text => {
            format!("{} {:5} {target}: {message}", rfc3339(unix_ms), record.level())
        }
        Format::Journal => format!("<{}>{target}: {message}", priority(record.level())),
        Format::Json => return json(unix_ms, record, &message, fields),
        Format::Logfmt => format!(
            "time={} level={} target={target} msg={}",
            rfc3339(unix_ms),
            level_name(record.level()),
            quoted(&message)
        ),
    };
    for (key, value) in fields {
        write!(line, " {key}={}", quoted(value)).ok();
    }
    line.push('\n');
    line
}

fn json(unix_ms: i64, record: &Record<'_>, message: &str, fields: &[(String, String)]) -> String {
    let mut object = serde_json::Map::new();
    let mut put = |key: &str, value: &str| {
        object.entry(key).or_insert_with(|| value.into());
    };
    put("time", &rfc3339(unix_ms));
    put("level", level_name(record.level()));
    put("target", record.target());
    put("message", message);
    for (key, value) in fields {
        put(key, value);
    }
    // JSON itself escapes only ASCII control characters; other characters appear only inside strings.
    let mut line = String::new();
    for c in serde_json::Value::Object(object).to_string().chars() {
        if is_hidden(c) {
            write!(line, "\\u{:04x}", u32::from(c)).ok();
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// syslog's numbers (RFC 5424, 6.2.1).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Control characters, line separators and characters that change the text direction (all below U+10000).
/// Written as escapes, foreign text can neither end a line, nor control a terminal, nor reorder a line.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || CodePointSetData::new::<BidiControl>().contains(c)
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && value.chars().all(|c| !c.is_whitespace() && !is_hidden(c) && !matches!(c, '"' | '='));
    if plain {
        return value.to_owned();
    }
    let escaped: String = value
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            _ if is_hidden(c) => c.escape_default().collect(),
            _ => vec![c],
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(format: Format) -> String {
        let source = std::io::Error::other("disk\nfull");
        let fields: &[(&str, Value<'_>)] =
            &[("room", Value::from_display(&"R1")), ("error", Value::from_dyn_error(&source))];
        let fields: &dyn log::kv::Source = &fields;
        let args = format_args!("cannot store");
        let record = Record::builder()
            .level(Level::Warn)
            .target("chatto::storage")
            .args(args)
            .key_values(&fields)
            .build();
        let pairs = super::fields(&record);
        line(format, 0, &record, &pairs)
    }

    #[test]
    fn the_four_formats() {
        assert_eq!(
            render(Format::Text),
            "1970-01-01T00:00:00.000Z WARN  chatto::storage: cannot store room=R1 error=\"disk\\nfull\"\n"
        );
        assert_eq!(
            render(Format::Journal),
            "<4>chatto::storage: cannot store room=R1 error=\"disk\\nfull\"\n"
        );
        assert_eq!(
            render(Format::Logfmt),
            "time=1970-01-01T00:00:00.000Z level=warn target=chatto::storage msg=\"cannot store\" \
             room=R1 error=\"disk\\nfull\"\n"
        );
        let json: serde_json::Value = serde_json::from_str(&render(Format::Json)).unwrap();
        assert_eq!(json["message"], "cannot store");
        assert_eq!(json["error"], "disk\nfull");
        assert_eq!(json["level"], "warn");
    }

    #[test]
    fn foreign_text_neither_ends_nor_reorders_a_line() {
        let foreign = "a\u{2028}b\u{202e}c\u{2066}d\u{9b}e\u{7f}f\u{200f}";
        let fields = [("name", Value::from(foreign))];
        let fields: &dyn log::kv::Source = &fields.as_slice();
        let args = format_args!("no {foreign}");
        let record = Record::builder().args(args).key_values(&fields).build();
        let pairs = super::fields(&record);
        for format in [Format::Text, Format::Journal, Format::Json, Format::Logfmt] {
            let line = line(format, 0, &record, &pairs);
            let body = line.strip_suffix('\n').unwrap();
            assert!(body.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{format:?}: {line:?}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&line(Format::Json, 0, &record, &pairs)).unwrap();
        assert_eq!(json["name"], foreign, "a parser reads the original text");
    }
}
