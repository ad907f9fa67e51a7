//! Recordings: what an entry names is on the disk, and what no entry names does not stay.

use sulku_audit::{Event, Fault, Source as _};
use sulku_ledger::client::ClientError;

use crate::support::{Home, STRANGER, begun, chunk, opened, session};

fn is_refused<T>(result: &Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Refused { .. }))
}

/// LG-02
#[test]
fn a_published_chunk_is_in_its_recording() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    let path = home.log().join(format!("recordings/{}.rec", session(1)));
    let _opened = client.append(opened(1), &[]).unwrap();
    let _first = client.append(chunk(1, 0, 0, b"first,"), b"first,").unwrap();
    client.publish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"first,");
    let _second = client.append(chunk(1, 1, 6, b"second"), b"second").unwrap();
    let _other = client.append(chunk(2, 0, 0, b"another session's"), b"another session's").unwrap();
    let mut reader = ledger.client().announce("a recording").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"first,second");
    assert_eq!(reader.read_at(&format!("recordings/{}.rec", session(1)), 6, 6).unwrap().unwrap(), b"second");
    ledger.stop().unwrap();
    let verified = home.verify().unwrap();
    assert_eq!((verified.chunks(), verified.recorded_bytes(), verified.sessions()), (3, 12 + 17, 2));
}

/// An acknowledged chunk is durable in the write-ahead log before its file is: whatever a crash takes from the file comes back.
#[test]
fn an_acknowledged_chunk_comes_back_when_a_crash_took_it_from_its_file() {
    let home = Home::new();
    let ledger = home.spawn();
    let mut client = ledger.client();
    for number in 0..100 {
        let _receipt = client.append(chunk(1, number, number * 5, b"piece"), b"piece").unwrap();
    }
    ledger.kill();
    let path = home.log().join(format!("recordings/{}.rec", session(1)));
    for left in [None, Some(&b""[..]), Some(b"pie"), Some(b"piecepiece and what no entry names")] {
        match left {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => drop(std::fs::remove_file(&path)),
        }
        home.start().stop().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"piece".repeat(100));
        assert_eq!(home.verify().unwrap().chunks(), 100);
    }
}

/// 200 recordings at once: more than are kept open.
#[test]
fn many_sessions_record_side_by_side() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    for round in 0..3 {
        for number in 0..200 {
            let _receipt = client.append(chunk(number, round, round * 5, b"piece"), b"piece").unwrap();
        }
    }
    ledger.stop().unwrap();
    assert_eq!(home.verify().unwrap().chunks(), 600);
}

#[test]
fn a_chunk_that_does_not_continue_its_recording_or_differs_from_its_entry_is_refused() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    let _first = client.append(chunk(1, 0, 0, b"first"), b"first").unwrap();
    let path = home.log().join(format!("recordings/{}.rec", session(1)));
    assert!(is_refused(&client.append(chunk(1, 1, 5, b"said"), b"sent")), "other bytes");
    assert!(is_refused(&client.append(chunk(1, 1, 5, b"said"), b"said more")), "another length");
    assert!(is_refused(&client.append(chunk(1, 1, 5, b"said"), b"")), "no bytes");
    assert!(is_refused(&client.append(chunk(1, 1, 4, b"said"), b"said")), "over what is there");
    assert!(is_refused(&client.append(chunk(1, 1, 6, b"said"), b"said")), "with a gap");
    assert!(is_refused(&client.append(chunk(1, 2, 5, b"said"), b"said")), "another number");
    assert!(is_refused(&client.append(chunk(2, 0, 5, b"said"), b"said")), "another session's end");
    let mut homeless = chunk(1, 1, 5, b"said");
    homeless.session = None;
    assert!(is_refused(&client.append(homeless, b"said")), "no session");
    client.publish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"first", "nothing of what was refused was written");
    let receipt = client.append(chunk(1, 1, 5, b"said"), b"said").unwrap();
    assert_eq!(receipt.index(), 2, "the control: the next chunk is taken, and nothing was kept of those refused");
}

#[test]
fn a_recording_goes_on_after_a_restart() {
    let home = Home::new();
    let ledger = home.start();
    let _first = ledger.client().append(chunk(1, 0, 0, b"first"), b"first").unwrap();
    ledger.stop().unwrap();
    let ledger = home.start();
    let _second = ledger.client().append(chunk(1, 1, 5, b", then"), b", then").unwrap();
    ledger.stop().unwrap();
    assert_eq!(std::fs::read(home.log().join(format!("recordings/{}.rec", session(1)))).unwrap(), b"first, then");
    assert_eq!(home.verify().unwrap().chunks(), 2);
}

