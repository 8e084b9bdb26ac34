//! Resume cursors: where a connection stood, sealed for its viewer, good for 24 hours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::rights::Access;
use super::{Service, Session, millis};
use crate::limits::RESUME_CURSOR_TTL;
use crate::storage::Told;

const NONCE_BYTES: usize = 24;
/// Epoch (first 8 bytes), journal, STATE, rights, time of making: five numbers of 8 bytes.
const PLAIN_BYTES: usize = 40;
const TAG_BYTES: usize = 16;

/// A fingerprint of everything that is decided for a viewer: when it changes, what the viewer was
/// sent under the former one is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights([u8; 8]);

impl Service {
    /// The viewer's rights now.
    #[must_use]
    pub fn rights(&self, session: &Session) -> Rights {
        let subject = self.storage().read(|tables| Access::of(tables, session.user).subject);
        // The debug form names every decision; another version may name them otherwise, which costs
        // its clients one full load.
        Rights(head(&crate::crypto::sha256(format!("{subject:?}").as_bytes())))
    }

    /// A cursor that says: everything up to here was sent.
    #[must_use]
    pub fn resume_cursor(&self, session: &Session, told: Told, rights: Rights) -> String {
        let plain = [
            head(self.storage().epoch()),
            told.journal.to_be_bytes(),
            told.state.to_be_bytes(),
            rights.0,
            self.now_ms().to_be_bytes(),
        ];
        let ad = session.user.as_str().as_bytes();
        let (nonce, sealed) = self.inner.keys.resume.seal(&plain.concat(), ad);
        BASE64.encode([nonce.as_slice(), &sealed].concat())
    }

    /// Where a cursor stood. `None` when it is broken, too old, of another viewer or another epoch,
    /// or made under other rights.
    #[must_use]
    pub fn resume_from(&self, session: &Session, cursor: &str, rights: Rights) -> Option<Told> {
        if cursor.len() > (NONCE_BYTES + PLAIN_BYTES + TAG_BYTES) * 4 / 3 + 4 {
            return None;
        }
        let bytes = BASE64.decode(cursor).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let ad = session.user.as_str().as_bytes();
        let plain = self.inner.keys.resume.open(nonce, sealed, ad).ok()?;
        let mut words = plain.chunks_exact(8).map(head);
        let (epoch, journal, state) = (words.next()?, words.next()?, words.next()?);
        let (made_under, made_ms) = (words.next()?, i64::from_be_bytes(words.next()?));
        let age = self.now_ms().checked_sub(made_ms)?;
        let counts = epoch == head(self.storage().epoch())
            && made_under == rights.0
            && age <= millis(RESUME_CURSOR_TTL);
        counts.then(|| Told {
            journal: u64::from_be_bytes(journal),
            state: u64::from_be_bytes(state),
        })
    }
}

/// The first eight bytes, zeros where there are fewer.
fn head(bytes: &[u8]) -> [u8; 8] {
    let mut head = [0; 8];
    head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    head
}
