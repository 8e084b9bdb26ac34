//! The settings, and what follows from them: scheme, host, region, and where requests name the bucket.

use std::path::PathBuf;
use std::time::Duration;

use crate::crypto::Secret;
use crate::domain::Authority;

/// The region of services that do not care.
const REGION_DEFAULT: &str = "us-east-1";
const AWS_HOST: &str = "s3.amazonaws.com";

/// `core.assets.s3.*`
#[derive(Debug, Clone)]
pub struct Config {
    /// Host, host:port, or an http or https URL of these.
    pub endpoint: String,
    pub bucket: String,
    /// Without outer slashes; may be empty.
    pub path_prefix: String,
    /// `None`: by the endpoint.
    pub region: Option<String>,
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
    /// Of temporary credentials.
    pub session_token: Option<Secret>,
    /// `None`: by the scheme of the endpoint, else true.
    pub use_ssl: Option<bool>,
    /// `None`: only where the endpoint is an IP address.
    pub path_style: Option<bool>,
    /// Authorities that are trusted in addition to those of the system, in PEM form.
    pub ca_cert: Option<PathBuf>,
    /// Of one request, without the time that its body needs.
    pub timeout: Duration,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("`{endpoint}` is not a host, host:port, or an http or https URL without a path")]
    Endpoint { endpoint: String },
    #[error(
        "`{endpoint}` is an IPv6 address, which S3 requests cannot name; use a host name for it"
    )]
    Ipv6 { endpoint: String },
    #[error(
        "`{bucket}` is not a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, beginning and ending \
         with a letter or digit"
    )]
    Bucket { bucket: String },
    #[error(
        "certificates of S3 services do not cover `{bucket}.{host}`, because the bucket's name has dots; set \
         core.assets.s3.path_style = true"
    )]
    DottedBucket { bucket: String, host: String },
    #[error("cannot read authorities from the file {path}; name a certificate in PEM form")]
    Certificate {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error(
        "this system has no list of trusted authorities; install ca-certificates or set core.assets.s3.ca_cert"
    )]
    NoAuthorities,
    #[error("cannot set up TLS for S3")]
    Tls {
        #[source]
        source: rustls::Error,
    },
    #[error("cannot set up the HTTP client for S3")]
    Client {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ConfigError {
    /// The setting to change, relative to `core.assets.s3`.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } | Self::Ipv6 { .. } | Self::Client { .. } => "endpoint",
            Self::Bucket { .. } => "bucket",
            Self::DottedBucket { .. } => "path_style",
            Self::Certificate { .. } | Self::NoAuthorities | Self::Tls { .. } => "ca_cert",
        }
    }
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// With its port, if one is stated.
    pub(super) host: String,
    pub(super) tls: bool,
    pub(super) region: String,
    pub(super) path_style: bool,
}

impl Address {
    /// As a URL.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.host)
    }

    /// The origin of the objects of this bucket.
    pub(super) fn origin(&self, bucket: &str) -> String {
        if self.path_style {
            return self.url();
        }
        format!("{}://{bucket}.{}", self.scheme(), self.host)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

impl Config {
    /// The origin of the service, as presigned URLs name it.
    ///
    /// # Errors
    /// [`ConfigError`] when the settings name none.
    pub fn origin(&self) -> Result<String, ConfigError> {
        Ok(self.address()?.origin(&self.bucket))
    }

    /// Checks what can be checked without files and network.
    ///
    /// # Errors
    /// [`ConfigError`], of which [`ConfigError::setting`] names the setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.address().map(|_| ())
    }

    pub(super) fn address(&self) -> Result<Address, ConfigError> {
        let wrong = || ConfigError::Endpoint { endpoint: self.endpoint.clone() };
        let (scheme, rest) = match self.endpoint.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, self.endpoint.as_str()),
        };
        let tls = match scheme {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(wrong()),
            None => self.use_ssl.unwrap_or(true),
        };
        let host = rest.strip_suffix('/').unwrap_or(rest).to_ascii_lowercase();
        if host.parse::<std::net::Ipv6Addr>().is_ok() || host.starts_with('[') {
            return Err(ConfigError::Ipv6 { endpoint: self.endpoint.clone() });
        }
        // minio-rsc refuses `~`, which Authority allows.
        let authority =
            Authority::parse(&host).filter(|_| !host.contains('~')).ok_or_else(wrong)?;
        let region = self.region.clone().or_else(|| region_of(authority.name()));
        let region = region.unwrap_or_else(|| REGION_DEFAULT.to_owned());
        let path_style = self.path_style.unwrap_or(authority.address().is_some());
        if !is_bucket_name(&self.bucket) {
            return Err(ConfigError::Bucket { bucket: self.bucket.clone() });
        }
        if self.bucket.contains('.') && tls && !path_style {
            let bucket = self.bucket.clone();
            return Err(ConfigError::DottedBucket { bucket, host: authority.name().to_owned() });
        }
        // The global endpoint redirects requests for buckets of other regions, and signatures do not survive that.
        let host = if authority.name() == AWS_HOST && region != REGION_DEFAULT {
            let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("s3.{region}.amazonaws.com{port}")
        } else {
            host
        };
        Ok(Address { host, tls, region, path_style })
    }

    /// Whether path style was chosen because the endpoint is an IP address.
    pub(super) fn path_style_by_address(&self, address: &Address) -> bool {
        self.path_style.is_none() && address.path_style
    }
}

