//! Bodies between hyper and tide: a request body is a buffered reader with a stall deadline, a response body
//! goes out in one piece or as a stream.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_lite::{AsyncBufRead, AsyncBufReadExt, AsyncRead};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::domain::ClientNetwork;
use crate::limits;
use crate::runtime::{Clock, Stop};

use super::io::{Deadline, Phase, ResponseGuard, deadline};
use super::permits::{LimitReached, Permit, Permits};
use super::state::{AppState, RequestPermit};

/// A request body as it arrives.
pub(super) struct RequestBody {
    incoming: Incoming,
    current: Bytes,
    clock: Clock,
    stall_limit: Duration,
    phase: Arc<Phase>,
    stall: Option<Deadline>,
    stop: Stop,
    /// When the body is abandoned because the server stops.
    stop_deadline: Option<Deadline>,
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.incoming.is_end_stream() {
            self.phase.mark_body_unread();
        }
    }
}

impl RequestBody {
    pub(super) fn new(
        incoming: Incoming,
        clock: Clock,
        phase: Arc<Phase>,
        stall_limit: Duration,
        stop: Stop,
    ) -> Self {
        let (current, stall, stop_deadline) = (Bytes::new(), None, None);
        Self { incoming, current, clock, stall_limit, phase, stall, stop, stop_deadline }
    }

    /// The length that the client declared, if any.
    pub(super) fn len(&self) -> Option<usize> {
        self.incoming.size_hint().exact().and_then(|len| usize::try_from(len).ok())
    }

    /// Fills `current`, which stays empty only at the end of the body.
    fn poll_current(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.stall = None;
                    // Trailers are ignored.
                    self.current = frame.into_data().unwrap_or_default();
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => break,
                Poll::Pending => {
                    let (clock, limit, stop) = (&self.clock, self.stall_limit, &self.stop);
                    let stop_deadline =
                        self.stop_deadline.get_or_insert_with(|| stop_deadline(clock, stop));
                    if stop_deadline.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                    }
                    let stall = self.stall.get_or_insert_with(|| deadline(clock, limit));
                    return stall.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Shortly after the stop: a body that has not arrived by then must not delay the restart.
fn stop_deadline(clock: &Clock, stop: &Stop) -> Deadline {
    let (clock, stop) = (clock.clone(), stop.clone());
    Box::pin(async move {
        stop.stopped().await;
        clock.sleep(limits::HTTP_BODY_STOP_GRACE).await;
    })
}

impl AsyncRead for RequestBody {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let filled = self.poll_current(cx);
        filled.map_ok(|()| {
            let len = self.current.len().min(buffer.len());
            self.current.copy_to_slice(buffer.get_mut(..len).unwrap_or_default());
            len
        })
    }
}

impl AsyncBufRead for RequestBody {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let filled = this.poll_current(cx);
        filled.map_ok(|()| &*this.current)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.current.len());
        self.current.advance(amount);
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is longer than {max} bytes")]
    TooLarge { max: usize },
    #[error("the body did not arrive in time")]
    TooSlow,
    /// Too many bodies are in memory, or too many requests in progress.
    #[error("too many requests are being read")]
    Busy,
    /// The connection broke, or the body's framing did.
    #[error("the body ended early")]
    Broken {
        /// The error of hyper.
        #[source]
        source: io::Error,
    },
}

impl From<io::Error> for BodyError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::TimedOut => Self::TooSlow,
            io::ErrorKind::ConnectionAborted => Self::Busy,
            _ => Self::Broken { source },
        }
    }
}

impl From<LimitReached> for BodyError {
    fn from(_: LimitReached) -> Self {
        Self::Busy
    }
}

/// A body in memory.
pub(super) struct BufferedBody {
    pub(super) bytes: Vec<u8>,
    /// It was not there at once, so the sender's session may have ended meanwhile.
    pub(super) was_awaited: bool,
    /// Held as long as the bytes.
    pub(super) permit: BodyPermit,
}

/// The share of the memory for bodies that one body holds: its bytes while it is small, else one of the few
/// slots for large bodies.
pub(super) struct BodyPermit {
    bodies: Arc<Permits>,
    large_bodies: Arc<Permits>,
    client: ClientNetwork,
    held: Option<Permit>,
    is_large: bool,
}

impl BodyPermit {
    /// For a body that has no bytes in memory yet.
    pub(super) fn new(state: &AppState, client: ClientNetwork) -> Self {
        let bodies = Arc::clone(&state.bodies);
        let large_bodies = Arc::clone(&state.large_bodies);
        Self { bodies, large_bodies, client, held: None, is_large: false }
    }

