//! What went wrong with S3, by its cause: each text says what happened and which setting to change.
//!
//! Services agree neither on statuses nor on codes, so the cause follows from all that they send: status, code, message
//! and date. Nothing here contains a credential or a signature.

use std::error::Error as StdError;
use std::time::Duration;

use super::xml;

/// What a request wanted to do, for the text of a missing permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    FindBucket,
    CreateBucket,
    List,
    Read,
    Write,
    Delete,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FindBucket => "look at the bucket (s3:ListBucket)",
            Self::CreateBucket => "create the bucket (s3:CreateBucket)",
            Self::List => "list objects (s3:ListBucket, s3:ListBucketMultipartUploads)",
            Self::Read => "read objects (s3:GetObject)",
            Self::Write => "write objects (s3:PutObject, s3:AbortMultipartUpload)",
            Self::Delete => "delete objects (s3:DeleteObject)",
        })
    }
}

/// A request to S3 failed.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    #[error("the S3 service does not know the access key; check core.assets.s3.access_key_id")]
    AccessKey,
    #[error(
        "the S3 service computed another signature than we did; check core.assets.s3.secret_access_key, and that no proxy \
         between here and the service changes requests"
    )]
    Secret,
    #[error(
        "the session token has expired or is not valid; set a new core.assets.s3.session_token with its keys"
    )]
    SessionToken,
    #[error(
        "the bucket is in region {expected}, not in {configured}; set core.assets.s3.region = \"{expected}\""
    )]
    Region { expected: String, configured: String },
    #[error(
        "the S3 service does not accept region {configured}; set core.assets.s3.region to the region of the bucket (Garage: \
         `s3_region` of its configuration, by default \"garage\")"
    )]
    RegionUnknown { configured: String },
    #[error(
        "the clock of this machine and that of the S3 service differ by {} minutes; set the clock, for example with NTP",
        .difference.as_secs() / 60
    )]
    Clock { difference: Duration },
    #[error(
        "{endpoint} cannot be reached; check core.assets.s3.endpoint, its port and the network"
    )]
    Unreachable {
        endpoint: String,
        #[source]
        source: reqwest::Error,
    },
    #[error(
        "TLS with {endpoint} failed; for a private authority set core.assets.s3.ca_cert, for a service without TLS \
         core.assets.s3.use_ssl = false"
    )]
    Tls {
        endpoint: String,
        #[source]
        source: reqwest::Error,
    },
    #[error(
        "{endpoint} speaks TLS only; set core.assets.s3.use_ssl = true, or an https:// endpoint"
    )]
    TlsRequired { endpoint: String },
    #[error(
        "{bucket}.{host} cannot be used, but {host} can: the service has no host names for buckets; set \
         core.assets.s3.path_style = true"
    )]
    Addressing { bucket: String, host: String },
    #[error(
        "{endpoint} redirects requests to {location}; set core.assets.s3.endpoint to the address of the service itself"
    )]
    Redirected { endpoint: String, location: String },
    #[error(
        "the access key may not {action}; extend its policy, or check that core.assets.s3.bucket and path_prefix are \
         the ones it is for"
    )]
    Permission { action: Action },
    #[error(
        "the bucket {bucket} does not exist at {endpoint}; create it, or check core.assets.s3.bucket and endpoint; if the \
         service has no host names for buckets, set core.assets.s3.path_style = true"
    )]
    BucketMissing { bucket: String, endpoint: String },
    #[error(
        "the bucket {bucket} belongs to somebody else; choose another name for core.assets.s3.bucket"
    )]
    BucketForeign { bucket: String },
    /// The name of a bucket is taken, by us or by somebody else.
    #[error("the bucket {bucket} exists already")]
    BucketExists { bucket: String },
    #[error(
        "the object does not exist; if objects were moved, check core.assets.s3.path_prefix and bucket"
    )]
    NotFound,
    #[error(
        "the multipart upload does not exist: it was completed, aborted or removed by a lifecycle rule of the bucket"
    )]
    UploadMissing,
    #[error("the bytes asked for are beyond the end of the object")]
    RangeBeyondEnd,
    #[error(
        "the S3 service does not store more: a quota or its disk is full; raise the quota or delete objects"
    )]
    Quota,
    #[error(
        "the S3 service is busy or has a fault of its own (status {status}); requests are repeated later"
    )]
    Busy { status: u16 },
    #[error(
        "the connection to {endpoint} was cut before the response was complete; requests are repeated later"
    )]
    Cut {
        endpoint: String,
        #[source]
        source: Option<reqwest::Error>,
    },
    #[error(
        "{endpoint} did not respond within {} s; on a slow connection raise core.assets.s3.timeout",
        .limit.as_secs()
    )]
    Timeout { endpoint: String, limit: Duration },
    #[error(
        "`{key}` cannot be the key of an object: it is too long, or has control characters or a part that is empty, . or .."
    )]
    Key { key: String },
    #[error(
        "unexpected response of the S3 service: status {status}, code {code:?}, message {message:?}"
    )]
    Unexpected { status: u16, code: String, message: String },
    /// The response is one that no service should send, for example a part without an ETag.
    #[error("the S3 service sent {what}; if a proxy is between here and the service, check it")]
    Invalid { what: &'static str },
    #[error("the request to S3 cannot be built")]
    Request {
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl S3Error {
    /// Whether the same request may succeed later without intervention.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Cut { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. } => true,
            Self::AccessKey
            | Self::Secret
            | Self::SessionToken
            | Self::Region { .. }
            | Self::RegionUnknown { .. }
            | Self::Clock { .. }
            | Self::Tls { .. }
            | Self::TlsRequired { .. }
            | Self::Addressing { .. }
            | Self::Redirected { .. }
            | Self::Permission { .. }
            | Self::BucketMissing { .. }
            | Self::BucketForeign { .. }
            | Self::BucketExists { .. }
            | Self::NotFound
            | Self::UploadMissing
            | Self::RangeBeyondEnd
            | Self::Quota
            | Self::Key { .. }
            | Self::Unexpected { .. }
            | Self::Invalid { .. }
            | Self::Request { .. } => false,
        }
    }

    /// Whether something is wrong, in contrast to an object that is not there.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        !matches!(
            self,
            Self::NotFound
                | Self::UploadMissing
                | Self::RangeBeyondEnd
                | Self::BucketExists { .. }
                | Self::Key { .. }
        )
    }

    /// Whether every other request is likely to fail too, whatever it is about.
    #[must_use]
    pub fn concerns_all_requests(&self) -> bool {
        self.is_transient()
            || self.is_about_settings()
            || matches!(
                self,
                Self::Addressing { .. } | Self::BucketMissing { .. } | Self::BucketForeign { .. }
            )
    }

    /// Whether the service refused the credential, the region or the clock, so every other request fails too.
    #[must_use]
    pub fn is_about_settings(&self) -> bool {
        matches!(
            self,
            Self::AccessKey
                | Self::Secret
                | Self::SessionToken
                | Self::Region { .. }
                | Self::RegionUnknown { .. }
                | Self::Clock { .. }
                | Self::Tls { .. }
                | Self::TlsRequired { .. }
                | Self::Redirected { .. }
        )
    }
}

