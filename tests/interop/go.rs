//! Go's `sumdb/note` and `sumdb/tlog`, from Debian.

use std::path::{Path, PathBuf};
use std::process::Command;

use sulku_audit::Hash;
use sulku_audit::merkle::{consistency_proof, inclusion_proof};

use crate::log::{Leaves, folder, root, sizes};

fn go(mode: &str) -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let output = Command::new("go")
        .args(["run"])
        .arg(workspace.join("tests/peers/sumdb.go"))
        .arg(folder())
        .arg(mode)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", std::path::absolute(target.join("go-cache")).unwrap())
        .output()
        .expect("Go is needed: apt-get install golang-go golang-golang-x-mod-dev");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Checkpoints, roots, tiles, entries, and proofs from each size to the largest.
#[test]
fn go_verifies_every_size() {
    assert_eq!(go("log").trim(), format!("verified {}", sizes().count()));
}

#[test]
fn every_proof_up_to_130_is_gos() {
    let (mut leaves, mut compared) = (Leaves::of(130), 0);
    for line in go("proofs").lines() {
        let mut words = line.split(' ');
        let (kind, m, n) = (words.next().unwrap(), words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
        let theirs: Vec<Hash> = words.map(|hash| Hash::from_base64(hash).unwrap()).collect();
        let ours = match kind {
            "root" => vec![root(n)],
            "inclusion" => inclusion_proof(&mut leaves, m, n).unwrap(),
            _ => consistency_proof(&mut leaves, m, n).unwrap(),
        };
        assert_eq!(ours, theirs, "{kind} {m} {n}");
        compared += 1;
    }
    assert_eq!(compared, 130 + 130 * 131 / 2 + 129 * 130 / 2);
}