    /// Reserves memory for a body of `bytes` bytes in all.
    ///
    /// # Errors
    /// [`BodyError::Busy`].
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        if self.is_large {
            return Ok(());
        }
        if bytes > limits::API_BODY_MAX_BYTES {
            self.held = Some(self.large_bodies.take(self.client, 1)?);
            self.is_large = true;
            return Ok(());
        }
        match &mut self.held {
            Some(held) => held.grow_to(bytes)?,
            None => self.held = Some(self.bodies.take(self.client, bytes)?),
        }
        Ok(())
    }
}

/// Reads a body of at most `max` bytes within the deadline for whole bodies. The request gives its permit back
/// while it waits for bytes that have not arrived yet.
pub(super) async fn read_body(
    body: tide::Body,
    max: usize,
    state: &AppState,
    request: &RequestPermit,
) -> Result<BufferedBody, BodyError> {
    let permit = BodyPermit::new(state, request.client);
    let mut read = pin!(read_within(body, max, permit));
    if let Some(read) = futures_lite::future::poll_once(read.as_mut()).await {
        return read;
    }
    request.pause();
    let read = match state.clock.timeout(state.config.deadlines.api_body, read).await {
        Ok(read) => read?,
        Err(_elapsed) => return Err(BodyError::TooSlow),
    };
    request.resume()?;
    Ok(BufferedBody { was_awaited: true, ..read })
}

async fn read_within(
    mut body: tide::Body,
    max: usize,
    mut permit: BodyPermit,
) -> Result<BufferedBody, BodyError> {
    let len = body.len();
    if len.is_some_and(|len| len > max) {
        return Err(BodyError::TooLarge { max });
    }
    let mut bytes = Vec::new();
    loop {
        if len.is_some_and(|len| len == bytes.len()) {
            return Ok(BufferedBody { bytes, was_awaited: false, permit });
        }
        let part = body.fill_buf().await?;
        let n = part.len();
        if n == 0 {
            return Ok(BufferedBody { bytes, was_awaited: false, permit });
        }
        let total = bytes.len().saturating_add(n);
        if total > max {
            return Err(BodyError::TooLarge { max });
        }
        if total > bytes.capacity() {
            // A body that arrives byte by byte reserves little; one that arrives fast is copied seldom.
            let step = bytes.capacity().clamp(1024, limits::HTTP_BODY_STEP_BYTES);
            let room = total.next_multiple_of(step);
            let room = room.min(len.unwrap_or(max)).max(total);
            permit.grow_to(room)?;
            bytes.reserve_exact(room.saturating_sub(bytes.len()));
        }
        bytes.extend_from_slice(part);
        Pin::new(&mut body).consume(n);
    }
}

/// A response body on its way out.
pub(super) struct ResponseBody {
    source: Source,
    /// Ends the response when the connection has taken the last byte.
    guard: ResponseGuard,
}

enum Source {
    Bytes(Bytes),
    Stream { body: tide::Body, left: Option<u64>, chunk: Box<[u8]> },
}

impl ResponseBody {
    pub(super) fn bytes(bytes: Bytes, guard: ResponseGuard) -> Self {
        Self { source: Source::Bytes(bytes), guard }
    }

    pub(super) fn stream(body: tide::Body, guard: ResponseGuard) -> Self {
        let left = body.len().and_then(|len| u64::try_from(len).ok());
        let chunk = vec![0; limits::HTTP_STREAM_CHUNK_BYTES].into_boxed_slice();
        Self { source: Source::Stream { body, left, chunk }, guard }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = std::task::ready!(self.source.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(record) = self.guard.access_record()
        {
            let sent = frame.data_ref().map_or(0, Bytes::len);
            record.bytes = record.bytes.saturating_add(u64::try_from(sent).unwrap_or(u64::MAX));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Bytes(bytes) => bytes.is_empty(),
            Source::Stream { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Bytes(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Source::Stream { left: Some(left), .. } => SizeHint::with_exact(*left),
            Source::Stream { left: None, .. } => SizeHint::new(),
        }
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream { body, left, chunk } => {
                let read = std::task::ready!(Pin::new(body).poll_read(cx, chunk))?;
                let taken = u64::try_from(read).unwrap_or(u64::MAX);
                match left {
                    // A stream of another length than declared must break the connection.
                    Some(left) if taken > *left || (read == 0 && *left > 0) => {
                        return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                    }
                    Some(left) => *left = left.saturating_sub(taken),
                    None => {}
                }
                let bytes = chunk.get(..read).unwrap_or_default();
                let frame = (read > 0).then(|| Ok(Frame::data(Bytes::copy_from_slice(bytes))));
                Poll::Ready(frame)
            }
        }
    }
}
