//! The nats-server child, the data directory's lock, signals and systemd notify.

mod bundled;

pub use bundled::{Bundled, UnpackError, bundled_server};
