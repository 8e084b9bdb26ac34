//! Removing files: nobody reads them any more at once, then their keys and bytes go, then their records.

use super::error::StoreError;
use crate::blobs::{BlobError, Blobs};
use crate::domain::{AssetId, FileState};
use crate::storage::{Storage, StorageError};

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
    /// # Cancel safety
    /// May be repeated.
    pub(super) async fn erase(
        self,
        id: &AssetId,
        is_due: impl Fn(&FileState) -> bool,
    ) -> Result<(), EraseError> {
        let files = self.storage.files();
        let mark = |state: &FileState| {
            (*state != FileState::Erasing && is_due(state)).then_some(FileState::Erasing)
        };
        let file = files.change_state(id, mark).await?;
        let Some(file) = file.filter(|file| file.state == FileState::Erasing) else {
            return Ok(());
        };
        files.erase_key(&file.id).await?;
        self.blobs.erase(&file).await?;
        files.erase_record(&file.id).await?;
        Ok(())
    }
}
