//! TLS 1.3 for both transports: mandatory client certificates, revocation lists, and a note of why a certificate was refused.
//!
//! Every connection gets a configuration of its own, so that the verifier inside it can say what it refused: the caller takes the
//! [`Refused`] out of the [`Note`] when the handshake has failed, and has it audited. No session is ever resumed and no early
//! data taken: each connection proves its certificate anew.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use sulku_permit::{Assurance, RefusalCode};
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::config::{Config, IssuerConfig};
use crate::reset::ResetKey;
use crate::revocation::{Age, List, Patience, too_old};

/// A certificate, key or list that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{file} can't be read")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{file} is {what}")]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
}

/// What was refused during a handshake, for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What the peer is told.
    pub code: RefusalCode,
    /// Why.
    pub reason: String,
    /// The certificate's serial number in hexadecimal.
    pub serial: Option<String>,
    /// SHA-256 of the certificate in hexadecimal.
    pub sha256: Option<String>,
}

/// Where one connection's verifier leaves what it refused.
#[derive(Debug, Default)]
pub struct Note(Mutex<Option<Refused>>);

impl Note {
    fn leave(&self, refused: Refused) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }

    /// What the verifier refused, if it did.
    pub fn take(&self) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An authority, as far as identities need it.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The name that permits use.
    pub name: String,
    /// Its subject's exact DER bytes.
    pub subject: Vec<u8>,
    /// How surely it knows the persons whom it certifies, as configured.
    pub assurance: Option<Assurance>,
}

/// What the gateway proves itself with, and whom it believes.
#[derive(Debug)]
pub struct Trust {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    reset_key: ResetKey,
    verifier: Arc<dyn ClientCertVerifier>,
    issuers: Vec<Issuer>,
    lists: Arc<[List]>,
    authorities: [u8; 32],
}

impl Trust {
    /// Reads certificates, key and lists.
    ///
    /// # Errors
    /// The first file that can't be used, with what to do.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (key, reset_key) = server_key(config, &provider)?;
        let key = Arc::new(key);
        let Believed { verifier, issuers, lists, authorities } = believed(&config.issuer, &provider)?;
        Ok(Self { provider, key, reset_key, verifier, issuers, lists, authorities })
    }

    /// The same with authorities and lists read again; the gateway's own key stays.
    ///
    /// # Errors
    /// The first file that can't be used. What was loaded before stays in force.
    pub fn reload(&self, config: &Config) -> Result<Self, TlsError> {
        let Believed { verifier, issuers, lists, authorities } = believed(&config.issuer, &self.provider)?;
        let (provider, key, reset_key) = (Arc::clone(&self.provider), Arc::clone(&self.key), self.reset_key.clone());
        Ok(Self { provider, key, reset_key, verifier, issuers, lists, authorities })
    }

    /// What QUIC's reset tokens are made with.
    #[must_use]
    pub const fn reset_key(&self) -> &ResetKey {
        &self.reset_key
    }

    /// The configured authorities.
    #[must_use]
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// The lists in force.
    #[must_use]
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// SHA-256 over the authorities' certificates: equal where the same ones are believed.
    #[must_use]
    pub fn authorities(&self) -> [u8; 32] {
        self.authorities
    }

    /// Whether the certificate would be accepted in a handshake now. Open sessions are judged by [`crate::revocation::Sweep`], which asks this.
    ///
    /// # Errors
    /// Why it would not.
    pub fn still_accepts(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Refused> {
        let Some((end_entity, intermediates)) = chain.split_first() else {
            return Err(missing());
        };
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default()));
        verify(&*self.verifier, &self.lists, end_entity, intermediates, now).map(drop).map_err(|(refused, _)| refused)
    }

    /// The configuration for one connection, and where its verifier leaves what it refuses.
    ///
    /// # Errors
    /// The cryptography's library was built without TLS 1.3.
    pub fn for_connection(&self) -> Result<(ServerConfig, Arc<Note>), rustls::Error> {
        let note = Arc::new(Note::default());
        let verifier = Noting { inner: Arc::clone(&self.verifier), lists: Arc::clone(&self.lists), note: Arc::clone(&note) };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        config.alpn_protocols = vec![sulku_protocol::ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok((config, note))
    }
}

/// The webpki verifier, with a note of what it refuses.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn ClientCertVerifier>,
    lists: Arc<[List]>,
    note: Arc<Note>,
}

