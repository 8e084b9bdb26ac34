//! The server's life as its operator sees it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::process::ServerDir;
use crate::support::nats::signal;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn first_start_shows_the_way_in_and_stops_in_order() {
    let dir = ServerDir::new();
    let server = dir.start();
    until("the log says how to get the link", LIMIT, || {
        dir.read("err").contains("run `chatto setup-link`").then_some(())
    });
    assert_eq!(dir.read("out"), "", "a file keeps what it is given");
    assert!(!dir.read("err").contains("/setup#"));

    let (first, again) = (dir.ok(&["setup-link"], ""), dir.ok(&["setup-link"], ""));
    assert!(first.contains("/setup#") && again.contains("/setup#") && first != again);
    assert_eq!(dir.mode("data/secrets.toml"), 0o600);
    assert_eq!(dir.mode("data/run"), 0o700);
    assert_eq!(dir.mode("data/run/operator.sock"), 0o600);

    let status = dir.ok(&["status"], "");
    assert!(status.contains("state:      ready"), "{status}");
    assert!(status.contains("JOURNAL"), "{status}");
    let url = dir.url();
    let ready = ureq::get(format!("{url}/readyz")).call().unwrap();
    assert_eq!(ready.status(), 200);

    let secrets = dir.read("data/secrets.toml");
    assert_eq!(server.stop(), Some(0));
    assert!(!dir.path("data/run/operator.sock").exists());
    dir.fails(&["status"], 69);
    let log = dir.read("err");
    assert!(log.trim_end().ends_with("stopped"), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");

    // A second start finds everything as it was.
    let server = dir.start();
    assert_eq!(dir.read("data/secrets.toml"), secrets);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_terminal_is_shown_the_way_in() {
    let dir = ServerDir::new();
    let mut terminal = dir.start_in_terminal();
    let shown = until("the link is shown", LIMIT, || {
        Some(dir.read("screen")).filter(|screen| screen.contains("/setup#"))
    });
    assert!(shown.contains('▄') && shown.contains("Create the owner's account"), "{shown}");
    let lock = dir.read("data/lock");
    let pid = lock.lines().find_map(|line| line.strip_prefix("pid ")).unwrap();
    signal(pid.parse().unwrap(), "TERM");
    assert!(terminal.wait().unwrap().success());
}

#[test]
fn accounts_are_managed_with_and_without_a_server() {
    let dir = ServerDir::new();
    let server = dir.start();
    let made = dir.ok(&["user", "create", "--login", "anna", "--role=owner"], "pass word 1\n");
    assert!(made.starts_with('U') && made.trim_end().ends_with("\tanna"), "{made}");
    dir.fails(&["setup-link"], 73);
    let link = dir.ok(&["user", "create", "--link", "--email", "b@example.org"], "");
    assert!(link.contains("/setup#"), "{link}");
    dir.fails(&["user", "create", "--login", "ANNA", "--password", "pass word 1"], 73);
    dir.fails(&["user", "create", "--login", "x", "--password", "pass word 1"], 2);
    dir.fails(&["user", "set-password", "nobody", "--password", "pass word 2"], 1);
    let open = dir.ok(&["invite", "list"], "");
    assert_eq!(open.lines().count(), 1, "{open}");
    assert!(open.ends_with("\t\t\tb@example.org\n"), "{open}");
    let id = open.split('\t').next().unwrap();
    assert_eq!(dir.ok(&["invite", "revoke", id], ""), format!("{id}\n"));
    dir.fails(&["invite", "revoke", id], 1);
    assert_eq!(dir.ok(&["invite", "list"], ""), "");
    assert_eq!(dir.ok(&["user", "role", "add", "anna", "admin"], ""), "admin,owner\n");
    assert_eq!(server.stop(), Some(0));

    assert_eq!(dir.ok(&["user", "role", "remove", "anna", "admin"], ""), "owner\n");
    dir.ok(
        &["user", "create", "--login", "ben", "--display-name", "Ben", "--password=pass word 1"],
        "",
    );
    dir.ok(&["user", "set-password", "ben"], "another one\n");
    dir.ok(&["user", "create", "--link", "--role", "admin"], "");
    let open: serde_json::Value =
        serde_json::from_str(&dir.ok(&["invite", "list", "--json"], "")).unwrap();
    assert_eq!(open["links"][0]["role"], "admin");
    assert_eq!(open["links"][0]["created_by"], serde_json::Value::Null);
    let list = dir.ok(&["user", "list"], "");
    let logins: Vec<&str> = list.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(logins, ["anna", "ben"]);
    let json: serde_json::Value =
        serde_json::from_str(&dir.ok(&["user", "list", "--json", "--limit", "1"], "")).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["total"], 2);
    assert_eq!(json["users"].as_array().unwrap().len(), 1);
}

#[test]
fn a_second_server_on_the_directory_names_the_first() {
    let dir = ServerDir::new();
    let server = dir.start();
    let said = dir.fails(&["start"], 75);
    assert!(said.contains(&format!("pid {}", server.pid())), "{said}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_busy_port_names_its_holder() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = ServerDir::new();
    let output =
        dir.command(&["start"]).env("CHATTO_WEBSERVER_PORT", port.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains(&format!("port {port} is in use by")), "{said}");
    assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
    assert!(!dir.path("data/jetstream").exists(), "nothing was created");
}

#[test]
fn a_changed_secret_is_refused_and_the_former_one_heals() {
    let dir = ServerDir::new();
    assert_eq!(dir.start().stop(), Some(0));
    let former = dir.read("data/secrets.toml");
    let output = dir
        .command(&["start"])
        .env("CHATTO_CORE_SECRET_KEY", "another secret of at least 32 bytes")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("core.secret_key_previous"), "{said}");
    assert_eq!(dir.read("data/secrets.toml"), former, "nothing was generated over it");

    std::fs::rename(dir.path("data/secrets.toml"), dir.path("kept")).unwrap();
    let said = dir.fails(&["start"], 78);
    assert!(said.contains("core.secret_key is missing"), "{said}");
    assert!(!dir.path("data/secrets.toml").exists());
    std::fs::rename(dir.path("kept"), dir.path("data/secrets.toml")).unwrap();
    assert_eq!(dir.start().stop(), Some(0));
}

#[test]
fn secrets_that_others_can_read_are_tightened_at_start() {
    let dir = ServerDir::new();
    assert_eq!(dir.start().stop(), Some(0));
    let path = dir.path("data/secrets.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = dir.start();
    assert_eq!(dir.mode("data/secrets.toml"), 0o600);
    assert!(dir.read("err").contains("tightened to 0600"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn under_a_journal_lines_carry_levels_and_no_link_is_shown() {
    let dir = ServerDir::new();
    let err = dir.path("err");
    let server = dir.start_with(|command| {
        // `start_with` has created the file: it is what standard error is.
        let file = std::fs::metadata(&err).unwrap();
        command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()));
    });
    assert_eq!(server.stop(), Some(0));
    assert_eq!(dir.read("out"), "", "the journal keeps standard output too");
    let log = dir.read("err");
    assert!(log.lines().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
    assert!(!log.contains("/setup#"), "{log}");
}

#[test]
fn logs_come_as_json_and_logfmt() {
    for (format, first) in [("json", "{\""), ("logfmt", "time=")] {
        let dir = ServerDir::with(&format!("[general]\nlog_format = \"{format}\""));
        assert_eq!(dir.start().stop(), Some(0));
        let log = dir.read("err");
        assert!(log.lines().all(|line| line.starts_with(first)), "{log}");
    }
}

#[test]
fn a_stop_while_the_cluster_is_awaited_is_orderly() {
    let port = crate::support::port::free_port();
    let dir = ServerDir::with(&format!(
        "cookie_signing_secret = \"0123456789abcdef0123456789abcdef\"\n\
         [core]\nsecret_key = \"0123456789abcdef0123456789abcdef\"\n\
         [core.assets]\nsigning_secret = \"0123456789abcdef0123456789abcdef\"\n\
         [nats.embedded]\nenabled = false\n[nats.client]\nurl = \"nats://127.0.0.1:{port}\""
    ));
    let mut child = dir
        .command(&["start"])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(dir.path("err")).unwrap())
        .spawn()
        .unwrap();
    until("it waits", Duration::from_secs(20), || {
        dir.read("err").contains("waiting for the NATS cluster").then_some(())
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
