//! Whole logs: verification names what is wrong, and proofs of single entries hold offline.

use proptest::prelude::*;
use sulku_audit::counters::Part;
use sulku_audit::proof::ProofError;
use sulku_audit::source::TileNodes;
use sulku_audit::tile::{Tile, TileKind};
use sulku_audit::verify::{Verified, verify};
use sulku_audit::{Checkpoint, EntryProof, Fault, Recordings};

use crate::support::{
    Memory, ORIGIN, SIGNED_AT, acted, chunk, encode, entries_of, key, log_of, log_signer, opened, permit, personal_key, plain_root, session, stamp,
};

fn check(log: &mut Memory) -> Result<Verified, Fault> {
    verify(log, &key(), Recordings::Check, |_, _, _| {})
}

fn fault(log: &mut Memory) -> String {
    check(log).unwrap_err().to_string()
}

/// 700 entries: two full bundles and a partial one, with a session whose recording has two chunks.
fn log() -> Memory {
    let first = [opened(), chunk(0, 0, b"first"), acted(2), chunk(1, 5, b"second")];
    let mut log = log_of(&entries_of(first.into_iter().chain((4..700).map(acted))));
    log.0.insert(Part::Chunks.path(&session(1), 0), b"firstsecond and what no checkpoint covers yet".to_vec());
    log
}

#[test]
fn a_whole_log_is_verified_and_every_entry_seen() {
    let mut seen = Vec::new();
    let verified = verify(&mut log(), &key(), Recordings::Check, |index, entry, bytes| {
        let persons = [(personal_key().pseudonym(&"maija".parse().unwrap()), "maija".parse().unwrap())].into();
        let draft = entry.open(&personal_key(), &persons).unwrap();
        assert_eq!(encode(&draft, &entry.stamp).unwrap(), bytes);
        seen.push(index);
    });
    let verified = verified.unwrap();
    assert!(seen.iter().copied().eq(0..700));
    assert_eq!((verified.entries(), verified.sessions(), verified.permits()), (700, 1, 1));
    assert_eq!((verified.chunks(), verified.recorded_bytes(), verified.checkpoint().origin.as_str()), (2, 11, ORIGIN));
    let (first, last) = verified.period().unwrap();
    assert_eq!(last.duration_since(first).as_micros(), 699);
    assert_eq!(check(&mut log_of(&[])).unwrap().entries(), 0, "an empty log is whole");
}

#[test]
fn logs_of_every_size_around_the_borders_verify() {
    for size in (0..4).chain(254..259).chain(510..515) {
        let mut log = log_of(&entries_of((0..size).map(acted)));
        assert_eq!(check(&mut log).unwrap().entries(), size);
    }
}

#[test]
fn a_flipped_bit_names_its_entry() {
    for index in [0, 255, 256, 300, 699_u64] {
        let mut log = log();
        let entries = entries_of([opened(), chunk(0, 0, b"first"), acted(2), chunk(1, 5, b"second")].into_iter().chain((4..700).map(acted)));
        let path = Tile::in_tree(TileKind::Entries, index / 256, 700).unwrap().to_string();
        let before: usize = entries[(index / 256 * 256) as usize..index as usize].iter().map(|entry| entry.len() + 2).sum();
        log.0.get_mut(&path).unwrap()[before + 2 + 40] ^= 1;
        assert_eq!(fault(&mut log), format!("entry {index}: its bytes are not those that the tree was built from; it was changed"));
    }
}