/// The region that a host name contains.
fn region_of(host: &str) -> Option<String> {
    if host.ends_with(".r2.cloudflarestorage.com") || host == "storage.googleapis.com" {
        return Some("auto".to_owned());
    }
    // `fsn1.your-objectstorage.com` (Hetzner), `nyc3.digitaloceanspaces.com`.
    for domain in [".your-objectstorage.com", ".digitaloceanspaces.com"] {
        if let Some(region) = host.strip_suffix(domain) {
            return Some(region.to_owned());
        }
    }
    // `s3.eu-central-1.amazonaws.com`, `s3.dualstack.eu-central-1.…`, `s3-eu-west-1.…`, `s3.us-west-004.backblazeb2.com`,
    // `s3.eu-central-1.wasabisys.com`, `s3.fr-par.scw.cloud`.
    let rest = host.strip_prefix("s3.").or_else(|| host.strip_prefix("s3-"))?;
    let rest = rest.strip_prefix("dualstack.").unwrap_or(rest);
    let (region, domain) = rest.split_once('.')?;
    let known =
        ["amazonaws.com", "amazonaws.com.cn", "backblazeb2.com", "wasabisys.com", "scw.cloud"];
    known.contains(&domain).then(|| region.to_owned())
}

/// The rules of AWS, which minio-rsc checks at every request too.
fn is_bucket_name(name: &str) -> bool {
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(|c| is_edge(c) || c == '.' || c == '-')
        && name.starts_with(is_edge)
        && name.ends_with(is_edge)
        && !["..", ".-", "-."].iter().any(|pair| name.contains(pair))
        && !name.starts_with("xn--")
        && !name.ends_with("-s3alias")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> Config {
        Config {
            endpoint: endpoint.to_owned(),
            bucket: "files".to_owned(),
            path_prefix: String::new(),
            region: None,
            access_key_id: Secret::from("key".to_owned()),
            secret_access_key: Secret::from("secret".to_owned()),
            session_token: None,
            use_ssl: None,
            path_style: None,
            ca_cert: None,
            timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn an_endpoint_gives_scheme_host_and_region() {
        for (endpoint, url, region) in [
            ("s3.amazonaws.com", "https://s3.amazonaws.com", "us-east-1"),
            ("https://S3.amazonaws.com/", "https://s3.amazonaws.com", "us-east-1"),
            ("s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com", "eu-west-1"),
            ("s3-eu-west-1.amazonaws.com", "https://s3-eu-west-1.amazonaws.com", "eu-west-1"),
            (
                "s3.dualstack.eu-west-1.amazonaws.com",
                "https://s3.dualstack.eu-west-1.amazonaws.com",
                "eu-west-1",
            ),
            (
                "s3.us-west-004.backblazeb2.com",
                "https://s3.us-west-004.backblazeb2.com",
                "us-west-004",
            ),
            ("s3.wasabisys.com", "https://s3.wasabisys.com", "us-east-1"),
            ("a.r2.cloudflarestorage.com", "https://a.r2.cloudflarestorage.com", "auto"),
            ("storage.googleapis.com", "https://storage.googleapis.com", "auto"),
            ("fsn1.your-objectstorage.com", "https://fsn1.your-objectstorage.com", "fsn1"),
            ("http://minio:9000", "http://minio:9000", "us-east-1"),
        ] {
            let address = config(endpoint).address().unwrap();
            assert_eq!((address.url().as_str(), address.region.as_str()), (url, region));
            assert!(!address.path_style, "{endpoint}");
        }
    }

    #[test]
    fn stated_settings_win() {
        let mut aws = config("s3.amazonaws.com");
        aws.region = Some("eu-central-1".to_owned());
        assert_eq!(aws.address().unwrap().url(), "https://s3.eu-central-1.amazonaws.com");
        let mut plain = config("minio:9000");
        plain.use_ssl = Some(false);
        assert_eq!(plain.address().unwrap().url(), "http://minio:9000");
    }

    #[test]
    fn an_ip_address_gets_path_style_unless_stated() {
        let mut address = config("http://10.0.0.1:9000");
        assert!(address.address().unwrap().path_style);
        address.path_style = Some(false);
        assert!(!address.address().unwrap().path_style);
    }

    #[test]
    fn unusable_endpoints_are_refused() {
        for endpoint in ["", "ftp://m", "https://m/path", "m:70000", "m:x", "user@m", "a b", "m~"] {
            let error = config(endpoint).check().unwrap_err();
            assert!(matches!(error, ConfigError::Endpoint { .. }), "{endpoint}: {error}");
        }
        for endpoint in ["::1", "[::1]:9000", "http://[::1]"] {
            let error = config(endpoint).check().unwrap_err();
            assert!(matches!(error, ConfigError::Ipv6 { .. }), "{endpoint}: {error}");
        }
    }

    #[test]
    fn a_bucket_with_dots_needs_path_style_over_tls() {
        let mut dotted = config("s3.amazonaws.com");
        dotted.bucket = "files.example.org".to_owned();
        let error = dotted.check().unwrap_err();
        assert!(error.to_string().contains("path_style = true"), "{error}");
        assert_eq!(error.setting(), "path_style");
        dotted.path_style = Some(true);
        dotted.check().unwrap();
        dotted.path_style = None;
        dotted.use_ssl = Some(false);
        dotted.check().unwrap();
    }

    #[test]
    fn bucket_names_follow_the_rules_of_aws() {
        for name in ["ab", "Files", "a_b", "-ab", "ab-", "a..b", "a.-b", "10.0.0.1", "xn--ab", ""] {
            let mut named = config("m");
            named.bucket = name.to_owned();
            assert!(matches!(named.check(), Err(ConfigError::Bucket { .. })), "{name}");
        }
    }
}
