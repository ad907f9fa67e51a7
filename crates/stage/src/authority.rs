//! A certificate authority for one day, and the certificates of everybody in the play.
//!
//! Keys are made here, kept in the stage's folder and die with it. Nothing of this is a model for a real authority.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::error::StageError;

/// How long everything here is valid: one working day.
const LIFE: Duration = Duration::hours(12);
/// Backwards, so that a clock that is a little behind is no obstacle.
const LEEWAY: Duration = Duration::hours(1);
/// The trust domain in every identity.
const DOMAIN: &str = "spiffe://demo.sulku.example";

/// Everybody in the play. Several certificates stand for Maija, and only one of them is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Person {
    /// Holds the permit of the statin study.
    Maija,
    /// Holds the permit of the asthma study.
    Bo,
    /// Holds the permits that tests bring along.
    Tiina,
    /// An operator.
    Onni,
    /// A good certificate of the right authority, and in no permit.
    Unlisted,
    /// Maija's identity, certified by an authority that nobody here knows.
    Stranger,
    /// Maija's identity, certified by an authority that has taken the name of ours; an authority is its key, not its name.
    Forged,
    /// Maija's identity, in a certificate whose time has passed.
    Expired,
    /// Maija's identity, in a certificate that was withdrawn.
    Revoked,
}

impl Person {
    /// Everybody.
    pub const ALL: &[Self] =
        &[Self::Maija, Self::Bo, Self::Tiina, Self::Onni, Self::Unlisted, Self::Stranger, Self::Forged, Self::Expired, Self::Revoked];

    /// The name of her files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Maija => "maija",
            Self::Bo => "bo",
            Self::Tiina => "tiina",
            Self::Onni => "onni",
            Self::Unlisted => "unlisted",
            Self::Stranger => "stranger",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// The serial number of her certificate, as the ledger writes it.
    #[must_use]
    pub fn serial(self) -> String {
        let [high, low] = serial_of(self).to_be_bytes();
        format!("{high:02x}:{low:02x}")
    }

    /// The identity in her certificate.
    #[must_use]
    pub fn uri(self) -> String {
        let shown = match self {
            Self::Stranger | Self::Forged | Self::Expired | Self::Revoked => Self::Maija,
            other => other,
        };
        format!("{DOMAIN}/person/{}", shown.name())
    }
}

/// The authority: its files, and its key as long as the stage stands.
pub struct Authority {
    folder: PathBuf,
    issuer: Signer,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The name in the server's certificate.
pub(crate) const SERVER_NAME: &str = "localhost";

impl Authority {
    /// Makes all keys, certificates and the list of the revoked in that folder.
    pub(crate) fn make(folder: &Path) -> Result<Self, StageError> {
        fs::create_dir_all(folder).map_err(StageError::file("making a folder", folder))?;
        let now = OffsetDateTime::now_utc();
        let authority = Self { folder: folder.to_owned(), issuer: issuer("Sulku demo authority", now)? };
        let unknown = issuer("Somebody else's authority", now)?;
        let namesake = issuer("Sulku demo authority", now)?;
        let issuer = &authority.issuer;
        authority.write("authority.pem", issuer.pem.as_bytes())?;

        let mut server = leaf("gateway", now - LEEWAY, now + LIFE, ExtendedKeyUsagePurpose::ServerAuth);
        server.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into()?), SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
        authority.issue("gateway", server, issuer)?;

        for person in Person::ALL {
            let (from, until) = match person {
                Person::Expired => (now - LIFE, now - Duration::minutes(5)),
                _ => (now - LEEWAY, now + LIFE),
            };
            let mut params = leaf(person.name(), from, until, ExtendedKeyUsagePurpose::ClientAuth);
            params.subject_alt_names = vec![SanType::URI(person.uri().as_str().try_into()?)];
            params.serial_number = Some(serial(*person));
            let issuer = match person {
                Person::Stranger => &unknown,
                Person::Forged => &namesake,
                _ => issuer,
            };
            authority.issue(person.name(), params, issuer)?;
        }
        authority.write("revoked.crl.pem", revoked(issuer, &[serial(Person::Revoked)], 1)?.as_bytes())?;
        Ok(authority)
    }

