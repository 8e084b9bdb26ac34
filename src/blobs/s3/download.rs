//! The bytes of an object as they come, resumed when the connection is cut.

use std::ops::Range;

use bytes::Bytes;
use minio_rsc::http::Method;
use minio_rsc::http::header::{CONTENT_RANGE, ETAG};
use reqwest::Response;

use super::object::{size_of, text};
use super::transport::Request;
use super::{Action, S3, S3Error};
use crate::limits::S3_RESUMES_MAX;

/// A download in progress. It ends after exactly the bytes that were asked for, or with an error.
pub struct Download {
    s3: S3,
    /// With the prefix.
    key: String,
    /// What has not come yet.
    left: Range<u64>,
    size: u64,
    etag: Option<String>,
    response: Option<Response>,
    /// Resumed so often since the last byte.
    resumes: u32,
}

impl S3 {
    /// Begins to download an object, or these bytes of it. Chunks have at most some 400 KiB, the read buffer of an
    /// HTTP/1 connection.
    ///
    /// # Errors
    /// [`S3Error::NotFound`], [`S3Error::RangeBeyondEnd`] when the object has not all bytes of `range`.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Download, S3Error> {
        let key = self.keys.object(key)?;
        if let Some(range) = range.clone()
            && range.is_empty()
        {
            return Err(S3Error::RangeBeyondEnd);
        }
        let mut request = Request::new(Method::GET, Action::Read, Some(key.clone()));
        if let Some(range) = &range {
            request = request.header("range", header(range));
        }
        let response = self.transport.open(&request).await?;
        let size = size_of(response.headers())
            .ok_or(S3Error::Invalid { what: "no length of an object" })?;
        let left = range.clone().unwrap_or(0..size);
        if left.end > size {
            return Err(S3Error::RangeBeyondEnd);
        }
        if range.is_some() {
            check_start(&response, left.start)?;
        }
        let etag = text(response.headers(), ETAG.as_str());
        Ok(Download {
            s3: self.clone(),
            key,
            left,
            size,
            etag,
            response: Some(response),
            resumes: 0,
        })
    }
}

impl Download {
    /// The size of the whole object.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.left.end.saturating_sub(self.left.start)
    }

    /// The next bytes; `None` after the last one.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call goes on.
    pub async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        while !self.left.is_empty() {
            let error = match self.chunk().await {
                Ok(Some(bytes)) => return Ok(Some(self.taken(bytes))),
                Ok(None) => {
                    let endpoint = self.s3.transport.context.endpoint.clone();
                    S3Error::Cut { endpoint, source: None }
                }
                Err(error) => error,
            };
            self.response = None;
            if !error.is_transient() || self.resumes >= S3_RESUMES_MAX {
                return Err(error);
            }
            self.resumes += 1;
            log::debug!(reason:% = error, at = self.left.start; "resuming a download from S3");
        }
        // Dropping the response before its end would close the connection; this byte-less read ends it.
        if let Some(mut response) = self.response.take() {
            self.s3.transport.chunk(&mut response).await.ok();
        }
        Ok(None)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, S3Error> {
        let response = match &mut self.response {
            Some(response) => response,
            None => {
                let response = Box::pin(resumed(&self.s3, &self.key, &self.left, &self.etag));
                self.response.insert(response.await?)
            }
        };
        self.s3.transport.chunk(response).await
    }

    fn taken(&mut self, mut bytes: Bytes) -> Bytes {
        self.resumes = 0;
        // A service that ignores the end of a range sends more.
        bytes.truncate(usize::try_from(self.remaining()).unwrap_or(usize::MAX));
        self.left.start += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        bytes
    }
}

async fn resumed(
    s3: &S3,
    key: &str,
    left: &Range<u64>,
    etag: &Option<String>,
) -> Result<Response, S3Error> {
    let mut request =
        Request::new(Method::GET, Action::Read, Some(key.to_owned())).header("range", header(left));
    // Not the rest of another object.
    if let Some(etag) = etag {
        request = request.header("if-match", etag);
    }
    let response = s3.transport.open(&request).await?;
    check_start(&response, left.start)?;
    Ok(response)
}

fn header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// A service that ignores ranges sends the object from its beginning.
fn check_start(response: &Response, start: u64) -> Result<(), S3Error> {
    let range = text(response.headers(), CONTENT_RANGE.as_str());
    let begins = match &range {
        Some(range) => range
            .strip_prefix("bytes ")
            .and_then(|range| range.split_once('-'))
            .and_then(|(first, _)| first.trim().parse::<u64>().ok()),
        None => Some(0),
    };
    if begins == Some(start) {
        return Ok(());
    }
    Err(S3Error::Invalid { what: "other bytes than it was asked for" })
}