#[test]
fn everything_that_can_be_missing_or_changed_is_noticed() {
    let damaged = |change: &dyn Fn(&mut Memory)| {
        let mut log = log();
        change(&mut log);
        fault(&mut log)
    };
    let remove = |path: &'static str| damaged(&|log| drop(log.0.remove(path).unwrap()));
    assert_eq!(remove("checkpoint"), "checkpoint is missing");
    assert_eq!(remove("tile/0/001"), "entry 256");
    assert_eq!(remove("tile/1/000.p/2"), "entry 0");
    assert_eq!(remove("tile/entries/002.p/188"), "entry 512");
    let flip = |path: &'static str, at: usize| damaged(&|log| log.0.get_mut(path).unwrap()[at] ^= 1);
    assert_eq!(flip("tile/0/001", 32 * 7), "entry 263: its bytes are not those that the tree was built from; it was changed");
    assert_eq!(flip("tile/1/000.p/2", 40), "entry 0: tile/1/000.p/2 does not follow from the entries; the tree was changed");
    let cut = damaged(&|log| log.0.get_mut("tile/entries/001").unwrap().truncate(5000));
    assert!(cut.ends_with("its bundle ends before it does"), "{cut}");
    let longer = damaged(&|log| log.0.get_mut("tile/entries/001").unwrap().extend([0, 1, b'x']));
    assert_eq!(longer, "entry 511: its bundle holds bytes after its last entry");
    let hashes = damaged(&|log| log.0.get_mut("tile/0/001").unwrap().truncate(32));
    assert_eq!(hashes, "entry 256");
}

#[test]
fn a_log_written_again_by_whoever_has_no_key_has_the_wrong_root() {
    let mut forged = log_of(&entries_of((0..700).map(acted)));
    forged.0.insert("checkpoint".to_owned(), log().0["checkpoint"].clone());
    assert_eq!(fault(&mut forged), "the 700 entries do not have the root that the checkpoint signs; the log was written again");
    let shorter = log_signer().sign(&Checkpoint { origin: ORIGIN.to_owned(), size: 700, root: plain_root(&[]) }, SIGNED_AT);
    let mut other = log();
    other.0.insert("checkpoint".to_owned(), shorter.replace("700", "699").into_bytes());
    assert_eq!(fault(&mut other), "the checkpoint can't be trusted");
}

/// LG-04: even the log's own key does not make a selection complete.
#[test]
fn an_entry_left_out_shows_in_the_counters_though_all_is_signed() {
    let of_permit = |number: u64| {
        let mut draft = acted(number);
        draft.permit = Some(permit());
        draft
    };
    let mut entries = entries_of((0..10).map(of_permit));
    entries.remove(4);
    assert_eq!(fault(&mut log_of(&entries)), "entry 4: permit_seq is 5 where 4 comes next; entries are missing or out of order");
    let mut doubled = entries_of((0..10).map(of_permit));
    doubled.insert(4, doubled[3].clone());
    assert_eq!(fault(&mut log_of(&doubled)), "entry 4: permit_seq is 3 where 4 comes next; entries are missing or out of order");
}

#[test]
fn what_is_no_entry_is_named_by_its_number() {
    let mut entries = entries_of((0..3).map(acted));
    entries[1] = b"{}".to_vec();
    assert!(fault(&mut log_of(&entries)).starts_with("entry 1: not an entry: missing field"));
}

#[test]
fn a_recording_that_differs_from_its_entries_is_named_by_the_first_that_does() {
    let path = Part::Chunks.path(&session(1), 0);
    let damaged = |bytes: Option<&[u8]>| {
        let mut log = log();
        match bytes {
            Some(bytes) => drop(log.0.insert(path.clone(), bytes.to_vec())),
            None => drop(log.0.remove(&path)),
        }
        assert!(verify(&mut log, &key(), Recordings::Skip, |_, _, _| {}).is_ok(), "the entries themselves are whole");
        fault(&mut log)
    };
    assert!(damaged(None).starts_with("entry 1: the recording is missing, and no entry says that it was deleted"));
    assert!(damaged(Some(b"firstsec")).starts_with("entry 3: the recording ends before the chunk does"));
    assert!(damaged(Some(b"firstSecond")).starts_with("entry 3: the recording was changed"));
}

