//! Requests: signed and sent by minio-rsc over an HTTP client that we configure, with deadlines and retries.
//!
//! Of minio-rsc only `executor(…).send()` and the presigned URL are used. Its other calls report wrong credentials as
//! "does not exist", ignore errors of streams, and send what some services refuse; `.clippy.toml` bans them.
//!
//! Panics in what we use of minio-rsc 0.2.6, by its source: `HmacSha256::new_from_slice(..).expect("")` cannot fail,
//! because HMAC takes keys of any length; its regular expressions are constants; `trim_bytes` slices within bounds for
//! every header value; `Utc::now()` fails only before 1970, to which Linux cannot set its clock. `PresignedArgs` and
//! `query` take any text. `MinioBuilder::build` unwraps its own HTTP client only if it gets none.
//!
//! Two more traps: a query value that looks percent-encoded is sent as it is, so we encode all of them ourselves; and
//! reqwest resolves the parts `.` and `..` of a path after it was signed, so such keys are refused (`Keys`).

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use minio_rsc::Minio;
use minio_rsc::http::Method;
use minio_rsc::http::header::{DATE, HeaderMap, LOCATION};
use minio_rsc::provider::StaticProvider;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Response;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::config::{Address, Config, ConfigError};
use super::error::{self, Action, Context, Refusal, S3Error};
use super::health::HealthRecord;
use super::xml;
use crate::limits::{
    S3_BODY_BYTES_PER_SECOND_MIN, S3_CONNECT_TIMEOUT, S3_ERROR_MAX_BYTES,
    S3_HASH_AT_ONCE_MAX_BYTES, S3_IDLE_CONNECTION_TIMEOUT, S3_IDLE_CONNECTIONS_MAX,
    S3_RETRY_DELAY_FIRST, S3_RETRY_DELAY_MAX, S3_TRIES,
};
use crate::runtime::{Backoff, Clock, blocking, on_tokio};

/// What a query leaves as it is (RFC 3986, 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as the value of a query parameter.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// One request, which may be sent several times.
#[derive(Debug, Clone)]
pub(super) struct Request {
    method: Method,
    action: Action,
    /// With the prefix; `None`: the bucket itself.
    key: Option<String>,
    /// Values are encoded.
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// Instead of the deadline from the settings, if it is later.
    limit: Option<Duration>,
}

impl Request {
    pub(super) fn new(method: Method, action: Action, key: Option<String>) -> Self {
        let (query, headers) = (Vec::new(), Vec::new());
        Self { method, action, key, query, headers, body: Bytes::new(), limit: None }
    }

