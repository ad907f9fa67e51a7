//! Who may write, who may read, and that one peer's mistake is nobody else's.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use sulku_audit::personal::{Keyring, Sight};
use sulku_audit::wire::{self, Request, RequestBody, Response, ResponseBody};
use sulku_audit::{Draft, Event, ReceiptError, Source as _};
use sulku_ledger::client::{Client, ClientError};

use crate::support::{AUDITOR, GATEWAY, Home, ORIGIN, STRANGER, WARDEN, acted, opened, session};

fn warden_stopped() -> Draft {
    Draft::new(Event::WardenStopped { reason: "test".to_owned() })
}

/// LG-04
#[test]
fn only_the_user_that_an_event_belongs_to_writes_it() {
    let home = Home::with_separate_users();
    let ledger = home.start();
    for (uid, may_act, may_stop) in [(GATEWAY, true, false), (WARDEN, false, true), (AUDITOR, false, false), (0, false, false)] {
        ledger.as_user(uid, |mut client| {
            assert_eq!(client.append(acted(1), &[]).is_ok(), may_act, "user {uid} and the gateway's event");
            assert_eq!(client.append(warden_stopped(), &[]).is_ok(), may_stop, "user {uid} and the warden's event");
            let forged = Draft::new(Event::LedgerStopped { reason: "forged".to_owned() });
            assert!(matches!(client.append(forged, &[]), Err(ClientError::Refused { .. })), "user {uid} and the ledger's event");
        });
    }
    ledger.stop().unwrap();
    let names: Vec<&str> = home.events().iter().map(Event::name).collect();
    assert_eq!(names, ["ledger.started", "operator.acted", "warden.stopped", "ledger.stopped"], "what was refused is not in the log");
}

#[test]
fn a_stranger_gets_nothing_and_is_told_so() {
    let home = Home::with_separate_users();
    let ledger = home.start();
    let refused = |result: Result<_, ClientError>| matches!(result, Err(ClientError::Refused { reason, .. }) if reason.contains("64004"));
    assert!(ledger.as_user(STRANGER, |mut client| refused(client.append(acted(1), &[]).map(drop))));
    assert!(ledger.as_user(STRANGER, |client| refused(client.announce("all").map(drop))));
    assert!(ledger.as_user(STRANGER, |mut client| refused(client.publish().map(drop))));
    assert!(ledger.as_user(AUDITOR, |client| client.announce("all").is_ok()), "the control: an auditor is let in");
}

/// LG-10
#[test]
fn an_auditors_reading_is_in_the_log_before_she_reads() {
    let home = Home::with_separate_users();
    let ledger = home.start();
    let (origin, entries) = ledger.as_user(AUDITOR, |client| {
        let mut reader = client.announce("the year 2026").unwrap();
        let mut last = None;
        let verified = sulku_audit::verify::verify(&mut reader, &home.key, sulku_audit::Recordings::Check, |_, entry, _| last = Some(entry.clone()));
        let expected = Event::AuditRead { uid: AUDITOR, what: "the year 2026".to_owned().into() };
        let opened = Keyring::default().open(&mut reader, &last.unwrap()).unwrap();
        assert_eq!(opened, Sight::Open(Box::new(Draft::new(expected))));
        let verified = verified.unwrap();
        (verified.checkpoint().origin.clone(), verified.entries())
    });
    assert_eq!((origin.as_str(), entries), (ORIGIN, 2));
}

#[test]
fn nobody_reads_unannounced_and_the_gateway_not_at_all() {
    let home = Home::with_separate_users();
    let ledger = home.start();
    ledger.as_user(GATEWAY, |client| assert!(matches!(client.announce("all"), Err(ClientError::Refused { .. }))));
    ledger.as_user(AUDITOR, |mut client| client.publish().unwrap());
    let socket = home.settings.socket.clone();
    let fetch = RequestBody::Fetch { path: "checkpoint".to_owned(), offset: 0 };
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&wire::encode(&Request { id: 1, body: fetch }, &[]).unwrap()).unwrap();
    assert!(matches!(answers(&mut stream, 1)[0].body, ResponseBody::Refused { .. }));
}