impl ClientCertVerifier for Noting {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        verify(&*self.inner, &self.lists, end_entity, intermediates, now).map_err(|(refused, error)| {
            self.note.leave(refused);
            error
        })
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = self.inner.verify_tls13_signature(message, certificate, signature);
        verified.inspect_err(|error| self.note.leave(refused(certificate, error)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The chain and the age of its authority's list. What can't be told of a certificate is not the certificate's fault: the alert says
/// that its status is what is wrong (RFC 8446 section 6.2, bad_certificate_status_response), and our client says whose business that is.
fn verify(
    verifier: &dyn ClientCertVerifier,
    lists: &[List],
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<ClientCertVerified, (Refused, rustls::Error)> {
    let unknown = || rustls::Error::InvalidCertificate(CertificateError::InvalidOcspResponse);
    let verified = verifier.verify_client_cert(end_entity, intermediates, now).map_err(|error| {
        let refused = refused_chain(end_entity, &error);
        let alert = if refused.code == RefusalCode::RevocationUnknown { unknown() } else { error };
        (refused, alert)
    })?;
    let at = i64::try_from(now.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX);
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(end_entity).map_err(|_| {
        let error = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        (refused(end_entity, &error), error)
    })?;
    match lists.iter().find(|list| list.is_of(parsed.issuer().as_raw()) && list.age(at) == Age::TooOld) {
        Some(list) => {
            let Refused { code, reason, .. } = too_old(list);
            Err((Refused { code, reason, ..refused(end_entity, &unknown()) }, unknown()))
        }
        None => Ok(verified),
    }
}

/// What is audited of a peer that showed no certificate.
#[must_use]
pub fn missing() -> Refused {
    Refused { code: RefusalCode::CertificateMissing, reason: "no certificate came".to_owned(), serial: None, sha256: None }
}

/// In a chain, a signature that does not fit means that an authority of the same name, and another key, issued the certificate.
fn refused_chain(certificate: &CertificateDer<'_>, error: &rustls::Error) -> Refused {
    let mut refused = refused(certificate, error);
    if matches!(error, rustls::Error::InvalidCertificate(CertificateError::BadSignature)) {
        refused.code = RefusalCode::CertificateUnknownIssuer;
    }
    refused
}

fn refused(certificate: &CertificateDer<'_>, error: &rustls::Error) -> Refused {
    use CertificateError as E;
    let code = match error {
        rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. }) => {
            RefusalCode::CertificateExpired
        }
        rustls::Error::InvalidCertificate(E::Revoked) => RefusalCode::CertificateRevoked,
        rustls::Error::InvalidCertificate(E::UnknownIssuer) => RefusalCode::CertificateUnknownIssuer,
        rustls::Error::InvalidCertificate(E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } | E::UnknownRevocationStatus)
        | rustls::Error::InvalidCertRevocationList(_) => RefusalCode::RevocationUnknown,
        _ => RefusalCode::CertificateInvalid,
    };
    let serial = x509_parser::certificate::X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed.raw_serial_as_string());
    Refused { code, reason: error.to_string(), serial, sha256: Some(hex(&Sha256::digest(certificate))) }
}

fn server_key(config: &Config, provider: &CryptoProvider) -> Result<(CertifiedKey, ResetKey), TlsError> {
    let chain = certificates(&config.certificate)?;
    let file = &config.private_key;
    let metadata = std::fs::metadata(file).map_err(|source| TlsError::Read { file: file.clone(), source })?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(content(file, "open to every user of this host; chmod 600 it".to_owned()));
    }
    let pem = Zeroizing::new(read(file)?);
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| content(file, format!("no PEM private key: {error}")))?;
    let reset_key = ResetKey::of(key.secret_der());
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        content(file, format!("not the key of {}: {error}; put the certificate and the key that belong together", config.certificate.display()))
    })?;
    Ok((key, reset_key))
}

struct Believed {
    verifier: Arc<dyn ClientCertVerifier>,
    issuers: Vec<Issuer>,
    lists: Arc<[List]>,
    authorities: [u8; 32],
}

fn believed(configured: &[IssuerConfig], provider: &Arc<CryptoProvider>) -> Result<Believed, TlsError> {
    let (mut roots, mut authorities) = (RootCertStore::empty(), Sha256::new());
    let (mut issuers, mut lists, mut crls) = (Vec::<Issuer>::new(), Vec::new(), Vec::new());
    for IssuerConfig { name, certificate, crl, assurance, crl_alarm_after, crl_refuse_after } in configured {
        for authority in certificates(certificate)? {
            let subject = subject(&authority).ok_or_else(|| content(certificate, "no X.509 certificate".to_owned()))?;
            if let Some(other) = issuers.iter().find(|issuer| issuer.subject == subject) {
                return Err(content(certificate, format!("of the same subject as issuer {}; two issuers must differ in their subject", other.name)));
            }
            issuers.push(Issuer { name: name.clone(), subject, assurance: *assurance });
            authorities.update((authority.len() as u64).to_be_bytes());
            authorities.update(&authority);
            roots.add(authority).map_err(|error| content(certificate, format!("no authority's certificate: {error}")))?;
        }
        let patience = Patience { alarm_after: *crl_alarm_after, refuse_after: *crl_refuse_after };
        let bytes = read(crl)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let der = if bytes.starts_with(b"-----") {
            CertificateRevocationListDer::from_pem_slice(&bytes).map_err(|error| content(crl, format!("no PEM revocation list: {error}")))?
        } else {
            CertificateRevocationListDer::from(bytes)
        };
        lists.push(List::parse(crl, sha256, &der, patience).ok_or_else(|| content(crl, "no X.509 revocation list".to_owned()))?);
        crls.push(der);
    }
    // Stays at the strict defaults: the whole chain is checked, an unknown status is a refusal. A list past its next update is
    // no proof any more, so it is enforced as well.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(crls)
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| content(&configured[0].certificate, format!("not usable together with the other authorities and lists: {error}")))?;
    Ok(Believed { verifier, issuers, lists: lists.into(), authorities: authorities.finalize().into() })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    let certificates = certificates.map_err(|error| content(file, format!("not PEM: {error}")))?;
    if certificates.is_empty() { Err(content(file, "without a certificate; put one in PEM form".to_owned())) } else { Ok(certificates) }
}

fn subject(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    Some(parsed.subject().as_raw().to_vec())
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source })
}

fn content(file: &Path, what: String) -> TlsError {
    TlsError::Content { file: file.to_owned(), what }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string can't fail");
        text
    })
}
