//! Keys and signatures beside openssl: it makes the keys, and verifies what we sign, with nothing of ours.

use std::path::Path;
use std::process::Command;

use sulku_policy::{Draft, KeyError, OperatorKey, Revision, SigningKey};

/// What openssl answers; that it is there at all is part of the test.
fn openssl(folder: &Path, arguments: &str) -> (bool, Vec<u8>) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().expect("openssl is installed (apt install openssl)");
    (output.status.success(), output.stdout)
}

fn revision() -> Revision {
    let draft = Draft {
        number: 1,
        previous: None,
        made: "2026-11-25T01:00:00Z".parse().expect("a time"),
        by: "onni".parse().expect("an id"),
        reason: "the first".to_owned(),
        files: Vec::new(),
    };
    Revision::new(draft).expect("a revision")
}

#[test]
fn an_auditor_verifies_a_signature_with_openssl_alone() {
    for (make, verify) in [
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem", "dgst -sha256 -verify public.pem -signature signature text"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key.pem", "dgst -sha384 -verify public.pem -signature signature text"),
        ("genpkey -algorithm ED25519 -out key.pem", "pkeyutl -verify -pubin -inkey public.pem -rawin -sigfile signature -in text"),
        ("ecparam -name prime256v1 -genkey -out key.pem", "dgst -sha256 -verify public.pem -signature signature text"),
        ("ecparam -name secp384r1 -genkey -out key.pem", "dgst -sha384 -verify public.pem -signature signature text"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        assert!(openssl(path, make).0 && openssl(path, "pkey -in key.pem -pubout -out public.pem").0, "{make}");
        let key = SigningKey::from_pem(&std::fs::read_to_string(path.join("key.pem")).expect("a key")).expect(make);
        let (_, der) = openssl(path, "pkey -in key.pem -pubout -outform DER");
        assert_eq!(OperatorKey::from_der(&der).expect(make), *key.public(), "openssl's public key is ours");

        let revision = revision();
        let signature = revision.sign("onni".parse().expect("an id"), &key).signature;
        std::fs::write(path.join("text"), revision.text()).expect("written");
        std::fs::write(path.join("signature"), &signature).expect("written");
        assert!(openssl(path, verify).0, "{make}");
        std::fs::write(path.join("text"), revision.text().replace("the first", "the second")).expect("written");
        assert!(!openssl(path, verify).0, "{make}: another text");
    }
}

#[test]
fn a_key_that_signs_no_revisions_is_refused_plainly() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    for (make, why) in [
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem", KeyError::Rsa),
        ("genrsa -traditional -out key.pem 2048", KeyError::Rsa),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key.pem", KeyError::Kind),
        ("genpkey -algorithm X25519 -out key.pem", KeyError::Kind),
        ("genpkey -algorithm ED25519 -aes256 -pass pass:secret -out key.pem", KeyError::Encrypted),
    ] {
        assert!(openssl(path, make).0, "{make}");
        let text = std::fs::read_to_string(path.join("key.pem")).expect("a key");
        assert_eq!(SigningKey::from_pem(&text).expect_err(make), why, "{make}");
        if why != KeyError::Encrypted {
            let (_, der) = openssl(path, "pkey -in key.pem -pubout -outform DER");
            assert_eq!(OperatorKey::from_der(&der).expect_err(make), why, "{make}");
        }
    }
    for text in
        ["", "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"]
    {
        assert_eq!(SigningKey::from_pem(text).expect_err(text), KeyError::Private);
    }
}
