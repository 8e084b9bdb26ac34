//! FILES: what is known of every uploaded file, and its key. How far an upload has come is in AUTH_TOKENS.
//!
//! A file has a record, which changes a few times in its life, and a key of its own, which is written once: erasing
//! the key makes the file's chunks unreadable without overwriting them. That of an encrypted file is wrapped with a key
//! of its uploader, which FILES does not hold. While a file moves to the other backend it also has an empty message that
//! says so. All of them are read from the leader, as another process may have written them a moment ago; only what is
//! shown is read from any replica while the cluster has no quorum.

mod uploads;

pub use uploads::Uploads;

use std::collections::HashMap;
use std::convert::Infallible;

use bytes::Bytes;

use crate::crypto::DataKey;
use crate::domain::{AssetId, File, FileGroup, FileState};
use crate::limits::{BATCH_MESSAGES_MAX, BATCH_SUBJECTS_MAX};
use crate::nats::{BatchRead, Nats, ReadPurpose, StoredMessage};
use crate::runtime::Clock;
use crate::storage::encoding::{decode, decode_value, encode, encode_value};
use crate::storage::error::{ChangeError, StorageError};
use crate::storage::kv::CHANGE_ATTEMPTS;
use crate::storage::kv::user_keys::UserKeys;
use crate::storage::kv::{Entry, bucket_get_known, put};
use crate::storage::layout::stream;
use crate::storage::state::RecordChange;

/// A file's record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRecord {
    pub(crate) file: File,
    /// FILES sequence of the record that this one replaced; 0: the first.
    pub(crate) replaced: u64,
}

/// A record of FILES that cannot be read: damaged, or written by a newer program.
#[derive(Debug, thiserror::Error)]
#[error("the record of the file {file} cannot be read")]
pub struct UnreadableFile {
    /// The last part of its subject, which should be the file's id.
    pub file: String,
    /// In FILES.
    pub sequence: u64,
    #[source]
    pub source: StorageError,
}

/// FILES. Where several files are read, one whose record cannot be read does not hold up the others.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    pub(crate) nats: &'a Nats,
    pub(crate) clock: &'a Clock,
    pub(crate) user_keys: UserKeys<'a>,
}

