//! TLS: certificate and key from files, which can be replaced while the server runs.
//!
//! The current pair is behind one lock, so that a new pair applies from the next connection on and no connection
//! is closed. A pair that cannot be used never replaces one that can.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_net::TcpStream;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::LazyConfigAcceptor;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::crypto::CryptoProvider;
use futures_rustls::rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use futures_rustls::rustls::sign::CertifiedKey;
use futures_rustls::rustls::{self, ServerConfig};
use futures_rustls::server::TlsStream;
use hyper::StatusCode;
use parking_lot::{Mutex, RwLock};
use zeroize::Zeroizing;

use crate::domain::ClientNetwork;
use crate::limits;
use crate::runtime::{Clock, blocking, limited_read};

use super::permits::Permits;
use super::response::error_bytes;
use super::stream::{Cooperative, Stream};
use super::validity::not_after_ms;

/// `webserver.tls.cert_file` and `webserver.tls.key_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by its chain, in PEM form.
    pub cert_file: PathBuf,
    /// Its private key, in PEM form.
    pub key_file: PathBuf,
}

/// The pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} {fault}", path.display())]
    Certificate { path: PathBuf, fault: TlsFileError },
    #[error("{} {fault}", path.display())]
    Key { path: PathBuf, fault: TlsFileError },
}

/// What is wrong with one of the two files.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("cannot be read ({0})")]
    Unreadable(io::Error),
    /// It is not a PEM file, or contains something else.
    #[error("contains no {0} in PEM form")]
    Empty(&'static str),
    /// The PEM block does not contain what its label says.
    #[error("contains a {what} that cannot be used ({reason})")]
    Unusable {
        /// Certificate or key.
        what: &'static str,
        reason: rustls::Error,
    },
    /// Each of the two files is valid, but they do not belong together.
    #[error("contains the key of another certificate")]
    Mismatch,
}

impl TlsFiles {
    /// Whether the pair can be used. Blocks.
    pub fn check(&self) -> Result<(), TlsError> {
        self.load(&provider()).map(drop)
    }

    /// The end of the certificate's validity in milliseconds since 1970; `None` if it cannot be read. Blocks.
    #[must_use]
    pub fn ends_ms(&self) -> Option<i64> {
        not_after_ms(certificates(&self.cert_file).ok()?.first()?)
    }

    /// Whether everybody on this machine can read the key. Blocks.
    #[must_use]
    pub fn key_is_exposed(&self) -> bool {
        const OTHERS_READ: u32 = 0o004;
        std::fs::metadata(&self.key_file).is_ok_and(|file| file.mode() & OTHERS_READ != 0)
    }

    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let certificate = |fault| TlsError::Certificate { path: self.cert_file.clone(), fault };
        let key = |fault| TlsError::Key { path: self.key_file.clone(), fault };
        let chain = certificates(&self.cert_file).map_err(certificate)?;
        let private = private_key(&self.key_file).map_err(key)?;
        CertifiedKey::from_der(chain, private, provider).map_err(|reason| match reason {
            rustls::Error::InconsistentKeys(_) => key(TlsFileError::Mismatch),
            rustls::Error::InvalidCertificate(_) => {
                certificate(TlsFileError::Unusable { what: "certificate", reason })
            }
            reason => key(TlsFileError::Unusable { what: "private key", reason }),
        })
    }

    /// Identifies the versions of the two files, without reading them.
    fn versions(&self) -> [Option<FileVersion>; 2] {
        [&self.cert_file, &self.key_file].map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        })
    }
}

type FileVersion = (u64, u64, u64, i64, i64);

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    let bytes = limited_read(path, limits::TLS_FILE_MAX_BYTES);
    bytes.map(Zeroizing::new).map_err(TlsFileError::Unreadable)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let bytes = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.unwrap_or_default();
    if chain.is_empty() { Err(TlsFileError::Empty("certificate")) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsFileError::Empty("private key"))
}

/// The TLS configuration of a listener. Clones share the certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Arc<CurrentCertificate>,
    config: Arc<ServerConfig>,
    /// The versions that were last loaded, usable or not.
    loaded: Mutex<[Option<FileVersion>; 2]>,
    /// Limits the signatures that are made at a time.
    signatures: Arc<Permits>,
}

