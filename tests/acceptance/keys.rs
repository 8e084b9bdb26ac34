//! `keys export` and `keys import` with the built binary: what was written before is readable afterwards, whatever
//! was lost, and a file that does not fit changes nothing.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use chatto::crypto::Secret;
use chatto::crypto::age::AgeWriter;
use serde_json::{Value, json};

use super::external::running_on;
use super::seeded;
use crate::support::client::Message;
use crate::support::nats::{NatsServer, request};
use crate::support::realtime::{CatchUp, Endpoint, Follower, Key};
use crate::support::server::Server;

pub(super) const PASSPHRASE: &str = "correct horse battery";

/// Runs a command with the passphrase on standard input: exit code, output, error output.
fn with_input(server: &Server, args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = server.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its arguments does not read.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn export(server: &Server, file: &str) -> String {
    let (code, shown, said) =
        with_input(server, &["keys", "export", "-o", file], &format!("{PASSPHRASE}\n"));
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains(PASSPHRASE) && !shown.contains(PASSPHRASE));
    shown
}

fn import(server: &Server, args: &[&str]) -> (i32, String, String) {
    let args = [&["keys", "import"], args].concat();
    with_input(server, &args, &format!("{PASSPHRASE}\n"))
}

#[track_caller]
fn imported(server: &Server, args: &[&str], counts: &str) {
    let (code, shown, said) = import(server, args);
    assert_eq!((code, shown.as_str()), (0, counts), "{said}");
}

#[track_caller]
fn refused(server: &Server, args: &[&str], exit: i32, names: &str) {
    let (code, shown, said) = import(server, args);
    assert_eq!((code, shown.as_str()), (exit, ""), "{said}");
    assert!(said.contains(names), "does not name {names}: {said}");
}

/// A stopped server with messages, and an export of its keys.
fn stopped() -> (Server, String, Vec<Message>) {
    let mut server = Server::start();
    let (room, history) = seeded(&server.owner());
    assert!(server.stop().success());
    assert_eq!(export(&server, "keys.backup"), "1 key exported to keys.backup\n");
    (server, room, history)
}

fn lose_keys(server: &Server) {
    std::fs::remove_dir_all(server.stream_dir("KV_ENCRYPTION_KEYS")).unwrap();
}

/// A file with the cheapest work factor.
fn encrypted(text: &str) -> Vec<u8> {
    let passphrase = Secret::from(PASSPHRASE.to_owned());
    let mut writer = AgeWriter::new(Vec::new(), &passphrase, 1).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap()
}

/// Age's program on this machine.
pub(super) fn age(dir: &Path, args: &str, answers: usize) -> bool {
    // `script` gives it a terminal, which it insists on for a passphrase.
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", args, "/dev/null"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..answers {
        stdin.write_all(format!("{PASSPHRASE}\n").as_bytes()).unwrap();
    }
    let status = child.wait().unwrap();
    drop(stdin);
    status.success()
}

#[test]
fn lost_keys_come_back_from_an_export() {
    let (mut server, room, history) = stopped();
    let about = std::fs::metadata(server.dir().join("keys.backup")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    lose_keys(&server);
    let (code, printed) = server.run_refused();
    assert_eq!(code, 74, "{printed}");
    assert!(printed.contains("chatto keys import FILE"), "{printed}");

    imported(&server, &["keys.backup"], "1 imported, 0 present, 0 refused\n");
    imported(&server, &["keys.backup"], "0 imported, 1 present, 0 refused\n");
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);

    // With the server running: exported again, imported again, and shown by `status`.
    assert_eq!(export(&server, "keys.backup"), "1 key exported to keys.backup\n");
    assert!(server.dir().join("keys.backup.old").exists());
    imported(&server, &["keys.backup"], "0 imported, 1 present, 0 refused\n");
    let status: Value = serde_json::from_str(&server.chatto_ok(["status", "--json"])).unwrap();
    assert_eq!(status["keys"]["people_without_export"], 0);
    assert!(status["keys"]["exported"].is_string(), "{status}");
    let bert = server.client().log_in("ada").invite("bert");
    bert.join(&room);
    bert.post(&room, "mine", "mine").unwrap();
    let status = server.chatto_ok(["status"]);
    assert!(status.contains("1 person has keys that no export holds"), "{status}");
    assert!(server.stop().success());
}

