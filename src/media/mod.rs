//! Files as media: what kind of file some bytes are, the size of images and videos, and images in other sizes.
//!
//! It knows nothing about users, rooms or where files are stored.

mod detect;
mod exif;
mod fields;
pub mod image;

pub use detect::{Detected, detect, is_active, is_inline};
