//! The sample file and the reference page, generated from the table.

use std::fmt::Write as _;

use super::keys::KEYS;
use super::table::{self, Default, Key, Kind, Stage};
use super::value::must_be;
use crate::crypto::Secret;

/// The commented sample of `chatto.toml`. Every line of a key is a comment with its default; the
/// given values are written as settings.
#[must_use]
pub fn sample_file(set: &[(&str, &Secret)]) -> String {
    let mut text = String::from(
        "# Configuration of chatto. Every key is optional; the commented values are the defaults.\n\
         # The environment overrides this file: nats.replicas is CHATTO_NATS_REPLICAS there.\n\
         # Paths are relative to this file's directory. Run `chatto check-config` after a change.\n",
    );
    let mut section = "";
    for key in KEYS.iter().filter(|key| key.stage == Stage::Now || key.stage == Stage::Pending) {
        if key.section() != section {
            section = key.section();
            writeln!(text, "\n[{section}]").ok();
        }
        let word = table::last_segment(key.name);
        let pending = if key.stage == Stage::Pending { " (not in this version yet)" } else { "" };
        writeln!(text, "# {}{pending}", key.text).ok();
        match set.iter().find(|(name, _)| *name == key.name) {
            Some((_, secret)) => {
                let value = String::from_utf8_lossy(secret.expose()).into_owned();
                // A JSON string is a TOML basic string.
                writeln!(text, "{word} = {}", serde_json::Value::String(value)).ok();
            }
            None => {
                writeln!(text, "# {word} = {}", sample_value(key)).ok();
            }
        }
    }
    text
}

/// The default as TOML; an unset key gets an empty string, a derived one an explanation.
fn sample_value(key: &Key) -> String {
    match key.default {
        Default::Unset => match key.kind {
            Kind::List | Kind::NatsUrls => "[]".to_owned(),
            _ => "\"\"".to_owned(),
        },
        Default::Derived(how) => format!("\"\"   # default: {how}"),
        Default::Value(value) => match key.kind {
            Kind::Bool | Kind::Int { .. } | Kind::OneOf(_) | Kind::Port => value.to_owned(),
            Kind::List | Kind::NatsUrls | Kind::Networks => format!("[\"{value}\"]"),
            _ => format!("\"{value}\""),
        },
    }
}

/// The reference page, `docs/configuration.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(HEAD);
    let mut section = "";
    for key in KEYS.iter().filter(|key| matches!(key.stage, Stage::Now | Stage::Pending)) {
        let top = key.name.split('.').next().unwrap_or_default();
        if top != section {
            section = top;
            writeln!(page, "\n## {section}\n\nKey | Value | Default | Meaning\n---|---|---|---")
                .ok();
        }
        writeln!(
            page,
            "`{}` | {} | {} | {}{}{}{}",
            key.name,
            kind_words(key),
            default_words(key),
            key.text,
            key.old_name.map(|old| format!("; former name `{old}`")).unwrap_or_default(),
            key.env_alias.map(|alias| format!("; also `{alias}`")).unwrap_or_default(),
            if key.stage == Stage::Pending { " *(checked, not in this version yet)*" } else { "" },
        )
        .ok();
    }
    page.push_str(FOREIGN);
    for key in KEYS.iter().filter(|key| matches!(key.stage, Stage::Later | Stage::Recognised)) {
        writeln!(page, "`{}` | {}", key.name, key.text).ok();
    }
    page.push_str(TEST);
    for key in KEYS.iter().filter(|key| key.stage == Stage::TestSupport) {
        writeln!(page, "`{}` | {}", key.name, key.text).ok();
    }
    page
}

pub(super) fn kind_words(key: &Key) -> String {
    if key.secret {
        return "secret text".to_owned();
    }
    let sentence = must_be(key.kind);
    let words = sentence.trim_start_matches("must be ");
    words.split(": ").next().unwrap_or(words).trim_start_matches("a ").to_owned()
}

pub(super) fn default_words(key: &Key) -> String {
    match key.default {
        Default::Unset => "unset".to_owned(),
        Default::Value("") => "empty".to_owned(),
        Default::Value(value) => format!("`{value}`"),
        Default::Derived(how) => how.replace('<', "&lt;").replace('>', "&gt;"),
    }
}

const HEAD: &str = "\
# Configuration reference

This page is generated from the program's own table of keys (`src/config/keys.rs`); a test compares them.

Chatto starts without any configuration. Values come from, in this order: the environment, the
configuration file, `<data_dir>/secrets.toml` (generated secrets), the defaults below.

- The file is the one named by `-c FILE`, else `./chatto.toml`, else `/etc/chatto/chatto.toml`, else none.
- A key's environment name is `CHATTO_` and the key in capitals with underscores for dots:
  `nats.replicas` is `CHATTO_NATS_REPLICAS`. Lists are comma-separated. An empty value counts as unset.
- Secrets can also come from files: `CHATTO_CORE_SECRET_KEY_FILE=/run/secrets/key`. A final line end is removed.
- Paths are relative to the configuration file's directory, or without a file to the working directory.
- Durations look like `90d`, `15m` or `30s`, sizes like `25MB` (decimal) or `25MiB` (binary).
- `chatto check-config` shows the effective values with their sources. All faults are reported together, each with
  its location, and end a command with exit code 78.
- With the embedded nats-server, missing secrets are generated at the first start. With an external cluster
  nothing is generated: they must be set, to the same values in every process.
";

const FOREIGN: &str = "
## Keys of other Chatto deployments

These are accepted, so that an existing file works. Each causes one warning: it has no effect in this version.

Key | What has no effect
---|---
";

const TEST: &str = "
## Test builds

Builds with the feature `test-support` also read these; in other builds they are faults.

Key | Meaning
---|---
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::compare;

    #[test]
    fn the_reference_page_is_made_from_the_table() {
        compare("docs/configuration.md", &reference_page());
    }

    #[test]
    fn the_sample_file_is_made_from_the_table() {
        compare("docs/chatto.sample.toml", &sample_file(&[]));
    }

    #[test]
    fn the_packaged_file_is_made_from_the_table() {
        let sample = sample_file(&[]);
        let packaged = sample.replace("# data_dir = \"./data\"", "data_dir = \"/var/lib/chatto\"");
        assert_ne!(sample, packaged);
        compare("packaging/chatto.toml", &packaged);
    }

    #[test]
    fn the_sample_is_valid_commented_and_uncommented() {
        let sample = sample_file(&[]);
        let collected = super::super::file::collect(std::path::Path::new("s"), &sample);
        assert_eq!(collected.faults, []);
        assert!(collected.values.is_empty());
        let uncommented: String = sample
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") && !setting.contains("= \"\"") => setting,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let collected = super::super::file::collect(std::path::Path::new("s"), &uncommented);
        let faults: Vec<String> = collected.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, [""; 0]);
        assert!(collected.values.len() > 50);
    }
}