#[test]
fn only_the_logs_own_files_are_given_out() {
    let home = Home::new();
    let ledger = home.start();
    let mut reader = ledger.client().announce("probing").unwrap();
    for path in
        ["../key", "/etc/passwd", "lock", "signed-head", "wal/00000000000000000000", "tile/0/../../../key", "tile/0/0", "recordings/../key.rec", ""]
    {
        assert!(reader.read(path).is_err(), "{path}");
    }
    assert_eq!(reader.read("tile/0/009").unwrap(), None, "a tile that is not there yet");
    assert!(reader.read("checkpoint").unwrap().is_some());
    let elsewhere = home.folder.path().join("elsewhere");
    std::fs::write(&elsewhere, "secret").unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.log().join(format!("recordings/{}.rec", session(9)))).unwrap();
    assert!(reader.read(&format!("recordings/{}.rec", session(9))).is_err(), "a link is not followed");
}

#[test]
fn a_malformed_frame_ends_its_connection_alone() {
    let home = Home::new();
    let ledger = home.start();
    let mut good = ledger.client();
    let _first = good.append(acted(1), &[]).unwrap();
    for bytes in [b"\0\0\0\x02\0\0\0\0{}".as_slice(), &[0xff; 64], b"\0\0\0\x02\0\0\0\0\xff\xff"] {
        let mut bad = UnixStream::connect(&home.settings.socket).unwrap();
        bad.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        bad.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "the connection is closed without an answer");
    }
    let _second = good.append(acted(2), &[]).unwrap();
}

#[test]
fn every_request_in_flight_gets_one_answer() {
    const REQUESTS: u64 = 6000;
    let home = Home::new();
    let ledger = home.start();
    let mut stream = UnixStream::connect(&home.settings.socket).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for id in 0..REQUESTS {
            sending.write_all(&wire::encode(&Request { id, body: RequestBody::Append(acted(id)) }, &[]).unwrap()).unwrap();
        }
    });
    let answers = answers(&mut stream, REQUESTS as usize);
    sender.join().unwrap();
    let mut ids: Vec<u64> = answers.iter().map(|answer| answer.id).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..REQUESTS));
    let mut indices: Vec<u64> = answers
        .iter()
        .map(|answer| match &answer.body {
            ResponseBody::Kept(receipt) => receipt.index(),
            other => panic!("{other:?}"),
        })
        .collect();
    indices.sort_unstable();
    assert!(indices.iter().copied().eq(1..=REQUESTS), "after ledger.started");
    ledger.stop().unwrap();
    assert_eq!(home.verify().unwrap().entries(), REQUESTS + 2);
}

/// No receipt, no cell.
#[test]
fn a_receipt_opens_the_session_that_its_entry_names_and_no_other() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    let receipt = client.append(opened(1), &[]).unwrap();
    let opening = receipt.verify_opening(&home.receipt_keys()).unwrap();
    assert_eq!((opening.session(), opening.permit().as_str(), opening.person().as_str()), (session(1), "THL/1/2026", "maija.meikalainen"));
    assert_eq!(opening.command().unwrap()[2], "print(\"å\")");
    assert_eq!((opening.index(), opening.ends().to_string().as_str()), (1, "2027-01-01T00:00:00Z"));
    let other = Home::new();
    assert!(matches!(receipt.verify_opening(&other.receipt_keys()), Err(ReceiptError::Signature)));
    let both = [other.receipt_keys(), home.receipt_keys()].concat();
    assert!(receipt.verify_opening(&both).is_ok(), "either key will do while one is being replaced");
    assert!(matches!(receipt.verify_opening(&[]), Err(ReceiptError::Signature)));
    let plain = client.append(acted(1), &[]).unwrap();
    assert!(matches!(plain.verify_opening(&home.receipt_keys()), Err(ReceiptError::Unsigned)));
}

#[test]
fn an_entry_beyond_its_bound_is_refused_and_leaves_no_gap() {
    let home = Home::new();
    let ledger = home.start();
    let mut client: Client = ledger.client();
    assert!(matches!(client.append(crate::support::long(33 << 10), &[]), Err(ClientError::Refused { .. })));
    assert!(matches!(client.append(acted(1), b"bytes that no entry names"), Err(ClientError::Refused { .. })));
    assert_eq!(client.append(crate::support::long(31 << 10), &[]).unwrap().index(), 1);
}

fn answers(stream: &mut UnixStream, count: usize) -> Vec<Response> {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    let mut piece = vec![0; 1 << 16];
    while found.len() < count {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "the ledger hung up after {} answers", found.len());
        buffer.extend_from_slice(&piece[..length]);
        let mut taken = 0;
        while let Some((answer, _, length)) = wire::decode::<Response>(&buffer[taken..]).unwrap() {
            found.push(answer);
            taken += length;
        }
        buffer.drain(..taken);
    }
    found
}
