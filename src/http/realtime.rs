//! `GET /api/realtime`: the WebSocket handshake, and frames over the upgraded connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::frame::Frame;
use async_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncReadExt as _, AsyncWrite, StreamExt};
use hyper::StatusCode;
use hyper::header::{self, HeaderName};
use hyper::rt::{Read as _, ReadBuf, Write as _};
use hyper::upgrade::Upgraded;
use tide::Request;

use crate::limits::{
    CONTROL_FRAME_INTERVAL, CONTROL_FRAMES_BURST, FRAME_MAX_BYTES, SOCKET_BUFFER_BYTES,
    SOCKET_CLOSE_MAX_BYTES, SOCKET_CLOSE_TIMEOUT, SOCKET_WRITE_BUFFER_MAX_BYTES,
};
use crate::realtime::{Disconnected, HandshakeInfo, Incoming, Socket};
use crate::runtime::{Clock, Pace};

use super::auth::PresentedCredential;
use super::error::HttpError;
use super::head::Head;
use super::response::Response;
use super::state::App;

/// The route.
pub(super) async fn route(request: Request<App>) -> tide::Result {
    match Head::of(&request) {
        Ok(head) => upgrade(request.state(), &head).into(),
        Err(error) => error.plain_response().into(),
    }
}

fn upgrade(state: &App, head: &Head) -> Response {
    let has = |name: &HeaderName, token: &str| {
        head.members(name).any(|one| one.eq_ignore_ascii_case(token))
    };
    if !has(&header::UPGRADE, "websocket") || !has(&header::CONNECTION, "upgrade") {
        let response =
            Response::error(StatusCode::UPGRADE_REQUIRED, "this path requires a WebSocket");
        return response.with(header::UPGRADE, "websocket");
    }
    if head.header(&header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let response = Response::error(StatusCode::BAD_REQUEST, "WebSocket version 13 is required");
        return response.with(header::SEC_WEBSOCKET_VERSION, "13");
    }
    // 16 bytes in base64 (RFC 6455, section 4.1).
    let key = head.header(&header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let Some(key) = key else {
        return Response::error(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or invalid");
    };
    let Some((on_upgrade, permit, stop)) = head.upgrade.take() else {
        return Response::error(StatusCode::BAD_REQUEST, "this connection cannot be upgraded");
    };
    let cookie = match PresentedCredential::of_own_origin(state, head) {
        PresentedCredential::Cookie(cookie) => Some(cookie),
        // A bearer token comes in the first frame.
        PresentedCredential::Bearer(_) | PresentedCredential::Nothing => None,
    };
    let origin = head.origin(&state.config.public_url);
    let handshake = HandshakeInfo { cookie, address: Some(head.client), origin };
    let (realtime, clock) = (state.realtime.clone(), state.clock.clone());
    let serving = async move {
        match on_upgrade.await {
            Ok(upgraded) => {
                let socket = WebSocket::new(upgraded, clock).await;
                realtime.serve(socket, handshake, &stop).await;
            }
            Err(error) => {
                log::debug!(error:err = error; "a WebSocket ended before it was established")
            }
        }
        drop(permit);
    };
    if state.sockets.spawn("socket", serving).is_err() {
        return HttpError::busy().response_for(&head.path);
    }
    Response::empty(StatusCode::SWITCHING_PROTOCOLS)
        .with(header::UPGRADE, "websocket")
        .with(header::CONNECTION, "Upgrade")
        .with(header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()))
}

/// What is known of the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    /// It sends frames, and more may come.
    Frames,
    /// It has sent its close frame, which the library answers.
    Closed,
    /// It has broken the protocol or sent too much: what follows is not read as frames.
    Broken,
}

/// The upgraded connection as a socket of frames.
struct WebSocket {
    frames: WebSocketStream<Io>,
    reading: ReadState,
    /// How many more pings and pongs the client may send.
    control: Pace,
    clock: Clock,
}

