//! Multipart uploads: resumed elsewhere, aborted, listed, completed twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use chatto::blobs::s3::{S3Error, Upload};
use chatto::runtime::MemorySlots;

use super::{MIB, assert_same, bytes, read};
use crate::support::s3::proxy::{Fate, FaultyS3, Reply};
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
            first.write(&body[..7 * MIB]).await.unwrap();
            let progress = first.progress().clone();
            assert_eq!(progress.parts.len(), 1);
            drop(first);

            let other = crate::support::s3::s3(server.config());
            let mut second = Upload::resume(other, progress);
            let from = usize::try_from(second.stored_bytes()).unwrap();
            assert_eq!(from, 5 * MIB);
            second.write(&body[from..]).await.unwrap();
            second.finish().await.unwrap();
            assert_same(&read(&s3, "big").await.unwrap(), &body, "resumed");

            let mut given_up = Upload::new(s3.clone(), "given/up", 5 * MIB);
            given_up.write(&body[..6 * MIB]).await.unwrap();
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

/// The most parts that were on their way at once, in an upload of five. With `is_paired` the responses to the first two
/// come together, and so do those to the next two.
fn most_at_once(server: &S3Server, memory: Option<MemorySlots>, is_paired: bool) -> usize {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begun, ended, peak) = (Arc::clone(&now), now, Arc::clone(&most));
    let pair = Arc::new(Barrier::new(2));
    let proxy = FaultyS3::start(server.port(), move |request| {
        if !request.is_part() {
            return Fate::Pass;
        }
        peak.fetch_max(begun.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let waits = is_paired && !request.target.contains("partNumber=5");
        let (pair, ended) = (Arc::clone(&pair), Arc::clone(&ended));
        Fate::PassChanged(
            Box::new(|_| {}),
            Box::new(move |_| {
                if waits {
                    pair.wait();
                }
                ended.fetch_sub(1, Ordering::SeqCst);
            }),
        )
    });
    let (s3, body) = (s3(config(proxy.port())), bytes(21 * MIB));
    smol::block_on(async {
        s3.check().await.unwrap();
        let mut upload = Upload::new(s3.clone(), "parts", 5 * MIB);
        if let Some(memory) = memory {
            upload = upload.with_spare_memory(memory);
        }
        for chunk in body.chunks(777_777) {
            upload.write(chunk).await.unwrap();
        }
        upload.finish().await.unwrap();
        assert_same(&read(&s3, "parts").await.unwrap(), &body, "in parts");
    });
    most.load(Ordering::SeqCst)
}

#[test]
fn a_second_part_is_on_its_way_while_there_is_memory_to_spare() {
    let server = S3Server::start(Kind::SeaweedFs);
    let memory = MemorySlots::new(3, 0);
    smol::block_on(async {
        let own = memory.take().await.unwrap();
        assert_eq!(most_at_once(&server, Some(memory.clone()), true), 2);
        // One is left for others, so there is none to spare.
        let other = memory.take().await.unwrap();
        assert_eq!(most_at_once(&server, Some(memory.clone()), false), 1);
        assert!(memory.take().await.is_ok(), "the second part's memory was given back");
        drop((own, other));
    });
    assert_eq!(most_at_once(&server, None, false), 1);
}

#[test]
fn a_part_that_fails_while_another_is_sent_is_an_error_of_the_upload() {
    let server = S3Server::start(Kind::SeaweedFs);
    let proxy = FaultyS3::start(server.port(), |request| match request.is_part() {
        true if request.target.contains("partNumber=1") => {
            Fate::Refuse(Reply::error(403, "AccessDenied", "Access Denied.", ""))
        }
        _ => Fate::Pass,
    });
    let (s3, body) = (s3(config(proxy.port())), bytes(16 * MIB));
    smol::block_on(async {
        s3.check().await.unwrap();
        let upload = Upload::new(s3.clone(), "refused", 5 * MIB);
        let mut upload = upload.with_spare_memory(MemorySlots::new(3, 0));
        let error = upload.write(&body).await.unwrap_err();
        assert!(matches!(error, S3Error::Permission { .. }), "{error:?}");
        upload.abort().await.unwrap();
        assert_eq!(s3.list_multipart("", None).await.unwrap().entries, []);
    });
}
