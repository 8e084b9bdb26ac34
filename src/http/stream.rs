//! The bytes of a connection: plain, or through TLS.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_net::TcpStream;
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::server::TlsStream;

use crate::limits::{POLL_READ_MAX_BYTES, POLL_READS_MAX};

/// What a connection reads from and writes to.
#[derive(Debug)]
pub(super) enum Stream {
    /// As on the wire.
    Plain(Cooperative<TcpStream>),
    /// Through TLS that this server speaks.
    Secure(Box<TlsStream<Cooperative<TcpStream>>>),
}

/// A stream that yields to the executor after [`POLL_READ_MAX_BYTES`] or [`POLL_READS_MAX`] without a pause.
/// Otherwise a loop over the bytes of a peer that always has some ready would never yield: no deadline, stop signal
/// or other connection of this thread would get its turn.
#[derive(Debug)]
pub(super) struct Cooperative<S> {
    stream: S,
    bytes: usize,
    reads: usize,
}

impl<S> Cooperative<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, bytes: 0, reads: 0 }
    }

    fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cooperative<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.bytes >= POLL_READ_MAX_BYTES || self.reads >= POLL_READS_MAX {
            (self.bytes, self.reads) = (0, 0);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match &read {
            Poll::Ready(Ok(length)) => {
                self.bytes = self.bytes.saturating_add(*length);
                self.reads += 1;
            }
            Poll::Ready(Err(_)) | Poll::Pending => (self.bytes, self.reads) = (0, 0),
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cooperative<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl Stream {
    /// A connection as it was accepted.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::Plain(Cooperative::new(stream))
    }

    /// Whether this server encrypts it.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = match self.get_mut() {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => {
                std::task::ready!(Pin::new(&mut *stream).poll_close(cx))?;
                stream.get_mut().0
            }
        };
        // Closing the socket's own stream would only flush it.
        match socket.get_ref().shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
