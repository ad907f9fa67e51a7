//! Lists of revoked certificates, and open sessions judged by them: all of a thousand in a few milliseconds.
//!
//! A handshake verifies a chain and the list's signature. A sweep over open sessions does so for one certificate of each authority, and
//! looks the others up in the list that this proved; each of them was verified in its own handshake by the same authority. Where the
//! authorities are others than then, each is verified anew. Reads no file.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sulku_permit::RefusalCode;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::identity::VerifiedIdentity;
use crate::tls::{Refused, Trust};

/// A list of revoked certificates, as loaded.
#[derive(Debug)]
pub struct List {
    file: PathBuf,
    sha256: String,
    issuer: Vec<u8>,
    serials: HashSet<Vec<u8>>,
}

impl List {
    /// The list in this DER (RFC 5280 section 5); `None` if it is none. Whether its authority signed it is not looked at here.
    #[must_use]
    pub fn parse(file: &Path, sha256: String, der: &[u8]) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        Some(Self {
            file: file.to_owned(),
            sha256,
            issuer: list.issuer().as_raw().to_vec(),
            serials: list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect(),
        })
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// SHA-256 of the file in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// One look at many certificates by the lists in force now.
#[derive(Debug)]
pub struct Sweep<'a> {
    trust: &'a Trust,
    /// Issuers whose list has proven to be signed and in date.
    proven: RefCell<HashSet<&'a [u8]>>,
}

impl<'a> Sweep<'a> {
    /// A look by this trust.
    #[must_use]
    pub fn by(trust: &'a Trust) -> Self {
        Self { trust, proven: RefCell::default() }
    }

    /// Whether a certificate that was accepted in its handshake would be accepted now.
    ///
    /// # Errors
    /// Why it would not.
    pub fn judge(&self, identity: &VerifiedIdentity) -> Result<(), Refused> {
        let (issuer, serial) = identity.issuer_and_serial();
        let list = self.trust.lists().iter().find(|list| list.issuer == issuer);
        let Some(list) = list.filter(|_| identity.authorities() == self.trust.authorities()) else {
            return self.trust.still_accepts(identity.chain());
        };
        if self.proven.borrow().contains(list.issuer.as_slice()) {
            return if list.serials.contains(serial) { Err(revoked(serial)) } else { Ok(()) };
        }
        let judged = self.trust.still_accepts(identity.chain());
        // webpki looks for a certificate in a list after it has verified the list's signature and date, not before.
        if judged.as_ref().map_or_else(|refused| refused.code == RefusalCode::CertificateRevoked, |()| true) {
            self.proven.borrow_mut().insert(&list.issuer);
        }
        judged
    }
}

fn revoked(serial: &[u8]) -> Refused {
    let serial = Some(crate::tls::hex(serial));
    Refused { code: RefusalCode::CertificateRevoked, reason: "a list of revoked certificates has it".to_owned(), serial, sha256: None }
}
