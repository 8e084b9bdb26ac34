//! Owner and mode of files that hold secrets, or that decide what the server does.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::config::{Examined, Location, Source};

use super::system::about;
use super::{Check, Facts};

const FILES: &str = "files";
/// How the value of a secret is shown.
const HIDDEN: &str = "***";

/// Whom a file may belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Root,
    /// The account that owns the data directory.
    Server,
    /// One of these.
    RootOrServer,
}

/// What a file must be like.
#[derive(Debug)]
struct Rule {
    path: PathBuf,
    owner: Owner,
    /// Permission bits that it may have.
    allowed: u32,
    /// Permission bits that a repair gives.
    mode: &'static str,
    why: &'static str,
}

pub(super) fn check(facts: &Facts<'_>) -> Vec<Check> {
    let data_dir = &facts.settings.data_dir;
    let server = match data_dir.metadata() {
        Ok(about) => about.uid(),
        Err(error) if super::system::is_absent(&error) => {
            let text = format!("there is no data directory yet ({})", data_dir.display());
            return vec![Check::note(FILES, text).fix("chatto start creates it")];
        }
        Err(error) => {
            let text =
                format!("the data directory {} cannot be looked at ({error})", data_dir.display());
            return vec![facts.account.may_not(FILES, &text)];
        }
    };
    let mut checks = Vec::new();
    let mut good = 0_usize;
    for rule in rules(facts) {
        match about(&rule.path) {
            Ok(None) => {}
            Ok(Some(about)) => match assess(&rule, &about, server) {
                None => good += 1,
                Some(check) => checks.push(check),
            },
            Err(_) => {
                let text = format!("owner and mode of {}", rule.path.display());
                checks.push(facts.account.may_not(FILES, &text));
            }
        }
    }
    if good > 0 {
        let text = format!("owner and mode of {good} files and directories are right");
        checks.push(Check::ok(FILES, text));
    }
    checks
}

fn rules(facts: &Facts<'_>) -> Vec<Rule> {
    let settings = facts.settings;
    let data = |name: &str| settings.data_dir.join(name);
    let changes = "whoever may change it decides what the server does";
    let reads = "whoever reads it has the server's secrets";
    let mut rules = vec![
        Rule {
            path: settings.data_dir.clone(),
            owner: Owner::Server,
            allowed: 0o755,
            mode: "750",
            why: changes,
        },
        Rule {
            path: data("secrets.toml"),
            owner: Owner::Server,
            allowed: 0o600,
            mode: "600",
            why: reads,
        },
        Rule {
            path: data("jetstream"),
            owner: Owner::Server,
            allowed: 0o750,
            mode: "700",
            why: "whoever reads it has what people wrote",
        },
        Rule {
            path: data("lock"),
            owner: Owner::Server,
            allowed: 0o640,
            mode: "640",
            why: "whoever holds it stops the server",
        },
        Rule {
            path: data("run"),
            owner: Owner::Server,
            allowed: 0o700,
            mode: "700",
            why: "whoever enters it reaches the store",
        },
        Rule {
            path: facts.system.path("/etc/chatto/backup-passphrase"),
            owner: Owner::Root,
            allowed: 0o600,
            mode: "600",
            why: "whoever reads it can open every backup",
        },
    ];
    if let Some(file) = &facts.examined.file {
        let path = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let (allowed, why) =
            if holds_secrets(facts.examined, file) { (0o640, reads) } else { (0o644, changes) };
        rules.push(Rule { path, owner: Owner::RootOrServer, allowed, mode: "640", why });
    }
    if let Some(path) = settings.operator_socket.clone() {
        let why = "whoever reaches it controls the server";
        rules.push(Rule { path, owner: Owner::Server, allowed: 0o600, mode: "600", why });
    }
    if let Some(tls) = &settings.webserver.tls {
        let why = "whoever reads it can act as this server";
        let path = tls.key_file.clone();
        rules.push(Rule { path, owner: Owner::RootOrServer, allowed: 0o640, mode: "640", why });
    }
    rules
}

/// Whether a secret is written in the configuration file itself.
fn holds_secrets(examined: &Examined, file: &Path) -> bool {
    examined.effective.iter().any(|effective| {
        let is_here = matches!(
            &effective.source,
            Source::Stated(Location::Line { file: place, .. }) if place == file
        );
        is_here && effective.value.as_deref() == Some(HIDDEN)
    })
}