/// What an error text says about our side.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) endpoint: String,
    pub(super) bucket: String,
    pub(super) region: String,
}

/// A response that is not a success.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `Location`
    pub(super) location: Option<String>,
    /// `x-amz-bucket-region`
    pub(super) region: Option<String>,
    /// How far the `Date` of the response is from our clock.
    pub(super) clock_difference: Option<Duration>,
    /// Whether the request named an object.
    pub(super) of_object: bool,
    pub(super) body: String,
}

/// A larger difference makes services refuse signatures.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(15 * 60);
/// How much of a service's message an error keeps.
const MESSAGE_MAX_CHARS: usize = 200;

impl Refusal {
    /// The cause of this refusal.
    pub(super) fn cause(&self, context: &Context, action: Action) -> S3Error {
        let code = xml::text(&self.body, "Code").unwrap_or_default();
        let message = xml::text(&self.body, "Message").unwrap_or_default();
        let by_code = self.by_code(&code, context);
        by_code
            .or_else(|| self.by_message(&message, context))
            .or_else(|| self.by_status(&code, context, action))
            .unwrap_or_else(|| S3Error::Unexpected {
                status: self.status,
                code: shortened(&code),
                message: shortened(if message.is_empty() { &self.body } else { &message }),
            })
    }

    fn by_code(&self, code: &str, context: &Context) -> Option<S3Error> {
        let bucket = || context.bucket.clone();
        Some(match code {
            // XAdminUserNotFound: versitygw; InvalidSecurity: Google.
            "InvalidAccessKeyId" | "XAdminUserNotFound" | "InvalidSecurity" => S3Error::AccessKey,
            "SignatureDoesNotMatch" => self.clock().unwrap_or(S3Error::Secret),
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => S3Error::SessionToken,
            "RequestTimeTooSkewed" => {
                S3Error::Clock { difference: self.clock_difference.unwrap_or(CLOCK_DIFFERENCE_MAX) }
            }
            "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "PermanentRedirect"
            | "InvalidRegionName"
            | "IllegalLocationConstraintException"
            | "InvalidLocationConstraint" => self.wrong_region(context)?,
            // The DNS of a new bucket is not everywhere yet.
            "TemporaryRedirect" => S3Error::Busy { status: self.status },
            "NoSuchBucket" => {
                S3Error::BucketMissing { bucket: bucket(), endpoint: context.endpoint.clone() }
            }
            "BucketAlreadyOwnedByYou" | "BucketAlreadyExists" | "BucketNameUnavailable" => {
                S3Error::BucketExists { bucket: bucket() }
            }
            "NoSuchKey" => S3Error::NotFound,
            "NoSuchUpload" => S3Error::UploadMissing,
            "InvalidRange" => S3Error::RangeBeyondEnd,
            "QuotaExceeded"
            | "XMinioStorageFull"
            | "XMinioAdminBucketQuotaExceeded"
            | "StorageLimitExceeded" => S3Error::Quota,
            "SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout"
            | "OperationAborted" => S3Error::Busy { status: self.status },
            _ => return None,
        })
    }

