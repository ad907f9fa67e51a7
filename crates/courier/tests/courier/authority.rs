//! Throw-away certificates: one authority, `localhost`, and a client.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// An authority with its certificate, `localhost`'s and a client's in that folder.
    pub fn make(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lives_an_hour(&mut params);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join("authority.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) };
        authority.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        authority.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        authority
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Certificate and key of `localhost` or `client`.
    pub fn files_of(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")))
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        lives_an_hour(&mut params);
        let key = KeyPair::generate().unwrap();
        let (certificate, key_file) = self.files_of(name);
        std::fs::write(certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(key_file, key.serialize_pem()).unwrap();
    }
}

fn lives_an_hour(params: &mut CertificateParams) {
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::hours(1), now + Duration::hours(1));
}
