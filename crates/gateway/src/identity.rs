//! From a verified chain to an identity. The common name is never looked at: two people may share one, and anyone may choose one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use sulku_permit::{Credential, Identity, RefusalCode};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;
use x509_parser::prelude::FromDer;

use crate::tls::Trust;

/// Chains of more bytes than this are not written down: an end entity's and two authorities' have far fewer, and an entry has little room.
const KEPT_BYTES_MAX: usize = 12 * 1024;

/// What a certificate shows that passed the handshake's verification: its holder has proven possession of the key.
#[derive(Debug)]
pub struct VerifiedIdentity {
    credential: Credential,
    key: [u8; 32],
    chain: Vec<CertificateDer<'static>>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    authorities: [u8; 32],
}

/// Why a verified certificate says nothing of a person.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The handshake ended without a certificate, which the verifier does not let happen.
    #[error("the connection has no certificate")]
    Missing,
    /// x509-parser does not understand what webpki accepted.
    #[error("the certificate can't be parsed")]
    Malformed,
}

impl VerifiedIdentity {
    /// The identity of a connection whose handshake is complete. `chain` is what the TLS library verified in it, by this trust.
    ///
    /// # Errors
    /// The certificate does not parse, or there is none.
    pub fn of_verified_chain(chain: Vec<CertificateDer<'static>>, trust: &Trust) -> Result<Self, IdentityError> {
        let end_entity = chain.first().ok_or(IdentityError::Missing)?;
        let (_, certificate) = X509Certificate::from_der(end_entity).map_err(|_| IdentityError::Malformed)?;
        let credential = credential(&certificate, trust)?;
        let key = Sha256::digest(certificate.public_key().raw).into();
        let (issuer, serial) = (certificate.issuer().as_raw().to_vec(), certificate.raw_serial().to_vec());
        Ok(Self { credential, key, chain, issuer, serial, authorities: trust.authorities() })
    }

    /// What permits are matched with.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// SHA-256 of the public key whose possession was proven.
    #[must_use]
    pub const fn key(&self) -> [u8; 32] {
        self.key
    }

    /// The chain as verified, to be asked about again when a revocation list has changed.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The identity of a chain that an entry has, as [`VerifiedIdentity::to_text`] gave it: another gateway verified it in a handshake. Here it is
    /// verified anew, but for the possession of its key, which nobody shows now.
    ///
    /// # Errors
    /// It is none, or would be refused now.
    pub fn of_text(chain: &[String], trust: &Trust, now: Timestamp) -> Result<Self, RefusalCode> {
        let decoded: Result<Vec<_>, _> = chain.iter().map(|certificate| STANDARD.decode(certificate).map(CertificateDer::from)).collect();
        let chain = decoded.map_err(|_| RefusalCode::CertificateInvalid)?;
        trust.still_accepts(&chain, now).map_err(|refused| refused.code)?;
        Self::of_verified_chain(chain, trust).map_err(|_| RefusalCode::CertificateInvalid)
    }

    /// The chain as entries have it, each certificate DER in base 64; `None` for one that is too long to be kept.
    #[must_use]
    pub fn to_text(&self) -> Option<Vec<String>> {
        let bytes: usize = self.chain.iter().map(|certificate| certificate.len()).sum();
        (bytes <= KEPT_BYTES_MAX).then(|| self.chain.iter().map(|certificate| STANDARD.encode(certificate)).collect())
    }

    /// The exact bytes of the issuer's name, and those of the serial number: what lists of revoked certificates go by.
    #[must_use]
    pub fn issuer_and_serial(&self) -> (&[u8], &[u8]) {
        (&self.issuer, &self.serial)
    }

    /// The authorities that it was verified by, as [`Trust::authorities`] tells them.
    #[must_use]
    pub fn authorities(&self) -> [u8; 32] {
        self.authorities
    }
}

fn credential(certificate: &X509Certificate<'_>, trust: &Trust) -> Result<Credential, IdentityError> {
    let mut identities = vec![Identity::Key(Sha256::digest(certificate.public_key().raw).into())];
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::URI(uri) = name {
            identities.push(Identity::Uri((*uri).to_owned()));
        }
    }
    // Matched by the exact bytes of the issuer's name (RFC 5280 section 4.1.2.4), never by how it is printed.
    let issuer = trust.issuers().iter().find(|issuer| issuer.subject == certificate.issuer().as_raw());
    if let Some(issuer) = issuer {
        for attribute in certificate.subject().iter_by_oid(&OID_X509_SERIALNUMBER) {
            let serial_number = attribute.as_str().map_err(|_| IdentityError::Malformed)?.to_owned();
            identities.push(Identity::Serial { issuer: issuer.name.clone(), serial_number });
        }
    }
    let expires = Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|_| IdentityError::Malformed)?;
    Ok(Credential { identities, expires, assurance: issuer.and_then(|issuer| issuer.assurance) })
}
