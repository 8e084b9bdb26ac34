//! Reading timelines: pages from the store or the cache, with the unfolded events applied.

pub(crate) mod apply;
pub(crate) mod head;
mod holes;
pub(crate) mod overlay;
pub(crate) mod page;
pub(crate) mod page_cache;
pub(crate) mod parts;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::domain::EventId;
use crate::limits::{NATS_REQUEST_TIMEOUT, PAGE_ROWS, ROWS_READ_MAX};
use crate::nats::{BatchRead, Nats, ReadPurpose, WritesRefused};
use crate::runtime::Clock;
use crate::storage::error::StorageError;
use crate::storage::feed::{Position, SHORT_LIMIT};
use crate::storage::layout::{PageKey, journal_subject, stream};
use crate::storage::records::{Row, RowPage, row::Kind};
use crate::storage::timeline::head::{NEWEST_MAX, RoomHead, live_message};
use crate::storage::timeline::holes::{Found, Holes};
use crate::storage::timeline::overlay::{Completed, Dropped, Overlay, REMEMBER, UnfoldedEvent};
use crate::storage::timeline::page::{CORRUPT, Content, Page, assemble, base_of};
use crate::storage::timeline::page_cache::PageCache;

/// Rows that are read at a time in search of a message.
const SEARCH_ROWS: u32 = 4 * PAGE_ROWS;

/// Reads timelines of all rooms.
pub(crate) struct Timeline {
    pub(crate) nats: Nats,
    pub(crate) overlay: Arc<Overlay>,
    position: Position,
    clock: Clock,
    opened: Instant,
    cache: PageCache,
    /// Direct gets may come from a lagging replica.
    pub(crate) replicated: bool,
    /// Whose pages name sequences of the present journal.
    epoch: Bytes,
    /// Where something that must be there was not: nats-server silently drops damaged blocks.
    holes: Holes,
}

impl Timeline {
    pub(crate) fn new(
        (nats, clock): (Nats, Clock),
        overlay: Arc<Overlay>,
        position: Position,
        (replicated, epoch): (bool, Bytes),
    ) -> Self {
        let (opened, holes, cache) = (clock.now(), Holes::default(), PageCache::new());
        Self { nats, overlay, position, clock, opened, cache, replicated, epoch, holes }
    }

    /// Whether reads have found a hole in the store, and none has found it filled since.
    pub(crate) fn is_damaged(&self) -> bool {
        self.holes.is_damage()
    }

    /// Notes that something is missing; never an empty chat instead of an error. With replicas the error is transient
    /// for [`SHORT_LIMIT`], and without quorum, because the one that was read may lag.
    pub(crate) fn hole(&self, room: &str, key: PageKey, what: &'static str) -> StorageError {
        if self.nats.is_refusing(WritesRefused::NoQuorum) {
            return StorageError::LATE;
        }
        let limit = if self.replicated { SHORT_LIMIT } else { Duration::ZERO };
        match self.holes.found((room.to_owned(), key), self.clock.now(), limit) {
            Found::Suspected => {
                log::debug!(room = room, missing = what; "stored messages are missing now");
                return StorageError::LATE;
            }
            Found::Damage { first: true } => log::error!(
                room = room, missing = what;
                "the store is damaged: stored messages are missing; restore a backup"
            ),
            Found::Damage { first: false } => {}
        }
        StorageError::Corrupt { what, source: None }
    }

    /// Takes back what [`Self::hole`] has noted of a place.
    pub(crate) fn filled(&self, room: &str, key: PageKey) {
        if self.holes.filled(room, key) {
            log::info!(room = room; "the stored messages that were missing are there");
        }
    }

    /// The room's head as of now.
    pub(crate) async fn head(&self, room: &str) -> Result<Arc<RoomHead>, StorageError> {
        let head = self.known_head(room).await?;
        if head.lacks_newest() { Box::pin(self.refill(room, &head)).await } else { Ok(head) }
    }

    async fn known_head(&self, room: &str) -> Result<Arc<RoomHead>, StorageError> {
        match self.overlay.cached_head(room) {
            Some(head) => Ok(head),
            None => self.read_head(room, self.replicated_read(room, PageKey::Head)).await,
        }
    }

