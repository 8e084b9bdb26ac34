//! The program by the name `wget`, as the container image has it.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use crate::support::server::{BINARY, Server};

/// `wget ARGS`, where that is a link to the program.
fn wget(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("wget");
    symlink(BINARY, &link).unwrap();
    Command::new(link).args(args).env_clear().output().unwrap()
}

#[track_caller]
fn fails(args: &[&str], expected: &str) {
    let output = wget(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("wget: ") && said.contains(expected), "{said}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn it_says_whether_the_server_is_ready() {
    let mut server = Server::start();
    let url = |path: &str| format!("http://localhost:{}{path}", server.port());
    for path in ["/readyz", "/healthz"] {
        let output = wget(&["-q", "--spider", &url(path)]);
        let said =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said:?}");
        assert_eq!((said.0.as_ref(), said.1.as_ref()), ("", ""));
    }
    fails(&["-q", "--spider", &url("/api/none")], "responded with status 404");
    let ready = url("/readyz");
    assert!(server.stop().success());
    fails(&["-q", "--spider", &ready], "cannot connect: ");
}

#[test]
fn wrong_usage_is_explained_and_never_a_success() {
    let usage = "wget -q --spider http://HOST:PORT/PATH";
    for args in [&[][..], &["--help"], &["-q", "http://localhost:4000/"], &["start"]] {
        fails(args, usage);
    }
    fails(&["--spider", "https://localhost:4000/readyz"], "only URLs such as http://");
    fails(&["--spider", "localhost:4000/readyz"], "only URLs such as http://");
}
