//! Backups that were killed, and a catalogue that another process has locked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::archives::{listed, states};
use super::backup::{attach, backed_up, json_of, refused, text};
use super::external::running_on;
use super::seeded;
use crate::support::filter::Filter;
use crate::support::nats::{NatsServer, request};
use crate::support::proc;
use crate::support::server::Server;
use crate::support::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);

fn spawned(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The exit code and what was printed to standard error.
fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

/// Files of archives that are being written, or were.
fn partial(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "partial")).collect()
}

/// The headers of the record that says that a backup is being made, if there is one.
fn lease(nats: &NatsServer) -> Option<String> {
    let newest = json!({ "last_by_subj": "$KV.PRESENCE.export" }).to_string();
    let reply = request(nats.port(), "$JS.API.STREAM.MSG.GET.KV_PRESENCE", &newest).unwrap();
    let reply: Value = serde_json::from_str(&reply).unwrap();
    let headers = BASE64.decode(reply["message"]["hdrs"].as_str()?).unwrap();
    let headers = String::from_utf8(headers).unwrap();
    (!headers.contains("KV-Operation")).then_some(headers)
}

#[test]
fn a_backup_that_was_killed_holds_up_others_for_half_a_minute_and_the_next_one_removes_its_part() {
    let nats = NatsServer::start();
    let server = running_on(&nats);
    seeded(&server.owner());
    let folder = server.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    json_of(&server, &["backup", "-o", text(&folder), "--verify"]);
    assert_eq!(lease(&nats), None);

    // It stands still in the middle.
    let filter = Filter::start(nats.port(), &["DIRECT.GET.FILES"]);
    let _on = filter.turn_on();
    let mut standing = Server::prepare();
    standing.use_external(&filter.url());
    let mut child = spawned(standing.command(["backup", "-o", text(&folder)]));
    let headers = until("it is being made", PATIENCE, || {
        assert_eq!(child.try_wait().unwrap(), None);
        lease(&nats)
    });
    // It is renewed as long as somebody makes one.
    assert!(headers.contains("Nats-TTL: 30s"), "{headers}");
    child.kill().unwrap();
    child.wait().unwrap();

    let killed = states(&[(0, "writing"), (1, "verified")]);
    assert_eq!((listed(&server, &folder), partial(&folder).len()), (killed.clone(), 1));
    let pruned = json_of(&server, &["backup", "prune", text(&folder), "--keep-last", "1"]);
    assert_eq!(pruned["superseded"], json!([]));
    assert_eq!((listed(&server, &folder), partial(&folder).len()), (killed, 1));
    let (exit, stderr) = refused(&server, &["backup", "-o", text(&folder)]);
    assert_eq!(exit, 75, "{stderr}");
    assert!(stderr.contains("another backup of this store is running; try again"), "{stderr}");
    assert_eq!(listed(&server, &folder), states(&[(1, "verified")]));
    assert_eq!(partial(&folder), [] as [PathBuf; 0]);

    // The half minute passes.
    let expired = json!({ "filter": "$KV.PRESENCE.export" }).to_string();
    let purged = request(nats.port(), "$JS.API.STREAM.PURGE.KV_PRESENCE", &expired).unwrap();
    assert!(purged.contains("\"success\":true"), "{purged}");
    let made = json_of(&server, &["backup", "-o", text(&folder), "--keep-last", "1"]);
    let number = made["sequence"].as_u64().unwrap();
    assert_eq!(listed(&server, &folder), states(&[(number, "verified")]));
    assert_eq!(partial(&folder), [] as [PathBuf; 0]);
}

#[test]
fn a_backup_of_a_stopped_server_that_was_killed_leaves_no_nats_server_that_holds_up_the_next() {
    let mut of = backed_up();
    let large: Vec<u8> = (0..24 << 20).map(|_| fastrand::u8(..)).collect();
    attach(&of.server.client().log_in("ada"), &of.room, "large.bin", &large);
    assert!(of.server.stop().success());
    let folder = of.server.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let make = ["backup", "-o", text(&folder)];
    let is_killed = (0..5).any(|_| {
        let mut child = spawned(of.server.command(make));
        until("it writes or ends", PATIENCE, || {
            let length = |path: &PathBuf| path.metadata().map_or(0, |about| about.len());
            let writes = partial(&folder).iter().any(|path| length(path) > 0);
            (writes || child.try_wait().unwrap().is_some()).then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        !partial(&folder).is_empty()
    });
    assert!(is_killed, "each was made before it was killed");
    // A nats-server that it has left ends by itself; whoever comes before that is refused.
    until("the next one is made", PATIENCE, || {
        let (exit, stderr) = refused(&of.server, &make);
        assert!(exit == 0 || exit == 75, "{exit} {stderr}");
        (exit == 0).then_some(())
    });
    let listed = listed(&of.server, &folder);
    assert!(listed.iter().all(|(_, state)| state == "complete"), "{listed:?}");
    assert_eq!(partial(&folder), [] as [PathBuf; 0]);
    of.server.run();
    assert_eq!(of.server.client().log_in("ada").history(&of.room).len(), of.history.len() + 1);
}

#[test]
fn a_catalogue_that_another_process_keeps_locked_is_waited_for_but_not_for_ever() {
    let server = Server::start();
    server.owner();
    let folder = server.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    json_of(&server, &["backup", "-o", text(&folder), "--verify"]);
    let lock = folder.join("..chatto-backups.json.partial");
    let hold = || {
        let file = File::options().write(true).create_new(true).open(&lock).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    };
    let prune = ["backup", "prune", text(&folder), "--keep-last", "1"];

    let held = hold();
    let mut pruning = spawned(server.command(prune));
    // It tries again and again.
    until("it waits", PATIENCE, || {
        assert_eq!(pruning.try_wait().unwrap(), None);
        (proc::number(pruning.id(), "status", "voluntary_ctxt_switches:") > 50).then_some(())
    });
    std::fs::remove_file(&lock).unwrap();
    drop(held);
    let (exit, stderr) = ended(pruning);
    assert_eq!(exit, 0, "{stderr}");

    let _held = hold();
    let waiting =
        [&prune[..], &["backup", "-o", text(&folder)]].map(|args| spawned(server.command(args)));
    for (exit, stderr) in waiting.map(ended) {
        assert_eq!(exit, 75, "{stderr}");
        assert!(stderr.contains("another process keeps the catalogue"), "{stderr}");
        assert!(stderr.contains("try again"), "{stderr}");
    }
    assert_eq!(listed(&server, &folder), states(&[(1, "verified")]));
    assert_eq!(partial(&folder), [lock.as_path()]);
}
