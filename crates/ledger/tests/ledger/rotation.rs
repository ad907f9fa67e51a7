//! The log's keys are replaced: the overlap, a key that is lost, a change that nobody signed.

use std::fs;

use sulku_audit::rotation::{self, Rotation};
use sulku_audit::{Event, Fault, LogKeys, Recordings, Trust};
use sulku_ledger::folder::Folder;
use sulku_ledger::key;

use crate::support::{Home, ORIGIN, acted};

/// A home whose first keys have signed a log, and the first keys; the second are made and configured.
fn with_new_key(previous: bool) -> (Home, LogKeys) {
    let mut home = Home::in_memory();
    let ledger = home.start();
    let _receipt = ledger.client().append(acted(1), &[]).unwrap();
    ledger.stop().unwrap();
    let old = home.settings.signing_key.clone();
    let first = key::load(&old).unwrap().own_keys();
    home.settings.signing_key = home.folder.path().join("second");
    home.key = key::create(ORIGIN, &home.settings.signing_key).unwrap().into();
    home.settings.previous_signing_key = previous.then_some(old);
    (home, first)
}

fn verify(home: &Home, keys: LogKeys) -> Result<u64, Fault> {
    let mut rotations = 0;
    let visit = |_, entry: &sulku_audit::Entry, _: &[u8]| rotations += u64::from(matches!(*entry.event, Event::LedgerKeyRotated { .. }));
    let _whole = sulku_audit::verify::verify(&mut Folder::new(home.log().to_owned()), &Trust::from(keys), Recordings::Check, visit)?;
    Ok(rotations)
}

#[test]
fn old_and_new_key_verify_over_the_overlap_and_the_old_one_leads_to_the_new() {
    let (mut home, first) = with_new_key(true);
    let second = key::load(&home.settings.signing_key).unwrap().own_keys();
    home.start().stop().unwrap();
    home.start().stop().unwrap();
    assert_eq!(verify(&home, first.clone()).unwrap(), 1, "the change is one entry, however often the ledger starts");
    assert_eq!(verify(&home, second.clone()).unwrap(), 1);

    home.settings.previous_signing_key = None;
    home.start().stop().unwrap();
    assert_eq!(verify(&home, second.clone()).unwrap(), 1);
    let error = verify(&home, first.clone()).unwrap_err();
    let said = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).map(ToString::to_string).collect::<String>();
    assert!(said.contains("sulku audit keys"), "who has the old key alone is told what to do: {said}");

    let rotations: Vec<(u64, Rotation)> = (0..)
        .zip(home.events())
        .filter_map(|(index, event)| match event {
            Event::LedgerKeyRotated { old, new, signature } => Some((index, Rotation { old, new, signature })),
            _ => None,
        })
        .collect();
    let followed = rotation::follow(first, &rotations).unwrap();
    assert_eq!(followed.keys, second);
    assert_eq!(followed.changes.len(), 1);
}

#[test]
fn a_log_whose_key_is_lost_does_not_go_on_under_another() {
    let (home, _) = with_new_key(false);
    let before = fs::read(home.log().join("checkpoint")).unwrap();
    let error = home.try_start().map(drop).unwrap_err().to_string();
    assert!(error.contains("previous_signing_key") && error.contains("a new one begins under a new name"), "{error}");
    assert_eq!(fs::read(home.log().join("checkpoint")).unwrap(), before, "nothing was signed");
}

#[test]
fn receipts_are_signed_by_the_new_key_from_its_first_moment() {
    let (home, first) = with_new_key(true);
    let ledger = home.start();
    let receipt = ledger.client().append(crate::support::opened(1), &[]).unwrap();
    assert!(receipt.verify_opening(&home.receipt_keys()).is_ok());
    assert!(receipt.verify_opening(&first.verifiers()).is_err());
    assert!(receipt.verify_opening(&[first.verifiers(), home.receipt_keys()].concat()).is_ok(), "as a warden with both keys sees it");
    ledger.stop().unwrap();
}
