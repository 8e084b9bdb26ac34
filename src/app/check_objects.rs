//! `backup verify --check-s3`: whether the bucket has the files that an archive only lists.

use std::collections::HashSet;

use crate::backup::archive::{Item, ListedObject};
use crate::blobs::s3::{S3, S3Error};
use crate::blobs::sealed_bytes;
use crate::config::Settings;
use crate::crypto::{Sha256State, hex};
use crate::domain::AssetId;
use crate::limits::WRONG_OBJECTS_MAX;
use crate::runtime::{Clock, Runtime};
use crate::storage::{ArchivedStream, check_archived};

use super::archive_file::ArchiveFile;
use super::parts;
use super::restore::RestoreFailure;

/// What a bucket has of the files that an archive lists.
#[derive(Debug, Default)]
pub struct ObjectsChecked {
    /// There, with the size and hash that they should have. Of encrypted ones the size was looked at.
    pub good: u64,
    pub wrong: u64,
    /// The first of those that are wrong.
    pub examples: Vec<WrongObject>,
}

/// A file that the bucket does not have as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongObject {
    pub id: String,
    pub why: &'static str,
}

/// Reads every object that an archive lists from the configured bucket. `progress` takes how many were looked at. Blocks.
///
/// # Errors
/// [`RestoreFailure`]: the archive or the bucket cannot be read.
pub fn check_objects(
    settings: &Settings,
    archive: &ArchiveFile,
    progress: &mut dyn FnMut(u64),
) -> Result<ObjectsChecked, RestoreFailure> {
    let mut reader = archive.open()?;
    Runtime::run(Runtime::default_threads(), |_| async move {
        let bucket = parts::bucket(settings, &Clock::system())?;
        let bucket = bucket.ok_or(RestoreFailure::NoBucket)?;
        let mut checked = ObjectsChecked::default();
        let mut encrypted: HashSet<AssetId> = HashSet::new();
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Records(stream @ ArchivedStream::Files, records) => {
                    let files =
                        records.iter().filter_map(|one| check_archived(stream, one).ok()?);
                    encrypted.extend(files.filter(|file| file.encrypted).map(|file| file.id));
                }
                Item::Objects(objects) => {
                    for object in objects {
                        let is_encrypted =
                            object.object.parse().is_ok_and(|id| encrypted.contains(&id));
                        let found = Box::pin(look(&bucket, &object, is_encrypted)).await;
                        match found.map_err(RestoreFailure::Objects)? {
                            None => checked.good = checked.good.saturating_add(1),
                            Some(why) => checked.note_wrong(object.object, why),
                        }
                        progress(checked.good.saturating_add(checked.wrong));
                    }
                }
                Item::Records(..) | Item::Asset { .. } => {}
            }
        }
        Ok(checked)
    })
}

impl ObjectsChecked {
    fn note_wrong(&mut self, id: String, why: &'static str) {
        self.wrong = self.wrong.saturating_add(1);
        if self.examples.len() < WRONG_OBJECTS_MAX {
            self.examples.push(WrongObject { id, why });
        }
    }
}

/// Why an object is wrong; `None`: it is as it should be.
async fn look(
    bucket: &S3,
    object: &ListedObject,
    is_encrypted: bool,
) -> Result<Option<&'static str>, S3Error> {
    let size = if is_encrypted { sealed_bytes(object.size) } else { object.size };
    match bucket.head(&object.object).await {
        Err(S3Error::NotFound) => return Ok(Some("it is missing")),
        Err(error) => return Err(error),
        Ok(found) if found.size != size => return Ok(Some("it has another size")),
        Ok(_) if is_encrypted => return Ok(None),
        Ok(_) => {}
    }
    let mut download = bucket.get(&object.object, None).await?;
    let mut hash = Sha256State::default();
    while let Some(bytes) = download.next().await? {
        hash.update(&bytes);
    }
    Ok((hex(&hash.finish()) != object.sha256).then_some("it has other bytes"))
}
