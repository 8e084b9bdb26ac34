//! Limits of images that are decoded.

use std::time::Duration;

use super::{KIB, MIB};

/// Memory that the process which decodes an image may take, below 1 GB of memory and elsewhere; an image that needs
/// more is shown as it is.
pub const IMAGE_MEMORY_SMALL_MAX_BYTES: usize = 48 * MIB;
/// See [`IMAGE_MEMORY_SMALL_MAX_BYTES`].
pub const IMAGE_MEMORY_MAX_BYTES: usize = 192 * MIB;
/// Pixels of an image that is decoded, whatever `core.assets.max_image_pixels` says: 200 million, the most that phones
/// make, and some.
pub const IMAGE_PIXELS_MAX: u64 = 1 << 28;
/// Processor time for one image; the kernel ends the process that takes more.
pub const IMAGE_CPU_MAX: Duration = Duration::from_secs(20);
/// Time for one image; after it the process is ended, and the image is shown as it is this time.
pub const IMAGE_DEADLINE: Duration = Duration::from_secs(60);
/// Images that wait to be made; further requests get 503 with `Retry-After`.
pub const IMAGE_QUEUE_MAX: usize = 32;
/// How long a request waits in this queue, then 503.
pub const IMAGE_WAIT_MAX: Duration = Duration::from_secs(20);
/// Width and height of an avatar (contract 10.4).
pub const AVATAR_SIDE_MAX: u32 = 256;
/// Width and height of the server's logo, which the web manifest shows at this size (contract 9).
pub const LOGO_SIDE_MAX: u32 = 512;
/// Width of the server's banner.
pub const BANNER_WIDTH_MAX: u32 = 1_600;
/// Height of the server's banner.
pub const BANNER_HEIGHT_MAX: u32 = 800;
/// Width and height of the icon of pages (contract 9).
pub const FAVICON_SIDE: u32 = 32;
/// Width and height of the icon on Apple's home screen (contract 9).
pub const TOUCH_ICON_SIDE: u32 = 180;
/// Width and height of the icons in the web manifest (contract 9).
pub const MANIFEST_ICON_SIDES: [u32; 2] = [192, LOGO_SIDE_MAX];
/// Size of a file that is decoded.
pub const IMAGE_FILE_MAX_BYTES: u64 = 64 * MIB as u64;
/// Size of an image that was made, which is in memory while it is sent; instead of a larger one the file is shown.
pub const IMAGE_MADE_MAX_BYTES: u64 = 2 * MIB as u64;
/// Pixels of width and height of a variant of an image (contract 10.3); there is none of a larger size (404).
pub const VARIANT_SIDE_MAX: u32 = 4_096;
/// How much larger an image upload's request may be than the general upload limit.
pub const API_IMAGE_ENVELOPE_MAX_BYTES: usize = 64 * KIB;
