//! Each service that the proxy stands for runs the whole suite of operations.

use std::ops::Range;

use bytes::Bytes;
use chatto::blobs::s3::{Config, S3, S3Error, part_size};

use super::{MIB, assert_same, bytes, read, rest, upload};
use crate::support::s3::proxy::{Fate, FaultyS3, Seen};
use crate::support::s3::{Kind, S3Server, config, modes, s3};

/// Uploads below, at and above the size of parts; download, range, head, listing, delete.
async fn suite(s3: &S3) {
    s3.check().await.unwrap();
    for size in [0, 1, 5 * MIB, 5 * MIB + 1, 16 * MIB] {
        let body = bytes(size);
        upload(s3, "a b/ö", &body).await.unwrap();
        assert_same(&read(s3, "a b/ö").await.unwrap(), &body, &format!("{size} bytes"));
        assert_eq!(s3.head("a b/ö").await.unwrap().size, u64::try_from(size).unwrap());
    }
    let range: Range<u64> = 1_000_000..2_000_000;
    let part = rest(s3.get("a b/ö", Some(range)).await.unwrap()).await.unwrap();
    assert_same(&part, &bytes(16 * MIB)[1_000_000..2_000_000], "range");
    assert_eq!(s3.list("a ", None).await.unwrap().entries.len(), 1);
    s3.delete("a b/ö").await.unwrap();
    assert!(matches!(s3.head("a b/ö").await, Err(S3Error::NotFound)));
}

/// The bucket exists, and the proxy passes only what its service would accept.
fn run(region: &str, mode: impl FnMut(&Seen) -> Fate + Send + 'static) -> FaultyS3 {
    let server = S3Server::start(Kind::SeaweedFs);
    smol::block_on(s3(server.config()).check()).unwrap();
    let proxy = FaultyS3::start(server.port(), mode);
    let s3 = s3(Config { region: Some(region.to_owned()), ..config(proxy.port()) });
    smol::block_on(suite(&s3));
    proxy
}

#[test]
fn r2() {
    let proxy = run("auto", modes::r2());
    // Sixteen MiB are three whole parts and a rest.
    assert_eq!(proxy.seen().iter().filter(|seen| seen.is_part()).count(), 2 + 4);
}

#[test]
fn b2() {
    let proxy = run("us-west-004", modes::b2());
    assert!(proxy.seen().iter().filter(|seen| seen.is_part()).count() > 2 + 4, "no pod was full");
}

#[test]
fn google() {
    run("auto", modes::google());
}

#[test]
fn aws() {
    run("eu-central-1", modes::aws());
}

#[test]
fn garage() {
    run("garage", modes::garage());
}

#[test]
fn a_wrong_region_is_corrected_by_the_error() {
    for (mode, expected) in [
        (Box::new(modes::aws()) as Box<dyn FnMut(&Seen) -> Fate + Send>, "eu-central-1"),
        (Box::new(modes::garage()), "garage"),
    ] {
        let proxy = FaultyS3::start(1, mode);
        let s3 = s3(Config { region: Some("us-east-1".to_owned()), ..config(proxy.port()) });
        for result in
            [smol::block_on(s3.put("a", Bytes::new())), smol::block_on(s3.check()).map(|_| ())]
        {
            let error = result.unwrap_err();
            let advice = format!("core.assets.s3.region = \"{expected}\"");
            assert!(error.to_string().contains(&advice), "{error}");
        }
    }
}

/// The mode refuses what we never send: an upload with parts of two lengths.
#[test]
fn r2_refuses_unequal_parts() {
    let server = S3Server::start(Kind::SeaweedFs);
    smol::block_on(s3(server.config()).check()).unwrap();
    let proxy = FaultyS3::start(server.port(), modes::r2());
    let s3 = s3(config(proxy.port()));
    smol::block_on(async {
        let id = s3.begin("unequal").await.unwrap();
        let mut parts = Vec::new();
        for (number, size) in [(1, 5 * MIB), (2, 6 * MIB), (3, 1)] {
            parts.push(s3.put_part("unequal", &id, number, bytes(size)).await.unwrap());
        }
        let error = s3.complete("unequal", &id, &parts).await.unwrap_err();
        assert!(error.to_string().contains("All non-trailing parts"), "{error}");
    });
    let smallest = chatto::blobs::s3::Length::AtMost(25 * 1024 * 1024);
    assert_eq!(part_size(smallest), 5 * 1024 * 1024);
}
