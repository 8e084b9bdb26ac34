//! The files of a room's messages, in a list.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::attachments::Attachments;
use super::rights::readable_room;
use super::timeline::Timeline;
use super::{Page, PageRequest, ReadError, RoomFileView, Session};
use crate::domain::{AssetId, EventId, File, FileGroup, FileState, RoomId};
use crate::limits::{TIMELINE_PAGE_DEFAULT, TIMELINE_PAGE_MAX};
use crate::storage::{Storage, StorageError, UnreadableFile};

/// The files of rooms.
#[derive(Clone, Copy)]
pub struct RoomFiles<'a> {
    pub(super) storage: &'a Storage,
    pub(super) timeline: Timeline<'a>,
    pub(super) attachments: Attachments<'a>,
}

impl RoomFiles<'_> {
    /// The files of a room's messages, those of the newest message first and in its order; a message that was deleted
    /// a moment ago is left out, so a page may be short. Replies are listed at their thread's root. A larger limit than
    /// we serve is clamped.
    ///
    /// There is no index: it reads the records of the room's files, about 300 bytes each, and keeps of them two ids
    /// for each entry up to the end of the page.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room, [`ReadError::Denied`] for others than members.
    pub async fn list(
        self,
        session: &Session,
        room: &str,
        page: PageRequest,
    ) -> Result<Page<RoomFileView>, ReadError> {
        let id = readable_room(self.storage, session, room)?;
        let limit = if page.limit == 0 { TIMELINE_PAGE_DEFAULT } else { page.limit };
        let end = page.offset.saturating_add(limit.min(TIMELINE_PAGE_MAX));
        let (newest, total) = self.newest(id, end).await?;
        let mut items = Vec::new();
        let mut start = 0_usize;
        for of_message in newest.chunk_by(|(one, _), (other, _)| one == other) {
            let (first, last) = (start, start.saturating_add(of_message.len()));
            start = last;
            let Some((message, _)) = of_message.first().filter(|_| last > page.offset) else {
                continue;
            };
            let message = match self.timeline.message(session, room, message.as_str()).await {
                Ok(message) => message,
                Err(ReadError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            let before = page.offset.saturating_sub(first);
            let files = message.attachments.into_iter().take(of_message.len()).skip(before);
            items.extend(files.map(|file| RoomFileView {
                file,
                message: message.id,
                thread_root: message.thread_root,
                posted_ms: message.created_ms,
            }));
        }
        Ok(Page { items, total, has_more: end < total })
    }

    /// The first `count` files of the list with their messages, and how many there are in all.
    async fn newest(
        self,
        room: RoomId,
        count: usize,
    ) -> Result<(Vec<(EventId, AssetId)>, usize), StorageError> {
        let mut newest = Newest { count, total: 0, entries: BinaryHeap::new() };
        let mut reserved: HashMap<String, (i64, Vec<AssetId>)> = HashMap::new();
        let mut unreadable = None;
        let collect = |file: Result<File, UnreadableFile>| match file {
            Err(error) => unreadable = Some(error),
            Ok(file) if file.room != Some(room) => {}
            Ok(file) => match file.state {
                FileState::Attached(message) => newest.add(message, file.id),
                FileState::Reserved { request, at_ms } => {
                    let (since, ids) = reserved.entry(request).or_insert((at_ms, Vec::new()));
                    *since = at_ms.min(*since);
                    ids.push(file.id);
                }
                _ => {}
            },
        };
        self.storage.files().each_of_group(FileGroup::of(&room), collect).await?;
        if let Some(error) = unreadable {
            log::warn!(error:err = error; "the record of a file cannot be read; it is in no list of a room's files");
        }
        // A message is shown a moment before its files are noted as attached.
        for (request, (since, ids)) in reserved {
            if let Some(message) = self.attachments.message_of(room, &request, since).await? {
                ids.into_iter().for_each(|id| newest.add(message, id));
            }
        }
        let entries = newest.entries.into_sorted_vec();
        Ok((entries.into_iter().map(|Reverse(one)| one).collect(), newest.total))
    }
}

/// The newest files of messages, and how many there are in all.
struct Newest {
    count: usize,
    total: usize,
    entries: BinaryHeap<Reverse<(EventId, AssetId)>>,
}

impl Newest {
    fn add(&mut self, message: EventId, file: AssetId) {
        self.total = self.total.saturating_add(1);
        self.entries.push(Reverse((message, file)));
        if self.entries.len() > self.count {
            self.entries.pop();
        }
    }
}
