//! What follows when witnesses have not cosigned, and when they have cosigned something else.

use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sulku_audit::key::Algorithm;
use sulku_audit::note::Note;
use sulku_audit::wire::Cause;
use sulku_audit::{Checkpoint, Event, Hash, Receipt, SecretKey};
use sulku_ledger::client::ClientError;
use sulku_ledger::config::WitnessSettings;
use sulku_ledger::key;

use crate::support::{AUDITOR, COURIER, Home, Running, acted, chunk, opened};

fn witness() -> SecretKey {
    SecretKey::from_seed("authority.example/witness", Algorithm::MlDsa44, &[5; 32]).unwrap()
}

fn home(no_new_sessions_after: u64, freeze_after: u64) -> Home {
    let mut home = Home::in_memory();
    let (no_new_sessions_after, freeze_after) = (Duration::from_millis(no_new_sessions_after), Duration::from_millis(freeze_after));
    home.settings.witness = Some(WitnessSettings { keys: vec![witness().public().clone()], quorum: 1, no_new_sessions_after, freeze_after });
    home
}

fn now() -> u64 {
    Timestamp::now().as_second().unsigned_abs()
}

fn cosigned(home: &Home) -> String {
    let note = fs::read_to_string(home.log().join("checkpoint")).unwrap();
    let checkpoint = Checkpoint::of_note(&Note::parse(note.as_bytes()).unwrap()).unwrap();
    note.clone() + &witness().sign(&checkpoint, now())
}

fn cosign(ledger: &Running, note: &str) -> Result<(), ClientError> {
    ledger.as_user(COURIER, |mut client| client.cosign(note))
}

fn refused(outcome: Result<Receipt, ClientError>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(ClientError::Refused { cause: Cause::Unwitnessed, .. }) => true,
        Err(other) => panic!("{other:?}"),
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_cosignatures_nothing_opens_then_nothing_is_recorded_and_closing_goes_on() {
    let home = home(700, 1_600);
    let ledger = home.start();
    let mut client = ledger.client();
    assert!(!refused(client.append(opened(1), &[])), "the control: at first all goes on");
    let mut number = 2;
    eventually("no session was refused", || {
        number += 1;
        refused(client.append(opened(number), &[]))
    });
    assert!(!refused(client.append(chunk(1, 0, 0, b"a"), b"a")), "what is open goes on");
    let mut offset = 1;
    eventually("no chunk was refused", || {
        let refused = refused(client.append(chunk(1, offset, offset, b"a"), b"a"));
        offset += u64::from(!refused);
        refused
    });
    assert!(!refused(client.append(acted(1), &[])), "other entries are taken");
    client.publish().unwrap();
    cosign(&ledger, &cosigned(&home)).unwrap();
    assert!(!refused(client.append(opened(200), &[])), "seen again, all goes on");
    client.publish().unwrap();
    ledger.stop().unwrap();
    let said: Vec<String> = home
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::LedgerUnwitnessed { effect, .. } => Some(effect.clone()),
            Event::LedgerWitnessed { .. } => Some("witnessed".to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(said[..3], ["no-new-sessions", "frozen", "witnessed"]);
}

#[test]
fn cosignatures_come_from_the_courier_and_from_a_witness_that_is_named() {
    let home = home(60_000, 60_000);
    let ledger = home.start();
    ledger.client().publish().unwrap();
    let good = cosigned(&home);
    let by_auditor = ledger.as_user(AUDITOR, |mut client| client.cosign(&good));
    assert!(matches!(by_auditor, Err(ClientError::Refused { .. })));
    let bare = fs::read_to_string(home.log().join("checkpoint")).unwrap();
    assert!(matches!(cosign(&ledger, &bare), Err(ClientError::Refused { cause: Cause::NotAllowed, .. })), "the log alone is no witness");
    let forged = bare.clone() + &witness().sign(&Checkpoint { origin: "x".to_owned(), size: 1, root: Hash::from_bytes([0; 32]) }, now());
    assert!(matches!(cosign(&ledger, &forged), Err(ClientError::Refused { .. })));
    assert!(!home.log().join("cosigned").exists());
    cosign(&ledger, &good).unwrap();
    assert_eq!(fs::read_to_string(home.log().join("cosigned")).unwrap(), good);
    ledger.stop().unwrap();
}

/// The folder was put back to an earlier state, signed head included; a witness remembers.
#[test]
fn a_log_that_was_put_back_ends_when_the_witness_has_seen_more() {
    let home = home(60_000, 60_000);
    home.start().stop().unwrap();
    let copy = home.folder.path().join("copy");
    copy_folder(home.log(), &copy);
    let ledger = home.start();
    let _receipt = ledger.client().append(acted(1), &[]).unwrap();
    ledger.client().publish().unwrap();
    let later = cosigned(&home);
    cosign(&ledger, &later).unwrap();
    ledger.stop().unwrap();

    let kept = fs::read(home.log().join("cosigned")).unwrap();
    fs::remove_dir_all(home.log()).unwrap();
    copy_folder(&copy, home.log());
    let ledger = home.start();
    assert!(matches!(cosign(&ledger, &later), Err(ClientError::Refused { cause: Cause::Broken, .. })));
    let broken = ledger.ended().unwrap_err().to_string();
    assert!(broken.contains("put back to an earlier state"), "{broken}");

    fs::remove_dir_all(home.log()).unwrap();
    copy_folder(&copy, home.log());
    fs::write(home.log().join("cosigned"), kept).unwrap();
    let error = home.try_start().map(drop).unwrap_err().to_string();
    assert!(error.contains("entries were lost or removed"), "at its start it needs no witness if it has her word: {error}");
}

#[test]
fn a_tree_of_the_same_size_that_the_log_signed_and_does_not_have_ends_it() {
    let home = home(60_000, 60_000);
    let ledger = home.start();
    ledger.client().publish().unwrap();
    let note = fs::read_to_string(home.log().join("checkpoint")).unwrap();
    let mut other = Checkpoint::of_note(&Note::parse(note.as_bytes()).unwrap()).unwrap();
    other.root = Hash::from_bytes([9; 32]);
    let fork = key::load(&home.settings.signing_key).unwrap().sign(&other, now()) + &witness().sign(&other, now());
    assert!(matches!(cosign(&ledger, &fork), Err(ClientError::Refused { cause: Cause::Broken, .. })));
    assert!(ledger.ended().is_err());
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
