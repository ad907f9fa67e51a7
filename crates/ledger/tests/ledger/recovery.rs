//! What a crash leaves is repaired; what a crash can't have left stops the ledger from starting, and is left as it is.

use std::fs;
use std::path::{Path, PathBuf};

use sulku_audit::Event;
use sulku_ledger::StartError;

use crate::support::{Home, acted};

fn segment(home: &Home) -> PathBuf {
    home.log().join("wal/00000000000000000000")
}

/// Where each frame of a segment begins, and where the last one ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![0];
    while bytes[*at.last().unwrap()..].starts_with(b"SULKUWL1") {
        let begin = *at.last().unwrap();
        let number = |from: usize| u32::from_be_bytes(bytes[begin + from..begin + from + 4].try_into().unwrap()) as usize;
        at.push(begin + 96 + number(20) + number(28));
    }
    at
}

/// A log with five frames of which no checkpoint covers any: as a crash within the first second leaves it.
fn crashed() -> (Home, Vec<u8>, Vec<usize>) {
    let home = Home::in_memory();
    let ledger = home.spawn();
    let mut client = ledger.client();
    for number in 1..5 {
        let _receipt = client.append(acted(number), &[]).unwrap();
    }
    ledger.kill();
    for file in ["checkpoint", "signed-head"] {
        let _may_be_there = fs::remove_file(home.log().join(file));
    }
    let _may_be_there = fs::remove_dir_all(home.log().join("tile"));
    let bytes = fs::read(segment(&home)).unwrap();
    let frames = frames(&bytes);
    assert_eq!(frames.len(), 6, "five frames");
    (home, bytes, frames)
}

fn restart(home: &Home, bytes: &[u8]) -> Result<(u64, u64), StartError> {
    for file in ["checkpoint", "signed-head"] {
        let _may_be_there = fs::remove_file(home.log().join(file));
    }
    let _may_be_there = fs::remove_dir_all(home.log().join("tile"));
    fs::write(segment(home), bytes).unwrap();
    home.try_start()?.stop().unwrap();
    let events = home.events();
    let found = events.iter().rev().find_map(|event| match event {
        Event::LedgerStarted { entries, dropped_bytes, .. } => Some((*entries, *dropped_bytes)),
        _ => None,
    });
    Ok(found.unwrap())
}