    /// Withdraws somebody's certificate: a new list takes the place of the old one, whole.
    ///
    /// # Errors
    /// The list can't be made or written.
    pub fn revoke(&self, person: Person) -> Result<(), StageError> {
        self.list_revoked(&[serial(person)])
    }

    /// Withdraws certificates that [`Authority::certify`] gave; those withdrawn before that are not among them are good again.
    ///
    /// # Errors
    /// The list can't be made or written.
    pub fn withdraw(&self, serials: &[u64]) -> Result<(), StageError> {
        self.list_revoked(&serials.iter().copied().map(SerialNumber::from).collect::<Vec<_>>())
    }

    fn list_revoked(&self, more: &[SerialNumber]) -> Result<(), StageError> {
        let serials = [&[serial(Person::Revoked)], more].concat();
        self.write("next.crl.pem", revoked(&self.issuer, &serials, 2)?.as_bytes())?;
        let (next, list) = (self.folder.join("next.crl.pem"), self.revoked());
        fs::rename(&next, list).map_err(StageError::file("renaming", next))
    }

    /// Gives somebody a second certificate, with a key of its own; [`Authority::files_of`] has it under the name that this returns.
    ///
    /// # Errors
    /// It can't be made or written, or she has one already.
    pub fn certify_again(&self, person: Person) -> Result<String, StageError> {
        let name = format!("{}-again", person.name());
        self.certify(person, &name, u64::from(serial_of(person)) + 500)?;
        Ok(name)
    }

    /// Gives somebody one more certificate, with a key and a serial number of its own; [`Authority::files_of`] has it under this name.
    ///
    /// # Errors
    /// It can't be made or written, or there is one of this name.
    pub fn certify(&self, person: Person, name: &str, serial: u64) -> Result<(), StageError> {
        let now = OffsetDateTime::now_utc();
        let mut params = leaf(person.name(), now - LEEWAY, now + LIFE, ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names = vec![SanType::URI(person.uri().as_str().try_into()?)];
        params.serial_number = Some(SerialNumber::from(serial));
        self.issue(name, params, &self.issuer)
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The list of revoked certificates.
    #[must_use]
    pub fn revoked(&self) -> PathBuf {
        self.folder.join("revoked.crl.pem")
    }

    /// Somebody's certificate and private key; `gateway` is the server.
    #[must_use]
    pub fn files_of(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")))
    }

    fn issue(&self, name: &str, params: CertificateParams, issuer: &Signer) -> Result<(), StageError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer.issuer)?;
        self.write(&format!("{name}.pem"), certificate.pem().as_bytes())?;
        self.write(&format!("{name}.key"), key.serialize_pem().as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StageError> {
        let path = self.folder.join(name);
        let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(StageError::file("writing", path))
    }
}

struct Signer {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn issuer(name: &str, now: OffsetDateTime) -> Result<Signer, StageError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (now - LIFE - LEEWAY, now + LIFE);
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok(Signer { pem, issuer: Issuer::new(params, key) })
}

fn leaf(name: &str, from: OffsetDateTime, until: OffsetDateTime, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (from, until);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

const fn serial_of(person: Person) -> u16 {
    1_000 + person as u16
}

fn serial(person: Person) -> SerialNumber {
    SerialNumber::from(u64::from(serial_of(person)))
}

fn revoked(issuer: &Signer, serials: &[SerialNumber], number: u64) -> Result<String, StageError> {
    let now = OffsetDateTime::now_utc();
    let revoked = |serial: &SerialNumber| RevokedCertParams {
        serial_number: serial.clone(),
        revocation_time: now - Duration::minutes(5),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: now - LEEWAY,
        next_update: now + LIFE,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(&issuer.issuer)?.pem()?)
}