    /// Reads the head past every cache; `leader`: not from a replica that may lag.
    pub(crate) async fn read_head(
        &self,
        room: &str,
        leader: bool,
    ) -> Result<Arc<RoomHead>, StorageError> {
        let mut had_gap = false;
        for leader in [leader, true] {
            let page = self.load(room, PageKey::Head, leader).await?;
            if page.sequence == 0 && self.lost_its_head(room).await? {
                return Err(self.hole(room, PageKey::Head, "PAGES"));
            }
            let Content::Head(head) = page.content else { return Err(CORRUPT) };
            match self.overlay.complete_head(room, head) {
                Completed::Head(head) => return Ok(head),
                Completed::Gap if had_gap => return Err(self.hole(room, PageKey::Head, "JOURNAL")),
                // A lagging replica, or a fold that has written the head since.
                Completed::Gap => had_gap = true,
                Completed::Outdated => {}
            }
        }
        Err(StorageError::LATE)
    }

    /// Whether a room without a head page must have one: its journal holds an event that is no longer
    /// among the unfolded ones.
    async fn lost_its_head(&self, room: &str) -> Result<bool, StorageError> {
        let subject = journal_subject(room);
        let Some(last) = self.nats.newest(stream::JOURNAL, &subject).await? else {
            return Ok(false);
        };
        // An event that cannot be read is not among the unfolded ones, nor is any after it.
        if last.sequence > self.position.reached()
            || !self.overlay.tail(room).is_empty()
            || self.overlay.is_blocked(room)
        {
            return Ok(false);
        }
        // A fold may have written it since it was looked for.
        Ok(self.load(room, PageKey::Head, true).await?.sequence == 0)
    }

    /// Root rows `from..to`, in order; at most [`ROWS_READ_MAX`].
    pub(crate) async fn rows(
        &self,
        room: &str,
        from: u32,
        to: u32,
    ) -> Result<Vec<Row>, StorageError> {
        let to = to.min(from.saturating_add(ROWS_READ_MAX));
        // The head first: what it counts is in the pages or in the tail that is taken after it.
        let head = self.head(room).await?;
        let to = to.min(head.rows);
        if from >= to {
            return Ok(Vec::new());
        }
        // The tail first: a fold that happens meanwhile then only makes pages newer.
        let tail = self.overlay.tail(room);
        let keys: Vec<_> = (from / PAGE_ROWS..=(to - 1) / PAGE_ROWS).map(PageKey::Rows).collect();
        let mut rows = self.present(room, &keys, &tail, from..to).await?;
        // Rows are numbered without gaps.
        let wanted = usize::try_from(to - from).unwrap_or(usize::MAX);
        if rows.len() != wanted && self.replicated {
            // A lagging replica, perhaps.
            for key in &keys {
                self.reload(room, *key).await?;
            }
            rows = self.present(room, &keys, &tail, from..to).await?;
        }
        let place = PageKey::Rows(from / PAGE_ROWS);
        if rows.len() != wanted {
            return Err(self.hole(room, place, "PAGES"));
        }
        self.filled(room, place);
        for row in &mut rows {
            row.at_ms = head.shown_ms(row.number, row.at_ms);
        }
        Ok(rows)
    }

    /// Replies `from..to` of a thread (numbers from 1), in order; at most [`ROWS_READ_MAX`].
    pub(crate) async fn replies(
        &self,
        room: &str,
        root: u32,
        from: u32,
        to: u32,
    ) -> Result<Vec<Row>, StorageError> {
        let (from, to) = (from.max(1), to.min(from.saturating_add(ROWS_READ_MAX)));
        if from >= to {
            return Ok(Vec::new());
        }
        // The root first: the replies it counts are in the thread or in the tail that is taken after it.
        let to = to.min(self.replies_made(room, root).await?.saturating_add(1));
        if from >= to {
            return Ok(Vec::new());
        }
        // And then the head, which knows of every correction before those replies.
        let head = self.head(room).await?;
        let tail = self.overlay.tail(room);
        let mut replies = self.present_replies(room, root, from..to, &tail).await?;
        // Replies are numbered without gaps.
        let wanted = usize::try_from(to - from).unwrap_or(usize::MAX);
        if replies.len() != wanted && self.replicated {
            // A lagging replica, perhaps.
            let key = PageKey::Threads(apply::page(root));
            if self.reload(room, key).await?.has_moved(root) {
                for k in apply::reply_page(from)..=apply::reply_page(to - 1) {
                    self.reload(room, PageKey::Replies(root, k)).await?;
                }
            }
            replies = self.present_replies(room, root, from..to, &tail).await?;
        }
        let place = PageKey::Replies(root, apply::reply_page(from));
        if replies.len() != wanted {
            return Err(self.hole(room, place, "PAGES"));
        }
        self.filled(room, place);
        for reply in &mut replies {
            reply.at_ms = head.reply_shown_ms(reply);
        }
        Ok(replies)
    }

