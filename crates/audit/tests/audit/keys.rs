//! A log's pair of keys, cosignatures, and policies about whom to believe.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fips204::ml_dsa_44;
use fips204::traits::{KeyGen as _, SerDes as _, Signer as _, Verifier as _};
use proptest::prelude::*;
use sulku_audit::checkpoint::CheckpointError;
use sulku_audit::key::{Algorithm, KeyError};
use sulku_audit::log_key::LogKeyError;
use sulku_audit::note::Note;
use sulku_audit::policy::TrustError;
use sulku_audit::rotation::{self, Rotation, RotationError};
use sulku_audit::{Checkpoint, Draft, EntryProof, Event, Fault, Hash, LogKeys, LogSigner, PublicKey, Recordings, SecretKey, Trust};

use crate::support::{ORIGIN, SIGNED_AT, acted, entries_of, key, log_of, log_signer};

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size: 42, root: Hash::from_bytes([1; 32]) }
}

fn signed() -> String {
    log_signer().sign(&checkpoint(), SIGNED_AT)
}

fn witness(name: &str, algorithm: Algorithm) -> SecretKey {
    SecretKey::from_seed(name, algorithm, &[9; 32]).unwrap()
}

fn key_hash(key: &PublicKey) -> [u8; 4] {
    u32::from_str_radix(key.short().rsplit_once('+').unwrap().1, 16).unwrap().to_be_bytes()
}

