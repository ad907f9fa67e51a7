//! Keys, signed notes and checkpoints.

use proptest::prelude::*;
use sulku_audit::checkpoint::CheckpointError;
use sulku_audit::note::{KeyError, NoteError};
use sulku_audit::{Checkpoint, Hash, Signer, Verifier};

use crate::support::{ORIGIN, SIGNED_AT, key, log_signer};

/// The example of Go's `sumdb/note`: its key and its note.
const PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNATURE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn keys_and_notes_are_those_of_go() {
    let signer: Signer = PRIVATE.parse().unwrap();
    assert_eq!(signer.to_private_text().as_str(), PRIVATE);
    assert_eq!(signer.verifier().to_string(), PUBLIC);
    let note = format!("{TEXT}\n{SIGNATURE}");
    assert_eq!(signer.sign_note(TEXT), note);
    assert_eq!(PUBLIC.parse::<Verifier>().unwrap().open(note.as_bytes()), Ok(TEXT));
}

#[test]
fn a_damaged_key_is_refused() {
    for text in ["", "PeterNeumann", "PeterNeumann+c74f20a3", "+c74f20a3+ARpc", "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    {
        assert!(text.parse::<Verifier>().is_err(), "{text:?}");
    }
    assert_eq!(PUBLIC.replace("c74f20a3", "c74f20a4").parse::<Verifier>(), Err(KeyError::Hash));
    assert_eq!(PUBLIC.replace("c74f20a3", "C74F20A3").parse::<Verifier>(), Err(KeyError::Form));
    assert_eq!(PUBLIC.replace("ARpc", "BRpc").parse::<Verifier>(), Err(KeyError::Algorithm(0x05)));
    assert!(PUBLIC.parse::<Signer>().is_err(), "a public key signs nothing");
    assert!(PRIVATE.parse::<Verifier>().is_err(), "a private key is not taken for a public one");
    assert!(!format!("{:?}", PRIVATE.parse::<Signer>().unwrap()).contains("AYEK"), "a private key is not printed");
}

#[test]
fn signatures_of_others_are_ignored_and_a_wrong_one_in_our_name_is_not() {
    let verifier: Verifier = PUBLIC.parse().unwrap();
    let witness = Signer::from_seed("witness.example", &[3; 32]).unwrap();
    let foreign = witness.sign_note(TEXT).split_off(TEXT.len() + 1);
    assert_eq!(verifier.open(format!("{TEXT}\n{foreign}{SIGNATURE}").as_bytes()), Ok(TEXT));
    assert_eq!(verifier.open(format!("{TEXT}\n{foreign}").as_bytes()), Err(NoteError::Unsigned));
    let wrong = SIGNATURE.replace("x08go/Z", "x08go/Y");
    assert_eq!(verifier.open(format!("{TEXT}\n{SIGNATURE}{wrong}").as_bytes()), Err(NoteError::Signature));
    assert_eq!(verifier.open(format!("{}\n{SIGNATURE}", TEXT.replace("answer", "Answer")).as_bytes()), Err(NoteError::Signature));
    let namesake = Signer::from_seed("PeterNeumann", &[3; 32]).unwrap().sign_note(TEXT);
    assert_eq!(verifier.open(namesake.as_bytes()), Err(NoteError::Unsigned), "another key of the same name");
    assert_eq!(verifier.open(format!("{TEXT}\n{}", SIGNATURE.repeat(101)).as_bytes()), Err(NoteError::Form), "too many signatures");
}

#[test]
fn a_checkpoint_says_origin_size_and_root() {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 42, root: Hash::from_bytes([1; 32]) };
    let text = "test.example/audit\n42\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
    assert_eq!(checkpoint.text(), text);
    assert_eq!(Checkpoint::open(log_signer().sign(&checkpoint, SIGNED_AT).as_bytes(), &key()), Ok(checkpoint.clone()));
    assert_eq!(Checkpoint::parse(&format!("{text}extension\n")), Some(checkpoint), "extensions are for others");
    for wrong in [
        text.trim_end(),
        &text.replace("42", "042"),
        &text.replace("42", "+42"),
        &text.replace("42", "-1"),
        &text.replace("42", "18446744073709551616"),
        &text.replace("test.example/audit", ""),
        &text.replace("QE=", "QE"),
        &text.replace("AQEB", ""),
        &format!("{text}\n"),
    ] {
        assert_eq!(Checkpoint::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_checkpoint_of_another_log_by_the_same_key_is_refused() {
    let checkpoint = Checkpoint { origin: "other.example/audit".to_owned(), size: 42, root: Hash::from_bytes([1; 32]) };
    let opened = Checkpoint::open(log_signer().sign(&checkpoint, SIGNED_AT).as_bytes(), &key());
    assert!(matches!(opened, Err(CheckpointError::Origin { found, .. }) if found == "other.example/audit"));
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "\\PC*(\n|\\+|\u{2014} )*\\PC*") {
        prop_assert!(key().open(&bytes).is_err());
        prop_assert!(key().open(text.as_bytes()).is_err());
        prop_assert!(text.parse::<Verifier>().is_err());
        prop_assert!(text.parse::<Signer>().is_err());
        let _may_be_one = Checkpoint::parse(&text);
    }

    #[test]
    fn a_note_with_any_byte_changed_is_not_opened(at in 0_usize..8_000, bit in 0_u8..8) {
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 42, root: Hash::from_bytes([1; 32]) };
        let mut note = log_signer().sign(&checkpoint, SIGNED_AT).into_bytes();
        let at = at % note.len();
        note[at] ^= 1 << bit;
        prop_assert!(Checkpoint::open(&note, &key()).is_err());
    }
}
