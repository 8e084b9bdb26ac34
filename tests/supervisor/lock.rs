//! One server per data directory; offline commands and servers wait or are refused.

use std::sync::atomic::{AtomicBool, Ordering};

use chatto::runtime::Clock;
use chatto::supervisor::{DataDir, LockError, Role, Waiting};

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
                    assert_eq!(*whom, Waiting::OfflineCommand { command, pid: own });
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
