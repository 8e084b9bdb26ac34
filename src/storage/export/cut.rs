//! Pages and journal at one instant, read while rooms are folded.
//!
//! PAGES is read up to its end. What it holds then may be in the middle of a fold: some pages of a room contain events that
//! its head does not. Such a state is whole together with every event after the head's, as after a crash. These events
//! are read right afterwards. Meanwhile a fold may have gone on, and erased the text of an event that these pages do not
//! contain: then a number is missing, and both are read again from where they were.

use std::collections::{BTreeMap, HashMap};

use super::{ArchivedRecord, ArchivedStream, Export, ExportError, StreamCount, Subjects, archived};
use crate::limits::{EXPORT_CUTS_MAX, EXPORT_EVENTS_MAX_BYTES};
use crate::nats::StoredMessage;
use crate::storage::encoding::decode;
use crate::storage::error::StorageError;
use crate::storage::fold::checkpoint::SUBJECT as CHECKPOINT;
use crate::storage::kv::bucket_get;
use crate::storage::layout::stream;
use crate::storage::records::{Event, FoldCheckpoint, Head};

/// What was read of pages and journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CutCount {
    pub pages: StreamCount,
    pub journal: StreamCount,
}

/// The events that the pages do not contain.
#[derive(Default)]
struct Tail {
    events: Vec<(StoredMessage, Option<u64>)>,
    bytes: usize,
}

/// The rooms as the pages that were read have them.
#[derive(Default)]
struct Heads {
    /// The number of the last event in each head.
    last: HashMap<String, u64>,
}

impl Export {
    /// Reads PAGES, then the events of JOURNAL that they do not contain.
    ///
    /// # Errors
    /// [`ExportError`]; `Sink` is what `each` returns.
    pub async fn pages_and_journal<E>(
        &self,
        mut each: impl FnMut(ArchivedStream, ArchivedRecord) -> Result<(), E>,
    ) -> Result<CutCount, ExportError<E>> {
        let (mut heads, mut seen) = (Heads::default(), Subjects::default());
        let mut next = 1;
        let mut cuts = 0;
        let tail = loop {
            // Before the pages: what it says is folded is in the pages that are read after it.
            let checkpoint = self.checkpoint().await?;
            let scan = self.scan(ArchivedStream::Pages, next, |message| {
                if !seen.take(&message) {
                    return Ok(());
                }
                heads.note(&message)?;
                each(ArchivedStream::Pages, archived(&message, &self.clock))
                    .map_err(ExportError::Sink)
            });
            next = scan.await?;
            let tail = self.tail(&checkpoint, &heads).await?;
            let Some((room, number)) = tail.hole(&heads, &checkpoint) else { break tail };
            cuts += 1;
            if cuts >= EXPORT_CUTS_MAX {
                return Err(ExportError::Hole { room, number });
            }
        };
        let mut journal = StreamCount::default();
        let mut rooms = Subjects::default();
        for (message, _) in &tail.events {
            rooms.take(message);
            journal = rooms.count();
            each(ArchivedStream::Journal, archived(message, &self.clock))
                .map_err(ExportError::Sink)?;
        }
        Ok(CutCount { pages: seen.count(), journal })
    }

    async fn checkpoint<E>(&self) -> Result<FoldCheckpoint, ExportError<E>> {
        let (found, _) =
            bucket_get::<FoldCheckpoint>(&self.nats, stream::STATE, CHECKPOINT).await?;
        Ok(found.filter(|found| found.epoch == self.epoch).unwrap_or_default())
    }

    /// The events after those of the heads. Of rooms that are not held none before the checkpoint.
    async fn tail<E>(
        &self,
        checkpoint: &FoldCheckpoint,
        heads: &Heads,
    ) -> Result<Tail, ExportError<E>> {
        let held = checkpoint.held.iter().map(|held| held.first_sequence).min();
        let first = held.unwrap_or(u64::MAX).min(checkpoint.next_sequence).max(1);
        let mut tail = Tail::default();
        self.scan(ArchivedStream::Journal, first, |message| {
            let room = room_of(&message.subject);
            let is_held = checkpoint.held.iter().any(|held| held.room_id == room);
            if message.sequence < checkpoint.next_sequence && !is_held {
                return Ok(());
            }
            // One that cannot be read is kept: the room is held because of it.
            let number = decode::<Event>(&message.payload).ok().map(|event| event.number);
            if number.is_some_and(|number| number <= heads.last(room)) {
                return Ok(());
            }
            tail.bytes += message.payload.len() + message.subject.len();
            if tail.bytes > EXPORT_EVENTS_MAX_BYTES {
                return Err(ExportError::TooManyEvents);
            }
            tail.events.push((message, number));
            Ok(())
        })
        .await?;
        Ok(tail)
    }
}

impl Heads {
    fn note(&mut self, message: &StoredMessage) -> Result<(), StorageError> {
        let subject: Vec<&str> = message.subject.split('.').collect();
        let ["pages", room, "h"] = subject.as_slice() else { return Ok(()) };
        if message.is_tombstone() {
            self.last.remove(*room);
            return Ok(());
        }
        let head: Head = decode(&message.payload).map_err(StorageError::corrupt(stream::PAGES))?;
        let number = head.stamp.map_or(0, |stamp| stamp.event_number);
        self.last.insert((*room).to_owned(), number);
        Ok(())
    }

    fn last(&self, room: &str) -> u64 {
        self.last.get(room).copied().unwrap_or(0)
    }
}

impl Tail {
    /// The first number that a room lacks after its head's. A held room lacks what it is held for.
    fn hole(&self, heads: &Heads, checkpoint: &FoldCheckpoint) -> Option<(String, u64)> {
        let mut next: BTreeMap<&str, u64> = BTreeMap::new();
        for (message, number) in &self.events {
            let room = room_of(&message.subject);
            if checkpoint.held.iter().any(|held| held.room_id == room) {
                continue;
            }
            let expected = next.entry(room).or_insert_with(|| heads.last(room).saturating_add(1));
            if *number != Some(*expected) {
                return Some((room.to_owned(), *expected));
            }
            *expected = expected.saturating_add(1);
        }
        None
    }
}

fn room_of(subject: &str) -> &str {
    subject.strip_prefix("journal.").unwrap_or(subject)
}
