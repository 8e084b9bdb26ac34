//! The fold: a room's unfolded events into its pages.
//!
//! Any process may fold; compare-and-set on each page's revision decides between two. Every page
//! records the number of the last event it contains, so doing it again is harmless, and dropping a
//! fold at any await leaves *page(upto) + journal(> upto) = truth*.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use prost::Message as _;

use super::apply;
use super::due::{Share, full_pages};
use super::encoding::encode;
use super::error::StorageError;
use super::layout::{PageKey, stream};
use super::overlay::{Overlay, Tail, count};
use super::page::{Content, Page};
use super::records::{Row, Stamp, Thread, ThreadPage, row::Kind};
use super::spill;
use super::timeline::Timeline;
use crate::limits::{PAGE_ROWS, PAGE_SPILL_BYTES};
use crate::nats::{Nats, Publish, PublishError};
use crate::runtime::Clock;

/// Pages whose former record this process knows to be erased.
const SETTLED_MAX: usize = 1_024;
/// Attempts when another process folds the same room.
const ATTEMPTS: usize = 5;

/// Folds rooms.
pub(super) struct Folder {
    nats: Nats,
    clock: Clock,
    overlay: Arc<Overlay>,
    timeline: Arc<Timeline>,
    epoch: Bytes,
    settled: Mutex<LruCache<String, u64>>,
}

enum WriteError {
    Conflict,
    Storage(StorageError),
}

impl<E: Into<StorageError>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Storage(error.into())
    }
}

/// The pages of one fold, loaded when first touched.
type Working = BTreeMap<PageKey, (Page, bool)>;

impl Folder {
    pub(super) fn new(
        (nats, clock): (Nats, Clock),
        overlay: Arc<Overlay>,
        timeline: Arc<Timeline>,
        epoch: Bytes,
    ) -> Self {
        let settled = Mutex::new(LruCache::new(count(SETTLED_MAX)));
        Self { nats, clock, overlay, timeline, epoch, settled }
    }

    /// Folds the room's unfolded events. `checkpoint`: everything before this journal sequence was
    /// folded when this began.
    ///
    /// # Errors
    /// [`StorageError`]; what was done so far stays done and is harmless to repeat.
    ///
    /// # Cancel safety
    /// May be dropped at any await.
    pub(super) async fn fold(
        &self,
        room: &str,
        share: Share,
        checkpoint: u64,
    ) -> Result<(), StorageError> {
        for _ in 0..ATTEMPTS {
            let mut tail = self.overlay.tail(room);
            if share == Share::FullPages {
                tail.truncate(full_pages(&tail));
            }
            let Some(last) = tail.last() else { return Ok(()) };
            match self.attempt(room, &tail, checkpoint).await {
                Ok(()) => {
                    let dropped =
                        self.overlay.drop_folded(room, last.event.number, self.clock.now());
                    self.timeline.forget(&dropped);
                    return Ok(());
                }
                Err(WriteError::Conflict) => {}
                Err(WriteError::Storage(error)) => return Err(error),
            }
        }
        Err(StorageError::LATE)
    }

    async fn attempt(&self, room: &str, tail: &[Tail], checkpoint: u64) -> Result<(), WriteError> {
        let mut working = Working::new();
        for tail in tail {
            self.apply(room, &mut working, tail, checkpoint).await?;
        }
        self.move_long_threads(room, &mut working).await?;
        let last = match tail.last() {
            Some(last) => last,
            None => return Ok(()),
        };
        let mut erase = Vec::new();
        // Replies before the thread page that says where they lie; the head last.
        for (key, (page, changed)) in working.iter().rev() {
            erase.extend(erasable(page, &self.epoch));
            if *changed {
                self.write(room, *key, page, last).await?;
            }
        }
        // Text that an event removed: its page no longer has it, now the journal forgets it too.
        for sequence in erase {
            self.nats.erase(stream::JOURNAL, sequence).await?;
        }
        Ok(())
    }

    async fn apply(
        &self,
        room: &str,
        working: &mut Working,
        tail: &Tail,
        checkpoint: u64,
    ) -> Result<(), StorageError> {
        let event = &tail.event;
        let mut keys = apply::touched(event);
        keys.push(PageKey::Head);
        for key in keys {
            let (page, changed) = self.load(room, working, key, checkpoint).await?;
            if event.number <= page.stamp.event_number && !matches!(key, PageKey::Threads(_)) {
                continue;
            }
            let fresh = event.number > page.stamp.event_number;
            match (key, &mut page.content) {
                (PageKey::Head, Content::Head(head)) => {
                    head.apply(event);
                    *changed = true;
                }
                (PageKey::Rows(k), Content::Rows(rows)) => {
                    apply::to_rows(k, rows, event, tail.sequence);
                    *changed = true;
                }
                (PageKey::Threads(_), Content::Threads(threads)) => {
                    let Some((root, reply)) = apply::thread_of(event) else { continue };
                    let Some(thread) = apply::thread(threads, root) else { continue };
                    if !thread.moved {
                        if fresh {
                            thread.count = thread.count.max(reply);
                            apply::to_replies(root, &mut thread.replies, event, tail.sequence);
                            *changed = true;
                        }
                        continue;
                    }
                    if fresh {
                        thread.count = thread.count.max(reply);
                        *changed = true;
                    }
                    let key = PageKey::Replies(root, apply::reply_page(reply));
                    let (page, changed) = self.load(room, working, key, checkpoint).await?;
                    if event.number > page.stamp.event_number
                        && let Content::Rows(rows) = &mut page.content
                    {
                        apply::to_replies(root, rows, event, tail.sequence);
                        *changed = true;
                    }
                }
                _ => return Err(StorageError::Corrupt { what: "PAGES", source: None }),
            }
        }
        Ok(())
    }

