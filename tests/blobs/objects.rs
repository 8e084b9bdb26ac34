//! Whole objects: every byte comes back, under every key, in every range.

use std::time::Duration;

use bytes::Bytes;
use chatto::blobs::s3::{Presigned, S3, S3Error};

use super::{MIB, assert_same, bytes, read, rest, upload};
use crate::support::s3::{Kind, S3Server, s3};

#[test]
fn objects_come_back_byte_by_byte() {
    for kind in Kind::chosen() {
        let server = S3Server::start(kind);
        let s3 = s3(server.config());
        smol::block_on(async {
            s3.check().await.unwrap();
            sizes(&s3).await;
            keys(&s3, kind).await;
            ranges(&s3).await;
            presigned(&s3).await;
            listings(&s3).await;
            prefixes(&server, &s3).await;
        });
    }
}

async fn sizes(s3: &S3) {
    let part = 5 * MIB;
    for size in [0, 1, part - 1, part, part + 1, 2 * part, 2 * part + 1] {
        let body = bytes(size);
        upload(s3, "size", &body).await.unwrap();
        assert_same(&read(s3, "size").await.unwrap(), &body, &format!("{size} bytes"));
        let size = u64::try_from(size).unwrap();
        assert_eq!(s3.head("size").await.unwrap().size, size);
    }
    s3.delete("size").await.unwrap();
    assert!(matches!(s3.head("size").await, Err(S3Error::NotFound)));
    assert!(matches!(read(s3, "size").await, Err(S3Error::NotFound)));
    s3.delete("size").await.unwrap();
}

async fn keys(s3: &S3, kind: Kind) {
    let mut keys = vec![
        "a b",
        "a+b",
        "ä/日本語/😀",
        "a~b",
        "a&b=c",
        "100%",
        "a%20b",
        "a%2Fb",
        "%41",
        "a'b(c)*!",
        "a=b",
        "a:b,c;d@e",
        "a?b#c",
        "...",
        ".a",
        "\"quoted\"",
        "a<b>c",
        "deep/er/key",
        "a$b",
    ];
    // rclone keeps objects as files of these names, and changes some.
    keys.retain(|key| kind != Kind::Rclone || !["a%2Fb"].contains(key));
    for key in &keys {
        let body = Bytes::copy_from_slice(key.as_bytes());
        s3.put(key, body.clone())
            .await
            .unwrap_or_else(|error| panic!("{kind:?}: put {key}: {error}"));
    }
    for key in &keys {
        let read =
            read(s3, key).await.unwrap_or_else(|error| panic!("{kind:?}: get {key}: {error}"));
        assert_eq!(String::from_utf8(read).unwrap(), *key, "{kind:?}");
    }
    let mut listed: Vec<_> =
        s3.list("", None).await.unwrap().entries.into_iter().map(|object| object.key).collect();
    let mut expected: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected, "{kind:?}");
    for key in &keys {
        s3.delete(key).await.unwrap();
    }
    assert_eq!(s3.list("", None).await.unwrap().entries, []);
}

async fn ranges(s3: &S3) {
    let body = bytes(3 * MIB);
    let end = 3 * 1024 * 1024;
    s3.put("ranges", body.clone()).await.unwrap();
    for (first, last) in [(0, 1), (0, end), (1, 2), (1_000_000, 2_000_000), (end - 1, end)] {
        let download = s3.get("ranges", Some(first..last)).await.unwrap();
        assert_eq!((download.size(), download.remaining()), (end, last - first));
        let wanted = &body[usize::try_from(first).unwrap()..usize::try_from(last).unwrap()];
        assert_same(&rest(download).await.unwrap(), wanted, &format!("{first}..{last}"));
    }
    for (first, last) in [(end, end + 1), (0, end + 1), (5, 5)] {
        let error = s3.get("ranges", Some(first..last)).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, S3Error::RangeBeyondEnd), "{first}..{last}: {error}");
    }
    s3.delete("ranges").await.unwrap();
}

async fn presigned(s3: &S3) {
    let key = "shown to/all & sundry+.txt";
    s3.put(key, Bytes::from_static(b"read me")).await.unwrap();
    let disposition = "inline; filename*=UTF-8''%C3%A4%20b.txt";
    let how = Presigned {
        ttl: Duration::from_secs(60),
        content_type: "text/plain; charset=utf-8",
        disposition,
    };
    let url = s3.presign_get(key, &how).await.unwrap();
    assert!(url.starts_with(&s3.origin()), "{url}");
    let mut response = ureq::get(&url).call().unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), how.content_type);
    assert_eq!(header("content-disposition"), disposition);
    assert_eq!(response.body_mut().read_to_string().unwrap(), "read me");
    // Another key does not open with this signature.
    assert!(ureq::get(url.replace("sundry", "others")).call().is_err());
    s3.delete(key).await.unwrap();
}

async fn listings(s3: &S3) {
    // One more than a page.
    let keys: Vec<_> = (0..501).map(|number| format!("list/{number:03}")).collect();
    for key in &keys {
        s3.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    s3.put("lisp", Bytes::new()).await.unwrap();
    let first = s3.list("list/", None).await.unwrap();
    let next = first.next.expect("a second page");
    let second = s3.list("list/", Some(&next)).await.unwrap();
    assert_eq!(second.next, None);
    let listed = first.entries.iter().chain(&second.entries).map(|object| object.key.clone());
    assert_eq!(listed.collect::<Vec<_>>(), keys);
    assert!(first.entries.iter().all(|object| object.size == 1));
    for key in keys.iter().map(String::as_str).chain(["lisp"]) {
        s3.delete(key).await.unwrap();
    }
}

/// Objects that were moved to another prefix are found by the same keys.
async fn prefixes(server: &S3Server, with_prefix: &S3) {
    with_prefix.put("a/b", Bytes::from_static(b"moved")).await.unwrap();
    let mut config = server.config();
    config.path_prefix = String::new();
    let whole = s3(config);
    assert_eq!(read(&whole, "production/chatto/a/b").await.unwrap(), b"moved");
    let listed = whole.list("", None).await.unwrap().entries;
    assert_eq!(listed.first().unwrap().key, "production/chatto/a/b");
}
