//! Every event as OCSF: golden files, one an event code, and the published schemas' judgement of them.
//!
//! The files are in `tests/ocsf/`. Made again with `SULKU_WRITE_GOLDEN=1 cargo test -p sulku-audit --test ocsf`; look at the
//! difference before you keep it, for others parse these. The schemas come from PyPI (`ocsf-json-schema`), by `make test`.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sulku_audit::ocsf::{Exported, Severity, export};
use sulku_audit::{Body, Draft, Entry, Event, Hash, PersonalKey, Stamp};

const ORIGIN: &str = "spe.example.fi/audit/node1";
const PSEUDONYM: &str = "7kq6wq2mhzt5y3cm";
const SESSION: &str = "040g2081040g2081";
/// What is sealed in the samples that have something private; and must be in no file.
const SEALED: &str = "c2VhbGVkIGFuZCBub3QgdG8gYmUgZXhwb3J0ZWQgYnkgYW55Ym9keSBhdCBhbGwhIQ==";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocsf")
}

/// Each event's public data, as a leaf has it, and what it is about.
fn samples() -> Vec<(&'static str, About, Value)> {
    let digest = |c: &str| c.repeat(64);
    vec![
        ("ledger.started", About::Nothing, json!({ "version": "0.1.0", "entries": 41, "dropped_bytes": 12 })),
        ("ledger.stopped", About::Nothing, json!({ "reason": "SIGTERM" })),
        ("ledger.full", About::Nothing, json!({ "what": "wal/00000000000000004096", "reserve_bytes": 67_108_864 })),
        ("ledger.has-room", About::Nothing, json!({ "after_ms": 90_000 })),
        ("ledger.key-rotated", About::Nothing, json!({ "old": ["a+1+x"], "new": ["a+2+y"], "signature": "AAAA" })),
        ("ledger.unwitnessed", About::Nothing, json!({ "age_s": 65, "effect": "no-new-sessions" })),
        ("ledger.witnessed", About::Nothing, json!({ "size": 4096 })),
        ("ledger.clock-jumped", About::Nothing, json!({ "by_ms": -3_600_000 })),
        ("audit.refused", About::Nothing, json!({ "uid": 64031, "reason": "holder" })),
        ("key.destroyed", About::Permit, json!({ "key": "k7q2", "scope": "THL/1234/14.02.00/2026", "uid": 0 })),
        ("recording.deleted", About::Session, json!({ "uid": 0, "chunks": 12, "bytes": 40_960 })),
        ("operator.broke-glass", About::Nothing, json!({ "uid": 0, "reason": "the disk is full" })),
        (
            "recording.begun",
            About::Session,
            json!({
                "key_sha256": digest("9"), "key_length": 412, "recipients": ["age1qqq"], "durability": "strict", "input": "timing",
                "keep_until": "2027-12-31T00:00:00Z",
            }),
        ),
        ("audit.read", About::Nothing, json!({ "uid": 64030 })),
        (
            "gateway.started",
            About::Nothing,
            json!({ "version": "0.1.0", "listen": "192.0.2.1:443", "rung": "root", "confinement": "Landlock", "policy": format!("12 {}", digest("a")) }),
        ),
        ("gateway.stopped", About::Nothing, json!({ "reason": "SIGTERM", "sessions_closed": 3 })),
        ("policy.activated", About::Operator, json!({ "number": 12, "sha256": digest("a"), "before": 11, "files": 3, "signatures": 2 })),
        ("policy.refused", About::Nothing, json!({ "in_force": 12 })),
        ("policy.holders", About::Nothing, json!({ "number": 12, "extent": "changes", "part": 1, "parts": 1 })),
        ("warden.policy-activated", About::Nothing, json!({ "number": 12, "sha256": digest("a") })),
        ("warden.policy-refused", About::Nothing, json!({})),
        ("crl.loaded", About::Nothing, json!({ "file": "issuer.crl", "sha256": digest("b") })),
        ("certificate.refused", About::Nothing, json!({ "code": "certificate-expired", "reason": "the certificate ended", "transport": "quic" })),
        ("protocol.violated", About::Nothing, json!({ "reason": "a frame of 2 GiB", "transport": "tls" })),
        ("session.refused", About::Person, json!({ "code": "permit-expired", "at": "statins.toml:4", "transport": "quic" })),
        (
            "session.opened",
            About::Session,
            json!({
                "transport": "quic", "at": "statins.toml:7", "ends": "2027-01-01T00:00:00Z", "plan": digest("c"), "rung": "root",
                "policy": format!("12 {}", digest("a")),
            }),
        ),
        (
            "session.closed",
            About::Session,
            json!({
                "reason": "holder-left", "bytes_out": 8192, "bytes_in": 512, "duration_ms": 60_000, "exit_status": 0, "chunks": 12,
                "recorded_bytes": 40_960,
            }),
        ),
        ("terminal.sequence-removed", About::Session, json!({ "kind": "osc-52", "count": 3, "bytes": 4096 })),
        (
            "recording.chunk",
            About::Session,
            json!({
                "chunk": 4, "offset": 4096, "length": 1024, "sha256": digest("d"), "began_ms": 900, "ended_ms": 1400, "lines": 7,
            }),
        ),
        ("operator.acted", About::Person, json!({ "action": "session-ended" })),
        (
            "warden.started",
            About::Nothing,
            json!({ "version": "0.1.0", "rung": "root", "kernel": "6.18.0", "landlock_abi": 7, "ruleset": digest("e") }),
        ),
        ("warden.stopped", About::Nothing, json!({ "reason": "SIGTERM" })),
        ("warden.order-refused", About::Nothing, json!({ "order": "launch", "reason": "no receipt" })),
        ("warden.gateway-lost", About::Nothing, json!({ "cells": 2, "grace_s": 30 })),
        (
            "cell.launched",
            About::Session,
            json!({
                "pid": 4711, "rung": "root", "landlock": "ABI 6, fully enforced", "seccomp": digest("f"), "plan": digest("c"),
                "address": "10.77.0.2", "ruleset": digest("e"),
            }),
        ),
        (
            "cell.reaped",
            About::Session,
            json!({ "reason": "holder-left", "cpu_ms": 1200, "memory_peak_bytes": 52_428_800, "processes_peak": 12, "oom_kills": 1, "bytes_out": 4_096, "bytes_in": 1_048_576, "leftovers": [] }),
        ),
        (
            "egress.denied",
            About::Session,
            json!({
                "protocol": 6, "destination": "203.0.113.9", "port": 443, "suppressed": 4, "source_port": 40_112, "reason": "egress-not-listed",
                "process": { "pid": 4750, "in_cell": 17 },
            }),
        ),
        (
            "egress.allowed",
            About::Session,
            json!({
                "protocol": "tcp", "destination": "10.20.30.40", "port": 443, "bytes_out": 900, "bytes_in": 70_000, "at": "statins.toml:21",
                "duration_ms": 1200, "process": { "pid": 4750, "in_cell": 17 },
            }),
        ),
        ("name.denied", About::Session, json!({ "record": "A", "reason": "not-listed", "suppressed": 2 })),
        (
            "connection.denied",
            About::Session,
            json!({ "destination": "203.0.113.9", "port": 443, "reason": "no-name", "suppressed": 0, "at": "statins.toml:21" }),
        ),
        ("program.run", About::Session, json!({ "process": { "pid": 4750, "in_cell": 17 }, "arguments_left_out": 3, "suppressed": 0 })),
        ("dataset.opened", About::Session, json!({ "dataset": "purchases", "opens": 1, "suppressed": 0, "process": { "pid": 4750 } })),
        ("observation.lost", About::Session, json!({ "what": "ended-flows", "count": 12 })),
        (
            "refusals.counted",
            About::Nothing,
            json!({
                "certificates": 9_000, "sessions": 3, "violations": 40, "since": "2026-06-01T00:00:00Z", "networks": 2, "busiest_count": 9_010,
            }),
        ),
        ("crl.stale", About::Nothing, json!({ "file": "issuer.crl", "made": "2026-06-01T00:00:00Z", "age_s": 90_000, "effect": "alarm" })),
        (
            "workspace.deletion-begun",
            About::Permit,
            json!({ "workspace": "statins", "files": 41, "folders": 3, "bytes": 70_000, "sha256": digest("7") }),
        ),
        (
            "workspace.deleted",
            About::Permit,
            json!({
                "workspace": "statins", "files": 41, "folders": 3, "bytes": 70_000, "sha256": digest("7"),
                "permit_ended": "2026-12-31T22:00:00Z",
            }),
        ),
        ("session.detached", About::Session, json!({ "reason": "connection-lost", "until": "2026-06-01T20:00:00Z" })),
        ("session.reattached", About::Session, json!({ "transport": "quic", "policy": format!("12 {}", digest("a")), "detached_ms": 3_000 })),
        (
            "session.adopted",
            About::Session,
            json!({ "opening": 120, "part": 1, "policy": format!("12 {}", digest("a")), "until": "2026-06-01T20:00:00Z" }),
        ),
        ("resolver.ended", About::Nothing, json!({ "reason": "signal 9 ended it", "again_in_ms": 200 })),
        (
            "ruleset.drifted",
            About::Nothing,
            json!({
                "changes": ["rule added or changed in inet sulku forward"], "process": 4711, "program": "nft", "outcome": "mended", "budgets_taken": 0,
            }),
        ),
        ("ruleset.restored", About::Nothing, json!({ "after_ms": 1200, "budgets_taken": 2 })),
        ("session.moved", About::Session, json!({ "policy": format!("12 {}", digest("a")) })),
        (
            "program.ended",
            About::Session,
            json!({
                "ends": [
                    { "process": { "pid": 4750, "in_cell": 17 }, "status": 1, "duration_ms": 30 },
                    { "process": { "pid": 4751, "in_cell": 18 }, "signal": 9, "duration_ms": 90_000 },
                ],
                "unknown": 0,
            }),
        ),
        ("access.denied", About::Session, json!({ "rights": ["fs.read_file"], "suppressed": 4 })),
    ]
}

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Nothing,
    Permit,
    Operator,
    Person,
    Session,
}

