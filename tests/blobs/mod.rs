//! S3 against real servers, and through a proxy that behaves as other services do.

mod addressing;
mod bucket;
mod errors;
mod faults;
mod modes;
mod multipart;
mod objects;
mod recipe;

use bytes::Bytes;
use chatto::blobs::s3::{Download, S3, S3Error, Upload};

const MIB: usize = 1024 * 1024;

/// Bytes that tell where they are.
fn bytes(length: usize) -> Bytes {
    let words = (0..length.div_ceil(4)).flat_map(|word| u32::try_from(word).unwrap().to_le_bytes());
    let mut bytes: Vec<u8> = words.collect();
    bytes.truncate(length);
    bytes.into()
}

/// Uploads in chunks that do not fit the parts.
async fn upload(s3: &S3, key: &str, body: &Bytes) -> Result<(), S3Error> {
    let mut upload = Upload::new(s3.clone(), key, 5 * MIB);
    for chunk in body.chunks(777_777) {
        upload.write(chunk).await?;
    }
    upload.finish().await
}

async fn rest(mut download: Download) -> Result<Vec<u8>, S3Error> {
    let mut read = Vec::new();
    while let Some(chunk) = download.next().await? {
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}

async fn read(s3: &S3, key: &str) -> Result<Vec<u8>, S3Error> {
    rest(s3.get(key, None).await?).await
}

/// Equal, without printing megabytes if not.
#[track_caller]
fn assert_same(read: &[u8], expected: &[u8], what: &str) {
    assert_eq!(read.len(), expected.len(), "{what}: length");
    assert!(read == expected, "{what}: bytes differ");
}
