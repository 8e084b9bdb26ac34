//! One server per data directory; offline commands and servers wait or are refused.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use chatto::limits::LOCK_ORPHAN_TIMEOUT;
use chatto::runtime::Clock;
use chatto::supervisor::{DataDir, LockError, LockWait, Role};

use super::helper::Helper;
use super::{lock, with_scope};

fn offline() -> Role {
    Role::Offline { command: "backup".into() }
}

#[test]
fn two_servers_on_one_directory_are_refused_with_the_first_ones_pid() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Helper::start(dir.path());
    first.expect("ready");
    let mut second = Helper::start(dir.path());
    let said = second.expect("refused");
    assert!(said.contains(&format!("pid {}", first.pid())), "{said}");
    assert!(second.wait());
    with_scope(async |_| {
        let refused = lock(dir.path(), offline()).await.unwrap_err();
        assert!(
            matches!(refused, LockError::HeldByServer { pid, .. } if pid.cast_unsigned() == first.pid())
        );
    });
    // The refused ones have changed nothing: the first serves on.
    assert_eq!(first.ask("health"), "Running");
}

#[test]
fn a_server_waits_for_an_offline_command_and_a_second_command_does_not() {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |scope| {
        let held = lock(dir.path(), offline()).await.unwrap();
        let refused = lock(dir.path(), offline()).await.unwrap_err();
        assert!(refused.to_string().contains("chatto backup"), "{refused}");
        let waiting = std::sync::Arc::new(AtomicBool::new(false));
        let (seen, path) = (std::sync::Arc::clone(&waiting), dir.path().to_owned());
        let (tx, rx) = smol::channel::bounded(1);
        scope
            .spawn("server", async move {
                let own = i32::try_from(std::process::id()).unwrap();
                let clock = Clock::system();
                let locked = DataDir::lock(&path, Role::Server, &clock, |whom| {
                    let command = "backup".to_owned();
                    assert_eq!(*whom, LockWait::OfflineCommand { command, pid: own });
                    seen.store(true, Ordering::SeqCst);
                });
                tx.send(locked.await).await.unwrap();
            })
            .unwrap();
        while !waiting.load(Ordering::SeqCst) {
            smol::future::yield_now().await;
        }
        assert!(rx.is_empty());
        drop(held);
        rx.recv().await.unwrap().unwrap();
        scope.join().await;
    });
}

#[test]
fn a_server_that_cannot_be_seen_is_no_orphan() {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |_| {
        let _held = lock(dir.path(), Role::Server).await.unwrap();
        // As a server in another container writes it: its pid is that of another process here.
        std::fs::write(dir.path().join("lock"), "server\npid 1\nticks 1\nstarted 1\n").unwrap();
        let clock = Clock::system();
        let refused = DataDir::lock(dir.path(), Role::Server, &clock, |whom| {
            assert_eq!(*whom, LockWait::Orphan { pid: None });
            clock.advance_monotonic(LOCK_ORPHAN_TIMEOUT);
        });
        let refused = refused.await.unwrap_err();
        assert!(matches!(refused, LockError::Unseen { .. }), "{refused}");
        assert!(refused.to_string().contains("another container"), "{refused}");
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    with_scope(async |_| {
        let refused = lock(&file, Role::Server).await.unwrap_err();
        assert!(matches!(refused, LockError::Unusable { .. }), "{refused}");
        assert!(refused.to_string().contains(&*file.to_string_lossy()));
    });
}

#[test]
fn a_directory_that_others_may_change_or_have_prepared_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    with_scope(async |_| {
        drop(lock(&data, Role::Server).await.unwrap());
        let refused = async |part: &Path, words: &str| {
            for role in [Role::Server, offline()] {
                let refused = lock(&data, role).await.unwrap_err();
                let said = refused.to_string();
                assert!(matches!(refused, LockError::Unsafe { .. }), "{said}");
                assert!(said.contains(words) && said.contains(&*part.to_string_lossy()), "{said}");
            }
        };
        let mode = |mode| std::fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
        mode(0o777);
        refused(&data, "other users may change it (mode 0777)").await;
        mode(0o1757);
        refused(&data, "other users may change it (mode 1757)").await;
        mode(0o750);

        let target = dir.path().join("target");
        for part in ["lock", "run"] {
            let (link, kept) = (data.join(part), data.join("kept"));
            std::fs::rename(&link, &kept).unwrap();
            std::fs::write(&target, "precious").unwrap();
            std::os::unix::fs::symlink(&target, &link).unwrap();
            refused(&link, "symbolic link").await;
            std::fs::remove_file(&link).unwrap();
            if part == "lock" {
                std::fs::hard_link(&target, &link).unwrap();
                refused(&link, "hard link").await;
                std::fs::remove_file(&link).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
            std::fs::rename(&kept, &link).unwrap();
        }
        drop(lock(&data, Role::Server).await.unwrap());

        // Over a link to another disk it is used all the same.
        let over = dir.path().join("over");
        std::os::unix::fs::symlink(&data, &over).unwrap();
        drop(lock(&over, Role::Server).await.unwrap());
    });
}

#[test]
fn root_helps_out_in_the_directory_of_a_service_and_runs_no_server_there() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a directory away");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    with_scope(async |_| {
        drop(lock(&data, Role::Server).await.unwrap());
        for part in ["", "run", "lock"] {
            std::os::unix::fs::chown(data.join(part), Some(4711), Some(4711)).unwrap();
        }
        drop(lock(&data, offline()).await.unwrap());
        let refused = lock(&data, Role::Server).await.unwrap_err();
        assert!(matches!(refused, LockError::Unsafe { .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("belongs to user 4711") && said.contains("as user 0"), "{said}");
    });
}
