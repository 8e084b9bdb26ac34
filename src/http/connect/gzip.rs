//! gzip for requests and responses (contract 2). Small bodies are compressed at once, larger ones off the
//! executor.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use hyper::header;

use crate::limits;
use crate::runtime::blocking;
use crate::web::Coding;

use super::super::body::{BodyError, BodyPermit, BufferedBody};
use super::super::head::Head;
use super::super::response::Response;

/// Decompresses a request body to at most `max` bytes, with a permit for the result.
///
/// # Errors
/// [`BodyError::TooLarge`], [`BodyError::Broken`] when it is not one gzip member, [`BodyError::Busy`].
pub(super) async fn expand(
    whole: BufferedBody,
    max: usize,
    permit: BodyPermit,
) -> Result<BufferedBody, BodyError> {
    blocking(move || expand_within(&whole.bytes, max, permit)).await
}

fn expand_within(
    compressed: &[u8],
    max: usize,
    mut permit: BodyPermit,
) -> Result<BufferedBody, BodyError> {
    let mut decoder = GzDecoder::new(compressed);
    let mut bytes = Vec::new();
    let mut step = vec![0; limits::HTTP_BODY_STEP_BYTES];
    loop {
        let n = decoder.read(&mut step).map_err(|source| BodyError::Broken { source })?;
        if n == 0 {
            break;
        }
        let total = bytes.len().saturating_add(n);
        if total > max {
            return Err(BodyError::TooLarge { max });
        }
        permit.grow_to(total)?;
        bytes.reserve_exact(n);
        bytes.extend_from_slice(step.get(..n).unwrap_or_default());
    }
    // There may be any number of empty members: the limit of bytes does not limit the work.
    if !decoder.into_inner().is_empty() {
        let text = "more than one gzip member";
        return Err(BodyError::Broken { source: io::Error::new(io::ErrorKind::InvalidData, text) });
    }
    Ok(BufferedBody { bytes, was_awaited: false, permit })
}

/// Compresses a response of at least `min_bytes` for a client that accepts gzip.
pub(super) async fn compress(
    response: Response,
    head: &Head,
    min_bytes: Option<usize>,
) -> Response {
    let Some(min_bytes) = min_bytes else { return response };
    let mut response = response.with(header::VARY, "Accept-Encoding");
    if response.body.len() < min_bytes || !head.accepted_codings().contains(&Coding::Gzip) {
        return response;
    }
    let body = response.body.clone();
    let compressed = if body.len() > limits::HTTP_COMPRESSION_AT_ONCE_MAX_BYTES {
        blocking(move || gzip(&body)).await
    } else {
        gzip(&body)
    };
    if let Some(compressed) = compressed
        && compressed.len() < response.body.len()
    {
        response.body = compressed;
        response = response.with(header::CONTENT_ENCODING, "gzip");
    }
    response
}

/// Writing into memory cannot fail; if it did, the response would be sent uncompressed.
fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}
