//! Pages in memory, bounded in bytes: as stored, or with later events applied.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use crate::limits::PAGE_CACHE_MAX_BYTES;
use crate::storage::layout::PageKey;
use crate::storage::timeline::overlay::{Dropped, Overlay};
use crate::storage::timeline::page::Page;

/// The pages that were read last.
pub(crate) struct PageCache {
    inner: Mutex<Inner>,
}

struct Inner {
    pages: LruCache<(String, PageKey), Kept>,
    bytes: usize,
}

/// A page, and [`Overlay::erased_number`] from before it was read.
struct Kept {
    page: Arc<Page>,
    erased: u64,
}

impl PageCache {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner { pages: LruCache::unbounded(), bytes: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The kept page, unless what a fold has put into it since is not among the unfolded events any more:
    /// between the two a reader would see neither. Nor does it know an event that was erased before it came.
    pub(crate) fn get(&self, room: &str, key: PageKey, overlay: &Overlay) -> Option<Arc<Page>> {
        let (page, erased) = {
            let mut inner = self.lock();
            let kept = inner.pages.get(&(room.to_owned(), key))?;
            (Arc::clone(&kept.page), kept.erased)
        };
        let number = page.stamp.event_number;
        let (folded, erased_since) = overlay.folded_and_erased(room, key);
        let knows_erased = erased >= erased_since || number >= erased_since;
        (number >= folded && knows_erased).then_some(page)
    }

    /// Keeps a page unless a later state of it is kept, or a fold has replaced it meanwhile. `erased`: the
    /// room's [`Overlay::erased_number`] from before it was read.
    pub(crate) fn keep(
        &self,
        (room, key): (&str, PageKey),
        page: &Arc<Page>,
        overlay: &Overlay,
        erased: u64,
    ) {
        let mut inner = self.lock();
        let number = page.stamp.event_number;
        let id = (room.to_owned(), key);
        let is_later = |kept: &Kept| kept.page.stamp.event_number > number && kept.erased >= erased;
        if overlay.folded_number(room, key) <= number
            && !inner.pages.peek(&id).is_some_and(is_later)
        {
            inner.put(id, Kept { page: Arc::clone(page), erased });
        }
    }

    /// Keeps a page whatever was kept of it.
    pub(crate) fn replace(&self, room: &str, key: PageKey, page: &Arc<Page>, erased: u64) {
        self.lock().put((room.to_owned(), key), Kept { page: Arc::clone(page), erased });
    }

    /// Drops pages that folds have replaced. Rows that contain what was folded stay: the fold wrote
    /// nothing else. Threads may have moved.
    pub(crate) fn invalidate(&self, dropped: &Dropped) {
        let mut inner = self.lock();
        for (room, key, number) in dropped {
            let id = (room.clone(), *key);
            let contains = |kept: &Kept| kept.page.stamp.event_number >= *number;
            if matches!(key, PageKey::Rows(_)) && inner.pages.peek(&id).is_some_and(contains) {
                continue;
            }
            if let Some(kept) = inner.pages.pop(&id) {
                inner.bytes = inner.bytes.saturating_sub(kept.page.bytes);
            }
        }
    }
}

impl Inner {
    fn put(&mut self, id: (String, PageKey), kept: Kept) {
        self.bytes += kept.page.bytes;
        if let Some(former) = self.pages.put(id, kept) {
            self.bytes = self.bytes.saturating_sub(former.page.bytes);
        }
        while self.bytes > PAGE_CACHE_MAX_BYTES {
            let Some((_, oldest)) = self.pages.pop_lru() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.page.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::Clock;
    use crate::storage::records::{Event, RowPage, Stamp};
    use crate::storage::timeline::overlay::UnfoldedEvent;
    use crate::storage::timeline::page::Content;

    fn page(event_number: u64) -> Arc<Page> {
        Arc::new(Page {
            sequence: 1,
            stamp: Stamp { event_number, ..Stamp::default() },
            content: Content::Rows(Vec::new()),
            base: RowPage::default(),
            parts: Vec::new(),
            bytes: 100,
        })
    }

    #[test]
    fn a_page_that_was_read_before_an_event_was_erased_unseen_is_read_again() {
        let (overlay, cache, clock) = (Overlay::new(), PageCache::new(), Clock::system());
        let (key, other) = (PageKey::Rows(0), PageKey::Rows(1));
        let push = |number| {
            let event = Arc::new(Event { number, ..Event::default() });
            let at = clock.now();
            overlay.push("R", UnfoldedEvent { sequence: number, event, bytes: 1, at, known: true });
        };
        push(1);
        cache.keep(("R", key), &page(1), &overlay, overlay.erased_number("R"));
        push(2);
        assert!(cache.get("R", key, &overlay).is_some(), "what came since is unfolded");
        // Another process has folded the third event, which removed a text, and erased it.
        let before = overlay.erased_number("R");
        push(4);
        assert_eq!((before, overlay.erased_number("R")), (0, 3));
        assert!(cache.get("R", key, &overlay).is_none());
        cache.keep(("R", other), &page(1), &overlay, before);
        assert!(cache.get("R", other, &overlay).is_none(), "its read began before");
        // Read again: the third event touched the one, not the other.
        for (key, number) in [(key, 3), (other, 1)] {
            cache.keep(("R", key), &page(number), &overlay, overlay.erased_number("R"));
            assert!(cache.get("R", key, &overlay).is_some());
        }
        overlay.drop_folded("R", 4, clock.now() + Duration::from_secs(1));
        push(5);
        assert_eq!(overlay.erased_number("R"), 3, "no event is missing after a fold");
    }
}