    /// The number of the newest reply to a root row; 0: there is none.
    async fn replies_made(&self, room: &str, root: u32) -> Result<u32, StorageError> {
        let rows = self.rows(room, root, root.saturating_add(1)).await?;
        let made = rows.first().and_then(|row| match row.kind.as_ref()? {
            Kind::Message(message) => message.thread.as_ref().map(|thread| thread.made),
            Kind::Fact(_) | Kind::Echo(_) => None,
        });
        Ok(made.unwrap_or(0))
    }

    /// The wanted replies of a thread as of now, in order.
    async fn present_replies(
        &self,
        room: &str,
        root: u32,
        wanted: Range<u32>,
        tail: &[UnfoldedEvent],
    ) -> Result<Vec<Row>, StorageError> {
        let key = PageKey::Threads(apply::page(root));
        let pages = self.pages(room, &[key]).await?;
        let page = pages.first().ok_or(CORRUPT)?;
        if page.has_moved(root) {
            let (first, last) =
                (apply::reply_page(wanted.start), apply::reply_page(wanted.end - 1));
            let keys: Vec<_> = (first..=last).map(|k| PageKey::Replies(root, k)).collect();
            return self.present(room, &keys, tail, wanted).await;
        }
        let Content::Threads(threads) = &page.content else { return Err(CORRUPT) };
        let stored = threads.iter().find(|thread| thread.root_row == root);
        let mut replies = stored.map(|thread| thread.replies.clone()).unwrap_or_default();
        for unfolded in pending(tail, key, page) {
            apply::to_replies(root, &mut replies, &unfolded.event, unfolded.sequence);
        }
        replies.retain(|row| wanted.contains(&row.number));
        Ok(replies)
    }

    /// Reads a page from the leader and keeps it in place of what a replica answered.
    async fn reload(&self, room: &str, key: PageKey) -> Result<Arc<Page>, StorageError> {
        let erased = self.overlay.erased_number(room);
        let page = Arc::new(self.load(room, key, true).await?);
        self.cache.replace(room, key, &page, erased);
        Ok(page)
    }

    /// The row with this id: a root row, or a reply.
    pub(crate) async fn row(&self, room: &str, id: &EventId) -> Result<Option<Row>, StorageError> {
        let (row, reply) = (id.row(), id.reply());
        let rows = if reply == 0 {
            self.rows(room, row, row.saturating_add(1)).await?
        } else {
            self.replies(room, row, reply, reply.saturating_add(1)).await?
        };
        Ok(rows.into_iter().find(|row| row.id == id.as_str()))
    }

    /// The wanted rows of pages as of now, in order.
    async fn present(
        &self,
        room: &str,
        keys: &[PageKey],
        tail: &[UnfoldedEvent],
        wanted: Range<u32>,
    ) -> Result<Vec<Row>, StorageError> {
        let mut rows = Vec::new();
        // Behind the tail: what it lacks because it was erased is in the pages that are read from now on.
        let erased = self.overlay.erased_number(room);
        for (key, page) in keys.iter().zip(self.pages(room, keys).await?) {
            let page = self.present_page((room, *key), page, tail, erased)?;
            let Content::Rows(stored) = &page.content else { return Err(CORRUPT) };
            rows.extend(stored.iter().filter(|row| wanted.contains(&row.number)).cloned());
        }
        Ok(rows)
    }

