//! Files in NATS: encrypted chunks in ASSETS, all of one file on one subject.
//!
//! A chunk may be written twice. The file's record lists the chunks by their sequences; what it does not list does not
//! belong to the file.

use std::ops::Range;

use bytes::Bytes;

use super::cipher::SEAL_BYTES;
use super::{BlobError, FileCipher};
use crate::crypto::{hex, random};
use crate::domain::{AssetId, Chunk};
use crate::limits::{BATCH_MESSAGES_MAX, WRITE_DEADLINE};
use crate::nats::{BatchRead, Commit, Nats, Outcome, Publish, PublishError};
use crate::runtime::Clock;

/// The chunks of all files in one of the store's buckets.
#[derive(Clone)]
pub struct ChunkStore {
    nats: Nats,
    clock: Clock,
    /// JetStream's name, and what its subjects begin with.
    bucket: (&'static str, &'static str),
}

impl ChunkStore {
    /// ASSETS: the chunks of files.
    #[must_use]
    pub fn assets(nats: Nats, clock: Clock) -> Self {
        Self { nats, clock, bucket: ("OBJ_ASSETS", "$O.ASSETS.C") }
    }

    /// UPLOADS: chunks on their way to S3.
    #[must_use]
    pub fn uploads(nats: Nats, clock: Clock) -> Self {
        Self { nats, clock, bucket: ("OBJ_UPLOADS", "$O.UPLOADS.C") }
    }

