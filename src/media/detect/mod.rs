//! The content type of a file, from its first bytes and never from what somebody claims.
//!
//! A magic number at the beginning decides, whatever follows it. A library for this (`infer`) knows more formats, but
//! it takes SVG and HTML for text unless they begin with their tag, and no sizes; the list here is a page.

mod boxes;
mod magic;
mod markup;
mod matroska;

#[cfg(test)]
mod tests;

use super::exif::Orientation;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    pub content_type: &'static str,
    /// Pixels as shown; 0 if unknown.
    pub width: u32,
    /// Pixels as shown; 0 if unknown.
    pub height: u32,
}

const UNKNOWN: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

/// How much of a file can matter.
pub(super) const BEGINNING_MAX_BYTES: usize = 512 * 1024;

/// The content type and size of a file with this beginning; more than 512 KiB of it change nothing.
#[must_use]
pub fn detect(beginning: &[u8]) -> Detected {
    let beginning = beginning.get(..BEGINNING_MAX_BYTES).unwrap_or(beginning);
    if let Some(content_type) = magic::content_type(beginning) {
        let (width, height) = magic::size(content_type, beginning).unwrap_or((0, 0));
        return Detected { content_type, width, height };
    }
    let content_type = markup::content_type(beginning)
        .unwrap_or_else(|| if is_text(beginning) { TEXT } else { UNKNOWN });
    Detected { content_type, width: 0, height: 0 }
}

/// How the pixels of an image must be turned to be shown.
pub(super) fn orientation(content_type: &str, beginning: &[u8]) -> Orientation {
    magic::stored_size(content_type, beginning).unwrap_or_default().1
}

/// Whether browsers may show a file of this type inside a page or tab (product 5, "Safety"). Everything else is sent
/// as an attachment.
#[must_use]
pub fn is_inline(content_type: &str) -> bool {
    let type_and_kind = content_type.split_once('/');
    matches!(type_and_kind, Some(("audio" | "video", _)))
        || matches!(
            content_type,
            "image/png" | "image/jpeg" | "image/gif" | "image/webp" | "image/avif" | TEXT
        )
}

/// Whether a browser would run scripts of a file of this type, so that it needs a sandbox (product 5, "Safety").
#[must_use]
pub fn is_active(content_type: &str) -> bool {
    matches!(content_type, "text/html" | "text/xml" | "application/xml")
        || content_type.ends_with("+xml")
}

/// UTF-8 without control characters. A character that is cut off at the end is complete in the file.
fn is_text(beginning: &[u8]) -> bool {
    let text = match str::from_utf8(beginning) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            let valid = beginning.get(..error.valid_up_to()).unwrap_or_default();
            str::from_utf8(valid).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text
        .chars()
        .any(|character| character.is_control() && !"\t\n\r\u{c}\u{85}".contains(character))
}
