//! Replacing pages: compare-and-set at the revision that was read, parts before the base that names them, and
//! nothing erased before the head is written.

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::nats::{Nats, Publish, PublishError};
use crate::storage::capacity;
use crate::storage::encoding::encode;
use crate::storage::error::StorageError;
use crate::storage::fold::{SlicePages, WriteError};
use crate::storage::kv::lease::Lease;
use crate::storage::layout::{PageKey, stream};
use crate::storage::records::{Row, Stamp, Thread, ThreadPage, row::Kind};
use crate::storage::timeline::overlay::UnfoldedEvent;
use crate::storage::timeline::page::{Content, Page};
use crate::storage::timeline::parts;

/// Pages whose former record this process knows to be erased.
const ERASED_MAX: usize = 1_024;

/// Writes the pages of folds.
pub(crate) struct PageWriter {
    nats: Nats,
    epoch: Bytes,
    erased: Mutex<LruCache<String, u64>>,
}

impl PageWriter {
    pub(crate) fn new(nats: Nats, epoch: Bytes) -> Self {
        Self { nats, epoch, erased: Mutex::new(LruCache::new(capacity(ERASED_MAX))) }
    }

    fn is_erased(&self, subject: &str, sequence: u64) -> bool {
        let mut erased = self.erased.lock();
        erased.get(subject) == Some(&sequence)
    }

    fn note_erased(&self, subject: String, sequence: u64) {
        self.erased.lock().put(subject, sequence);
    }
}

/// Writing the pages of one room, under the lease of a fold if it has one.
pub(crate) struct Writing<'a> {
    pub(crate) writer: &'a PageWriter,
    pub(crate) room: &'a str,
    pub(crate) lease: Option<&'a Lease>,
}