/// A leaf with this event.
fn leaf(name: &str, about: About, data: &Value) -> Vec<u8> {
    let (_, code, by) = Event::TABLE.iter().find(|(known, ..)| *known == name).unwrap();
    let make = |sealed: Option<&str>| {
        let mut entry = json!({
            "v": 1, "t": "2026-11-24T08:00:00.123456Z", "mono_ns": 99, "boot": "c2655b15-1d5c-4547-bf12-3c6eb65c8302", "by": by,
            "code": code, "event": name, "data": data, "salt": "AAECAwQFBgcICQoLDA0ODw==",
        });
        if !matches!(about, About::Nothing | About::Operator) {
            (entry["permit"], entry["permit_seq"]) = (json!("THL/1234/14.02.00/2026"), json!(7));
        }
        if matches!(about, About::Operator | About::Person | About::Session) {
            entry["person"] = json!(PSEUDONYM);
        }
        if about == About::Session {
            (entry["session"], entry["session_seq"]) = (json!(SESSION), json!(5));
        }
        if let Some(sealed) = sealed {
            entry["sealed"] = json!(sealed);
        }
        entry.to_string().into_bytes()
    };
    [None, Some(SEALED)].map(make).into_iter().find(|leaf| Entry::parse(leaf).is_ok()).unwrap_or_else(|| {
        panic!("the sample of {name} is no entry: {}", Entry::parse(&make(None)).unwrap_err());
    })
}