#[test]
fn files_that_do_not_fit_change_nothing() {
    let (mut server, room, history) = stopped();
    lose_keys(&server);
    let whole = std::fs::read_to_string(server.dir().join("keys.backup"));
    assert!(whole.is_err(), "it is encrypted");
    let path = |name: &str| server.dir().join(name);
    std::fs::copy(path("keys.backup"), path("short")).unwrap();
    let file = std::fs::File::options().write(true).open(path("short")).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    refused(&server, &["short"], 65, "damaged");

    let (code, _, said) =
        with_input(&server, &["keys", "import", "keys.backup"], "another passphrase\n");
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("the passphrase is wrong"), "{said}");

    std::fs::write(path("archive.tar.gz"), b"\x1f\x8b\x08 and more").unwrap();
    refused(&server, &["archive.tar.gz"], 65, "chatto restore");
    std::fs::write(path("text"), b"{}").unwrap();
    refused(&server, &["text"], 65, "not encrypted");
    refused(&server, &["absent"], 74, "absent");
    refused(&server, &["/dev/null"], 2, "regular file");

    // What the program of Debian makes of it.
    assert!(age(server.dir(), "age -d -o keys.json keys.backup", 1));
    let text = std::fs::read_to_string(path("keys.json")).unwrap();
    let export: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&export["version"], &export["key_count"]), (&json!(1), &json!(1)));
    let changes: [(&str, Value, &str); 3] = [
        ("version", json!(2), "version 2"),
        ("server_id", json!("S0000000000000000"), "belongs to server"),
        ("key_count", json!(2), "damaged"),
    ];
    for (field, value, names) in changes {
        let mut changed = export.clone();
        changed[field] = value;
        std::fs::write(path("changed"), encrypted(&changed.to_string())).unwrap();
        refused(&server, &["changed"], 65, names);
    }
    assert!(!server.stream_dir("KV_ENCRYPTION_KEYS").exists(), "nothing was created");
    assert!(age(server.dir(), "age -p -o again.age keys.json", 2));
    imported(&server, &["again.age"], "1 imported, 0 present, 0 refused\n");
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

