//! Entries, receipts and frames.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use sulku_audit::counters::{CounterError, Part};
use sulku_audit::entry::{ENTRY_BYTES_MAX, EntryError};
use sulku_audit::merkle::leaf_hash;
use sulku_audit::personal::{KeyFile, KeyState, Names, Scope};
use sulku_audit::wire::{self, Request, Response};
use sulku_audit::{Counters, Draft, Entry, Event, PersonalKey, Private, Receipt, ReceiptError, Writer};

use crate::support::{acted, encode, opened, personal_key, session, signer, stamp};

#[test]
fn an_entry_is_this_json_document() {
    let bytes = encode(&opened(), &stamp(0, (Some(3), Some(0)))).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let expected = concat!(
        r#"{"v":1,"t":"2026-09-21T14:13:20.000000Z","mono_ns":0,"boot":"c2655b15-1d5c-4547-bf12-3c6eb65c8302","by":"gateway","#,
        r#""permit":"THL/1/2026","permit_seq":3,"session":"040g2081040g2081","session_seq":0,"person":"PSEUDONYM","code":"SLK2301I","#,
        r#""event":"session.opened","data":{"transport":"quic","at":"thl-1.toml:7","#,
        r#""ends":"2027-01-01T00:00:00Z","plan":"0000000000000000000000000000000000000000000000000000000000000000","rung":"root","policy":"1 0"},"#,
        r#""sealed":"BOX","salt":"AAAAAAAAAAAAAAAAAAAAAA=="}"#,
    );
    let entry = Entry::parse(text.as_bytes()).unwrap();
    let sealed = STANDARD.encode(entry.sealed.as_ref().unwrap());
    let pseudonym = personal_key().pseudonym(&"maija".parse().unwrap());
    assert_eq!(text.replace(&sealed, "BOX").replace(&pseudonym.to_string(), "PSEUDONYM"), expected);
    assert_eq!(entry.stamp, stamp(0, (Some(3), Some(0))));
    let persons = [(pseudonym, "maija".parse().unwrap())].into();
    assert_eq!(entry.open(&personal_key(), &persons), Some(opened()));
    assert_eq!(entry.open(&PersonalKey::from_random([1; 32]), &persons), None, "another key opens nothing");
    assert_eq!(entry.open(&personal_key(), &[].into()), None, "a pseudonym that nobody knows");
}

