//! The files of an archive: their records, and how their bytes are read.

use super::{ArchivedRecord, ArchivedStream, Export, ExportError, StreamCount, Subjects, archived};
use crate::crypto::DataKey;
use crate::domain::{AssetId, File, FileLocation, FileState};
use crate::nats::StoredMessage;
use crate::storage::encoding::decode_value;
use crate::storage::error::StorageError;
use crate::storage::files::{FileRecord, key_subject, subject};
use crate::storage::layout::stream;

/// A file as it is now.
pub struct ExportedFile {
    pub file: File,
    pub bytes: FileBytes,
}

/// What an archive contains of a file.
pub enum FileBytes {
    /// Its bytes, decrypted with this key of its own.
    Plain(DataKey),
    /// What is stored: its own key is wrapped with a key of its uploader.
    Ciphertext,
    /// Nothing: it has no key of its own, as in a store that was restored from an archive without its bytes.
    Missing,
}

impl Export {
    /// Reads FILES: the records of complete files, and the wrapped keys of encrypted ones; and the records of those that
    /// are being erased from S3, because whoever restores them owes the rest. Returns the complete files too, in the
    /// order of their last changes.
    ///
    /// # Errors
    /// [`ExportError`]; `Sink` is what `each` returns.
    pub async fn files<E>(
        &self,
        mut each: impl FnMut(ArchivedRecord) -> Result<(), E>,
    ) -> Result<(StreamCount, Vec<AssetId>), ExportError<E>> {
        let (mut seen, mut files) = (Subjects::default(), Vec::new());
        let mut encrypted = std::collections::HashSet::new();
        self.scan(ArchivedStream::Files, 1, |message| {
            match FilePart::of(&message.subject) {
                FilePart::Record => {
                    let file = read(&message)?;
                    let is_owed =
                        file.state == FileState::Erasing && file.location == FileLocation::S3;
                    if !file.state.is_complete() && !is_owed {
                        return Ok(());
                    }
                    if file.encrypted && !is_owed {
                        encrypted.insert(file.id);
                    }
                    if !seen.has(&message.subject) && !is_owed {
                        files.push(file.id);
                    }
                }
                FilePart::Key(_) | FilePart::Move => return Ok(()),
            }
            seen.take(&message);
            each(archived(&message, &self.clock)).map_err(ExportError::Sink)
        })
        .await?;
        // Whether a key comes before or after its record depends on how often the record has changed since.
        for id in files.iter().filter(|id| encrypted.contains(id)) {
            let subject = key_subject(id);
            let key = self.retry(|| self.nats.leader_newest(stream::FILES, &subject)).await?;
            let Some(key) = key.filter(|key| !key.is_tombstone()) else { continue };
            seen.take(&key);
            each(archived(&key, &self.clock)).map_err(ExportError::Sink)?;
        }
        Ok((seen.count(), files))
    }

    /// A file and how its bytes are read, from the leader. `None`: it is gone, or is being erased.
    pub async fn file<E>(&self, id: &AssetId) -> Result<Option<ExportedFile>, ExportError<E>> {
        let at = |subject: String| async move {
            self.retry(|| self.nats.leader_newest(stream::FILES, &subject)).await
        };
        let Some(stored) = at(subject(id)).await? else { return Ok(None) };
        let file = read(&stored)?;
        if !file.state.is_complete() {
            return Ok(None);
        }
        if file.encrypted {
            return Ok(Some(ExportedFile { file, bytes: FileBytes::Ciphertext }));
        }
        let bytes = match at(key_subject(id)).await? {
            None => FileBytes::Missing,
            Some(stored) => {
                let key = DataKey::from_slice(&stored.payload);
                let corrupt = StorageError::Corrupt { what: stream::FILES, source: None };
                FileBytes::Plain(key.ok_or_else(|| unreadable(id.as_str(), corrupt))?)
            }
        };
        Ok(Some(ExportedFile { file, bytes }))
    }
}

/// What a subject of FILES holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePart {
    /// The record of a file.
    Record,
    /// The key of this file; `None`: the id is none.
    Key(Option<AssetId>),
    /// A move that has begun.
    Move,
}

impl FilePart {
    /// What this subject holds.
    #[must_use]
    pub fn of(subject: &str) -> Self {
        match subject.split('.').collect::<Vec<_>>().as_slice() {
            [_, _, id, "key"] => Self::Key(id.parse().ok()),
            [_, _, _, "move"] => Self::Move,
            _ => Self::Record,
        }
    }
}

fn read<E>(stored: &StoredMessage) -> Result<File, ExportError<E>> {
    let record = decode_value::<FileRecord>(&stored.payload);
    record.map(|(record, _)| record.file).map_err(|error| {
        let id = stored.subject.rsplit('.').next().unwrap_or_default();
        unreadable(id, StorageError::corrupt(stream::FILES)(error))
    })
}

fn unreadable<E>(file: &str, source: StorageError) -> ExportError<E> {
    ExportError::File { file: file.to_owned(), source }
}
