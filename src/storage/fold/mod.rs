//! The fold: a room's unfolded events into its pages.
//!
//! Any process may fold; compare-and-set on each page's revision decides between two. Every page
//! records the number of the last event it contains, so doing it again is harmless, and dropping a
//! fold at any await leaves *page(upto) + journal(> upto) = truth*. What makes that hold:
//!
//! - A fold goes on from the number after the head page's, and the head is written last: whatever a head
//!   contains, all pages contain.
//! - A page is replaced only by one that contains more events, at the revision that was read.
//! - Parts are new and unnamed until the base is written; what no base names is erased only behind a base
//!   that this fold has written, since another fold may be about to name it.
//! - Former revisions, parts and texts are erased behind the head, and again by whoever folds these events
//!   again: the checkpoint moves on only when nothing is left.

pub(crate) mod checkpoint;
pub(crate) mod held;
pub(crate) mod page_writer;
pub(crate) mod schedule;
pub(crate) mod task;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::limits::{FOLD_SLICE_MAX_BYTES, FOLD_SLICE_PAGES_MAX, PAGE_ROWS, PAGE_SPILL_BYTES};
use crate::nats::Nats;
use crate::runtime::Clock;
use crate::storage::encoding::DecodeError;
use crate::storage::error::StorageError;
use crate::storage::fold::held::HoldReason;
use crate::storage::fold::page_writer::{PageWriter, Writing};
use crate::storage::fold::schedule::{Share, full_pages};
use crate::storage::kv::lease::Lease;
use crate::storage::layout::{PageKey, stream};
use crate::storage::records::{Row, Thread, row::Kind};
use crate::storage::timeline::Timeline;
use crate::storage::timeline::apply;
use crate::storage::timeline::overlay::{Overlay, UnfoldedEvent};
use crate::storage::timeline::page::{CORRUPT, Content, Page};

/// Attempts when another process folds the same room.
const ATTEMPTS: usize = 5;

/// Folds rooms.
pub(crate) struct Folder {
    nats: Nats,
    clock: Clock,
    overlay: Arc<Overlay>,
    timeline: Arc<Timeline>,
    epoch: Bytes,
    writer: PageWriter,
    /// One fold at a time in this process.
    turn: smol::lock::Mutex<()>,
}

/// A room was not folded.
#[derive(Debug)]
pub(crate) enum FoldError {
    /// The room is to be held; other rooms are folded.
    Hold(HoldReason),
    /// Other folds of this room were first at every attempt; other rooms are folded.
    Contended,
    /// The lease is over, or the store failed: nothing can be folded now.
    Storage(StorageError),
}

pub(crate) enum WriteError {
    /// Another fold was first.
    Conflict,
    Fold(FoldError),
}

impl<E: Into<StorageError>> From<E> for FoldError {
    fn from(error: E) -> Self {
        match error.into() {
            StorageError::Corrupt { source, .. } => Self::Hold(HoldReason::Page { source }),
            StorageError::Newer { .. } => {
                Self::Hold(HoldReason::Page { source: Some(DecodeError::UnknownFields) })
            }
            error => Self::Storage(error),
        }
    }
}

impl<E: Into<FoldError>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Fold(error.into())
    }
}

/// A page of a slice.
pub(crate) struct SlicePage {
    pub(crate) page: Page,
    pub(crate) changed: bool,
}

/// The pages of one slice, loaded when first touched.
#[derive(Default)]
pub(crate) struct SlicePages {
    pub(crate) pages: BTreeMap<PageKey, SlicePage>,
    bytes: usize,
}

impl SlicePages {
    /// Whether another event must wait for the next slice.
    fn is_full(&self) -> bool {
        self.pages.len() >= FOLD_SLICE_PAGES_MAX || self.bytes >= FOLD_SLICE_MAX_BYTES
    }

    fn get(&mut self, key: PageKey) -> Result<&mut SlicePage, StorageError> {
        self.pages.get_mut(&key).ok_or(CORRUPT)
    }
}

impl Folder {
    pub(crate) fn new(
        (nats, clock): (Nats, Clock),
        overlay: Arc<Overlay>,
        timeline: Arc<Timeline>,
        epoch: Bytes,
    ) -> Self {
        let writer = PageWriter::new(nats.clone(), epoch.clone());
        let turn = smol::lock::Mutex::new(());
        Self { nats, clock, overlay, timeline, epoch, writer, turn }
    }

