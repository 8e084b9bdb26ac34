//! Work of operators on all files: check them, or move them to the other backend while the server runs.
//!
//! It goes in steps of a few seconds, so that a command can show how far it is and be interrupted. A step says where the
//! next one begins; only the copy of the file in between is kept here, and begins anew after a restart.
//!
//! Moving removes bytes, so it must be sure that nothing refers to them: one step runs at a time in a process, one
//! process moves at a time under a lease, and what is removed follows from records that were read from the leader.

use std::fmt::Display;
use std::time::Instant;

use parking_lot::Mutex;

use super::ErrorKind;
use super::error::{StoreError, blob_kind, flatten};
use super::file_steps::{BetweenSteps, RunningStep};
use crate::blobs::s3::S3Error;
use crate::blobs::{
    BlobError, BlobReader, Blobs, ChunkStore, FileCipher, ObjectWriter, new_multipart,
};
use crate::crypto::Sha256State;
use crate::domain::{AssetId, Chunk, File, FileLocation};
use crate::limits::{
    FILE_CHUNKS_MAX, FILE_COPY_CHECK_INTERVAL, FILE_MOVE_LEASE, FILE_WORK_STEP,
    UPLOAD_CHUNK_MAX_BYTES,
};
use crate::runtime::{Clock, MemorySlots, SlotGuard, Stop};
use crate::storage::{Lease, RecordChange, Storage, StorageError};

/// The lease under which one process moves files.
const LEASE: &str = "file-move";

/// What is done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileWork {
    /// Read all bytes of every file, and look for bytes of no file.
    Check,
    /// Copy every file that is not there, then remove it from where it was.
    Move(Backend),
}

/// Where bytes of files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Nats,
    S3,
}

/// Where a step begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkPosition {
    /// Files whose records lie after `after` and up to `end` in FILES.
    Files { after: u64, end: u64 },
    /// Objects after this key in the bucket; empty: all.
    Objects { after: String },
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file's id, or the key of an object.
    pub subject: String,
    pub kind: FindingKind,
}

/// See [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// Bytes of the file, or its key, are not there.
    Missing,
    /// The bytes are not those that were uploaded.
    Damaged,
    /// Bytes that no record names: left by a move that was interrupted, or of another server.
    Orphaned,
    /// It needs more chunks than a file in NATS may have.
    TooLarge,
    /// The key of its uploader is missing or cannot be read.
    Undecryptable,
    /// Its record, or its key, is damaged or was written by a newer program.
    Unreadable,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkStep {
    /// Files that were checked, or moved.
    pub done: u64,
    /// Bytes that were read, also of a file that the next step goes on with.
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// `None`: everything is done.
    pub next: Option<WorkPosition>,
}

