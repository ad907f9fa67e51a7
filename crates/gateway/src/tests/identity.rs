use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use sulku_permit::{Assurance, Identity, RefusalCode};
use time::{Duration, OffsetDateTime};

use crate::config::Config;
use crate::identity::{IdentityError, VerifiedIdentity};
use crate::revocation::{Age, Sweep};
use crate::tls::Trust;

pub(super) struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// An authority that has revoked the certificate of serial number 13.
    pub(super) fn new() -> Self {
        Self::named("test authority")
    }

    pub(super) fn named(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("signed");
        let authority = Self { folder, issuer: Issuer::new(params, key) };
        authority.write("authority.pem", &certificate.pem());
        let server_key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        authority.write("gateway.pem", &server.signed_by(&server_key, &authority.issuer).expect("signed").pem());
        authority.write("gateway.key", &server_key.serialize_pem());
        authority.close("gateway.key", 0o600);
        authority.revoke(&[13]);
        authority
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn close(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.folder.path().join(name), std::fs::Permissions::from_mode(mode)).expect("changed");
    }

    pub(super) fn revoke(&self, serials: &[u64]) {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::hours(1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::hours(12),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write("authority.crl", &params.signed_by(&self.issuer).expect("signed").pem().expect("PEM"));
    }

    pub(super) fn config(&self) -> Config {
        let text = format!(
            "listen = \"127.0.0.1:0\"\ncertificate = \"{0}/gateway.pem\"\nprivate_key = \"{0}/gateway.key\"\npolicy = \"{0}\"\nledger_socket = \"l\"\nwarden_socket = \"w\"\n\
             [[operator]]\nid = \"onni\"\ncertificate = {{ uri = \"spiffe://spe.example.fi/operator/onni\" }}\nkey = \"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEOvs5z4lTpkQs93b2YnCs1b+yjKOFMF6pUcUpUZlRkke7Xt3k4ONO0XgNbgc3KgZQtEYvnan04pqqh9lk/qa6QQ==\"\n\
             [[auditor]]\nname = \"test\"\nrecipient = \"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\"\n\
             [[issuer]]\nname = \"test\"\ncertificate = \"{0}/authority.pem\"\ncrl = \"{0}/authority.crl\"\n",
            self.folder.path().display()
        );
        Config::parse(Path::new("gateway.toml"), &text).expect("good")
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::load(&self.config()).expect("usable")
    }

    /// A person's certificate with what the closure puts into it.
    pub(super) fn certify(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "spiffe://spe.example.fi/person/maija");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(7_u64));
        (params.not_before, params.not_after) = (OffsetDateTime::now_utc() - Duration::hours(1), OffsetDateTime::now_utc() + Duration::hours(12));
        change(&mut params);
        params.signed_by(&KeyPair::generate().expect("a key"), &self.issuer).expect("signed").der().clone()
    }
}

pub(super) fn uri(params: &mut CertificateParams) {
    params.subject_alt_names.push(SanType::URI("spiffe://spe.example.fi/person/maija".try_into().expect("ASCII")));
}

fn identities(authority: &Authority, certificate: CertificateDer<'static>) -> Vec<Identity> {
    let identity = VerifiedIdentity::of_verified_chain(vec![certificate], &authority.trust()).expect("an identity");
    identity.credential().identities.clone()
}

#[test]
fn a_uri_name_is_an_identity_and_a_common_name_is_none() {
    let authority = Authority::new();
    let maija = Identity::Uri("spiffe://spe.example.fi/person/maija".to_owned());
    assert!(identities(&authority, authority.certify(uri)).contains(&maija));
    let named_like_her = identities(&authority, authority.certify(|_| {}));
    assert!(matches!(named_like_her.as_slice(), [Identity::Key(_)]), "only the key: {named_like_her:?}");
}