fn exported() -> Vec<Exported> {
    (1000..).zip(samples()).map(|(index, (name, about, data))| export(ORIGIN, index, &leaf(name, about, &data))).collect()
}

fn pretty(event: &Value) -> String {
    serde_json::to_string_pretty(event).unwrap() + "\n"
}

#[test]
fn every_event_code_has_its_golden_file_and_is_exported_like_it() {
    let exported = exported();
    let codes: BTreeSet<&str> = exported.iter().map(|one| one.code.as_str()).collect();
    let known: BTreeSet<&str> = Event::TABLE.iter().map(|(_, code, _)| *code).collect();
    assert_eq!(codes, known, "each event has one sample");
    for one in &exported {
        let file = golden().join(format!("{}.json", one.code));
        if std::env::var_os("SULKU_WRITE_GOLDEN").is_some() {
            std::fs::write(&file, pretty(&one.event)).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}; see the top of this file", file.display()));
        assert_eq!(pretty(&one.event), expected, "{}", file.display());
    }
    let files = std::fs::read_dir(golden()).unwrap().count();
    assert_eq!(files, known.len(), "a golden file that no event has is left over");
}

#[test]
fn the_documents_table_is_the_mapping() {
    let document = include_str!("../../../docs/protocol/courier.md");
    for one in exported() {
        let text = |key: &str| one.event[key].as_str().unwrap_or_default().to_owned();
        let (class, name) = (&one.event["class_uid"], one.event["unmapped"]["event"].as_str().unwrap());
        let row = format!("| `{}` | `{name}` | {class} {} | {} | {} |", one.code, text("class_name"), text("activity_name"), text("status"));
        assert!(document.contains(&row.replace("|  |", "| |")), "docs/protocol/courier.md has no row {row}");
    }
}

