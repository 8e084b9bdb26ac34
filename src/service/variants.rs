//! Variants of images: made when they are first asked for, then kept for a while.

use std::io;

use bytes::Bytes;
use futures_lite::stream;

use super::assets::{FileError, OpenFile, Variant, VariantFile};
use crate::blobs::{BlobError, Blobs, KeptVariant};
use crate::limits::IMAGE_FILE_MAX_BYTES;
use crate::media::image::{self, FileStream, ImageError, Images, Made, Order};

/// The first byte of what is kept of an image.
const JPEG: u8 = b'J';
const WEBP: u8 = b'W';
/// The file itself is shown.
const FILE: u8 = b'F';

/// Variants of images.
#[derive(Clone, Copy)]
pub struct Variants<'a> {
    pub(super) blobs: &'a Blobs,
    pub(super) images: &'a Images,
}

impl Variants<'_> {
    /// What a reader of the variant gets: a resized image, or the file itself if it is none, moves, or cannot
    /// be decoded with the memory and time that there are.
    ///
    /// # Errors
    /// [`FileError::Busy`] when too many images are being made.
    ///
    /// # Cancel safety
    /// Dropping it ends the work, which the next request begins again.
    pub async fn show(self, open: OpenFile, variant: Variant) -> Result<OpenFile, FileError> {
        let is_small_enough = (1..=IMAGE_FILE_MAX_BYTES).contains(&open.file.size);
        let is_resizable = image::is_resizable(&open.file.content_type);
        // What is too large by the settings is not noted: they may change.
        if !is_resizable
            || !is_small_enough
            || !self.images.takes(open.file.width, open.file.height)
        {
            return Ok(open);
        }
        if let Some(known) = self.kept(&open, variant).await {
            return Ok(open.shown_as(known));
        }
        let slot = self.images.slot().await.map_err(|_| FileError::Busy)?;
        // Somebody else may have waited for the same one.
        if let Some(known) = self.kept(&open, variant).await {
            return Ok(open.shown_as(known));
        }
        let Variant { width, height, cover } = variant;
        let order = Order { width, height, cover, still: false };
        let made = self.images.make(&slot, &order, self.stream(&open)?).await;
        let (shown, kept) = match made {
            Ok(Made::Image { content_type, bytes }) => {
                let shown = VariantFile::new(content_type, bytes);
                let file = [&[kind(content_type)], shown.bytes.as_ref()].concat();
                let (cipher, path) = (&open.cipher, variant.token());
                let kept = self.blobs.variants.put(cipher, &path, &file).await;
                (Some(shown), kept)
            }
            // It is not tried again with every request.
            Ok(Made::Animated) | Err(ImageError::Undecodable) => {
                (None, self.blobs.variants.put_impossible(&open.file.id).await)
            }
            Err(ImageError::TooLarge) => {
                let kept = self.blobs.variants.put(&open.cipher, &variant.token(), &[FILE]).await;
                (None, kept)
            }
            Err(ImageError::Busy) => return Err(FileError::Busy),
            Err(
                error @ (ImageError::Late
                | ImageError::Killed
                | ImageError::Start(_)
                | ImageError::File(_)),
            ) => {
                log::warn!(error:err = error; "a variant was not made");
                (None, Ok(()))
            }
        };
        if let Err(error) = kept {
            log::debug!(error:err = error; "a variant was not kept");
        }
        drop(slot);
        Ok(open.shown_as(shown))
    }

    /// What is known of the variant: `Some(None)` if it is the file itself.
    async fn kept(self, open: &OpenFile, variant: Variant) -> Option<Option<VariantFile>> {
        let found = self.blobs.variants.get(&open.cipher, &variant.token()).await;
        match found.unwrap_or_else(|error| {
            log::debug!(error:err = error; "what was kept of an image cannot be read");
            None
        })? {
            KeptVariant::Impossible => Some(None),
            KeptVariant::Image(file) => {
                let content_type = match *file.first()? {
                    JPEG => "image/jpeg",
                    WEBP => "image/webp",
                    FILE => return Some(None),
                    _ => return None,
                };
                Some(Some(VariantFile::new(content_type, file.slice(1..))))
            }
        }
    }

    fn stream(self, open: &OpenFile) -> Result<FileStream, BlobError> {
        let whole = 0..open.file.size;
        let reader = self.blobs.read(open.file.clone(), open.cipher.clone(), whole)?;
        Ok(Box::pin(stream::unfold(reader, |mut reader| async move {
            let chunk: io::Result<Option<Bytes>> = reader.next().await.map_err(io::Error::other);
            chunk.transpose().map(|chunk| (chunk, reader))
        })))
    }
}

fn kind(content_type: &str) -> u8 {
    if content_type == "image/jpeg" { JPEG } else { WEBP }
}
