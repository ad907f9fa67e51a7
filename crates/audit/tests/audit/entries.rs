//! Entries, receipts and frames.

use proptest::prelude::*;
use serde_json::{Value, json};
use sulku_audit::entry::{ENTRY_BYTES_MAX, EntryError, encode};
use sulku_audit::merkle::leaf_hash;
use sulku_audit::wire::{self, Request, Response};
use sulku_audit::{Draft, Entry, Event, Receipt, ReceiptError, Writer};

use crate::support::{ORIGIN, acted, key, opened, signer, stamp};

#[test]
fn an_entry_is_this_json_document() {
    let bytes = encode(&opened(), &stamp(0, (Some(3), Some(0)))).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let expected = concat!(
        r#"{"v":1,"t":"2026-09-21T14:13:20.000000Z","mono_ns":0,"boot":"c2655b15-1d5c-4547-bf12-3c6eb65c8302","by":"gateway","#,
        r#""permit":"THL/1/2026","permit_seq":3,"session":"040g2081040g2081","session_seq":0,"person":"maija","code":"SLK2301I","#,
        r#""event":"session.opened","data":{"from":"192.0.2.7","transport":"quic","identity":"spiffe://example/maija","at":"thl-1.toml:7","#,
        r#""ends":"2027-01-01T00:00:00Z","plan":"0000000000000000000000000000000000000000000000000000000000000000","rung":"root","#,
        r#""client":"sulku \u001b[31m \"0.1.0\""},"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}"#,
    );
    assert_eq!(text, expected);
    let entry = Entry::parse(text.as_bytes()).unwrap();
    assert_eq!((entry.draft, entry.stamp), (opened(), stamp(0, (Some(3), Some(0)))));
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

#[test]
fn an_entry_beyond_32_kib_is_not_made() {
    let long = |bytes| Draft::new(Event::PermitRefused { file: String::new(), problems: vec!["x".repeat(bytes)] });
    assert!(encode(&long(ENTRY_BYTES_MAX - 400), &stamp(0, (None, None))).is_ok());
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

fn receipt(draft: &Draft) -> (Receipt, Vec<u8>) {
    let counters = (draft.permit.is_some().then_some(0), draft.session.is_some().then_some(0));
    let bytes = encode(draft, &stamp(0, counters)).unwrap();
    (Receipt::issue(&signer(), 5, &leaf_hash(&bytes), draft, &bytes), bytes)
}

#[test]
fn only_a_receipt_for_an_opened_session_carries_entry_and_signature() {
    let with = serde_json::to_value(receipt(&opened()).0).unwrap();
    let without = serde_json::to_value(receipt(&acted(1)).0).unwrap();
    assert_eq!(with.as_object().unwrap().len(), 4);
    assert_eq!(without.as_object().unwrap().keys().collect::<Vec<_>>(), ["index", "leaf_hash"]);
}

#[test]
fn a_receipt_changed_anywhere_opens_nothing() {
    let good = serde_json::to_value(receipt(&opened()).0).unwrap();
    let open = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        serde_json::from_value::<Receipt>(changed).unwrap().verify_opening(ORIGIN, key().key())
    };
    assert_eq!(open(&|_| {}).unwrap().index(), 5, "the control");
    assert!(matches!(open(&|v| v["index"] = json!(6)), Err(ReceiptError::Signature)));
    let text = good["entry"].as_str().unwrap().replace("maija\",", "mallu\",");
    assert!(matches!(open(&|v| v["entry"] = json!(text)), Err(ReceiptError::Hash)));
    let forged = leaf_hash(text.as_bytes()).to_string();
    assert!(matches!(
        open(&|v| {
            v["entry"] = json!(text);
            v["leaf_hash"] = json!(forged);
        }),
        Err(ReceiptError::Signature)
    ));
    assert!(matches!(open(&|v| v["signature"] = json!("AAAA")), Err(ReceiptError::Signature)));
    assert!(matches!(open(&|v| v["signature"] = Value::Null), Err(ReceiptError::Unsigned)));
    assert!(matches!(open(&|v| v["entry"] = Value::Null), Err(ReceiptError::Unsigned)));
}

#[test]
fn an_opening_without_a_person_opens_nothing() {
    let mut nobodys = opened();
    nobodys.person = None;
    assert!(matches!(receipt(&nobodys).0.verify_opening(ORIGIN, key().key()), Err(ReceiptError::NotAnOpening("session.opened"))));
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
