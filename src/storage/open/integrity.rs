//! Noticing that the store went back: a record in META says how far the streams had come and what STATE
//! held, and each start compares.
//!
//! nats-server drops a damaged block from its first bad byte on, without a word, and older revisions of
//! keys come to light again. A hole in pages or in the journal shows by its numbers; STATE has none,
//! because each key keeps its newest revision only. What the record does not show: changes of the seconds
//! after it was written, when the server is then killed and these very bytes are damaged; and while keys
//! of STATE have changed since, only that STATE has not become shorter.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use crate::limits::HIGH_WATER_MARK_INTERVAL;
use crate::nats::Nats;
use crate::runtime::{Clock, Stop};
use crate::storage::encoding::encode;
use crate::storage::error::StorageError;
use crate::storage::feed::SHORT_LIMIT;
use crate::storage::kv::{self, Entry};
use crate::storage::kv::{bucket_get, bucket_get_known};
use crate::storage::layout::stream;
use crate::storage::open::{Identity, OpenError};
use crate::storage::records::HighWaterMarks;
use crate::storage::state::mirror::Tables;
use crate::storage::store::Inner;

const SUBJECT: &str = "$KV.META.mark";
/// How soon a stream that seems too short is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Attempts to see STATE while no other process changes it.
const LOOKS: usize = 5;

/// What the live keys of STATE are, without those of the fold, which changes all the time and may be
/// lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) keys: u64,
    /// The sum of [`digest`] over them: it does not depend on their order.
    pub(crate) digest: u64,
    /// The highest revision, delete markers included.
    pub(crate) newest: u64,
}

/// A number for a key at a revision (FNV-1a, then the finaliser of SplitMix64). It finds accidents, not
/// forgeries.
pub(crate) fn digest(key: impl fmt::Display, revision: u64) -> u64 {
    struct Fnv(u64);
    impl fmt::Write for Fnv {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    // Hashing cannot fail.
    write!(hash, "{key}").ok();
    let mut mixed = hash.0 ^ revision.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The record, if one was written in this epoch.
pub(crate) async fn read(nats: &Nats, identity: &Identity) -> Result<HighWaterMarks, StorageError> {
    let (mark, _) = bucket_get::<HighWaterMarks>(nats, stream::META, SUBJECT).await?;
    Ok(mark.filter(|mark| mark.epoch == identity.epoch).unwrap_or_default())
}

/// Refuses streams that are shorter than the record says; those with replicas only after [`SHORT_LIMIT`].
pub(crate) async fn check_ends(
    nats: &Nats,
    clock: &Clock,
    mark: &HighWaterMarks,
) -> Result<(), OpenError> {
    for (name, stream, marked) in [
        ("STATE", stream::STATE, mark.state_sequence),
        ("JOURNAL", stream::JOURNAL, mark.journal_sequence),
        ("PAGES", stream::PAGES, mark.pages_sequence),
    ] {
        let deadline = clock.now() + SHORT_LIMIT;
        loop {
            let info = nats.stream(stream).await?;
            if info.as_ref().map_or(0, |info| info.state.last_sequence) >= marked {
                break;
            }
            let is_replicated = info.is_some_and(|info| info.config.num_replicas > 1);
            if !is_replicated || clock.now() >= deadline {
                return Err(OpenError::Holes { stream: name });
            }
            clock.sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

/// Refuses a mirror that lacks what STATE holds, or holds another state than the record says.
pub(crate) async fn check_state(inner: &Inner, mark: &HighWaterMarks) -> Result<(), OpenError> {
    for _ in 0..LOOKS {
        let Some(info) = inner.nats.stream(stream::STATE).await? else { break };
        let end = info.state.last_sequence;
        inner
            .state_position
            .wait_for(end, crate::limits::NATS_REQUEST_TIMEOUT, &inner.clock)
            .await?;
        let (held, summary) = inner.mirror.read(|tables| (tables.held(), tables.summary()));
        if inner.state_position.reached() != end {
            // Another process writes: STATE may have changed between the two comparisons.
            continue;
        }
        // A message that cannot be read is passed over like one that was erased.
        if info.state.messages > held {
            return Err(OpenError::Holes { stream: "STATE" });
        }
        let comparable = !mark.epoch.is_empty() && summary.newest <= mark.state_sequence;
        if comparable && (summary.keys, summary.digest) != (mark.state_keys, mark.state_digest) {
            return Err(OpenError::Holes { stream: "STATE" });
        }
        return Ok(());
    }
    log::debug!("STATE kept changing; its integrity check was skipped");
    Ok(())
}

async fn last_sequence(nats: &Nats, stream: &str) -> Result<u64, StorageError> {
    Ok(nats.stream(stream).await?.map_or(0, |info| info.state.last_sequence))
}

impl Inner {
    /// Writes the record when something has changed since.
    ///
    /// # Cancel safety
    /// May be dropped at any await and repeated.
    pub(crate) async fn write_mark(&self) -> Result<(), StorageError> {
        // The position first: whatever is in the mirror up to there is complete.
        let state_sequence = self.state_position.reached();
        let summary = self.mirror.read(Tables::summary);
        if self.is_damaged() || summary.newest > state_sequence {
            return Ok(());
        }
        let (present, revision) =
            bucket_get_known::<HighWaterMarks>(&self.nats, stream::META, SUBJECT).await?;
        let present = present.filter(|mark| mark.epoch == self.identity.epoch).unwrap_or_default();
        let mut mark = HighWaterMarks {
            epoch: self.identity.epoch.clone(),
            journal_sequence: present.journal_sequence.max(self.journal_position.reached()),
            pages_sequence: last_sequence(&self.nats, stream::PAGES).await?,
            ..present.clone()
        };
        // Another process may have written a later one; its STATE stays.
        if state_sequence >= present.state_sequence {
            mark.state_sequence = state_sequence;
            mark.state_keys = summary.keys;
            mark.state_digest = summary.digest;
        }
        mark.pages_sequence = mark.pages_sequence.max(present.pages_sequence);
        if mark == present {
            return Ok(());
        }
        let entry = Entry { subject: SUBJECT, payload: encode(&mark), revision };
        // Lost the race: the other record is as good as this one; this process writes the next.
        kv::put(&self.nats, &self.clock, entry, None).await.map(|_| ())
    }
}

/// Keeps the record up to date until the process stops.
pub(crate) async fn keep(store: Arc<Inner>, stop: Stop) {
    let mut written = None;
    while stop.or(store.clock.sleep(HIGH_WATER_MARK_INTERVAL)).await.is_some() {
        let reached = (store.state_position.reached(), store.journal_position.reached());
        if written == Some(reached) {
            continue;
        }
        match store.write_mark().await {
            Ok(()) => written = Some(reached),
            Err(error) => {
                log::debug!(error:err = error; "the high-water marks cannot be stored now")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::golden::golden;

    #[test]
    fn the_marks_of_version_1_stay_readable() {
        let mark = HighWaterMarks {
            epoch: bytes::Bytes::from_static(&[9; 16]),
            state_sequence: 40,
            state_keys: 12,
            state_digest: u64::MAX - 1,
            journal_sequence: 77,
            pages_sequence: 30,
        };
        golden("store-mark", &mark);
        // Its numbers stay comparable as well.
        assert_eq!(digest("user.U00000000000001", 7), DIGEST);
        assert_ne!(digest("user.U00000000000001", 8), DIGEST);
        assert_ne!(digest("user.U00000000000002", 7), DIGEST);
    }

    const DIGEST: u64 = 0xa06d_93b6_2a16_c3d7;
}
