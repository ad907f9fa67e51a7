//! The client's side of HTTPS: one origin, certificates of a configured authority, a deadline and a bound on every answer.
//!
//! Follows no redirect, keeps no cookie, and trusts none of the system's certificates unless a file names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long connecting and the answer to one request may take together. [`HttpsError::Late`] says it.
const STEP_MAX: Duration = Duration::from_secs(10);

/// An address of HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    /// Without the last slash.
    prefix: String,
    encrypted: Encrypted,
}

/// Whether TLS is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encrypted {
    Yes,
    /// To this host's own loopback alone, where tests and a proxy of the host's own are.
    Loopback,
}

impl Url {
    /// Reads `https://host[:port][/prefix]`; `http://` is taken for this host's loopback addresses alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (encrypted, rest) = match text.strip_prefix("https://") {
            Some(rest) => (Encrypted::Yes, rest),
            None => (Encrypted::Loopback, text.strip_prefix("http://")?),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (host, rest) = literal.split_once(']')?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let default = if encrypted == Encrypted::Yes { 443 } else { 80 };
        let port = port.map_or(Some(default), |port| port.parse().ok())?;
        let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let _a_name_or_an_address = ServerName::try_from(host.to_owned()).ok()?;
        if !path.chars().all(plain) || path.contains("..") || encrypted == Encrypted::Loopback && !loopback {
            return None;
        }
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Some(Self { host: host.to_owned(), port, prefix, encrypted })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.encrypted == Encrypted::Yes { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}:{}{}", self.port, self.prefix)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The certificates can't be used.
    #[error("{0} holds no certificates that can be used: {1}")]
    Ca(PathBuf, String),
    /// The host can't be reached.
    #[error("{0} can't be reached")]
    Connect(String, #[source] std::io::Error),
    /// The connection broke.
    #[error("the connection to {0} broke")]
    Broken(String, #[source] hyper::Error),
    /// No answer in time.
    #[error("{0} did not answer within 10 s")]
    Late(String),
    /// The answer is longer than it may be, or ended too soon.
    #[error("the answer of {0} is longer than {1} bytes, or ends too soon")]
    Body(String, usize),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// HTTP's status.
    pub status: u16,
    /// The body's type, as it is named.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A client of one address. Keeps its connection open between requests.
pub struct Https {
    url: Url,
    tls: TlsConnector,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Https {
    /// A client that believes the certificates of this PEM file.
    ///
    /// # Errors
    /// The file can't be used.
    pub fn new(url: Url, ca: &Path) -> Result<Self, HttpsError> {
        let wrong = |error: String| HttpsError::Ca(ca.to_owned(), error);
        let mut roots = rustls::RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(ca).map_err(|error| wrong(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("there is none in it".to_owned()));
        }
        Self::with_roots(url, roots).map_err(|error| wrong(error.to_string()))
    }

    /// A client for an address on this host's loopback without TLS; `None` for another address.
    #[must_use]
    pub fn loopback(url: Url) -> Option<Self> {
        if url.encrypted == Encrypted::Yes { None } else { Self::with_roots(url, rustls::RootCertStore::empty()).ok() }
    }

    fn with_roots(url: Url, roots: rustls::RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { url, tls: TlsConnector::from(Arc::new(config)), open: None })
    }

    /// The address.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Gets a file.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn get(&mut self, path: &str, bytes_max: usize) -> Result<Answered, HttpsError> {
        self.request(hyper::Method::GET, path, Vec::new(), bytes_max).await
    }

    /// Posts a body.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn post(&mut self, path: &str, body: Vec<u8>, bytes_max: usize) -> Result<Answered, HttpsError> {
        self.request(hyper::Method::POST, path, body, bytes_max).await
    }

    async fn request(&mut self, method: hyper::Method, path: &str, body: Vec<u8>, bytes_max: usize) -> Result<Answered, HttpsError> {
        let mut reused = self.open.as_ref().is_some_and(|open| !open.is_closed());
        loop {
            let attempt = tokio::time::timeout(STEP_MAX, self.attempt(&method, path, &body, bytes_max)).await;
            let outcome = attempt.unwrap_or_else(|_| Err(HttpsError::Late(self.url.to_string())));
            // A connection that was kept may have been closed by the other end meanwhile; a new one is tried once. Asking twice harms
            // nobody: these requests say the same each time.
            if reused && matches!(outcome, Err(HttpsError::Broken(..))) {
                (self.open, reused) = (None, false);
                continue;
            }
            if outcome.is_err() {
                self.open = None;
            }
            return outcome;
        }
    }

    async fn attempt(&mut self, method: &hyper::Method, path: &str, body: &[u8], bytes_max: usize) -> Result<Answered, HttpsError> {
        let named = || self.url.to_string();
        let mut open = match self.open.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => self.connect().await?,
        };
        open.ready().await.map_err(|error| HttpsError::Broken(named(), error))?;
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url.prefix))
            .header(hyper::header::HOST, authority(&self.url))
            .header(hyper::header::USER_AGENT, concat!("sulku/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| HttpsError::Connect(named(), std::io::Error::other(error)))?;
        let response = open.send_request(request).await.map_err(|error| HttpsError::Broken(named(), error))?;
        let status = response.status().as_u16();
        let content_type = response.headers().get(hyper::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let body = Limited::new(response.into_body(), bytes_max).collect().await.map_err(|_| HttpsError::Body(named(), bytes_max))?;
        self.open = Some(open);
        Ok(Answered { status, content_type, body: body.to_bytes().to_vec() })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpsError> {
        let failed = |error| HttpsError::Connect(self.url.to_string(), error);
        let broken = |error| HttpsError::Broken(self.url.to_string(), error);
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        match self.url.encrypted {
            Encrypted::Yes => {
                let name = ServerName::try_from(self.url.host.clone()).map_err(|error| failed(std::io::Error::other(error)))?;
                let stream = self.tls.connect(name, stream).await.map_err(failed)?;
                let (send, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
                tokio::spawn(connection);
                Ok(send)
            }
            Encrypted::Loopback => {
                let (send, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
                tokio::spawn(connection);
                Ok(send)
            }
        }
    }
}

fn authority(url: &Url) -> String {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    format!("{host}:{}", url.port)
}
