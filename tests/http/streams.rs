//! Files that are streamed in slowly or by many at a time, and files that are read while S3 is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chatto::blobs;
use chatto::http::{Config, Deadlines};
use chatto::service;
use serde_json::json;

use super::files::{Chat, put_head, url};
use super::support::{Edge, PATIENCE, Raw, Response, head, service_config};
use crate::service::files::content;
use crate::support::s3::proxy::{Fate, FaultyS3};
use crate::support::s3::{Kind, S3Server, config, s3};
use crate::support::wait::until;

const SOON: Duration = Duration::from_millis(300);

fn chat(deadlines: Deadlines) -> Chat {
    Chat::on(Edge::start(Config { deadlines, ..Config::default() }))
}

#[test]
fn a_stream_that_is_too_slow_is_ended_and_can_be_repeated() {
    let chat = chat(Deadlines { upload_chunk: SOON, ..Deadlines::default() });
    let bytes = content(600_000);
    let upload = chat.begin("a.bin", &bytes);
    let mut slow = chat.edge.connect();
    slow.send(put_head(&chat.token, &upload, bytes.len(), "192.0.2.1").as_bytes());
    slow.send(&bytes[..550_000]);
    let ended = slow.response().unwrap();
    assert_eq!(ended.status, 408, "{}", ended.text());
    assert!(slow.is_closed());
    assert_eq!(chat.put(&upload, &bytes).status, 200);
}

/// Begins a stream of four bytes and sends so many of them.
fn stream(chat: &Chat, token: &str, address: &str, sent: usize) -> Raw {
    let upload = chat.begin_as(token, "a.txt", b"text");
    let mut raw = chat.edge.connect();
    raw.send(put_head(token, &upload, 4, address).as_bytes());
    raw.send(&b"text"[..sent]);
    raw
}

/// Waits until whoever streams from there is sent away.
fn until_refused(chat: &Chat, token: &str, address: &str) -> Response {
    until("the share is taken", PATIENCE, || {
        let response = stream(chat, token, address, 4).response().unwrap();
        (response.status != 200).then_some(response)
    })
}

