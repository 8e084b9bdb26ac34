//! Multipart uploads: begin, put parts, complete, abort; listing those that nobody finished; the size of parts.
#![warn(clippy::arithmetic_side_effects)]

use bytes::Bytes;
use minio_rsc::http::Method;
use minio_rsc::http::header::ETAG;

use super::object::{BEGINS_AGAIN, Page, decoder, is_truncated, text};
use super::transport::Request;
use super::{Action, S3, S3Error, xml};
use crate::limits::{
    S3_COMPLETE_TIMEOUT, S3_PAGE_ENTRIES_MAX, S3_PAGE_MAX_BYTES, S3_PART_MIN_BYTES, S3_PARTS_MAX,
    S3_PARTS_OF_UNKNOWN_LENGTH_MAX, S3_RESPONSE_MAX_BYTES,
};

const MIB: u64 = 1024 * 1024;

/// The name of a multipart upload, chosen by the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadId(pub String);

/// A part that the service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// As it came; the completion sends it back.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedUpload {
    /// Without prefix.
    pub key: String,
    pub id: UploadId,
    /// When it was begun, as the service writes it (ISO 8601); empty if it does not tell.
    pub initiated: String,
}

/// What is known of the length of an upload before it begins, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Known(u64),
    AtMost(u64),
}

/// The size of all parts of an upload, except for a shorter last one. R2 refuses other parts, so the size is chosen
/// once. A shorter upload needs no parts.
#[must_use]
pub fn part_size(length: Length) -> u64 {
    let smallest = match length {
        Length::Known(bytes) => bytes.div_ceil(S3_PARTS_MAX),
        Length::AtMost(bytes) => bytes.div_ceil(S3_PARTS_OF_UNKNOWN_LENGTH_MAX),
    };
    let at_least = smallest.max(u64::try_from(S3_PART_MIN_BYTES).unwrap_or(u64::MAX));
    at_least.div_ceil(MIB).saturating_mul(MIB)
}

impl S3 {
    /// Begins a multipart upload. If the response is lost it is begun again; the first one then stays empty until it is
    /// aborted by a sweep or by a lifecycle rule of the bucket.
    pub async fn begin(&self, key: &str) -> Result<UploadId, S3Error> {
        let request = Request::new(Method::POST, Action::Write, Some(self.keys.object(key)?));
        let request = request.query("uploads", "");
        let reply = self.transport.call(&request, S3_RESPONSE_MAX_BYTES).await?;
        let id = xml::text(&reply.body, "UploadId").filter(|id| !id.is_empty());
        id.map(UploadId).ok_or(S3Error::Invalid { what: "no id of a new upload" })
    }