    /// Folds the room's unfolded events, in slices. `checkpoint`: everything before this journal sequence
    /// was folded when this began. Without a lease it is compare-and-set alone that decides between two.
    ///
    /// # Errors
    /// [`FoldError`]; what was done so far stays done and is harmless to repeat.
    ///
    /// # Cancel safety
    /// May be dropped at any await.
    pub(crate) async fn fold(
        &self,
        room: &str,
        share: Share,
        lease: Option<&Lease>,
        checkpoint: u64,
    ) -> Result<(), FoldError> {
        let _alone = self.turn.lock().await;
        let tail = self.overlay.tail(room);
        let end = if share == Share::FullPages { full_pages(&tail) } else { tail.len() };
        let Some(upto) = tail.get(..end).and_then(<[UnfoldedEvent]>::last) else { return Ok(()) };
        let upto = upto.event.number;
        let mut conflicts = 0;
        loop {
            let mut tail = self.overlay.tail(room);
            tail.retain(|unfolded| unfolded.event.number <= upto);
            if tail.is_empty() {
                return Ok(());
            }
            match self.slice(room, &tail, lease, checkpoint).await {
                Ok(folded) => {
                    let dropped = self.overlay.drop_folded(room, folded, self.clock.now());
                    self.timeline.invalidate(&dropped);
                }
                Err(WriteError::Conflict) if conflicts < ATTEMPTS => conflicts += 1,
                Err(WriteError::Conflict) => return Err(FoldError::Contended),
                Err(WriteError::Fold(error)) => return Err(error),
            }
        }
    }

    /// Folds as many events as fit into one slice, at least one; returns the number of the last.
    async fn slice(
        &self,
        room: &str,
        tail: &[UnfoldedEvent],
        lease: Option<&Lease>,
        checkpoint: u64,
    ) -> Result<u64, WriteError> {
        let mut slice = SlicePages::default();
        self.load(room, &mut slice, PageKey::Head, checkpoint).await?;
        let mut next = slice.get(PageKey::Head)?.page.stamp.event_number.saturating_add(1);
        let mut last = None;
        for unfolded in tail {
            if last.is_some() && slice.is_full() {
                break;
            }
            // Events that the head contains are looked at again: what they made superfluous is erased.
            let readable = match check_next(unfolded, next) {
                Ok(()) => self.load_touched(room, &mut slice, unfolded, checkpoint).await,
                Err(reason) => Err(FoldError::Hold(reason)),
            };
            match readable {
                Ok(()) => {}
                // What comes before it is folded all the same.
                Err(FoldError::Hold(_)) if last.is_some() => break,
                Err(error) => return Err(error.into()),
            }
            apply_to(&mut slice, unfolded)?;
            slice.bytes += unfolded.bytes * 2;
            next = next.max(unfolded.event.number.saturating_add(1));
            last = Some(unfolded);
        }
        let Some(last) = last else { return Err(WriteError::Conflict) };
        self.move_long_threads(room, &mut slice).await?;
        let writing = Writing { writer: &self.writer, room, lease };
        writing.pages(&mut slice, last).await?;
        writing.erase(&slice).await?;
        Ok(last.event.number)
    }

    /// Loads every page that an event changes.
    async fn load_touched(
        &self,
        room: &str,
        slice: &mut SlicePages,
        unfolded: &UnfoldedEvent,
        checkpoint: u64,
    ) -> Result<(), FoldError> {
        for key in apply::touched(&unfolded.event) {
            self.load(room, slice, key, checkpoint).await?;
        }
        if let Some((root, reply)) = apply::thread_of(&unfolded.event) {
            let page = &mut slice.get(PageKey::Threads(apply::page(root)))?.page;
            let Content::Threads(threads) = &mut page.content else { return Err(CORRUPT.into()) };
            if threads.iter().any(|thread| thread.root_row == root && thread.moved) {
                let key = PageKey::Replies(root, apply::reply_page(reply));
                self.load(room, slice, key, checkpoint).await?;
            }
        }
        Ok(())
    }

    /// Loads a page into the slice; from the leader, as it is going to be replaced.
    async fn load(
        &self,
        room: &str,
        slice: &mut SlicePages,
        key: PageKey,
        checkpoint: u64,
    ) -> Result<(), FoldError> {
        if let Entry::Vacant(absent) = slice.pages.entry(key) {
            let mut page = self.timeline.load_to_replace(room, key).await?;
            let is_erased = page.stamp.epoch != self.epoch || page.stamp.upto < checkpoint;
            if is_erased {
                drop_erased_sequences(&mut page, &self.epoch);
            }
            slice.bytes += page.bytes;
            absent.insert(SlicePage { page, changed: false });
        }
        Ok(())
    }

    /// Threads of more than a page of replies, and the largest ones of a page that has grown too
    /// large, get pages of their own.
    async fn move_long_threads(
        &self,
        room: &str,
        slice: &mut SlicePages,
    ) -> Result<(), WriteError> {
        let moved_at = match &slice.get(PageKey::Head)?.page.content {
            Content::Head(head) => head.event_number,
            Content::Rows(_) | Content::Threads(_) => return Err(CORRUPT.into()),
        };
        for thread in long_threads(slice) {
            let mut pages: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
            for row in thread.replies {
                pages.entry(apply::reply_page(row.number)).or_default().push(row);
            }
            for (k, rows) in pages {
                let key = PageKey::Replies(thread.root_row, k);
                self.load(room, slice, key, 0).await?;
                let loaded = slice.get(key)?;
                // A page of a fold that was killed, or that moves the thread now and is ahead of this one, contains more.
                if loaded.page.stamp.event_number <= moved_at {
                    loaded.page.content = Content::Rows(rows);
                    loaded.changed = true;
                }
            }
        }
        Ok(())
    }

