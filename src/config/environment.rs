//! The environment: `CHATTO_*` variables, secrets from files, misspelt names.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::collect::Collected;
use super::fault::{Fault, Location, Warning};
use super::keys::KEYS;
use super::table::{self, Key};
use super::value;
use crate::limits::SECRET_FILE_MAX_BYTES;
use crate::runtime::limited_read;

/// Has the boot id of the machine, from a unit file.
pub const BOOT_ID_VARIABLE: &str = "CHATTO_BOOT_ID";

/// Known names that are not configuration.
const NOT_CONFIGURATION: [&str; 3] =
    [BOOT_ID_VARIABLE, "CHATTO_NATS_SERVER_BIN", "CHATTO_TEST_EMAIL_ENDPOINT"];

/// Prefixes of variables that orchestrators inject for a service called `chatto`.
const INJECTED: [&str; 2] = ["CHATTO_SERVICE_", "CHATTO_PORT"];

/// An unknown name within this many edits of a known one counts as a typo.
const TYPO_MAX_EDITS: usize = 2;

/// Collects the values that the environment sets.
pub(super) fn collect(variables: &[(OsString, OsString)], base: &Path) -> Collected {
    let mut collected = Collected::default();
    let mut unknown = Vec::new();
    // The environment has no order, but messages should.
    let variables: std::collections::BTreeMap<_, _> =
        variables.iter().map(|(name, text)| (name, text)).collect();
    for (name, text) in variables {
        // A name that is not UTF-8 cannot be one of ours.
        let Some(name) = name.to_str().filter(|name| name.starts_with("CHATTO_")) else { continue };
        if NOT_CONFIGURATION.contains(&name) || is_injected(name) || text.is_empty() {
            continue;
        }
        variable(name, text, base, &mut collected, &mut unknown);
    }
    members_without_gaps(&mut collected);
    if !unknown.is_empty() {
        let text = format!("unknown variables have no effect: {}", unknown.join(", "));
        collected.warnings.push(Warning::new(Location::Nowhere, "environment", text));
    }
    collected
}

fn is_injected(name: &str) -> bool {
    INJECTED.iter().any(|prefix| name.starts_with(prefix))
}

fn variable(
    name: &str,
    text: &OsStr,
    base: &Path,
    collected: &mut Collected,
    unknown: &mut Vec<String>,
) {
    let location = Location::Variable(name.to_owned());
    if let Some((key, full)) = find(name) {
        match text.to_str() {
            Some(text) => {
                let parsed = || value::parse_text(key.kind, key.secret, text);
                collected.take(&full, key, location, parsed);
            }
            None => collected.faults.push(Fault::new(location, full, "is not UTF-8 text")),
        }
    } else if let Some((key, full)) =
        name.strip_suffix("_FILE").and_then(find).filter(|(key, _)| key.secret)
    {
        let path = base.join(text);
        collected.take(&full, key, location, || secret_file(key, &path));
    } else if let Some(key) = foreign(name) {
        collected.warn_unserved(key.name, key, location);
    } else if let Some(known) = nearest_name(name) {
        let fault = Fault::new(location, "", "unknown variable").nearest(Some(known));
        collected.faults.push(fault);
    } else {
        unknown.push(name.to_owned());
    }
}

/// The key of a variable's name, and its full name with the numbers of list members.
fn find(name: &str) -> Option<(&'static Key, String)> {
    for key in KEYS.iter().filter(|key| !key.is_prefix()) {
        if let Some((before, after)) = key.name.split_once("[]") {
            let before_env = format!("{}_", table::env_name(before));
            let after_env = after.replace('.', "_").to_ascii_uppercase();
            let number =
                name.strip_prefix(&before_env).and_then(|rest| rest.strip_suffix(&after_env));
            if let Some(number) = number.and_then(|number| number.parse::<u16>().ok()) {
                return Some((key, format!("{before}[{number}]{after}")));
            }
        } else if name == key.env_name()
            || key.env_alias == Some(name)
            || key.old_name.is_some_and(|old| table::env_name(old) == name)
        {
            return Some((key, key.name.to_owned()));
        }
    }
    None
}

/// The row of other deployments' keys that covers a variable.
fn foreign(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        key.is_prefix() && name.starts_with(&table::env_name(key.name.trim_end_matches('*')))
    })
}

fn secret_file(key: &Key, path: &Path) -> Result<value::Value, String> {
    let bytes = limited_read(path, SECRET_FILE_MAX_BYTES)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    value::parse_text(key.kind, key.secret, text)
}

