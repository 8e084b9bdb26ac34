//! Files over HTTP: streamed in with one PUT, and read whole, in parts and not at all.

use chatto::crypto::{hex, sha256};
use serde_json::{Value, json};

use super::support::{Edge, Response, head};
use crate::service::files::content;

/// A server with its owner in a room.
pub(super) struct Chat {
    pub(super) edge: Edge,
    pub(super) token: String,
    pub(super) room: String,
}

impl Chat {
    pub(super) fn start() -> Self {
        Self::on(Edge::start(chatto::http::Config::default()))
    }

    pub(super) fn on(edge: Edge) -> Self {
        let token = edge.owner();
        let rooms = edge.call_ok(&token, "RoomDirectoryService/ListRooms", &json!({}));
        let mut rooms = rooms["rooms"].as_array().unwrap().iter();
        let general = rooms.find(|room| room["room"]["name"] == "general").unwrap();
        let room = general["room"]["id"].as_str().unwrap().to_owned();
        edge.call_ok(&token, "RoomService/JoinRoom", &json!({"roomId": room}));
        Self { edge, token, room }
    }

    pub(super) fn begin(&self, name: &str, bytes: &[u8]) -> Value {
        self.begin_as(&self.token, name, bytes)
    }

    /// The same by another member.
    pub(super) fn begin_as(&self, token: &str, name: &str, bytes: &[u8]) -> Value {
        let new = json!({
            "roomId": self.room, "filename": name, "size": bytes.len().to_string(),
            "sha256": hex(&sha256(bytes)),
        });
        let created = self.edge.call_ok(token, "AssetUploadService/CreateUpload", &new);
        created["upload"].clone()
    }

    pub(super) fn put(&self, upload: &Value, bytes: &[u8]) -> Response {
        let mut raw = self.edge.connect();
        raw.send(
            &[put_head(&self.token, upload, bytes.len(), "192.0.2.1").as_bytes(), bytes].concat(),
        );
        raw.response().unwrap()
    }

    /// Uploads a file and returns it as the contract describes it.
    pub(super) fn upload(&self, name: &str, bytes: &[u8]) -> Value {
        let response = self.put(&self.begin(name, bytes), bytes);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["asset"].clone()
    }
}

/// The head of a PUT of so many bytes that a client at this address sends.
pub(super) fn put_head(token: &str, upload: &Value, length: usize, address: &str) -> String {
    let path = format!("/assets/uploads/{}", upload["uploadId"].as_str().unwrap());
    let (bearer, length) = (format!("Bearer {token}"), length.to_string());
    let headers =
        [("Authorization", &*bearer), ("Content-Length", &length), ("X-Forwarded-For", address)];
    head("PUT", &path, &headers)
}

pub(super) fn url(asset: &Value) -> &str {
    asset["assetUrl"]["url"].as_str().unwrap()
}

#[test]
fn a_streamed_file_is_read_whole_and_in_parts() {
    let chat = Chat::start();
    let bytes = content(1_300_000);
    let asset = chat.upload("a file.bin", &bytes);
    let whole = chat.edge.get(url(&asset), &[]);
    assert_eq!(whole.status, 200);
    assert!(whole.body == bytes);
    let tag = format!("\"{}\"", hex(&sha256(&bytes)));
    assert_eq!(whole.header("etag"), Some(tag.as_str()));
    assert_eq!(whole.header("cache-control"), Some("private, no-cache"));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    let part = |range: &str| chat.edge.get(url(&asset), &[("Range", range)]);
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=524287-524288", 524_287, 524_289),
        ("bytes=1299999-", 1_299_999, 1_300_000),
        ("bytes=-5", 1_299_995, 1_300_000),
        ("bytes=5-99999999999999999999", 5, 1_300_000),
        ("bytes=-9999999", 0, 1_300_000),
    ] {
        let response = part(range);
        assert_eq!(response.status, 206, "{range}");
        assert!(response.body == bytes[from..to], "{range}");
        let expected = format!("bytes {from}-{}/1300000", to - 1);
        assert_eq!(response.header("content-range"), Some(expected.as_str()));
    }
    for range in ["bytes=1300000-", "bytes=-0"] {
        let response = part(range);
        assert_eq!(response.status, 416, "{range}");
        assert_eq!(response.header("content-range"), Some("bytes */1300000"));
    }
    // Several ranges, and a value that is not a range, get the whole file.
    for range in ["bytes=0-1,5-6", "bytes=6-5", "bytes=a-b", "lines=1-2", "bytes=-", "bytes"] {
        let response = part(range);
        assert_eq!((response.status, response.body.len()), (200, bytes.len()), "{range}");
    }
}

