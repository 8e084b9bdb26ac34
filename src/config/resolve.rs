//! One value for every key: environment over file over `secrets.toml` over default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::collect::{Collected, Stated};
use super::fault::{Fault, Location};
use super::keys::KEYS;
use super::table::{self, Default, Kind};
use super::value::{self, Value};
use crate::crypto::Secret;

/// Where an effective value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    /// A file or variable.
    Stated(Location),
    /// `<data_dir>/secrets.toml`.
    SecretsFile,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Stated(location) => {
                f.write_str(location.to_string().trim_end_matches([':', ' ']))
            }
            Self::SecretsFile => f.write_str("secrets.toml"),
        }
    }
}

/// The effective values by full name.
#[derive(Debug)]
pub(super) struct Resolved {
    values: BTreeMap<String, (Value, Source)>,
    /// The directory of relative paths.
    base: PathBuf,
    /// The directory of the default of `backup.directory`.
    working_dir: PathBuf,
    /// Names that were read but are not in the reference table, or have another type there: defects
    /// of the program, reported as faults.
    defects: std::cell::RefCell<Vec<String>>,
}

impl Resolved {
    /// The defaults, and over them the sources in ascending precedence.
    pub(super) fn new(base: PathBuf, working_dir: PathBuf) -> Self {
        let mut values = BTreeMap::new();
        let mut defects = Vec::new();
        for key in KEYS.iter().filter(|key| key.is_checked() && !key.name.contains("[]")) {
            if let Default::Value(text) = key.default {
                match value::parse_text(key.kind, key.secret, text) {
                    Ok(value) => {
                        values.insert(key.name.to_owned(), (value, Source::Default));
                    }
                    Err(_) => defects.push(key.name.to_owned()),
                }
            }
        }
        Self { values, base, working_dir, defects: defects.into() }
    }

    /// Overrides the values with those of a source.
    pub(super) fn overlay(&mut self, collected: &Collected) {
        for (name, stated) in &collected.values {
            let source = Source::Stated(stated.location.clone());
            self.values.insert(name.clone(), (stated.value.clone(), source));
        }
    }

    /// Adds values of `secrets.toml` that no other source sets.
    pub(super) fn underlay_secrets(&mut self, values: BTreeMap<String, Stated>) {
        for (name, stated) in values {
            self.values.entry(name).or_insert((stated.value, Source::SecretsFile));
        }
    }

    fn defect(&self, name: &str) {
        self.defects.borrow_mut().push(name.to_owned());
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let row = match name.split_once('[') {
            None => name.to_owned(),
            Some((list, rest)) => {
                format!("{list}[]{}", rest.split_once(']').map_or("", |(_, rest)| rest))
            }
        };
        if table::find(&row).is_none() {
            self.defect(name);
        }
        self.values.get(name).map(|(value, _)| value)
    }