#[test]
fn an_export_names_its_entry_by_number_and_hash() {
    let bytes = leaf("ledger.stopped", About::Nothing, &json!({ "reason": "SIGTERM" }));
    let one = export(ORIGIN, 7, &bytes);
    let metadata = &one.event["metadata"];
    assert_eq!(metadata["uid"], format!("{ORIGIN}#7"));
    assert_eq!(metadata["sequence"], 7);
    assert_eq!(metadata["original_event_uid"], sulku_audit::merkle::leaf_hash(&bytes).to_string());
    assert_eq!(metadata["event_code"], "SLK1002I");
    assert_eq!(Hash::from_hex(metadata["original_event_uid"].as_str().unwrap()), Some(one.leaf));
    assert_eq!((one.index, one.time_ms, one.severity), (7, 1_795_507_200_123, Severity::Informational));
}

#[test]
fn nothing_private_is_exported() {
    let whole: String = exported().iter().map(|one| one.event.to_string()).collect();
    assert!(whole.contains(PSEUDONYM), "the control: persons are there, by pseudonym");
    for private in [SEALED, "\"sealed\":", "\"salt\":", "AAECAwQFBgcICQoLDA0ODw=="] {
        assert!(!whole.contains(private), "{private} is exported");
    }
}

#[test]
fn an_entry_with_a_person_in_it_is_exported_without_her() {
    let event = Event::SessionOpened {
        transport: "quic".to_owned(),
        at: "statins.toml:7".to_owned(),
        ends: "2027-01-01T00:00:00Z".parse().unwrap(),
        plan: "0".repeat(64),
        rung: "root".to_owned(),
        policy: "12 0".to_owned(),
        from: "192.0.2.7".parse::<std::net::IpAddr>().unwrap().into(),
        identity: "spiffe://example/maija".to_owned().into(),
        command: Some(vec!["python3".to_owned(), "private.py".to_owned()]).into(),
        client: "sulku 9.9.9".to_owned().into(),
        stays_s: None,
        certificates: None.into(),
    };
    let permit = Some("THL/1/2026".parse().unwrap());
    let draft = Draft { permit, session: Some(SESSION.parse().unwrap()), person: Some("maija.meikalainen".parse().unwrap()), event };
    let key = PersonalKey::from_random([9; 32]);
    let time = "2026-11-24T08:00:00Z".parse().unwrap();
    let stamp = Stamp { time, mono_ns: 1, boot: "b".to_owned(), permit_seq: Some(0), session_seq: Some(0), salt: [1; 16] };
    let bytes = Body::new(&draft, &key, &[8; 24]).unwrap().encode(&stamp).unwrap();
    let text = export(ORIGIN, 0, &bytes).event.to_string();
    assert!(text.contains(&key.pseudonym(draft.person.as_ref().unwrap()).to_string()), "the control: {text}");
    for private in ["192.0.2.7", "spiffe", "maija", "private.py", "9.9.9"] {
        assert!(!text.contains(private), "{private} is exported: {text}");
    }
}