#[test]
fn a_recording_that_was_cut_is_found_out_and_stops_the_ledger() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    let _first = client.append(chunk(1, 0, 0, b"first"), b"first").unwrap();
    client.publish().unwrap();
    assert_eq!(home.verify().unwrap().chunks(), 1, "the control");
    let path = home.log().join(format!("recordings/{}.rec", session(1)));
    std::fs::write(&path, b"First").unwrap();
    let fault = home.verify().unwrap_err().to_string();
    assert!(fault.starts_with("entry 1: the recording was changed"), "{fault}");
    std::fs::write(&path, b"fir").unwrap();
    assert!(matches!(home.verify(), Err(Fault::Recording { index: 1, .. })));
    let _durable_already = client.append(chunk(1, 1, 5, b"more"), b"more").unwrap();
    assert!(client.publish().is_err(), "no checkpoint covers it");
    let reason = ledger.ended().unwrap_err().to_string();
    assert!(reason.contains("has 3 bytes where the log has 5: it was cut"), "{reason}");
    home.start().stop().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"firstmore", "the write-ahead log still had it");
    assert_eq!(home.verify().unwrap().chunks(), 2);
}

const LONG_AGO: &str = "2020-01-01T00:00:00Z";

/// LG-02
#[test]
fn a_recordings_wrapped_key_is_kept_with_it() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    assert!(is_refused(&client.append(begun(1, b"wrapped", LONG_AGO), b"another")), "other bytes than the entry says");
    assert!(is_refused(&client.append(begun(1, b"wrapped", LONG_AGO), b"")), "no bytes");
    let _begun = client.append(begun(1, b"wrapped", LONG_AGO), b"wrapped").unwrap();
    assert!(is_refused(&client.append(begun(1, b"wrapped", LONG_AGO), b"wrapped")), "it begins once");
    let _chunk = client.append(chunk(1, 0, 0, b"sealed"), b"sealed").unwrap();
    assert!(is_refused(&client.append(begun(1, b"wrapped", LONG_AGO), b"wrapped")), "nor does it begin in the middle");
    client.publish().unwrap();
    let mut reader = ledger.client().announce("a key").unwrap();
    assert_eq!(reader.read(&format!("recordings/{}.key", session(1))).unwrap().unwrap(), b"wrapped");
    ledger.stop().unwrap();
    let _whole = home.verify().unwrap();
    let path = home.log().join(format!("recordings/{}.key", session(1)));
    std::fs::write(&path, b"changed").unwrap();
    assert!(matches!(home.verify(), Err(Fault::RecordingKey { .. })), "the control");
    std::fs::remove_file(&path).unwrap();
    let fault = home.verify().unwrap_err().to_string();
    assert!(fault.contains("no entry says that it was deleted"), "{fault}");
    home.start().stop().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"wrapped", "the write-ahead log still had it");
}

/// LG-03: deletion destroys key and recording, is an entry first, and leaves a log that verifies.
#[test]
fn a_recording_is_deleted_once_its_retention_is_over_and_not_before() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    for (number, until) in [(1, LONG_AGO), (2, "2999-01-01T00:00:00Z")] {
        let _begun = client.append(begun(number, b"wrapped", until), b"wrapped").unwrap();
        let _chunk = client.append(chunk(number, 0, 0, b"sealed"), b"sealed").unwrap();
    }
    client.publish().unwrap();
    let files = |number| ["rec", "key"].map(|ending| home.log().join(format!("recordings/{}.{ending}", session(number))).exists());
    let early = client.delete_recording(session(2)).unwrap_err().to_string();
    assert!(early.contains("is kept until 2999-01-01"), "{early}");
    assert!(client.delete_recording(session(3)).unwrap_err().to_string().contains("no recording"));
    assert!(ledger.as_user(STRANGER, |mut client| client.delete_recording(session(1))).is_err(), "a stranger orders nothing");
    assert_eq!((files(1), files(2)), ([true, true], [true, true]), "nothing is deleted yet");
    let receipt = client.delete_recording(session(1)).unwrap();
    assert_eq!((files(1), files(2)), ([false, false], [true, true]));
    assert!(client.delete_recording(session(1)).unwrap_err().to_string().contains("deleted already"));
    assert!(is_refused(&client.append(chunk(1, 1, 6, b"more"), b"more")), "nothing is added to it");
    ledger.stop().unwrap();
    let events = home.events();
    let at = events.iter().position(|event| matches!(event, Event::RecordingDeleted { uid: 0, chunks: 1, bytes: 6 })).unwrap();
    assert_eq!(at as u64, receipt.index());
    assert_eq!(home.verify().unwrap().deleted(), 1);
    home.start().stop().unwrap();
    assert_eq!((files(1), files(2)), ([false, false], [true, true]), "the write-ahead log brings nothing back");
    let _whole = home.verify().unwrap();
}

/// A crash between the entry and the deletion: the next start deletes.
#[test]
fn a_deletion_that_a_crash_left_undone_is_done_at_start() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    let _begun = client.append(begun(1, b"wrapped", LONG_AGO), b"wrapped").unwrap();
    let _chunk = client.append(chunk(1, 0, 0, b"sealed"), b"sealed").unwrap();
    let _deleted = client.delete_recording(session(1)).unwrap();
    ledger.stop().unwrap();
    let files = ["rec", "key"].map(|ending| home.log().join(format!("recordings/{}.{ending}", session(1))));
    files.iter().for_each(|file| std::fs::write(file, b"as if it were still there").unwrap());
    home.start().stop().unwrap();
    assert!(files.iter().all(|file| !file.exists()));
    assert_eq!(home.verify().unwrap().deleted(), 1);
}
