//! Streams a file to its reader, one chunk at a time.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_lite::{AsyncBufRead, AsyncRead};

use crate::service::{BlobError, BlobReader};

type Reading = Pin<Box<dyn Future<Output = (BlobReader, io::Result<Option<Bytes>>)> + Send>>;

/// The bytes of a file.
pub(super) struct FileBody {
    /// In a lock only because tide wants its bodies to be `Sync`; nothing else ever takes it.
    state: parking_lot::Mutex<State>,
    chunk: Bytes,
}

enum State {
    Idle(Option<BlobReader>),
    Reading(Reading),
}

impl FileBody {
    pub(super) fn new(reader: BlobReader) -> Self {
        Self { state: parking_lot::Mutex::new(State::Idle(Some(reader))), chunk: Bytes::new() }
    }

    /// Reads the first chunk at once.
    pub(super) async fn begin(mut reader: BlobReader) -> Result<Self, BlobError> {
        let chunk = reader.next().await?.unwrap_or_default();
        Ok(Self { chunk, ..Self::new(reader) })
    }

    /// Fills the chunk, which stays empty only at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            let state = self.state.get_mut();
            match state {
                State::Idle(reader) => {
                    let Some(mut reader) = reader.take() else { break };
                    *state = State::Reading(Box::pin(async move {
                        let read = reader.next().await.map_err(io::Error::other);
                        (reader, read)
                    }));
                }
                State::Reading(reading) => {
                    let (reader, read) = ready!(reading.as_mut().poll(cx));
                    *state = State::Idle(Some(reader));
                    let next = read.inspect_err(|error| {
                        log::error!(error:err = *error; "a file cannot be read; its download is cut");
                    })?;
                    match next {
                        Some(chunk) => self.chunk = chunk,
                        None => *state = State::Idle(None),
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for FileBody {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_chunk(cx))?;
        let read = self.chunk.as_ref().read(buffer)?;
        self.chunk.advance(read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncBufRead for FileBody {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_chunk(cx))?;
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.chunk.len());
        self.chunk.advance(amount);
    }
}
