//! The worked example of docs/protocol/ledger.md: its commands are run as they are printed, and our own verifier agrees.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sulku_audit::{EntryProof, Trust};

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol")
}

/// The blocks of the example, each with the language that it is marked with.
fn block(marked: &str) -> String {
    let text = fs::read_to_string(docs().join("ledger.md")).unwrap();
    let example = text.split("## Worked example").nth(1).unwrap();
    example.split(&format!("```{marked}\n")).nth(1).unwrap().split("```").next().unwrap().to_owned()
}

#[test]
fn the_worked_example_can_be_followed_with_sha256sum_openssl_and_base64_alone() {
    let scratch = tempfile::tempdir().unwrap();
    for file in fs::read_dir(docs().join("example")).unwrap().flatten() {
        fs::copy(file.path(), scratch.path().join(file.file_name())).unwrap();
    }
    let run = || Command::new("bash").args(["-euo", "pipefail", "-c", &block("sh")]).current_dir(scratch.path()).output().unwrap();
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), block("text"));

    let entry = scratch.path().join("entry-1");
    let changed = fs::read_to_string(&entry).unwrap().replacen("\"v\":1", "\"v\":2", 1);
    fs::write(entry, changed).unwrap();
    assert_ne!(String::from_utf8_lossy(&run().stdout), block("text"), "the control: a changed entry is seen");
}

#[test]
fn the_worked_examples_proof_is_believed() {
    let read = |name: &str| fs::read(docs().join("example").join(name)).unwrap();
    let text = |name: &str| String::from_utf8(read(name)).unwrap();
    let trust: Trust = text("log.pub").parse().unwrap();
    let proven = EntryProof::parse(&text("proof")).unwrap().verify(&read("entry-1"), &trust).unwrap();
    assert_eq!((proven.index(), proven.checkpoint().size), (1, 2));
    let policy: Trust = text("policy").parse().unwrap();
    let cosigned = policy.open(&read("cosigned")).unwrap();
    assert_eq!(cosigned.cosigned[0].1.time(), Some(1_790_000_001));
    assert!(policy.open(&read("checkpoint")).is_err(), "the policy asks for the witness");
}
