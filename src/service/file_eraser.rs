//! Removing files: nobody reads them any more at once, then their keys and bytes go, then their records.

use super::error::{StoreError, flatten};
use crate::blobs::{BlobError, Blobs};
use crate::domain::{AssetId, File, FileState, UploadStatus};
use crate::storage::{RecordChange, Storage, StorageError};

/// A file was not removed completely; its record says so, and the sweep goes on.
#[derive(Debug, thiserror::Error)]
pub(super) enum EraseError {
    #[error("the bytes of a file were not removed")]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StorageError> for EraseError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Removes files.
#[derive(Clone, Copy)]
pub(super) struct FileEraser<'a> {
    pub(super) storage: &'a Storage,
    pub(super) blobs: &'a Blobs,
}

impl FileEraser<'_> {
    /// Removes a file if `is_due` accepts its state now. Nothing of it can be read afterwards, whatever is left on
    /// the disk: its key is erased first.
    ///
    /// The record of a file that was never complete stays, without the name, as long as its upload has one, and that of a
    /// file whose move was begun until no move runs: a request that was cut off may still be on its way to the store or
    /// to S3, and what it leaves there needs a record to be found by. The sweep then removes both. While an archive is made
    /// every file stays, as the archive may have a message that shows it. Returns whether nothing is left.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub(super) async fn erase(
        self,
        id: &AssetId,
        is_due: impl Fn(&FileState) -> bool,
    ) -> Result<bool, EraseError> {
        if self.storage.is_exporting().await? {
            return Ok(false);
        }
        let files = self.storage.files();
        let mark = |file: Option<&File>| {
            let due = file.filter(|file| file.state != FileState::Erasing && is_due(&file.state));
            let marked = |file: &File| {
                let (state, name) = (FileState::Erasing, String::new());
                RecordChange::Put(File { state, name, ..file.clone() })
            };
            Ok::<_, EraseError>(due.map_or(RecordChange::Keep, marked))
        };
        let file = files.change(id, mark).await.map_err(flatten)?;
        let Some(file) = file.filter(|file| file.state == FileState::Erasing) else {
            return Ok(false);
        };
        // Asked after the record says that the file is being erased: no move begins from then on.
        let is_moving = files.is_moving(id).await?;
        // An archive that has begun by now may not contain the record any more, but one that began in between does.
        if self.storage.is_exporting().await? {
            return Ok(false);
        }
        self.erase_content(&file).await?;
        if is_moving {
            self.blobs.erase_object(id).await?;
            return Ok(false);
        }
        let (upload, _) = self.storage.uploads().get(id).await?;
        if upload.is_some_and(|upload| upload.status != UploadStatus::Completed) {
            return Ok(false);
        }
        files.erase_record(&file.id).await?;
        Ok(true)
    }

    /// Removes what a move may have left of a file that is being erased, once no move runs.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub(super) async fn end_move(self, id: &AssetId) -> Result<(), EraseError> {
        let files = self.storage.files();
        let file = files.get(id).await?.filter(|file| file.state == FileState::Erasing);
        let Some(file) = file else { return Ok(()) };
        self.erase_content(&file).await?;
        self.blobs.erase_object(id).await?;
        Ok(files.end_move(id).await?)
    }

    /// Removes the key of a file, then its bytes.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub(super) async fn erase_content(self, file: &File) -> Result<(), EraseError> {
        self.storage.files().erase_key(&file.id).await?;
        Ok(self.blobs.erase(file).await?)
    }
}
