//! The configuration file and `secrets.toml`: TOML with the line of every key.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::collect::{Collected, nearest_section};
use super::fault::{Fault, Location};
use super::table::{self, Key};
use super::value;

/// Collects the values that a file sets. `file` is its name in faults.
pub(super) fn collect(file: &Path, text: &str) -> Collected {
    let mut collected = Collected::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let walk = Walk { file, text };
        let whole = Entry {
            shown: String::new(),
            name: String::new(),
            location: Location::Nowhere,
            value: &DeValue::Boolean(false),
        };
        walk.table(&whole, document.get_ref(), &mut collected);
        collected.faults.sort_by(|a, b| a.location.cmp(&b.location));
        collected.warnings.sort_by(|a, b| a.location.cmp(&b.location));
        return collected;
    }
    // What could be read despite the error may be wrong: only the errors themselves are reported.
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = position(text, at);
        let location = Location::Column { file: file.to_owned(), line, column };
        let reason: Vec<&str> = error.message().lines().map(str::trim).collect();
        let reason = format!("not valid TOML: {}", reason.join(", "));
        collected.faults.push(Fault::new(location, "", reason));
    }
    collected
}

struct Walk<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Walk<'_> {
    fn location(&self, at: usize) -> Location {
        let (line, _) = position(self.text, at);
        Location::Line { file: self.file.to_owned(), line }
    }

    /// Everything in the table that `table` names.
    fn table(&self, table: &Entry<'_>, entries: &DeTable<'_>, collected: &mut Collected) {
        for (word, value) in entries {
            let location = self.location(word.span().start);
            let entry = Entry { value: value.get_ref(), ..table.below(word.get_ref(), location) };
            self.entry(&entry, collected);
        }
    }

    fn entry(&self, entry: &Entry<'_>, collected: &mut Collected) {
        let Entry { shown, name, location, value } = entry;
        if let Some(key) = table::find(name) {
            let shown = if key.old_name == Some(name.as_str()) { key.name } else { shown };
            let parsed = || value::parse_toml(key.kind, key.secret, value);
            collected.take(shown, key, location.clone(), parsed);
            return;
        }
        if let Some(key) = table::find_prefix(name) {
            self.foreign(entry, key, collected);
            return;
        }
        let members = format!("{name}[]");
        let mut fault = |reason: String| {
            collected.faults.push(Fault::new(location.clone(), shown.clone(), reason));
        };
        match value {
            DeValue::Table(entries) if table::is_section(name) => {
                self.table(entry, entries, collected);
            }
            DeValue::Array(items) if table::is_section(&members) => {
                for (n, item) in items.iter().enumerate() {
                    let member = Entry {
                        shown: format!("{shown}[{n}]"),
                        name: members.clone(),
                        location: location.clone(),
                        value: item.get_ref(),
                    };
                    match item.get_ref() {
                        DeValue::Table(entries) => self.table(&member, entries, collected),
                        _ => {
                            let fault =
                                Fault::new(location.clone(), member.shown, "must be a table");
                            collected.faults.push(fault);
                        }
                    }
                }
            }
            _ if table::is_section(&members) => {
                fault(format!("must be a list of tables; write [[{name}]]"));
            }
            _ if table::is_section(name) => fault(format!("is a section; write [{name}]")),
            DeValue::Table(_) if !table::is_foreign_section(table::section(name)) => {
                let fault = Fault::new(location.clone(), shown.clone(), "unknown section");
                collected.faults.push(fault.nearest(nearest_section(name)));
            }
            _ => collected.unknown(shown, location.clone()),
        }
    }

    /// Warns about each key below a name of another deployment.
    fn foreign(&self, entry: &Entry<'_>, key: &Key, collected: &mut Collected) {
        let DeValue::Table(entries) = entry.value else {
            collected.warn_unserved(&entry.shown, key, entry.location.clone());
            return;
        };
        for (word, value) in entries {
            let location = self.location(word.span().start);
            let below = Entry { value: value.get_ref(), ..entry.below(word.get_ref(), location) };
            self.foreign(&below, key, collected);
        }
    }
}

/// A value of the file and its name.
struct Entry<'v> {
    /// As faults show it: `bootstrap.users[0].login`.
    shown: String,
    /// As the reference table spells it: `bootstrap.users[].login`.
    name: String,
    location: Location,
    value: &'v DeValue<'v>,
}

