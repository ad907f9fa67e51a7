//! What a crash leaves is repaired; what a crash can't have left stops the ledger from starting, and is left as it is.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sulku_audit::Event;
use sulku_ledger::StartError;

use crate::support::{Home, acted};

fn segment(home: &Home) -> PathBuf {
    home.log().join("wal/00000000000000000000")
}

/// So much of a segment is looked at and changed here; the rest of its 64 MiB is zeroes.
const FRONT_BYTES: usize = 64 << 10;

fn front(home: &Home) -> Vec<u8> {
    let mut bytes = vec![0; FRONT_BYTES];
    fs::File::open(segment(home)).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn put_front(home: &Home, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(segment(home)).unwrap().write_all_at(bytes, 0).unwrap();
}

/// Where each frame of a segment begins, and where the last one ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![4096];
    while bytes[*at.last().unwrap()..].starts_with(b"SULKUWL2") {
        let begin = *at.last().unwrap();
        let number = |from: usize| u32::from_be_bytes(bytes[begin + from..begin + from + 4].try_into().unwrap()) as usize;
        at.push(begin + (116 + number(36) + number(44)).next_multiple_of(4096));
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
    unpublish(&home);
    let bytes = front(&home);
    let frames = frames(&bytes);
    assert_eq!(frames.len(), 6, "five frames");
    (home, bytes, frames)
}

fn unpublish(home: &Home) {
    for file in ["checkpoint", "signed-head"] {
        let _may_be_there = fs::remove_file(home.log().join(file));
    }
    let _may_be_there = fs::remove_dir_all(home.log().join("tile"));
}

fn restart(home: &Home, bytes: &[u8]) -> Result<(u64, u64), StartError> {
    unpublish(home);
    put_front(home, bytes);
    home.try_start()?.stop().unwrap();
    let events = home.events();
    let found = events.iter().rev().find_map(|event| match event {
        Event::LedgerStarted { entries, dropped_bytes, .. } => Some((*entries, *dropped_bytes)),
        _ => None,
    });
    Ok(found.unwrap())
}

/// On the real disk, here and there; every byte of it is tried on the simulated one.
#[test]
fn a_torn_last_frame_is_dropped_and_counted() {
    let (home, bytes, frames) = crashed();
    let begin = frames[4];
    assert_eq!(restart(&home, &bytes).unwrap(), (5, 0), "the control: the whole frame is kept");
    for cut in [begin + 1, begin + 40, begin + 116, begin + 300] {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        let left = torn[begin..].iter().rposition(|byte| *byte != 0).unwrap() + 1;
        assert_eq!(restart(&home, &torn).unwrap(), (4, left as u64), "cut at {cut}");
    }
    put_front(&home, &bytes);
    unpublish(&home);
    fs::OpenOptions::new().write(true).open(segment(&home)).unwrap().set_len(begin as u64 + 50).unwrap();
    home.try_start().unwrap().stop().unwrap();
    assert_eq!(home.verify().unwrap().entries(), 6, "the file cut off: four entries, the start and the stop");
    assert_eq!(fs::metadata(segment(&home)).unwrap().len(), 64 << 20, "and it is as long as it should be again");
}

#[test]
fn a_damaged_frame_before_the_last_stops_the_start_and_is_left_as_it_is() {
    let (home, bytes, frames) = crashed();
    for at in [0, 20, 64, 4095, frames[0], frames[1] + 30, frames[2] + 90, frames[3] + 200, frames[4] - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        match restart(&home, &flipped) {
            Err(StartError::Recover(error)) => assert!(error.to_string().contains("not what a crash leaves"), "{error}"),
            Err(error) => panic!("{error}"),
            Ok(found) => panic!("byte {at}: started with {found:?}"),
        }
        assert_eq!(front(&home), flipped, "nothing was changed");
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
    for (path, step) in [(home.log().join("signed-head"), 1), (home.log().join("checkpoint"), 1)] {
        each_flip(&path, usize::MAX, step, |at| assert!(home.try_start().is_err(), "{} at byte {at}: the ledger started", path.display()));
    }
    let bytes = front(&home);
    let last = frames(&bytes).last().copied().unwrap();
    for at in (0..last).step_by(211) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        put_front(&home, &flipped);
        assert!(home.try_start().is_err(), "the log at byte {at}: the ledger started");
    }
    put_front(&home, &bytes);
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
    let bytes = front(&home);
    let mut cut = bytes.clone();
    cut[frames(&bytes)[1]..].fill(0);
    put_front(&home, &cut);
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
