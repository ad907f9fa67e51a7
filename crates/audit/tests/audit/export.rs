//! Exports: all of a permit, checked without the log.

use sulku_audit::export::{Check, ExportError, Subject, Whole, head, line};
use sulku_audit::merkle::inclusion_proof;
use sulku_audit::source::{TileNodes, read_checkpoint};
use sulku_audit::{Draft, Entry};

use crate::support::{Memory, acted, entries_of, key, log_of, permit};

/// 300 entries: every third about the permit, every third about another one, the rest about none.
fn log() -> (Memory, Vec<Vec<u8>>) {
    let about = |number: u64| {
        let permit = match number % 3 {
            0 => Some(permit()),
            1 => Some("OTHER/2/2026".parse().unwrap()),
            _ => None,
        };
        Draft { permit, ..acted(number) }
    };
    let entries = entries_of((0..300).map(about));
    (log_of(&entries), entries)
}

fn export(subject: &Subject) -> (String, Vec<String>) {
    let (mut log, entries) = log();
    let (note, checkpoint) = read_checkpoint(&mut log, &key()).unwrap();
    let mut lines = Vec::new();
    for (index, bytes) in (0..).zip(&entries) {
        if subject.count_of(&Entry::parse(bytes).unwrap()).is_some() {
            let proof = inclusion_proof(&mut TileNodes::new(&mut log, checkpoint.size), index, checkpoint.size).unwrap();
            lines.push(line(index, bytes, &proof));
        }
    }
    (head(subject, lines.len() as u64, std::str::from_utf8(&note).unwrap()), lines)
}

fn check(head: &str, lines: &[String]) -> Result<Whole, ExportError> {
    let mut check = Check::begin(head, &key())?;
    for line in lines {
        let _exported = check.take(line.strip_suffix('\n').unwrap())?;
    }
    check.finish()
}

#[test]
fn an_export_is_whole_and_says_of_what() {
    let subject = Subject::Permit(permit());
    let (head, lines) = export(&subject);
    let whole = check(&head, &lines).unwrap();
    assert_eq!((whole.subject, whole.entries, whole.checkpoint.size), (subject, 100, 300));
}

#[test]
fn an_export_holds_no_bytes_of_another_permit() {
    let (head, lines) = export(&Subject::Permit(permit()));
    let (_, entries) = log();
    let mut own = 0;
    for exported in &lines {
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, exported.split(' ').nth(1).unwrap()).unwrap();
        let at = entries.iter().position(|entry| *entry == bytes).unwrap();
        assert_eq!(at % 3, 0, "only entries about the permit");
        own += 1;
        // All else in the line is a number and hashes.
        assert!(exported.trim_end().split(' ').skip(2).all(|hash| sulku_audit::Hash::from_base64(hash).is_some()));
    }
    assert_eq!(own, 100);
    assert!(!format!("{head}{}", lines.concat()).contains("OTHER"));
}

#[test]
fn a_row_that_is_dropped_doubled_or_out_of_order_is_noticed() {
    let (head, lines) = export(&Subject::Permit(permit()));
    for at in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(at);
        match check(&head, &dropped).unwrap_err() {
            ExportError::Gap { expected, found, .. } => assert_eq!((expected, found), (at as u64, at as u64 + 1)),
            ExportError::Count { expected: 100, found: 99 } => assert_eq!(at, 99, "the last one"),
            other => panic!("{other}"),
        }
    }
    let mut doubled = lines.clone();
    doubled.insert(7, lines[7].clone());
    assert!(matches!(check(&head, &doubled), Err(ExportError::Gap { expected: 8, found: 7, .. })));
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert!(matches!(check(&head, &swapped), Err(ExportError::Gap { expected: 3, found: 4, .. })));
    assert!(matches!(check(&head, &[]), Err(ExportError::Count { expected: 100, found: 0 })));
}

#[test]
fn an_entry_of_something_else_or_changed_is_no_part_of_it() {
    let (head_text, mut lines) = export(&Subject::Permit(permit()));
    let (_, others) = export(&Subject::Permit("OTHER/2/2026".parse().unwrap()));
    let own = std::mem::replace(&mut lines[0], others[0].clone());
    assert!(matches!(check(&head_text, &lines), Err(ExportError::Foreign { index: 1, .. })));
    lines[0] = own.replacen("0 ", "3 ", 1);
    assert!(matches!(check(&head_text, &lines), Err(ExportError::Merkle { index: 3, .. })));
    for (wrong, right) in [("00 ", "0 "), ("-0 ", "0 ")] {
        lines[0] = own.replacen(right, wrong, 1);
        assert!(matches!(check(&head_text, &lines), Err(ExportError::Line(1))));
    }
    lines[0] = own;
    assert!(check(&head_text, &lines).is_ok(), "the control");
    for wrong in [
        head_text.replace("sulku-export/1", "sulku-export/2"),
        head_text.replace("entries 100", "entries 0100"),
        head_text.replace("permit THL", "person THL"),
        head_text.replace("\n\n", "\n"),
        head_text[..head_text.len() - 1].to_owned(),
        String::new(),
    ] {
        assert!(matches!(check(&wrong, &lines), Err(ExportError::Head)), "{wrong}");
    }
    assert!(matches!(check(&head_text.replace("\n300\n", "\n301\n"), &lines), Err(ExportError::Checkpoint(_))));
}
