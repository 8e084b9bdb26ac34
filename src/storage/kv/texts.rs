//! Message texts: sealed for their authors, and unreadable for ever once an author's keys are erased.

use crate::domain::timeline::Sealed;
use crate::domain::{EventId, RoomId, User, UserId};
use crate::storage::error::StorageError;
use crate::storage::kv::keys::{Keys, Opener, Sealer};
use crate::storage::state::{RecordChange, State};

/// The texts of all authors.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    pub(crate) keys: &'a Keys,
    /// Names each author's active key.
    pub(crate) state: &'a State,
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
        let key_id = self.key_id(author);
        if let Some(key) = self.keys.get(author, &key_id).await? {
            return Ok(Sealer { key, key_id });
        }
        // None yet, or its wrappings are for other secrets: a new active key.
        let new_id = self.keys.create(author).await?;
        self.state
            .change::<User, std::convert::Infallible>(author, |user| {
                Ok(match user {
                    Some(user) if user.active_key_id == key_id && !user.deleted => {
                        RecordChange::Put(User { active_key_id: new_id.clone(), ..user.clone() })
                    }
                    _ => RecordChange::Keep,
                })
            })
            .await
            .map_err(StorageError::from)?;
        let key_id = self.key_id(author);
        match self.keys.get(author, &key_id).await? {
            Some(key) => Ok(Sealer { key, key_id }),
            None => Err(StorageError::Corrupt { what: "ENCRYPTION_KEYS", source: None }),
        }
    }

    fn key_id(self, user: &UserId) -> String {
        self.state.read(|tables| {
            tables.users.get(user).map(|user| user.active_key_id.clone()).unwrap_or_default()
        })
    }

    /// The keys that open these bodies. Those of erased authors are left out: the tombstone decides, not
    /// the key, as another process may just have shredded it.
    pub async fn opener<'a>(
        self,
        bodies: impl Iterator<Item = (UserId, &'a Sealed)>,
    ) -> Result<Opener, StorageError> {
        let bodies: Vec<_> = self.state.read(|tables| {
            let erased =
                |author: &UserId| tables.users.get(author).is_some_and(|user| user.deleted);
            bodies.filter(|(author, _)| !erased(author)).collect()
        });
        self.keys.opener(bodies.into_iter()).await
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

    /// Erases every data key of a user: its texts are unreadable for ever.
    pub async fn shred(self, user: &UserId) -> Result<(), StorageError> {
        self.keys.shred(user).await
    }
}