    /// A page of rows with the unfolded events applied, which the next reader need not do again.
    fn present_page(
        &self,
        (room, key): (&str, PageKey),
        page: Arc<Page>,
        tail: &[UnfoldedEvent],
        erased: u64,
    ) -> Result<Arc<Page>, StorageError> {
        let events: Vec<_> = pending(tail, key, &page).collect();
        if events.is_empty() {
            return Ok(page);
        }
        let Content::Rows(stored) = &page.content else { return Err(CORRUPT) };
        let (mut rows, mut bytes, mut stamp) = (stored.clone(), page.bytes, page.stamp.clone());
        for unfolded in events {
            match key {
                PageKey::Rows(k) => {
                    apply::to_rows(k, &mut rows, &unfolded.event, unfolded.sequence)
                }
                PageKey::Replies(root, _) => {
                    apply::to_replies(root, &mut rows, &unfolded.event, unfolded.sequence);
                }
                PageKey::Head | PageKey::Threads(_) => return Err(CORRUPT),
            }
            bytes += unfolded.bytes * 2;
            stamp.event_number = unfolded.event.number;
        }
        let content = Content::Rows(rows);
        let sequence = page.sequence;
        let page =
            Page { sequence, stamp, content, base: RowPage::default(), parts: Vec::new(), bytes };
        let page = Arc::new(page);
        self.cache.keep((room, key), &page, &self.overlay, erased);
        Ok(page)
    }

    /// Finds the newest messages again for a head that knows none although there may be some: more were
    /// deleted in a row than it remembers. Costs a read of every page back to the newest message; the
    /// result is kept with the head.
    async fn refill(&self, room: &str, head: &RoomHead) -> Result<Arc<RoomHead>, StorageError> {
        let tail = self.overlay.tail(room);
        let mut newest = VecDeque::new();
        let mut end = head.rows;
        while end > 0 && newest.len() < NEWEST_MAX {
            let start = end.saturating_sub(1) / SEARCH_ROWS * SEARCH_ROWS;
            let keys: Vec<_> =
                (apply::page(start)..=apply::page(end - 1)).map(PageKey::Rows).collect();
            let rows = self.present(room, &keys, &tail, start..end).await?;
            let live = rows.iter().rev().filter_map(live_message);
            for found in live.take(NEWEST_MAX - newest.len()) {
                newest.push_front(found);
            }
            end = start;
        }
        Ok(self.overlay.refill_head(room, head, newest.into()))
    }

    /// Drops cached pages that later folds have replaced.
    pub(crate) fn invalidate(&self, dropped: &Dropped) {
        self.cache.invalidate(dropped);
    }

    /// Whether a replica that lags would be taken for the present: what was folded a moment ago, by this
    /// process or before it came, is not on all of them yet.
    fn replicated_read(&self, room: &str, key: PageKey) -> bool {
        let is_young = || self.clock.now().saturating_duration_since(self.opened) < REMEMBER;
        let was_folded =
            || self.overlay.folded_number(room, key) > 0 || self.overlay.erased_number(room) > 0;
        self.replicated && (was_folded() || is_young())
    }

    async fn pages(&self, room: &str, keys: &[PageKey]) -> Result<Vec<Arc<Page>>, StorageError> {
        let erased = self.overlay.erased_number(room);
        let mut found: HashMap<PageKey, Arc<Page>> = HashMap::new();
        let mut missing = Vec::new();
        for key in keys {
            match self.cache.get(room, *key, &self.overlay) {
                Some(page) => {
                    found.insert(*key, page);
                }
                None => missing.push(*key),
            }
        }
        if !missing.is_empty() {
            for (key, page) in self.load_many(room, &missing).await? {
                let page = Arc::new(page);
                self.cache.keep((room, key), &page, &self.overlay, erased);
                found.insert(key, page);
            }
        }
        keys.iter().map(|key| found.get(key).cloned().ok_or(CORRUPT)).collect()
    }

