//! A client that uploads, downloads and deletes files. It repeats what gets 503 after a second; any other status than
//! 200 ends the benchmark.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use chatto::contract::api::{
    CompleteUploadRequest, CompleteUploadResponse, CreateMessageRequest, CreateMessageResponse,
    CreateUploadRequest, CreateUploadResponse, DeleteMessageRequest, DeleteMessageResponse,
    UploadChunkRequest,
};
use prost::Message;
use serde_json::Value;

use super::content::Content;
use crate::fill::Filled;
use crate::http::{Connection, Response, call, call_head};

/// Field and wire type of an [`UploadChunkRequest`]'s `content`, which is sent after the others without a copy.
const CHUNK_CONTENT_KEY: u8 = 3 << 3 | 2;

/// The least that the server asks for in `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A user with a connection from an address of its own, because one address gets only half of the server's limits.
pub(super) struct FileClient<'a> {
    connection: Connection,
    source: Ipv4Addr,
    port: u16,
    room: &'a str,
    token: &'a str,
}

impl<'a> FileClient<'a> {
    /// The user of this number among those of the first room.
    pub(super) fn connect(filled: &'a Filled, port: u16, number: u8) -> Self {
        let room = &filled.rooms[0];
        let source = Ipv4Addr::new(127, 0, 0, 2 + number);
        let connection = Connection::open_from(source, port);
        Self { connection, source, port, room: &room.id, token: filled.token(room, number.into()) }
    }

    /// Uploads a file as a stream, with one `PUT`; returns the asset, in JSON.
    pub(super) fn stream(&mut self, name: &str, content: &Content) -> Value {
        let id = self.create(name, content);
        let head = format!(
            "PUT /assets/uploads/{id} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n",
            self.token, content.size
        );
        let pieces = || [head.as_bytes()].into_iter().chain(content.blocks());
        let body = self.send("the upload", pieces);
        let mut completed: Value = serde_json::from_slice(&body).unwrap();
        completed["asset"].take()
    }

    /// Uploads a file in chunks, with the calls of the contract; returns the id of the asset.
    pub(super) fn upload(&mut self, name: &str, content: &Content) -> String {
        let upload_id = self.create(name, content);
        let mut offset = 0;
        for block in content.blocks() {
            let fields = UploadChunkRequest {
                upload_id: upload_id.clone(),
                offset: i64::try_from(offset).unwrap(),
                chunk_sha256: content.sha256_of(block).to_owned(),
                ..UploadChunkRequest::default()
            };
            let mut body = fields.encode_to_vec();
            body.push(CHUNK_CONTENT_KEY);
            prost::encode_length_delimiter(block.len(), &mut body).unwrap();
            let (method, length) = ("AssetUploadService/UploadChunk", body.len() + block.len());
            let mut request = call_head(method, "proto", self.token, length);
            request.append(&mut body);
            self.send(method, || [&request[..], block].into_iter());
            offset += block.len();
        }
        let request = CompleteUploadRequest { upload_id };
        let completed: CompleteUploadResponse =
            self.call("AssetUploadService/CompleteUpload", &request);
        completed.asset.expect("the asset of a complete upload").id
    }

    /// Downloads a file, keeping nothing of it.
    pub(super) fn download(&mut self, asset: &str, size: usize) {
        assert_eq!(self.look_at(asset), (200, size), "status and length of the download");
    }

    /// Status and length of a file's download.
    pub(super) fn look_at(&mut self, asset: &str) -> (u16, usize) {
        let request = self.get(&format!("/assets/files/{asset}"));
        self.connection.send(&request).and_then(|()| self.connection.discard()).unwrap()
    }

    /// What is at an address.
    pub(super) fn read(&mut self, path: &str) -> Vec<u8> {
        let request = self.get(path);
        body_of(path, self.connection.exchange(&request)).to_vec()
    }

    /// Posts a file; returns the id of the message.
    pub(super) fn post(&mut self, asset: &str) -> String {
        let request = CreateMessageRequest {
            room_id: self.room.to_owned(),
            body: "a file".to_owned(),
            attachment_asset_ids: vec![asset.to_owned()],
            ..CreateMessageRequest::default()
        };
        let posted: CreateMessageResponse = self.call("MessageService/CreateMessage", &request);
        posted.message.expect("the message").id
    }

    /// Deletes a message with its file.
    pub(super) fn delete(&mut self, message: &str) {
        let (room_id, event_id) = (self.room.to_owned(), message.to_owned());
        let request = DeleteMessageRequest { room_id, event_id };
        let _: DeleteMessageResponse = self.call("MessageService/DeleteMessage", &request);
    }

    fn create(&mut self, name: &str, content: &Content) -> String {
        let request = CreateUploadRequest {
            room_id: self.room.to_owned(),
            filename: name.to_owned(),
            size: i64::try_from(content.size).unwrap(),
            sha256: content.sha256.clone(),
            ..CreateUploadRequest::default()
        };
        let created: CreateUploadResponse = self.call("AssetUploadService/CreateUpload", &request);
        created.upload.expect("the upload").upload_id
    }

    fn call<T: Message + Default>(&mut self, method: &str, request: &impl Message) -> T {
        let request = call(method, "proto", self.token, &request.encode_to_vec());
        T::decode(body_of(method, self.connection.exchange(&request))).unwrap()
    }

    /// Sends a request in pieces until it gets its response, whose body this returns.
    fn send<'b, I: Iterator<Item = &'b [u8]>>(
        &mut self,
        what: &str,
        pieces: impl Fn() -> I,
    ) -> Vec<u8> {
        loop {
            let sent = pieces().try_for_each(|piece| self.connection.send(piece));
            let response = self.connection.receive();
            if let Ok(Response { status: 503, .. }) = response {
                std::thread::sleep(RETRY_AFTER);
                // The server closes a connection whose request it has not read.
                self.connection = Connection::open_from(self.source, self.port);
                continue;
            }
            // A server that refuses a request may respond and close before it has all of it.
            let response = match sent {
                Ok(()) => response,
                Err(error) => response.map_err(|_| error),
            };
            return body_of(what, response).to_vec();
        }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let token = self.token;
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
            .into_bytes()
    }
}

/// The body of a response with status 200.
fn body_of<'a>(what: &str, response: io::Result<Response<'a>>) -> &'a [u8] {
    match response {
        Ok(Response { status: 200, body }) => body,
        Ok(Response { status, body }) => {
            panic!("{what}: status {status}, {}", String::from_utf8_lossy(body))
        }
        Err(error) => panic!("{what}: {error}"),
    }
}