    pub(super) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, encoded(value)));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub(super) fn xml(self, body: String) -> Self {
        self.header("content-type", "application/xml").body(body.into())
    }

    pub(super) fn at_least(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// Sends requests for one bucket.
pub(super) struct Transport {
    pub(super) address: Address,
    pub(super) context: Context,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    pub(super) health: HealthRecord,
    config: Config,
    tls: rustls::ClientConfig,
    client: Mutex<Minio>,
}

/// A complete response with a body that was read.
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Transport {
    pub(super) fn build(config: Config, clock: Clock) -> Result<Self, ConfigError> {
        let address = config.address()?;
        if config.path_style_by_address(&address) {
            log::info!(endpoint = address.url(); "the S3 endpoint is an IP address, so buckets are named in paths (path_style)");
        }
        let context = Context {
            endpoint: address.url(),
            bucket: config.bucket.clone(),
            region: address.region.clone(),
        };
        let tls = tls(&config, &address)?;
        let client = Mutex::new(client(&config, &address, &tls)?);
        let (timeout, health) = (config.timeout, HealthRecord::default());
        Ok(Self { address, context, clock, timeout, health, config, tls, client })
    }

    /// The client of the next request. For presigned URLs too.
    pub(super) fn client(&self) -> Minio {
        self.client.lock().clone()
    }

    /// Sends a request until the service accepts it, and returns the response with its body unread.
    pub(super) async fn open(&self, request: &Request) -> Result<Response, S3Error> {
        let mut tries = Tries::new(self);
        let opened = loop {
            match Box::pin(self.attempt(&tries.client, request)).await {
                Ok(response) => break Ok(response),
                Err(error) => {
                    if let Err(error) = tries.again(error).await {
                        break Err(error);
                    }
                }
            }
        };
        self.noted(request, opened)
    }

    /// Sends a request until the service accepts it and its whole body has come, which has at most `max` bytes.
    pub(super) async fn call(&self, request: &Request, max: usize) -> Result<Reply, S3Error> {
        let mut tries = Tries::new(self);
        let read = loop {
            match Box::pin(self.attempt_to_read(&tries.client, request, max)).await {
                Ok(reply) => break Ok(reply),
                Err(error) => {
                    if let Err(error) = tries.again(error).await {
                        break Err(error);
                    }
                }
            }
        };
        self.noted(request, read)
    }

    /// Notes how a request ended. Those about the bucket itself are steps of the check, which notes its own end.
    fn noted<T>(&self, request: &Request, result: Result<T, S3Error>) -> Result<T, S3Error> {
        // A download that is cut later goes on with another request.
        if !matches!(request.action, Action::FindBucket | Action::CreateBucket) {
            self.health.note(&result, self.clock.unix_ms());
        }
        result
    }

    async fn attempt_to_read(
        &self,
        client: &Minio,
        request: &Request,
        max: usize,
    ) -> Result<Reply, S3Error> {
        let response = self.attempt(client, request).await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let (body, complete) = self.text(response, max, self.limit(request)).await?;
        if !complete {
            return Err(S3Error::Invalid { what: "a longer response than S3 allows" });
        }
        // A response that began as a success can end as an error (completion of a multipart upload).
        if xml::text(&body, "Error").is_some() {
            let refusal = Refusal { status, body, of_object: true, ..Refusal::default() };
            return Err(refusal.cause(&self.context, request.action));
        }
        Ok(Reply { headers, body })
    }

    /// Sends a request once. A HEAD that fails has no body, so a GET asks for the cause.
    async fn attempt(&self, client: &Minio, request: &Request) -> Result<Response, S3Error> {
        let mut response = self.exchange(client, request.clone()).await?;
        if !response.status().is_success() && request.method == Method::HEAD {
            let mut get = request.clone();
            get.method = Method::GET;
            match get.key {
                Some(_) => get.headers.push(("range", "bytes=0-0".to_owned())),
                None => get.query.push(("max-keys", "1".to_owned())),
            }
            response = self.exchange(client, get).await?;
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let refusal = self.refusal(response, request.key.is_some()).await?;
        Err(refusal.cause(&self.context, request.action))
    }

    /// Sends a request once and returns what comes, whatever its status.
    async fn exchange(&self, client: &Minio, request: Request) -> Result<Response, S3Error> {
        let limit = self.limit(&request);
        let hashes_long = request.body.len() > S3_HASH_AT_ONCE_MAX_BYTES;
        let bucket = self.context.bucket.clone();
        let token = self.config.session_token.as_ref().map(crate::crypto::Secret::to_text);
        let client = client.clone();
        let work = Box::pin(on_tokio(async move {
            let mut executor = client.executor(request.method).bucket_name(bucket);
            if let Some(key) = request.key {
                executor = executor.object_name(key);
            }
            for (name, value) in request.query {
                executor = executor.query(name, value);
            }
            for (name, value) in request.headers {
                executor = executor.header(name, value);
            }
            // minio-rsc puts it into presigned URLs only.
            if let Some(token) = token {
                executor = executor.header("x-amz-security-token", token);
            }
            executor.body(request.body).send().await
        }));
        let sent =
            async { if hashes_long { begun_off_the_executor(work).await } else { work.await } };
        match self.clock.timeout(limit, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(minio_rsc::error::Error::HttpError(error))) => {
                Err(error::of_transport(error, &self.context))
            }
            Ok(Err(error)) => Err(S3Error::Request { source: Box::new(error) }),
            Err(_) => Err(self.too_late(limit)),
        }
    }

    /// Reads the next bytes of a body.
    pub(super) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, S3Error> {
        match self.clock.timeout(self.timeout, on_tokio(response.chunk())).await {
            Ok(chunk) => chunk.map_err(|error| error::of_transport(error, &self.context)),
            Err(_) => Err(self.too_late(self.timeout)),
        }
    }

    /// Reads a body as text, at most `max` bytes, and tells whether that was all.
    async fn text(
        &self,
        mut response: Response,
        max: usize,
        limit: Duration,
    ) -> Result<(String, bool), S3Error> {
        let read = async {
            let mut bytes = Vec::new();
            while let Some(chunk) = on_tokio(response.chunk()).await? {
                let room = max.saturating_sub(bytes.len());
                bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    return Ok((bytes, false));
                }
            }
            Ok((bytes, true))
        };
        match self.clock.timeout(limit, read).await {
            Ok(Ok((bytes, complete))) => {
                Ok((String::from_utf8_lossy(&bytes).into_owned(), complete))
            }
            Ok(Err(error)) => Err(error::of_transport(error, &self.context)),
            Err(_) => Err(self.too_late(limit)),
        }
    }

    async fn refusal(&self, response: Response, of_object: bool) -> Result<Refusal, S3Error> {
        let status = response.status().as_u16();
        let text = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (location, region) = (text(LOCATION.as_str()), text("x-amz-bucket-region"));
        let clock_difference = text(DATE.as_str()).and_then(|date| {
            let theirs = httpdate::parse_http_date(&date).ok()?.duration_since(UNIX_EPOCH).ok()?;
            let ours = Duration::from_millis(u64::try_from(self.clock.unix_ms()).ok()?);
            Some(theirs.abs_diff(ours))
        });
        let (body, _) = self.text(response, S3_ERROR_MAX_BYTES, self.timeout).await?;
        Ok(Refusal { status, location, region, clock_difference, of_object, body })
    }

    /// Whether the endpoint itself, without the bucket in its name, answers anything at all.
    pub(super) async fn answers_without_bucket(&self) -> bool {
        let client = self.client();
        let work = on_tokio(async move { client.executor(Method::GET).send().await.is_ok() });
        self.clock.timeout(self.timeout, Box::pin(work)).await.unwrap_or(false)
    }

    fn limit(&self, request: &Request) -> Duration {
        let seconds = request.body.len().div_ceil(S3_BODY_BYTES_PER_SECOND_MIN);
        let body = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
        self.timeout.max(request.limit.unwrap_or_default()).saturating_add(body)
    }

    fn too_late(&self, limit: Duration) -> S3Error {
        S3Error::Timeout { endpoint: self.context.endpoint.clone(), limit }
    }
}