    async fn load_many(
        &self,
        room: &str,
        keys: &[PageKey],
    ) -> Result<Vec<(PageKey, Page)>, StorageError> {
        let mut pages = Vec::with_capacity(keys.len());
        let mut subjects = Vec::with_capacity(keys.len() * 2);
        for key in keys {
            if self.replicated_read(room, *key) {
                pages.push((*key, self.load(room, *key, true).await?));
                continue;
            }
            subjects.push(key.subject(room));
            if key.has_parts() {
                subjects.push(format!("{}.*", key.subject(room)));
            }
        }
        if subjects.is_empty() {
            return Ok(pages);
        }
        let batch = self.nats.read(stream::PAGES, BatchRead::Newest(&subjects)).await?;
        for key in keys {
            if pages.iter().any(|(known, _)| known == key) {
                continue;
            }
            let page = match assemble(room, *key, &batch.messages, ReadPurpose::Show)? {
                Some(page) if self.overlay.folded_number(room, *key) <= page.stamp.event_number => {
                    self.let_feed_pass(&page).await?;
                    page
                }
                // Folded meanwhile, or parts of two instants.
                _ => self.load(room, *key, true).await?,
            };
            pages.push((*key, page));
        }
        Ok(pages)
    }

    /// Reads one page past every cache, to show it; `leader`: not from a replica that may lag.
    pub(crate) async fn load(
        &self,
        room: &str,
        key: PageKey,
        leader: bool,
    ) -> Result<Page, StorageError> {
        self.load_for(ReadPurpose::Show, room, key, leader).await
    }

    /// Reads one page from the leader, to replace it. Its parts include those that its base does not name.
    ///
    /// # Errors
    /// [`StorageError::Newer`] when it has fields that this program does not know.
    pub(crate) async fn load_to_replace(
        &self,
        room: &str,
        key: PageKey,
    ) -> Result<Page, StorageError> {
        self.load_for(ReadPurpose::Change, room, key, true).await
    }

    async fn load_for(
        &self,
        purpose: ReadPurpose,
        room: &str,
        key: PageKey,
        leader: bool,
    ) -> Result<Page, StorageError> {
        let subject = key.subject(room);
        for _ in 0..3 {
            let leader = leader && self.replicated;
            let mut subjects = Vec::new();
            if !leader {
                subjects.push(subject.clone());
            }
            if key.has_parts() {
                subjects.push(format!("{subject}.*"));
            }
            let mut messages = Vec::new();
            if !subjects.is_empty() {
                let batch = self.nats.read(stream::PAGES, BatchRead::Newest(&subjects)).await?;
                messages = batch.messages;
            }
            let newest =
                async |subject: &str| self.nats.newest_for(purpose, stream::PAGES, subject).await;
            if leader && let Some(base) = newest(&subject).await? {
                // A part is never written twice: one that a replica has is right. What it lacks the leader has.
                for part in base_of(key, &base)?.parts {
                    let part = format!("{subject}.{part}");
                    if !messages.iter().any(|message| message.subject == part) {
                        messages.extend(newest(&part).await?);
                    }
                }
                messages.push(base);
            }
            if let Some(page) = assemble(room, key, &messages, purpose)? {
                if purpose == ReadPurpose::Show {
                    self.let_feed_pass(&page).await?;
                }
                return Ok(page);
            }
        }
        Err(CORRUPT)
    }

    /// Waits until this process's feed has passed what a page contains. Another process may have folded
    /// messages for which STATE is not known here yet: they would be shown with the rights of before.
    async fn let_feed_pass(&self, page: &Page) -> Result<(), StorageError> {
        if page.stamp.epoch != self.epoch || page.stamp.upto <= self.position.reached() {
            return Ok(());
        }
        self.position.wait_for(page.stamp.upto, NATS_REQUEST_TIMEOUT, &self.clock).await
    }
}

/// The unfolded events that a page lacks, in order.
fn pending<'a>(
    tail: &'a [UnfoldedEvent],
    key: PageKey,
    page: &Page,
) -> impl Iterator<Item = &'a UnfoldedEvent> {
    let after = page.stamp.event_number;
    tail.iter().filter(move |unfolded| {
        unfolded.event.number > after
            && match key {
                PageKey::Replies(root, k) => apply::thread_of(&unfolded.event)
                    .is_some_and(|(of, reply)| of == root && apply::reply_page(reply) == k),
                key => apply::touched(&unfolded.event).contains(&key),
            }
    })
}
