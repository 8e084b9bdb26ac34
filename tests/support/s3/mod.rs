//! Real S3 servers in temporary directories: SeaweedFS for every run of the tests, rclone and versitygw for `make s3`.
//! Dropping one kills it by pid.

pub(crate) mod modes;
pub(crate) mod proxy;
mod seaweedfs;

pub(crate) use seaweedfs::{DOMAIN, OWNER, READER, Sockets};

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chatto::blobs::s3::{Config, S3};
use chatto::crypto::Secret;
use chatto::runtime::Clock;
use tempfile::TempDir;

use super::certificates::Pair;
use super::port::free_port;
use super::wait::until;

/// The servers under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    SeaweedFs,
    Rclone,
    Versitygw,
}

pub(crate) const BUCKET: &str = "files";
/// What stands before all keys.
pub(crate) const PREFIX: &str = "production/chatto";
/// Of SeaweedFS, for the small files of tests.
const VOLUME_MIB: usize = 64;

impl Kind {
    /// Those that `CHATTO_S3_SERVERS` names, else SeaweedFS.
    pub(crate) fn chosen() -> Vec<Self> {
        let names = std::env::var("CHATTO_S3_SERVERS").unwrap_or_else(|_| "seaweedfs".to_owned());
        let kinds = names.split(',').map(|name| match name {
            "seaweedfs" => Self::SeaweedFs,
            "rclone" => Self::Rclone,
            "versitygw" => Self::Versitygw,
            _ => panic!("CHATTO_S3_SERVERS: seaweedfs, rclone, versitygw, not {name}"),
        });
        kinds.collect()
    }
}

/// A running server.
pub(crate) struct S3Server {
    child: Child,
    /// What started it, and starts it again.
    command: Command,
    kind: Kind,
    has_tls: bool,
    dir: TempDir,
    port: u16,
    _sockets: Sockets,
}

impl S3Server {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, None)
    }

    /// With TLS, if there is a certificate.
    pub(crate) fn start_with(kind: Kind, tls: Option<&Pair>) -> Self {
        for _ in 0..10 {
            if let Some(server) = Self::try_start(kind, tls) {
                return server;
            }
        }
        panic!("{kind:?} does not start");
    }

    /// `None` when somebody has taken its port.
    fn try_start(kind: Kind, tls: Option<&Pair>) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = match kind {
            Kind::SeaweedFs => seaweedfs::command(dir.path(), port, VOLUME_MIB, free_port),
            Kind::Rclone => rclone(dir.path(), port),
            Kind::Versitygw => versitygw(dir.path(), port),
        };
        if let Some(pair) = tls {
            let (certificate, key) = pair.write(dir.path());
            let [cert_flag, key_flag] = match kind {
                Kind::SeaweedFs => ["-s3.cert.file", "-s3.key.file"],
                Kind::Rclone => ["--cert", "--key"],
                Kind::Versitygw => panic!("not needed"),
            };
            command.arg(cert_flag).arg(certificate).arg(key_flag).arg(key);
        }
        let log = fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{kind:?} does not start ({error}): `.ci/setup tests stores` installs it")
        });
        let (sockets, has_tls) = (Sockets::of(&command), tls.is_some());
        let mut server = Self { child, command, kind, has_tls, dir, port, _sockets: sockets };
        server.becomes_ready().then_some(server)
    }

    /// Waits until it responds; `false` when it ends instead.
    fn becomes_ready(&mut self) -> bool {
        until("the S3 server answers", Duration::from_secs(120), || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            self.is_ready().then_some(true)
        })
    }

    fn is_ready(&self) -> bool {
        if TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            return false;
        }
        // Until its parts have found each other, SeaweedFS accepts requests and fails them.
        self.kind != Kind::SeaweedFs || self.has_tls || {
            let s3 = s3(self.config());
            // The bucket exists after a restart only.
            smol::block_on(s3.list("", None)).map_or_else(|error| !error.is_transient(), |_| true)
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The settings of its owner, for this server at its own port.
    pub(crate) fn config(&self) -> Config {
        config(self.port)
    }

    /// The folder of its data.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its log.
    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Starts it again after [`Self::kill`], on its data and at its ports.
    pub(crate) fn restart(&mut self) {
        self.child = self.command.spawn().unwrap();
        assert!(self.becomes_ready(), "{:?} does not start again", self.kind);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4096);
            eprintln!(
                "--- end of the log of the test's S3 server\n{}",
                log.get(from..).unwrap_or(&log)
            );
        }
    }
}

/// The owner's settings for a service at this port of 127.0.0.1.
pub(crate) fn config(port: u16) -> Config {
    Config {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: BUCKET.to_owned(),
        path_prefix: PREFIX.to_owned(),
        region: None,
        access_key_id: Secret::from(OWNER.0.to_owned()),
        secret_access_key: Secret::from(OWNER.1.to_owned()),
        session_token: None,
        use_ssl: None,
        path_style: None,
        ca_cert: None,
        timeout: Duration::from_secs(20),
    }
}

pub(crate) fn s3(config: Config) -> S3 {
    S3::build(config, Clock::system()).unwrap()
}

fn rclone(dir: &Path, port: u16) -> Command {
    let objects = dir.join("objects");
    fs::create_dir(&objects).unwrap();
    let mut command = Command::new("rclone");
    command.args(["serve", "s3", "--config", "/dev/null", "--vfs-cache-mode", "off"]);
    command.arg("--addr").arg(format!("127.0.0.1:{port}"));
    command.arg("--auth-key").arg(format!("{},{}", OWNER.0, OWNER.1)).arg(objects);
    command
}

fn versitygw(dir: &Path, port: u16) -> Command {
    let (objects, metadata) = (dir.join("objects"), dir.join("metadata"));
    fs::create_dir(&objects).unwrap();
    fs::create_dir(&metadata).unwrap();
    let mut command = Command::new("versitygw");
    command.arg("--port").arg(format!("127.0.0.1:{port}"));
    command.args(["--access", OWNER.0, "--secret", OWNER.1, "--quiet", "posix"]);
    command.arg("--sidecar").arg(metadata).arg(objects);
    command
}