impl Entry<'_> {
    /// The names of an entry in this table; its value is still this one's.
    fn below(&self, word: &str, location: Location) -> Self {
        let join = |prefix: &str| match prefix {
            "" => word.to_owned(),
            _ => format!("{prefix}.{word}"),
        };
        Self { shown: join(&self.shown), name: join(&self.name), location, value: self.value }
    }
}

/// Line and column of a byte position, both counted from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count());
    (before.matches('\n').count() + 1, column + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let collected = collect(Path::new("chatto.toml"), text);
        collected.faults.iter().map(ToString::to_string).collect()
    }

    fn warnings(text: &str) -> Vec<String> {
        let collected = collect(Path::new("chatto.toml"), text);
        collected.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_line_key_reason_and_nearest_key() {
        assert_eq!(
            faults("[webserver]\nprot = 1\n"),
            ["chatto.toml:2: webserver.prot: unknown key; did you mean `port`?"]
        );
        assert_eq!(
            faults("[web_server]\nport = 1\n"),
            ["chatto.toml:1: web_server: unknown section; did you mean `webserver`?"]
        );
        assert_eq!(
            faults("replicas = 3\n"),
            ["chatto.toml:1: replicas: unknown key; did you mean `nats.replicas`?"]
        );
        assert_eq!(
            faults("webserver = 3"),
            ["chatto.toml:1: webserver: is a section; write [webserver]"]
        );
        assert_eq!(faults("[webserver.port]\nx = 1").len(), 1);
    }

    #[test]
    fn a_value_must_have_the_type_of_its_key() {
        for (text, reason) in [
            ("[nats]\nreplicas = 2", "must be 1, 3 or 5"),
            ("[nats]\nreplicas = \"three\"", "must be 1, 3 or 5"),
            ("[webserver]\nport = 70000", "must be a port from 0 to 65535"),
            ("[auth]\ndirect_login = \"yes\"", "must be true or false"),
            ("[auth]\ntoken_ttl = 90", "must be a duration such as 30s, 15m, 12h, 90d or 1w"),
            ("[core]\nsecret_key = 1", "must be text in quotes"),
            ("[owners]\nemails = [1]", "must be a list of texts"),
            (
                "[operator_api]\nsocket_mode = \"0660\"",
                "must be 0600: only this account may use the socket",
            ),
        ] {
            let texts = faults(text);
            assert_eq!(texts.len(), 1, "{text}: {texts:?}");
            assert!(texts[0].ends_with(reason), "{text}: {texts:?}");
        }
        assert_eq!(faults("[operator_api]\nsocket_mode = 0o600"), [""; 0]);
        assert_eq!(faults("[nats.client]\nurl = \"nats://a:4222,nats://b:4222\""), [""; 0]);
        assert_eq!(faults("[nats.client]\nurl = [\"nats://a:4222\"]"), [""; 0]);
    }

    #[test]
    fn syntax_errors_name_line_and_column() {
        let texts = faults("[webserver]\nport = = 4\n");
        assert!(texts[0].starts_with("chatto.toml:2:8: not valid TOML: "), "{texts:?}");
    }

    #[test]
    fn keys_of_other_deployments_warn_once_each() {
        let text = "[video]\nenabled = true\n[video.deep]\nx = 1\n[push]\nenabled = true\nextra = 1\n\
                    [[auth.providers]]\nid = \"a\"\n[core]\nprojection_snapshot_interval = \"1h\"\n\
                    [auth.google]\nclient_id = \"x\"";
        assert_eq!(faults(text), [""; 0]);
        let texts = warnings(text);
        assert_eq!(texts.len(), 7, "{texts:#?}");
        assert!(texts.iter().any(|line| line.starts_with("chatto.toml:2: video.enabled: ")));
    }

    #[test]
    fn former_names_are_accepted() {
        let collected = collect(Path::new("c"), "[livekit]\ninstance_id = \"server-1\"");
        assert!(collected.values.contains_key("livekit.server_id"));
        let both = faults("[livekit]\ninstance_id = \"a\"\nserver_id = \"b\"");
        assert_eq!(both.len(), 1, "{both:?}");
    }

    #[test]
    fn bootstrap_is_for_test_builds() {
        let text = "[[bootstrap.users]]\nlogin = \"anna\"\n[bootstrap.server]\nname = \"x\"\n";
        let expected = if cfg!(feature = "test-support") { 0 } else { 2 };
        assert_eq!(faults(text).len(), expected);
    }
}
