//! A restore over a store in NATS is killed at each of its writes, or nats-server is. Afterwards a server finds the
//! former store or the complete new one, or says that an archive must be restored; and the same restore, run again, ends
//! with a complete store.
//!
//! A sample of the writes in ordinary runs; `CHATTO_KILLED_RESTORES=all` stops at each of them, `2/3` at the second third
//! of all.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use chatto::backup::contents::Contents;
use chatto::domain::User;
use chatto::storage::RecordChange;
use serde_json::json;

use super::backup::{attach, text};
use super::contents::{archived, everything, of_processes};
use super::external::running_on;
use super::seeded;
use crate::storage::{open, run};
use crate::support::client::Account;
use crate::support::cluster::Cluster;
use crate::support::nats::NatsServer;
use crate::support::server::Server;
use crate::support::wait::until;
use crate::support::write_relay::{Moment, Point, WriteRelay};

/// Of a restore, or of one after nats-server has come back.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
/// Restores that run at once: each waits for 12 seconds.
const AT_ONCE: usize = 12;
/// The write that says that the store is not complete, and the one that says that it is.
const META: &str = "$KV.META.store";

/// Names of archives.
const OF_FORMER: &str = "of-former.tar.gz";
const OF_ANOTHER: &str = "of-another.tar.gz";

/// How the names of a restore's writes begin, one for each kind.
const KINDS: [&str; 14] = [
    META,
    "STREAM.UPDATE.KV_META",
    "$KV.META.deleted_user.",
    "STREAM.UPDATE.KV_ENCRYPTION_KEYS",
    "STREAM.DELETE.",
    "STREAM.CREATE.",
    "$KV.READ_MARKERS.",
    "journal.",
    "files.",
    "$KV.STATE.",
    "$O.ASSETS.C.",
    "STREAM.MSG.DELETE.FILES",
    "STREAM.UPDATE.",
    "STREAM.PURGE.KV_META",
];

/// Which of so many parts of all writes; `None`: a sample.
fn part() -> Option<(usize, usize)> {
    let which = std::env::var("CHATTO_KILLED_RESTORES").ok()?;
    let number = |text: &str| text.parse::<usize>().expect("all, or a part such as 1/3");
    Some(which.split_once('/').map_or((1, 1), |(part, parts)| (number(part), number(parts))))
}

/// What a restore finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    /// The store of which the archive is. It has changed since.
    Former,
    /// The same store, and the archive is another server's.
    Another,
    Nothing,
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Command,
    Nats,
}

/// A restore that is interrupted and run again; without a point it is not interrupted.
#[derive(Debug, Clone)]
struct Case {
    before: Before,
    victim: Victim,
    point: Option<Point>,
}

/// What a server finds after a restore was interrupted.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It says that an archive must be restored.
    Incomplete,
    /// It serves this.
    Served(String),
    /// There was no store, so it has created one.
    Created,
}

/// What became of a case.
struct Outcome {
    found: Option<Found>,
    /// Names of the writes up to the point.
    writes: Vec<String>,
    shown: String,
    contents: Contents,
}

/// Archives, and a store that they are restored over.
struct Stores {
    /// Has the archives in its directory.
    server: Server,
    /// It has stopped, and has the store of this server.
    former: NatsServer,
    shown: String,
}

impl Stores {
    fn new() -> Self {
        let mut former = NatsServer::start();
        let mut server = running_on(&former);
        let (owner, leaving) = seed(&server);
        server.chatto_ok(["backup", "-o", OF_FORMER]);
        let room = owner.room("general");
        owner.post(&room, "after the backup", "late").unwrap();
        attach(&owner, &room, "late.bin", b"late");
        assert!(server.stop().success());
        let (url, bob) = (former.url(), leaving.id.parse().unwrap());
        let shown = run(|runtime| async move {
            let storage = open(&url, &runtime, of_processes()).await.unwrap();
            let deleted = User { deleted: true, ..User::new(bob) };
            let put = |_: Option<&User>| {
                Ok::<_, std::convert::Infallible>(RecordChange::Put(deleted.clone()))
            };
            storage.state().change(&bob, put).await.unwrap();
            storage.close().await;
            everything(&url, &runtime).await
        });
        former.stop();

        let nats = NatsServer::start();
        let other = running_on(&nats);
        other.owner();
        other.chatto_ok(["backup", "-o", text(&server.dir().join(OF_ANOTHER))]);
        Self { server, former, shown }
    }

