//! Message texts: sealed for their authors, and unreadable for ever once an author's keys are erased.

use crate::domain::timeline::Sealed;
use crate::domain::{EventId, RoomId, UserId};
use crate::storage::error::StorageError;
use crate::storage::kv::keys::{Opener, Sealer};
use crate::storage::kv::user_keys::UserKeys;

/// The texts of all authors.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    pub(crate) user_keys: UserKeys<'a>,
}

impl Texts<'_> {
    /// Seals a body for its author and place, making the author's data key when there is none.
    pub async fn seal(
        self,
        author: &UserId,
        room: &RoomId,
        row: &EventId,
        text: &str,
    ) -> Result<Sealed, StorageError> {
        Ok(self.sealer(author).await?.seal(room, row, text))
    }

    /// The author's data key, made when there is none, for sealing where the row is decided: inside
    /// the draft of an append.
    pub async fn sealer(self, author: &UserId) -> Result<Sealer, StorageError> {
        self.user_keys.active(author).await
    }

    /// The keys that open these bodies. Those of erased authors are left out: the tombstone decides, not
    /// the key, as another process may just have shredded it.
    pub async fn opener<'a>(
        self,
        bodies: impl Iterator<Item = (UserId, &'a Sealed)>,
    ) -> Result<Opener, StorageError> {
        let UserKeys { keys, state } = self.user_keys;
        let bodies: Vec<_> = state.read(|tables| {
            let erased =
                |author: &UserId| tables.users.get(author).is_some_and(|user| user.deleted);
            bodies.filter(|(author, _)| !erased(author)).collect()
        });
        keys.opener(bodies.into_iter()).await
    }

    /// Opens one body. `None`: its key was erased, or is unreadable with the present secret.
    pub async fn unseal(
        self,
        author: &UserId,
        room: &RoomId,
        row: &EventId,
        sealed: &Sealed,
    ) -> Result<Option<String>, StorageError> {
        let opener = self.opener(std::iter::once((*author, sealed))).await?;
        Ok(opener.open(author, room, row, sealed))
    }
}
