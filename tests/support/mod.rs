//! Helpers of the integration tests.

use std::time::Duration;

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod failing_calls;
pub(crate) mod filter;
pub(crate) mod flood;
pub(crate) mod forward;
#[path = "../../src/golden.rs"]
pub(crate) mod golden;
pub(crate) mod mounts;
pub(crate) mod nats;
pub(crate) mod old_nats;
pub(crate) mod port;
pub(crate) mod proc;
pub(crate) mod protocol;
pub(crate) mod proxy;
pub(crate) mod realtime;
pub(crate) mod records;
pub(crate) mod relay;
pub(crate) mod replication_delay;
pub(crate) mod s3;
pub(crate) mod server;
pub(crate) mod trace;
pub(crate) mod wait;
pub(crate) mod write_relay;

/// Files in NATS, and the default of what is kept of images.
pub(crate) fn blobs() -> chatto::blobs::Config {
    chatto::blobs::Config {
        cache_max_bytes: 64 << 20,
        cache_ttl: Duration::from_secs(7 * 24 * 3600),
        ..Default::default()
    }
}

/// How images are resized on a small board.
pub(crate) fn images() -> chatto::media::image::Config {
    chatto::media::image::Config {
        program: env!("CARGO_BIN_EXE_chatto").into(),
        slots: 1,
        limits: chatto::media::image::DecoderLimits {
            memory_max_bytes: chatto::limits::IMAGE_MEMORY_SMALL_MAX_BYTES,
            pixels_max: chatto::limits::IMAGE_PIXELS_MAX,
        },
    }
}
