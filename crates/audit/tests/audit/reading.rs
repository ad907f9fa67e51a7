//! Reading in pieces: what is shown is the log's, whatever is done to its files.

use sulku_audit::reading::{Bundle, Pages};
use sulku_audit::source::read_checkpoint;
use sulku_audit::verify::{Portion, Sequence};
use sulku_audit::{Checkpoint, Fault, Recordings, Verified};

use crate::support::{Memory, acted, entries_of, key, log_of};

fn read(log: &mut Memory, index: u64) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
    let (_, checkpoint) = read_checkpoint(log, &key())?;
    let mut pages = Pages::new(log, checkpoint)?;
    Ok(pages.bundle_of(index)?.entries().map(|(index, bytes)| (index, bytes.to_vec())).collect())
}

#[test]
fn every_entry_of_logs_around_the_borders_can_be_read() {
    let entries = entries_of((0..1100).map(acted));
    for size in (1..5).chain(254..259).chain(510..515).chain([1024, 1100]) {
        let mut log = log_of(&entries[..size as usize]);
        for index in (0..size).step_by(97).chain([size - 1]) {
            let bundle = read(&mut log, index).unwrap();
            assert!(bundle.iter().any(|(found, _)| *found == index));
            assert!(bundle.iter().all(|(found, bytes)| *bytes == entries[*found as usize]));
        }
        assert!(matches!(read(&mut log, size), Err(Fault::Unreadable { .. })), "there is none");
    }
    assert!(matches!(read(&mut log_of(&[]), 0), Err(Fault::Unreadable { .. })));
}

/// 65,536 entries fill a tile of the second level, so that its hashes are proven by the third.
#[test]
fn a_log_with_three_levels_of_tiles_is_read_through_all_of_them() {
    let mut entries = entries_of((0..65_536 + 300).map(acted));
    let mut log = log_of(&entries);
    for index in [0, 255, 65_535, 65_536, 65_835] {
        assert!(read(&mut log, index).unwrap().iter().all(|(found, bytes)| *bytes == entries[*found as usize]));
    }
    log.0.get_mut("tile/1/000").unwrap()[32 * 7] ^= 1;
    assert_eq!(read(&mut log, 0).unwrap_err().to_string(), "entry 0: tile/1/000 does not follow from the entries; the tree was changed");
    assert!(read(&mut log, 65_536).is_ok(), "the control: what that tile does not prove");
    entries[300] = entries[301].clone();
    let forged = log_of(&entries);
    let mut log = log_of(&entries_of((0..65_536 + 300).map(acted)));
    log.0.insert("tile/entries/001".to_owned(), forged.0["tile/entries/001"].clone());
    assert_eq!(read(&mut log, 256).unwrap_err().to_string(), "entry 300: its bytes are not those that the tree was built from; it was changed");
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_by_who_verifies_and_never_shown_to_who_reads() {
    // Each bit of a small log, and places all over one with full tiles.
    flip_all(&entries_of((0..5).map(acted)), 1, 0..8);
    flip_all(&entries_of((0..260).map(acted)), 37, 3..4);
}

fn flip_all(entries: &[Vec<u8>], step: usize, bits: std::ops::Range<u32>) {
    let mut log = log_of(entries);
    let (_, checkpoint) = read_checkpoint(&mut log, &key()).unwrap();
    let paths: Vec<String> = log.0.keys().cloned().collect();
    for path in paths {
        for (at, bit) in (0..log.0[&path].len()).step_by(step).flat_map(|at| bits.clone().map(move |bit| (at, bit))) {
            log.0.get_mut(&path).unwrap()[at] ^= 1 << bit;
            if path == "checkpoint" {
                // Two signatures, which take their time: a bit of each byte.
                let noticed = bit != at as u32 % 8 || read_checkpoint(&mut log, &key()).is_err();
                assert!(noticed, "bit {bit} of byte {at} of the checkpoint");
            } else {
                assert!(whole(&mut log, &checkpoint).is_err(), "bit {bit} of byte {at} of {path}");
                let shown = Pages::new(&mut log, checkpoint.clone()).and_then(|mut pages| pages.bundle_of(entries.len() as u64 - 1));
                let is_the_logs = |bundle: Bundle| bundle.entries().all(|(index, bytes)| *bytes == entries[index as usize]);
                assert!(shown.map_or(true, is_the_logs), "bit {bit} of byte {at} of {path}");
            }
            log.0.get_mut(&path).unwrap()[at] ^= 1 << bit;
        }
    }
    assert!(whole(&mut log, &checkpoint).is_ok() && read_checkpoint(&mut log, &key()).is_ok(), "the control");
}

fn whole(log: &mut Memory, checkpoint: &Checkpoint) -> Result<Verified, Fault> {
    let mut sequence = Sequence::new(checkpoint.clone(), Recordings::Check);
    for number in 0..checkpoint.size.div_ceil(256) {
        let portion = Portion::read(log, number, checkpoint.size)?;
        sequence.take(log, &mut portion.check(), |_, _, _| {})?;
    }
    sequence.finish(log)
}
