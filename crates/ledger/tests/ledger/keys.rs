//! What is private is sealed under keys that can be destroyed, and who holds a permit does not audit.

use sulku_audit::event::{Extent, HeldPermit};
use sulku_audit::personal::{Keyring, Scope, Sight};
use sulku_audit::wire::Cause;
use sulku_audit::{Draft, Entry, Event, Recordings};
use sulku_ledger::client::ClientError;
use sulku_ledger::folder::Folder;
use sulku_permit::{HolderId, PermitId};

use crate::support::{AUDITOR, GATEWAY, Home, Running, STRANGER, acted, opened};

fn permit() -> PermitId {
    "THL/1/2026".parse().unwrap()
}

/// What the gateway tells of the permits in force.
fn held(holders: &[&str]) -> Draft {
    let holders: Vec<HolderId> = holders.iter().map(|holder| holder.parse().unwrap()).collect();
    let permits = vec![HeldPermit { permit: permit(), holders }];
    Draft::new(Event::PolicyHolders { number: 1, extent: Extent::Whole, part: 1, parts: 1, permits: permits.into() })
}

/// What a reader of the log's folder sees of each entry.
fn sights(home: &Home) -> Vec<(Entry, Sight)> {
    let mut folder = Folder::new(home.log().to_owned());
    let mut entries = Vec::new();
    let _: sulku_audit::Verified =
        sulku_audit::verify::verify(&mut folder, &home.key, Recordings::Check, |_, entry, _| entries.push(entry.clone())).unwrap();
    let mut keyring = Keyring::default();
    entries.into_iter().map(|entry| (entry.clone(), keyring.open(&mut folder, &entry).unwrap())).collect()
}

/// LG-03
#[test]
fn who_has_the_keys_reads_the_drafts_and_who_has_not_reads_pseudonyms() {
    let home = Home::new();
    let ledger = home.start();
    let drafts = [opened(1), acted(2), held(&["maija.meikalainen", "bo.bengtsson"])];
    for draft in &drafts {
        let _receipt = ledger.client().append(draft.clone(), &[]).unwrap();
    }
    ledger.stop().unwrap();
    let seen = sights(&home);
    for (draft, (_, sight)) in drafts.iter().zip(&seen[1..]) {
        assert_eq!(*sight, Sight::Open(Box::new(draft.clone())));
    }
    std::fs::remove_dir_all(home.log().join("keys")).unwrap();
    let blind = sights(&home);
    assert!(blind[1..4].iter().all(|(_, sight)| *sight == Sight::NoKey));
    assert!(blind[1].0.person.is_some(), "a pseudonym stays");
}

#[test]
fn a_key_outlives_the_ledgers_restart() {
    let home = Home::new();
    for _ in 0..2 {
        let ledger = home.start();
        let _receipt = ledger.client().append(opened(1), &[]).unwrap();
        ledger.stop().unwrap();
    }
    let seen = sights(&home);
    let persons: Vec<_> = seen.iter().filter_map(|(entry, _)| entry.person).collect();
    assert_eq!((persons.len(), persons.first()), (2, persons.last()));
    assert!(seen.iter().all(|(_, sight)| matches!(sight, Sight::Open(_))));
}

/// LG-10
#[test]
fn an_auditor_who_holds_a_permit_is_refused_and_the_try_is_an_entry() {
    let home = Home::with_separate_users();
    let ledger = home.start();
    ledger.as_user(AUDITOR, |client| assert!(client.announce("all").is_ok(), "the control: she holds none yet"));
    ledger.as_user(GATEWAY, |mut client| drop(client.append(held(&["maija.meikalainen", "aino.auditor"]), &[]).unwrap()));
    let is_refused = |ledger: &Running| {
        ledger.as_user(AUDITOR, |client| match client.announce("all") {
            Err(ClientError::Refused { cause: Cause::NotAllowed, reason }) => assert!(reason.contains("holds the permit THL/1/2026"), "{reason}"),
            other => panic!("{other:?}"),
        });
    };
    is_refused(&ledger);
    ledger.stop().unwrap();
    // Also while the gateway has not told anew who holds what.
    let ledger = home.start();
    is_refused(&ledger);
    ledger.as_user(GATEWAY, |mut client| drop(client.append(held(&["maija.meikalainen"]), &[]).unwrap()));
    ledger.as_user(AUDITOR, |client| assert!(client.announce("all").is_ok(), "the control: who is no holder any more reads again"));
    ledger.stop().unwrap();
    let refused = |(entry, _): &(Entry, Sight)| matches!(&*entry.event, Event::AuditRefused { uid: AUDITOR, reason, .. } if reason == "holder");
    assert!(sights(&home).iter().any(refused));
}

