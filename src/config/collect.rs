//! The values that the sources set, key by key with their locations, and the faults and warnings found on
//! the way.

use std::collections::BTreeMap;

use super::fault::{Fault, Location, Warning};
use super::keys::KEYS;
use super::nearest::nearest;
use super::table::{self, Key, Stage};
use super::value::Value;

/// A value that a source sets.
#[derive(Debug, Clone)]
pub(super) struct Stated {
    pub(super) value: Value,
    pub(super) location: Location,
}

/// The values that one source sets.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// By full name; members of lists with their number: `bootstrap.users[0].login`.
    pub(super) values: BTreeMap<String, Stated>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Warning>,
}

impl Collected {
    /// Adds the value of a known key, unless the key's stage forbids it.
    pub(super) fn take(
        &mut self,
        name: &str,
        key: &'static Key,
        location: Location,
        parsed: impl FnOnce() -> Result<Value, String>,
    ) {
        match key.stage {
            Stage::TestSupport if !cfg!(feature = "test-support") => {
                self.faults.push(Fault::new(
                    location,
                    name,
                    "exists only in builds with the feature test-support; remove it",
                ));
                return;
            }
            Stage::Now | Stage::TestSupport => {}
            Stage::Pending => {
                let text = format!("has no effect in this version: {}", key.text);
                self.warnings.push(Warning::new(location.clone(), name, text));
            }
            Stage::Later | Stage::Recognised => {
                self.warn_unserved(name, key, location);
                return;
            }
        }
        match parsed() {
            Ok(value) => {
                let stated = Stated { value, location: location.clone() };
                if let Some(former) = self.values.insert(name.to_owned(), stated) {
                    let reason =
                        format!("is set twice; the other setting is at {}", former.location);
                    let reason = reason.trim_end_matches([':', ' ']);
                    self.faults.push(Fault::new(location, name, reason));
                }
            }
            Err(reason) => self.faults.push(Fault::new(location, name, reason)),
        }
    }

    /// Warns about a key of other deployments that has no effect.
    pub(super) fn warn_unserved(&mut self, name: &str, key: &Key, location: Location) {
        let text = format!("has no effect in this version: {}", key.text);
        self.warnings.push(Warning::new(location, name, text));
    }

    /// A key of the file that the table does not know.
    pub(super) fn unknown(&mut self, name: &str, location: Location) {
        let section = table::section(name);
        if !section.is_empty() && table::is_foreign_section(section) {
            let text = "is unknown and has no effect";
            self.warnings.push(Warning::new(location, name, text));
            return;
        }
        self.faults.push(Fault::new(location, name, "unknown key").nearest(nearest_key(name)));
    }
}

/// The nearest key: its last word if it is in the same section, else its full name.
fn nearest_key(name: &str) -> Option<String> {
    let section = table::section(name);
    let word = table::last_segment(name);
    let siblings = KEYS
        .iter()
        .filter(|key| key.is_checked() && key.section() == section)
        .map(|key| table::last_segment(key.name));
    if let Some(sibling) = nearest(word, siblings) {
        return Some(sibling.to_owned());
    }
    let same_word = KEYS
        .iter()
        .filter(|key| key.is_checked() && table::last_segment(key.name) == word)
        .map(|key| key.name)
        .next();
    let all = KEYS.iter().filter(|key| key.is_checked()).map(|key| key.name);
    nearest(name, all).or(same_word).map(str::to_owned)
}

/// The nearest section to an unknown one.
pub(super) fn nearest_section(name: &str) -> Option<String> {
    let sections = KEYS
        .iter()
        .filter(|key| key.is_checked())
        .flat_map(|key| key.name.match_indices('.').filter_map(|(at, _)| key.name.get(..at)));
    nearest(name, sections).map(str::to_owned)
}