#[test]
fn a_last_frame_torn_at_any_byte_is_dropped_and_counted() {
    let (home, bytes, frames) = crashed();
    let (begin, end) = (frames[4], frames[5]);
    assert_eq!(restart(&home, &bytes).unwrap(), (5, 0), "the control: the whole frame is kept");
    for cut in begin..end {
        let mut zeroed = bytes.clone();
        zeroed[cut..].fill(0);
        let (entries, dropped) = restart(&home, &zeroed).unwrap();
        // The frame's own last bytes may be zeroes, and then they are not missed.
        assert!((entries, dropped) == (4, (cut - begin) as u64) || zeroed[begin..end] == bytes[begin..end] || zeroed[cut - 1] == 0, "cut at {cut}");
        assert_eq!(entries, if zeroed[begin..end] == bytes[begin..end] { 5 } else { 4 });
        if cut % 16 == 0 {
            assert_eq!(restart(&home, &bytes[..cut]).unwrap().0, 4, "the file cut off at {cut}");
            let mut missing_front = bytes.clone();
            missing_front[begin..=cut].fill(0);
            assert_eq!(restart(&home, &missing_front).unwrap().0, 4, "the front of the frame missing up to {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_before_the_last_frame_stops_the_start() {
    let (home, bytes, frames) = crashed();
    for at in (0..frames[4]).step_by(5) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        match restart(&home, &flipped) {
            Err(StartError::Recover(error)) => assert!(error.to_string().contains("not what a crash leaves"), "{error}"),
            Err(error) => panic!("{error}"),
            Ok(found) => panic!("byte {at}: started with {found:?}"),
        }
        assert_eq!(fs::read(segment(&home)).unwrap(), flipped, "nothing was changed");
    }
}

/// LG-04. After a signed checkpoint, every bit of the log's files is committed to.
#[test]
fn after_a_checkpoint_no_bit_of_the_log_can_change_unnoticed() {
    let home = Home::in_memory();
    let ledger = home.start();
    for number in 0..5 {
        let _receipt = ledger.client().append(acted(number), &[]).unwrap();
    }
    ledger.stop().unwrap();
    assert_eq!(home.verify().unwrap().entries(), 7, "the control: the log is whole");
    let written = frames(&fs::read(segment(&home)).unwrap()).last().copied().unwrap();
    let unstartable = [(segment(&home), written, 3), (home.log().join("signed-head"), usize::MAX, 1), (home.log().join("checkpoint"), usize::MAX, 1)];
    for (path, length, step) in unstartable {
        each_flip(&path, length, step, |at| assert!(home.try_start().is_err(), "{} at byte {at}: the ledger started", path.display()));
    }
    for path in ["checkpoint", "tile/0/000.p/7", "tile/entries/000.p/7"] {
        each_flip(&home.log().join(path), usize::MAX, 1, |at| {
            let fault = home.verify().unwrap_err();
            if path.contains("entries") {
                assert!(fault.to_string().starts_with("entry "), "byte {at}: {fault}");
            }
        });
    }
    home.start().stop().unwrap();
    assert_eq!(home.verify().unwrap().entries(), 9, "the control: as it was, it starts and verifies");
}

/// Flips a bit of every `step`th byte, one after the other, and puts it right again.
fn each_flip(path: &Path, length: usize, step: usize, mut check: impl FnMut(usize)) {
    let bytes = fs::read(path).unwrap();
    for at in (0..bytes.len().min(length)).step_by(step) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(path, &flipped).unwrap();
        check(at);
    }
    fs::write(path, &bytes).unwrap();
}

fn start_error(home: &Home) -> String {
    match home.try_start() {
        Ok(_) => panic!("the ledger started"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_log_smaller_than_what_was_signed_does_not_start() {
    let home = Home::in_memory();
    home.start().stop().unwrap();
    let bytes = fs::read(segment(&home)).unwrap();
    let mut cut = bytes.clone();
    cut[frames(&bytes)[1]..].fill(0);
    fs::write(segment(&home), &cut).unwrap();
    let error = start_error(&home);
    assert!(error.contains("has 1 entries, but 2 were signed"), "{error}");
    fs::remove_dir_all(home.log().join("wal")).unwrap();
    let error = start_error(&home);
    assert!(error.contains("has 0 entries, but 2 were signed"), "{error}");
    assert!(fs::read_dir(home.log().join("wal")).unwrap().next().is_none(), "and no new log is begun");
}

#[test]
fn a_lost_signed_head_does_not_make_way_for_a_second_history() {
    let home = Home::in_memory();
    home.start().stop().unwrap();
    fs::remove_file(home.log().join("signed-head")).unwrap();
    let error = start_error(&home);
    assert!(error.contains("2 entries were published, but the signed head has 0"), "{error}");
}

#[test]
fn a_key_of_another_log_does_not_go_on_with_this_one() {
    let home = Home::in_memory();
    home.start().stop().unwrap();
    let other = Home::in_memory();
    fs::copy(&other.settings.signing_key, &home.settings.signing_key).unwrap();
    assert!(start_error(&home).contains("is not signed by the keys of"));
}

#[test]
fn a_folder_has_one_ledger() {
    let home = Home::in_memory();
    let first = home.start();
    let mut second = home.settings.clone();
    second.socket = home.folder.path().join("second");
    let error = sulku_ledger::Ledger::start(second, sulku_ledger::key::load(&home.settings.signing_key).unwrap()).map(drop).unwrap_err();
    assert!(error.to_string().contains("another ledger writes"), "{error}");
    let _first_goes_on = first.client().append(acted(1), &[]).unwrap();
    first.stop().unwrap();
    home.start().stop().unwrap();
}

#[test]
fn a_changed_entry_is_named_by_its_number() {
    let home = Home::in_memory();
    let ledger = home.start();
    let mut client = ledger.client();
    for number in 0..300 {
        let _receipt = client.append(acted(number), &[]).unwrap();
    }
    ledger.stop().unwrap();
    let path = home.log().join("tile/entries/001.p/46");
    let text = fs::read(&path).unwrap();
    let at = text.windows(12).position(|window| window == b"\"action\":\"27").unwrap();
    let mut changed = text.clone();
    changed[at + 11] = b'8';
    fs::write(&path, changed).unwrap();
    let fault = home.verify().unwrap_err().to_string();
    // Entry 0 is ledger.started, so action 270 is entry 271.
    assert!(fault.starts_with("entry 271: its bytes"), "{fault}");
}
