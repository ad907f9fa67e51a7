//! Lists of revoked certificates, and open sessions judged by them: all of a thousand in a few milliseconds.
//!
//! A handshake verifies a chain and the list's signature. A sweep over open sessions does so for one certificate of each authority, and
//! looks the others up in the list that this proved; each of them was verified in its own handshake by the same authority. Where the
//! authorities are others than then, each is verified anew. A list grows old: first that is an alarm, then it proves nothing. Reads no file
//! and no clock.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
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
    made: Timestamp,
    alarm: Option<Timestamp>,
    refuse: Option<Timestamp>,
}

/// What a list's age means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// Nothing.
    Fresh,
    /// Somebody should see to it.
    Stale,
    /// It proves of no certificate that it is not revoked.
    TooOld,
}

/// How old a list may become, counted from when it was made (`thisUpdate`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// Then it is an alarm; else when three quarters of its own time, until `nextUpdate`, are over.
    pub alarm_after: Option<SignedDuration>,
    /// Then it proves nothing; at its `nextUpdate` in any case.
    pub refuse_after: Option<SignedDuration>,
}

impl List {
    /// The list in this DER (RFC 5280 section 5); `None` if it is none. Whether its authority signed it is not looked at here.
    #[must_use]
    pub fn parse(file: &Path, sha256: String, der: &[u8], patience: Patience) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        let made = Timestamp::from_second(list.last_update().timestamp()).ok()?;
        let next = list.next_update().map(|next| Timestamp::from_second(next.timestamp())).transpose().ok()?;
        let after = |age: SignedDuration| made.checked_add(age).unwrap_or(Timestamp::MAX);
        let Patience { alarm_after, refuse_after } = patience;
        let alarm = alarm_after.map(after).or_else(|| next.map(|next| after(next.duration_since(made) * 3 / 4)));
        Some(Self {
            file: file.to_owned(),
            sha256,
            issuer: list.issuer().as_raw().to_vec(),
            serials: list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect(),
            made,
            alarm,
            refuse: refuse_after.map(after).into_iter().chain(next).min(),
        })
    }

    /// What its age means then.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Age {
        let passed = |limit: Option<Timestamp>| limit.is_some_and(|limit| now >= limit);
        match (passed(self.refuse), passed(self.alarm)) {
            (true, _) => Age::TooOld,
            (false, true) => Age::Stale,
            (false, false) => Age::Fresh,
        }
    }

    /// When it was made.
    #[must_use]
    pub const fn made(&self) -> Timestamp {
        self.made
    }

    /// Whether it is of the authority with exactly these bytes as its name.
    #[must_use]
    pub fn is_of(&self, issuer: &[u8]) -> bool {
        self.issuer == issuer
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
    now: Timestamp,
    /// Issuers whose list has proven to be signed and in date.
    proven: RefCell<HashSet<&'a [u8]>>,
}

impl<'a> Sweep<'a> {
    /// A look by this trust at this time.
    #[must_use]
    pub fn by(trust: &'a Trust, now: Timestamp) -> Self {
        Self { trust, now, proven: RefCell::default() }
    }

    /// Whether a certificate that was accepted in its handshake would be accepted now.
    ///
    /// # Errors
    /// Why it would not.
    pub fn judge(&self, identity: &VerifiedIdentity) -> Result<(), Refused> {
        let (issuer, serial) = identity.issuer_and_serial();
        let list = self.trust.lists().iter().find(|list| list.is_of(issuer));
        let Some(list) = list.filter(|_| identity.authorities() == self.trust.authorities()) else {
            return self.trust.still_accepts(identity.chain(), self.now);
        };
        if list.age(self.now) == Age::TooOld {
            return Err(too_old(list));
        }
        if self.proven.borrow().contains(list.issuer.as_slice()) {
            return if list.serials.contains(serial) { Err(revoked(serial)) } else { Ok(()) };
        }
        let judged = self.trust.still_accepts(identity.chain(), self.now);
        // webpki looks for a certificate in a list after it has verified the list's signature and date, not before.
        if judged.as_ref().map_or_else(|refused| refused.code == RefusalCode::CertificateRevoked, |()| true) {
            self.proven.borrow_mut().insert(&list.issuer);
        }
        judged
    }
}

/// What is said of a certificate whose authority's list is too old.
pub(crate) fn too_old(list: &List) -> Refused {
    let reason = format!("the list of revoked certificates in {} is of {}, too old to go by", list.file.display(), list.made);
    Refused { code: RefusalCode::RevocationUnknown, reason, serial: None, sha256: None }
}

fn revoked(serial: &[u8]) -> Refused {
    let serial = Some(crate::tls::hex(serial));
    Refused { code: RefusalCode::CertificateRevoked, reason: "a list of revoked certificates has it".to_owned(), serial, sha256: None }
}
