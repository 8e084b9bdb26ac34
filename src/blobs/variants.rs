//! ASSET_CACHE: variants of images, and of which files none can be made.
//!
//! An image is encrypted with the key of its file, so it cannot be read any more when the file is deleted. It is cut
//! into messages, which carry a random number, so that pieces of two writers are never put together. What is missing
//! here is made again: a lagging replica, the oldest ones that a full cache drops, and the end of each one's life, which
//! nats-server watches, do no harm.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::{BlobError, FileCipher};
use crate::crypto::random;
use crate::domain::AssetId;
use crate::limits::UPLOAD_CHUNK_MAX_BYTES;
use crate::nats::{BatchRead, Nats, Publish, StoredMessage};

const STREAM: &str = "OBJ_ASSET_CACHE";
const SUBJECT: &str = "$O.ASSET_CACHE.C";
/// In place of a variant: no image can be made of the file.
const NONE: &str = "none";
/// 100 years: nanoseconds are what nats-server counts a time in, and it rejects more of them than fit into 63 bits.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Of the random number in front of a piece, which the number of pieces follows.
const RUN_BYTES: usize = 16;

/// Images that were made from files.
#[derive(Clone)]
pub struct VariantCache {
    nats: Nats,
    /// 0: nothing is kept.
    max_bytes: u64,
    /// How long something is kept, in whole seconds.
    ttl: Duration,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptVariant {
    Image(Bytes),
    /// None can be made of the file.
    Impossible,
}

impl VariantCache {
    pub(super) fn new(nats: Nats, max_bytes: u64, ttl: Duration) -> Self {
        Self { nats, max_bytes, ttl: ttl.min(TTL_MAX) }
    }

    /// Whether images are kept.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.max_bytes > 0
    }

    /// What was made of a file for the variant, which is a token of a subject.
    pub async fn get(
        &self,
        cipher: &FileCipher,
        variant: &str,
    ) -> Result<Option<KeptVariant>, BlobError> {
        let first = piece(&cipher.id, variant, 0);
        let subjects = [format!("{SUBJECT}.{}.{NONE}", cipher.id), first.clone()];
        let found = self.nats.read(STREAM, BatchRead::Newest(&subjects)).await?.messages;
        if found.iter().any(|stored| stored.subject != first) {
            return Ok(Some(KeptVariant::Impossible));
        }
        let Some((run, count, begin)) = found.first().and_then(parse) else { return Ok(None) };
        let mut sealed = BytesMut::from(begin.as_ref());
        for number in 1..count {
            let stored = self.nats.newest(STREAM, &piece(&cipher.id, variant, number)).await?;
            let same_run = |(other, _, bytes)| (other == run).then_some(bytes);
            let Some(bytes) = stored.as_ref().and_then(parse).and_then(same_run) else {
                return Ok(None);
            };
            sealed.extend_from_slice(&bytes);
        }
        // Damaged, or of a file whose key was another.
        let opened = cipher.open_as(&associated_data(&cipher.id, variant), &sealed).ok();
        Ok(opened.map(|image| KeptVariant::Image(image.into())))
    }

    /// Keeps an image, and drops the oldest ones when there are too many bytes.
    ///
    /// # Cancel safety
    /// After dropping it the image may be kept or not.
    pub async fn put(
        &self,
        cipher: &FileCipher,
        variant: &str,
        image: &[u8],
    ) -> Result<(), BlobError> {
        if !self.is_enabled() {
            return Ok(());
        }
        let sealed = cipher.seal_as(&associated_data(&cipher.id, variant), image);
        let run = random::<RUN_BYTES>();
        let pieces = sealed.chunks(UPLOAD_CHUNK_MAX_BYTES);
        let count = u8::try_from(pieces.len()).map_err(|_| BlobError::Damaged)?;
        for (number, bytes) in (0..).zip(pieces) {
            let mut payload = BytesMut::with_capacity(RUN_BYTES + 1 + bytes.len());
            payload.put_slice(&run);
            payload.put_u8(count);
            payload.put_slice(bytes);
            self.publish(&piece(&cipher.id, variant, number), payload.freeze()).await?;
        }
        self.make_room().await
    }

    /// Notes that no image can be made of a file.
    ///
    /// # Cancel safety
    /// As with [`Self::put`].
    pub async fn put_impossible(&self, id: &AssetId) -> Result<(), BlobError> {
        self.publish(&format!("{SUBJECT}.{id}.{NONE}"), Bytes::new()).await
    }

    /// Removes everything that was made of a file. Without its key it was unreadable before.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub(super) async fn purge(&self, id: &AssetId) -> Result<(), BlobError> {
        Ok(self.nats.purge_subject(STREAM, &format!("{SUBJECT}.{id}.>")).await?)
    }

    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BlobError> {
        let message = Publish { subject, payload, ttl: Some(self.ttl), ..Publish::default() };
        self.nats.publish(message).await?;
        Ok(())
    }

    /// JetStream would reserve the space of a limit of the stream, which a small disk may not have.
    async fn make_room(&self) -> Result<(), BlobError> {
        let Some(stream) = self.nats.stream(STREAM).await? else { return Ok(()) };
        let state = stream.state;
        if state.bytes > self.max_bytes {
            let quarter = state.last_sequence.saturating_sub(state.first_sequence) / 4;
            let first_kept = state.first_sequence.saturating_add(quarter).saturating_add(1);
            self.nats.purge_before(STREAM, first_kept).await?;
        }
        Ok(())
    }
}

fn piece(id: &AssetId, variant: &str, number: u8) -> String {
    format!("{SUBJECT}.{id}.{variant}.{number}")
}

/// The random number, the number of pieces, and this piece.
fn parse(stored: &StoredMessage) -> Option<([u8; RUN_BYTES], u8, Bytes)> {
    let (run, rest) = stored.payload.split_first_chunk::<RUN_BYTES>()?;
    let (count, bytes) = rest.split_first()?;
    Some((*run, *count, stored.payload.slice_ref(bytes)))
}

fn associated_data(id: &AssetId, variant: &str) -> Vec<u8> {
    format!("chatto variant v1 {id} {variant}").into_bytes()
}
