//! A stored page: its records put together, whatever they hold.

use crate::nats::{ReadPurpose, StoredMessage};
use crate::storage::encoding::{DecodeError, decode, decode_known};
use crate::storage::error::StorageError;
use crate::storage::layout::PageKey;
use crate::storage::records::{Head, Part, Row, RowPage, Stamp, Thread, ThreadPage};
use crate::storage::timeline::head::RoomHead;
use crate::storage::timeline::parts::{self, StoredPart};

/// What a stored page holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Head(RoomHead),
    Rows(Vec<Row>),
    Threads(Vec<Thread>),
}

/// A page as read from the store; `sequence` 0: there is none yet.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) sequence: u64,
    pub(crate) stamp: Stamp,
    pub(crate) content: Content,
    pub(crate) base: RowPage,
    pub(crate) parts: Vec<StoredPart>,
    /// About what it takes in memory.
    pub(crate) bytes: usize,
}

impl Page {
    /// The parts that its base names.
    pub(crate) fn named_parts(&self) -> Vec<&StoredPart> {
        self.parts.iter().filter(|part| self.base.parts.contains(&part.number)).collect()
    }

    /// Whether it is a thread page that says that the replies to a root row lie in pages of their own.
    pub(crate) fn has_moved(&self, root: u32) -> bool {
        let Content::Threads(threads) = &self.content else { return false };
        threads.iter().any(|thread| thread.root_row == root && thread.moved)
    }

    /// Whether there are parts that its base does not name: of a fold that lost, died, or is under way.
    pub(crate) fn has_unnamed_parts(&self) -> bool {
        self.parts.iter().any(|part| !self.base.parts.contains(&part.number))
    }
}

/// Fields of a newer program are passed over where they are shown, and refused where they would be lost with a change.
fn decode_for<R: prost::Message + Default>(
    purpose: ReadPurpose,
    bytes: &[u8],
) -> Result<R, DecodeError> {
    match purpose {
        ReadPurpose::Show => decode(bytes),
        ReadPurpose::Change => decode_known(bytes),
    }
}

/// Something of PAGES is not what it must be.
pub(crate) const CORRUPT: StorageError = StorageError::Corrupt { what: "PAGES", source: None };

/// The base record of a page with parts; of others an empty one.
pub(crate) fn base_of(key: PageKey, base: &StoredMessage) -> Result<RowPage, StorageError> {
    if key.has_parts() && !base.is_tombstone() {
        decode(&base.payload).map_err(StorageError::corrupt("PAGES"))
    } else {
        Ok(RowPage::default())
    }
}

/// Puts a page together from messages; `None` when parts are missing. No base: an empty page.
pub(crate) fn assemble(
    room: &str,
    key: PageKey,
    messages: &[StoredMessage],
    purpose: ReadPurpose,
) -> Result<Option<Page>, StorageError> {
    let corrupt = StorageError::corrupt("PAGES");
    let subject = key.subject(room);
    let empty = match key {
        PageKey::Head => Content::Head(RoomHead::default()),
        PageKey::Threads(_) => Content::Threads(Vec::new()),
        PageKey::Rows(_) | PageKey::Replies(..) => Content::Rows(Vec::new()),
    };
    let mut page = Page {
        sequence: 0,
        stamp: Stamp::default(),
        content: empty,
        base: RowPage::default(),
        parts: Vec::new(),
        bytes: 256,
    };
    let Some(base) = messages.iter().find(|message| message.subject == subject) else {
        return Ok(Some(page));
    };
    page.sequence = base.sequence;
    page.bytes += base.payload.len() * 2;
    match key {
        PageKey::Head => {
            let head: Head = decode_for(purpose, &base.payload).map_err(corrupt)?;
            page.stamp = head.stamp.clone().unwrap_or_default();
            page.content = Content::Head(RoomHead::from_record(head));
        }
        PageKey::Threads(_) => {
            let threads: ThreadPage = decode_for(purpose, &base.payload).map_err(corrupt)?;
            page.stamp = threads.stamp.unwrap_or_default();
            page.content = Content::Threads(threads.threads);
        }
        PageKey::Rows(_) | PageKey::Replies(..) => {
            let base: RowPage = decode_for(purpose, &base.payload).map_err(&corrupt)?;
            let prefix = format!("{subject}.");
            for message in messages {
                let part = message.subject.strip_prefix(&prefix).and_then(|n| n.parse().ok());
                let Some(number) = part else { continue };
                page.bytes += message.payload.len() * 2;
                page.parts.push(StoredPart {
                    number,
                    sequence: message.sequence,
                    payload: message.payload.clone(),
                });
            }
            if purpose == ReadPurpose::Change {
                let named = page.parts.iter().filter(|part| base.parts.contains(&part.number));
                for part in named {
                    decode_known::<Part>(&part.payload).map_err(&corrupt)?;
                }
            }
            let Some(rows) = parts::join(&base, &page.parts)? else { return Ok(None) };
            page.stamp = base.stamp.clone().unwrap_or_default();
            page.content = Content::Rows(rows);
            page.base = RowPage { rows: Vec::new(), ..base };
        }
    }
    Ok(Some(page))
}