impl Files<'_> {
    /// Stores a new file and returns its key, which it makes, and that of its uploader if it is needed and there is
    /// none. The record comes first: what a crash leaves behind has a record.
    ///
    /// # Cancel safety
    /// After dropping it the file may or may not be stored.
    pub async fn create(&self, file: &File) -> Result<DataKey, StorageError> {
        let record = FileRecord { file: file.clone(), replaced: 0 };
        let key = DataKey::generate();
        let stored_key = match file.encrypted {
            true => encode(&self.user_keys.wrap_file_key(file, &key).await?),
            false => key.expose().to_vec().into(),
        };
        // The id is new and random: only an attempt of our own, whose response was lost, can be in the way.
        self.put(&subject(&file.id), encode_value(&record), 0).await?;
        self.put(&key_subject(&file.id), stored_key, 0).await?;
        Ok(key)
    }

    /// A file.
    pub async fn get(&self, id: &AssetId) -> Result<Option<File>, StorageError> {
        self.get_for(ReadPurpose::Change, id).await
    }

    /// A file, to show it.
    pub async fn get_to_show(&self, id: &AssetId) -> Result<Option<File>, StorageError> {
        self.get_for(ReadPurpose::Show, id).await
    }

    async fn get_for(
        &self,
        purpose: ReadPurpose,
        id: &AssetId,
    ) -> Result<Option<File>, StorageError> {
        let found = self.nats.newest_for(purpose, stream::FILES, &subject(id)).await?;
        found.map(|stored| read(&stored)).transpose()
    }

    /// The files of these ids that exist, in the given order, to show them. One whose record cannot be read is logged and left out.
    pub async fn get_all(&self, ids: &[AssetId]) -> Result<Vec<File>, StorageError> {
        let mut found = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(BATCH_SUBJECTS_MAX) {
            let subjects: Vec<String> = ids.iter().map(subject).collect();
            let batch = self.nats.read(stream::FILES, BatchRead::Newest(&subjects)).await?;
            // What cannot be read is read again below.
            let files = batch.messages.iter().filter_map(|stored| read(stored).ok());
            found.extend(files.map(|file| (file.id, file)));
        }
        let mut files = Vec::with_capacity(ids.len());
        for id in ids {
            match found.remove(id) {
                Some(file) => files.push(file),
                // Deleted, or a replica lags behind.
                None => match self.get_to_show(id).await {
                    Err(error @ StorageError::Corrupt { .. }) => {
                        log::warn!(
                            file:% = id, error:err = error;
                            "the record of a file cannot be read; the file is left out"
                        );
                    }
                    file => files.extend(file?),
                },
            }
        }
        Ok(files)
    }

    /// The key of a file; `None`: it was erased, or the account of the uploader whose key wraps it was deleted.
    ///
    /// # Errors
    /// [`StorageError::Undecryptable`] as long as the uploader's key is missing or cannot be read.
    pub async fn key(&self, file: &File) -> Result<Option<DataKey>, StorageError> {
        self.key_for(ReadPurpose::Change, file).await
    }

    /// The key of a file that is shown; as [`Self::key`].
    ///
    /// # Errors
    /// As [`Self::key`].
    pub async fn key_to_show(&self, file: &File) -> Result<Option<DataKey>, StorageError> {
        self.key_for(ReadPurpose::Show, file).await
    }

    async fn key_for(
        &self,
        purpose: ReadPurpose,
        file: &File,
    ) -> Result<Option<DataKey>, StorageError> {
        let stored = self.nats.newest_for(purpose, stream::FILES, &key_subject(&file.id)).await?;
        let Some(stored) = stored else { return Ok(None) };
        if file.encrypted {
            let wrapped = decode(&stored.payload).map_err(StorageError::corrupt(stream::FILES))?;
            return self.user_keys.unwrap_file_key(file, &wrapped, purpose).await;
        }
        let key = DataKey::from_slice(&stored.payload);
        key.map(Some).ok_or(StorageError::Corrupt { what: stream::FILES, source: None })
    }

    /// Changes a file by compare-and-set; `f` runs again after a conflict. The former record is erased from the disk.
    ///
    /// # Cancel safety
    /// After dropping it the change may or may not be stored.
    pub async fn change<E>(
        &self,
        id: &AssetId,
        mut f: impl FnMut(Option<&File>) -> Result<RecordChange<File>, E>,
    ) -> Result<Option<File>, ChangeError<E>> {
        let subject = subject(id);
        for _ in 0..CHANGE_ATTEMPTS {
            let (found, revision) =
                bucket_get_known::<FileRecord>(self.nats, stream::FILES, &subject).await?;
            let change =
                f(found.as_ref().map(|record| &record.file)).map_err(ChangeError::Refused)?;
            let RecordChange::Put(file) = change else {
                return Ok(found.map(|record| record.file));
            };
            // The bytes of a record that was replaced and not yet erased would be found nowhere afterwards.
            let former = found.map_or(0, |record| record.replaced);
            self.erase_at(former).await?;
            let record = FileRecord { file, replaced: revision };
            if self.put(&subject, encode_value(&record), revision).await? {
                self.erase_at(revision).await?;
                return Ok(Some(record.file));
            }
        }
        Err(StorageError::Busy.into())
    }

    /// Moves a file to the state that `next` returns for its present one; `None`: it stays as it is. Returns the file
    /// as it is then.
    ///
    /// # Cancel safety
    /// As with [`Self::change`].
    pub async fn change_state(
        &self,
        id: &AssetId,
        mut next: impl FnMut(&FileState) -> Option<FileState>,
    ) -> Result<Option<File>, StorageError> {
        let change = |file: Option<&File>| -> Result<_, Infallible> {
            let moved =
                file.and_then(|file| Some(File { state: next(&file.state)?, ..file.clone() }));
            Ok(moved.map_or(RecordChange::Keep, RecordChange::Put))
        };
        Ok(self.change(id, change).await?)
    }

    /// Makes a pending file ready, as `finish` completes its record; a file in another state stays as it is. Returns
    /// the file as it is then; `None`: it was erased meanwhile, and is not created again.
    ///
    /// # Cancel safety
    /// As with [`Self::change`].
    pub async fn finish(
        &self,
        id: &AssetId,
        finish: impl Fn(&File) -> File,
    ) -> Result<Option<File>, StorageError> {
        let change = |file: Option<&File>| -> Result<_, Infallible> {
            let pending = file.filter(|file| file.state == FileState::Pending);
            let ready = pending.map(|file| File { state: FileState::Ready, ..finish(file) });
            Ok(ready.map_or(RecordChange::Keep, RecordChange::Put))
        };
        Ok(self.change(id, change).await?)
    }

    /// Notes that a move of a file begins, before its first byte is copied: until [`Self::end_move`], bytes of it may be
    /// at both backends.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn begin_move(&self, id: &AssetId) -> Result<(), StorageError> {
        // In the way can only be the same note, of a move that was interrupted.
        self.put(&move_subject(id), Bytes::new(), 0).await?;
        Ok(())
    }

    /// Whether a move of a file was begun and has not ended.
    pub async fn is_moving(&self, id: &AssetId) -> Result<bool, StorageError> {
        Ok(self.nats.leader_newest(stream::FILES, &move_subject(id)).await?.is_some())
    }

    /// Notes that all bytes of a file are where its record says, or gone.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn end_move(&self, id: &AssetId) -> Result<(), StorageError> {
        self.erase_subject(&move_subject(id)).await
    }

    /// Erases the key of a file: its chunks cannot be read any more.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn erase_key(&self, id: &AssetId) -> Result<(), StorageError> {
        self.erase_subject(&key_subject(id)).await
    }

    /// Erases the record of a file, after its key and its bytes.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn erase_record(&self, id: &AssetId) -> Result<(), StorageError> {
        self.erase_subject(&subject(id)).await
    }

    /// Shows every file, the oldest change first, in batches from any replica. After a kill it may also show what a
    /// file was before its last change, until [`Self::sweep`] has erased that.
    pub async fn each_file(
        &self,
        mut each: impl FnMut(Result<File, UnreadableFile>) + Send,
    ) -> Result<(), StorageError> {
        self.each_on("files.*.*", |_, record| each(record.map(|record| record.file))).await
    }

    /// Shows the files of a group, as [`Self::each_file`] does.
    pub async fn each_of_group(
        &self,
        group: FileGroup,
        mut each: impl FnMut(Result<File, UnreadableFile>) + Send,
    ) -> Result<(), StorageError> {
        let subject = format!("files.{group}.*");
        self.each_on(&subject, |_, record| each(record.map(|record| record.file))).await
    }

    /// Shows every file as [`Self::each_file`] does, with the sequence of its record, and erases records that were
    /// replaced and that a kill left on the disk. It keeps 8 bytes for each file.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn sweep(
        &self,
        mut each: impl FnMut(u64, Result<File, UnreadableFile>) + Send,
    ) -> Result<(), StorageError> {
        let (mut seen, mut left) = (Vec::new(), Vec::new());
        let see = |sequence: u64, record: Result<FileRecord, UnreadableFile>| {
            let replaced = record.as_ref().map_or(0, |record| record.replaced);
            // Sequences ascend.
            if seen.binary_search(&replaced).is_ok() {
                left.push(replaced);
            }
            seen.push(sequence);
            each(sequence, record.map(|record| record.file));
        };
        self.each_on("files.*.*", see).await?;
        for sequence in left {
            self.erase_at(sequence).await?;
        }
        Ok(())
    }

    /// The sequence of the newest record or key, and about how many files there are.
    pub async fn extent(&self) -> Result<(u64, u64), StorageError> {
        let Some(info) = self.nats.stream(stream::FILES).await? else { return Ok((0, 0)) };
        // A record and a key for each.
        Ok((info.state.last_sequence, info.state.messages / 2))
    }

    /// The first files whose records come after this sequence and not after `end`, with the sequences.
    pub async fn after(
        &self,
        sequence: u64,
        end: u64,
    ) -> Result<Vec<(u64, Result<AssetId, UnreadableFile>)>, StorageError> {
        let sequence = sequence.saturating_add(1);
        let what =
            BatchRead::OfSubject { subject: "files.*.*", sequence, count: BATCH_MESSAGES_MAX };
        let batch = self.nats.read(stream::FILES, what).await?;
        let within = batch.messages.iter().filter(|stored| stored.sequence <= end);
        let ids = within.map(|stored| (stored.sequence, listed(stored).map(|one| one.file.id)));
        Ok(ids.collect())
    }

    async fn each_on(
        &self,
        subject: &str,
        mut each: impl FnMut(u64, Result<FileRecord, UnreadableFile>) + Send,
    ) -> Result<(), StorageError> {
        let mut sequence = 1;
        loop {
            let what = BatchRead::OfSubject { subject, sequence, count: BATCH_MESSAGES_MAX };
            let batch = self.nats.read(stream::FILES, what).await?;
            let Some(last) = batch.messages.last() else { return Ok(()) };
            sequence = last.sequence.saturating_add(1);
            for stored in &batch.messages {
                each(stored.sequence, listed(stored));
            }
        }
    }

    async fn put(
        &self,
        subject: &str,
        payload: Bytes,
        revision: u64,
    ) -> Result<bool, StorageError> {
        put(self.nats, self.clock, Entry { subject, payload, revision }, None).await
    }

    async fn erase_subject(&self, subject: &str) -> Result<(), StorageError> {
        let mut sequence = 1;
        while let Some(stored) = self.nats.leader_next(stream::FILES, subject, sequence).await? {
            self.nats.erase(stream::FILES, stored.sequence).await?;
            sequence = stored.sequence.saturating_add(1);
        }
        Ok(())
    }

    async fn erase_at(&self, sequence: u64) -> Result<(), StorageError> {
        if sequence > 0 {
            self.nats.erase(stream::FILES, sequence).await?;
        }
        Ok(())
    }
}

pub(crate) fn subject(id: &AssetId) -> String {
    format!("files.{}.{id}", id.group())
}

pub(crate) fn key_subject(id: &AssetId) -> String {
    format!("files.{}.{id}.key", id.group())
}

fn listed(stored: &StoredMessage) -> Result<FileRecord, UnreadableFile> {
    read_record(stored).map_err(|source| {
        let file = stored.subject.rsplit('.').next().unwrap_or_default().to_owned();
        UnreadableFile { file, sequence: stored.sequence, source }
    })
}

fn move_subject(id: &AssetId) -> String {
    format!("files.{}.{id}.move", id.group())
}

fn read(stored: &StoredMessage) -> Result<File, StorageError> {
    Ok(read_record(stored)?.file)
}

fn read_record(stored: &StoredMessage) -> Result<FileRecord, StorageError> {
    let (record, _) = decode_value::<FileRecord>(&stored.payload)
        .map_err(StorageError::corrupt(stream::FILES))?;
    Ok(record)
}