fn assess(rule: &Rule, about: &Metadata, server: u32) -> Option<Check> {
    let path = rule.path.as_path();
    // A link to another disk is how one moves the data.
    let is_link = about.is_symlink();
    let about = if is_link { path.metadata().ok()? } else { about.clone() };
    // Commands for the target of a link are not given: the account of the server could have made the link, to any file.
    let fix = |command: String| match is_link {
        false => command,
        true => format!(
            "{} is a symbolic link: ls -l {} shows where to. Remove it, unless you made it",
            path.display(),
            quoted(path)
        ),
    };
    let (mode, uid) = (about.mode() & 0o7777, about.uid());
    let is_owner = match rule.owner {
        Owner::Root => uid == 0,
        Owner::Server => uid == server,
        Owner::RootOrServer => uid == 0 || uid == server,
    };
    let kind = match about.file_type() {
        kind if kind.is_dir() => "directory",
        kind if kind.is_socket() => "socket",
        _ => "file",
    };
    let shown = path.display();
    if !is_owner {
        let wanted = if rule.owner == Owner::Root { 0 } else { server };
        let text = format!(
            "the {kind} {shown} belongs to account {uid} instead of {wanted}: {}",
            rule.why
        );
        let group = if rule.owner == Owner::Root { ":" } else { "" };
        let command = format!("chown {wanted}{group} {}", quoted(path));
        return Some(Check::fail(FILES, text).fix(fix(command)));
    }
    let excess = mode & 0o777 & !rule.allowed;
    if excess == 0 {
        return None;
    }
    let text = format!(
        "the {kind} {shown} has mode {mode:04o}, at most {:04o} is right: {}",
        rule.allowed, rule.why
    );
    let command = format!("chmod {} {}", rule.mode, quoted(path));
    Some(Check::fail(FILES, text).fix(fix(command)))
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Verdict;
    use super::*;

    fn assessed(owner: Owner, allowed: u32, mode: u32, server_is_owner: bool) -> Option<Check> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.toml");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let about = path.metadata().unwrap();
        let server = if server_is_owner { about.uid() } else { about.uid() + 1 };
        assess(&Rule { path, owner, allowed, mode: "600", why: "secrets" }, &about, server)
    }

    #[test]
    fn more_rights_than_allowed_are_named_with_the_command_that_takes_them_away() {
        assert_eq!(assessed(Owner::Server, 0o600, 0o600, true), None);
        assert_eq!(assessed(Owner::Server, 0o600, 0o400, true), None, "less is enough");
        let wide = assessed(Owner::Server, 0o600, 0o644, true).unwrap();
        assert_eq!(wide.verdict, Verdict::Fail);
        assert!(wide.text.contains("0644"), "{wide:?}");
        let fix = wide.fix.unwrap();
        assert!(fix.starts_with("chmod 600 /") && fix.ends_with("/secrets.toml"), "{fix}");
    }

    #[test]
    fn a_file_of_another_account_is_named_with_the_account_that_should_own_it() {
        let foreign = assessed(Owner::Server, 0o600, 0o600, false).unwrap();
        assert!(foreign.fix.unwrap().starts_with("chown "));
        let own = rustix::process::geteuid().is_root();
        assert_eq!(assessed(Owner::RootOrServer, 0o644, 0o644, false).is_none(), own);
        assert_eq!(assessed(Owner::Root, 0o600, 0o600, true).is_none(), own);
    }

    #[test]
    fn no_command_is_given_that_would_follow_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("secrets.toml"));
        std::fs::write(&target, "x").unwrap();
        std::fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let about = path.symlink_metadata().unwrap();
        for server in [about.uid(), about.uid() + 1] {
            let path = path.clone();
            let rule =
                Rule { path, owner: Owner::Server, allowed: 0o600, mode: "600", why: "secrets" };
            let fix = assess(&rule, &about, server).unwrap().fix.unwrap();
            assert!(fix.contains("is a symbolic link"), "{fix}");
            assert!(!fix.contains("chown") && !fix.contains("chmod"), "{fix}");
        }
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/var/lib/chatto")), "/var/lib/chatto");
        assert_eq!(quoted(Path::new("/a b/c'd")), "'/a b/c'\\''d'");
    }
}
