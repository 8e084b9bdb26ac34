//! Resume cursors: where a connection stood, sealed for its viewer, good for 24 hours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::rights::ViewerRights;
use super::{Service, Session, millis};
use crate::limits::RESUME_CURSOR_TTL;
use crate::storage::FeedPosition;

const NONCE_BYTES: usize = 24;
/// Epoch (first 8 bytes), journal, STATE, rights, time of making: five numbers of 8 bytes.
const PLAIN_BYTES: usize = 40;
const TAG_BYTES: usize = 16;

/// A fingerprint of everything that is decided for a viewer: when it changes, what the viewer was
/// sent under the former one is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RightsFingerprint([u8; 8]);

impl Service {
    /// The viewer's rights now.
    #[must_use]
    pub fn rights(&self, session: &Session) -> RightsFingerprint {
        let subject = self.storage().read(|tables| ViewerRights::of(tables, session.user).subject);
        // The debug form names every decision; another version may name them otherwise, which costs
        // its clients one full load.
        RightsFingerprint(head(&crate::crypto::sha256(format!("{subject:?}").as_bytes())))
    }

    /// A cursor that says: everything up to here was sent.
    #[must_use]
    pub fn resume_cursor(
        &self,
        session: &Session,
        told: FeedPosition,
        rights: RightsFingerprint,
    ) -> String {
        let epoch = head(self.storage().epoch());
        let place = Place { epoch, told, rights, made_ms: self.now_ms() };
        let ad = session.user.as_str().as_bytes();
        let (nonce, sealed) = self.inner.keys.resume.seal(&place.bytes(), ad);
        BASE64.encode([nonce.as_slice(), &sealed].concat())
    }

    /// Where a cursor stood. `None` when it is broken, too old, of another viewer or another epoch,
    /// or made under other rights.
    #[must_use]
    pub fn resume_from(
        &self,
        session: &Session,
        cursor: &str,
        rights: RightsFingerprint,
    ) -> Option<FeedPosition> {
        let place = self.place(session, cursor)?;
        let epoch = head(self.storage().epoch());
        place.counts(epoch, rights, self.now_ms()).then_some(place.told)
    }

    /// Whether a cursor of this viewer stands at something that this process has not come to: another process
    /// has shown more already, and with later rights.
    #[must_use]
    pub fn is_ahead(&self, session: &Session, cursor: &str, told: FeedPosition) -> bool {
        let epoch = head(self.storage().epoch());
        let place = self.place(session, cursor).filter(|place| place.epoch == epoch);
        let ahead = |at: FeedPosition| at.journal > told.journal || at.state > told.state;
        place.is_some_and(|place| ahead(place.told))
    }

    fn place(&self, session: &Session, cursor: &str) -> Option<Place> {
        if cursor.len() > (NONCE_BYTES + PLAIN_BYTES + TAG_BYTES) * 4 / 3 + 4 {
            return None;
        }
        let bytes = BASE64.decode(cursor).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let ad = session.user.as_str().as_bytes();
        Place::of(&self.inner.keys.resume.open(nonce, sealed, ad).ok()?)
    }
}

/// What a cursor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The first bytes of the store's epoch: sequences mean nothing in another one.
    epoch: [u8; 8],
    told: FeedPosition,
    rights: RightsFingerprint,
    made_ms: i64,
}

impl Place {
    fn bytes(&self) -> Vec<u8> {
        let (journal, state) = (self.told.journal.to_be_bytes(), self.told.state.to_be_bytes());
        [self.epoch, journal, state, self.rights.0, self.made_ms.to_be_bytes()].concat()
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(8).map(head);
        let (epoch, journal, state) = (words.next()?, words.next()?, words.next()?);
        let (rights, made) = (words.next()?, words.next()?);
        let told =
            FeedPosition { journal: u64::from_be_bytes(journal), state: u64::from_be_bytes(state) };
        Some(Self {
            epoch,
            told,
            rights: RightsFingerprint(rights),
            made_ms: i64::from_be_bytes(made),
        })
    }

    fn counts(&self, epoch: [u8; 8], rights: RightsFingerprint, now_ms: i64) -> bool {
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
        let told = FeedPosition { journal: 3, state: 4 };
        let place = Place { epoch, told, rights, made_ms: 5 };
        assert_eq!(Place::of(&place.bytes()), Some(place));
        assert_eq!(place.bytes().len(), PLAIN_BYTES);
        assert_eq!(Place::of(&place.bytes()[1..]), None);
        let day = millis(RESUME_CURSOR_TTL);
        assert!(place.counts(epoch, rights, 5 + day));
        assert!(!place.counts(epoch, rights, 6 + day), "a day has passed");
        assert!(!place.counts([9; 8], rights, 5), "after a restore");
        assert!(!place.counts(epoch, RightsFingerprint([9; 8]), 5), "other rights");
    }
}