/// Files cannot be checked or moved now.
#[derive(Debug, thiserror::Error)]
pub enum FileWorkError {
    #[error("another process moves files; try again in two minutes")]
    Busy,
    #[error("too many uploads are in memory; try again")]
    Memory,
    #[error("cannot read or write the file's bytes")]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FileWorkError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy | Self::Memory => ErrorKind::ResourceExhausted,
            Self::Blob(error) => blob_kind(error),
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for FileWorkError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// A file that is being read.
pub(super) struct FileCopy {
    /// Of its record, in FILES.
    sequence: u64,
    file: File,
    cipher: FileCipher,
    reader: BlobReader,
    hash: Sha256State,
    target: Target,
}

/// Where its bytes go.
enum Target {
    Nowhere,
    Nats(Box<ChunkWriter>),
    S3 { sink: Box<ObjectWriter>, _slot: SlotGuard },
}

/// Makes chunks of full size from bytes of any length.
struct ChunkWriter {
    store: ChunkStore,
    cipher: FileCipher,
    buffer: Vec<u8>,
    offset: u64,
    chunks: Vec<Chunk>,
}

impl ChunkWriter {
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        while !bytes.is_empty() {
            let room = UPLOAD_CHUNK_MAX_BYTES.saturating_sub(self.buffer.len());
            let (taken, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(taken);
            bytes = rest;
            if self.buffer.len() >= UPLOAD_CHUNK_MAX_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BlobError> {
        if !self.buffer.is_empty() {
            let chunk = self.store.put(&self.cipher, self.offset, &self.buffer).await?;
            self.offset = self.offset.saturating_add(chunk.length.into());
            self.chunks.push(chunk);
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Work on all files.
#[derive(Clone, Copy)]
pub struct FileWorks<'a> {
    pub(super) storage: &'a Storage,
    pub(super) blobs: &'a Blobs,
    pub(super) part_slots: &'a MemorySlots,
    pub(super) clock: &'a Clock,
    /// One step at a time.
    pub(super) step_slots: &'a MemorySlots,
    pub(super) between: &'a Mutex<BetweenSteps>,
}

impl FileWorks<'_> {
    /// Where work on all files of now begins, and about how many there are. The bucket that files are to be moved to is
    /// checked, and created if it does not exist.
    pub async fn begin(self, work: FileWork) -> Result<(WorkPosition, u64), FileWorkError> {
        if work == FileWork::Move(Backend::S3) {
            Box::pin(self.blobs.s3()?.check()).await.map_err(BlobError::from)?;
        }
        let (end, count) = self.storage.files().extent().await?;
        Ok((WorkPosition::Files { after: 0, end }, count))
    }

    /// Works for a few seconds.
    ///
    /// # Errors
    /// What concerns all files, for example a service that cannot be reached. A step may be repeated.
    ///
    /// # Cancel safety
    /// A file is moved completely or is where it was. Bytes that are left of a copy are removed when it is repeated.
    pub async fn step(
        self,
        work: FileWork,
        position: WorkPosition,
    ) -> Result<WorkStep, FileWorkError> {
        let _alone = self.step_slots.take().await.map_err(|_| FileWorkError::Busy)?;
        let lease = match work {
            FileWork::Check => None,
            FileWork::Move(_) => {
                let lease = self.storage.lease(LEASE, FILE_MOVE_LEASE).await?;
                Some(lease.ok_or(FileWorkError::Busy)?)
            }
        };
        let _running = RunningStep::begin(self.between, self.clock, work);
        let step = WorkStep { done: 0, bytes: 0, findings: Vec::new(), next: None };
        let mut run = Run { works: self, work, lease, step };
        run.step.next = match position {
            WorkPosition::Files { after, end } => run.files(after, end).await?,
            WorkPosition::Objects { after } => run.objects(&after).await?,
        };
        Ok(run.step)
    }

    /// Gives up the copy of a command that has ended, until stopped: it keeps a part in memory. Every process does so for
    /// itself, whoever sweeps.
    pub(super) async fn release_copies(self, stop: &Stop) {
        while stop.or(self.clock.sleep(FILE_COPY_CHECK_INTERVAL)).await.is_some() {
            let abandoned = self.between.lock().take_abandoned(self.clock.now());
            if abandoned.is_some() {
                log::info!(
                    "the command that moved or checked files was interrupted; the copy of a file is given up"
                );
            }
        }
    }

    /// Whether this process or another one moves files.
    pub(super) async fn is_moving(self) -> Result<bool, StorageError> {
        if self.between.lock().is_moving(self.clock.now()) {
            return Ok(true);
        }
        self.storage.is_lease_held_elsewhere(LEASE).await
    }
}

/// One step.
struct Run<'a> {
    works: FileWorks<'a>,
    work: FileWork,
    /// Of a move.
    lease: Option<Lease>,
    step: WorkStep,
}

impl Run<'_> {
    async fn files(
        &mut self,
        mut after: u64,
        end: u64,
    ) -> Result<Option<WorkPosition>, FileWorkError> {
        let FileWorks { storage, clock, between, .. } = self.works;
        let until = clock.now() + FILE_WORK_STEP;
        let mut files = Vec::new();
        loop {
            if clock.now() >= until {
                return Ok(Some(WorkPosition::Files { after, end }));
            }
            if files.is_empty() {
                files = storage.files().after(after, end).await?;
                files.reverse();
            }
            let Some((sequence, id)) = files.pop() else { break };
            let kept = between.lock().unfinished.take();
            let kept = kept.filter(|(of, lease, copy)| {
                *of == self.work && copy.sequence == sequence && self.follows(lease.as_ref())
            });
            let copy = match (kept, id) {
                (Some((_, _, copy)), _) => Some(copy),
                (None, Ok(id)) => Box::pin(self.open(sequence, id)).await?,
                (None, Err(unreadable)) => {
                    self.find(&unreadable.file, FindingKind::Unreadable);
                    None
                }
            };
            if let Some(mut copy) = copy {
                match Box::pin(self.read(&mut copy, until)).await {
                    Ok(true) => Box::pin(self.finish(copy)).await?,
                    Ok(false) => {
                        between.lock().unfinished = Some((self.work, self.lease.clone(), copy));
                        return Ok(Some(WorkPosition::Files { after, end }));
                    }
                    Err(error) => Box::pin(self.give_up(copy, error)).await?,
                }
            }
            after = sequence;
        }
        let has_objects = self.works.blobs.s3().is_ok() && self.work != FileWork::Move(Backend::S3);
        Ok(has_objects.then(|| WorkPosition::Objects { after: String::new() }))
    }

    /// Prepares work on a file; `None`: there is nothing to do.
    async fn open(
        &mut self,
        sequence: u64,
        id: AssetId,
    ) -> Result<Option<FileCopy>, FileWorkError> {
        let FileWorks { storage, blobs, part_slots, .. } = self.works;
        // The record may have been replaced since, then its newest state counts.
        let file = match storage.files().get(&id).await {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(StorageError::Corrupt { .. }) => {
                self.find(&id, FindingKind::Unreadable);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if !file.state.is_complete() || !self.is_due(&file).await? {
            return Ok(None);
        }
        let key = match storage.files().key(&file).await {
            Ok(Some(key)) => key,
            Ok(None) => {
                self.find(&id, FindingKind::Missing);
                return Ok(None);
            }
            Err(StorageError::Undecryptable { .. }) => {
                self.find(&id, FindingKind::Undecryptable);
                return Ok(None);
            }
            Err(StorageError::Corrupt { .. }) => {
                self.find(&id, FindingKind::Unreadable);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let cipher = FileCipher::of(&file, key);
        let chunks_max =
            u64::try_from(FILE_CHUNKS_MAX * UPLOAD_CHUNK_MAX_BYTES).unwrap_or(u64::MAX);
        let target = match self.work {
            FileWork::Check => Target::Nowhere,
            FileWork::Move(Backend::Nats) if file.size > chunks_max => {
                self.find(&id, FindingKind::TooLarge);
                return Ok(None);
            }
            FileWork::Move(Backend::Nats) => Target::Nats(Box::new(ChunkWriter {
                store: blobs.files.clone(),
                cipher: cipher.clone(),
                buffer: Vec::new(),
                offset: 0,
                chunks: Vec::new(),
            })),
            FileWork::Move(Backend::S3) => {
                let slot = part_slots.take().await.map_err(|_| FileWorkError::Memory)?;
                let parts = new_multipart(file.size, file.encrypted);
                let sink = blobs.write_object(cipher.clone(), &parts)?;
                Target::S3 { sink: Box::new(sink), _slot: slot }
            }
        };
        if self.work != FileWork::Check && !self.begin_move(&id).await? {
            return Ok(None);
        }
        let reader = blobs.read(file.clone(), cipher.clone(), 0..file.size)?;
        Ok(Some(FileCopy { sequence, file, cipher, reader, hash: Sha256State::default(), target }))
    }

    /// Whether a file is to be read. Removes what a move that was interrupted has left where the file is not.
    async fn is_due(&mut self, file: &File) -> Result<bool, FileWorkError> {
        let FileWorks { storage, blobs, .. } = self.works;
        match (self.work, &file.location) {
            (FileWork::Check, _) => {
                self.find_late_chunks(file).await?;
                Ok(true)
            }
            (FileWork::Move(Backend::Nats), FileLocation::Nats(_)) => {
                self.end_interrupted_move(&file.id).await?;
                Ok(false)
            }
            (FileWork::Move(to), FileLocation::S3) => {
                self.keep_lease().await?;
                blobs.files.remove_others(&file.id, &[]).await?;
                if to == Backend::S3 {
                    storage.files().end_move(&file.id).await?;
                }
                Ok(to == Backend::Nats)
            }
            (FileWork::Move(Backend::S3), FileLocation::Nats(_)) => Ok(true),
        }
    }

    /// Notes that a file will be copied; `false`: it was deleted meanwhile, and whoever did that may not have seen the
    /// note.
    async fn begin_move(&mut self, id: &AssetId) -> Result<bool, FileWorkError> {
        self.keep_lease().await?;
        let files = self.works.storage.files();
        files.begin_move(id).await?;
        let file = files.get(id).await?;
        if file.is_none() {
            files.end_move(id).await?;
        }
        Ok(file.is_some_and(|file| file.state.is_complete()))
    }

    /// Removes what a move from NATS that was interrupted has left of a file in the bucket.
    async fn end_interrupted_move(&mut self, id: &AssetId) -> Result<(), FileWorkError> {
        let FileWorks { storage, blobs, .. } = self.works;
        if storage.files().is_moving(id).await? && blobs.s3().is_ok() {
            self.remove(id, &FileLocation::S3).await?;
            storage.files().end_move(id).await?;
        }
        Ok(())
    }

    /// Reads on until the file or the time ends; returns whether the file did.
    async fn read(&mut self, copy: &mut FileCopy, until: Instant) -> Result<bool, BlobError> {
        while let Some(bytes) = copy.reader.next().await? {
            copy.hash.update(&bytes);
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.step.bytes = self.step.bytes.saturating_add(length);
            match &mut copy.target {
                Target::Nowhere => {}
                Target::Nats(chunks) => chunks.write(&bytes).await?,
                Target::S3 { sink, .. } => sink.write(&bytes).await?,
            }
            if self.works.clock.now() >= until {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends the work on a file whose bytes were all read.
    async fn finish(&mut self, copy: FileCopy) -> Result<(), FileWorkError> {
        if copy.hash.clone().finish() != copy.file.sha256 {
            return self.give_up(copy, BlobError::Damaged).await;
        }
        let FileCopy { file, cipher, target, .. } = copy;
        let to = match target {
            Target::Nowhere => {
                self.step.done = self.step.done.saturating_add(1);
                return Ok(());
            }
            Target::Nats(mut chunks) => {
                chunks.flush().await?;
                FileLocation::Nats(chunks.chunks)
            }
            Target::S3 { sink, .. } => {
                sink.finish().await?;
                // Before the copy is looked at: whoever has had the lease since may have removed it.
                self.keep_lease().await?;
                if !self.works.blobs.is_object_whole(&cipher, file.size).await? {
                    return Err(BlobError::Damaged.into());
                }
                FileLocation::S3
            }
        };
        self.change_location(file, to).await
    }

    /// Notes where a file is now, and removes it from where it was.
    async fn change_location(&mut self, file: File, to: FileLocation) -> Result<(), FileWorkError> {
        self.keep_lease().await?;
        let moved = |now: Option<&File>| {
            let unchanged =
                now.filter(|now| now.state.is_complete() && now.location == file.location);
            let moved = unchanged.map(|now| File { location: to.clone(), ..now.clone() });
            Ok::<_, StorageError>(moved.map_or(RecordChange::Keep, RecordChange::Put))
        };
        let files = self.works.storage.files();
        let now = files.change(&file.id, moved).await.map_err(flatten)?;
        // Of a file that is being erased, the sweep ends the move.
        let is_over = now.as_ref().is_none_or(|now| now.state.is_complete());
        let is_moved = now.is_some_and(|now| now.location == to);
        self.step.done = self.step.done.saturating_add(u64::from(is_moved));
        // Deleted in the meantime: the copy is what goes.
        self.remove(&file.id, if is_moved { &file.location } else { &to }).await?;
        if is_over {
            files.end_move(&file.id).await?;
        }
        Ok(())
    }

    /// Whether no other process has moved files since this lease: it removes what others have left of a copy.
    fn follows(&self, former: Option<&Lease>) -> bool {
        match (&self.lease, former) {
            (Some(lease), Some(former)) => lease.follows(former),
            (lease, former) => lease.is_none() && former.is_none(),
        }
    }

    /// A service may have been so slow, or this process paused for so long, that the lease has ended. It is taken again,
    /// unless another process moves files by now or has done so in the meantime.
    async fn keep_lease(&mut self) -> Result<(), FileWorkError> {
        let Some(lease) = &mut self.lease else { return Err(FileWorkError::Busy) };
        let is_kept = self.works.storage.renew_lease(lease).await?;
        is_kept.then_some(()).ok_or(FileWorkError::Busy)
    }

    /// Notes what is wrong with a file and removes its copy; an error that concerns all files is returned.
    async fn give_up(&mut self, copy: FileCopy, error: BlobError) -> Result<(), FileWorkError> {
        match error {
            BlobError::Missing => self.find(&copy.file.id, FindingKind::Missing),
            BlobError::Damaged => self.find(&copy.file.id, FindingKind::Damaged),
            error => return Err(error.into()),
        }
        let id = copy.file.id;
        match copy.target {
            Target::Nowhere => return Ok(()),
            Target::Nats(chunks) => {
                self.remove(&id, &FileLocation::Nats(chunks.chunks)).await?;
            }
            Target::S3 { .. } => self.remove(&id, &FileLocation::S3).await?,
        }
        Ok(self.works.storage.files().end_move(&id).await?)
    }

    fn find(&mut self, subject: &impl Display, kind: FindingKind) {
        self.step.findings.push(Finding { subject: subject.to_string(), kind });
    }

    /// Removes bytes of a file from where its record does not say that it is; of chunks exactly these, as another process
    /// may have made others.
    async fn remove(&mut self, id: &AssetId, location: &FileLocation) -> Result<(), FileWorkError> {
        self.keep_lease().await?;
        let blobs = self.works.blobs;
        match location {
            FileLocation::Nats(chunks) => {
                for chunk in chunks {
                    blobs.files.remove(*chunk).await?;
                }
            }
            FileLocation::S3 => {
                blobs.erase_object(id).await?;
            }
        }
        Ok(())
    }

    /// Looks for chunks in NATS that the record of a file does not list.
    async fn find_late_chunks(&mut self, file: &File) -> Result<(), BlobError> {
        let listed = match &file.location {
            FileLocation::Nats(chunks) => chunks.len(),
            FileLocation::S3 => 0,
        };
        let stored = self.works.blobs.files.count(&file.id).await?;
        if usize::try_from(stored).is_ok_and(|stored| stored > listed) {
            self.find(&file.id, FindingKind::Orphaned);
        }
        Ok(())
    }

    /// Looks at a page of the bucket for objects of files that are not there. A move to NATS leaves them when it is
    /// interrupted, and removes them when it is repeated. Others may be of another server, and are only reported.
    async fn objects(&mut self, after: &str) -> Result<Option<WorkPosition>, FileWorkError> {
        let FileWorks { storage, blobs, .. } = self.works;
        let after = Some(after).filter(|after| !after.is_empty());
        let page = match blobs.s3()?.list("", after).await {
            Ok(page) => page,
            // It is created when the first files go there.
            Err(S3Error::BucketMissing { .. }) => return Ok(None),
            Err(error) => return Err(BlobError::from(error).into()),
        };
        let ids = page.entries.iter().map(|object| AssetId::try_from(object.key.as_str()));
        let ids: Vec<AssetId> = ids.filter_map(Result::ok).collect();
        let files = storage.files().get_all(&ids).await?;
        for id in ids {
            if files.iter().any(|file| file.id == id && file.location == FileLocation::S3) {
                continue;
            }
            // A replica may have lagged behind.
            let file = match storage.files().get(&id).await {
                // It was found among the files; its bytes are kept.
                Err(StorageError::Corrupt { .. }) => continue,
                file => file?,
            };
            match (self.work, file) {
                (_, Some(file)) if file.location == FileLocation::S3 => {}
                (FileWork::Move(_), Some(file)) => self.remove(&file.id, &FileLocation::S3).await?,
                (FileWork::Move(_), None) => {}
                (FileWork::Check, _) => self.find(&id, FindingKind::Orphaned),
            }
        }
        Ok(page.next.map(|after| WorkPosition::Objects { after }))
    }
}