    /// Whether a source sets the key.
    pub(super) fn is_stated(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|(_, source)| *source != Source::Default)
    }

    /// Where the key is set.
    pub(super) fn location(&self, name: &str) -> Location {
        match self.values.get(name) {
            Some((_, Source::Stated(location))) => location.clone(),
            _ => Location::Nowhere,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.defect(name);
                None
            }
        }
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        match self.value(name)? {
            Value::Secret(secret) => Some(secret.clone()),
            _ => {
                self.defect(name);
                None
            }
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Bool(value)) => *value,
            _ => {
                self.defect(name);
                false
            }
        }
    }

    pub(super) fn flag_if_stated(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(value) => Some(*value),
            _ => {
                self.defect(name);
                None
            }
        }
    }

    /// A whole number; the bounds of its kind make it fit.
    pub(super) fn int<T: TryFrom<i64> + std::default::Default>(&self, name: &str) -> T {
        match self.value(name) {
            Some(Value::Int(number)) => T::try_from(*number).unwrap_or_else(|_| {
                self.defect(name);
                T::default()
            }),
            _ => {
                self.defect(name);
                T::default()
            }
        }
    }

    /// `None` means `auto`.
    pub(super) fn auto_int(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            Some(Value::Special) => None,
            _ => {
                self.defect(name);
                None
            }
        }
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        self.interval(name).unwrap_or_default()
    }

    /// `None` means `always`.
    pub(super) fn interval(&self, name: &str) -> Option<Duration> {
        match self.value(name) {
            Some(Value::Duration(duration)) => Some(*duration),
            Some(Value::Special) => None,
            _ => {
                self.defect(name);
                None
            }
        }
    }

    /// `None` means `auto`, or unset.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        match self.value(name)? {
            Value::Size(size) => Some(*size),
            Value::Special => None,
            _ => {
                self.defect(name);
                None
            }
        }
    }

    pub(super) fn ip(&self, name: &str) -> IpAddr {
        match self.value(name) {
            Some(Value::Ip(address)) => *address,
            _ => {
                self.defect(name);
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            }
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(items)) => items.clone(),
            None => Vec::new(),
            Some(_) => {
                self.defect(name);
                Vec::new()
            }
        }
    }

    /// The path made absolute.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        match self.value(name)? {
            Value::Path(path) => Some(self.absolute(name, path)),
            _ => {
                self.defect(name);
                None
            }
        }
    }

    fn absolute(&self, name: &str, path: &Path) -> PathBuf {
        let is_default = matches!(self.values.get(name), Some((_, Source::Default)));
        let kind = table::find(name).map(|key| key.kind);
        let from_work = is_default && kind == Some(Kind::WorkPath);
        let base = if from_work { &self.working_dir } else { &self.base };
        base.join(path).components().filter(|part| *part != Component::CurDir).collect()
    }

    /// How many members of a list of tables are set.
    pub(super) fn members(&self, list: &str) -> usize {
        (0..)
            .take_while(|n| {
                let member = format!("{list}[{n}].");
                self.values.keys().any(|name| name.starts_with(&member))
            })
            .count()
    }

    /// Defects of the program as faults; a tested build has none.
    pub(super) fn defects(&self) -> Vec<Fault> {
        let defects = self.defects.borrow();
        let reason = "does not match the reference table; please report this bug";
        defects.iter().map(|name| Fault::new(Location::Nowhere, name.clone(), reason)).collect()
    }

    /// Every key that this build uses, with its value as text and its source; secrets as `***`.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let mut list = Vec::new();
        for key in KEYS.iter().filter(|key| key.is_checked()) {
            if let Some((stem, rest)) = key.name.split_once("[]") {
                for n in 0..self.members(stem) {
                    let name = format!("{stem}[{n}]{rest}");
                    if let Some((value, source)) = self.values.get(&name) {
                        let value = Some(self.show(&name, value));
                        list.push(Effective { name, value, source: source.clone() });
                    }
                }
                continue;
            }
            list.push(match self.values.get(key.name) {
                Some((value, source)) => Effective {
                    name: key.name.to_owned(),
                    value: Some(self.show(key.name, value)),
                    source: source.clone(),
                },
                None => Effective {
                    name: key.name.to_owned(),
                    value: match key.default {
                        Default::Derived(how) => Some(format!("({how})")),
                        Default::Unset | Default::Value(_) => None,
                    },
                    source: Source::Default,
                },
            });
        }
        list
    }

    fn show(&self, name: &str, value: &Value) -> String {
        match value {
            Value::Text(text) => text.clone(),
            Value::Secret(_) => "***".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Duration(duration) => show_duration(*duration),
            Value::Size(size) => show_size(*size),
            Value::Special => match table::find(name).map(|key| key.kind) {
                Some(Kind::Interval) => "always".to_owned(),
                _ => "auto".to_owned(),
            },
            Value::Path(path) => self.absolute(name, path).display().to_string(),
            Value::Ip(address) => address.to_string(),
            Value::List(items) => items.join(","),
        }
    }
}

/// An effective value, for `check-config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Full name.
    pub name: String,
    /// Its text, `***` for a secret; `None`: unset.
    pub value: Option<String>,
    pub source: Source,
}

fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

fn show_size(size: u64) -> String {
    let units = [
        (1_u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1000, "kB"),
    ];
    let exact = units.iter().find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit));
    exact.map_or_else(|| size.to_string(), |(unit, name)| format!("{}{name}", size / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_values_read_back_as_the_same() {
        for text in ["90d", "15m", "30s", "7d", "250ms"] {
            let Ok(Value::Duration(duration)) = value::parse_text(Kind::Duration, false, text)
            else {
                panic!("{text}");
            };
            assert_eq!(show_duration(duration), text);
        }
        for text in ["25MiB", "25MB", "512MiB", "1GiB", "17"] {
            let Ok(Value::Size(size)) = value::parse_text(Kind::Size, false, text) else {
                panic!("{text}");
            };
            assert_eq!(show_size(size), text);
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        let resolved = Resolved::new(PathBuf::from("/etc/chatto"), PathBuf::from("/tmp"));
        assert_eq!(resolved.defects(), []);
        assert_eq!(resolved.path("nats.embedded.data_dir"), Some("/etc/chatto/data".into()));
        assert_eq!(resolved.path("backup.directory"), Some("/tmp/backups".into()));
    }
}