    /// Erases parts that no base names, of all pages: they are left by folds that were killed in rooms where nothing is
    /// folded again.
    ///
    /// # Cancel safety
    /// May be dropped at any await and repeated.
    pub(crate) async fn erase_orphaned_parts(
        &self,
        lease: Option<&Lease>,
    ) -> Result<(), StorageError> {
        for (room, key) in self.pages_with_parts().await? {
            let _alone = self.turn.lock().await;
            let mut slice = SlicePages::default();
            let cleaned = async {
                self.load(&room, &mut slice, key, 0).await?;
                if slice.get(key)?.page.has_unnamed_parts() {
                    let writing = Writing { writer: &self.writer, room: &room, lease };
                    writing.erase(&slice).await?;
                }
                Ok::<_, WriteError>(())
            };
            match cleaned.await {
                // Another fold has written the page: it erases them, or the next sweep does.
                Ok(()) | Err(WriteError::Conflict) => {}
                Err(WriteError::Fold(FoldError::Storage(error))) => return Err(error),
                Err(WriteError::Fold(FoldError::Contended)) => {}
                Err(WriteError::Fold(FoldError::Hold(reason))) => {
                    log::warn!(room = room, reason:err = reason; "a page cannot be cleaned up now");
                }
            }
        }
        Ok(())
    }

    /// Every page that has parts, named or not.
    async fn pages_with_parts(
        &self,
    ) -> Result<std::collections::BTreeSet<(String, PageKey)>, StorageError> {
        let mut pages = std::collections::BTreeSet::new();
        for filter in ["pages.*.r.*.*", "pages.*.t.*.*.*"] {
            for subject in self.nats.subjects(stream::PAGES, filter).await? {
                pages.extend(PageKey::of_part(&subject));
            }
        }
        Ok(pages)
    }
}

/// Whether an event may be applied where `next` is the number after the last applied one. Lower numbers are
/// contained already, and may be missing.
fn check_next(unfolded: &UnfoldedEvent, next: u64) -> Result<(), HoldReason> {
    if unfolded.event.number < next {
        return Ok(());
    }
    if unfolded.event.number > next {
        return Err(HoldReason::Missing { number: next });
    }
    if !unfolded.known {
        let source = DecodeError::UnknownFields;
        return Err(HoldReason::Event { sequence: unfolded.sequence, source });
    }
    Ok(())
}

/// Applies an event to its pages, which are loaded.
fn apply_to(slice: &mut SlicePages, unfolded: &UnfoldedEvent) -> Result<(), StorageError> {
    let event = &unfolded.event;
    let mut keys = apply::touched(event);
    keys.push(PageKey::Head);
    for key in keys {
        let loaded = slice.get(key)?;
        let fresh = event.number > loaded.page.stamp.event_number;
        match (key, &mut loaded.page.content) {
            (PageKey::Head, Content::Head(head)) if fresh => {
                head.apply(event);
                loaded.changed = true;
            }
            (PageKey::Rows(k), Content::Rows(rows)) if fresh => {
                apply::to_rows(k, rows, event, unfolded.sequence);
                loaded.changed = true;
            }
            (PageKey::Threads(_), Content::Threads(threads)) => {
                let Some((root, reply)) = apply::thread_of(event) else { continue };
                let Some(thread) = apply::thread(threads, root) else { continue };
                if fresh {
                    thread.count = thread.count.max(reply);
                    loaded.changed = true;
                }
                if thread.moved {
                    apply_to_replies(slice, root, reply, unfolded)?;
                } else if fresh {
                    apply::to_replies(root, &mut thread.replies, event, unfolded.sequence);
                }
            }
            (PageKey::Head, Content::Head(_)) | (PageKey::Rows(_), Content::Rows(_)) => {}
            _ => return Err(CORRUPT),
        }
    }
    Ok(())
}

/// Applies an event to the replies of a thread that has pages of its own.
fn apply_to_replies(
    slice: &mut SlicePages,
    root: u32,
    reply: u32,
    unfolded: &UnfoldedEvent,
) -> Result<(), StorageError> {
    let loaded = slice.get(PageKey::Replies(root, apply::reply_page(reply)))?;
    if unfolded.event.number > loaded.page.stamp.event_number {
        let Content::Rows(rows) = &mut loaded.page.content else { return Err(CORRUPT) };
        apply::to_replies(root, rows, &unfolded.event, unfolded.sequence);
        loaded.changed = true;
    }
    Ok(())
}

/// Takes the replies of threads that have outgrown their page.
fn long_threads(slice: &mut SlicePages) -> Vec<Thread> {
    let mut moved: Vec<Thread> = Vec::new();
    for loaded in slice.pages.values_mut().filter(|loaded| loaded.changed) {
        let Content::Threads(threads) = &mut loaded.page.content else { continue };
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
    moved
}

/// Sequences that an earlier fold has erased, or that belong to a former epoch's journal.
fn drop_erased_sequences(page: &mut Page, epoch: &Bytes) {
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
