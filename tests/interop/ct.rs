//! `ct-merkle`, a second tree of RFC 6962.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2_of_ct_merkle::Sha256;
use sulku_audit::Hash;
use sulku_audit::merkle::{consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion};

use crate::log::{Leaves, entry, root};

const UP_TO: u64 = 130;

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[test]
fn every_root_and_proof_up_to_130_is_that_of_ct_merkle_and_no_changed_one_is_believed() {
    let mut leaves = Leaves::of(UP_TO);
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for n in 1..=UP_TO {
        tree.push(entry(n - 1));
        let new_root = root(n);
        assert_eq!(tree.root().as_bytes().as_slice(), new_root.as_bytes(), "{n}");
        for m in 0..n {
            let proof = inclusion_proof(&mut leaves, m, n).unwrap();
            assert_eq!(bytes(&proof), tree.prove_inclusion(usize::try_from(m).unwrap()).as_bytes(), "entry {m} of {n}");
            let believed = |index, size, proof: &[Hash]| verify_inclusion(&leaf_hash(&entry(m)), index, size, &new_root, proof).is_ok();
            assert!(believed(m, n, &proof));
            for changed in changes(&proof) {
                assert!(!believed(m, n, &changed), "entry {m} of {n}");
            }
            assert!(!believed((m + 1) % n, n, &proof) || n == 1, "another place");
            if m == 0 {
                continue;
            }
            let proof = consistency_proof(&mut leaves, m, n).unwrap();
            assert_eq!(bytes(&proof), tree.prove_consistency(usize::try_from(n - m).unwrap()).as_bytes(), "{m} to {n}");
            let old_root = root(m);
            let believed = |old_root: &Hash, proof: &[Hash]| verify_consistency(m, old_root, n, &new_root, proof).is_ok();
            assert!(believed(&old_root, &proof));
            for changed in changes(&proof) {
                assert!(!believed(&old_root, &changed), "{m} to {n}");
            }
            assert!(!believed(&leaf_hash(b"another"), &proof), "another old tree");
        }
    }
}

/// A proof with a bit changed in each hash, with each hash missing, with each twice, and with one too many.
fn changes(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut changed = vec![[proof, &[leaf_hash(b"surplus")]].concat()];
    for at in 0..proof.len() {
        let mut flipped = *proof[at].as_bytes();
        flipped[at % 32] ^= 1 << (at % 8);
        let mut with = proof.to_vec();
        with[at] = Hash::from_bytes(flipped);
        changed.push(with);
        changed.push([&proof[..at], &proof[at + 1..]].concat());
        changed.push([&proof[..=at], &proof[at..]].concat());
        if at > 0 && proof[at] != proof[at - 1] {
            let mut swapped = proof.to_vec();
            swapped.swap(at, at - 1);
            changed.push(swapped);
        }
    }
    changed
}
