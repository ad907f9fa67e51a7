//! A client of TLS 1.3 completes its handshake before the server has judged its certificate: each of these refusals arrives
//! after the client's own success.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};

use super::gateway::{Issued, Options, Peer, Subject};
use super::*;
use sulku_permit::RefusalCode;

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

async fn never(_: Peer) {
    panic!("a peer without a good certificate got through");
}

fn profile(desk: &Desk, gateway: &Gateway, person: &Issued) -> Profile {
    Profile::load(&desk.profile(gateway.port, person)).expect("a good profile")
}

async fn refused_over_both(profile: &Profile, code: RefusalCode) {
    for transport in [Transport::Quic, Transport::Tls] {
        match open(profile, transport).await {
            Err(DialError::Refused(refused)) => assert_eq!((refused.code, refused.advice.as_str()), (code, code.advice()), "over {transport:?}"),
            other => panic!("over {transport:?}: {other:?}"),
        }
    }
}

/// IA-01
#[test]
fn a_missing_certificate_is_told_apart() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), never);
        let profile = profile(&desk, &gateway, &desk.issue(Subject::Holder)).with_credential(Arc::new(NoCertificate));
        refused_over_both(&profile, RefusalCode::CertificateMissing).await;
    });
}

#[test]
fn an_expired_certificate_is_told_apart() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), never);
        refused_over_both(&profile(&desk, &gateway, &desk.issue(Subject::ExpiredHolder)), RefusalCode::CertificateExpired).await;
    });
}

#[test]
fn a_revoked_certificate_is_told_apart() {
    within_patience(async {
        let desk = Desk::new();
        let person = desk.issue(Subject::Holder);
        let options = Options { revoked: vec![person.serial.clone()], ..Options::default() };
        let gateway = Gateway::start(&desk, options, never);
        refused_over_both(&profile(&desk, &gateway, &person), RefusalCode::CertificateRevoked).await;
    });
}

#[test]
fn a_certificate_of_another_authority_or_purpose_is_told_apart() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), never);
        for other in [Desk::named("other"), Desk::new()] {
            refused_over_both(&profile(&desk, &gateway, &other.issue(Subject::Holder)), RefusalCode::CertificateUnknownIssuer).await;
        }
        refused_over_both(&profile(&desk, &gateway, &desk.issue(Subject::Gateway)), RefusalCode::CertificateInvalid).await;
    });
}

#[test]
fn a_refusal_is_not_tried_again_on_the_other_transport() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), never);
        let error = open(&profile(&desk, &gateway, &desk.issue(Subject::ExpiredHolder)), Transport::Auto).await.expect_err("refused");
        assert!(matches!(error, DialError::Refused(_)), "{error:?}");
        assert_eq!((gateway.came.quic.load(Ordering::SeqCst), gateway.came.tls.load(Ordering::SeqCst)), (1, 0));
    });
}

#[test]
fn a_gateway_that_does_not_prove_itself_is_told_apart_from_a_refusal() {
    within_patience(async {
        let (desk, other, anew) = (Desk::new(), Desk::named("other"), Desk::new());
        let cases = [
            (&desk, Subject::ExpiredGateway, GatewayFault::Expired),
            (&desk, Subject::OtherGateway, GatewayFault::WrongName),
            (&desk, Subject::Holder, GatewayFault::Unsuitable),
            (&other, Subject::Gateway, GatewayFault::UnknownIssuer),
            (&anew, Subject::Gateway, GatewayFault::UnknownIssuer),
        ];
        for (theirs, subject, expected) in cases {
            let gateway = Gateway::start(theirs, Options { subject, ..Options::default() }, never);
            let profile = profile(&desk, &gateway, &desk.issue(Subject::Holder));
            for transport in [Transport::Quic, Transport::Tls, Transport::Auto] {
                match open(&profile, transport).await {
                    Err(DialError::GatewayCertificate(fault)) => assert_eq!(fault, expected, "over {transport:?}"),
                    outcome => panic!("over {transport:?}, expected {expected:?}: {outcome:?}"),
                }
            }
        }
    });
}

#[test]
fn the_systems_own_authorities_are_not_trusted_and_the_hybrid_key_exchange_comes_first() {
    let desk = Desk::new();
    let profile = Profile::load(&desk.profile(1, &desk.issue(Subject::Holder))).expect("a good profile");
    let mut only = RootCertStore::empty();
    only.add(desk.authority()).expect("an authority");
    assert_eq!(profile.authority().roots, only.roots);
    let config = crate::tls::over_tcp(&profile);
    assert_eq!(config.crypto_provider().kx_groups.first().map(|group| group.name()), Some(rustls::NamedGroup::X25519MLKEM768));
    assert!(!config.enable_early_data);
}
