//! Starts: twice in one directory, on a port in use, in a read-only directory, and killed during the first start.
#![expect(clippy::disallowed_methods, reason = "the moment of a kill is a real one")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::seeded;
use crate::support::server::{Server, kill_quietly};
use crate::support::wait::until;

/// How long a start that fails may take.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_second_server_on_one_directory_names_the_first() {
    let mut first = Server::start();
    let (pid, port) = (first.pid(), first.port());
    // The same directory and environment, but another port: only the lock can prevent the start.
    let mut second = first.command(["start"]);
    second.env("CHATTO_WEBSERVER_PORT", crate::support::port::free_port().to_string());
    let output = second.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains(&pid.to_string()), "does not name process {pid}: {stderr}");
    assert_eq!(first.client().readyz().unwrap().0, 200);
    assert_eq!(first.port(), port);
    assert!(first.stop().success());
}

#[test]
fn a_busy_port_is_named() {
    let mut server = Server::prepare();
    let holder = TcpListener::bind(("127.0.0.1", server.port()));
    let _holder = holder.unwrap();
    // Nobody asks whether it is ready: the holder of the port takes connections and never answers.
    server.spawn();
    let ended = server.ended_within(ENDS_WITHIN);
    let printed = server.log();
    assert_eq!(ended.code(), Some(75), "{printed}");
    assert!(printed.contains(&server.port().to_string()), "{printed}");
}

#[test]
fn everything_is_there_after_kill_and_after_stop() {
    let mut server = Server::start();
    let owner = server.owner();
    let (room, history) = seeded(&owner);
    server.kill();
    server.run();
    assert_eq!(owner.history(&room), history, "after kill -9");
    assert!(server.stop().success(), "{}", server.log());
    server.run();
    assert_eq!(owner.history(&room), history, "after SIGTERM");
}

#[test]
fn an_unreadable_secret_file_stops_the_start() {
    let mut server = Server::prepare();
    let file = server.dir().join("secret");
    server.set("CHATTO_CORE_SECRET_KEY_FILE", &file.to_string_lossy());
    // Missing first: root can read whatever exists.
    let (code, printed) = server.run_refused();
    assert_eq!(code, 78, "{printed}");
    assert!(printed.contains("CHATTO_CORE_SECRET_KEY_FILE"), "{printed}");
    assert!(printed.contains(&*file.to_string_lossy()), "{printed}");
    assert!(!server.data_dir().join("secrets.toml").exists(), "secrets in spite of the fault");
}

#[test]
fn damaged_secrets_are_never_generated_over() {
    let mut server = Server::start();
    let (room, history) = seeded(&server.owner());
    assert!(server.stop().success());
    let file = server.data_dir().join("secrets.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&file, "secret_key = \"half a li").unwrap();
    let (code, printed) = server.run_refused();
    assert_eq!(code, 78, "{printed}");
    assert!(printed.contains("secrets.toml"), "{printed}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "secret_key = \"half a li");
    std::fs::write(&file, good).unwrap();
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

#[test]
fn a_first_start_that_is_killed_at_any_moment_is_simply_repeated() {
    const KILLS: u64 = 8;
    let mut server = Server::prepare();
    for n in 0..KILLS {
        server.spawn();
        // From the beginning until well after the first streams exist.
        std::thread::sleep(Duration::from_millis(20 + n * n * 25));
        let nats = server.nats_pid();
        server.kill();
        if let Some(nats) = nats.filter(|_| n % 2 == 0) {
            kill_quietly(nats);
        }
    }
    server.run();
    let owner = server.owner();
    let (room, history) = seeded(&owner);
    server.kill();
    server.run();
    assert_eq!(owner.history(&room), history);
}

/// The log-in counters are in nats-server's memory: its restart alone once made every log-in fail with 500.
#[test]
fn people_log_in_after_nats_server_alone_died() {
    let server = Server::start();
    let owner = server.owner();
    let (room, history) = seeded(&owner);
    let dead = server.nats_pid().expect("a nats-server");
    kill_quietly(dead);
    until("another nats-server runs", Duration::from_secs(30), || {
        server.nats_pid().filter(|pid| *pid != dead)
    });
    owner.post(&room, "the writer waits for it", "after").unwrap();
    let again = server.client().log_in("ada");
    assert_eq!(again.history(&room)[..history.len()], history);
}

#[test]
fn the_kernel_would_end_nats_server_before_chatto() {
    let server = Server::start();
    let score = |pid: u32| -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        text.trim().parse().unwrap()
    };
    let (own, child) = (score(server.pid()), score(server.nats_pid().unwrap()));
    assert!(child > own, "{child} {own}");
}