#[test]
fn an_entry_of_a_newer_program_is_exported_as_a_base_event() {
    let mut newer: Value = serde_json::from_slice(&leaf("ledger.stopped", About::Nothing, &json!({ "reason": "SIGTERM" }))).unwrap();
    newer["event"] = json!("session.paused");
    newer["code"] = json!("SLK2399W");
    let one = export(ORIGIN, 3, newer.to_string().as_bytes());
    assert_eq!((one.event["class_uid"].clone(), one.event["metadata"]["sequence"].clone()), (json!(0), json!(3)));
    assert_eq!((one.code.as_str(), one.severity, one.time_ms), ("SLK2399W", Severity::Medium, 1_795_507_200_123));
    let garbage = export(ORIGIN, 4, b"\xff\x00 no JSON at all");
    assert_eq!((garbage.code.as_str(), garbage.severity, garbage.time_ms), ("unknown", Severity::Unknown, 0));
    assert_eq!(garbage.event["metadata"]["uid"], format!("{ORIGIN}#4"));
    judge(&[&one.event, &garbage.event]);
}

#[test]
fn an_event_too_long_for_its_receiver_is_shortened_and_stays_valid() {
    let problems: Vec<String> = (0..10).map(|number| format!("{number} {}", "x".repeat(900))).collect();
    let long = export(ORIGIN, 9, &leaf("warden.order-refused", About::Nothing, &json!({ "order": "launch", "reason": problems.join("; ") })));
    let [whole, shorter, least] = [1 << 20, 2000, 700].map(|bytes_max| serde_json::from_str::<Value>(&long.text_within(bytes_max)).unwrap());
    assert_eq!(whole, long.event);
    assert_eq!((shorter["class_uid"].clone(), shorter.get("unmapped")), (json!(6003), None));
    assert_eq!(least["class_uid"], 0);
    for short in [&shorter, &least] {
        assert_eq!(short["metadata"]["is_truncated"], true);
        assert_eq!(short["metadata"]["untruncated_size"], long.event.to_string().len());
        assert_eq!(short["metadata"]["original_event_uid"], long.leaf.to_string());
    }
    assert!(shorter.to_string().len() <= 2000 && least.to_string().len() <= 700);
    judge(&[&whole, &shorter]);
}

/// The published schemas accept every golden file, and reject each class's event when something of it is wrong.
#[test]
fn the_published_schemas_accept_every_event_and_reject_broken_ones() {
    let exported = exported();
    judge(&exported.iter().map(|one| &one.event).collect::<Vec<_>>());
}

/// Has events judged by the schemas of `ocsf-json-schema`.
fn judge(events: &[&Value]) {
    let peers = std::env::var_os("SULKU_PEERS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers"), PathBuf::from);
    let python = peers.join("bin/python");
    assert!(python.exists(), "{} is missing; `make test` installs it, or `make peers` alone", python.display());
    let file = std::env::temp_dir().join(format!("sulku-ocsf-{}-{}.jsonl", std::process::id(), events.len()));
    std::fs::write(&file, events.iter().map(|event| event.to_string() + "\n").collect::<String>()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/ocsf.py");
    let output = Command::new(python).arg(script).arg(&file).output().unwrap();
    let _removed = std::fs::remove_file(&file);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains(&format!("{} events are valid", events.len())), "{out}");
}