#[test]
fn a_full_tile_serves_where_the_partial_one_is_gone() {
    let mut log = log();
    let later = log_of(&entries_of([opened(), chunk(0, 0, b"first"), acted(2), chunk(1, 5, b"second")].into_iter().chain((4..800).map(acted))));
    for gone in ["tile/entries/002.p/188", "tile/0/002.p/188"] {
        log.0.remove(gone).unwrap();
    }
    log.0.extend(["tile/entries/002", "tile/0/002"].map(|path| (path.to_owned(), later.0[path].clone())));
    assert_eq!(check(&mut log).unwrap().entries(), 700);
}

#[test]
fn every_entry_of_a_log_has_a_proof_that_holds_offline() {
    let entries = entries_of((0..600).map(acted));
    let mut log = log_of(&entries);
    for index in (0..600).step_by(13).chain([0, 255, 256, 511, 512, 599]) {
        let (proof, bytes) = EntryProof::make(&mut log, &key(), index).unwrap();
        assert_eq!(bytes, entries[index as usize]);
        let read = EntryProof::parse(&proof.to_text()).unwrap();
        assert_eq!(read, proof);
        let proven = read.verify(&bytes, &key()).unwrap();
        assert_eq!((proven.index(), proven.entry().stamp.mono_ns, proven.checkpoint().size), (index, index, 600));
        assert!(matches!(read.verify(&entries[(index as usize + 1) % 600], &key()), Err(ProofError::Merkle(_))), "of another entry");
    }
    assert!(matches!(EntryProof::make(&mut log, &key(), 600), Err(ProofError::NoSuchEntry { index: 600, size: 600 })));
    assert!(matches!(EntryProof::make(&mut log, &key(), u64::MAX), Err(ProofError::NoSuchEntry { .. })));
}

#[test]
fn proofs_of_others_may_carry_extra_data_and_must_keep_the_form() {
    let text = EntryProof::make(&mut log(), &key(), 300).unwrap().0.to_text();
    assert!(EntryProof::parse(&text.replace("\nindex", "\nextra YWdl\nindex")).is_ok());
    for wrong in [
        text.replace("@v1", "@v2"),
        text.replace("index 300", "index 0300"),
        text.replace("index 300", "index -1"),
        text.replace("\nindex", "\nextra ?\nindex"),
        text.replacen("=\n", "\n", 1),
        text.replacen("\n\n", "\n", 1),
        String::new(),
    ] {
        assert!(EntryProof::parse(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn proofs_between_checkpoints_are_made_from_tiles() {
    let entries = entries_of((0..600).map(acted));
    let leaves: Vec<_> = entries.iter().map(|entry| sulku_audit::merkle::leaf_hash(entry)).collect();
    let mut log = log_of(&entries);
    for old in [1, 2, 255, 256, 257, 300, 512, 599] {
        let proof = sulku_audit::merkle::consistency_proof(&mut TileNodes::new(&mut log, 600), old, 600).unwrap();
        let (old_root, new_root) = (plain_root(&leaves[..old as usize]), plain_root(&leaves));
        assert_eq!(sulku_audit::merkle::verify_consistency(old, &old_root, 600, &new_root, &proof).unwrap().sizes(), (old, 600));
    }
}

proptest! {
    #[test]
    fn a_log_damaged_anywhere_is_refused_and_nothing_panics(file: prop::sample::Index, at: prop::sample::Index, bit in 0_u8..8) {
        let stamped = entries_of((0..300).map(acted));
        let mut log = log_of(&stamped);
        let path = file.get(&log.0.keys().cloned().collect::<Vec<_>>()).clone();
        *at.get_mut(log.0.get_mut(&path).unwrap()) ^= 1 << bit;
        prop_assert!(check(&mut log).is_err(), "{}", path);
    }

    #[test]
    fn no_text_makes_the_proof_parser_panic(text in "(c2sp.org/tlog-proof@v1\n)?(index [0-9]{0,20}\n)?\\PC*(\n\n)?\\PC*") {
        let _may_be_one = EntryProof::parse(&text);
    }
}

#[test]
fn an_entry_is_stamped_as_the_counters_say() {
    let draft = opened();
    assert!(matches!(encode(&draft, &stamp(0, (None, Some(0)))), Err(sulku_audit::entry::EntryError::Counters)));
}
