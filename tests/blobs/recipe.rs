//! The recipe of `docs/s3.md` for a server of one's own, run as written except for folder and ports.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use chatto::blobs::s3::{Bucket, Config};
use chatto::crypto::Secret;

use crate::support::port::free_port;
use crate::support::s3::{Sockets, config, s3};
use crate::support::wait::until;

/// The block of the page that begins with this line, after that line.
fn documented(first: &str) -> String {
    let page = std::fs::read_to_string("docs/s3.md").unwrap();
    let block = page.split(&format!("{first}\n")).nth(1).expect("the block");
    block.split("```").next().unwrap().to_owned()
}

#[test]
fn the_documented_server_works() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    std::fs::write(dir.path().join("s3.json"), documented("```json")).unwrap();
    let line = documented("```sh");
    let data = dir.path().join("seaweedfs").display().to_string();
    let line =
        line.replace("/srv/seaweedfs", &data).replace("-s3.port=8333", &format!("-s3.port={port}"));
    // The folder first; the server is run here, with free ports.
    let (folder, server) = line.trim().split_once('\n').unwrap();
    assert!(Command::new("sh").args(["-c", folder]).status().unwrap().success());
    let mut words = server.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir(dir.path());
    // The defaults of these ports are not documented, because nobody needs them.
    for part in ["master", "volume", "filer"] {
        command.arg(format!("-{part}.port={}", free_port()));
    }
    for part in ["master", "volume", "filer", "s3"] {
        command.arg(format!("-{part}.port.grpc={}", free_port()));
    }
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    let _sockets = Sockets::of(&command);
    let _running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());

    let settings: toml::Table = toml::from_str(&documented("```toml\n# chatto.toml")).unwrap();
    let settings = &settings["core"]["assets"]["s3"];
    let text = |name: &str| settings[name].as_str().unwrap().to_owned();
    let documented = Config {
        endpoint: text("endpoint").replace("8333", &port.to_string()),
        bucket: text("bucket"),
        access_key_id: Secret::from(text("access_key_id")),
        secret_access_key: Secret::from(text("secret_access_key")),
        ..config(port)
    };
    let s3 = s3(documented);
    let found = until("the documented server answers", Duration::from_secs(60), || {
        smol::block_on(s3.check()).ok()
    });
    assert!(matches!(found, Bucket::Created | Bucket::Existed));
    smol::block_on(s3.put("a", Bytes::from_static(b"kept"))).unwrap();
}

/// Killed when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
