//! An upload of any length with one part in memory, or two while there is memory to spare.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::multipart::{Part, UploadId};
use super::{S3, S3Error};
use crate::runtime::{MemorySlots, SlotGuard};

/// A file up to this size gets a buffer of its size, any other one of a whole part.
const SMALL_BYTES: usize = 64 * 1024;

/// How far an upload has come: with this, [`Upload::resume`] goes on in another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Without prefix.
    pub key: String,
    pub part_size: usize,
    /// `None` while everything fits into the first part.
    pub id: Option<UploadId>,
    /// In order, from number 1, each of `part_size`.
    pub parts: Vec<Part>,
}

/// Takes the bytes of an object in chunks. It keeps one part in memory (see [`Upload::with_spare_memory`]), and sends a
/// part when the next byte comes. So what fits into one part is one request, without a multipart upload, and the last part is never empty.
///
/// Dropping it leaves the parts that were sent: resume the upload later, or call [`Upload::abort`].
pub struct Upload {
    s3: S3,
    progress: Progress,
    buffer: BytesMut,
    /// Where memory for a second part comes from...
    spare: Option<MemorySlots>,
    /// ...and that which is in use.
    spare_slot: Option<SlotGuard>,
    /// The parts that are on their way, in order: two at most.
    sending: VecDeque<SendingPart>,
}

/// A part that is on its way, and what became of it.
struct SendingPart {
    request: Pin<Box<dyn Future<Output = Result<Part, S3Error>> + Send>>,
    sent: Option<Result<Part, S3Error>>,
}

impl Upload {
    /// Begins an upload; nothing is sent before the second part has its first byte. `part_size` is from
    /// [`super::part_size`].
    #[must_use]
    pub fn new(s3: S3, key: &str, part_size: usize) -> Self {
        let key = key.to_owned();
        Self::resume(s3, Progress { key, part_size, id: None, parts: Vec::new() })
    }

    /// Goes on after the bytes of [`Progress::parts`].
    #[must_use]
    pub fn resume(s3: S3, progress: Progress) -> Self {
        let (buffer, sending) = (BytesMut::new(), VecDeque::new());
        Self { s3, progress, buffer, spare: None, spare_slot: None, sending }
    }

    /// While a slot of this memory is to spare, a second part is filled and sent while the first one is sent. Sending
    /// goes on only in [`Self::drive`] and in the other calls.
    #[must_use]
    pub fn with_spare_memory(self, slots: MemorySlots) -> Self {
        Self { spare: Some(slots), ..self }
    }

    /// What is known to be stored of this upload. Bytes that are in memory are not counted: after a resume they come again.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How many bytes are stored, which is where a resumed upload begins.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.progress.parts.iter().map(|part| part.size).sum()
    }

    /// Takes the next bytes, and sends parts that are full.
    ///
    /// # Errors
    /// After an error nothing may be written anymore; resume the upload from its progress.
    ///
    /// # Cancel safety
    /// Not cancel safe: after a drop it is unknown which bytes were taken. Resume the upload from its progress.
    pub async fn write(&mut self, mut chunk: &[u8]) -> Result<(), S3Error> {
        while !chunk.is_empty() {
            self.send_full_part().await?;
            if self.buffer.is_empty() {
                self.wait_for_memory().await?;
            }
            let free = self.progress.part_size - self.buffer.len();
            let (taken, rest) = chunk.split_at(free.min(chunk.len()));
            // A buffer that grows by doubling would take up to twice the part, and be copied each time.
            if self.buffer.len() + taken.len() > SMALL_BYTES {
                self.buffer.reserve(free);
            }
            self.buffer.extend_from_slice(taken);
            chunk = rest;
        }
        Ok(())
    }

    /// Sends what is on its way, while the caller waits for the next bytes. It never ends; an error is returned by the
    /// next call.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn drive(&mut self) -> Infallible {
        poll_fn(|cx| {
            self.poll_sending(cx);
            Poll::Pending
        })
        .await
    }

    /// Begins to send the part in memory if it is full, as [`Self::write`] does before it takes a byte.
    pub async fn send_full_part(&mut self) -> Result<(), S3Error> {
        if self.buffer.len() >= self.progress.part_size { self.send_part().await } else { Ok(()) }
    }

    /// Stores the object.
    ///
    /// # Cancel safety
    /// After a drop the object is there as a whole or not at all.
    pub async fn finish(mut self) -> Result<(), S3Error> {
        if self.progress.id.is_none() {
            return self.s3.put(&self.progress.key, self.buffer.freeze()).await;
        }
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        self.wait_for_parts(0).await?;
        let Progress { key, id, parts, .. } = &self.progress;
        match id {
            Some(id) => self.s3.complete(key, id, parts).await,
            None => Err(S3Error::UploadMissing),
        }
    }

    /// Removes what is stored of this upload; nothing may be written any more.
    pub async fn abort(&mut self) -> Result<(), S3Error> {
        self.sending.clear();
        match &self.progress.id {
            Some(id) => self.s3.abort(&self.progress.key, id).await,
            None => Ok(()),
        }
    }

    async fn send_part(&mut self) -> Result<(), S3Error> {
        let Progress { key, id, parts, .. } = &mut self.progress;
        let id = match id {
            Some(id) => &*id,
            None => id.insert(self.s3.begin(key).await?),
        };
        let number = u32::try_from(parts.len() + self.sending.len() + 1).unwrap_or(u32::MAX);
        // The buffer is given away, so that its memory is free as soon as the part is sent.
        let body = std::mem::take(&mut self.buffer).freeze();
        let (s3, key, id) = (self.s3.clone(), key.clone(), id.clone());
        let request = Box::pin(async move { s3.put_part(&key, &id, number, body).await });
        self.sending.push_back(SendingPart { request, sent: None });
        Ok(())
    }

    /// Waits until there is memory for the next part.
    async fn wait_for_memory(&mut self) -> Result<(), S3Error> {
        self.wait_for_parts(1).await?;
        // Given back before it is taken again: others may need it more.
        self.spare_slot = None;
        if !self.sending.is_empty() {
            self.spare_slot = self.spare.as_ref().and_then(MemorySlots::take_spare);
        }
        if self.spare_slot.is_some() { Ok(()) } else { self.wait_for_parts(0).await }
    }

    /// Waits until at most so many parts are on their way.
    async fn wait_for_parts(&mut self, max: usize) -> Result<(), S3Error> {
        poll_fn(|cx| {
            self.poll_sending(cx);
            while let Some(part) = self.sending.pop_front_if(|part| part.sent.is_some()) {
                self.progress.parts.extend(part.sent.transpose()?);
            }
            if self.sending.len() <= max { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    fn poll_sending(&mut self, cx: &mut Context<'_>) {
        for part in self.sending.iter_mut().filter(|part| part.sent.is_none()) {
            if let Poll::Ready(sent) = part.request.as_mut().poll(cx) {
                part.sent = Some(sent);
            }
        }
    }
}
