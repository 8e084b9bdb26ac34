//! Files as media: what kind of file some bytes are, and the size of images and videos.
//!
//! It knows nothing about users, rooms or where files are stored.

mod detect;
mod exif;
mod fields;

pub use detect::{Detected, detect, is_active, is_inline};