    fn archive(&self, before: Before) -> PathBuf {
        self.server.dir().join(match before {
            Before::Former => OF_FORMER,
            Before::Another | Before::Nothing => OF_ANOTHER,
        })
    }

    /// A nats-server with what the restore finds.
    fn nats(&self, before: Before) -> NatsServer {
        match before {
            Before::Former | Before::Another => self.former.copy(),
            Before::Nothing => NatsServer::start(),
        }
    }

    /// Runs a case to its end.
    fn run(&self, case: &Case) -> Outcome {
        let mut nats = self.nats(case.before);
        let relay = WriteRelay::start(nats.port(), case.point.clone());
        let archive = self.archive(case.before);
        let mut restore = Restore::spawn(&relay.url(), &archive, 1);
        let mut found = None;
        if case.point.is_some() {
            restore.reaches(&relay);
            match case.victim {
                Victim::Command => {
                    restore.child.kill().unwrap();
                    restore.child.wait().unwrap();
                    relay.release();
                }
                Victim::Nats => {
                    nats.restart();
                    relay.release();
                    restore.ended();
                }
            }
            found = Some(find(&nats.url(), 1));
            restore = Restore::spawn(&nats.url(), &archive, 1);
        }
        let status = restore.ended();
        assert!(status.success(), "{case:?}: {status}: {}", restore.stderr());
        // The backup may write through the relay, too.
        let writes = relay.writes();
        let check = restore.server.dir().join("check.tar.gz");
        restore.server.chatto_ok(["backup", "-o", text(&check)]);
        let shown = shown(&nats.url());
        Outcome { found, writes, shown, contents: archived(&check) }
    }

    /// Runs cases, some at once, in order.
    fn run_all(&self, cases: &[Case]) -> Vec<Outcome> {
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..cases.len()).collect());
        let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..cases.len().min(AT_ONCE) {
                scope.spawn(|| {
                    loop {
                        let Some(next) = queue.lock().unwrap().pop_front() else { return };
                        let outcome = self.run(&cases[next]);
                        outcomes.lock().unwrap().insert(next, outcome);
                    }
                });
            }
        });
        outcomes.into_inner().unwrap().into_values().collect()
    }
}

/// Two accounts, messages and a file of several chunks: the owner, and somebody who has written nothing.
fn seed(server: &Server) -> (Account, Account) {
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let leaving = owner.invite("bob");
    leaving.join(&room);
    let large: Vec<u8> = (0..1_200_000).map(|_| fastrand::u8(..)).collect();
    attach(&owner, &room, "large.bin", &large);
    // What somebody has written themselves is read without a marker.
    leaving.client.call("RoomService/MarkRoomAsRead", &json!({ "roomId": room })).unwrap();
    (owner, leaving)
}

/// `chatto restore … --conflict=overwrite` as a process.
struct Restore {
    server: Server,
    child: Child,
}

