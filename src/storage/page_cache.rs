//! Pages in memory, bounded in bytes: as stored, or with later events applied.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::layout::PageKey;
use super::overlay::{Dropped, Overlay};
use super::page::Page;
use crate::limits::PAGE_CACHE_MAX_BYTES;

/// The pages that were read last.
pub(super) struct PageCache {
    inner: Mutex<Inner>,
}

struct Inner {
    pages: LruCache<(String, PageKey), Arc<Page>>,
    bytes: usize,
}

impl PageCache {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::new(Inner { pages: LruCache::unbounded(), bytes: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept page, unless what a fold has put into it since is not among the unfolded events any more:
    /// between the two a reader would see neither.
    pub(super) fn get(&self, room: &str, key: PageKey, overlay: &Overlay) -> Option<Arc<Page>> {
        let page = self.lock().pages.get(&(room.to_owned(), key)).cloned()?;
        (page.stamp.event_number >= overlay.folded_number(room, key)).then_some(page)
    }

    /// Keeps a page unless a later state of it is kept, or a fold has replaced it meanwhile.
    pub(super) fn keep(&self, room: &str, key: PageKey, page: &Arc<Page>, overlay: &Overlay) {
        let mut inner = self.lock();
        let number = page.stamp.event_number;
        let id = (room.to_owned(), key);
        let is_later = |kept: &Arc<Page>| kept.stamp.event_number > number;
        if overlay.folded_number(room, key) <= number
            && !inner.pages.peek(&id).is_some_and(is_later)
        {
            inner.put(id, Arc::clone(page));
        }
    }

    /// Keeps a page whatever was kept of it.
    pub(super) fn replace(&self, room: &str, key: PageKey, page: &Arc<Page>) {
        self.lock().put((room.to_owned(), key), Arc::clone(page));
    }

    /// Forgets pages that folds have replaced. Rows that contain what was folded stay: the fold wrote
    /// nothing else. Threads may have moved.
    pub(super) fn forget(&self, dropped: &Dropped) {
        let mut inner = self.lock();
        for (room, key, number) in dropped {
            let id = (room.clone(), *key);
            let contains = |page: &Arc<Page>| page.stamp.event_number >= *number;
            if matches!(key, PageKey::Rows(_)) && inner.pages.peek(&id).is_some_and(contains) {
                continue;
            }
            if let Some(page) = inner.pages.pop(&id) {
                inner.bytes = inner.bytes.saturating_sub(page.bytes);
            }
        }
    }
}

impl Inner {
    fn put(&mut self, id: (String, PageKey), page: Arc<Page>) {
        self.bytes += page.bytes;
        if let Some(former) = self.pages.put(id, page) {
            self.bytes = self.bytes.saturating_sub(former.bytes);
        }
        while self.bytes > PAGE_CACHE_MAX_BYTES {
            let Some((_, oldest)) = self.pages.pop_lru() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
        }
    }
}
