//! Other accounts on the machine: a server that may not read its own secrets, and strangers at the operator
//! socket. As root, the test drops its privileges; without root, it cannot act as two accounts.

use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use super::seeded;
use crate::support::server::{NOBODY, Server};

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn secrets_that_cannot_be_read_stop_the_start_and_lose_nothing() {
    let mut server = Server::prepare();
    let file = server.dir().join("secret");
    std::fs::write(&file, "a secret of this test, long enough for everybody").unwrap();
    set_mode(&file, 0o400);
    server.set("CHATTO_CORE_SECRET_KEY_FILE", &file.to_string_lossy());
    server.become_nobody();
    server.run();
    let (room, history) = seeded(&server.owner());
    assert!(server.stop().success());

    let kept = server.data_dir().join("secrets.toml");
    for (hidden, names) in [(&file, "CHATTO_CORE_SECRET_KEY_FILE"), (&kept, "secrets.toml")] {
        set_mode(hidden, 0o000);
        let (code, printed) = server.run_refused();
        assert_eq!(code, 78, "{printed}");
        assert!(printed.contains(names), "does not name {names}: {printed}");
        assert!(printed.contains(&*hidden.to_string_lossy()), "{printed}");
        assert!(printed.contains("Permission denied"), "{printed}");
        assert!(!printed.contains("a secret of this test"), "{printed}");
        set_mode(hidden, 0o400);
    }
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

#[test]
fn strangers_at_the_operator_socket_are_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can be two accounts at a time (run it with sudo)");
        return;
    }
    let server = Server::start();
    let socket = server.data_dir().join("run/operator.sock");
    let about = std::fs::metadata(&socket).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    // The path to the socket is open: only the mode of the socket file protects it.
    set_mode(server.dir(), 0o755);
    set_mode(&server.data_dir(), 0o755);
    set_mode(socket.parent().unwrap(), 0o755);
    let list = || {
        let output = server.command_as(NOBODY, ["user", "list"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, printed) = list();
    assert_eq!(code, Some(77), "{printed}");
    assert!(printed.contains("belongs to another account"), "{printed}");

    // Whoever gets this far is still identified by the kernel (peer credentials).
    set_mode(&socket, 0o666);
    let (code, printed) = list();
    assert_eq!(code, Some(74), "{printed}");
    assert!(printed.contains("does not respond"), "{printed}");
    assert!(server.log().contains("rejected an operator connection from another user"));
    server.chatto_ok(["user", "list"]);
}