impl Restore {
    fn spawn(url: &str, archive: &Path, replicas: usize) -> Self {
        let server = of_store(url, replicas);
        let stderr = std::fs::File::create(server.dir().join("stderr")).unwrap();
        let mut command = server.command(["restore", text(archive), "--conflict=overwrite"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = child.spawn().unwrap();
        Self { server, child }
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.server.dir().join("stderr")).unwrap()
    }

    /// Waits until it stands at the point where it is interrupted.
    fn reaches(&mut self, relay: &WriteRelay) {
        until("the restore makes this write", ENDS_WITHIN, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}, writes: {:?}", self.stderr(), relay.writes());
            relay.is_stopped().then_some(())
        });
    }

    /// Waits until it ends: with a complete store, or with an error that says that it must be run again.
    fn ended(&mut self) -> ExitStatus {
        let status = until("the restore ends", ENDS_WITHIN, || self.child.try_wait().unwrap());
        let stderr = self.stderr();
        let is_clear = matches!(status.code(), Some(69 | 74))
            && stderr.contains("run it again before a server starts");
        assert!(status.success() || is_clear, "{status}: {stderr}");
        status
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Commands and servers with a store at this address.
fn of_store(url: &str, replicas: usize) -> Server {
    let mut server = Server::prepare();
    server.use_external(url);
    server.set("CHATTO_NATS_REPLICAS", &replicas.to_string());
    server
}

fn shown(url: &str) -> String {
    run(|runtime| async move { everything(url, &runtime).await })
}

/// Starts a server on what an interrupted restore has left.
fn find(url: &str, replicas: usize) -> Found {
    let mut server = of_store(url, replicas);
    server.spawn();
    if let Some(status) = server.ready_or_ended() {
        let log = server.log();
        assert_eq!(status.code(), Some(74), "{log}");
        assert!(log.contains("no complete data") && log.contains("chatto restore FILE"), "{log}");
        return Found::Incomplete;
    }
    assert!(server.stop().success(), "{}", server.log());
    match server.log().contains("a new store is being created") {
        true => Found::Created,
        false => Found::Served(shown(url)),
    }
}

/// What a server may find at a point, by whether the store was marked as incomplete and as complete by then: yes, no, or
/// perhaps, which is both.
fn may_find(case: &Case, found: &Found, writes: &[String], (former, new): (&str, &str)) -> bool {
    let marks = writes.iter().filter(|write| *write == META).count();
    let is_last_sent = writes.last().is_some_and(|write| write == META)
        && case.point.as_ref().is_some_and(|point| point.moment == Moment::Sent);
    let (at_least, at_most) = match case.victim {
        Victim::Command => (marks - usize::from(is_last_sent), marks),
        // The restore may have gone on.
        Victim::Nats => (0, 2),
    };
    let is_at = |marks| (at_least..=at_most).contains(&marks);
    match found {
        Found::Created => is_at(0) && case.before == Before::Nothing,
        Found::Incomplete => is_at(1),
        Found::Served(shown) => {
            is_at(0) && case.before != Before::Nothing && shown == former
                || is_at(2) && shown == new
        }
    }
}

/// Runs these cases, and one of each kind that is not interrupted; compares what they leave.
fn check(stores: &Stores, cases: &[Case]) {
    let mut references: Vec<Before> = cases.iter().map(|case| case.before).collect();
    references.sort();
    references.dedup();
    let references = references.into_iter();
    let references = references.map(|before| Case { before, victim: Victim::Command, point: None });
    let all: Vec<Case> = references.chain(cases.iter().cloned()).collect();
    let outcomes = stores.run_all(&all);
    let complete = |before: Before| {
        let found = all.iter().zip(&outcomes).find(|(case, _)| case.before == before);
        found.expect("a restore that is not interrupted").1
    };
    let mut wrong = Vec::new();
    for (case, outcome) in all.iter().zip(&outcomes) {
        let complete = complete(case.before);
        if outcome.shown != complete.shown || outcome.contents != complete.contents {
            wrong.push(format!("{case:?}: {}\nand not {}", outcome.shown, complete.shown));
        }
        let Some(found) = &outcome.found else { continue };
        if !may_find(case, found, &outcome.writes, (&stores.shown, &complete.shown)) {
            wrong.push(format!("{case:?}: {found:?} after {:?}", outcome.writes));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases: {wrong:#?}", wrong.len(), all.len());
    eprintln!("{} restores were interrupted and run again", cases.len());
}

fn case(before: Before, prefix: &str, number: usize, moment: Moment) -> Case {
    let point = Some(Point { prefix: prefix.to_owned(), number, moment });
    Case { before, victim: Victim::Command, point }
}

fn any_moment() -> Moment {
    *fastrand::choice(&[Moment::Sent, Moment::Replied]).unwrap()
}

/// A case for each kind of write.
fn of_each_kind(victim: Victim) -> Vec<Case> {
    let of = |(kind, number)| Case { victim, ..case(Before::Former, kind, number, any_moment()) };
    KINDS.map(|kind| (kind, 1)).into_iter().chain([(META, 2)]).map(of).collect()
}

/// Every write of the restore over the former store, at both moments.
fn of_each_write(stores: &Stores) -> Vec<Case> {
    let uninterrupted = Case { before: Before::Former, victim: Victim::Command, point: None };
    let writes = stores.run(&uninterrupted).writes;
    for write in &writes {
        assert!(KINDS.iter().any(|kind| write.starts_with(kind)), "another kind: {write}");
    }
    let of = |number| {
        [Moment::Sent, Moment::Replied].map(|moment| case(Before::Former, "", number, moment))
    };
    (1..=writes.len()).flat_map(of).collect()
}

/// The first writes of a restore over a store of another server, or over none.
fn of_first_writes(count: usize) -> impl Iterator<Item = Case> {
    let of = |number| {
        [Before::Another, Before::Nothing].map(|before| case(before, "", number, Moment::Replied))
    };
    (1..=count).flat_map(of)
}

#[test]
fn a_restore_that_is_killed_at_any_write_is_run_again_to_a_complete_store() {
    let stores = Stores::new();
    let mut cases = match part() {
        None => of_each_kind(Victim::Command),
        Some(_) => of_each_write(&stores),
    };
    cases.extend(of_first_writes(if part().is_some() { 6 } else { 1 }));
    match part() {
        None => {
            fastrand::shuffle(&mut cases);
            cases.truncate(8);
        }
        Some((part, parts)) => {
            let mut number = 0;
            cases.retain(|_| {
                number += 1;
                number % parts == part % parts
            });
        }
    }
    check(&stores, &cases);
}

#[test]
fn a_restore_whose_nats_server_is_killed_at_any_write_ends_or_is_run_again() {
    let stores = Stores::new();
    let mut cases = of_each_kind(Victim::Nats);
    if part().is_none() {
        fastrand::shuffle(&mut cases);
        cases.truncate(2);
    }
    check(&stores, &cases);
}

#[test]
fn a_restore_over_three_replicas_that_is_killed_is_run_again_to_a_complete_store() {
    if part().is_none() {
        eprintln!("NOT TESTED HERE, it takes two minutes: make killed-restores");
        return;
    }
    let cluster = Cluster::start(3);
    let urls = cluster.urls().join(",");
    let mut server = of_store(&urls, 3);
    server.run();
    let (owner, _) = seed(&server);
    let archive = server.dir().join(OF_FORMER);
    server.chatto_ok(["backup", "-o", text(&archive)]);
    let room = owner.room("general");
    let history = owner.history(&room);
    owner.post(&room, "after the backup", "late").unwrap();
    assert!(server.stop().success());
    for (prefix, number, moment) in [
        (META, 1, Moment::Replied),
        ("STREAM.DELETE.", 1, Moment::Sent),
        ("STREAM.CREATE.", 3, Moment::Sent),
        ("journal.", 2, Moment::Sent),
        ("$O.ASSETS.C.", 2, Moment::Sent),
        ("STREAM.CREATE.KV_PRESENCE", 1, Moment::Sent),
    ] {
        let point = Point { prefix: prefix.to_owned(), number, moment };
        let relay = WriteRelay::start(cluster.port(0), Some(point));
        let mut restore = Restore::spawn(&relay.url(), &archive, 3);
        restore.reaches(&relay);
        restore.child.kill().unwrap();
        restore.child.wait().unwrap();
        relay.release();
        assert_eq!(find(&urls, 3), Found::Incomplete, "{prefix}");
    }
    let mut again = Restore::spawn(&urls, &archive, 3);
    assert!(again.ended().success(), "{}", again.stderr());
    let check = server.dir().join("check.tar.gz");
    server.chatto_ok(["backup", "-o", text(&check)]);
    assert_eq!(archived(&check), archived(&archive));
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}