/// The pair for the next handshake.
#[derive(Debug)]
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl Tls {
    /// Reads the pair. Blocks.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let versions = files.versions();
        let pair = files.load(&provider)?;
        let current = Arc::new(CurrentCertificate(RwLock::new(Arc::new(pair))));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|reason| TlsError::Certificate {
                path: files.cert_file.clone(),
                fault: TlsFileError::Unusable { what: "certificate", reason },
            })?;
        let resolver = Arc::clone(&current);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let loaded = Mutex::new(versions);
        let signatures = Permits::new(limits::TLS_SIGNATURES_MAX);
        Ok(Self { inner: Arc::new(Inner { files, provider, current, config, loaded, signatures }) })
    }

    /// Reads the files again, as on SIGHUP. A pair that cannot be used is logged, and the previous one stays.
    ///
    /// # Cancel safety
    /// The pair is replaced as a whole or not at all.
    pub async fn reload(&self) {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.reload()).await;
    }

    /// Polls the files and loads them when they have changed. Never returns.
    pub(super) async fn watch(&self, clock: &Clock) {
        let mut before = self.current_versions().await;
        loop {
            clock.sleep(limits::TLS_CHECK_INTERVAL).await;
            let now = self.current_versions().await;
            // Unchanged since the last check: whoever writes the two files has finished.
            let is_stable = now == before;
            before = now;
            if is_stable && now != self.inner.loaded_versions() {
                self.reload().await;
            }
        }
    }

    async fn current_versions(&self) -> [Option<FileVersion>; 2] {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.files.versions()).await
    }

    /// Runs the handshake. `None` when it failed; the client got an error where possible.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<Stream> {
        let mut first = [0; 1];
        let arrived = stream.peek(&mut first).await;
        let [first] = first;
        match arrived {
            // A handshake starts with byte 22 (RFC 8446, 5.1), every HTTP method with a letter.
            Ok(1..) if first.is_ascii_alphabetic() => {
                let text = "this port speaks https only";
                let response = error_bytes(StatusCode::BAD_REQUEST, text);
                write_and_close(Stream::plain(stream), &response).await.ok();
                return None;
            }
            Ok(1..) => {}
            Ok(0) | Err(_) => return None,
        }
        let client = ClientNetwork::from(stream.peer_addr().ok()?.ip());
        match self.handshake(Cooperative::new(stream), client).await {
            Ok(stream) => Some(Stream::Secure(Box::new(stream))),
            Err(error) => {
                log::debug!(error:err = error; "a TLS handshake failed");
                None
            }
        }
    }

    /// A signature takes milliseconds, and with a long RSA key on a small board a hundred. So each client address
    /// gets one at a time, and a client that opens many connections delays only its own. Waiting for the client's
    /// bytes blocks nobody.
    async fn handshake(
        &self,
        stream: Cooperative<TcpStream>,
        client: ClientNetwork,
    ) -> io::Result<TlsStream<Cooperative<TcpStream>>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = Arc::clone(&self.inner.config);
        let permit = self.inner.signatures.wait_for(client, 1).await;
        let mut rest = std::pin::pin!(hello.into_stream(config));
        let first = futures_lite::future::poll_once(rest.as_mut()).await;
        drop(permit);
        match first {
            Some(done) => done,
            None => rest.await,
        }
    }
}

/// Sends a response, then waits until the client has read it: closing with unread bytes would reset the
/// connection and discard the response.
async fn write_and_close(mut stream: Stream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.close().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

impl Inner {
    fn reload(&self) {
        let versions = self.files.versions();
        *self.loaded.lock() = versions;
        match self.files.load(&self.provider) {
            Ok(pair) => {
                *self.current.0.write() = Arc::new(pair);
                log::info!(
                    cert_file:% = self.files.cert_file.display();
                    "reloaded the certificate; new connections use it"
                );
            }
            Err(error) => {
                log::error!(
                    error:err = error;
                    "the new certificate cannot be used, so the previous one stays; fix the files named in \
                     webserver.tls"
                );
            }
        }
    }

    fn loaded_versions(&self) -> [Option<FileVersion>; 2] {
        *self.loaded.lock()
    }
}
