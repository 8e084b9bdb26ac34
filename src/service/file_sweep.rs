//! Files that nobody will finish: uploads that were given up, files that no message has, reservations and deletions of
//! processes that were killed; and bytes that arrived after a file was complete.
//!
//! Only what a record names is removed from the bucket. An object or a multipart upload whose key has no record may
//! belong to another server that uses the same bucket, for example to the one that this store was copied or restored
//! from, and nothing about a key could prove the contrary. Our own always have one: it is written before the first
//! byte and erased after the last one ([`FileEraser`]).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::attachments::Attachments;
use super::error::StoreError;
use super::file_eraser::{EraseError, FileEraser};
use super::file_work::FileWorks;
use super::millis;
use super::sweep::goes_on;
use crate::blobs::BlobError;
use crate::domain::{AssetId, File, FileLocation, FileState, RoomId, UploadStatus};
use crate::limits::{
    CLOCK_AHEAD_MAX, FILE_RESOLVE_AFTER, FILES_SWEPT_MAX, UNATTACHED_FILE_TTL, UPLOAD_TTL,
};
use crate::runtime::Clock;
use crate::storage::{Lease, Storage, StorageError, UnreadableFile};

/// Cleans up files.
#[derive(Clone, Copy)]
pub(super) struct FileSweep<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) attachments: Attachments<'a>,
    pub(super) eraser: FileEraser<'a>,
    pub(super) works: FileWorks<'a>,
    /// FILES sequence up to which recent files were looked at, where a sweep could not look at all of them; 0: none.
    pub(super) recent_swept: &'a AtomicU64,
}

/// What a sweep has to do.
struct Found {
    /// See [`FileSweep::named`].
    named: HashSet<AssetId>,
    now_ms: i64,
    /// Recent files whose records come later in FILES are collected.
    recent_after: u64,
    due: Vec<DueFile>,
    /// With the sequences of their records.
    recent: Vec<(u64, AssetId)>,
}

/// What cleaning up needs of a file. Its record may be far larger: it lists the chunks.
struct DueFile {
    id: AssetId,
    state: FileState,
    room: Option<RoomId>,
}

// With the request id of a reserved file, of 64 bytes.
const _: () = assert!(size_of::<DueFile>() + 64 <= 256 && size_of::<(u64, AssetId)>() <= 32);

impl Found {
    /// Notes a file that is due, or recent. Neither takes the places of the other.
    fn add(&mut self, sequence: u64, file: File) {
        if is_due(&file, self.now_ms) {
            if self.due.len() < FILES_SWEPT_MAX && !self.named.contains(&file.id) {
                self.due.push(DueFile { id: file.id, state: file.state, room: file.room });
            }
        } else if is_recent(&file, self.now_ms)
            && sequence > self.recent_after
            && self.recent.len() < FILES_SWEPT_MAX
        {
            self.recent.push((sequence, file.id));
        }
    }
}

/// One file that cannot be cleaned up does not hold up the others.
fn note(cleaned: Result<(), EraseError>) {
    if let Err(error) = cleaned {
        log::warn!(error:err = error; "a file cannot be cleaned up now; it will be retried");
    }
}