/// The tries of one request.
struct Tries<'a> {
    transport: &'a Transport,
    client: Minio,
    left: u32,
    backoff: Backoff,
}

impl<'a> Tries<'a> {
    fn new(transport: &'a Transport) -> Self {
        let backoff = Backoff::new(S3_RETRY_DELAY_FIRST, S3_RETRY_DELAY_MAX);
        Self { transport, client: transport.client(), left: S3_TRIES - 1, backoff }
    }

    /// Prepares the next try on a new connection; returns the error when there is none. A busy service means "come
    /// back elsewhere", and its load balancer decides per connection. So the client with its pool is replaced, for
    /// other requests too.
    async fn again(&mut self, error: S3Error) -> Result<(), S3Error> {
        // Whoever has waited for a whole deadline is not kept waiting for two more.
        let is_late = matches!(error, S3Error::Timeout { .. });
        if !error.is_transient() || is_late || self.left == 0 {
            return Err(error);
        }
        self.left -= 1;
        let delay = self.backoff.delay();
        log::debug!(reason:% = error, delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX); "repeating a request to S3");
        self.transport.clock.sleep(delay).await;
        let transport = self.transport;
        // The settings were accepted before.
        let renewed = client(&transport.config, &transport.address, &transport.tls);
        if let Ok(renewed) = renewed {
            self.client = renewed.clone();
            *transport.client.lock() = renewed;
        }
        Ok(())
    }
}

/// Polls `work` for the first time on a thread for blocking calls: minio-rsc hashes the body there, which takes 30 ms
/// for the smallest part on a Pi 4. The rest is done here.
async fn begun_off_the_executor<T: Send + 'static>(
    mut work: impl Future<Output = T> + Unpin + Send + 'static,
) -> T {
    let (done, work) = blocking(move || {
        let done = block_on(poll_once(&mut work));
        (done, work)
    })
    .await;
    match done {
        Some(done) => done,
        None => work.await,
    }
}

fn client(
    config: &Config,
    address: &Address,
    tls: &rustls::ClientConfig,
) -> Result<Minio, ConfigError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ConfigError::Client { source };
    // TLS settings are given without TLS too: reqwest panics without a process-wide provider when it makes its own.
    let http = reqwest::Client::builder()
        .use_preconfigured_tls(tls.clone())
        .https_only(address.tls)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(S3_CONNECT_TIMEOUT.min(config.timeout))
        .pool_max_idle_per_host(S3_IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(S3_IDLE_CONNECTION_TIMEOUT)
        .build()
        .map_err(|error| failed(error.into()))?;
    let token = config.session_token.as_ref().map(crate::crypto::Secret::to_text);
    let provider = StaticProvider::new(
        config.access_key_id.to_text(),
        config.secret_access_key.to_text(),
        token,
    );
    Minio::builder()
        .endpoint(address.host.as_str())
        .region(address.region.as_str())
        .secure(address.tls)
        .virtual_hosted_style(!address.path_style)
        .agent(concat!("chatto/", env!("CARGO_PKG_VERSION")))
        .provider(provider)
        .client(http)
        .build()
        .map_err(|error| failed(error.into()))
}

/// Authorities come from the system, as for NATS: an operator may have installed a private one there, and a fixed list
/// in the binary (webpki-roots) would add 200 KB and age with it.
fn tls(config: &Config, address: &Address) -> Result<rustls::ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    if address.tls {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // Some systems list certificates that rustls does not read.
            roots.add(certificate).ok();
        }
        if let Some(path) = &config.ca_cert {
            let failed = |source| ConfigError::Certificate { path: path.clone(), source };
            let own = CertificateDer::pem_file_iter(path).map_err(failed)?;
            let own = own.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            if own.is_empty() {
                return Err(failed(rustls::pki_types::pem::Error::NoItemsFound));
            }
            for certificate in own {
                roots.add(certificate).map_err(|source| ConfigError::Tls { source })?;
            }
        }
        if roots.is_empty() {
            return Err(ConfigError::NoAuthorities);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| ConfigError::Tls { source })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