#[test]
fn a_serial_number_counts_together_with_its_issuer() {
    let authority = Authority::new();
    let certificate = authority.certify(|params| params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "99900001X"));
    let satu = Identity::Serial { issuer: "test".to_owned(), serial_number: "99900001X".to_owned() };
    assert!(identities(&authority, certificate.clone()).contains(&satu));
    let elsewhere = VerifiedIdentity::of_verified_chain(vec![certificate], &Authority::named("another authority").trust()).expect("an identity");
    assert!(!elsewhere.credential().identities.contains(&satu), "an issuer that is not configured vouches for nobody");
}

#[test]
fn garbage_is_no_identity() {
    let trust = Authority::new().trust();
    assert_eq!(VerifiedIdentity::of_verified_chain(vec![], &trust).expect_err("nothing"), IdentityError::Missing);
    let garbage = vec![CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])];
    assert_eq!(VerifiedIdentity::of_verified_chain(garbage, &trust).expect_err("garbage"), IdentityError::Malformed);
}

/// IA-01
#[test]
fn each_bad_certificate_is_refused_for_its_own_reason() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let trust = authority.trust();
    let code = |certificate: CertificateDer<'static>| {
        trust.still_accepts(&[certificate], Timestamp::now()).map_err(|refused| (refused.code, refused.serial))
    };
    assert_eq!(code(authority.certify(uri)), Ok(()), "the positive control");
    let expired = authority.certify(|params| params.not_after = OffsetDateTime::now_utc() - Duration::minutes(1));
    assert_eq!(code(expired), Err((RefusalCode::CertificateExpired, Some("07".to_owned()))));
    let revoked = authority.certify(|params| params.serial_number = Some(SerialNumber::from(13_u64)));
    assert_eq!(code(revoked), Err((RefusalCode::CertificateRevoked, Some("0d".to_owned()))));
    let server_only = authority.certify(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(code(server_only).expect_err("refused").0, RefusalCode::CertificateInvalid);
    assert_eq!(code(stranger.certify(uri)).expect_err("refused").0, RefusalCode::CertificateUnknownIssuer, "an authority of the same name");
    assert_eq!(trust.still_accepts(&[], Timestamp::now()).expect_err("refused").code, RefusalCode::CertificateMissing);
}