/// The message of tlog-cosignature for ML-DSA-44, put together here from the specification's words.
fn cosigned_message(signer: &str, time: u64) -> Vec<u8> {
    let name = |name: &str| [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    [&b"subtree/v1\n\0"[..], &name(signer), &time.to_be_bytes(), &name(ORIGIN), &[0; 8], &42_u64.to_be_bytes(), &[1; 32]].concat()
}

/// A second implementation of FIPS 204 makes the same key of the same seed, verifies what we sign, and signs what we verify.
#[test]
fn ml_dsa_44_is_that_of_another_implementation() {
    let seed = [8; 32];
    let ours = SecretKey::from_seed(ORIGIN, Algorithm::MlDsa44, &seed).unwrap();
    let (public, secret) = ml_dsa_44::KG::keygen_from_seed(&seed);
    assert_eq!(ours.public().bytes(), public.clone().into_bytes());

    let line = ours.sign(&checkpoint(), SIGNED_AT);
    let note = format!("{}\n{line}", checkpoint().text());
    let note = Note::parse(note.as_bytes()).unwrap();
    let (time, signature) = note.lines()[0].signature.split_first_chunk::<8>().unwrap();
    assert_eq!(u64::from_be_bytes(*time), SIGNED_AT);
    assert!(public.verify(&cosigned_message(ORIGIN, SIGNED_AT), signature.try_into().unwrap(), &[]));
    assert!(!public.verify(&cosigned_message(ORIGIN, SIGNED_AT + 1), signature.try_into().unwrap(), &[]), "the control");

    let theirs = secret.try_sign_with_seed(&[5; 32], &cosigned_message(ORIGIN, 7), &[]).unwrap();
    let hash = key_hash(ours.public());
    let line = STANDARD.encode([&hash[..], &7_u64.to_be_bytes(), &theirs].concat());
    let note = format!("{}\n\u{2014} {ORIGIN} {line}\n", checkpoint().text());
    let found = ours.public().find(&Note::parse(note.as_bytes()).unwrap(), &checkpoint()).unwrap();
    assert_eq!(found.time(), Some(7));
}

/// The example of C2SP tlog-cosignature's text: its signed message, and the form of its line.
#[test]
fn an_ed25519_cosignature_is_over_time_and_text() {
    let witness = witness("witness.example/w1", Algorithm::Ed25519Cosignature);
    let note = format!("{}\n{}", checkpoint().text(), witness.sign(&checkpoint(), 1_679_315_147));
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(witness.public().find(&note, &checkpoint()).unwrap().time(), Some(1_679_315_147));
    let (_, signature) = note.lines()[0].signature.split_first_chunk::<8>().unwrap();
    let message = "cosignature/v1\ntime 1679315147\ntest.example/audit\n42\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
    let key = ed25519_dalek::VerifyingKey::from_bytes(witness.public().bytes().try_into().unwrap()).unwrap();
    key.verify_strict(message.as_bytes(), &ed25519_dalek::Signature::from_slice(signature).unwrap()).unwrap();
}

#[test]
fn a_cosignature_holds_for_its_time_its_signer_and_its_tree_alone() {
    for algorithm in [Algorithm::Ed25519Cosignature, Algorithm::MlDsa44] {
        let witness = witness("witness.example/w1", algorithm);
        let line = witness.sign(&checkpoint(), SIGNED_AT);
        let found = |checkpoint: &Checkpoint, line: &str| {
            let note = format!("{}\n{line}", checkpoint.text());
            witness.public().find(&Note::parse(note.as_bytes()).unwrap(), checkpoint).map(|signed| signed.time())
        };
        assert_eq!(found(&checkpoint(), &line), Ok(Some(SIGNED_AT)), "the control");
        for other in [
            Checkpoint { size: 43, ..checkpoint() },
            Checkpoint { root: Hash::from_bytes([2; 32]), ..checkpoint() },
            Checkpoint { origin: "other.example/audit".to_owned(), ..checkpoint() },
        ] {
            assert!(found(&other, &line).is_err(), "{other:?}");
        }
        let (head, encoded) = line.trim_end().rsplit_once(' ').unwrap();
        let mut bytes = STANDARD.decode(encoded).unwrap();
        bytes[11] ^= 1;
        assert!(found(&checkpoint(), &format!("{head} {}\n", STANDARD.encode(&bytes))).is_err(), "another time");
        bytes[11] ^= 1;
        bytes[4] |= 0x80;
        assert!(found(&checkpoint(), &format!("{head} {}\n", STANDARD.encode(&bytes))).is_err(), "a time beyond 2^63");
        assert_eq!(found(&checkpoint(), &witness.sign(&checkpoint(), 0)), Ok(None), "0 says nothing about the time");
    }
}

#[test]
fn a_log_signs_with_both_keys_and_a_reader_wants_both() {
    let note = signed();
    let opened = key().open(note.as_bytes()).unwrap();
    assert_eq!(opened.checkpoint, checkpoint());
    assert_eq!(
        opened.signed.iter().map(|(key, signed)| (key.algorithm(), signed.time())).collect::<Vec<_>>(),
        [(Algorithm::Ed25519, None), (Algorithm::MlDsa44, Some(SIGNED_AT))]
    );
    let lines: Vec<&str> = note.split_inclusive('\n').collect();
    let (text, lines) = (lines[..4].concat(), &lines[4..]);
    for (left, missing) in [(lines[0], 1), (lines[1], 0)] {
        let stripped = format!("{text}{left}");
        let missing = log_signer().own_keys().keys()[missing].short();
        assert!(matches!(key().open(stripped.as_bytes()), Err(CheckpointError::Unsigned { key, .. }) if key == missing), "each is demanded");
        // In a policy one of the log's keys is enough, as the specification says, unless the quorum asks for the other.
        let policy: Trust = log_signer()
            .own_keys()
            .keys()
            .iter()
            .map(|key| format!("log {key}\n"))
            .chain(["quorum none\n".to_owned()])
            .collect::<String>()
            .parse()
            .unwrap();
        assert_eq!(policy.open(stripped.as_bytes()).unwrap().signed.len(), 1, "the policy decides");
    }
    let strict = format!("log {}\nwitness pq {}\nquorum pq\n", log_signer().own_keys().keys()[0], log_signer().own_keys().keys()[1]);
    let strict: Trust = strict.parse().unwrap();
    assert!(strict.open(note.as_bytes()).is_ok());
    assert!(matches!(strict.open(format!("{text}{}", lines[0]).as_bytes()), Err(CheckpointError::Quorum(_))));
}

#[test]
fn unknown_signatures_are_ignored_and_a_bad_known_one_rejects_the_note() {
    let stranger = witness("stranger.example", Algorithm::MlDsa44);
    let with_stranger = signed() + &stranger.sign(&checkpoint(), SIGNED_AT);
    assert!(key().open(with_stranger.as_bytes()).is_ok());
    let unknown_type = signed() + &format!("\u{2014} {ORIGIN} {}\n", STANDARD.encode([0; 40]));
    assert!(key().open(unknown_type.as_bytes()).is_ok(), "another key of the same name");
    let other_tree = Checkpoint { size: 43, ..checkpoint() };
    for at in [0, 1] {
        let wrong = log_signer().sign(&other_tree, SIGNED_AT);
        let line = wrong.split_inclusive('\n').nth(4 + at).unwrap();
        let note = signed() + line;
        assert!(matches!(key().open(note.as_bytes()), Err(CheckpointError::Signature(_))), "a second, wrong line by key {at}");
    }
}

#[test]
fn a_quorum_of_witnesses_is_demanded_and_counted() {
    let (w1, w2, w3) = (
        SecretKey::from_seed("w1.example", Algorithm::Ed25519Cosignature, &[1; 32]).unwrap(),
        SecretKey::from_seed("w2.example", Algorithm::MlDsa44, &[2; 32]).unwrap(),
        SecretKey::from_seed("w3.example", Algorithm::MlDsa44, &[3; 32]).unwrap(),
    );
    let log = &log_signer().own_keys().keys()[0].to_string();
    let policy = format!(
        "# an authority's policy\n\nlog {log} https://spe.example/log\n witness\tone {} https://w1.example\nwitness two {}\nwitness three {}\n\
         group outside any two three\ngroup all-of-it all one outside\nquorum all-of-it\n",
        w1.public(),
        w2.public(),
        w3.public()
    );
    let trust: Trust = policy.parse().unwrap();
    let with = |lines: &[&SecretKey]| lines.iter().fold(signed(), |note, key| note + &key.sign(&checkpoint(), SIGNED_AT));
    assert_eq!(trust.open(with(&[&w1, &w3]).as_bytes()).unwrap().cosigned.len(), 2);
    assert_eq!(trust.open(with(&[&w1, &w2, &w3]).as_bytes()).unwrap().cosigned.len(), 3);
    for too_few in [&[][..], &[&w1], &[&w2, &w3]] {
        assert!(matches!(trust.open(with(too_few).as_bytes()), Err(CheckpointError::Quorum(_))), "{too_few:?}");
    }
    let said = trust.open(with(&[&w1]).as_bytes()).unwrap_err().to_string();
    assert!(said.contains("cosigned by one; not by two, three"), "{said}");
    let forged = with(&[&w1, &w2]) + &w3.sign(&Checkpoint { size: 43, ..checkpoint() }, SIGNED_AT);
    assert!(matches!(trust.open(forged.as_bytes()), Err(CheckpointError::Signature(_))), "a witness's wrong line spoils what is enough without it");
    let unsigned = with(&[&w1, &w2]).replace("\u{2014} test.example", "\u{2014} other.example");
    assert!(matches!(trust.open(unsigned.as_bytes()), Err(CheckpointError::Log(_))), "witnesses do not replace the log");
}

#[test]
fn a_witness_with_two_keys_is_one_witness_and_needs_both() {
    let keys = [witness("w.example", Algorithm::Ed25519Cosignature), SecretKey::from_seed("w.example", Algorithm::MlDsa44, &[2; 32]).unwrap()];
    let public: Vec<PublicKey> = keys.iter().map(|key| key.public().clone()).collect();
    let trust = Trust::with_witnesses(log_signer().own_keys(), &public, 1).unwrap();
    let one = signed() + &keys[0].sign(&checkpoint(), SIGNED_AT);
    assert!(matches!(trust.open(one.as_bytes()), Err(CheckpointError::Quorum(_))));
    assert!(trust.open((one + &keys[1].sign(&checkpoint(), SIGNED_AT)).as_bytes()).is_ok());
    assert!(Trust::with_witnesses(log_signer().own_keys(), &public, 2).is_err(), "two keys are not two witnesses");
    assert!(Trust::with_witnesses(log_signer().own_keys(), &[], 0).unwrap().open(signed().as_bytes()).is_ok());
}

#[test]
fn a_policy_that_says_nothing_clear_is_refused_by_its_line() {
    let log = log_signer().own_keys().keys()[0].to_string();
    let w = witness("w.example", Algorithm::MlDsa44).public().to_string();
    let ed = witness("w.example", Algorithm::Ed25519).public().to_string();
    let cosigner = witness("w.example", Algorithm::Ed25519Cosignature).public().to_string();
    for (policy, line) in [
        (format!("log {log}\nlog {log}\nquorum none\n"), 2),
        (format!("log {cosigner}\nquorum none\n"), 1),
        (format!("log {log}\nwitness a {ed}\nquorum a\n"), 2),
        (format!("log {log}\nwitness a {w}\nwitness b {w}\nquorum a\n"), 3),
        (format!("log {log}\nwitness none {w}\nquorum none\n"), 2),
        (format!("log {log}\nquorum a\nwitness a {w}\n"), 2),
        (format!("log {log}\nwitness a {w}\ngroup g 2 a\nquorum g\n"), 3),
        (format!("log {log}\nwitness a {w}\ngroup g 0 a\nquorum g\n"), 3),
        (format!("log {log}\nwitness a {w}\ngroup g 01 a\nquorum g\n"), 3),
        (format!("log {log}\nwitness a {w}\ngroup g any\nquorum g\n"), 3),
        (format!("log {log}\nwitness a {w}\ngroup g any a a\nquorum g\n"), 3),
        (format!("log {log}\nwitness a {w}\ngroup g any a\ngroup h any a\nquorum g\n"), 4),
        (format!("log {log}\nwitness a {w}\ngroup g any none\nquorum g\n"), 3),
        (format!("log {log}\nquorum none\nquorum none\n"), 3),
        (format!("log {log}\nmirror m {w}\nquorum none\n"), 2),
        (format!("log {log}\r\nquorum none\n"), 1),
        (format!("log {log} url more\nquorum none\n"), 1),
    ] {
        match policy.parse::<Trust>() {
            Err(TrustError::Line { line: found, .. }) => assert_eq!(found, line, "{policy}"),
            other => panic!("{policy}: {other:?}"),
        }
    }
    assert_eq!(format!("log {log}\n").parse::<Trust>(), Err(TrustError::NoQuorum));
    assert_eq!("quorum none\n".parse::<Trust>(), Err(TrustError::NoLog));
}

#[test]
fn a_logs_keys_are_a_pair_of_one_name() {
    let pair = log_signer();
    let text = pair.to_private_text();
    assert_eq!(text.parse::<LogSigner>().unwrap().own_keys(), pair.own_keys());
    assert_eq!(pair.own_keys().to_string().parse::<LogKeys>().unwrap(), pair.own_keys());
    assert_eq!(pair.own_keys().to_string().lines().count(), 2);
    assert!(!format!("{pair:?}").contains("Bw"), "a private key is not printed");
    let (first, second) = text.trim_end().split_once('\n').unwrap();
    for wrong in [first.to_owned(), format!("{first}\n{first}"), format!("{second}\n{first}"), String::new()] {
        assert!(wrong.parse::<LogSigner>().is_err());
    }
    let keys = pair.own_keys();
    let [ed25519, ml_dsa] = keys.keys() else { panic!("a pair") };
    let other = SecretKey::from_seed("other.example", Algorithm::MlDsa44, &[8; 32]).unwrap();
    assert_eq!(
        format!("{ed25519}\n{}\n", other.public()).parse::<LogKeys>(),
        Err(LogKeyError::Origins { line: 2, found: "other.example".to_owned(), expected: ORIGIN.to_owned() })
    );
    assert_eq!(format!("{ml_dsa}\n{ml_dsa}\n").parse::<LogKeys>(), Err(LogKeyError::Twice(2)));
    assert_eq!(first.parse::<LogKeys>(), Err(LogKeyError::Line { line: 1, cause: KeyError::Private }), "the wrong file of the two");
    let mut damaged = ml_dsa.to_string();
    damaged.replace_range(100..101, if &damaged[100..101] == "A" { "B" } else { "A" });
    assert_eq!(damaged.parse::<PublicKey>(), Err(KeyError::Hash));
    assert_eq!(damaged[..damaged.len() - 4].parse::<PublicKey>(), Err(KeyError::Form), "too short a key");
}

#[test]
fn old_and_new_keys_verify_while_both_sign() {
    let new = || LogSigner::from_seeds(ORIGIN, &[21; 32], &[22; 32]).unwrap();
    let both = new().replacing(log_signer()).unwrap().sign(&checkpoint(), SIGNED_AT);
    assert!(key().open(both.as_bytes()).is_ok(), "who knows the old key");
    assert!(Trust::from(new().own_keys()).open(both.as_bytes()).is_ok(), "who knows the new key");
    let all: LogKeys = format!("{}{}", log_signer().own_keys(), new().own_keys()).parse().unwrap();
    assert!(Trust::from(all).open(both.as_bytes()).is_ok());
    let after = new().sign(&checkpoint(), SIGNED_AT);
    let error = key().open(after.as_bytes()).unwrap_err().to_string();
    assert!(error.contains(&new().own_keys().keys()[0].short()) && error.contains("sulku audit keys"), "{error}");
    assert!(new().replacing(new()).is_err(), "a key does not replace itself");
    let other = LogSigner::from_seeds("other.example", &[1; 32], &[2; 32]).unwrap();
    assert!(new().replacing(other).is_err(), "nor another log's");
}

/// Who holds the old key alone comes to the new one by the log's own entry, and by no other's.
#[test]
fn a_reader_follows_the_old_keys_word_about_the_new_one() {
    let [second, third] = [31, 41].map(|seed| move || LogSigner::from_seeds(ORIGIN, &[seed; 32], &[seed + 1; 32]).unwrap());
    let first = Rotation::sign(&second().replacing(log_signer()).unwrap()).unwrap();
    let again = Rotation::sign(&third().replacing(second()).unwrap()).unwrap();
    assert_eq!(Rotation::sign(&second()), None, "no rotation, no word");
    let entries = [(5, first.clone()), (6, first.clone()), (90, again.clone())];
    let followed = rotation::follow(log_signer().own_keys(), &entries).unwrap();
    assert_eq!(followed.changes, [(5, second().own_keys()), (90, third().own_keys())]);
    assert_eq!(followed.keys, third().own_keys());
    let followed = rotation::follow(second().own_keys(), &entries).unwrap();
    assert_eq!(followed.changes, [(90, third().own_keys())], "who holds a later key begins there");
    let ed25519_alone = LogKeys::new(vec![log_signer().own_keys().keys()[0].clone()]).unwrap();
    assert_eq!(rotation::follow(ed25519_alone, &entries).unwrap().keys, third().own_keys());
}

#[test]
fn a_forged_rotation_is_rejected_by_whoever_holds_the_old_key() {
    let thief = || LogSigner::from_seeds(ORIGIN, &[66; 32], &[67; 32]).unwrap();
    let genuine = Rotation::sign(&LogSigner::from_seeds(ORIGIN, &[31; 32], &[32; 32]).unwrap().replacing(log_signer()).unwrap()).unwrap();
    let own = Rotation::sign(&thief().replacing(LogSigner::from_seeds(ORIGIN, &[68; 32], &[69; 32]).unwrap()).unwrap()).unwrap();
    let keys = |keys: LogKeys| keys.keys().iter().map(ToString::to_string).collect::<Vec<_>>();
    let signatures = STANDARD.decode(&genuine.signature).unwrap();
    let forged = [
        // The genuine signature under the thief's keys.
        Rotation { new: keys(thief().own_keys()), ..genuine.clone() },
        // The thief's signature under the old keys' names.
        Rotation { old: keys(log_signer().own_keys()), ..own.clone() },
        // Ed25519's signature is right, ML-DSA-44's is missing, and the other way round.
        Rotation { signature: STANDARD.encode(&signatures[..64]), ..genuine.clone() },
        Rotation { signature: STANDARD.encode([&[0; 64], &signatures[64..]].concat()), ..genuine.clone() },
        Rotation { signature: STANDARD.encode([&signatures[..], &[0]].concat()), ..genuine.clone() },
        Rotation { signature: String::new(), ..genuine.clone() },
    ];
    for rotation in forged {
        let outcome = rotation::follow(log_signer().own_keys(), &[(7, rotation)]);
        assert!(matches!(outcome, Err((7, RotationError::Forged(_)))), "{outcome:?}");
    }
    assert_eq!(own.verify(&log_signer().own_keys()), Ok(None), "a word about keys that the reader does not hold leads nowhere");
    assert_eq!(genuine.verify(&log_signer().own_keys()).unwrap().unwrap().keys().len(), 2, "the control");
    let elsewhere = |seed| LogSigner::from_seeds("other.example", &[seed; 32], &[seed; 32]).unwrap();
    let other_log = Rotation::sign(&elsewhere(1).replacing(elsewhere(2)).unwrap()).unwrap();
    let mixed = Rotation { old: keys(log_signer().own_keys()), ..other_log };
    assert!(matches!(mixed.verify(&log_signer().own_keys()), Err(RotationError::Origin { .. })));
}

/// A ledger signs its entries as a whole; that the old keys wanted the change is another signature, and is checked as such.
#[test]
fn a_log_with_a_change_of_keys_that_the_old_keys_did_not_sign_does_not_verify() {
    let [second, third] = [31, 41].map(|seed| move || LogSigner::from_seeds(ORIGIN, &[seed; 32], &[seed + 1; 32]).unwrap());
    let genuine = Rotation::sign(&second().replacing(log_signer()).unwrap()).unwrap();
    let log = |Rotation { old, new, signature }: Rotation| {
        let rotated = Draft::new(Event::LedgerKeyRotated { old, new, signature });
        log_of(&entries_of([acted(0), rotated, acted(2)]))
    };
    let verify = |rotation| sulku_audit::verify::verify(&mut log(rotation), &key(), Recordings::Check, |_, _, _| {});
    assert_eq!(verify(genuine.clone()).unwrap().entries(), 3, "the control");
    let other = Rotation { new: third().own_keys().keys().iter().map(ToString::to_string).collect(), ..genuine };
    let fault = verify(other).unwrap_err();
    assert!(matches!(fault, Fault::Rotation { index: 1, cause: RotationError::Forged(_) }), "{fault}");
    let elsewhere = |seed| LogSigner::from_seeds("elsewhere.example/audit", &[seed; 32], &[seed; 32]).unwrap();
    let of_another = Rotation::sign(&elsewhere(1).replacing(elsewhere(2)).unwrap()).unwrap();
    assert!(matches!(verify(of_another), Err(Fault::Rotation { index: 1, cause: RotationError::Origin { .. } })));
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_of_policies_and_keys_panic(text in "(log|witness|group|quorum|none|any|all|[a-z+]{1,8}|\\PC{0,9}|[ \t\n#0-9])*") {
        let _may_be_one = text.parse::<Trust>();
        let _may_be_some = text.parse::<LogKeys>();
        prop_assert!(text.parse::<LogSigner>().is_err());
    }

    #[test]
    fn a_signature_line_of_any_bytes_verifies_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for public in [&witness("w.example", Algorithm::MlDsa44), &witness("w.example", Algorithm::Ed25519Cosignature)].map(SecretKey::public) {
            let hash = key_hash(public);
            let note = format!("{}\n\u{2014} w.example {}\n", checkpoint().text(), STANDARD.encode([&hash[..], &bytes].concat()));
            prop_assert!(public.find(&Note::parse(note.as_bytes()).unwrap(), &checkpoint()).is_err());
        }
    }
}

