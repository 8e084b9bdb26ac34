//! A store in NATS is restored while a process that uses it is paused or cut off: the process writes nothing more and
//! starts anew.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::seeded;
use crate::support::client::{Account, Message};
use crate::support::nats::{NatsServer, pause, request, signal};
use crate::support::relay::Relay;
use crate::support::server::Server;
use crate::support::wait::until;

/// Of a process whose NATS has come back, or that has woken.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// The client of NATS gives a connection up that has not answered for half a minute.
const NOTICED_WITHIN: Duration = Duration::from_secs(90);

/// A process with a backup of its store, which has changed since.
struct BackedUp {
    process: Server,
    owner: Account,
    room: String,
    /// What the archive has.
    history: Vec<Message>,
    archive: PathBuf,
}

fn backed_up(url: &str) -> BackedUp {
    let mut process = Server::prepare();
    process.use_external(url);
    process.run();
    let owner = process.owner();
    let (room, history) = seeded(&owner);
    let archive = process.dir().join("archive.tar.gz");
    process.chatto_ok(["backup", "-o", archive.to_str().unwrap()]);
    for n in 0..3 {
        owner.post(&room, "after the backup", &format!("late-{n}")).unwrap();
    }
    BackedUp { process, owner, room, history, archive }
}

/// Lets the entry of a process that does not answer expire at once, and restores over its store.
fn restore_over(nats: &NatsServer, archive: &Path) {
    let filter = r#"{"filter":"$KV.PRESENCE.process.*"}"#;
    let purged = request(nats.port(), "$JS.API.STREAM.PURGE.KV_PRESENCE", filter).unwrap();
    assert!(purged.contains("\"success\":true"), "{purged}");
    let mut operator = Server::prepare();
    operator.use_external(&nats.url());
    let mut command =
        operator.command(["restore", archive.to_str().unwrap(), "--conflict=overwrite"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut restoring = command.spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(restoring.stderr.take().unwrap());
    while !said.contains("waiting 12 seconds") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "it does not say that it waits: {said}");
    }
    assert_eq!(restoring.try_wait().unwrap(), None, "{said}");
    lines.read_to_string(&mut said).unwrap();
    assert!(restoring.wait().unwrap().success(), "{said}");
}

/// The last sequence of every stream, and how many messages it has. Without the one that a process writes to now and then
/// to see whether there is memory: such a message may have been on its way when the network was cut.
fn ends(nats: &NatsServer) -> Vec<(String, u64, u64)> {
    let list = request(nats.port(), "$JS.API.STREAM.LIST", "").unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let mut ends: Vec<_> = list["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|info| {
            let (name, state) = (info["config"]["name"].as_str().unwrap(), &info["state"]);
            (name.to_owned(), number(&state["last_seq"]), number(&state["messages"]))
        })
        .collect();
    ends.retain(|(name, ..)| name != "KV_PRESENCE");
    ends.sort();
    assert!(ends.len() > 10, "{ends:?}");
    ends
}

/// It ends by itself, has written nothing, and serves what was restored after the next start.
fn starts_anew(nats: &NatsServer, of: &mut BackedUp, restored: &[(String, u64, u64)]) {
    let ended = of.process.ended_within(ENDS_WITHIN);
    let log = of.process.log();
    assert_eq!(ended.code(), Some(75), "{log}");
    assert!(log.contains("the store was restored"), "{log}");
    assert!(!log.contains("did not reply: the store was restored"), "{log}");
    assert_eq!(ends(nats), restored, "it has written");
    of.process.run();
    let owner = of.process.client().log_in("ada");
    assert_eq!(owner.history(&of.room), of.history);
    owner.post(&of.room, "and on it goes", "next").unwrap();
    assert_eq!(owner.history(&of.room).len(), of.history.len() + 1);
}

#[test]
fn a_process_that_was_paused_while_its_store_was_restored_writes_nothing_and_starts_anew() {
    let nats = NatsServer::start();
    let mut of = backed_up(&nats.url());
    pause(of.process.pid());
    restore_over(&nats, &of.archive);
    let restored = ends(&nats);
    // The calls have arrived when it wakes.
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let (owner, room) = (of.owner.clone(), of.room.clone());
            std::thread::spawn(move || owner.post(&room, "not before", &format!("woken-{n}")))
        })
        .collect();
    signal(of.process.pid(), "CONT");
    for call in calls {
        let outcome = call.join().unwrap();
        assert!(outcome.is_err(), "{outcome:?}");
    }
    starts_anew(&nats, &mut of, &restored);
}

#[test]
fn a_process_that_was_cut_off_while_its_store_was_restored_writes_nothing_and_starts_anew() {
    let nats = NatsServer::start();
    let relay = Relay::start(nats.port());
    let mut of = backed_up(&format!("nats://127.0.0.1:{}", relay.port()));
    relay.cut(true);
    until("it has lost its connection", NOTICED_WITHIN, || {
        of.process.log().contains("lost the connection to NATS").then_some(())
    });
    let (owner, room) = (of.owner.clone(), of.room.clone());
    let call = std::thread::spawn(move || owner.post(&room, "while cut off", "cut"));
    restore_over(&nats, &of.archive);
    let restored = ends(&nats);
    relay.hang_up();
    relay.cut(false);
    let outcome = call.join().unwrap();
    assert!(outcome.is_err(), "{outcome:?}");
    starts_anew(&nats, &mut of, &restored);
}
