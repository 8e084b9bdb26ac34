//! Start, files, environment, restart, stop.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chatto::nats::{Auth, Nats, Target};
use chatto::runtime::Clock;
use chatto::supervisor::{Connection, Health, StartError};

use super::helper::Helper;
use super::{config, connect, create_stream, lock, post, start, stored, with_scope};
use crate::support::nats::{server_binary, signal};
use crate::support::old_nats::server_of;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn is_running(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_started_server_keeps_its_token_to_itself_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |scope| {
        let embedded = start(config(dir.path()), &scope).await.unwrap();
        let pid = embedded.watch().pid();
        let nats = connect(&embedded).await;
        create_stream(&nats).await;
        post(&nats, 10).await.unwrap();

        let run = dir.path().join("run");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&run), 0o700);
        assert_eq!(mode(&run.join("nats.conf")), 0o600);
        assert_eq!(mode(&run.join("nats.json")), 0o600);
        let conf = read(run.join("nats.conf"));
        let token = conf.split("token: \"").nth(1).unwrap().split('"').next().unwrap();
        assert!(token.len() > 60, "{token}");
        assert!(!conf.contains("http"), "the monitoring port knows no log-in");
        let arguments = read(format!("/proc/{pid}/cmdline"));
        assert!(arguments.starts_with("nats-server\0-c\0") && !arguments.contains(token));
        let environment = read(format!("/proc/{pid}/environ"));
        assert!(environment.starts_with("GOMEMLIMIT=") && environment.matches('\0').count() == 1);
        let executed = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert!(executed.to_string_lossy().contains("memfd:nats-server"), "{executed:?}");
        let group = read(format!("/proc/{pid}/stat"));
        assert_eq!(group.rsplit(')').next().unwrap().split(' ').nth(3), Some(&*pid.to_string()));

        // A command of the same machine finds it through the connection file.
        let file = Connection::read(dir.path()).unwrap().unwrap();
        assert_eq!(file.pid, pid);
        let other = Nats::connect(&file.target(), Clock::system()).await.unwrap();
        other.wait_connected(LIMIT).await.unwrap();
        assert_eq!(stored(&other).await, 1);

        embedded.stop().await;
        scope.join().await;
        assert!(!is_running(pid));
        assert!(Connection::read(dir.path()).unwrap().is_none());
        lock(dir.path(), chatto::supervisor::Role::Server).await.unwrap();
    });
}

#[test]
fn a_killed_child_returns_with_its_port_token_and_messages() {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |scope| {
        let embedded = start(config(dir.path()), &scope).await.unwrap();
        let watch = embedded.watch();
        let nats = connect(&embedded).await;
        create_stream(&nats).await;
        for round in 1..=2 {
            post(&nats, 10).await.unwrap();
            let before = watch.pid();
            signal(before.cast_unsigned(), "KILL");
            let health = watch.changed(Health::Running).await;
            assert!(matches!(health, Health::Restarting { .. }), "{health:?}");
            assert_eq!(watch.changed(health).await, Health::Running);
            assert_ne!(watch.pid(), before);
            assert_eq!(watch.restarts(), round);
            assert!(watch.is_alive(LIMIT, LIMIT));
            // The same client, which knows one port and one token.
            nats.connected(round).await;
            assert_eq!(stored(&nats).await, round);
        }
        embedded.stop().await;
    });
}

#[test]
fn a_stop_while_the_child_is_being_started_again_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |scope| {
        let embedded = start(config(dir.path()), &scope).await.unwrap();
        let watch = embedded.watch();
        signal(watch.pid().cast_unsigned(), "KILL");
        watch.changed(Health::Running).await;
        embedded.stop().await;
        scope.join().await;
        lock(dir.path(), chatto::supervisor::Role::Server).await.unwrap();
    });
}

#[test]
fn sigterm_reaches_us_first_and_the_child_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir.path());
    let pid: i32 = helper.expect("ready").parse().unwrap();
    helper.ask("create");
    assert_eq!(helper.ask("post 10"), "ok");
    helper.signal("TERM");
    assert!(helper.wait());
    let seen = helper.seen();
    let at = |what: &str| seen.iter().position(|line| line.contains(what)).expect(what);
    assert!(at("signal Terminate") < at("Initiating Shutdown"), "{seen:#?}");
    assert!(at("Initiating Shutdown") < at("stopped"), "{seen:#?}");
    assert!(!is_running(pid));
}