/// A proof carries the cosigned checkpoint where there is one, so that it convinces who asks for witnesses, offline.
#[test]
fn a_proof_carries_the_cosignatures_that_there_are() {
    let entries = crate::support::entries_of((0..30).map(crate::support::acted));
    let mut log = crate::support::log_of(&entries);
    let witness = witness("w.example", Algorithm::MlDsa44);
    let strict = Trust::with_witnesses(log_signer().own_keys(), &[witness.public().clone()], 1).unwrap();
    assert!(EntryProof::make(&mut log, &strict, 7).is_err(), "nobody has cosigned");
    let earlier = crate::support::log_of(&entries[..20]).0["checkpoint"].clone();
    let checkpoint = Checkpoint::open(&earlier, &key()).unwrap();
    let tiles = crate::support::log_of(&entries[..20]).0;
    log.0.extend(tiles.into_iter().filter(|(path, _)| path.contains(".p/")));
    log.0.insert("cosigned".to_owned(), [earlier, witness.sign(&checkpoint, SIGNED_AT).into_bytes()].concat());
    let (proof, bytes) = EntryProof::make(&mut log, &strict, 7).unwrap();
    assert_eq!(EntryProof::parse(&proof.to_text()).unwrap().verify(&bytes, &strict).unwrap().checkpoint().size, 20);
    assert_eq!(EntryProof::make(&mut log, &key(), 7).unwrap().0.verify(&bytes, &key()).unwrap().checkpoint().size, 20, "whoever asks");
    assert_eq!(EntryProof::make(&mut log, &key(), 25).unwrap().0.to_text().lines().filter(|line| line.starts_with('\u{2014}')).count(), 2);
    assert!(EntryProof::make(&mut log, &strict, 25).is_err(), "not cosigned yet");
}
