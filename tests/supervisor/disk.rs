//! Full disks and systems that refuse to execute, inside name spaces of the test's own.

use std::path::Path;
use std::process::Command;

use super::helper::Helper;
use crate::support::nats::signal;

/// The helper inside private mounts, after `prepare` ran as root of a user name space there.
fn helper_after(prepare: &str, dir: &Path, settings: &str) -> Helper {
    let mut command = Command::new("unshare");
    command.args(["-Urmpf", "--mount-proc", "--kill-child", "sh", "-ec"]);
    command.arg(format!("{prepare}\nexec \"$@\"")).arg("sh");
    command.arg(std::env::current_exe().unwrap());
    Helper::start_by(command, dir, settings)
}

#[test]
fn below_the_floor_writes_are_to_be_refused_and_return_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().to_str().unwrap();
    let mount = format!("mount -t tmpfs -o size=256m,mode=700 none '{disk}'");
    let mut helper = helper_after(&mount, &dir.path().join("data"), "floor=67108864");
    helper.expect("ready");
    helper.ask("create");
    assert_eq!(helper.ask("post 100"), "ok");
    assert_eq!(helper.ask("health"), "Running");
    helper.ask(&format!("fill {disk}"));
    helper.until("health", "Refusing Full");
    // Reading goes on.
    assert_eq!(helper.ask("stored"), "1");
    helper.ask(&format!("unfill {disk}"));
    helper.until("health", "Running");
    assert_eq!(helper.ask("restarts"), "0");
    assert_eq!(helper.ask("post 100"), "ok");
    assert_eq!(helper.ask("stored"), "2");
}

#[test]
fn after_a_real_enospc_the_child_is_started_again_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().to_str().unwrap();
    let mount = format!("mount -t tmpfs -o size=256m,mode=700 none '{disk}'");
    let settings = "floor=0 max=1073741824";
    let mut helper = helper_after(&mount, &dir.path().join("data"), settings);
    helper.expect("ready");
    helper.ask("create");
    let mut acknowledged = 0;
    for _ in 0..10 {
        assert_eq!(helper.ask("post 100000"), "ok");
        acknowledged += 1;
    }
    helper.ask(&format!("fill {disk}"));
    while helper.ask("post 100000") == "ok" {
        acknowledged += 1;
    }
    helper.until("health", "Refusing Full");
    helper.ask(&format!("unfill {disk}"));
    helper.until("restarts", "1");
    helper.until("health", "Running");
    helper.until("post 100000", "ok");
    // Everything acknowledged is there; an attempt without an answer may be there too.
    let stored: u32 = helper.ask("stored").parse().unwrap();
    assert!(stored > acknowledged, "{stored} stored, {acknowledged} acknowledged and one more");
}

#[test]
fn a_store_that_outgrew_its_limit_gets_a_larger_one_when_the_disk_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().to_str().unwrap();
    // Hardly more is free at the start than the floor.
    let prepare = format!(
        "mount -t tmpfs -o size=256m,mode=700 none '{disk}'; head -c 180m /dev/zero > '{disk}/ballast'"
    );
    let mut helper = helper_after(&prepare, &dir.path().join("data"), "floor=67108864");
    helper.expect("ready");
    helper.ask("create");
    while helper.ask("post 900000") == "ok" {}
    helper.until("health", "Refusing Full");
    helper.ask(&format!("unfill {disk}"));
    helper.until("restarts", "1");
    helper.until("post 900000", "ok");
    helper.until("health", "Running");
}

#[test]
fn a_larger_store_waits_until_the_disk_takes_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().to_str().unwrap();
    let prepare = format!(
        "mount -t tmpfs -o size=256m,mode=700 none '{disk}'; head -c 180m /dev/zero > '{disk}/ballast'"
    );
    let data = dir.path().join("data");
    let mut helper = helper_after(&prepare, &data, "floor=67108864");
    helper.expect("ready");
    helper.ask("create");
    let mut acknowledged = 0;
    while helper.ask("post 900000") == "ok" {
        acknowledged += 1;
    }
    helper.until("health", "Refusing Full");
    let (pid, stored) = (helper.ask("pid"), helper.ask("stored"));
    assert!(stored.parse::<u32>().unwrap() >= acknowledged);
    // There is room, but the probe's folder cannot be created.
    let probe = data.join("jetstream/$G/.chatto-probe");
    helper.ask(&format!("obstruct {}", probe.display()));
    helper.ask(&format!("unfill {disk}"));
    // What the failed probe says.
    helper.until("health", "Refusing Error");
    assert_eq!((helper.ask("pid"), helper.ask("restarts")), (pid, "0".to_owned()));
    assert_eq!(helper.ask("stored"), stored, "reading goes on");
    helper.ask(&format!("clear {}", probe.display()));
    helper.until("restarts", "1");
    helper.until("post 900000", "ok");
    helper.until("health", "Running");
}

#[test]
fn a_child_that_died_waits_until_the_disk_takes_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir.path());
    let pid: u32 = helper.expect("ready").parse().unwrap();
    helper.ask("create");
    assert_eq!(helper.ask("post 10"), "ok");
    // All that a start writes could be written, but not what the probe wants to see.
    let probe = dir.path().join("jetstream/$G/.chatto-probe");
    helper.ask(&format!("obstruct {}", probe.display()));
    signal(pid, "KILL");
    helper.until("health", "Waiting Error");
    assert_eq!(helper.ask("restarts"), "0");
    helper.ask(&format!("clear {}", probe.display()));
    helper.until("restarts", "1");
    helper.until("health", "Running");
    assert_eq!(helper.ask("stored"), "1");
}

/// Forbids the execution of memfds in the new process name space.
const NO_MEMFD: &str = "echo 2 > /proc/sys/vm/memfd_noexec";

#[test]
fn where_memory_cannot_be_executed_the_server_is_kept_in_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut helper = helper_after(NO_MEMFD, &data, "");
    helper.expect("ready");
    helper.ask("create");
    assert_eq!(helper.ask("post 10"), "ok");
    let files: Vec<_> = std::fs::read_dir(data.join("bin")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].file_name().to_string_lossy().starts_with("nats-server-"));
}

#[test]
fn where_both_refuse_the_way_out_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().to_str().unwrap();
    let prepare = format!("{NO_MEMFD}; mount -t tmpfs -o size=256m,mode=700,noexec none '{disk}'");
    let mut helper = helper_after(&prepare, &dir.path().join("data"), "");
    let said = helper.expect("refused");
    assert!(said.contains("nats.embedded.binary"), "{said}");
}
