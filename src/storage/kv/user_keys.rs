//! The data keys of users: made when they are first needed, and erased for ever.

use crate::crypto::DataKey;
use crate::domain::{File, User, UserId};
use crate::nats::ReadPurpose;
use crate::storage::encoding::decode;
use crate::storage::error::{FileKeyError, StorageError};
use crate::storage::kv::key_store::StoredKey;
use crate::storage::kv::keys::{Keys, Sealer};
use crate::storage::layout::stream;
use crate::storage::records::WrappedFileKey;
use crate::storage::state::{RecordChange, State};

/// The data keys of all users.
#[derive(Clone, Copy)]
pub struct UserKeys<'a> {
    pub(crate) keys: &'a Keys,
    /// Names each user's active key, and whose account was deleted.
    pub(crate) state: &'a State,
}

impl UserKeys<'_> {
    /// The active data key of a user, made when there is none.
    pub(crate) async fn active(self, user: &UserId) -> Result<Sealer, StorageError> {
        let key_id = self.active_id(user);
        if let Some(key) = self.keys.get(user, &key_id, ReadPurpose::Change).await? {
            return Ok(Sealer { key, key_id });
        }
        // None yet, or its wrappings are for other secrets: a new active key.
        let new_id = self.keys.create(user).await?;
        self.state
            .change::<User, std::convert::Infallible>(user, |user| {
                Ok(match user {
                    Some(user) if user.active_key_id == key_id && !user.deleted => {
                        RecordChange::Put(User { active_key_id: new_id.clone(), ..user.clone() })
                    }
                    _ => RecordChange::Keep,
                })
            })
            .await
            .map_err(StorageError::from)?;
        let key_id = self.active_id(user);
        match self.keys.get(user, &key_id, ReadPurpose::Change).await? {
            Some(key) => Ok(Sealer { key, key_id }),
            None => Err(StorageError::Corrupt { what: "ENCRYPTION_KEYS", source: None }),
        }
    }

    fn active_id(self, user: &UserId) -> String {
        self.state.read(|tables| {
            tables.users.get(user).map(|user| user.active_key_id.clone()).unwrap_or_default()
        })
    }

    /// Wraps the key of a file with the active data key of its uploader.
    pub(crate) async fn wrap_file_key(
        self,
        file: &File,
        key: &DataKey,
    ) -> Result<WrappedFileKey, StorageError> {
        let Sealer { key: by, key_id } = self.active(&file.uploader).await?;
        let (nonce, ciphertext) = by.wrap(key, &file_key_ad(file));
        Ok(WrappedFileKey { key_id, nonce: nonce.to_vec().into(), ciphertext: ciphertext.into() })
    }

    /// Unwraps the key of a file. `None`: the account of its uploader was deleted. The tombstone decides, not the key,
    /// as another process may just have shredded it.
    ///
    /// # Errors
    /// [`StorageError::Undecryptable`]
    pub(crate) async fn unwrap_file_key(
        self,
        file: &File,
        wrapped: &WrappedFileKey,
        purpose: ReadPurpose,
    ) -> Result<Option<DataKey>, StorageError> {
        let uploader = &file.uploader;
        let user = self.state.read(|tables| tables.users.get(uploader).cloned());
        if user.is_some_and(|user| user.deleted) {
            return Ok(None);
        }
        let by = match self.keys.get(uploader, &wrapped.key_id, purpose).await {
            Ok(found) => found.ok_or(FileKeyError::Missing)?,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return Err(FileKeyError::Unreadable { source: Box::new(error) }.into()),
        };
        Ok(Some(unwrap_with(&by, file, wrapped)?))
    }

    /// Erases every data key of a user: what is encrypted with them is unreadable for ever.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn shred(self, user: &UserId) -> Result<(), StorageError> {
        self.keys.shred(user).await
    }
}

fn unwrap_with(
    by: &DataKey,
    file: &File,
    wrapped: &WrappedFileKey,
) -> Result<DataKey, FileKeyError> {
    let key = by.unwrap(&wrapped.nonce, &wrapped.ciphertext, &file_key_ad(file));
    key.map_err(|source| FileKeyError::Changed { source })
}

/// The key of an encrypted file of an archive, from its record there, with the first of these keys of users that made it.
///
/// # Errors
/// [`StorageError::Undecryptable`] when that key is not among them, [`StorageError::Corrupt`]
pub fn unwrap_archived_key(
    file: &File,
    record: &[u8],
    keys: &[StoredKey],
) -> Result<DataKey, StorageError> {
    let wrapped: WrappedFileKey = decode(record).map_err(StorageError::corrupt(stream::FILES))?;
    let is_by = |key: &&StoredKey| key.user == file.uploader && key.key_id == wrapped.key_id;
    let by = keys.iter().find(is_by).ok_or(FileKeyError::Missing)?;
    Ok(unwrap_with(&by.key, file, &wrapped)?)
}

fn file_key_ad(file: &File) -> Vec<u8> {
    format!("chatto file key v1 {}", file.id).into_bytes()
}
