//! What backup, restore and keys say of files that they cannot use: what is wrong, and what to do.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::backup::{json_of, refused, text};
use super::{keys, seeded};
use crate::support::server::{NOBODY, Server};

const PASS: [&str; 2] = ["--passphrase", keys::PASSPHRASE];

/// A running server with messages.
fn with_messages() -> Server {
    let server = Server::start();
    seeded(&server.owner());
    server
}

#[test]
fn a_key_export_and_a_backup_are_told_apart_by_every_command() {
    let server = with_messages();
    json_of(&server, &[&["keys", "export", "-o", "keys.backup"], &PASS[..]].concat());
    json_of(&server, &[&["backup", "--encrypt", "-o", "daily.age"], &PASS[..]].concat());
    for (args, advice) in [
        (&["backup", "verify", "keys.backup"][..], "`chatto keys import FILE`"),
        (&["backup", "verify", "keys.backup", "--level=header"], "`chatto keys import FILE`"),
        (&["backup", "extract", "keys.backup"], "`chatto keys import FILE`"),
        (&["keys", "import", "daily.age"], "`chatto restore FILE`"),
    ] {
        let (exit, stderr) = refused(&server, &[args, &PASS].concat());
        assert!(exit == 65 && stderr.contains(advice), "{args:?}: {exit} {stderr}");
    }
    let (new, export) = (Server::prepare(), server.dir().join("keys.backup"));
    for flags in [&["--dry-run"][..], &[]] {
        let args = [&["restore", text(&export)], &PASS[..], flags].concat();
        let (exit, stderr) = refused(&new, &args);
        assert!(exit == 65 && stderr.contains("`chatto keys import FILE`"), "{exit} {stderr}");
    }
}

#[test]
fn a_second_backup_to_one_file_says_that_another_is_writing_there() {
    let server = with_messages();
    let partial = std::fs::File::create(server.dir().join(".daily.tar.gz.partial")).unwrap();
    flock(&partial, FlockOperation::NonBlockingLockExclusive).unwrap();
    let (exit, stderr) = refused(&server, &["backup", "-o", "daily.tar.gz"]);
    assert_eq!(exit, 75, "{stderr}");
    assert!(stderr.contains("another backup is writing to daily.tar.gz; try again"), "{stderr}");
    drop(partial);
    json_of(&server, &["backup", "-o", "daily.tar.gz"]);
}

#[test]
fn a_path_with_control_characters_reaches_no_terminal() {
    let server = with_messages();
    let folder = server.dir().join("a\u{1b}[2Jb");
    let args = ["backup", "-o", text(&folder), "--keep-last", "1"];
    std::fs::create_dir(&folder).unwrap();
    let output = server.chatto(args);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    // Programs get the path as it is.
    assert!(Path::new(stdout.trim_end()).exists(), "{stdout:?}");
    assert!(stderr.contains("a\u{fffd}[2Jb") && !stderr.contains('\u{1b}'), "{stderr:?}");
    let (exit, stderr) = refused(&server, &["backup", "verify", "no\u{1b}[2Jne"]);
    assert!(exit == 74 && stderr.contains("no\u{fffd}[2Jne"), "{exit} {stderr:?}");
}

#[test]
fn whatever_is_not_permitted_exits_with_77() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can be two accounts at a time (run it with sudo)");
        return;
    }
    let server = with_messages();
    let at = |name: &str| server.dir().join(name);
    json_of(&server, &[&["keys", "export", "-o", "keys.backup"], &PASS[..]].concat());
    json_of(&server, &[&["backup", "--encrypt", "-o", "daily.age"], &PASS[..]].concat());
    json_of(&server, &["backup", "-o", "open.tar.gz"]);
    std::fs::write(at("passphrase"), keys::PASSPHRASE).unwrap();
    std::fs::create_dir(at("closed")).unwrap();
    let modes = [
        ("", 0o755),
        ("passphrase", 0o600),
        ("closed", 0o700),
        ("open.tar.gz", 0o644),
        ("data", 0o700),
    ];
    for (name, mode) in modes {
        std::fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    for args in [
        &["backup", "list", "closed"][..],
        &["backup", "prune", "closed"],
        &["backup", "verify", "daily.age"],
        &["backup", "verify", "closed/daily.age"],
        &["backup", "extract", "open.tar.gz", "general", "-o", "closed/out", "--work-dir", "/tmp"],
        &["backup", "verify", "open.tar.gz", "--restore-test", "--work-dir", "closed"],
        &["restore", "daily.age"],
        &["restore", "open.tar.gz"],
        &["keys", "import", "keys.backup"],
        &["init", "-c", "closed/chatto.toml"],
        &["status"],
    ] {
        let output = server.command_as(NOBODY, args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(77), "{args:?}: {stderr}");
        assert!(stderr.starts_with("chatto: ") || stderr.contains("\nchatto: "), "{stderr}");
    }
}