/// Two of three at a time are one user's, or one address's.
#[test]
fn who_streams_slowly_leaves_room_for_others_who_do_not_wait_for_ever() {
    let chat = chat(Deadlines { upload_wait: SOON, ..Deadlines::default() });
    let bob = chat.edge.person(&chat.token, "bob");
    chat.edge.call_ok(&bob, "RoomService/JoinRoom", &json!({"roomId": chat.room}));
    let ada = chat.token.as_str();
    let mut slow = ["192.0.2.1", "192.0.2.2"].map(|address| stream(&chat, ada, address, 1));
    let refused = until_refused(&chat, ada, "192.0.2.3");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let mut third = stream(&chat, &bob, "192.0.2.2", 1);
    // Everything is taken.
    assert_eq!(until_refused(&chat, &bob, "192.0.2.4").status, 503);
    for raw in slow.iter_mut().chain([&mut third]) {
        raw.send(b"ext");
        assert_eq!(raw.response().unwrap().status, 200);
    }
    let addresses = ["192.0.2.5", "192.0.2.5"];
    let _slow = [(ada, addresses[0]), (&*bob, addresses[1])]
        .map(|(token, address)| stream(&chat, token, address, 1));
    assert_eq!(until_refused(&chat, &bob, "192.0.2.5").status, 503);
    assert_eq!(stream(&chat, &bob, "192.0.2.6", 4).response().unwrap().status, 200);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_before_the_response_begins() {
    let mut server = S3Server::start(Kind::SeaweedFs);
    let bucket = s3(server.config());
    smol::block_on(bucket.check()).unwrap();
    let settings = service_config();
    let blobs = blobs::Config { uploads_to_s3: true, s3: Some(bucket), ..settings.blobs };
    let chat = Chat::on(Edge::start_with(service::Config { blobs, ..settings }));
    let bytes = content(600_000);
    let asset = chat.upload("a.bin", &bytes);
    let part = [("Range", "bytes=5-9")];
    assert!(chat.edge.get(url(&asset), &[]).body == bytes);
    assert_eq!(chat.edge.get(url(&asset), &part).body, bytes[5..10]);
    server.kill();
    for headers in [&[][..], &part[..]] {
        let response = chat.edge.get(url(&asset), headers);
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        assert_eq!(response.body, b"");
    }
    assert_eq!(chat.edge.exchange(&head("HEAD", url(&asset), &[])).status, 200);
}

/// A server whose files go to a bucket, one stream at a time.
struct SlowBucket {
    chat: Chat,
    proxy: FaultyS3,
    /// The response to each PUT comes late.
    is_slow: Arc<AtomicBool>,
    _server: S3Server,
}

impl SlowBucket {
    fn start(deadlines: Deadlines) -> Self {
        let server = S3Server::start(Kind::SeaweedFs);
        smol::block_on(s3(server.config()).check()).unwrap();
        let is_slow = Arc::new(AtomicBool::new(true));
        let slow = Arc::clone(&is_slow);
        let proxy = FaultyS3::start(server.port(), move |seen| {
            match seen.method == "PUT" && slow.load(Ordering::SeqCst) {
                true => Fate::Delay(Duration::from_secs(3)),
                false => Fate::Pass,
            }
        });
        let settings = service_config();
        let s3 = Some(s3(config(proxy.port())));
        let blobs = blobs::Config { uploads_to_s3: true, s3, ..settings.blobs };
        let settings = service::Config { blobs, upload_streams: 1, ..settings };
        let edge = Edge::start_configured(Config { deadlines, ..Config::default() }, settings);
        Self { chat: Chat::on(edge), proxy, is_slow, _server: server }
    }

    /// Waits until the bucket has so many bytes of files.
    fn until_stored(&self, count: usize) {
        until("the bytes are in the bucket", PATIENCE, || {
            let puts = self.proxy.seen().into_iter().filter(|seen| seen.method == "PUT");
            (puts.count() >= count).then_some(())
        });
    }
}

#[test]
fn a_stream_holds_its_place_until_its_part_has_left_memory() {
    let bucket = SlowBucket::start(Deadlines { upload_wait: SOON, ..Deadlines::default() });
    let chat = &bucket.chat;
    let mut first = stream(chat, &chat.token, "192.0.2.1", 4);
    bucket.until_stored(1);
    let refused = stream(chat, &chat.token, "192.0.2.2", 4).response().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(first.response().unwrap().status, 200);
    bucket.is_slow.store(false, Ordering::SeqCst);
    assert_eq!(stream(chat, &chat.token, "192.0.2.2", 4).response().unwrap().status, 200);
}

/// They have memory for one part at a time, however many they are.
#[test]
fn uploads_in_chunks_leave_memory_to_a_stream() {
    let bucket = SlowBucket::start(Deadlines { upload_wait: SOON, ..Deadlines::default() });
    let chat = &bucket.chat;
    let complete = |upload: &serde_json::Value| {
        let id = &upload["uploadId"];
        chat.edge.call(&chat.token, "AssetUploadService/CompleteUpload", &json!({"uploadId": id}))
    };
    let uploads = [(); 2].map(|()| chat.begin("empty", b""));
    std::thread::scope(|scope| {
        let calls = uploads.each_ref().map(|upload| scope.spawn(|| complete(upload)));
        bucket.until_stored(1);
        assert_eq!(stream(chat, &chat.token, "192.0.2.1", 4).response().unwrap().status, 200);
        for call in calls {
            assert_eq!(call.join().unwrap().status, 200);
        }
    });
}

#[test]
fn a_stream_whose_bytes_have_arrived_is_completed_after_its_client_has_gone() {
    let bucket = SlowBucket::start(Deadlines::default());
    let chat = &bucket.chat;
    let upload = chat.begin("a.txt", b"text");
    let mut raw = chat.edge.connect();
    raw.send(put_head(&chat.token, &upload, 4, "192.0.2.1").as_bytes());
    raw.send(b"text");
    bucket.until_stored(1);
    drop(raw);
    until("the upload is complete", PATIENCE, || {
        let id = json!({"uploadId": upload["uploadId"]});
        let now = chat.edge.call_ok(&chat.token, "AssetUploadService/GetUpload", &id);
        (now["upload"]["status"] == "ASSET_UPLOAD_STATUS_COMPLETED").then_some(())
    });
}