#[test]
fn keys_come_before_the_data_of_a_new_server() {
    let (server, ..) = stopped();
    let mut fresh = Server::prepare();
    std::fs::copy(server.dir().join("keys.backup"), fresh.dir().join("keys.backup")).unwrap();
    imported(&fresh, &["keys.backup"], "1 imported, 0 present, 0 refused\n");
    let about = std::fs::metadata(fresh.data_dir().join("secrets.toml")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let (code, printed) = fresh.run_refused();
    assert_eq!(code, 74, "{printed}");
    assert!(printed.contains("chatto restore"), "{printed}");
    imported(&fresh, &["keys.backup"], "0 imported, 1 present, 0 refused\n");
    // The keys of yet another server are not mixed with these.
    let (other, ..) = stopped();
    std::fs::copy(other.dir().join("keys.backup"), fresh.dir().join("other")).unwrap();
    refused(&fresh, &["other"], 65, "belongs to server");
}

#[test]
fn a_lost_secret_is_replaced() {
    let (mut server, room, history) = stopped();
    std::fs::remove_file(server.data_dir().join("secrets.toml")).unwrap();
    let (code, printed) = server.run_refused();
    assert_eq!(code, 78, "{printed}");
    assert!(printed.contains("--new-secret"), "{printed}");
    refused(&server, &["keys.backup"], 78, "--new-secret");
    assert!(!server.data_dir().join("secrets.toml").exists());
    let (code, _, said) = with_input(&server, &["keys", "export", "-o", "more"], "x\n");
    assert_eq!(code, 78, "{said}");

    imported(&server, &["keys.backup", "--new-secret"], "1 imported, 0 present, 0 refused\n");
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
    assert_eq!(export(&server, "more"), "1 key exported to more\n");
    assert!(server.stop().success());
}

#[test]
fn a_key_that_is_there_but_that_the_present_secret_does_not_read_is_made_readable() {
    let mut server = Server::start();
    let ada = server.owner();
    let (room, _) = seeded(&ada);
    assert_eq!(export(&server, "early"), "1 key exported to early\n");
    let bert = ada.invite("bert");
    bert.join(&room);
    bert.post(&room, "mine", "mine").unwrap();
    let history = ada.history(&room);
    assert_eq!(export(&server, "late"), "2 keys exported to late\n");
    assert!(server.stop().success());
    std::fs::remove_file(server.data_dir().join("secrets.toml")).unwrap();

    let (code, shown, said) = import(&server, &["early", "--new-secret"]);
    assert_eq!((code, &*shown), (0, "1 imported, 0 present, 0 refused\n"), "{said}");
    let advice =
        "1 key of the store cannot be read with the present core.secret_key; importing an export";
    assert!(said.contains(advice), "{said}");
    imported(&server, &["late"], "1 imported, 1 present, 0 refused\n");
    let (_, _, said) = import(&server, &["late"]);
    assert!(!said.contains("cannot be read"), "{said}");
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

#[test]
fn imported_keys_reach_a_running_server_and_its_clients() {
    let nats = NatsServer::start();
    let mut server = running_on(&nats);
    let (room, history) = seeded(&server.owner());
    export(&server, "keys.backup");
    assert!(server.stop().success());
    let purged = request(nats.port(), "$JS.API.STREAM.PURGE.KV_ENCRYPTION_KEYS", "").unwrap();
    assert!(purged.contains("\"success\":true"), "{purged}");
    server.run();
    let owner = server.client().log_in("ada");
    assert!(owner.history(&room).iter().all(|message| message.body.is_empty()));
    let key = Key::Bearer(owner.client.token().unwrap().to_owned());
    let endpoint = Endpoint::local(server.port());
    let mut follower = Follower::load(&endpoint, key);
    follower.sync();

    refused(&server, &["keys.backup", "--new-secret", "--passphrase-file", "absent"], 74, "absent");
    imported(&server, &["keys.backup"], "1 imported, 0 present, 0 refused\n");
    let end = follower.ended();
    assert_eq!(end.close, Some(("projection_reset_required".to_owned(), true)), "{end:?}");
    assert_eq!(follower.connect(&endpoint), CatchUp::Reset);
    assert_eq!(owner.history(&room), history, "without a restart");

    // A new secret is only taken while nobody uses the store.
    server.set("CHATTO_CORE_SECRET_KEY", "another core secret for these tests, long");
    refused(&server, &["keys.backup"], 78, "--new-secret");
    refused(&server, &["keys.backup", "--new-secret"], 75, "pid");
    assert!(server.stop().success());
    imported(&server, &["keys.backup", "--new-secret"], "1 imported, 0 present, 0 refused\n");
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

/// Runs a command at a terminal where each text is typed as soon as its prompt is shown; returns what the terminal shows.
fn typed(server: &Server, command: &str, answers: &[(&str, &str)]) -> String {
    let lines: Vec<_> =
        answers.iter().map(|(prompt, text)| (*prompt, format!("{text}\n"))).collect();
    let (is_success, shown) = typed_keys(server, command, &lines);
    assert!(is_success, "{shown}");
    shown
}

/// As `typed`, with every key; returns also whether the command was successful.
pub(super) fn typed_keys(
    server: &Server,
    command: &str,
    answers: &[(&str, String)],
) -> (bool, String) {
    let mut command = server.at_terminal(command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    for (prompt, keys) in answers {
        let begin = shown.len();
        while !String::from_utf8_lossy(&shown[begin..]).contains(prompt) {
            let mut byte = [0];
            let read = screen.read(&mut byte).unwrap();
            assert_eq!(read, 1, "no {prompt}: {}", String::from_utf8_lossy(&shown));
            shown.extend(byte);
        }
        keyboard.write_all(keys.as_bytes()).unwrap();
    }
    screen.read_to_end(&mut shown).unwrap();
    (child.wait().unwrap().success(), String::from_utf8(shown).unwrap())
}

#[test]
fn a_terminal_does_not_show_a_passphrase_that_is_typed() {
    let mut server = Server::start();
    seeded(&server.owner());
    assert!(server.stop().success());
    let shown = typed(&server, "echo 'Go on: '; read -r line", &[("Go on: ", PASSPHRASE)]);
    assert!(shown.contains(PASSPHRASE), "it shows everything else: {shown}");
    let export = "chatto keys export -o typed";
    let answers = [("Passphrase: ", PASSPHRASE), ("Again: ", PASSPHRASE)];
    let shown = typed(&server, export, &answers);
    assert!(shown.contains("1 key exported to typed"), "{shown}");
    for word in PASSPHRASE.split(' ') {
        assert!(!shown.contains(word), "{shown}");
    }
    let answers = [("Passphrase of typed: ", PASSPHRASE)];
    let shown = typed(&server, "chatto keys import typed", &answers);
    assert!(shown.contains("0 imported, 1 present") && !shown.contains(PASSPHRASE), "{shown}");
}

#[test]
fn a_store_without_keys_gives_a_valid_export() {
    let mut server = Server::start();
    assert!(server.stop().success());
    let (code, shown, said) =
        with_input(&server, &["keys", "export", "-okeys", "--passphrase", "weak"], "");
    assert_eq!((code, shown.as_str()), (0, "0 keys exported to keys\n"), "{said}");
    for warning in ["there are no keys yet", "is weak", "list of processes"] {
        assert!(said.contains(warning), "{said}");
    }
    let (code, shown, said) =
        with_input(&server, &["keys", "import", "keys", "--json", "--passphrase=weak"], "");
    assert_eq!(code, 0, "{said}");
    let counts: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&counts["imported"], &counts["schema"]), (&json!(0), &json!(1)));

    // On a terminal it is asked for twice.
    for (answers, success) in [("one passphrase\\none passphrase", true), ("one\\ntwo", false)] {
        let command = "chatto keys export -o typed";
        let script = "script --quiet --return --command";
        let output =
            server.shell(&format!("printf '{answers}\\n' | {script} '{command}' /dev/null"));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), success, "{shown}");
        assert!(shown.contains("Passphrase: ") && shown.contains("Again: "), "{shown}");
        assert_eq!(server.dir().join("typed").exists(), success);
        std::fs::remove_file(server.dir().join("typed")).ok();
    }
    std::fs::create_dir(server.dir().join("folder")).unwrap();
    export(&server, "folder/");
    let names = std::fs::read_dir(server.dir().join("folder")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].to_string_lossy().ends_with("Z-keys.age"), "{names:?}");
}