impl FileSweep<'_> {
    /// Looks at every file once. One that cannot be cleaned up now does not hold up the others.
    ///
    /// # Cancel safety
    /// Dropping it leaves the rest for the next sweep.
    pub(super) async fn sweep(self, lease: &mut Lease) -> Result<(), StoreError> {
        let Found { due, recent, .. } = self.find().await?;
        let is_moving = self.works.is_moving().await?;
        // First: it is short, and the record of a complete file, which may be removed below, says that an upload is ours.
        if let Err(error) = Box::pin(self.sweep_bucket(lease, is_moving)).await {
            log::warn!(error:err = error; "the bucket of files cannot be swept now; it will be retried");
        }
        for file in due {
            if !goes_on(self.storage, lease).await? {
                return Ok(());
            }
            note(Box::pin(self.clean_up(file)).await);
        }
        // A move makes another list of chunks.
        if is_moving {
            return Ok(());
        }
        let is_all = recent.len() < FILES_SWEPT_MAX;
        for (sequence, id) in recent {
            if !goes_on(self.storage, lease).await? {
                return Ok(());
            }
            note(Box::pin(self.remove_late_chunks(&id)).await);
            self.recent_swept.store(sequence, Ordering::Relaxed);
        }
        if is_all {
            self.recent_swept.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks at the record of every file.
    async fn find(self) -> Result<Found, StoreError> {
        let mut found = Found {
            named: self.named(),
            now_ms: self.clock.unix_ms(),
            recent_after: self.recent_swept.load(Ordering::Relaxed),
            due: Vec::new(),
            recent: Vec::new(),
        };
        let see = |sequence, file: Result<File, UnreadableFile>| match file {
            Ok(file) => found.add(sequence, file),
            Err(error) => {
                log::warn!(error:err = error; "the record of a file cannot be read; the file is not swept");
            }
        };
        self.storage.files().sweep(see).await?;
        Ok(found)
    }

    /// Removes chunks of a complete file that its record does not list: they were on their way when the process that
    /// sent them was killed, and arrived later.
    async fn remove_late_chunks(self, id: &AssetId) -> Result<(), EraseError> {
        let blobs = self.eraser.blobs;
        let file = self.storage.files().get(id).await?.filter(|file| file.state.is_complete());
        let Some(file) = file else { return Ok(()) };
        match &file.location {
            FileLocation::Nats(chunks) => blobs.files.remove_others(id, chunks).await?,
            FileLocation::S3 => blobs.staged.remove_others(id, &[]).await?,
        }
        Ok(())
    }

    /// Removes the objects of checks that were killed, and aborts multipart uploads of complete files: begun by a
    /// process that was killed before it could note them, or begun twice because a response was lost.
    async fn sweep_bucket(self, lease: &mut Lease, is_moving: bool) -> Result<(), EraseError> {
        let Ok(s3) = self.eraser.blobs.s3() else { return Ok(()) };
        s3.remove_old_probes(self.clock.unix_ms()).await.map_err(BlobError::from)?;
        // A move to S3 uploads files that are complete.
        if is_moving {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = s3.list_multipart("", after.as_ref()).await.map_err(BlobError::from)?;
            for upload in page.entries {
                if !goes_on(self.storage, lease).await? {
                    return Ok(());
                }
                let Ok(id) = AssetId::try_from(upload.key.as_str()) else { continue };
                let file = match self.storage.files().get(&id).await {
                    // It was logged, and is left alone.
                    Err(StorageError::Corrupt { .. }) => continue,
                    file => file?,
                };
                // Of one that is pending it may be the one that goes on.
                if file.is_some_and(|file| file.state.is_complete()) {
                    s3.abort(&upload.key, &upload.id).await.map_err(BlobError::from)?;
                    log::info!("aborted a multipart upload of a file that is complete");
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Images that everybody may see and a record names. A new one gets its record long before it is due.
    fn named(self) -> HashSet<AssetId> {
        self.storage.state().read(|tables| {
            let avatars = tables.users.values().filter_map(|user| user.avatar_key.as_deref());
            let server = [&tables.server.logo_key, &tables.server.banner_key];
            let keys = avatars.chain(server.into_iter().filter_map(|key| key.as_deref()));
            keys.filter_map(|key| AssetId::try_from(key).ok()).collect()
        })
    }

    async fn clean_up(self, file: DueFile) -> Result<(), EraseError> {
        let id = file.id;
        match file.state {
            FileState::Pending => {
                let (upload, _) = self.storage.uploads().get(&id).await?;
                let is_open = upload.is_some_and(|one| one.status != UploadStatus::Cancelled);
                if is_open {
                    Ok(())
                } else {
                    self.erase(&id, |state| *state == FileState::Pending).await
                }
            }
            FileState::Ready => self.erase(&id, |state| *state == FileState::Ready).await,
            FileState::Reserved { request, at_ms } => {
                let Some(room) = file.room else { return Ok(()) };
                let message = self.attachments.message_of(room, &request, at_ms).await?;
                Ok(self.attachments.resolve(&id, &request, message).await?)
            }
            FileState::Deleting { message, at_ms } => {
                let Some(room) = file.room else { return Ok(()) };
                if self.attachments.has(room, message, id).await? {
                    Ok(self.attachments.keep(&id, message, at_ms).await?)
                } else {
                    self.erase(&id, |state| matches!(state, FileState::Deleting { .. })).await
                }
            }
            FileState::Erasing => {
                let was_moving = self.storage.files().is_moving(&id).await?;
                if was_moving && !self.works.is_moving().await? {
                    self.eraser.end_move(&id).await?;
                }
                self.erase(&id, |_| true).await
            }
            FileState::Attached(_) => Ok(()),
        }
    }

    async fn erase(
        self,
        id: &AssetId,
        is_due: impl Fn(&FileState) -> bool,
    ) -> Result<(), EraseError> {
        if self.eraser.erase(id, is_due).await? {
            log::info!("removed a file that nobody uses");
        }
        Ok(())
    }
}

/// Whether a file is complete, its upload is over, and it has not been so for long enough that all late chunks were
/// found.
fn is_recent(file: &File, now: i64) -> bool {
    let age = now.saturating_sub(file.created_ms);
    let recent = millis(UPLOAD_TTL)..millis(UNATTACHED_FILE_TTL);
    file.state.is_complete() && recent.contains(&age)
}

/// Whether a file has been in its state for longer than anybody needs.
fn is_due(file: &File, now: i64) -> bool {
    let (since, life) = match &file.state {
        FileState::Pending => (file.created_ms, UPLOAD_TTL),
        FileState::Ready => (file.created_ms, UNATTACHED_FILE_TTL),
        FileState::Reserved { at_ms, .. } | FileState::Deleting { at_ms, .. } => {
            (*at_ms, FILE_RESOLVE_AFTER)
        }
        FileState::Erasing => return true,
        FileState::Attached(_) => return false,
    };
    // One stamped by a clock that was ahead would not be due for years.
    let ahead = now.saturating_add(millis(CLOCK_AHEAD_MAX));
    since.saturating_add(millis(life)) < now || since > ahead
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{FileGroup, UserId};

    fn file(number: u64, age: Duration) -> File {
        File {
            id: AssetId::new(FileGroup::SERVER, number),
            room: None,
            uploader: UserId::from_number(1),
            name: String::new(),
            content_type: String::new(),
            size: 0,
            sha256: [0; 32],
            width: 0,
            height: 0,
            created_ms: -millis(age),
            state: FileState::Ready,
            location: FileLocation::S3,
            encrypted: false,
        }
    }

    fn found(recent_after: u64) -> Found {
        let (due, recent) = (Vec::new(), Vec::new());
        Found { named: HashSet::new(), now_ms: 0, recent_after, due, recent }
    }

    #[test]
    fn any_number_of_recent_files_leaves_room_for_those_that_are_due() {
        let (max, mut found) = (u64::try_from(FILES_SWEPT_MAX).unwrap(), found(0));
        for number in 1..=max + 5 {
            found.add(number, file(number, 2 * UPLOAD_TTL));
        }
        found.add(max + 6, file(max + 6, 2 * UNATTACHED_FILE_TTL));
        assert_eq!((found.due.len(), found.recent.len()), (1, FILES_SWEPT_MAX));
    }

    #[test]
    fn the_next_sweep_continues_with_the_recent_files_that_were_left() {
        let mut found = found(7);
        for number in 1..=9 {
            found.add(number, file(number, 2 * UPLOAD_TTL));
        }
        let sequences: Vec<u64> = found.recent.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(sequences, [8, 9]);
    }
}
