//! What can go wrong with the bytes of a file.

use super::s3::S3Error;
use crate::nats::{NatsError, PublishError};

/// Bytes of a file were not stored or not read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error(
        "bytes of the file are missing; if it is in S3, check core.assets.s3.bucket and path_prefix"
    )]
    Missing,
    /// They are not what was stored, or the key is another one.
    #[error("bytes of the file are damaged")]
    Damaged,
    #[error("the store of files returned an error")]
    Nats(#[from] NatsError),
    #[error("the store of files did not accept a write")]
    Publish(#[from] PublishError),
    /// What is left is for messages.
    #[error("too little of the disk is free for files")]
    DiskLow,
    #[error("the bucket returned an error")]
    S3(#[from] S3Error),
    #[error(
        "core.assets.s3 names no bucket; put its endpoint, bucket and keys into the settings and restart the server"
    )]
    NoBucket,
}
