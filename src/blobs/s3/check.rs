//! The check of a bucket: it exists or is created, and its objects can be written, read and deleted.

use bytes::Bytes;
use minio_rsc::http::Method;

use super::transport::Request;
use super::{Action, S3, S3Error, xml};
use crate::crypto::token_text;
use crate::limits::S3_RESPONSE_MAX_BYTES;

/// What the keys of a check's objects begin with; the time follows, in milliseconds since 1970.
const PROBE_PREFIX: &str = "chatto-check-";
/// Longer than any check.
const PROBE_LIFE_MS: i64 = 3_600_000;

/// What [`S3::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    Existed,
    Created,
}

impl S3 {
    /// Makes sure that the bucket exists and that this access key may use it. The caller repeats it as long as it
    /// fails.
    ///
    /// A key that may neither look at the bucket nor create it is sufficient if it may write, read and delete objects.
    pub async fn check(&self) -> Result<Bucket, S3Error> {
        let checked = Box::pin(self.check_once()).await;
        self.transport.health.note_check(&checked, self.transport.clock.unix_ms());
        checked
    }

    async fn check_once(&self) -> Result<Bucket, S3Error> {
        match Box::pin(self.find_bucket()).await {
            Ok(()) => self.probe().await.map(|()| Bucket::Existed),
            Err(missing @ S3Error::BucketMissing { .. }) => {
                let found = Box::pin(self.create_or_find(missing)).await?;
                self.probe().await.map(|()| found)
            }
            Err(denied @ S3Error::Permission { .. }) => match self.probe().await {
                Ok(()) => Ok(Bucket::Existed),
                Err(S3Error::Permission { .. }) => Err(self.explain_denied(denied).await),
                Err(error) => Err(error),
            },
            Err(error) => Err(self.explain_unreachable(error).await),
        }
    }

    /// Looks whether the bucket exists; changes nothing.
    ///
    /// # Errors
    /// [`S3Error::BucketMissing`] if it does not, [`S3Error::Permission`] if this key may not look, and all others.
    pub async fn find_bucket(&self) -> Result<(), S3Error> {
        let request = Request::new(Method::HEAD, Action::FindBucket, None);
        self.transport.open(&request).await.map(|_| ())
    }

    /// Creates the bucket, or finds that somebody else was faster.
    async fn create_or_find(&self, missing: S3Error) -> Result<Bucket, S3Error> {
        let refused = match self.create_bucket().await {
            Ok(()) => return Ok(Bucket::Created),
            Err(refused) => refused,
        };
        let exists = matches!(refused, S3Error::BucketExists { .. });
        if !exists && !matches!(refused, S3Error::Permission { .. }) {
            return Err(refused);
        }
        let bucket = self.transport.context.bucket.clone();
        match self.find_bucket().await {
            Ok(()) => Ok(Bucket::Existed),
            Err(S3Error::Permission { .. }) if exists => Err(S3Error::BucketForeign { bucket }),
            // Its name is taken, but it is not there yet, or not anymore.
            Err(S3Error::BucketMissing { .. }) if exists => Err(S3Error::Busy { status: 409 }),
            Err(S3Error::BucketMissing { .. }) => Err(missing),
            Err(error) => Err(error),
        }
    }

    async fn create_bucket(&self) -> Result<(), S3Error> {
        let request = Request::new(Method::PUT, Action::CreateBucket, None);
        let region = &self.transport.context.region;
        // AWS refuses a constraint for its first region; `auto` is none.
        let constrained = (region != "us-east-1" && region != "auto").then(|| {
            let region = xml::escaped(region);
            request.clone().xml(format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ))
        });
        let max = S3_RESPONSE_MAX_BYTES;
        if let Some(constrained) = constrained {
            match self.transport.call(&constrained, max).await {
                // Ceph knows zone groups instead.
                Err(S3Error::RegionUnknown { .. }) => {}
                done => return done.map(|_| ()),
            }
        }
        self.transport.call(&request, max).await.map(|_| ())
    }

    /// Deletes what checks left that were killed: their keys say when they began. It may be the check of another server
    /// with the same bucket, which is over as well.
    pub async fn remove_old_probes(&self, now_ms: i64) -> Result<(), S3Error> {
        let page = self.list(PROBE_PREFIX, None).await?;
        for object in page.entries {
            let rest = object.key.strip_prefix(PROBE_PREFIX);
            let began = rest.and_then(|rest| rest.split_once('-')?.0.parse::<i64>().ok());
            if began.is_some_and(|began| began < now_ms.saturating_sub(PROBE_LIFE_MS)) {
                self.delete(&object.key).await?;
            }
        }
        Ok(())
    }

    /// Writes, reads and deletes a small object. Its key is random, so several processes do not disturb each other.
    async fn probe(&self) -> Result<(), S3Error> {
        let key = format!("{PROBE_PREFIX}{}-{}", self.transport.clock.unix_ms(), token_text());
        let bytes = Bytes::from(key.clone().into_bytes());
        Box::pin(self.put(&key, bytes.clone())).await?;
        let read = Box::pin(self.read_probe(&key, &bytes)).await;
        // It is deleted even if it could not be read.
        Box::pin(self.delete(&key)).await?;
        read
    }

    async fn read_probe(&self, key: &str, bytes: &Bytes) -> Result<(), S3Error> {
        let mut download = self.get(key, None).await?;
        let mut read = Vec::new();
        while let Some(chunk) = download.next().await? {
            read.extend_from_slice(&chunk);
            if read.len() > bytes.len() {
                break;
            }
        }
        if read != *bytes {
            return Err(S3Error::Invalid { what: "other bytes than were stored" });
        }
        Ok(())
    }

    /// A bucket that this key may not use at all may belong to somebody else; an attempt to create it tells.
    async fn explain_denied(&self, denied: S3Error) -> S3Error {
        match self.create_bucket().await {
            Err(S3Error::BucketExists { bucket }) => S3Error::BucketForeign { bucket },
            Ok(()) | Err(_) => denied,
        }
    }

    /// When only the host name with the bucket fails, the service has no such names.
    async fn explain_unreachable(&self, error: S3Error) -> S3Error {
        let address = &self.transport.address;
        let may_be = matches!(error, S3Error::Unreachable { .. } | S3Error::Tls { .. });
        if address.path_style || !may_be || !self.transport.answers_without_bucket().await {
            return error;
        }
        let bucket = self.transport.context.bucket.clone();
        S3Error::Addressing { bucket, host: address.host.clone() }
    }
}