impl Writing<'_> {
    /// Nothing is written when the lease is over: while this process was paused, another one may have begun to fold.
    fn check_lease(&self) -> Result<(), StorageError> {
        if self.lease.is_some_and(|lease| !lease.holds()) {
            Err(StorageError::LATE)
        } else {
            Ok(())
        }
    }

    /// Writes what has changed: replies before the thread page that says where they lie, the head last.
    pub(crate) async fn pages(
        &self,
        slice: &mut SlicePages,
        last: &UnfoldedEvent,
    ) -> Result<(), WriteError> {
        for (key, loaded) in slice.pages.iter_mut().rev().filter(|(_, loaded)| loaded.changed) {
            let stamp = Stamp {
                epoch: self.writer.epoch.clone(),
                upto: last.sequence,
                event_number: last.event.number,
                replaced: 0,
            };
            self.replace(*key, &mut loaded.page, stamp).await?;
        }
        Ok(())
    }

    /// Puts a page in the place of what was read, with everything that is not in its base; the page then
    /// says what is left to be erased.
    async fn replace(&self, key: PageKey, page: &mut Page, stamp: Stamp) -> Result<(), WriteError> {
        let subject = key.subject(self.room);
        let former = page.sequence;
        let stamp = Stamp { replaced: former, ..stamp };
        // What a crash between put and erase left behind; of two revisions the server would drop the older one
        // without erasing it. Heads hold no text: the server may drop them.
        if let Some(left) = self.left_behind(key, page) {
            self.erase_page(left).await?;
        }
        let payload = match &page.content {
            Content::Head(head) => encode(&head.record(stamp.clone())),
            Content::Threads(threads) => {
                encode(&ThreadPage { stamp: Some(stamp.clone()), threads: threads.clone() })
            }
            Content::Rows(rows) => {
                let split = parts::split(rows.clone(), stamp.clone(), &page.named_parts());
                return self.replace_spilled(&subject, page, stamp, split).await;
            }
        };
        page.sequence = self.put(&subject, payload, former).await?;
        page.stamp = stamp;
        Ok(())
    }

    /// Writes the parts, then the base that names them.
    async fn replace_spilled(
        &self,
        subject: &str,
        page: &mut Page,
        stamp: Stamp,
        split: parts::Split,
    ) -> Result<(), WriteError> {
        let mut own = Vec::new();
        let written = async {
            for (number, payload) in split.new_parts {
                own.push(self.put(&format!("{subject}.{number}"), payload, 0).await?);
            }
            self.put(subject, encode(&split.base), page.sequence).await
        };
        match written.await {
            Ok(sequence) => {
                page.sequence = sequence;
                page.stamp = stamp;
                page.base.parts = split.base.parts;
                Ok(())
            }
            Err(error) => {
                // No base will ever name them. With an unknown outcome one may: the next fold then checks.
                if matches!(error, WriteError::Conflict) {
                    for sequence in own {
                        self.erase_page(sequence).await?;
                    }
                }
                Err(error)
            }
        }
    }

    /// Erases, after the head is written, what the pages of a slice have replaced. Texts of events that the head
    /// does not contain stay: whoever starts now needs these events, and who folds them erases the texts.
    pub(crate) async fn erase(&self, slice: &SlicePages) -> Result<(), WriteError> {
        let mut texts = Vec::new();
        let head = slice.pages.get(&PageKey::Head).map(|head| head.page.stamp.event_number);
        for (key, loaded) in &slice.pages {
            if head.is_some_and(|head| loaded.page.stamp.event_number <= head) {
                texts.extend(erasable(&loaded.page, &self.writer.epoch));
            }
            if loaded.page.has_unnamed_parts() && !loaded.changed {
                // Another fold may be about to name them: behind a new base it cannot.
                let mut page = loaded.page.clone();
                let stamp = page.stamp.clone();
                self.replace(*key, &mut page, stamp).await?;
                self.erase_left_behind(*key, &page).await?;
            } else {
                self.erase_left_behind(*key, &loaded.page).await?;
            }
        }
        // Text that an event removed: its page no longer has it, and now it is erased from the journal too.
        for sequence in texts {
            self.check_lease()?;
            self.writer.nats.erase(stream::JOURNAL, sequence).await?;
        }
        Ok(())
    }

    /// Erases the revision that a page has replaced, and the parts that its base does not name.
    async fn erase_left_behind(&self, key: PageKey, page: &Page) -> Result<(), WriteError> {
        if let Some(left) = self.left_behind(key, page) {
            self.erase_page(left).await?;
            self.writer.note_erased(key.subject(self.room), page.sequence);
        }
        for part in page.parts.iter().filter(|part| !page.base.parts.contains(&part.number)) {
            self.erase_page(part.sequence).await?;
        }
        Ok(())
    }

    /// The revision that a page has replaced, if this process does not know that it is erased.
    fn left_behind(&self, key: PageKey, page: &Page) -> Option<u64> {
        let replaced = page.stamp.replaced;
        let is_ours = page.stamp.epoch == self.writer.epoch && replaced > 0;
        let may_be_there = key != PageKey::Head
            && is_ours
            && !self.writer.is_erased(&key.subject(self.room), page.sequence);
        may_be_there.then_some(replaced)
    }

    async fn erase_page(&self, sequence: u64) -> Result<(), StorageError> {
        self.check_lease()?;
        self.writer.nats.erase(stream::PAGES, sequence).await?;
        Ok(())
    }

    async fn put(
        &self,
        subject: &str,
        payload: Bytes,
        expected_last: u64,
    ) -> Result<u64, WriteError> {
        self.check_lease()?;
        let expected_last = Some(expected_last);
        let message = Publish { subject, payload, expected_last, ..Publish::default() };
        match self.writer.nats.publish(message).await {
            Ok(ack) => Ok(ack.sequence),
            Err(PublishError::WrongLastSequence) => Err(WriteError::Conflict),
            Err(error) => Err(error.into()),
        }
    }
}

fn rows_of(page: &Page) -> impl Iterator<Item = &Row> {
    let (rows, threads): (&[Row], &[Thread]) = match &page.content {
        Content::Head(_) => (&[], &[]),
        Content::Rows(rows) => (rows, &[]),
        Content::Threads(threads) => (&[], threads),
    };
    rows.iter().chain(threads.iter().flat_map(|thread| &thread.replies))
}

/// Journal sequences whose text is no longer in the page and must be erased from the journal.
fn erasable(page: &Page, epoch: &Bytes) -> Vec<u64> {
    if page.sequence > 0 && page.stamp.epoch != *epoch {
        return Vec::new();
    }
    rows_of(page)
        .filter_map(|row| match &row.kind {
            Some(Kind::Message(message)) => Some(&message.erase_sequences),
            _ => None,
        })
        .flatten()
        .copied()
        .collect()
}
