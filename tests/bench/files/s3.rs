//! SeaweedFS, where files go, and rclone, which uploads to the same place for comparison.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::port::free_port;
use crate::seaweedfs::{self, OWNER, Sockets};
use crate::server;
use crate::wait::until;

const BUCKET: &str = "files";
/// 50 of them are stored at most.
const VOLUME_MIB: usize = 1024;
/// The slowest start that still counts as working.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running SeaweedFS with an empty bucket. Dropping it ends it and removes its files.
pub(super) struct SeaweedFs {
    child: Child,
    dir: PathBuf,
    port: u16,
    _sockets: Sockets,
}

impl SeaweedFs {
    pub(super) fn start(dir: &Path) -> Self {
        fs::remove_dir_all(dir).ok();
        fs::create_dir_all(dir).unwrap();
        let dir = fs::canonicalize(dir).unwrap();
        let port = free_port();
        let mut command = seaweedfs::command(&dir, port, VOLUME_MIB, free_port);
        let log = File::create(dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("SeaweedFS does not start ({error}): `.ci/setup bench` installs it")
        });
        server::stop_too(child.id());
        let sockets = Sockets::of(&command);
        let mut store = Self { child, dir, port, _sockets: sockets };
        // Until its parts have found each other, it accepts requests and fails them.
        until("SeaweedFS stores a file", PATIENCE, || {
            if let Some(status) = store.child.try_wait().unwrap() {
                let log = fs::read_to_string(store.dir.join("log")).unwrap_or_default();
                panic!("SeaweedFS ended with {status}:\n{log}");
            }
            let mut copy = store.rclone_copy(&store.dir.join("identities.json"), "first");
            copy.args(["--retries", "1", "--low-level-retries", "1"]);
            run(&mut copy).is_ok().then_some(())
        });
        store
    }

    /// Settings of a server that stores its files here.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("CHATTO_CORE_ASSETS_STORAGE_BACKEND", "s3".to_owned()),
            ("CHATTO_CORE_ASSETS_S3_ENDPOINT", self.endpoint()),
            ("CHATTO_CORE_ASSETS_S3_BUCKET", BUCKET.to_owned()),
            ("CHATTO_CORE_ASSETS_S3_ACCESS_KEY_ID", OWNER.0.to_owned()),
            ("CHATTO_CORE_ASSETS_S3_SECRET_ACCESS_KEY", OWNER.1.to_owned()),
        ]
    }

    /// Copies a file here with rclone and its default settings; returns how long that took.
    pub(super) fn time_rclone(&self, file: &Path) -> Duration {
        let mut copy = self.rclone_copy(file, "rclone");
        let began = Instant::now();
        run(&mut copy).unwrap_or_else(|error| panic!("rclone copy: {error}"));
        began.elapsed()
    }

    fn rclone_copy(&self, file: &Path, to: &str) -> Command {
        let mut command = Command::new("rclone");
        command
            .args(["copy", "--config", "/dev/null"])
            .arg(file)
            .arg(format!("store:{BUCKET}/{to}"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .env("RCLONE_CONFIG_STORE_TYPE", "s3")
            .env("RCLONE_CONFIG_STORE_PROVIDER", "SeaweedFS")
            .env("RCLONE_CONFIG_STORE_ENDPOINT", self.endpoint())
            .env("RCLONE_CONFIG_STORE_ACCESS_KEY_ID", OWNER.0)
            .env("RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY", OWNER.1)
            .stdin(Stdio::null());
        command
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        server::forget(self.child.id());
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Runs rclone; the error is what it printed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().unwrap_or_else(|error| {
        panic!("rclone does not start ({error}): `.ci/setup bench` installs it")
    });
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(printed)
}