#[test]
fn a_list_that_is_loaded_again_takes_certificates_back() {
    let authority = Authority::new();
    let (trust, certificate) = (authority.trust(), authority.certify(uri));
    assert!(trust.still_accepts(std::slice::from_ref(&certificate), Timestamp::now()).is_ok());
    authority.revoke(&[7, 13]);
    let trust = trust.reload(&authority.config()).expect("usable");
    assert_eq!(trust.still_accepts(&[certificate], Timestamp::now()).expect_err("refused").code, RefusalCode::CertificateRevoked);
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused_at_load() {
    let authority = Authority::new();
    authority.write("gateway.key", &KeyPair::generate().expect("a key").serialize_pem());
    let error = Trust::load(&authority.config()).expect_err("refused").to_string();
    assert!(error.contains("gateway.key") && error.contains("belong together"), "{error}");
}

#[test]
fn a_key_that_every_user_can_read_is_refused_at_load() {
    let authority = Authority::new();
    assert!(Trust::load(&authority.config()).is_ok(), "the positive control");
    authority.close("gateway.key", 0o644);
    let error = Trust::load(&authority.config()).expect_err("refused").to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

/// A sweep looks most certificates up; what it says must be what a handshake says.
#[test]
fn a_sweep_judges_each_certificate_as_a_handshake_would() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let trust = authority.trust();
    let of = |trust: &Trust, certificate| VerifiedIdentity::of_verified_chain(vec![certificate], trust).expect("an identity");
    let numbered = |serial: u64| authority.certify(|params| params.serial_number = Some(SerialNumber::from(serial)));
    let identities: Vec<_> = [7, 8, 13, 9, 15].map(|serial| of(&trust, numbered(serial))).into();
    let elsewhere = of(&stranger.trust(), stranger.certify(uri));
    let codes = |trust: &Trust| -> Vec<_> {
        let sweep = Sweep::by(trust, Timestamp::now());
        let swept: Vec<_> = identities.iter().chain([&elsewhere]).map(|one| sweep.judge(one).map_err(|refused| refused.code)).collect();
        let asked =
            identities.iter().chain([&elsewhere]).map(|one| trust.still_accepts(one.chain(), Timestamp::now()).map_err(|refused| refused.code));
        assert_eq!(swept, asked.collect::<Vec<_>>());
        swept
    };
    let (revoked, unknown) = (Err(RefusalCode::CertificateRevoked), Err(RefusalCode::CertificateUnknownIssuer));
    assert_eq!(codes(&trust), [Ok(()), Ok(()), revoked, Ok(()), Ok(()), unknown]);
    authority.revoke(&[7, 13, 15]);
    let reloaded = trust.reload(&authority.config()).expect("usable");
    assert_eq!(codes(&reloaded), [revoked, Ok(()), revoked, Ok(()), revoked, unknown], "also where the first of all is revoked");
    // A list that another key signed is believed of nobody, and the lookup must not be quicker than that.
    stranger.revoke(&[13]);
    std::fs::copy(stranger.config().issuer[0].crl.clone(), authority.config().issuer[0].crl.clone()).expect("copied");
    let forged = trust.reload(&authority.config()).expect("it parses");
    assert!(codes(&forged).iter().all(Result::is_err));
    // Other authorities under the same name: nobody from before is accepted for her number's sake.
    let anew = trust.reload(&stranger.config()).expect("usable");
    assert_eq!(codes(&anew), [unknown, unknown, unknown, unknown, unknown, Ok(())]);
}

/// IA-07: a list grows old, which is an alarm first and a refusal then, in handshakes as of open sessions.
#[test]
fn a_list_that_grows_old_is_an_alarm_and_then_proves_nothing() {
    let authority = Authority::new();
    let hours = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    let list = |config: &Config| Trust::load(config).expect("usable");
    // It was made an hour ago and lasts 12 more.
    let own = list(&authority.config());
    assert_eq!([8, 9, 11, 12].map(|age| own.lists()[0].age(hours(age))), [Age::Fresh, Age::Stale, Age::Stale, Age::TooOld]);
    let mut config = authority.config();
    (config.issuer[0].crl_alarm_after, config.issuer[0].crl_refuse_after) =
        (Some(SignedDuration::from_hours(3)), Some(SignedDuration::from_hours(5)));
    let configured = list(&config);
    assert_eq!([1, 2, 3, 4].map(|age| configured.lists()[0].age(hours(age))), [Age::Fresh, Age::Stale, Age::Stale, Age::TooOld]);
    let certificate = authority.certify(|params| params.not_after = OffsetDateTime::now_utc() + Duration::days(2));
    for (trust, lasts, over) in [(&own, 11, 13), (&configured, 3, 5)] {
        let identity = VerifiedIdentity::of_verified_chain(vec![certificate.clone()], trust).expect("an identity");
        let code = |at: Timestamp| {
            let (handshake, sweep) = (trust.still_accepts(identity.chain(), at), Sweep::by(trust, at).judge(&identity));
            assert_eq!(handshake.clone().map_err(|refused| refused.code), sweep.map_err(|refused| refused.code));
            handshake.map_err(|refused| refused.code)
        };
        assert_eq!((code(hours(lasts)), code(hours(over))), (Ok(()), Err(RefusalCode::RevocationUnknown)));
    }
}

#[test]
fn a_certificate_has_the_assurance_of_its_authority() {
    let authority = Authority::new();
    let assurance = |config: &Config| {
        let identity = VerifiedIdentity::of_verified_chain(vec![authority.certify(uri)], &Trust::load(config).expect("usable"));
        identity.expect("an identity").credential().assurance
    };
    let mut config = authority.config();
    assert_eq!(assurance(&config), None, "none is given");
    config.issuer[0].assurance = Some(Assurance::Substantial);
    assert_eq!(assurance(&config), Some(Assurance::Substantial));
}
