//! What happens to nats-server when chatto dies without a word.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chatto::runtime::Clock;

use super::helper::Helper;
use super::{config, connect, start, stored, with_scope};
use crate::support::nats::server_binary;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

fn is_running(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn is_locked(dir: &Path) -> bool {
    let free = Command::new("flock").arg("-n").arg(dir.join("lock")).arg("true").status().unwrap();
    !free.success()
}

#[test]
fn a_killed_chatto_takes_its_child_along_and_the_next_start_serves_all_messages() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir.path());
    let child: u32 = helper.expect("ready").parse().unwrap();
    helper.ask("create");
    for _ in 0..20 {
        assert_eq!(helper.ask("post 100"), "ok");
    }
    helper.signal("KILL");
    until("the child has gone", LIMIT, || (!is_running(child)).then_some(()));
    with_scope(async |scope| {
        let embedded = start(config(dir.path()), &scope).await.unwrap();
        assert_eq!(stored(&connect(&embedded).await).await, 20);
        embedded.stop().await;
    });
}

#[test]
fn the_child_holds_the_lock_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir.path());
    let child: u32 = helper.expect("ready").parse().unwrap();
    let lock = dir.path().canonicalize().unwrap().join("lock");
    let mut open = std::fs::read_dir(format!("/proc/{child}/fd")).unwrap().flatten();
    assert!(open.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|file| file == lock)));
}

/// Starts `command` as what a dead chatto left behind on `dir`: it holds the lock and has no death
/// signal.
fn orphan(dir: &Path, command: &[&OsStr]) -> Child {
    let run = dir.join("run");
    std::fs::create_dir_all(&run).unwrap();
    // flock becomes the command and leaves it the lock.
    let orphan = Command::new("flock")
        .args(["-n", "-F"])
        .arg(dir.join("lock"))
        .args(command)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    until("flock has become the orphan", LIMIT, || {
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", orphan.id())).unwrap();
        (!arguments.is_empty() && !arguments.starts_with("flock\0")).then_some(())
    });
    std::fs::write(dir.join("lock"), format!("server\npid {}\nticks 1\n", i32::MAX)).unwrap();
    std::fs::write(run.join("nats.pid"), format!("{} 0\n", orphan.id())).unwrap();
    assert!(is_locked(dir));
    orphan
}

fn replaces(dir: &Path, mut orphan: Child) -> Duration {
    // Its real parent, this test, reaps it.
    let reaper = std::thread::spawn(move || orphan.wait().unwrap());
    let clock = Clock::system();
    let began = clock.now();
    with_scope(async |scope| {
        start(config(dir), &scope).await.unwrap().stop().await;
    });
    reaper.join().unwrap();
    clock.now() - began
}

#[test]
fn an_orphaned_server_is_told_to_stop_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("nats.conf");
    let text = format!("port: -1\njetstream {{ store_dir: {:?} }}\n", dir.path());
    std::fs::write(&conf, text).unwrap();
    let command = [server_binary().as_os_str(), "-c".as_ref(), conf.as_os_str()];
    let orphan = orphan(dir.path(), &command);
    assert!(replaces(dir.path(), orphan) < chatto::limits::LOCK_ORPHAN_KILL_AFTER);
}

#[test]
fn an_orphan_that_does_not_obey_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    // Signals ignored by the shell stay ignored.
    let script = "trap '' TERM; exec sleep 1000";
    let orphan = orphan(dir.path(), &["sh".as_ref(), "-c".as_ref(), script.as_ref()]);
    until("it ignores SIGTERM", LIMIT, || {
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", orphan.id())).unwrap();
        arguments.starts_with("sleep").then_some(())
    });
    assert!(replaces(dir.path(), orphan) >= chatto::limits::LOCK_ORPHAN_KILL_AFTER);
}
