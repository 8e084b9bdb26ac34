//! Every command, script and configuration block of the customer's four texts, copied verbatim into the folders
//! beside this file, and whether it *passes* already or *waits for* something that is not built yet. What passes is
//! run. `tests/golden/customer.txt` is the table: later work only moves rows.

mod backups;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chatto::blobs::s3::Config as S3Config;

use crate::acceptance::{path, upload};
use crate::support::client::Account;
use crate::support::golden;
use crate::support::nats::server_binary;
use crate::support::s3::proxy::{Fate, FaultyS3};
use crate::support::s3::{Kind, OWNER, S3Server, modes, s3};
use crate::support::server::{BINARY, Server};

/// One block of a text.
struct Block {
    /// Text and file, below this folder.
    file: &'static str,
    /// The part of the block that this row is about, if a file needs two rows.
    part: &'static str,
    state: State,
}

enum State {
    Passes(Check),
    WaitsFor(&'static str),
    /// It does nothing with this program.
    NotRun(&'static str),
}

enum Check {
    /// `chatto check-config` accepts it, together with the other blocks of the same reader.
    Config { with: &'static [&'static str] },
    /// A server with it stores files in the bucket, and reads them from there. This stands for the vendor's service, in front
    /// of the S3 server at a port.
    Files(fn(u16) -> FaultyS3),
    /// nats-server accepts it.
    NatsConfig,
    /// The script's one command starts a server that becomes ready.
    Start,
    /// The script's commands succeed beside a server on the port they name.
    BesideServer,
    /// The script succeeds beside a server, after the other scripts about keys, with somebody at the terminal who types
    /// the passphrase.
    Keys,
    /// The script succeeds in the story of [`backups`].
    Backups,
}

use Check::{Backups, BesideServer, Config, Files, Keys, NatsConfig, Start};
use State::{NotRun, Passes, WaitsFor};

/// The secrets and the connection that a fragment for several processes goes with.
const PROCESSES: &str = "horizontal-scaling/processes.env";

const AWS: fn(u16) -> FaultyS3 = |port| FaultyS3::start(port, modes::aws());
const R2: fn(u16) -> FaultyS3 = |port| FaultyS3::start(port, modes::r2());
const B2: fn(u16) -> FaultyS3 = |port| FaultyS3::start(port, modes::b2());
const WASABI: fn(u16) -> FaultyS3 = |port| FaultyS3::start(port, |_| Fate::Pass);

const fn row(file: &'static str, part: &'static str, state: State) -> Block {
    Block { file, part, state }
}

const BLOCKS: &[Block] = &[
    row("backup-restore/backup.sh", "", Passes(Backups)),
    row("backup-restore/backup-encrypted.sh", "", Passes(Backups)),
    row("backup-restore/backup-passphrase.sh", "", Passes(Backups)),
    row("backup-restore/restore.sh", "", Passes(Backups)),
    row("backup-restore/restore-encrypted.sh", "", Passes(Backups)),
    row("backup-restore/restore-passphrase.sh", "", Passes(Backups)),
    row("backup-restore/start.sh", "", Passes(Start)),
    row("backup-restore/restore-conflicts.sh", "", Passes(Backups)),
    row("backup-restore/keys-export.sh", "", Passes(Keys)),
    row("backup-restore/keys-export-passphrase.sh", "", Passes(Keys)),
    row("backup-restore/keys-import.sh", "", Passes(Keys)),
    row("backup-restore/disaster-recovery.sh", "", Passes(Backups)),
    row("backup-restore/automated.sh", "", Passes(Backups)),
    row(
        "backup-restore/age-install.sh",
        "",
        NotRun("it installs the age tool; the tests use that of Debian and that from source"),
    ),
    row("backup-restore/age-decrypt.sh", "", Passes(Backups)),
    row("backup-restore/age-keys.sh", "", Passes(Keys)),
    row("backup-restore/age-reencrypt.sh", "", Passes(Backups)),
    row("high-availability/nats-1.conf", "", Passes(NatsConfig)),
    row("high-availability/compose.yml", "", WaitsFor("the Compose example")),
    row(
        "high-availability/replicas.env",
        "",
        Passes(Config { with: &["high-availability/cluster.env", PROCESSES] }),
    ),
    row("high-availability/replicas.toml", "", Passes(Config { with: &[PROCESSES] })),
    row("high-availability/cluster.env", "", Passes(Config { with: &[PROCESSES] })),
    row("horizontal-scaling/processes.env", "", Passes(Config { with: &[] })),
    row("horizontal-scaling/processes.toml", "", Passes(Config { with: &[PROCESSES] })),
    row("horizontal-scaling/compose.yml", "", WaitsFor("the Compose example")),
    row("horizontal-scaling/healthcheck.sh", "", Passes(BesideServer)),
    row("horizontal-scaling/scale.sh", "", WaitsFor("the Compose example")),
    row("horizontal-scaling/probes.yml", "", WaitsFor("the Kubernetes example")),
    row("horizontal-scaling/calls.env", "configuration", Passes(Config { with: &[] })),
    row("horizontal-scaling/calls.env", "calls", WaitsFor("calls")),
    row("s3-storage/aws.env", "configuration", Passes(Config { with: &[] })),
    row("s3-storage/aws.env", "files", Passes(Files(AWS))),
    row("s3-storage/aws.toml", "configuration", Passes(Config { with: &[] })),
    row("s3-storage/aws.toml", "files", Passes(Files(AWS))),
    row("s3-storage/r2.env", "configuration", Passes(Config { with: &[] })),
    row("s3-storage/r2.env", "files", Passes(Files(R2))),
    row("s3-storage/wasabi.env", "configuration", Passes(Config { with: &[] })),
    row("s3-storage/wasabi.env", "files", Passes(Files(WASABI))),
    row("s3-storage/backblaze.env", "configuration", Passes(Config { with: &[] })),
    row("s3-storage/backblaze.env", "files", Passes(Files(B2))),
];

#[test]
fn the_table_is_golden() {
    let mut table = String::new();
    for Block { file, part, state } in BLOCKS {
        let name = if part.is_empty() { (*file).to_owned() } else { format!("{file} ({part})") };
        match state {
            Passes(_) => writeln!(table, "{name}: passes"),
            WaitsFor(what) => writeln!(table, "{name}: waits for {what}"),
            NotRun(why) => writeln!(table, "{name}: is not run: {why}"),
        }
        .unwrap();
    }
    golden::compare("tests/golden/customer.txt", &table);
}

#[test]
fn no_block_is_left_out() {
    for text in ["backup-restore", "high-availability", "horizontal-scaling", "s3-storage"] {
        for entry in std::fs::read_dir(here().join(text)).unwrap() {
            let file = format!("{text}/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(BLOCKS.iter().any(|block| block.file == file), "{file} has no row");
        }
    }
}

#[test]
fn configuration_blocks_are_accepted() {
    for block in BLOCKS {
        if let Passes(Config { with }) = &block.state {
            check_config(block.file, with);
        }
    }
}

#[test]
fn files_go_to_the_bucket_of_a_block() {
    let store = S3Server::start(Kind::SeaweedFs);
    let bucket = S3Config { bucket: "chatto-assets".to_owned(), ..store.config() };
    smol::block_on(s3(bucket).check()).unwrap();
    let mut server = Server::start();
    let owner = server.owner();
    let room = owner.room("general");
    owner.join(&room);
    for block in BLOCKS {
        let Passes(Files(service)) = block.state else { continue };
        assert!(server.stop().success());
        let service = service(store.port());
        configure(&mut server, block.file);
        // The service is here, and these are its keys.
        let endpoint = format!("http://127.0.0.1:{}", service.port());
        for (name, value) in [
            ("ENDPOINT", endpoint.as_str()),
            ("ACCESS_KEY_ID", OWNER.0),
            ("SECRET_ACCESS_KEY", OWNER.1),
        ] {
            server.set(&format!("CHATTO_CORE_ASSETS_S3_{name}"), value);
        }
        server.run();
        let client = server.client().with_token(owner.client.token().unwrap());
        let owner = Account { client, ..owner.clone() };
        let id = upload(&owner, &room, "a.txt", block.file.as_bytes());
        assert_eq!(owner.client.get_bytes(&path(&id)).unwrap(), block.file.as_bytes());
        let mut puts = service.seen().into_iter().filter(|seen| seen.method == "PUT");
        let is_it = |target: &str| target.starts_with("/chatto-assets/") && target.contains(&id);
        assert!(puts.any(|seen| is_it(&seen.target)), "{}: it is elsewhere", block.file);
        unconfigure(&mut server, block.file);
    }
}

#[test]
fn the_node_configuration_is_one_nats_server_accepts() {
    for block in BLOCKS {
        if let Passes(NatsConfig) = &block.state {
            let config = here().join(block.file);
            let output = Command::new(server_binary()).arg("-t").arg("-c").arg(config).output();
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {said}", block.file);
        }
    }
}

#[test]
fn scripts_do_what_they_say() {
    for block in BLOCKS {
        match &block.state {
            Passes(Start) => start(block.file),
            Passes(BesideServer) => beside_server(block.file),
            Passes(Config { .. } | Files(_) | NatsConfig | Keys | Backups)
            | WaitsFor(_)
            | NotRun(_) => {}
        }
    }
}

#[test]
fn scripts_about_keys_do_what_they_say() {
    let server = Server::start();
    for block in BLOCKS.iter().filter(|block| matches!(block.state, Passes(Keys))) {
        at_terminal(&server, &script(block.file));
    }
    let export = std::fs::read_to_string(server.dir().join("keys.json")).unwrap();
    assert!(export.contains("\"key_count\":0"), "{export}");
}

/// A script of a text.
fn script(file: &str) -> String {
    std::fs::read_to_string(here().join(file)).unwrap()
}

/// Runs a script with somebody at the terminal who types the passphrase whenever it is asked for, and with the secrets
/// manager and the variables of the text.
#[track_caller]
fn at_terminal(server: &Server, script: &str) {
    std::fs::write(server.dir().join("chatto.toml"), "# nothing to set\n").unwrap();
    let given = "vault() { printf 'correct horse battery'; }\n\
                 KEY_BACKUP_PASSPHRASE=$(vault)\nBACKUP_PASSPHRASE=$(vault)\n";
    let script = format!("set -euo pipefail\n{given}{script}");
    std::fs::write(server.dir().join("script.sh"), script).unwrap();
    let typed = "for n in 1 2 3; do printf 'correct horse battery\\n'; done";
    let terminal = "script --quiet --return --command 'bash script.sh' /dev/null";
    let output = server.shell(&format!("{{ {typed}; }} | {terminal}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

/// Gives a server the settings of a block.
fn configure(server: &mut Server, file: &str) {
    let text = script(file);
    if file.ends_with(".toml") {
        std::fs::write(server.dir().join("chatto.toml"), text).unwrap();
        return;
    }
    for (key, value) in variables(&text) {
        server.set(key, value);
    }
}

/// Takes the settings of a block from it.
fn unconfigure(server: &mut Server, file: &str) {
    if file.ends_with(".toml") {
        std::fs::remove_file(server.dir().join("chatto.toml")).unwrap();
        return;
    }
    for (key, _) in variables(&script(file)) {
        server.unset(key);
    }
}

fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap())
}

/// `chatto check-config` on a block and those it goes with.
fn check_config(file: &str, with: &[&str]) {
    let mut server = Server::prepare();
    server.unset("CHATTO_WEBSERVER_BIND_ADDRESS");
    server.unset("CHATTO_WEBSERVER_PORT");
    for name in with.iter().chain([&file]) {
        configure(&mut server, name);
    }
    let output = server.chatto(["check-config"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{file} with {with:?}: {said}");
    assert!(!said.contains("unknown"), "{file}: {said}");
}

/// Runs a script whose command stays in the foreground, until the server it starts is ready.
fn start(file: &str) {
    let mut server = Server::prepare();
    std::fs::write(server.dir().join("chatto.toml"), "# nothing to set\n").unwrap();
    let script = script(file);
    // `exec`, so that the shell's process becomes the server's and can be stopped by its id.
    server.spawn_script(&format!("exec {script}"));
    assert!(server.ready_or_ended().is_none(), "{file}: {}", server.log());
    assert!(server.stop().success());
}

/// Runs a script beside a ready server; the port it names is replaced by the server's.
fn beside_server(file: &str) {
    let server = Server::start();
    let script = script(file).replace(":4000", &format!(":{}", server.port()));
    // With the machine's wget, and with the one of the container image.
    std::os::unix::fs::symlink(BINARY, server.dir().join("wget")).unwrap();
    for path in ["", "PATH=.:$PATH\n"] {
        let output = server.shell(&format!("{path}{script}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file} after {path:?}: {said}");
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/customer")
}
