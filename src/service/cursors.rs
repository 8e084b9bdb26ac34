//! Cursors, opaque to clients: of a row in a timeline, authenticated for one viewer and one room; and of a
//! connection that resumes, sealed for its viewer, good for 24 hours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::rights::ViewerRights;
use super::{ReadError, Session, millis};
use crate::crypto::{DataKey, MacKey};
use crate::domain::{RoomId, UserId};
use crate::limits::RESUME_CURSOR_TTL;
use crate::runtime::Clock;
use crate::storage::{FeedPosition, Storage};

const ROW_BYTES: usize = 4;
/// 128 bits of the code are plenty for a position that is checked again at every use.
const MAC_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// Epoch (first 8 bytes), journal, STATE, rights, time of making: five numbers of 8 bytes.
const PLAIN_BYTES: usize = 40;
const TAG_BYTES: usize = 16;

/// A fingerprint of everything that is decided for a viewer: when it changes, what the viewer was
/// sent under the former one is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RightsFingerprint([u8; 8]);

/// The cursors of rows.
#[derive(Clone, Copy)]
pub(super) struct RowCursors<'a> {
    pub(super) key: &'a MacKey,
}

impl RowCursors<'_> {
    /// The position of a row.
    pub(super) fn seal(&self, viewer: UserId, room: RoomId, row: u32) -> String {
        let row = row.to_be_bytes();
        let mac = self.mac(viewer, room, row);
        BASE64.encode([row.as_slice(), &mac].concat())
    }

    /// The row of a position that was made for this viewer and room.
    pub(super) fn open(
        &self,
        viewer: UserId,
        room: RoomId,
        cursor: &str,
    ) -> Result<u32, ReadError> {
        if cursor.len() > 2 * (ROW_BYTES + MAC_BYTES) {
            return Err(ReadError::Cursor);
        }
        let bytes = BASE64.decode(cursor).map_err(|_| ReadError::Cursor)?;
        let (row, mac) = bytes.split_at_checked(ROW_BYTES).ok_or(ReadError::Cursor)?;
        let row: [u8; ROW_BYTES] = row.try_into().map_err(|_| ReadError::Cursor)?;
        // The code is no secret that could be guessed byte by byte: it gives no access by itself.
        if mac != self.mac(viewer, room, row) {
            return Err(ReadError::Cursor);
        }
        Ok(u32::from_be_bytes(row))
    }

    fn mac(&self, viewer: UserId, room: RoomId, row: [u8; ROW_BYTES]) -> [u8; MAC_BYTES] {
        let bound = [b"rows ", viewer.as_str().as_bytes(), room.as_str().as_bytes(), &row].concat();
        let mac = self.key.mac(&bound);
        let mut short = [0; MAC_BYTES];
        short.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        short
    }
}

/// The cursors with which connections resume.
#[derive(Clone, Copy)]
pub struct ResumeCursors<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) key: &'a DataKey,
}