    fn by_message(&self, message: &str, context: &Context) -> Option<S3Error> {
        let text = if message.is_empty() { &self.body } else { message };
        let text = text.to_ascii_lowercase();
        let has = |part: &str| text.contains(part);
        Some(match self.status {
            // Go's HTTP server; nginx.
            400 if has("http request to an https server")
                || has("http request was sent to https port") =>
            {
                S3Error::TlsRequired { endpoint: context.endpoint.clone() }
            }
            // Garage has one code for everything that it denies; R2 measures the access key.
            400 | 403 if has("no such key: gk") || has("credential access key has length") => {
                S3Error::AccessKey
            }
            403 if has("invalid signature") => S3Error::Secret,
            403 if has("quota") || has("cap exceeded") => S3Error::Quota,
            _ => return None,
        })
    }

    fn by_status(&self, code: &str, context: &Context, action: Action) -> Option<S3Error> {
        let bucket = || context.bucket.clone();
        Some(match self.status {
            300..=399 => return self.redirect(context),
            400 if self.clock().is_some() => self.clock()?,
            401 => S3Error::AccessKey,
            402 | 507 => S3Error::Quota,
            403 => self.clock().unwrap_or(S3Error::Permission { action }),
            404 if self.of_object && (code.is_empty() || code == "NotFound") => S3Error::NotFound,
            404 if code.is_empty() || code == "NotFound" => {
                S3Error::BucketMissing { bucket: bucket(), endpoint: context.endpoint.clone() }
            }
            409 if action == Action::CreateBucket => S3Error::BucketExists { bucket: bucket() },
            416 => S3Error::RangeBeyondEnd,
            408 | 429 | 500 | 502..=599 => S3Error::Busy { status: self.status },
            _ => return None,
        })
    }

    /// Services differ in what they say when clocks differ; the date of the response says it for sure.
    fn clock(&self) -> Option<S3Error> {
        let difference = self.clock_difference.filter(|by| *by > CLOCK_DIFFERENCE_MAX)?;
        Some(S3Error::Clock { difference })
    }

    fn wrong_region(&self, context: &Context) -> Option<S3Error> {
        let configured = context.region.clone();
        let stated = xml::text(&self.body, "Region").or_else(|| self.region.clone());
        let stated = stated.filter(|region| !region.is_empty() && *region != configured);
        if let Some(expected) = stated {
            return Some(S3Error::Region { expected: shortened(&expected), configured });
        }
        let message = xml::text(&self.body, "Message").unwrap_or_default();
        // A malformed header can also mean a wrong date or key.
        let about_region = ["region", "scope", "constraint"];
        if about_region.iter().any(|word| message.contains(word)) || message.is_empty() {
            return Some(S3Error::RegionUnknown { configured });
        }
        self.redirect(context)
    }

    fn redirect(&self, context: &Context) -> Option<S3Error> {
        let location = xml::text(&self.body, "Endpoint").or_else(|| self.location.clone())?;
        if let (Some(expected), configured) = (self.region.clone(), context.region.clone())
            && expected != configured
        {
            return Some(S3Error::Region { expected: shortened(&expected), configured });
        }
        // Without the query, which may hold a signature.
        let location = location.split('?').next().unwrap_or_default();
        Some(S3Error::Redirected {
            endpoint: context.endpoint.clone(),
            location: shortened(location),
        })
    }
}

/// The cause of a request that got no response, or of a body that ended early.
pub(super) fn of_transport(error: reqwest::Error, context: &Context) -> S3Error {
    let endpoint = context.endpoint.clone();
    // The address is in the text; its query says nothing to an operator.
    let source = error.without_url();
    if source.is_connect() && is_tls(&source) {
        S3Error::Tls { endpoint, source }
    } else if source.is_connect() {
        S3Error::Unreachable { endpoint, source }
    } else if source.is_builder() {
        S3Error::Request { source: Box::new(source) }
    } else {
        S3Error::Cut { endpoint, source: Some(source) }
    }
}

/// Whether rustls is in the chain of sources. An I/O error does not give the error inside of it as its source.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    false
}

/// Foreign text for an error: short and without control characters.
fn shortened(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MESSAGE_MAX_CHARS).collect()
}