#[test]
fn the_operators_own_server_is_used_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |scope| {
        let mut own = config(dir.path());
        own.binary = Some(server_binary().to_owned());
        let embedded = start(own.clone(), &scope).await.unwrap();
        let executed = std::fs::read_link(format!("/proc/{}/exe", embedded.watch().pid())).unwrap();
        assert_eq!(executed, server_binary().canonicalize().unwrap());
        embedded.stop().await;

        own.binary = Some("/does/not/exist".into());
        let refused = start(own.clone(), &scope).await.err().unwrap();
        assert!(matches!(&refused, StartError::Binary { .. }), "{refused}");
        own.binary = Some("/bin/true".into());
        let refused = start(own, &scope).await.err().unwrap();
        assert!(matches!(&refused, StartError::BinaryTooOld { .. }), "{refused}");
        assert!(refused.to_string().contains("2.11"), "{refused}");
    });
}

#[test]
fn a_server_before_2_11_is_refused_before_it_touches_the_store() {
    let dir = tempfile::tempdir().unwrap();
    with_scope(async |scope| {
        let mut own = config(dir.path());
        own.binary = Some(server_of("2.10"));
        let refused = start(own.clone(), &scope).await.err().unwrap();
        assert!(matches!(&refused, StartError::BinaryTooOld { .. }), "{refused}");
        assert!(refused.to_string().contains("nats-server 2.10.29"), "{refused}");
        assert!(!dir.path().join("jetstream").exists());

        own.binary = Some(server_of("2.11"));
        let embedded = start(own, &scope).await.unwrap();
        assert_eq!(embedded.version().to_string(), "2.11.17");
        let nats = connect(&embedded).await;
        create_stream(&nats).await;
        post(&nats, 10).await.unwrap();
        embedded.stop().await;
    });
}

#[test]
fn a_busy_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    with_scope(async |scope| {
        let mut busy = config(dir.path());
        busy.port = listener.local_addr().unwrap().port();
        let refused = start(busy.clone(), &scope).await.err().unwrap();
        assert!(matches!(&refused, StartError::PortBusy { .. }), "{refused}");
        assert!(refused.to_string().contains(&busy.port.to_string()), "{refused}");
        // Nothing is left behind: the next start finds the directory free.
        busy.port = 0;
        start(busy, &scope).await.unwrap().stop().await;
    });
}

#[test]
fn a_server_that_dies_at_once_says_why() {
    let dir = tempfile::tempdir().unwrap();
    // A file where JetStream wants its folder.
    std::fs::write(dir.path().join("jetstream"), "in the way").unwrap();
    with_scope(async |scope| {
        let refused = start(config(dir.path()), &scope).await.err().unwrap();
        assert!(
            matches!(&refused, StartError::Ended { .. } | StartError::Prepare { .. }),
            "{refused}"
        );
    });
}

#[test]
fn a_connection_file_is_there_only_while_a_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Connection::read(dir.path()).unwrap().is_none());
    let mut helper = Helper::start(dir.path());
    helper.expect("ready");
    until("the file", LIMIT, || Connection::read(dir.path()).unwrap());
    helper.signal("INT");
    assert!(helper.wait());
    assert!(helper.seen().iter().any(|line| line == "signal Interrupt"));
    assert!(Connection::read(dir.path()).unwrap().is_none());
}

#[test]
fn another_account_that_takes_the_port_is_shown_no_token() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    // Says what nats-server says first, then notes what it is told.
    const SERVER: &str = r#"
import socket, sys
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
print(server.getsockname()[1], flush=True)
while True:
    client, _ = server.accept()
    client.sendall(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"auth_required":true,"headers":true}\r\n')
    print("told " + repr(client.recv(4096)), flush=True)
"#;
    let mut somebody = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c", SERVER])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(somebody.stdout.take().unwrap()).lines();
    let port: u16 = lines.next().unwrap().unwrap().parse().unwrap();
    let own = rustix::process::geteuid().as_raw();
    let told = |uid: u32| {
        let auth = Auth::OwnServer { token: "the-secret-token".to_owned(), port, uid };
        let urls = vec![format!("nats://127.0.0.1:{port}")];
        Target { urls, auth, ca_cert: None, name: "test".to_owned() }
    };
    with_scope(async |_| {
        let refused = Nats::connect(&told(own), Clock::system()).await.unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "told b''", "closed without a CONNECT");
        drop(refused);
        // The account that is expected there is shown it.
        let _shown = Nats::connect(&told(65_534), Clock::system()).await.unwrap();
        let first =
            lines.by_ref().map(Result::unwrap).find(|line| line.contains("CONNECT")).unwrap();
        assert!(first.contains("the-secret-token"), "{first}");
    });
    somebody.kill().unwrap();
    somebody.wait().unwrap();
}
