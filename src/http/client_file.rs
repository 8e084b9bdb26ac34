//! Streams files of a web client: reads them in chunks off the executor, never a whole file.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncBufRead, AsyncRead};

use crate::limits;
use crate::runtime::blocking;

/// A read in progress.
type PendingRead = Pin<Box<dyn Future<Output = (File, io::Result<Vec<u8>>)> + Send + Sync>>;

/// The bytes of a file, up to the length that was declared.
pub(super) struct FileBody {
    state: State,
    chunk: Vec<u8>,
    at: usize,
    left: u64,
}

enum State {
    Idle(Option<File>),
    PendingRead(PendingRead),
}

impl FileBody {
    /// Reads `len` bytes. A file that has become shorter ends early, and the bridge then breaks the connection.
    pub(super) fn new(file: File, len: u64) -> Self {
        Self { state: State::Idle(Some(file)), chunk: Vec::new(), at: 0, left: len }
    }

    fn rest(&self) -> &[u8] {
        self.chunk.get(self.at..).unwrap_or_default()
    }

    /// Fills the chunk, which stays empty only at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.rest().is_empty() && self.left > 0 {
            match &mut self.state {
                State::Idle(file) => {
                    let Some(file) = file.take() else { break };
                    let piece = u64::try_from(limits::CLIENT_FILE_CHUNK_BYTES).unwrap_or(u64::MAX);
                    let wanted = piece.min(self.left);
                    self.state = State::PendingRead(Box::pin(blocking(move || read(file, wanted))));
                }
                State::PendingRead(reading) => {
                    let (file, bytes) = std::task::ready!(reading.as_mut().poll(cx));
                    self.state = State::Idle(Some(file));
                    self.chunk = bytes?;
                    self.at = 0;
                    let read = u64::try_from(self.chunk.len()).unwrap_or(u64::MAX);
                    self.left = if read == 0 { 0 } else { self.left.saturating_sub(read) };
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads up to `wanted` bytes from the current position of the file. Blocks.
pub(super) fn read(mut file: File, wanted: u64) -> (File, io::Result<Vec<u8>>) {
    let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
    let read = (&mut file).take(wanted).read_to_end(&mut bytes).map(|_| bytes);
    (file, read)
}

impl AsyncRead for FileBody {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_chunk(cx))?;
        let mut rest = self.rest();
        let read = rest.read(buffer);
        self.at = self.at.saturating_add(*read.as_ref().unwrap_or(&0));
        Poll::Ready(read)
    }
}

impl AsyncBufRead for FileBody {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_chunk(cx))?;
        Poll::Ready(Ok(this.rest()))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.at = self.at.saturating_add(amount).min(self.chunk.len());
    }
}
