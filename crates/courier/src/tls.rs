//! TLS 1.3 of the courier's two ends: to syslog receivers as a client, to mirrors as a server. Certificates and keys from PEM files.
//!
//! No other version, no resumption, no name but the one that is configured, and no authority but the one that is: the system's are
//! not asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{ServeSettings, SyslogSettings};

/// A certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be, or can't be read.
    #[error("{file} holds no usable {what}: {why}")]
    File {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why it does not.
        why: String,
    },
    /// The parts do not fit each other.
    #[error("the certificate {0} and its key can't be used together")]
    Pair(PathBuf, #[source] rustls::Error),
    /// This program's own cryptography.
    #[error("TLS 1.3 is not to be had")]
    Version(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::File { file: file.to_owned(), what: "certificate in PEM", why };
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is none in it".to_owned())) } else { Ok(found) }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| TlsError::File { file: file.to_owned(), what: "private key in PEM", why: error.to_string() })
}

fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| TlsError::File { file: file.to_owned(), what: "authority", why: error.to_string() })?;
    }
    Ok(roots)
}

/// How to reach a syslog receiver.
pub(crate) fn to_receiver(settings: &SyslogSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(&settings.authority)?);
    let mut config = match &settings.client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            config.with_client_auth_cert(certificates(certificate)?, private_key(key)?).map_err(|error| TlsError::Pair(certificate.clone(), error))?
        }
    };
    // A connection that is closed to be confirmed proves its ends anew.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// How mirrors and witnesses are met.
pub(crate) fn for_mirrors(settings: &ServeSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let config = match &settings.clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider()).build();
            let why =
                |error: rustls::server::VerifierBuilderError| TlsError::File { file: authority.clone(), what: "authority", why: error.to_string() };
            config.with_client_cert_verifier(verifier.map_err(why)?)
        }
    };
    let mut config = config
        .with_single_cert(certificates(&settings.certificate)?, private_key(&settings.private_key)?)
        .map_err(|error| TlsError::Pair(settings.certificate.clone(), error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
