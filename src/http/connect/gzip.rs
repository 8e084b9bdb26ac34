//! gzip of requests and answers (contract 2). Small pieces are worked at once, larger ones off the
//! executor.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use hyper::header;

use crate::limits;
use crate::runtime::{MemorySlots, blocking};

use super::super::answer::Answer;
use super::super::body::{BodyError, Whole};
use super::super::head::Head;

/// Expands a request's body to at most `max` bytes.
///
/// # Errors
/// [`BodyError::TooLarge`], [`BodyError::Broken`] when it is not gzip, [`BodyError::Busy`].
pub(super) async fn expand(
    whole: Whole,
    max: usize,
    slots: &MemorySlots,
) -> Result<Whole, BodyError> {
    let Whole { bytes, slot } = whole;
    // How large it gets is only known afterwards.
    let slot = match slot {
        Some(slot) => slot,
        None => slots.take().await.map_err(|_busy| BodyError::Busy)?,
    };
    let expanded = blocking(move || expand_within(&bytes, max)).await?;
    Ok(Whole { bytes: expanded, slot: Some(slot) })
}

fn expand_within(bytes: &[u8], max: usize) -> Result<Vec<u8>, BodyError> {
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut expanded = Vec::new();
    let read = MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut expanded);
    read.map_err(|source| BodyError::Broken { source })?;
    if expanded.len() > max { Err(BodyError::TooLarge { max }) } else { Ok(expanded) }
}

/// Compresses an answer of at least `min_bytes` for a client that takes gzip.
pub(super) async fn compress(answer: Answer, head: &Head, min_bytes: Option<usize>) -> Answer {
    let Some(min_bytes) = min_bytes else { return answer };
    let mut answer = answer.with(header::VARY, "Accept-Encoding");
    if answer.body.len() < min_bytes || !takes_gzip(head) {
        return answer;
    }
    let body = answer.body.clone();
    let packed = if body.len() > limits::HTTP_SMALL_BODY_BYTES {
        blocking(move || pack(&body)).await
    } else {
        pack(&body)
    };
    if let Some(packed) = packed
        && packed.len() < answer.body.len()
    {
        answer.body = packed;
        answer = answer.with(header::CONTENT_ENCODING, "gzip");
    }
    answer
}

/// Writing into memory does not fail; should it, the answer goes out as it is.
fn pack(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Whether `Accept-Encoding` names gzip with a weight above 0 (RFC 9110, 12.5.3).
fn takes_gzip(head: &Head) -> bool {
    let values = head.headers.get_all(header::ACCEPT_ENCODING).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(',')).any(|one| {
        let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        coding.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}