/// A known name within two edits.
fn nearest_name(name: &str) -> Option<String> {
    KEYS.iter()
        .filter(|key| !key.is_prefix())
        .flat_map(|key| {
            let file = key.secret.then(|| format!("{}_FILE", key.env_name()));
            [Some(key.env_name()), key.env_alias.map(str::to_owned), file]
        })
        .flatten()
        .map(|known| (strsim::osa_distance(name, &known), known))
        .filter(|(edits, _)| *edits <= TYPO_MAX_EDITS)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

/// Checks that list members are numbered from 0 without gaps.
fn members_without_gaps(collected: &mut Collected) {
    let mut lists: std::collections::BTreeMap<&str, (std::collections::BTreeSet<u16>, Location)> =
        std::collections::BTreeMap::new();
    for (name, stated) in &collected.values {
        let Some((list, rest)) = name.split_once('[') else { continue };
        let Some(number) = rest.split(']').next().and_then(|n| n.parse().ok()) else { continue };
        lists
            .entry(list)
            .or_insert_with(|| (std::collections::BTreeSet::new(), stated.location.clone()))
            .0
            .insert(number);
    }
    let mut faults = Vec::new();
    for (list, (numbers, location)) in lists {
        let missing = (0_u16..).zip(&numbers).find(|(expected, number)| expected != *number);
        if let Some((expected, _)) = missing {
            let reason = format!(
                "members must be numbered from 0 without gaps; number {expected} is missing"
            );
            faults.push(Fault::new(location, list, reason));
        }
    }
    collected.faults.extend(faults);
}

/// The process's environment.
#[must_use]
pub fn process_variables() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// The process's working directory; the root when it was removed.
#[must_use]
pub fn working_directory() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(variables: &[(&str, &str)]) -> Collected {
        let variables: Vec<(OsString, OsString)> =
            variables.iter().map(|(name, text)| (name.into(), text.into())).collect();
        collect(&variables, Path::new("/"))
    }

    fn faults(variables: &[(&str, &str)]) -> Vec<String> {
        run(variables).faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_name_the_customer_prints_is_known() {
        for name in [
            "CHATTO_CORE_ASSETS_STORAGE_BACKEND",
            "CHATTO_CORE_ASSETS_SIGNING_SECRET",
            "CHATTO_CORE_ASSETS_S3_ENDPOINT",
            "CHATTO_CORE_ASSETS_S3_BUCKET",
            "CHATTO_CORE_ASSETS_S3_PATH_PREFIX",
            "CHATTO_CORE_ASSETS_S3_REGION",
            "CHATTO_CORE_ASSETS_S3_ACCESS_KEY_ID",
            "CHATTO_CORE_ASSETS_S3_SECRET_ACCESS_KEY",
            "CHATTO_CORE_ASSETS_S3_PATH_STYLE",
            "CHATTO_NATS_REPLICAS",
            "CHATTO_NATS_EMBEDDED_ENABLED",
            "CHATTO_NATS_CLIENT_URL",
            "CHATTO_NATS_CLIENT_AUTH_METHOD",
            "CHATTO_NATS_CLIENT_TOKEN",
            "CHATTO_WEBSERVER_COOKIE_SIGNING_SECRET",
            "CHATTO_WEBSERVER_COOKIE_ENCRYPTION_SECRET",
            "CHATTO_CORE_SECRET_KEY",
            "CHATTO_LIVEKIT_SERVER_ID",
            "CHATTO_LIVEKIT_INSTANCE_ID",
            "CHATTO_LOG_LEVEL",
            "CHATTO_LOG_FORMAT",
            "CHATTO_GENERAL_LOG_LEVEL",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_typo_is_a_fault_that_names_the_variable() {
        assert_eq!(
            faults(&[("CHATTO_NATS_REPLICA", "3")]),
            ["CHATTO_NATS_REPLICA: unknown variable; did you mean `CHATTO_NATS_REPLICAS`?"]
        );
    }

    #[test]
    fn injected_empty_and_foreign_names_are_no_faults() {
        let collected = run(&[
            ("CHATTO_PORT_4000_TCP", "tcp://10.0.0.1:4000"),
            ("CHATTO_SERVICE_HOST", "10.0.0.1"),
            ("CHATTO_NATS_REPLICAS", ""),
            ("CHATTO_BOOT_ID", "x"),
            ("CHATTO_SOMETHING_ELSE", "x"),
            ("CHATTO_ANOTHER_THING", "x"),
            ("CHATTO_VIDEO_ENABLED", "true"),
            ("HOME", "/root"),
        ]);
        assert_eq!(collected.faults, []);
        assert!(collected.values.is_empty());
        let warnings: Vec<String> = collected.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[1].contains("CHATTO_ANOTHER_THING, CHATTO_SOMETHING_ELSE"),
            "{warnings:?}"
        );
    }

    #[test]
    fn secrets_come_from_files_but_not_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
        let path = path.to_str().unwrap();
        let collected = run(&[("CHATTO_CORE_SECRET_KEY_FILE", path)]);
        assert_eq!(collected.faults, []);
        let Some(value::Value::Secret(secret)) =
            collected.values.get("core.secret_key").map(|stated| &stated.value)
        else {
            panic!("no secret");
        };
        assert_eq!(secret.expose(), b"0123456789abcdef0123456789abcdef");
        let both =
            faults(&[("CHATTO_CORE_SECRET_KEY", "abc"), ("CHATTO_CORE_SECRET_KEY_FILE", path)]);
        assert_eq!(both.len(), 1, "{both:?}");
        let absent = faults(&[("CHATTO_CORE_SECRET_KEY_FILE", "/nonexistent")]);
        assert!(absent[0].contains("cannot read /nonexistent"), "{absent:?}");
        // Only secrets have this spelling.
        assert_eq!(run(&[("CHATTO_WEBSERVER_PORT_FILE", path)]).values.len(), 0);
    }

    #[test]
    fn lists_have_no_gaps() {
        let found = faults(&[
            ("CHATTO_BOOTSTRAP_USERS_0_LOGIN", "anna"),
            ("CHATTO_BOOTSTRAP_USERS_2_LOGIN", "ben"),
        ]);
        if cfg!(feature = "test-support") {
            assert!(found[0].contains("number 1 is missing"), "{found:?}");
        } else {
            assert_eq!(found.len(), 2, "{found:?}");
        }
    }

    #[test]
    fn no_two_keys_share_an_environment_name() {
        let mut seen = std::collections::BTreeSet::new();
        for key in KEYS {
            assert!(seen.insert(key.env_name()), "{}", key.name);
        }
    }
}