#[test]
fn conditions_compare_the_entity_tag() {
    let chat = Chat::start();
    let asset = chat.upload("a.txt", b"0123456789");
    let tag = chat.edge.get(url(&asset), &[]).header("etag").unwrap().to_owned();
    let get = |headers: &[(&str, &str)]| chat.edge.get(url(&asset), headers);
    let known = get(&[("If-None-Match", &tag)]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(get(&[("If-None-Match", "\"other\"")]).status, 200);
    let range = ("Range", "bytes=0-3");
    assert_eq!(get(&[range, ("If-Range", &tag)]).status, 206);
    assert_eq!(get(&[range, ("If-Range", "\"other\"")]).status, 200);
    let weak = format!("W/{tag}");
    assert_eq!(get(&[range, ("If-Range", &weak)]).status, 200);
    let response = chat.edge.exchange(&head("HEAD", url(&asset), &[]));
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(response.header("content-length"), Some("10"));
}

#[test]
fn names_are_sent_in_both_forms_and_cannot_break_the_header() {
    let chat = Chat::start();
    let asset = chat.upload("r\u{e9}sum\u{e9} \"x\"\r\nSet-Cookie: a=b", b"text");
    let response = chat.edge.get(url(&asset), &[]);
    let disposition = response.header("content-disposition").unwrap();
    assert!(
        disposition.ends_with(
            "; filename=\"r_sum_ _x_Set-Cookie: a=b\"; \
         filename*=UTF-8''r%C3%A9sum%C3%A9%20%22x%22Set-Cookie%3A%20a%3Db"
        ),
        "{disposition}"
    );
    assert_eq!(response.header("set-cookie"), None);
}

#[test]
fn only_whoever_may_read_a_file_gets_it() {
    let chat = Chat::start();
    let asset = chat.upload("a.txt", b"text");
    let path = url(&asset).split_once('?').unwrap().0;
    assert_eq!(chat.edge.get(path, &[]).status, 401);
    assert_eq!(chat.edge.get(&format!("{path}?access=x"), &[]).status, 401);
    let bearer = format!("Bearer {}", chat.token);
    let own = [("Authorization", bearer.as_str())];
    assert_eq!(chat.edge.get(path, &own).status, 200);
    assert_eq!(chat.edge.get(&format!("{}&retry=1", url(&asset)), &[]).status, 200);
    assert_eq!(chat.edge.get("/assets/files/A00000000000000", &own).status, 404);
    assert_eq!(chat.edge.get("/assets/files/nonsense", &own).status, 404);
    let bob = chat.edge.person(&chat.token, "bob");
    let bearer = format!("Bearer {bob}");
    // Not a member of the room.
    assert_eq!(chat.edge.get(path, &[("Authorization", &bearer)]).status, 403);
    chat.edge.call_ok(&bob, "RoomService/JoinRoom", &json!({"roomId": chat.room}));
    // No message has it.
    assert_eq!(chat.edge.get(path, &[("Authorization", &bearer)]).status, 404);
}

#[test]
fn a_stream_of_another_length_or_content_is_refused_and_can_be_repeated() {
    let chat = Chat::start();
    let bytes = content(700_000);
    let upload = chat.begin("a.bin", &bytes);
    assert_eq!(chat.put(&upload, &bytes[..600_000]).status, 400);
    assert_eq!(chat.put(&upload, &[&bytes[..], b"x"].concat()).status, 400);
    let other: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
    assert_eq!(chat.put(&upload, &other).status, 400);
    let done = chat.put(&upload, &bytes);
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(chat.edge.get(url(&done.json()["asset"]), &[]).body == bytes);
    // The response may have been lost.
    let again = chat.put(&upload, &bytes);
    assert_eq!((again.status, again.json()), (200, done.json()));
    assert_eq!(chat.put(&upload, &other).status, 400);
    assert!(chat.edge.get(url(&done.json()["asset"]), &[]).body == bytes);
    let unknown = json!({"uploadId": "A00000000000000"});
    assert_eq!(chat.put(&unknown, b"").status, 404);
}

#[test]
fn what_could_run_scripts_is_sandboxed_and_downloaded_and_images_are_shown() {
    let chat = Chat::start();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x04\0\0\0\x03\x08\x02\0\0\0";
    for (name, bytes, content_type, disposition) in [
        ("a.png", png.as_slice(), "image/png", "inline"),
        ("a.txt", "grün".as_bytes(), "text/plain; charset=utf-8", "inline"),
        // What it is counts, not what its name says.
        ("a.png", b"<!DOCTYPE html><script>alert(1)</script>", "text/html", "attachment"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "attachment"),
        ("a.html", b"GIF89a<script>alert(1)</script>", "image/gif", "inline"),
        ("a.exe", b"MZ\x90\0", "application/octet-stream", "attachment"),
    ] {
        let asset = chat.upload(name, bytes);
        let response = chat.edge.get(url(&asset), &[]);
        assert_eq!(response.header("content-type"), Some(content_type), "{name}");
        let sent = response.header("content-disposition").unwrap();
        assert!(sent.starts_with(&format!("{disposition};")), "{name}: {sent}");
        let policy = response.header("content-security-policy").unwrap();
        let is_active = ["text/html", "image/svg+xml"].contains(&content_type);
        assert_eq!(policy.contains("sandbox"), is_active, "{name}: {policy}");
    }
    let image = chat.upload("a.png", png);
    assert_eq!((&image["width"], &image["height"]), (&json!(4), &json!(3)));
}

#[test]
fn a_ticket_is_valid_for_one_size_of_one_file() {
    let chat = Chat::start();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x04\0\0\0\x03\x08\x02\0\0\0";
    let asset = chat.upload("a.png", png);
    let thumbnail = asset["thumbnailAssetUrl"]["url"].as_str().unwrap();
    assert!(thumbnail.contains("/image/960x400/contain?access="), "{thumbnail}");
    let response = chat.edge.get(thumbnail, &[]);
    assert_eq!((response.status, response.header("content-type")), (200, Some("image/png")));
    // The ticket is for this size and this file.
    let (path, ticket) = thumbnail.split_once('?').unwrap();
    let other = path.replace("960x400", "961x400");
    assert_eq!(chat.edge.get(&format!("{other}?{ticket}"), &[]).status, 401);
    let original = url(&asset).split_once('?').unwrap().0;
    assert_eq!(chat.edge.get(&format!("{original}?{ticket}"), &[]).status, 401);
    // As it was written alone.
    let (viewer, rest) = ticket.split_once('.').unwrap();
    let (hour, mac) = rest.split_once('.').unwrap();
    for hour in [format!("+{hour}"), format!("0{hour}"), format!("{hour}0"), format!("-{hour}")] {
        assert_eq!(chat.edge.get(&format!("{path}?{viewer}.{hour}.{mac}"), &[]).status, 401);
    }
    assert_eq!(chat.edge.get(&format!("{path}?{viewer}.{hour}.{mac}"), &[]).status, 200);
    for broken in ["0x400/contain", "4097x1/contain", "960x0400/contain", "960/contain", "1x1/fill"]
    {
        let path = format!("{original}/image/{broken}?{ticket}");
        assert_eq!(chat.edge.get(&path, &[]).status, 404, "{broken}");
    }
    // What is no image has no thumbnail.
    assert_eq!(chat.upload("a.txt", b"text")["thumbnailAssetUrl"], Value::Null);
}

#[test]
fn the_files_of_a_room_are_listed_to_its_members_with_their_messages() {
    let chat = Chat::start();
    let asset = chat.upload("list.txt", b"listed");
    let body = json!({"roomId": chat.room, "attachmentAssetIds": [asset["id"]]});
    let posted = chat.edge.call_ok(&chat.token, "MessageService/CreateMessage", &body);
    let request = json!({"roomId": chat.room, "page": {"limit": 10}});
    let method = "RoomService/ListRoomAttachments";
    let listed = chat.edge.call_ok(&chat.token, method, &request);
    let [item] = listed["attachments"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(item["attachment"]["id"], asset["id"]);
    assert_eq!(item["messageEventId"], posted["message"]["id"], "{posted}");
    assert_eq!(item["createdAt"], posted["message"]["createdAt"], "{posted}");
    assert_eq!(chat.edge.get(url(&item["attachment"]), &[]).body, b"listed");
    let stranger = chat.edge.person(&chat.token, "eve");
    assert_eq!(chat.edge.call(&stranger, method, &request).status, 403);
}
