//! Where the bytes of files are: in NATS or in a bucket of S3. It knows files by their id and neither rooms nor rights.

pub mod s3;