    /// Loads a page into the working set; from the leader, as it is going to be replaced.
    async fn load<'a>(
        &self,
        room: &str,
        working: &'a mut Working,
        key: PageKey,
        checkpoint: u64,
    ) -> Result<&'a mut (Page, bool), StorageError> {
        match working.entry(key) {
            Entry::Occupied(present) => Ok(present.into_mut()),
            Entry::Vacant(absent) => {
                let mut page = self.timeline.load(room, key, true).await?;
                let settled = page.stamp.epoch != self.epoch || page.stamp.upto < checkpoint;
                if settled {
                    forget_erased(&mut page, &self.epoch);
                }
                Ok(absent.insert((page, false)))
            }
        }
    }

    /// Threads of more than a page of replies, and the largest ones of a page that has grown too
    /// large, get pages of their own.
    async fn move_long_threads(
        &self,
        room: &str,
        working: &mut Working,
    ) -> Result<(), StorageError> {
        let mut moved: Vec<Thread> = Vec::new();
        for (page, changed) in working.values_mut() {
            let Content::Threads(threads) = &mut page.content else { continue };
            if !*changed {
                continue;
            }
            let mut size: usize = threads.iter().map(|thread| thread.encoded_len() + 8).sum();
            let mut by_size: Vec<_> = threads.iter_mut().filter(|thread| !thread.moved).collect();
            by_size.sort_by_key(|thread| std::cmp::Reverse(thread.encoded_len()));
            for thread in by_size {
                let long = thread.replies.len() > PAGE_ROWS as usize;
                if long || size > PAGE_SPILL_BYTES {
                    size = size.saturating_sub(thread.encoded_len());
                    moved.push(thread.clone());
                    thread.replies.clear();
                    thread.moved = true;
                }
            }
        }
        for thread in moved {
            let mut pages: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
            for row in thread.replies {
                pages.entry(apply::reply_page(row.number)).or_default().push(row);
            }
            for (k, rows) in pages {
                let key = PageKey::Replies(thread.root_row, k);
                let (page, changed) = self.load(room, working, key, 0).await?;
                page.content = Content::Rows(rows);
                *changed = true;
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        room: &str,
        key: PageKey,
        page: &Page,
        last: &Tail,
    ) -> Result<(), WriteError> {
        let subject = key.subject(room);
        let stamp = Stamp {
            epoch: self.epoch.clone(),
            upto: last.sequence,
            event_number: last.event.number,
            replaced: page.sequence,
        };
        // What a crash between put and erase left behind.
        // Heads hold no text: the server drops a former one by itself, without rewriting a block.
        let has_text = key != PageKey::Head;
        if has_text && page.stamp.replaced > 0 && !self.is_settled(&subject, page.sequence) {
            self.nats.erase(stream::PAGES, page.stamp.replaced).await?;
        }
        let mut kept_parts = Vec::new();
        let payload = match &page.content {
            Content::Head(head) => encode(&head.record(stamp)),
            Content::Threads(threads) => {
                encode(&ThreadPage { stamp: Some(stamp), threads: threads.clone() })
            }
            Content::Rows(rows) => {
                let split = spill::split(rows.clone(), stamp, &page.base, &page.parts);
                for (number, payload) in split.new_parts {
                    self.put(&format!("{subject}.{number}"), payload, None).await?;
                }
                kept_parts.clone_from(&split.base.parts);
                encode(&split.base)
            }
        };
        let sequence = self.put(&subject, payload, Some(page.sequence)).await?;
        if has_text && page.sequence > 0 {
            self.nats.erase(stream::PAGES, page.sequence).await?;
        }
        for part in page.parts.iter().filter(|part| !kept_parts.contains(&part.number)) {
            self.nats.erase(stream::PAGES, part.sequence).await?;
        }
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).put(subject, sequence);
        Ok(())
    }

    fn is_settled(&self, subject: &str, sequence: u64) -> bool {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.get(subject) == Some(&sequence)
    }

    async fn put(
        &self,
        subject: &str,
        payload: Bytes,
        expected_last: Option<u64>,
    ) -> Result<u64, WriteError> {
        let message = Publish { subject, payload, expected_last, ..Publish::default() };
        match self.nats.publish(message).await {
            Ok(ack) => Ok(ack.sequence),
            Err(PublishError::WrongLastSequence) => Err(WriteError::Conflict),
            Err(error) => Err(WriteError::Storage(error.into())),
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

/// Journal sequences whose text is gone from the page and must go from the journal.
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

/// Sequences that an earlier fold has erased, or that belong to a former epoch's journal.
fn forget_erased(page: &mut Page, epoch: &Bytes) {
    let foreign = page.stamp.epoch != *epoch;
    let rows: Vec<&mut Row> = match &mut page.content {
        Content::Head(_) => return,
        Content::Rows(rows) => rows.iter_mut().collect(),
        Content::Threads(threads) => {
            threads.iter_mut().flat_map(|thread| &mut thread.replies).collect()
        }
    };
    for row in rows {
        if let Some(Kind::Message(message)) = &mut row.kind {
            message.erase_sequences.clear();
            if foreign {
                message.text_sequences.clear();
            }
        }
    }
}