impl WebSocket {
    async fn new(upgraded: Upgraded, clock: Clock) -> Self {
        // By default the library's buffers are 128 KiB for each direction of each connection.
        let config = WebSocketConfig::default()
            .read_buffer_size(SOCKET_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(SOCKET_WRITE_BUFFER_MAX_BYTES)
            .max_message_size(Some(FRAME_MAX_BYTES))
            .max_frame_size(Some(FRAME_MAX_BYTES));
        let io = Io { connection: upgraded, left: usize::MAX };
        let frames = WebSocketStream::from_raw_socket(io, Role::Server, Some(config));
        let control = Pace::new(CONTROL_FRAMES_BURST, CONTROL_FRAME_INTERVAL);
        Self { frames: frames.await, reading: ReadState::Frames, control, clock }
    }
}

impl Socket for WebSocket {
    async fn receive(&mut self) -> Incoming {
        loop {
            match self.frames.next().await {
                Some(Ok(Message::Binary(frame))) => return Incoming::Frame(frame),
                Some(Ok(Message::Text(_))) => return Incoming::Text,
                // Pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    if self.control.take(self.clock.now()).is_err() {
                        self.reading = ReadState::Broken;
                        return Incoming::Broken;
                    }
                }
                Some(Err(Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_))) => {
                    self.reading = ReadState::Broken;
                    return Incoming::Broken;
                }
                Some(Ok(Message::Close(_))) => {
                    self.reading = ReadState::Closed;
                    return Incoming::Disconnected;
                }
                Some(Err(_)) | None => return Incoming::Disconnected,
            }
        }
    }

    async fn send(&mut self, frame: Vec<u8>) -> Result<(), Disconnected> {
        // Fragmented (RFC 6455, section 5.4): the library keeps a buffer of the size of the largest frame for
        // the life of the connection.
        let mut rest = Bytes::from(frame);
        let mut code = Data::Binary;
        loop {
            let piece = rest.split_to(rest.len().min(SOCKET_BUFFER_BYTES));
            let piece = Frame::message(piece, OpCode::Data(code), rest.is_empty());
            self.frames.send(Message::Frame(piece)).await.map_err(|_| Disconnected)?;
            if rest.is_empty() {
                return Ok(());
            }
            code = Data::Continue;
        }
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        let closing = async {
            // A close frame is answered with the client's own code (RFC 6455, section 5.5.1): the library has
            // queued that reply, and sends it when the next frame is read.
            if self.reading != ReadState::Closed && self.frames.close(Some(frame)).await.is_err() {
                return;
            }
            // Read what the client has sent: closing with unread bytes would reset the connection and discard
            // our last frames. Do not wait for a client that keeps sending.
            self.frames.get_mut().left = SOCKET_CLOSE_MAX_BYTES;
            if self.reading == ReadState::Broken {
                // Boxed, because its buffer would make every socket larger.
                Box::pin(self.frames.get_mut().drain()).await;
            } else {
                while let Some(Ok(_)) = self.frames.next().await {}
            }
        };
        if self.clock.timeout(SOCKET_CLOSE_TIMEOUT, closing).await.is_err() {
            log::debug!("a client did not close its WebSocket in time");
        }
    }
}

/// hyper's upgraded connection with the I/O traits of `futures`.
struct Io {
    connection: Upgraded,
    /// How many more bytes are read before the stream reports its end.
    left: usize,
}

impl Io {
    /// Reads until the client's end. Our own side stays open: proxies take its end for the end of both.
    async fn drain(&mut self) {
        let mut chunk = [0; SOCKET_BUFFER_BYTES];
        while self.read(&mut chunk).await.is_ok_and(|length| length > 0) {}
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut self.connection).poll_read(cx, buffer.unfilled()) {
            Poll::Ready(Ok(())) => {
                let length = buffer.filled().len();
                self.left = self.left.saturating_sub(length);
                Poll::Ready(Ok(length))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
