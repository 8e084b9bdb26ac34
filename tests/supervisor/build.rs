//! What the build says when it cannot bundle nats-server: the build script's own part, run in a process
//! of its own with cargo's environment. The folders it works in are temporary.
#![expect(clippy::print_stdout, reason = "a build script speaks to cargo on its standard output")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::nats::server_binary;
use crate::support::server::BINARY;

#[path = "../../src/supervisor/embed.rs"]
mod embed;

/// Tells the child process of these tests to run the build script's part.
const VARIABLE: &str = "CHATTO_RUN_EMBED";

/// The build script's part; nothing in an ordinary run.
#[test]
fn process() {
    if std::env::var_os(VARIABLE).is_some() {
        // The test runner leaves an unfinished line of its own.
        println!();
        embed::embed();
    }
}

/// A build for x86_64 in a folder of its own.
struct Build {
    dir: TempDir,
    path: String,
}

impl Build {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["out", "bin"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let path = dir.path().join("bin").display().to_string();
        Self { dir, path }
    }

    /// Runs it; what it told cargo as errors, and the constants it wrote.
    fn run(&self, server: Option<&Path>) -> (Vec<String>, Option<String>) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "supervisor::build::process", "--nocapture", "--test-threads=1"])
            .env_clear()
            .env(VARIABLE, "1")
            .env("PATH", &self.path)
            .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
            .env("OUT_DIR", self.out())
            .env("TARGET", "x86_64-unknown-linux-musl")
            .env("CARGO_CFG_TARGET_ARCH", "x86_64")
            .env("OPT_LEVEL", "0");
        if let Some(server) = server {
            command.env("CHATTO_NATS_SERVER_BIN", server);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = said.lines().filter_map(|line| line.strip_prefix("cargo::error="));
        (errors.map(str::to_owned).collect(), std::fs::read_to_string(self.written()).ok())
    }

    /// The same for a build that must fail with one message: that message.
    fn refused(&self, server: Option<&Path>) -> String {
        let (errors, written) = self.run(server);
        assert_eq!(written, None, "{errors:?}");
        assert!(!errors.is_empty());
        assert!(!errors.iter().any(|line| line.starts_with("error")), "{errors:?}");
        errors.join("\n")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn written(&self) -> PathBuf {
        self.out().join("nats_server.rs")
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

#[test]
fn without_go_there_is_one_message_that_says_what_to_install() {
    let said = Build::new().refused(None);
    let lines: Vec<&str> = said.lines().collect();
    let [what, remedy] = lines[..] else { panic!("{said}") };
    assert_eq!(what, "nats-server for x86_64 is missing: `go` was not found.");
    assert!(remedy.contains("Install Go 1."), "{said}");
    assert!(remedy.contains("CHATTO_NATS_SERVER_BIN"), "{said}");
    assert!(remedy.contains("linux/amd64"), "{said}");
}

#[test]
fn a_go_that_fails_is_quoted() {
    let mut build = Build::new();
    build.file("bin/go", b"#!/bin/sh\necho downloading >&2\necho 'no such module' >&2\nexit 1\n");
    build.path += ":/usr/bin:/bin";
    let said = build.refused(None);
    assert!(said.contains("`go build` failed (no such module)"), "{said}");
    assert!(said.contains("Install Go"), "{said}");
}

#[test]
fn a_named_server_that_will_not_do_is_named_with_the_reason() {
    let build = Build::new();
    let absent = build.dir.path().join("absent");
    let mut foreign = read(server_binary());
    foreign[18] = 183;
    let foreign = build.file("foreign", &foreign);
    let text = build.file("text", b"#!/bin/sh\n");
    for (server, why) in [
        (&*absent, "No such file"),
        (&*foreign, "is for ELF machine 183, not for linux/amd64"),
        (&*text, "is not a 64-bit little-endian ELF program"),
        // A static program, but not nats-server.
        (Path::new(BINARY), "is needed"),
    ] {
        let said = build.refused(Some(server));
        assert!(said.contains(why), "{why}: {said}");
        assert!(said.contains(&*server.to_string_lossy()), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_named_server_is_bundled_and_none_is_none() {
    let build = Build::new();
    let (errors, written) = build.run(Some(server_binary()));
    assert_eq!(errors, Vec::<String>::new());
    let size = std::fs::metadata(server_binary()).unwrap().len();
    assert!(written.unwrap().contains(&format!("SIZE_BYTES: usize = {size};")));
    let (errors, written) = build.run(Some(Path::new("none")));
    assert_eq!(errors, Vec::<String>::new());
    assert!(written.unwrap().contains("SIZE_BYTES: usize = 0;"));
    assert_eq!(std::fs::metadata(build.out().join("nats_server.zst")).unwrap().len(), 0);
}

#[expect(clippy::disallowed_methods, reason = "a program that the tests run is small enough")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
