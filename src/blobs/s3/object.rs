//! Whole objects: put, head, delete, list, presigned URL.

use std::time::Duration;

use bytes::Bytes;
use minio_rsc::client::PresignedArgs;
use minio_rsc::http::Method;
use minio_rsc::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};
use percent_encoding::percent_decode_str;

use super::transport::{Request, encoded};
use super::{Action, S3, S3Error, xml};
use crate::limits::{
    S3_PAGE_ENTRIES_MAX, S3_PAGE_MAX_BYTES, S3_PRESIGNED_MAX, S3_RESPONSE_MAX_BYTES,
};
use crate::runtime::on_tokio;

/// What is known of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size: u64,
    /// As it came: neither a hash nor comparable with one. Absent at some services.
    pub etag: Option<String>,
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Without prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, N> {
    pub entries: Vec<T>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<N>,
}

/// How a presigned URL presents the object.
#[derive(Debug, Clone, Copy)]
pub struct Presigned<'a> {
    /// At most seven days.
    pub ttl: Duration,
    /// The `Content-Type` of the response.
    pub content_type: &'a str,
    /// Its `Content-Disposition`.
    pub disposition: &'a str,
}

impl S3 {
    /// Stores an object in one request, which is signed with the SHA-256 of its bytes. An object of this key is
    /// replaced.
    ///
    /// # Cancel safety
    /// After a drop the object is there as a whole or not at all.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<(), S3Error> {
        let request = Request::new(Method::PUT, Action::Write, Some(self.keys.object(key)?));
        self.transport.call(&request.body(body), S3_RESPONSE_MAX_BYTES).await.map(|_| ())
    }

    /// Size and ETag of an object.
    ///
    /// # Errors
    /// [`S3Error::NotFound`] when it does not exist.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, S3Error> {
        let request = Request::new(Method::HEAD, Action::Read, Some(self.keys.object(key)?));
        let response = self.transport.open(&request).await?;
        let size = size_of(response.headers())
            .ok_or(S3Error::Invalid { what: "no length of an object" })?;
        Ok(ObjectInfo { size, etag: text(response.headers(), ETAG.as_str()) })
    }

    /// Deletes an object. One that does not exist counts as deleted.
    pub async fn delete(&self, key: &str) -> Result<(), S3Error> {
        let request = Request::new(Method::DELETE, Action::Delete, Some(self.keys.object(key)?));
        match self.transport.call(&request, S3_RESPONSE_MAX_BYTES).await {
            Ok(_) | Err(S3Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A page of the objects whose keys begin with `prefix`, in the order of their keys; `after` is the `next` of the
    /// page before. Slow at some services.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Page<Object, String>, S3Error> {
        // Version 1, because Ceph and SeaweedFS have faults in version 2 (rclone's list of services).
        let mut request = Request::new(Method::GET, Action::List, None)
            .query("prefix", &self.keys.beginning(prefix))
            .query("max-keys", &S3_PAGE_ENTRIES_MAX.to_string());
        if let Some(after) = after {
            request = request.query("marker", &self.keys.beginning(after));
        }
        let body = self.transport.call(&request, S3_PAGE_MAX_BYTES).await?.body;
        let decoded = decoder(&body);
        let mut last = None;
        let mut entries = Vec::new();
        for entry in xml::elements(&body, "Contents") {
            let Some(key) = xml::text(entry, "Key").map(&decoded) else { continue };
            let size = xml::text(entry, "Size").and_then(|size| size.parse().ok());
            if let Some(key) = self.keys.without_prefix(&key) {
                last = Some(key.clone());
                entries.push(Object { key, size: size.unwrap_or_default() });
            }
        }
        let next = is_truncated(&body).then(|| {
            let marker = xml::text(&body, "NextMarker").map(decoded);
            marker.and_then(|marker| self.keys.without_prefix(&marker)).or(last)
        });
        let next = next.flatten();
        if next.is_some() && next.as_deref() == after {
            return Err(BEGINS_AGAIN);
        }
        Ok(Page { entries, next })
    }

    /// A URL with which anybody can download this object until it expires.
    pub async fn presign_get(&self, key: &str, how: &Presigned<'_>) -> Result<String, S3Error> {
        let key = self.keys.object(key)?;
        let seconds = how.ttl.clamp(Duration::from_secs(1), S3_PRESIGNED_MAX).as_secs();
        let args = PresignedArgs::new(self.transport.context.bucket.as_str(), key)
            .expires(usize::try_from(seconds).unwrap_or(usize::MAX))
            .query("response-content-type", encoded(how.content_type))
            .query("response-content-disposition", encoded(how.disposition));
        let signed = on_tokio(self.transport.client().presigned_get_object(args)).await;
        signed.map_err(|error| S3Error::Request { source: Box::new(error) })
    }
}

/// The next page would begin where this one did: whoever follows such a listing never comes to its end.
pub(super) const BEGINS_AGAIN: S3Error =
    S3Error::Invalid { what: "a listing whose next page is the same" };

/// Some services encode the keys of a listing although nobody asked them to, and say so.
pub(super) fn decoder(body: &str) -> impl Fn(String) -> String + use<> {
    let is_encoded = xml::text(body, "EncodingType").as_deref() == Some("url");
    move |key: String| {
        if !is_encoded {
            return key;
        }
        let spaces = key.replace('+', " ");
        percent_decode_str(&spaces).decode_utf8_lossy().into_owned()
    }
}

pub(super) fn is_truncated(body: &str) -> bool {
    xml::text(body, "IsTruncated").is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The size of the whole object, from the response to a HEAD, a GET or a GET of a range.
pub(super) fn size_of(headers: &HeaderMap) -> Option<u64> {
    match text(headers, CONTENT_RANGE.as_str()) {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => text(headers, CONTENT_LENGTH.as_str())?.parse().ok(),
    }
}