    /// Stores the part with this number, from 1; a part of this number is replaced.
    ///
    /// # Cancel safety
    /// After a drop the part may be stored; putting it again is harmless.
    pub async fn put_part(
        &self,
        key: &str,
        id: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<Part, S3Error> {
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let request = Request::new(Method::PUT, Action::Write, Some(self.keys.object(key)?))
            .query("partNumber", &number.to_string())
            .query("uploadId", &id.0)
            .body(body);
        let reply = self.transport.call(&request, S3_RESPONSE_MAX_BYTES).await?;
        let etag = text(&reply.headers, ETAG.as_str());
        let etag = etag.ok_or(S3Error::Invalid { what: "no ETag of a part" })?;
        Ok(Part { number, etag, size })
    }

    /// Makes the object of these parts, in the order of their numbers.
    ///
    /// # Errors
    /// Also when the service reports a success and an error in its body.
    ///
    /// # Cancel safety
    /// After a drop the object is there as a whole or not at all; completing again is harmless.
    pub async fn complete(&self, key: &str, id: &UploadId, parts: &[Part]) -> Result<(), S3Error> {
        let request = Request::new(Method::POST, Action::Write, Some(self.keys.object(key)?))
            .query("uploadId", &id.0)
            .xml(completion(parts))
            .at_least(S3_COMPLETE_TIMEOUT);
        match self.transport.call(&request, S3_RESPONSE_MAX_BYTES).await {
            Ok(reply) if reply.body.contains("CompleteMultipartUploadResult") => Ok(()),
            // Neither says that the object is there: the response to an earlier try may be lost, a body cut.
            Ok(_) | Err(S3Error::UploadMissing) => {
                let whole = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.size));
                match self.head(key).await {
                    Ok(object) if object.size == whole => Ok(()),
                    Ok(_) | Err(S3Error::NotFound) => Err(S3Error::UploadMissing),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an upload and its parts. One that does not exist counts as removed.
    pub async fn abort(&self, key: &str, id: &UploadId) -> Result<(), S3Error> {
        let request = Request::new(Method::DELETE, Action::Write, Some(self.keys.object(key)?))
            .query("uploadId", &id.0);
        match self.transport.call(&request, S3_RESPONSE_MAX_BYTES).await {
            Ok(_) | Err(S3Error::UploadMissing | S3Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A page of the uploads that are not finished and whose keys begin with `prefix`; `after` is the `next` of the page
    /// before. Slow at some services.
    pub async fn list_multipart(
        &self,
        prefix: &str,
        after: Option<&(String, UploadId)>,
    ) -> Result<Page<UnfinishedUpload, (String, UploadId)>, S3Error> {
        let mut request = Request::new(Method::GET, Action::List, None)
            .query("uploads", "")
            .query("prefix", &self.keys.beginning(prefix))
            .query("max-uploads", &S3_PAGE_ENTRIES_MAX.to_string());
        if let Some((key, id)) = after {
            request = request
                .query("key-marker", &self.keys.beginning(key))
                .query("upload-id-marker", &id.0);
        }
        let body = self.transport.call(&request, S3_PAGE_MAX_BYTES).await?.body;
        let decoded = decoder(&body);
        let entries: Vec<_> = xml::elements(&body, "Upload")
            .filter_map(|entry| {
                let key = self.keys.without_prefix(&decoded(xml::text(entry, "Key")?))?;
                let id = UploadId(xml::text(entry, "UploadId")?);
                let initiated = xml::text(entry, "Initiated").unwrap_or_default();
                Some(UnfinishedUpload { key, id, initiated })
            })
            .collect();
        let next = entries.last().filter(|_| is_truncated(&body));
        let next = next.map(|last| (last.key.clone(), last.id.clone()));
        if next.is_some() && next.as_ref() == after {
            return Err(BEGINS_AGAIN);
        }
        Ok(Page { entries, next })
    }
}

fn completion(parts: &[Part]) -> String {
    use std::fmt::Write as _;
    let mut text =
        String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for part in parts {
        // Writing to a String cannot fail.
        write!(
            text,
            "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>",
            part.number,
            xml::escaped(&part.etag)
        )
        .ok();
    }
    text + "</CompleteMultipartUpload>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_size_serves_the_whole_upload() {
        let (smallest, gib) = (5 * MIB, 1024 * MIB);
        for (length, size) in [
            (Length::Known(0), smallest),
            (Length::AtMost(25 * MIB), smallest),
            (Length::Known(10_000 * smallest), smallest),
            (Length::Known(10_000 * smallest + 1), smallest + MIB),
            (Length::AtMost(9_000 * smallest), smallest),
            (Length::AtMost(9_000 * smallest + 1), smallest + MIB),
            (Length::Known(5 * 1024 * gib), 525 * MIB),
        ] {
            assert_eq!(part_size(length), size, "{length:?}");
        }
        for bytes in [1, smallest, 77 * gib + 1, 5 * 1024 * gib] {
            assert!(bytes.div_ceil(part_size(Length::Known(bytes))) <= S3_PARTS_MAX);
            let parts = bytes.div_ceil(part_size(Length::AtMost(bytes)));
            assert!(parts <= S3_PARTS_OF_UNKNOWN_LENGTH_MAX, "{bytes}");
        }
    }
}
