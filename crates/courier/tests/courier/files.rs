//! The file sink: whole lines, no entry left out, none twice, also after a crash.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::figures::scrape;
use crate::support::{Home, ORIGIN, events, free_port, number, until};

fn file(path: &Path) -> String {
    format!("[[file]]\nname = \"lines\"\npath = {path:?}\nrotate_mib = 1\nkeep_files = 2\n")
}

fn await_lines(path: &Path, size: u64) -> Vec<u64> {
    until(&format!("line {size}"), || {
        let numbers: Vec<u64> = events(path).iter().map(number).collect();
        (numbers.last().is_some_and(|last| *last + 1 >= size)).then_some(numbers)
    })
}

#[test]
fn every_entry_is_a_line_once_and_in_order_across_restarts() {
    let home = Home::new();
    let ledger = home.ledger();
    let path = home.path("lines.jsonl");
    let courier = home.courier(&file(&path));
    await_lines(&path, ledger.grow(300));
    drop(courier);
    let size = ledger.grow(300);
    let _courier = home.courier(&file(&path));
    let numbers = await_lines(&path, size);
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
}

#[test]
fn a_line_that_a_crash_cut_short_is_written_again() {
    let home = Home::new();
    let ledger = home.ledger();
    let path = home.path("lines.jsonl");
    let courier = home.courier(&file(&path));
    await_lines(&path, ledger.grow(50));
    drop(courier);
    let whole = std::fs::read(&path).unwrap();
    let cursor = home.path("courier/lines.cursor");
    for cut in [1, 10, 2_000] {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        // A cursor behind the file, as a crash between the two leaves it.
        std::fs::write(&cursor, format!("{{\"v\":1,\"origin\":\"{ORIGIN}\",\"next\":3}}")).unwrap();
        let courier = home.courier(&file(&path));
        let size = ledger.grow(1);
        let numbers = await_lines(&path, size);
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "cut by {cut}: {numbers:?}");
        drop(courier);
    }
}

#[test]
fn a_file_is_rotated_by_size_and_the_oldest_go() {
    let home = Home::new();
    let ledger = home.ledger();
    let path = home.path("lines.jsonl");
    // Some 650 bytes a line, 1 MiB a file: five files and a piece.
    let size = ledger.grow(9000);
    let _courier = home.courier(&file(&path));
    await_lines(&path, size);
    let mut files: Vec<PathBuf> = std::fs::read_dir(home.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|found| found.file_name().unwrap().to_str().unwrap().starts_with("lines-"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    files.push(path);
    let numbers: Vec<u64> = files.iter().flat_map(|file| events(file)).map(|event| number(&event)).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no line is missing between files");
    assert!(numbers[0] > 1000, "the oldest files are gone");
    let first_name = files[0].file_stem().unwrap().to_str().unwrap();
    assert_eq!(first_name, format!("lines-{:020}", numbers[0]));
}

#[test]
fn a_new_sink_may_begin_with_what_comes_next() {
    let home = Home::new();
    let ledger = home.ledger();
    let (path, port) = (home.path("lines.jsonl"), free_port());
    ledger.grow(100);
    let words = format!("{}begin = \"now\"\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n", file(&path));
    let _courier = home.courier(&words);
    until("a sink that has begun", || scrape(port).filter(|figures| figures.of("sulku_courier_sink_cursor", "lines") >= 100.0));
    let numbers = await_lines(&path, ledger.grow(10));
    assert!(numbers[0] >= 100 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let home = Home::new();
    let ledger = home.ledger();
    let (path, port) = (home.path("lines.jsonl"), free_port());
    std::fs::File::create(&path).unwrap().write_all(b"somebody's notes\n").unwrap();
    let _courier = home.courier(&format!("{}[metrics]\nlisten = \"127.0.0.1:{port}\"\n", file(&path)));
    ledger.grow(10);
    until("two failures", || (scrape(port)?.of("sulku_courier_sink_errors_total", "lines") >= 2.0).then_some(()));
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's notes\n");
}

/// The same key signs another history: what root on the ledger's host could do.
#[test]
fn a_log_that_was_written_again_is_not_sent_on() {
    let home = Home::new();
    let (path, port) = (home.path("lines.jsonl"), free_port());
    let words = format!("{}[metrics]\nlisten = \"127.0.0.1:{port}\"\n", file(&path));
    let ledger = home.ledger();
    let courier = home.courier(&words);
    let size = ledger.grow(300);
    let before = await_lines(&path, size);
    drop(courier);
    drop(ledger);
    for entries in [10, 900] {
        // Smaller than what was seen, then larger than it.
        let other = home.ledger_in(&format!("log-of-{entries}"));
        other.grow(entries);
        let _courier = home.courier(&words);
        until("the fault", || (scrape(port)?.single("sulku_courier_log_fault") == 1.0).then_some(()));
        other.grow(10);
        until("another look", || (scrape(port)?.single("sulku_courier_log_fault") == 1.0).then_some(()));
        let after: Vec<u64> = events(&path).iter().map(number).collect();
        assert!(after.starts_with(&before) && after.len() <= before.len() + 8, "nothing of the other history was sent on");
    }
}
