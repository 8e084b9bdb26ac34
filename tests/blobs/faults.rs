//! Cuts, delays and full services in the middle of the work.

use std::time::Duration;

use bytes::Bytes;
use chatto::blobs::s3::{Config, S3Error};

use super::{MIB, assert_same, bytes, read, rest, upload};
use crate::support::s3::proxy::{Fate, FaultyS3, Reply};
use crate::support::s3::{Kind, S3Server, config, s3};

/// Every request is cut twice, before and after it has its effect.
#[test]
fn cut_connections_are_repeated_on_new_ones() {
    let server = S3Server::start(Kind::SeaweedFs);
    smol::block_on(s3(server.config()).check()).unwrap();
    let mut tries = std::collections::HashMap::new();
    let proxy = FaultyS3::start(server.port(), move |request| {
        let count = tries.entry((request.method.clone(), request.target.clone())).or_insert(0);
        *count += 1;
        match *count % 3 {
            1 => Fate::Cut,
            2 => Fate::LoseReply,
            _ => Fate::Pass,
        }
    });
    let s3 = s3(config(proxy.port()));
    let body = bytes(6 * MIB);
    smol::block_on(async {
        s3.check().await.unwrap();
        upload(&s3, "cut", &body).await.unwrap();
        assert_same(&read(&s3, "cut").await.unwrap(), &body, "after cuts");
        s3.delete("cut").await.unwrap();
    });
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let server = S3Server::start(Kind::SeaweedFs);
    let direct = s3(server.config());
    let body = bytes(3 * MIB);
    smol::block_on(async {
        direct.check().await.unwrap();
        direct.put("big", body.clone()).await.unwrap();
    });
    // Each response ends after 400,000 bytes.
    let proxy = FaultyS3::start(server.port(), |_| Fate::CutBody(400_000));
    let cut = s3(config(proxy.port()));
    smol::block_on(async {
        assert_same(&read(&cut, "big").await.unwrap(), &body, "whole");
        let range = cut.get("big", Some(1_000_000..2_500_000)).await.unwrap();
        assert_same(&rest(range).await.unwrap(), &body[1_000_000..2_500_000], "range");
    });
    let ranges: Vec<_> =
        proxy.seen().iter().filter_map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert!(ranges.contains(&"bytes=400000-3145727".to_owned()), "{ranges:?}");
    assert!(ranges.contains(&"bytes=1400000-2499999".to_owned()), "{ranges:?}");
}

/// A body that never gets further is an error, not a short file.
#[test]
fn a_download_that_stays_cut_is_an_error() {
    let server = S3Server::start(Kind::SeaweedFs);
    let direct = s3(server.config());
    smol::block_on(async {
        direct.check().await.unwrap();
        direct.put("big", bytes(MIB)).await.unwrap();
    });
    let mut first = true;
    let proxy = FaultyS3::start(server.port(), move |_| {
        Fate::CutBody(if std::mem::take(&mut first) { 1000 } else { 0 })
    });
    let error = smol::block_on(read(&s3(config(proxy.port())), "big")).unwrap_err();
    assert!(matches!(error, S3Error::Cut { .. }), "{error:?}");
}

/// Between two pieces the object is replaced; its rest is not appended.
#[test]
fn a_download_is_not_resumed_in_another_object() {
    let server = S3Server::start(Kind::SeaweedFs);
    let direct = s3(server.config());
    let proxy = FaultyS3::start(server.port(), |_| Fate::CutBody(1000));
    smol::block_on(async {
        direct.check().await.unwrap();
        direct.put("big", bytes(MIB)).await.unwrap();
        let mut download = s3(config(proxy.port())).get("big", None).await.unwrap();
        assert!(download.next().await.unwrap().is_some());
        direct.put("big", Bytes::from(vec![7; MIB])).await.unwrap();
        let error = loop {
            match download.next().await {
                Ok(Some(bytes)) => assert!(bytes.iter().any(|byte| *byte != 7)),
                Ok(None) => panic!("the download ended"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, S3Error::Unexpected { status: 412, .. }), "{error:?}");
    });
}

/// The deadline counts from chunk to chunk, so a slow line is not cut.
#[test]
fn a_slow_download_has_its_time() {
    let server = S3Server::start(Kind::SeaweedFs);
    let direct = s3(server.config());
    let body = bytes(MIB);
    smol::block_on(async {
        direct.check().await.unwrap();
        direct.put("slow", body.clone()).await.unwrap();
    });
    let proxy = FaultyS3::start(server.port(), |_| Fate::Drip(1024));
    let slow = s3(Config { timeout: Duration::from_secs(2), ..config(proxy.port()) });
    assert_same(&smol::block_on(read(&slow, "slow")).unwrap(), &body, "dripped");
}

/// A completion that reports an error in a successful response is repeated, and in the end an error.
#[test]
fn a_successful_status_with_an_error_is_an_error() {
    let server = S3Server::start(Kind::SeaweedFs);
    let proxy = FaultyS3::start(server.port(), |request| {
        if !request.is_completion() {
            return Fate::Pass;
        }
        let error = Reply::error(200, "InternalError", "We encountered an internal error.", "");
        Fate::Refuse(Reply { body: [b" \n ".as_slice(), &error.body].concat(), ..error })
    });
    let s3 = s3(config(proxy.port()));
    smol::block_on(async {
        s3.check().await.unwrap();
        let error = upload(&s3, "late", &bytes(6 * MIB)).await.unwrap_err();
        assert!(matches!(error, S3Error::Busy { status: 200 }), "{error:?}");
        assert!(matches!(s3.head("late").await, Err(S3Error::NotFound)));
    });
    assert_eq!(proxy.seen().iter().filter(|seen| seen.is_completion()).count(), 3);
}

/// Nothing is known to be stored after an empty response; the object's size decides.
#[test]
fn an_empty_response_to_a_completion_proves_nothing() {
    let server = S3Server::start(Kind::SeaweedFs);
    let proxy = FaultyS3::start(server.port(), |request| {
        if request.is_completion() { Fate::Refuse(Reply::text(200, "")) } else { Fate::Pass }
    });
    let s3 = s3(config(proxy.port()));
    smol::block_on(async {
        s3.check().await.unwrap();
        let error = upload(&s3, "late", &bytes(6 * MIB)).await.unwrap_err();
        assert!(matches!(error, S3Error::UploadMissing), "{error:?}");
    });
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let mut server = S3Server::start(Kind::SeaweedFs);
    let s3 = s3(server.config());
    smol::block_on(async {
        s3.check().await.unwrap();
        s3.put("before", "stored before".into()).await.unwrap();
        server.kill();
        let error = s3.put("a", Bytes::new()).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(s3.health().usable, Some(false));
        server.restart();
        let body = bytes(MIB);
        s3.put("a", body.clone()).await.unwrap();
        assert_same(&read(&s3, "a").await.unwrap(), &body, "stored after the restart");
        assert_same(&read(&s3, "before").await.unwrap(), b"stored before", "stored before");
        assert_eq!(s3.health().usable, Some(true));
    });
}
