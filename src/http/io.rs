//! The byte stream of a connection with deadlines. hyper has none for writing, and only one for head and idle time
//! together.
//!
//! Generic over the stream, so that TLS uses the same code. A timer exists only while we wait for the client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use hyper::StatusCode;

use crate::limits;
use crate::runtime::Clock;

use super::access_log::AccessRecord;
use super::config::Deadlines;
use super::connections::ConnectionPermit;
use super::response::error_bytes;

/// A timer that has been armed.
pub(super) type Deadline = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Arms a timer.
pub(super) fn deadline(clock: &Clock, after: Duration) -> Deadline {
    let clock = clock.clone();
    Box::pin(async move { clock.sleep(after).await })
}

/// Where a connection stands: between requests, or answering one.
#[derive(Debug)]
pub(super) struct Phase {
    permit: Arc<ConnectionPermit>,
    busy: AtomicBool,
    /// The last response has been sent, and the permit marked idle.
    idle: AtomicBool,
    /// The number of requests so far, so that the head timer of an earlier one is not taken for that of this one.
    requests: AtomicU64,
    /// The response came before the end of the body: the client may still be sending it.
    unread: AtomicBool,
}

impl Phase {
    /// For a connection that has received nothing yet.
    pub(super) fn new(permit: Arc<ConnectionPermit>) -> Arc<Self> {
        Arc::new(Self {
            permit,
            busy: AtomicBool::new(false),
            idle: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            unread: AtomicBool::new(false),
        })
    }

    /// The head of a request has been read; dropping the result ends the response.
    pub(super) fn begin_request(self: &Arc<Self>) -> ResponseGuard {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
        self.idle.store(false, Ordering::Relaxed);
        self.unread.store(false, Ordering::Relaxed);
        let was_evicted = self.permit.begin_request().is_err();
        ResponseGuard { phase: Some(Arc::clone(self)), access_record: None, was_evicted }
    }

    /// Everything has been sent. A connection whose request was not read to its end stays busy: it is about to be
    /// closed.
    fn mark_idle(&self) {
        let is_over = !self.busy.load(Ordering::Relaxed) && !self.unread.load(Ordering::Relaxed);
        if is_over && !self.idle.swap(true, Ordering::Relaxed) {
            self.permit.mark_idle();
        }
    }

    /// Nobody will read the rest of the request body.
    pub(super) fn mark_body_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }
}

/// Held by a response until its last byte was handed to the connection.
#[derive(Debug)]
pub(super) struct ResponseGuard {
    phase: Option<Arc<Phase>>,
    access_record: Option<Box<AccessRecord>>,
    /// The connection was evicted for another one before this request arrived.
    pub(super) was_evicted: bool,
}

impl ResponseGuard {
    /// The connection leaves HTTP with this response: no head follows, whatever bytes arrive.
    pub(super) fn leave_http(&mut self) {
        self.phase = None;
    }

    /// The log line to write when this request has been answered.
    pub(super) fn set_access_record(&mut self, access_record: AccessRecord) {
        self.access_record = Some(Box::new(access_record));
    }

    /// The log line, to be completed.
    pub(super) fn access_record(&mut self) -> Option<&mut AccessRecord> {
        self.access_record.as_deref_mut()
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        if let Some(phase) = &self.phase {
            phase.busy.store(false, Ordering::Relaxed);
        }
    }
}

/// A stream that times out when the client does not finish a head, or reads nothing of a response.
pub(super) struct DeadlineStream<S> {
    stream: S,
    clock: Clock,
    phase: Arc<Phase>,
    deadlines: Deadlines,
    /// Armed at the first byte of a head; for a new connection at once.
    head: Option<HeadTimer>,
    write: Option<Deadline>,
    linger: Option<Linger>,
}

/// Reading what the client still sends after our last byte (nginx calls this a lingering close).
struct Linger {
    timer: Deadline,
    bytes: usize,
}

struct HeadTimer {
    /// The number of requests before this one.
    of: u64,
    /// Whether a byte of the head has arrived.
    has_bytes: bool,
    timer: Deadline,
}

impl<S> DeadlineStream<S> {
    pub(super) fn new(stream: S, clock: Clock, phase: Arc<Phase>, deadlines: Deadlines) -> Self {
        Self { stream, clock, phase, deadlines, head: None, write: None, linger: None }
    }

    fn head_timer(&mut self, request: u64) -> &mut HeadTimer {
        let (clock, limit) = (&self.clock, self.deadlines.head);
        self.head.get_or_insert_with(|| HeadTimer {
            of: request,
            has_bytes: false,
            timer: deadline(clock, limit),
        })
    }

    fn guard_write<T>(&mut self, cx: &mut Context<'_>, poll: Poll<T>) -> Poll<io::Result<T>> {
        if let Poll::Ready(value) = poll {
            // hyper 1.12 retries a pending write once before it returns, and relies on being woken for the
            // first try even when the second succeeds (`poll_loop`, the flush before its return). A smol
            // socket drops its waker as soon as a write succeeds, and the response would stop in the middle.
            // Remove this when hyper loops there.
            if self.write.take().is_some() {
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(value));
        }
        let (clock, limit) = (&self.clock, self.deadlines.write_stall);
        let timer = self.write.get_or_insert_with(|| deadline(clock, limit));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> DeadlineStream<S> {
    /// Reads and discards what the client still sends, until it closes the connection.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let clock = &self.clock;
        let linger = self.linger.get_or_insert_with(|| Linger {
            timer: deadline(clock, limits::HTTP_LINGER_TIMEOUT),
            bytes: 0,
        });
        let mut chunk = [0; 4096];
        loop {
            match Pin::new(&mut self.stream).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(n)) => linger.bytes = linger.bytes.saturating_add(n),
                Poll::Pending => return linger.timer.as_mut().poll(cx),
            }
            if linger.bytes > limits::HTTP_LINGER_MAX_BYTES {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for DeadlineStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.phase.busy.load(Ordering::Relaxed) {
            this.head = None;
            return read;
        }
        let request = this.phase.requests.load(Ordering::Relaxed);
        if this.head.as_ref().is_some_and(|head| head.of != request) {
            this.head = None;
        }
        match read {
            Poll::Ready(Ok(n)) => {
                if n > 0 {
                    this.head_timer(request).has_bytes = true;
                }
                read
            }
            Poll::Ready(Err(_)) => read,
            Poll::Pending => {
                // A new connection must send a request soon; after that it may be idle for longer.
                if request == 0 {
                    this.head_timer(request);
                }
                let Some(head) = &mut this.head else { return Poll::Pending };
                if head.timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // No response is being sent, so the socket takes these bytes at once or never. Without a byte of
                // a request there is nothing to respond to.
                if head.has_bytes && this.write.is_none() {
                    let response = error_bytes(StatusCode::REQUEST_TIMEOUT, "request timed out");
                    let _sent = Pin::new(&mut this.stream).poll_write(cx, &response);
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for DeadlineStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.guard_write(cx, written).map(Result::flatten)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        let flushed = self.guard_write(cx, flushed).map(Result::flatten);
        // hyper flushes only when its own buffer is empty.
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.phase.mark_idle();
        }
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            let closed = Pin::new(&mut this.stream).poll_close(cx);
            std::task::ready!(this.guard_write(cx, closed).map(Result::flatten))?;
        }
        // Closing with unread bytes would reset the connection and discard the response.
        let request = this.phase.requests.load(Ordering::Relaxed);
        let is_cut = this.head.as_ref().is_some_and(|head| head.has_bytes && head.of == request);
        if !is_cut && !this.phase.unread.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        this.poll_linger(cx).map(Ok)
    }
}
