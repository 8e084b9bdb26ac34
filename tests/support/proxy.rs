//! nginx and HAProxy as reverse proxies with TLS, configured by the examples in `docs/https.md`. Dropping one
//! kills it by pid.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::certificates::Pair;
use super::wait::until;

/// The reverse proxies under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Nginx, Self::Haproxy];
}

/// A running reverse proxy.
pub(crate) struct Proxy {
    child: Child,
    dir: TempDir,
}

/// Another process uses the requested port.
#[derive(Debug)]
pub(crate) struct PortTaken;

impl Proxy {
    /// Starts a proxy on `port` of 127.0.0.1 with the certificate `pair`. It forwards to `upstream`, a port of
    /// 127.0.0.1.
    pub(crate) fn start(
        kind: Kind,
        port: u16,
        upstream: u16,
        pair: &Pair,
    ) -> Result<Self, PortTaken> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = match kind {
            Kind::Nginx => nginx(dir.path(), port, upstream, pair),
            Kind::Haproxy => haproxy(dir.path(), port, upstream, pair),
        };
        let log = fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{kind:?} does not start ({error}): `.ci/setup tests` installs it")
        });
        let mut proxy = Self { child, dir };
        let ended = until("the proxy listens", Duration::from_secs(20), || {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                return Some(Some(status));
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(None)
        });
        match ended {
            None => Ok(proxy),
            Some(_) if proxy.log().to_lowercase().contains("already in use") => Err(PortTaken),
            Some(status) => panic!("{kind:?} ended with {status}: {}", proxy.log()),
        }
    }

    /// Its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx ends its workers at SIGTERM; SIGKILL would leave them.
        super::nats::signal(self.child.id(), "TERM");
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- log of the test's proxy\n{}", self.log());
        }
    }
}

/// The code block of this language in the operators' page, after these replacements.
fn documented(language: &str, replaced: &[(&str, &str)]) -> String {
    let page = fs::read_to_string("docs/https.md").unwrap();
    let start = format!("```{language}\n");
    let block = page.split(&start).nth(1).expect("the block").split("```").next().unwrap();
    let mut block = block.to_owned();
    for (from, to) in replaced {
        assert!(block.contains(from), "docs/https.md: no `{from}` in the block for {language}");
        block = block.replace(from, to);
    }
    block
}

fn nginx(dir: &Path, port: u16, upstream: u16, pair: &Pair) -> Command {
    let (certificate, key) = pair.write(dir);
    let server = documented(
        "nginx",
        &[
            ("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;")),
            ("/etc/nginx/tls/fullchain.pem", &certificate.to_string_lossy()),
            ("/etc/nginx/tls/privkey.pem", &key.to_string_lossy()),
            ("127.0.0.1:4000", &format!("127.0.0.1:{upstream}")),
        ],
    );
    let folder = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .collect();
    let file = dir.join("nginx.conf");
    let text = format!(
        "daemon off;\npid {folder}/pid;\nerror_log stderr warn;\nworker_processes 1;\n\
         events {{}}\nhttp {{\naccess_log off;\n{temporary}{server}}}\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program("nginx"));
    command.args(["-p", &dir.to_string_lossy(), "-e", "stderr", "-c", &file.to_string_lossy()]);
    command
}

fn haproxy(dir: &Path, port: u16, upstream: u16, pair: &Pair) -> Command {
    let both = dir.join("chat.pem");
    fs::write(&both, [pair.certificate.as_str(), &pair.key].concat()).unwrap();
    let text = documented(
        "haproxy",
        &[
            ("bind :443", &format!("bind 127.0.0.1:{port}")),
            ("/etc/haproxy/tls/chat.pem", &both.to_string_lossy()),
            ("127.0.0.1:4000", &format!("127.0.0.1:{upstream}")),
        ],
    );
    let file = dir.join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program("haproxy"));
    command.args(["-db", "-f", &file.to_string_lossy()]);
    command
}

/// On Debian, servers are not in the PATH of ordinary users.
fn program(name: &str) -> String {
    let place = format!("/usr/sbin/{name}");
    if Path::new(&place).exists() { place } else { name.to_owned() }
}