impl ResumeCursors<'_> {
    /// The viewer's rights now.
    #[must_use]
    pub fn fingerprint(&self, session: &Session) -> RightsFingerprint {
        let principal =
            self.storage.state().read(|tables| ViewerRights::of(tables, session.user).principal);
        // The debug form names every decision; another version may name them otherwise, which costs
        // its clients one full load.
        let mut text = format!("{principal:?}");
        // Imported keys give a right of their own: to read what could not be decrypted.
        match self.storage.key_imports() {
            0 => {}
            imports => text.push_str(&format!(" {imports}")),
        }
        RightsFingerprint(head(&crate::crypto::sha256(text.as_bytes())))
    }

    /// A cursor for a client that was sent everything up to this position.
    #[must_use]
    pub fn seal(
        &self,
        session: &Session,
        position: FeedPosition,
        rights: RightsFingerprint,
    ) -> String {
        let epoch = head(self.storage.epoch());
        let stored = ResumePosition { epoch, position, rights, made_ms: self.clock.unix_ms() };
        let ad = session.user.as_str().as_bytes();
        BASE64.encode(self.key.seal_with_nonce(&stored.bytes(), ad))
    }

    /// Where a cursor stood. `None` when it is broken, too old, of another viewer or another epoch,
    /// or made under other rights.
    #[must_use]
    pub fn open(
        &self,
        session: &Session,
        cursor: &str,
        rights: RightsFingerprint,
    ) -> Option<FeedPosition> {
        let stored = self.stored(session, cursor)?;
        let epoch = head(self.storage.epoch());
        stored.is_valid(epoch, rights, self.clock.unix_ms()).then_some(stored.position)
    }

    /// Whether a cursor of this viewer is ahead of what this process has applied: another process
    /// has shown more already, and with later rights.
    #[must_use]
    pub fn is_ahead(&self, session: &Session, cursor: &str, position: FeedPosition) -> bool {
        let epoch = head(self.storage.epoch());
        let stored = self.stored(session, cursor).filter(|stored| stored.epoch == epoch);
        let ahead = |at: FeedPosition| at.journal > position.journal || at.state > position.state;
        stored.is_some_and(|stored| ahead(stored.position))
    }

    fn stored(&self, session: &Session, cursor: &str) -> Option<ResumePosition> {
        if cursor.len() > (NONCE_BYTES + PLAIN_BYTES + TAG_BYTES) * 4 / 3 + 4 {
            return None;
        }
        let bytes = BASE64.decode(cursor).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let ad = session.user.as_str().as_bytes();
        ResumePosition::of(&self.key.open(nonce, sealed, ad).ok()?)
    }
}

/// The contents of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ResumePosition {
    /// The first bytes of the store's epoch: sequences mean nothing in another one.
    epoch: [u8; 8],
    position: FeedPosition,
    rights: RightsFingerprint,
    made_ms: i64,
}

impl ResumePosition {
    fn bytes(&self) -> Vec<u8> {
        let (journal, state) =
            (self.position.journal.to_be_bytes(), self.position.state.to_be_bytes());
        [self.epoch, journal, state, self.rights.0, self.made_ms.to_be_bytes()].concat()
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(8).map(head);
        let (epoch, journal, state) = (words.next()?, words.next()?, words.next()?);
        let (rights, made) = (words.next()?, words.next()?);
        let position =
            FeedPosition { journal: u64::from_be_bytes(journal), state: u64::from_be_bytes(state) };
        Some(Self {
            epoch,
            position,
            rights: RightsFingerprint(rights),
            made_ms: i64::from_be_bytes(made),
        })
    }

    fn is_valid(&self, epoch: [u8; 8], rights: RightsFingerprint, now_ms: i64) -> bool {
        let age = now_ms.saturating_sub(self.made_ms);
        self.epoch == epoch && self.rights == rights && age <= millis(RESUME_CURSOR_TTL)
    }
}

/// The first eight bytes, zeros where there are fewer.
fn head(bytes: &[u8]) -> [u8; 8] {
    let mut head = [0; 8];
    head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_counts_in_its_epoch_under_its_rights_for_a_day() {
        let (epoch, rights) = ([1; 8], RightsFingerprint([2; 8]));
        let position = FeedPosition { journal: 3, state: 4 };
        let stored = ResumePosition { epoch, position, rights, made_ms: 5 };
        assert_eq!(ResumePosition::of(&stored.bytes()), Some(stored));
        assert_eq!(stored.bytes().len(), PLAIN_BYTES);
        assert_eq!(ResumePosition::of(&stored.bytes()[1..]), None);
        let day = millis(RESUME_CURSOR_TTL);
        assert!(stored.is_valid(epoch, rights, 5 + day));
        assert!(!stored.is_valid(epoch, rights, 6 + day), "a day has passed");
        assert!(!stored.is_valid([9; 8], rights, 5), "after a restore");
        assert!(!stored.is_valid(epoch, RightsFingerprint([9; 8]), 5), "other rights");
    }
}
