//! Multipart uploads: resumed elsewhere, aborted, listed, completed twice.

use bytes::Bytes;
use chatto::blobs::s3::{S3Error, Upload};

use super::{MIB, assert_same, bytes, read};
use crate::support::s3::proxy::{Fate, FaultyS3};
use crate::support::s3::{Kind, S3Server, config, s3};

#[test]
fn an_upload_goes_on_in_another_process_and_leaves_nothing_when_aborted() {
    for kind in Kind::chosen() {
        let server = S3Server::start(kind);
        let s3 = s3(server.config());
        let body = bytes(11 * MIB);
        smol::block_on(async {
            s3.check().await.unwrap();
            let mut first = Upload::new(s3.clone(), "big", 5 * MIB);
            first.write(body.slice(..7 * MIB)).await.unwrap();
            let progress = first.progress().clone();
            assert_eq!(progress.parts.len(), 1);
            drop(first);

            let other = crate::support::s3::s3(server.config());
            let mut second = Upload::resume(other, progress);
            let from = usize::try_from(second.stored_bytes()).unwrap();
            assert_eq!(from, 5 * MIB);
            second.write(body.slice(from..)).await.unwrap();
            second.finish().await.unwrap();
            assert_same(&read(&s3, "big").await.unwrap(), &body, "resumed");

            let mut given_up = Upload::new(s3.clone(), "given/up", 5 * MIB);
            given_up.write(body.slice(..6 * MIB)).await.unwrap();
            let id = given_up.progress().id.clone().unwrap();
            // rclone has no listing of uploads.
            if kind != Kind::Rclone {
                let listed = s3.list_multipart("given/", None).await.unwrap();
                assert_eq!(listed.next, None);
                let [entry] = &listed.entries[..] else { panic!("{:?}", listed.entries) };
                assert_eq!((entry.key.as_str(), &entry.id), ("given/up", &id), "{kind:?}");
            }
            given_up.abort().await.unwrap();
            s3.abort("given/up", &id).await.unwrap();
            assert!(matches!(s3.head("given/up").await, Err(S3Error::NotFound)));
            let error = s3.complete("given/up", &id, &[]).await.unwrap_err();
            assert!(!error.is_transient(), "{kind:?}: {error:?}");
            if kind != Kind::Rclone {
                assert_eq!(s3.list_multipart("", None).await.unwrap().entries, [], "{kind:?}");
            }
        });
    }
}

/// The response to a completion is lost: the second try finds no upload, but the object.
#[test]
fn a_completion_whose_response_is_lost_is_complete() {
    let server = S3Server::start(Kind::SeaweedFs);
    let mut completions = 0;
    let proxy = FaultyS3::start(server.port(), move |request| {
        if request.is_completion() {
            completions += 1;
            if completions == 1 {
                return Fate::LoseReply;
            }
        }
        Fate::Pass
    });
    let s3 = s3(config(proxy.port()));
    let body = bytes(6 * MIB);
    smol::block_on(async {
        s3.check().await.unwrap();
        super::upload(&s3, "once", &body).await.unwrap();
        assert_same(&read(&s3, "once").await.unwrap(), &body, "completed once");
        s3.put("once", Bytes::new()).await.unwrap();
    });
    assert!(proxy.seen().iter().filter(|request| request.is_completion()).count() >= 2);
}