#[test]
fn what_is_young_is_not_destroyed() {
    let home = Home::new();
    let ledger = home.start();
    let _receipt = ledger.client().append(opened(1), &[]).unwrap();
    let refused = |scope: &str| match ledger.client().destroy_key(scope) {
        Err(ClientError::Refused { cause, reason }) => (cause, reason),
        other => panic!("{other:?}"),
    };
    let (cause, reason) = refused("THL/1/2026");
    assert!(cause == Cause::NotAllowed && reason.contains("kept for a year"), "{reason}");
    let (cause, reason) = refused("THL/9/2026");
    assert!(cause == Cause::Malformed && reason.contains("no entry is about THL/9/2026"), "{reason}");
    assert!(refused("no such scope").1.contains("write the permit's id"));
    let year = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year();
    assert_eq!(refused(&format!("year:{year}")).0, Cause::NotAllowed);
    ledger.stop().unwrap();
    assert!(matches!(sights(&home)[1].1, Sight::Open(_)), "the key is still there");
}

/// LG-03. Crypto-shredding: the key is gone, the log verifies, and nothing can be recorded under a new key in its place.
#[test]
fn a_destroyed_key_leaves_the_proof_and_nothing_private() {
    let home = Home::with_separate_users();
    let ledger = home.start();
    // A year that ended long ago; entries of it would be sealed under this key.
    let old = Scope::Year(2019);
    let path = home.log().join(old.key_id().path());
    std::fs::write(&path, format!("sulku-key/1\nscope {old}\nkey {}\nperson onni\n", "7".repeat(64))).unwrap();
    let denied = ledger.as_user(AUDITOR, |mut client| client.destroy_key("year:2019").map(|receipt| receipt.index()));
    assert!(matches!(denied, Err(ClientError::Refused { cause: Cause::NotAllowed, .. })), "{denied:?}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("onni"), "the control: it is there");
    let _receipt = ledger.client().destroy_key("year:2019").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "sulku-key/1\ndestroyed\n");
    ledger.stop().unwrap();
    let seen = sights(&home);
    let destroyed = |event: &Event| matches!(event, Event::KeyDestroyed { scope, uid: 0, .. } if scope == "year:2019");
    assert!(seen.iter().any(|(entry, _)| destroyed(&entry.event)));
    // A crash may come between the entry and the deed: the next start does it.
    std::fs::write(&path, format!("sulku-key/1\nscope {old}\nkey {}\n", "7".repeat(64))).unwrap();
    home.start().stop().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "sulku-key/1\ndestroyed\n");
}

#[test]
fn what_a_destroyed_key_sealed_reads_as_destroyed_and_takes_no_more() {
    let home = Home::new();
    let ledger = home.start();
    let _receipt = ledger.client().append(opened(1), &[]).unwrap();
    ledger.stop().unwrap();
    let path = home.log().join(Scope::Permit(permit()).key_id().path());
    std::fs::write(path, "sulku-key/1\ndestroyed\n").unwrap();
    let (entry, sight) = sights(&home).swap_remove(1);
    assert_eq!((entry.event.name(), sight), ("session.opened", Sight::Destroyed));
    let ledger = home.start();
    match ledger.client().append(opened(2), &[]) {
        Err(ClientError::Refused { cause: Cause::NotAllowed, reason }) => assert!(reason.contains("was destroyed"), "{reason}"),
        other => panic!("{other:?}"),
    }
    ledger.stop().unwrap();
}

#[test]
fn root_breaks_the_glass_and_nobody_else() {
    let home = Home::with_separate_users();
    let ledger = home.start();
    let refused = ledger.as_user(STRANGER + 1, |mut client| client.break_glass("let me in").is_err());
    assert!(refused && ledger.as_user(GATEWAY, |mut client| client.break_glass("let me in").is_err()));
    let _receipt = ledger.client().break_glass("the disk is full; moving old recordings").unwrap();
    ledger.stop().unwrap();
    let broke = |event: &Event| matches!(event, Event::OperatorBrokeGlass { uid: 0, reason } if reason.starts_with("the disk is full"));
    assert_eq!(home.events().iter().filter(|event| broke(event)).count(), 1);
}
