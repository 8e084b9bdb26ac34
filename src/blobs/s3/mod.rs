//! Files in an S3 bucket: put, get, delete, list, multipart uploads, presigned URLs and the check of a bucket.
//!
//! Callers use keys without prefix, so a prefix can change with the settings. Every call has a deadline and is repeated
//! when the service is busy or the connection is cut; all of them may be repeated without harm. It knows nothing of the
//! records that name these keys.

mod check;
mod config;
mod download;
mod error;
mod health;
mod multipart;
mod object;
mod transport;
mod upload;
mod xml;

use std::sync::Arc;

pub use check::Bucket;
pub use config::{Config, ConfigError};
pub use download::Download;
pub use error::{Action, S3Error};
pub use health::S3Health;
pub use multipart::{Length, Part, UnfinishedUpload, UploadId, part_size};
pub use object::{Object, ObjectInfo, Page, Presigned};
pub use upload::{Progress, Upload};

use crate::limits::S3_KEY_MAX_BYTES;
use crate::runtime::Clock;
use transport::Transport;

/// A bucket at an S3 service. Clones share its connections.
#[derive(Clone)]
pub struct S3 {
    transport: Arc<Transport>,
    keys: Arc<Keys>,
}

impl S3 {
    /// Prepares requests; sends none.
    ///
    /// # Errors
    /// [`ConfigError`] when the settings are unusable or the file of `ca_cert` cannot be read.
    pub fn build(config: Config, clock: Clock) -> Result<Self, ConfigError> {
        let keys = Arc::new(Keys::new(&config.path_prefix));
        Ok(Self { transport: Arc::new(Transport::build(config, clock)?), keys })
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.transport.context.bucket
    }

    /// What the responses of the service say.
    #[must_use]
    pub fn health(&self) -> S3Health {
        self.transport.health.get()
    }

    /// The origin of the service, as presigned URLs name it.
    #[must_use]
    pub fn origin(&self) -> String {
        self.transport.address.origin(&self.transport.context.bucket)
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("S3").field(&self.transport.context).finish()
    }
}

/// Turns the keys of callers into those of objects and back.
#[derive(Debug)]
struct Keys {
    /// Empty, or with a final slash.
    prefix: String,
}

impl Keys {
    fn new(prefix: &str) -> Self {
        let inner = prefix.trim_matches('/');
        Self { prefix: if inner.is_empty() { String::new() } else { format!("{inner}/") } }
    }

    /// Services and HTTP clients resolve the parts `.` and `..`, and some services drop empty ones: such a key would
    /// name another object.
    fn object(&self, key: &str) -> Result<String, S3Error> {
        let full = format!("{}{key}", self.prefix);
        let is_odd = |part: &str| matches!(part, "" | "." | "..");
        if full.len() > S3_KEY_MAX_BYTES
            || full.chars().any(char::is_control)
            || full.split('/').any(is_odd)
        {
            return Err(S3Error::Key { key: key.escape_debug().to_string() });
        }
        Ok(full)
    }

    /// The beginning of keys, which may be empty or end anywhere.
    fn beginning(&self, prefix: &str) -> String {
        format!("{}{prefix}", self.prefix)
    }

    fn without_prefix(&self, full: &str) -> Option<String> {
        full.strip_prefix(&self.prefix).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_added_here_only() {
        let keys = Keys::new("/production/chatto/");
        assert_eq!(keys.object("a/b").unwrap(), "production/chatto/a/b");
        assert_eq!(keys.without_prefix("production/chatto/a/b").as_deref(), Some("a/b"));
        assert_eq!(keys.without_prefix("production/other"), None);
        assert_eq!(Keys::new("/").object("a").unwrap(), "a");
    }

    #[test]
    fn keys_that_would_name_another_object_are_refused() {
        let keys = Keys::new("p");
        for key in ["", "/a", "a/", "a//b", ".", "a/./b", "../a", "a\nb", &"k".repeat(1023)] {
            assert!(matches!(keys.object(key), Err(S3Error::Key { .. })), "{key}");
        }
        for key in ["a b+c~&%2F", "é", "...", ".a", &"k".repeat(1022)] {
            keys.object(key).unwrap();
        }
    }
}