/// LG-03
#[test]
fn nothing_private_stands_open_in_a_leaf() {
    let text = String::from_utf8(encode(&opened(), &stamp(0, (Some(3), Some(0)))).unwrap()).unwrap();
    for private in ["maija", "192.0.2.7", "spiffe", "sulku"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
    assert!(text.contains("thl-1.toml:7"), "the control: what is not private does");
    let mut open: Value = serde_json::from_str(&text).unwrap();
    open["data"]["from"] = json!("192.0.2.7");
    assert!(matches!(Entry::parse(open.to_string().as_bytes()), Err(EntryError::Unsealed("session.opened"))));
    open["data"].as_object_mut().unwrap().remove("from");
    open.as_object_mut().unwrap().remove("sealed");
    assert!(matches!(Entry::parse(open.to_string().as_bytes()), Err(EntryError::Unsealed("session.opened"))));
}

/// Entries about packets had nothing private once. They are read as they are, and what is not in them is unknown.
#[test]
fn an_entry_of_a_packet_from_before_it_named_a_process_is_read() {
    let event = Event::EgressDenied {
        protocol: 6,
        destination: [203, 0, 113, 9].into(),
        port: 443,
        suppressed: 4,
        source_port: None,
        reason: None,
        at: None,
        process: None,
        name: Some("pypi.org".to_owned()).into(),
        program: None.into(),
    };
    let draft = Draft { event, ..opened() };
    let bytes = encode(&draft, &stamp(0, (Some(3), Some(0)))).unwrap();
    let persons = [(personal_key().pseudonym(&"maija".parse().unwrap()), "maija".parse().unwrap())].into();
    assert_eq!(Entry::parse(&bytes).unwrap().open(&personal_key(), &persons), Some(draft), "the control: what is private comes back");
    let mut older: Value = serde_json::from_slice(&bytes).unwrap();
    older.as_object_mut().unwrap().remove("sealed");
    let older = Entry::parse(older.to_string().as_bytes()).unwrap().open(&personal_key(), &persons).unwrap();
    let Event::EgressDenied { name, program, suppressed: 4, .. } = older.event else { panic!("{:?}", older.event) };
    assert!(name.is_sealed() && program.is_sealed());
}

#[test]
fn a_draft_that_leaves_out_what_is_private_is_no_entry() {
    let mut draft = opened();
    let Event::SessionOpened { from, .. } = &mut draft.event else { panic!("it opens a session") };
    *from = Private::sealed();
    let error = encode(&draft, &stamp(0, (Some(0), Some(0)))).unwrap_err();
    assert_eq!(error.to_string(), "session.opened has no from; a draft tells all of its event");
}

#[test]
fn a_person_has_another_pseudonym_under_another_key() {
    let person = "maija".parse().unwrap();
    let one = personal_key().pseudonym(&person);
    assert_eq!(one, personal_key().pseudonym(&person));
    assert_ne!(one, PersonalKey::from_random([1; 32]).pseudonym(&person));
}

#[test]
fn a_key_file_gives_back_what_it_was_made_of_or_says_that_it_is_none() {
    let scope = Scope::Permit("THL/1/2026".parse().unwrap());
    let mut file = KeyFile::new(&scope, personal_key());
    assert_eq!(file.add([&"maija".parse().unwrap()]), Names::New);
    assert_eq!(file.add([&"maija".parse().unwrap()]), Names::Known);
    let text = file.to_text();
    let Ok(KeyState::Kept(again)) = KeyFile::parse(&text) else { panic!("{}", *text) };
    assert_eq!((again.scope(), again.persons(), &*again.to_text()), ("THL/1/2026", file.persons(), &*text));
    assert!(matches!(KeyFile::parse(&KeyFile::destroyed_text()), Ok(KeyState::Destroyed)));
    for wrong in
        ["", "sulku-key/1\n", "sulku-key/2\ndestroyed\n", &text[..text.len() - 1], &text.replace("key ", "key 0"), &text.replace("maija", "Maija")]
    {
        assert!(KeyFile::parse(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!([Scope::parse("year:2026"), Scope::parse("THL/1/2026"), Scope::parse("year:x")], [Some(Scope::Year(2026)), Some(scope), None]);
}

#[test]
fn what_is_no_entry_says_why() {
    let good: Value = serde_json::from_slice(&encode(&opened(), &stamp(0, (Some(0), Some(0)))).unwrap()).unwrap();
    let parse = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        Entry::parse(changed.to_string().as_bytes())
    };
    assert!(parse(&|_| {}).is_ok(), "the control");
    assert!(matches!(parse(&|v| v["extra"] = json!(1)), Err(EntryError::Malformed(_))));
    assert!(matches!(parse(&|v| v["data"]["extra"] = json!(1)), Err(EntryError::Malformed(_))));
    assert!(matches!(
        parse(&|v| {
            v["data"].as_object_mut().unwrap().remove("plan");
        }),
        Err(EntryError::Malformed(_))
    ));
    assert!(matches!(parse(&|v| v["v"] = json!(2)), Err(EntryError::Version(2))));
    assert!(
        matches!(
            parse(&|v| {
                v["v"] = json!(2);
                v["new"] = json!(1);
            }),
            Err(EntryError::Version(2))
        ),
        "of a later version, whatever it holds"
    );
    let unknown = parse(&|v| {
        v["event"] = json!("session.paused");
        v["code"] = json!("SLK2399I");
    })
    .unwrap_err();
    assert_eq!(unknown.to_string(), "the event session.paused (SLK2399I) is not known here; use a newer program");
    assert!(matches!(parse(&|v| v["code"] = json!("SLK2302I")), Err(EntryError::Mismatch { .. })));
    assert!(matches!(parse(&|v| v["by"] = json!("warden")), Err(EntryError::Mismatch { by: Writer::Warden, .. })));
    assert!(matches!(
        parse(&|v| {
            v.as_object_mut().unwrap().remove("permit_seq");
        }),
        Err(EntryError::Counters)
    ));
    assert!(matches!(
        parse(&|v| {
            v.as_object_mut().unwrap().remove("session");
        }),
        Err(EntryError::Counters)
    ));
    assert!(matches!(parse(&|v| v["t"] = json!("2026-09-21T14:13:20Z")), Err(EntryError::Time)));
    assert!(matches!(parse(&|v| v["t"] = json!("2026-09-21T16:13:20.000000+02:00")), Err(EntryError::Time)));
    assert!(matches!(parse(&|v| v["salt"] = json!("AAAA")), Err(EntryError::Salt)));
    assert!(matches!(parse(&|v| v["boot"] = json!("\u{1b}[31m")), Err(EntryError::Boot)));
    assert!(matches!(Entry::parse(&[b' '; 65_536]), Err(EntryError::TooLong(65_536))));
}

/// As JSON the order of keys says nothing; what comes twice is no entry, wherever it stands.
#[test]
fn an_entry_is_the_same_whichever_key_comes_first_and_has_each_once() {
    let bytes = encode(&opened(), &stamp(0, (Some(3), Some(0)))).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let (before, rest) = text.split_once("\"event\":").unwrap();
    let (event, rest) = rest.split_once(",\"data\":").unwrap();
    let (data, after) = rest.split_once(",\"sealed\":").unwrap();
    let data_first = format!("{before}\"data\":{data},\"event\":{event},\"sealed\":{after}");
    assert_eq!(Entry::parse(data_first.as_bytes()).unwrap(), Entry::parse(&bytes).unwrap());
    for twice in [format!("\"event\":{event}"), format!("\"data\":{data}"), "\"v\":1".to_owned(), "\"permit_seq\":3".to_owned()] {
        for text in [&text, &data_first] {
            for at_end in [false, true] {
                let doubled = if at_end { format!("{},{twice}}}", &text[..text.len() - 1]) } else { format!("{{{twice},{}", &text[1..]) };
                let error = Entry::parse(doubled.as_bytes()).unwrap_err();
                assert!(error.to_string().contains("duplicate field"), "{doubled}: {error}");
            }
        }
    }
}

#[test]
fn an_entry_beyond_32_kib_is_not_made() {
    let long = |bytes| Draft::new(Event::OrderRefused { order: "x".repeat(bytes), reason: String::new() });
    assert!(encode(&long(ENTRY_BYTES_MAX - 500), &stamp(0, (None, None))).is_ok());
    assert!(matches!(encode(&long(ENTRY_BYTES_MAX), &stamp(0, (None, None))), Err(EntryError::TooLong(_))));
}

#[test]
fn names_and_codes_of_events_are_told_apart() {
    let mut names: Vec<_> = Event::TABLE.iter().map(|(name, ..)| name).collect();
    let mut codes: Vec<_> = Event::TABLE.iter().map(|(_, code, _)| code).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!((names.len(), codes.len()), (count, count));
}

fn receipt(draft: &Draft) -> Receipt {
    let counters = (draft.permit.is_some().then_some(0), draft.session.is_some().then_some(0));
    let stamp = stamp(0, counters);
    Receipt::issue(&signer(), 5, &leaf_hash(&encode(draft, &stamp).unwrap()), draft, stamp.time)
}

#[test]
fn only_a_receipt_for_an_opened_session_carries_draft_and_signature() {
    let with = serde_json::to_value(receipt(&opened())).unwrap();
    let without = serde_json::to_value(receipt(&acted(1))).unwrap();
    assert_eq!(with["opening"].as_object().unwrap().keys().collect::<Vec<_>>(), ["draft", "signature", "time"]);
    assert_eq!(without.as_object().unwrap().keys().collect::<Vec<_>>(), ["index", "leaf_hash"]);
}

#[test]
fn a_receipt_changed_anywhere_opens_nothing() {
    let good = serde_json::to_value(receipt(&opened())).unwrap();
    let open = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        serde_json::from_value::<Receipt>(changed).unwrap().verify_opening(&[signer().verifier()])
    };
    let opening = open(&|_| {}).unwrap();
    assert_eq!((opening.index(), opening.person().as_str(), opening.from().to_string().as_str()), (5, "maija", "192.0.2.7"), "the control");
    assert!(matches!(open(&|v| v["index"] = json!(6)), Err(ReceiptError::Signature)));
    let draft = good["opening"]["draft"].as_str().unwrap().replace("maija\"", "mallu\"");
    assert!(matches!(open(&|v| v["opening"]["draft"] = json!(draft)), Err(ReceiptError::Signature)));
    assert!(matches!(open(&|v| v["leaf_hash"] = json!("0".repeat(64))), Err(ReceiptError::Signature)));
    assert!(matches!(open(&|v| v["opening"]["time"] = json!("2026-09-21T14:13:21Z")), Err(ReceiptError::Signature)));
    assert!(matches!(open(&|v| v["opening"]["signature"] = json!("AAAA")), Err(ReceiptError::Signature)));
    assert!(matches!(open(&|v| v["opening"] = Value::Null), Err(ReceiptError::Unsigned)));
}

#[test]
fn an_opening_without_a_person_opens_nothing() {
    let mut nobodys = opened();
    nobodys.person = None;
    assert!(matches!(receipt(&nobodys).verify_opening(&[signer().verifier()]), Err(ReceiptError::NotAnOpening("session.opened"))));
}

#[test]
fn an_adoptions_receipt_adopts_its_session_alone_and_opens_nothing() {
    let keys = [signer().verifier()];
    let opening = receipt(&opened()).verify_opening(&keys).unwrap();
    let event = |opening: u64| Event::SessionAdopted { opening, part: 1, policy: "1 0".to_owned(), until: "2027-01-01T00:00:00Z".parse().unwrap() };
    let adopted = |draft: Draft| receipt(&draft).verify_adoption(&keys);
    let good = Draft { event: event(opening.index()), ..opened() };
    let adoption = adopted(good.clone()).unwrap();
    assert!(adoption.is_of(&opening, 1), "the control");
    assert!(!adoption.is_of(&opening, 2), "another part");
    assert!(matches!(receipt(&good).verify_opening(&keys), Err(ReceiptError::NotAnOpening("session.adopted"))));
    assert!(matches!(adopted(opened()), Err(ReceiptError::NotAnAdoption("session.opened"))));
    for other in [
        Draft { event: event(opening.index() + 1), ..good.clone() },
        Draft { session: Some(session(2)), ..good.clone() },
        Draft { permit: Some("THL/2/2026".parse().unwrap()), ..good.clone() },
        Draft { person: Some("mallu".parse().unwrap()), ..good.clone() },
    ] {
        assert!(!adopted(other.clone()).unwrap().is_of(&opening, 1), "{other:?}");
    }
    assert!(matches!(receipt(&good).verify_adoption(&[]), Err(ReceiptError::Signature)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Entry::parse(&bytes).is_err());
        let _may_wait_for_more = wire::decode::<Request>(&bytes);
        let _may_wait_for_more = wire::decode::<Response>(&bytes);
    }

    #[test]
    fn an_entry_with_a_byte_changed_is_another_entry_or_none(at: prop::sample::Index, byte: u8) {
        let good = encode(&opened(), &stamp(0, (Some(0), Some(0)))).unwrap();
        let mut changed = good.clone();
        *at.get_mut(&mut changed) = byte;
        if changed != good {
            prop_assert_ne!(leaf_hash(&changed), leaf_hash(&good));
            let _may_still_be_one = Entry::parse(&changed);
        }
    }

    #[test]
    fn frames_come_back_in_pieces(blob in prop::collection::vec(any::<u8>(), 0..2000), cut: prop::sample::Index) {
        let request = Request { id: 9, body: wire::RequestBody::Append(acted(1)) };
        let frame = wire::encode(&request, &blob).unwrap();
        prop_assert!(matches!(wire::decode::<Request>(&frame[..cut.index(frame.len())]), Ok(None)));
        let (head, found, length) = wire::decode::<Request>(&frame).unwrap().unwrap();
        prop_assert_eq!((head, found, length), (request, blob.as_slice(), frame.len()));
    }
}

/// What a gateway that died had sent may arrive after its successor has begun: it is of a part that is over, and is not taken.
#[test]
fn a_recordings_parts_rise_and_one_that_is_over_takes_nothing() {
    let time = "2026-11-24T08:00:00Z".parse().unwrap();
    let digest = "0".repeat(64);
    let about = |event: Event| Draft { event, ..opened() };
    let begun = |part: u32| {
        about(Event::RecordingBegun {
            part,
            key_sha256: digest.clone(),
            key_length: 1,
            recipients: Vec::new(),
            durability: "strict".to_owned(),
            input: "timing".to_owned(),
            keep_until: "2027-01-01T00:00:00Z".parse().unwrap(),
        })
    };
    let chunk = |part: u32, chunk: u64, offset: u64| {
        about(Event::RecordingChunk { part, chunk, offset, length: 5, sha256: digest.clone(), began_ms: 0, ended_ms: 0, lines: 1 })
    };
    let mut counters = Counters::default();
    let mut count = |draft: Draft| counters.count(&draft, time);
    for (draft, path) in [(begun(0), "key"), (chunk(0, 0, 0), "rec"), (chunk(0, 1, 5), "rec"), (begun(2), "2.key"), (chunk(2, 0, 0), "2.rec")] {
        let counted = count(draft).unwrap().unwrap().path();
        assert_eq!(counted, format!("recordings/{}.{path}", session(1)));
        assert_eq!(Part::parse(&counted).map(|(part, session, number)| part.path(&session, number)), Some(counted));
    }
    for stale in [chunk(0, 2, 10), chunk(0, 1, 5), chunk(2, 0, 0), chunk(3, 0, 0)] {
        assert!(matches!(count(stale.clone()), Err(CounterError::Misplaced { .. })), "{stale:?}");
    }
    for again in [begun(0), begun(1), begun(2)] {
        assert!(matches!(count(again), Err(CounterError::BegunAlready)));
    }
    count(chunk(2, 1, 5)).unwrap();
    let recorded = counters.recording(&session(1)).unwrap();
    assert_eq!((recorded.chunks, recorded.bytes, recorded.last_part), (4, 20, 2), "all parts together");
    for path in ["recordings/x.rec", "recordings/../checkpoint", "recordings/040g2081040g2081.0.rec", "recordings/040g2081040g2081.01.rec"] {
        assert_eq!(Part::parse(path), None, "{path}");
    }
}