    fn stream(&self) -> &'static str {
        self.bucket.0
    }

    fn subject(&self, id: &AssetId) -> String {
        format!("{}.{id}", self.bucket.1)
    }

    /// Whether the disk has room for chunks.
    ///
    /// # Errors
    /// [`BlobError::DiskLow`]
    pub(super) fn check_free_disk(&self) -> Result<(), BlobError> {
        if self.nats.refuses_files() { Err(BlobError::DiskLow) } else { Ok(()) }
    }

    /// Waits until this process may remove bytes that only the store protects: after a restore they may be those of a file.
    ///
    /// # Errors
    /// [`BlobError::Nats`]
    pub(super) async fn wait_for_epoch_check(&self) -> Result<(), BlobError> {
        Ok(self.nats.wait_for_epoch_check().await?)
    }

    /// Stores the chunk of a file that begins at byte `begin`. It belongs to the file once the file's record lists it.
    ///
    /// # Errors
    /// Also [`BlobError::DiskLow`].
    ///
    /// # Cancel safety
    /// After dropping it the chunk may or may not be stored; [`Self::remove_others`] removes it.
    pub async fn put(
        &self,
        cipher: &FileCipher,
        begin: u64,
        plain: &[u8],
    ) -> Result<Chunk, BlobError> {
        self.put_stored(&cipher.id, cipher.seal(begin, plain)).await
    }

    /// Stores an encrypted chunk as [`Self::stored`] returned it from another store.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn put_stored(&self, id: &AssetId, payload: Bytes) -> Result<Chunk, BlobError> {
        self.check_free_disk()?;
        let length =
            payload.len().checked_sub(SEAL_BYTES).and_then(|length| length.try_into().ok());
        let length = length.ok_or(BlobError::Damaged)?;
        let (subject, message_id) = (self.subject(id), hex(&random::<16>()));
        let message = Publish {
            subject: &subject,
            payload,
            message_id: Some(&message_id),
            ..Publish::default()
        };
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let commit = Commit { nats: &self.nats, clock: &self.clock };
        match commit.outcome(message, deadline).await? {
            Outcome::Stored(ack) => Ok(Chunk { sequence: ack.sequence, length }),
            Outcome::Conflict { .. } => Err(PublishError::WrongLastSequence.into()),
        }
    }

    /// The chunk of a file that begins at byte `begin`.
    pub async fn get(
        &self,
        cipher: &FileCipher,
        begin: u64,
        chunk: Chunk,
    ) -> Result<Bytes, BlobError> {
        let plain = cipher.open(begin, &self.stored(chunk).await?)?;
        let length = usize::try_from(chunk.length).unwrap_or(usize::MAX);
        if plain.len() == length { Ok(plain.into()) } else { Err(BlobError::Damaged) }
    }

    /// A chunk as it is stored: encrypted.
    pub async fn stored(&self, chunk: Chunk) -> Result<Bytes, BlobError> {
        let what = BatchRead::From { sequence: chunk.sequence, count: 1 };
        let mut found = self.nats.read(self.stream(), what).await?.messages.pop();
        if found.as_ref().is_none_or(|found| found.sequence != chunk.sequence) {
            // A replica that lags behind.
            found = self.nats.leader_at(self.stream(), chunk.sequence).await?;
        }
        Ok(found.ok_or(BlobError::Missing)?.payload)
    }

    /// Removes one chunk.
    pub async fn remove(&self, chunk: Chunk) -> Result<(), BlobError> {
        self.nats.remove(self.stream(), chunk.sequence).await?;
        Ok(())
    }

    /// How many chunks of a file there are, listed or not.
    pub async fn count(&self, id: &AssetId) -> Result<u64, BlobError> {
        Ok(self.nats.messages_on(self.stream(), &self.subject(id)).await?)
    }

    /// Removes every chunk of a file that is not among these: what lost a race, or was stored by a process that
    /// was then killed.
    pub async fn remove_others(&self, id: &AssetId, chunks: &[Chunk]) -> Result<(), BlobError> {
        let subject = self.subject(id);
        let stored = self.count(id).await?;
        if usize::try_from(stored).is_ok_and(|stored| stored == chunks.len()) {
            return Ok(());
        }
        let mut sequence = 1;
        loop {
            let what =
                BatchRead::OfSubject { subject: &subject, sequence, count: BATCH_MESSAGES_MAX };
            let batch = self.nats.read(self.stream(), what).await?;
            let Some(last) = batch.messages.last() else { return Ok(()) };
            sequence = last.sequence.saturating_add(1);
            for stored in &batch.messages {
                if !chunks.iter().any(|chunk| chunk.sequence == stored.sequence) {
                    self.nats.remove(self.stream(), stored.sequence).await?;
                }
            }
        }
    }

    /// Removes every chunk of a file. Without its key they were unreadable before.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn purge(&self, id: &AssetId) -> Result<(), BlobError> {
        Ok(self.nats.purge_subject(self.stream(), &self.subject(id)).await?)
    }
}

/// Reads a range of a file, one chunk at a time.
pub struct ChunkReader {
    store: ChunkStore,
    cipher: FileCipher,
    chunks: Vec<Chunk>,
    /// The next chunk and where it begins in the file.
    next: (usize, u64),
    range: Range<u64>,
}

impl ChunkReader {
    /// Bytes `range` of the file that these chunks make.
    #[must_use]
    pub fn new(
        store: ChunkStore,
        cipher: FileCipher,
        chunks: Vec<Chunk>,
        range: Range<u64>,
    ) -> Self {
        Self { store, cipher, chunks, next: (0, 0), range }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        loop {
            let (number, begin) = self.next;
            if begin >= self.range.end {
                return Ok(None);
            }
            let chunk = *self.chunks.get(number).ok_or(BlobError::Missing)?;
            let end = begin.saturating_add(chunk.length.into());
            if end <= self.range.start {
                self.next = (number.saturating_add(1), end);
                continue;
            }
            let bytes = self.store.get(&self.cipher, begin, chunk).await?;
            self.next = (number.saturating_add(1), end);
            let within = |position: u64| {
                let offset = position.clamp(begin, end).saturating_sub(begin);
                usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())
            };
            return Ok(Some(bytes.slice(within(self.range.start)..within(self.range.end))));
        }
    }
}
