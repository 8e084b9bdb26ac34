//! Virtual-hosted buckets. Their host names are in a hosts file that only this test sees: it runs itself again in a mount
//! namespace of its own.

use std::process::Command;

use bytes::Bytes;
use chatto::blobs::s3::{Config, S3Error};

use super::read;
use crate::support::s3::{BUCKET, DOMAIN, Kind, S3Server, s3};

/// Set in the namespace.
const INSIDE: &str = "CHATTO_TEST_INSIDE_NAMESPACE";

#[test]
fn buckets_are_named_by_hosts() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    let names = format!("127.0.0.1 localhost {DOMAIN} {BUCKET}.{DOMAIN} only.example.test\n");
    std::fs::write(&hosts, names).unwrap();
    let script = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, "sh"])
        .arg(hosts)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "blobs::addressing::buckets_are_named_by_hosts", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "in the namespace: {status}");
}

fn inside() {
    let server = S3Server::start(Kind::SeaweedFs);
    smol::block_on(s3(server.config()).check()).unwrap();
    let endpoint = format!("http://{DOMAIN}:{}", server.port());
    let hosted = Config { endpoint, ..server.config() };
    smol::block_on(async {
        let hosted = s3(hosted.clone());
        assert_eq!(hosted.origin(), format!("http://{BUCKET}.{DOMAIN}:{}", server.port()));
        hosted.check().await.unwrap();
        let key = "a b/ö~";
        hosted.put(key, Bytes::from_static(b"by host")).await.unwrap();
        assert_eq!(read(&s3(server.config()), key).await.unwrap(), b"by host");
        let how = chatto::blobs::s3::Presigned {
            ttl: std::time::Duration::from_secs(60),
            content_type: "text/plain",
            disposition: "attachment",
        };
        let url = hosted.presign_get(key, &how).await.unwrap();
        assert_eq!(ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap(), "by host");
    });
    // A service without host names for buckets.
    let endpoint = format!("http://only.example.test:{}", server.port());
    let error = smol::block_on(s3(Config { endpoint, ..hosted }).check()).unwrap_err();
    assert!(matches!(error, S3Error::Addressing { .. }), "{error:?}");
    assert!(error.to_string().contains("path_style = true"), "{error}");
}
