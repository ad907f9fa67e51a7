//! The tree and its proofs.

use std::convert::Infallible;

use proptest::prelude::*;
use sulku_audit::Hash;
use sulku_audit::merkle::{
    MerkleError, Nodes, consistency_proof, empty_root, inclusion_proof, leaf_hash, root, verify_consistency, verify_inclusion,
};
use sulku_audit::tile::TiledTree;

use crate::support::plain_root;

/// The tests of Certificate Transparency's reference implementation: eight leaves and the roots over the first n of them.
const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

struct Leaves(Vec<Hash>);

impl Nodes for Leaves {
    type Error = Infallible;
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let (begin, end) = ((index << level) as usize, ((index + 1) << level) as usize);
        Ok(plain_root(&self.0[begin..end]))
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
}

fn hashes(texts: &[&str]) -> Vec<Hash> {
    texts.iter().map(|text| Hash::from_hex(text).unwrap()).collect()
}

#[test]
fn roots_are_those_of_the_reference_implementation() {
    let all: Vec<Hash> = LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect();
    assert_eq!(empty_root().to_string(), ROOTS[0]);
    let mut tree = TiledTree::default();
    for (size, expected) in ROOTS.iter().enumerate() {
        assert_eq!(root(&mut Leaves(all.clone()), size as u64).unwrap().to_string(), *expected);
        assert_eq!(tree.root().to_string(), *expected, "grown to {size}");
        if let Some(leaf) = all.get(size) {
            tree.push(*leaf);
        }
    }
}

#[test]
fn proofs_are_those_of_the_reference_implementation() {
    let mut nodes = Leaves(LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect());
    let first_of_eight = hashes(&[
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]);
    let six_to_eight = hashes(&[
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]);
    assert_eq!(inclusion_proof(&mut nodes, 0, 8).unwrap(), first_of_eight);
    assert_eq!(consistency_proof(&mut nodes, 1, 8).unwrap(), first_of_eight);
    assert_eq!(consistency_proof(&mut nodes, 6, 8).unwrap(), six_to_eight);
}

#[test]
fn every_entry_of_every_tree_up_to_64_is_proven_and_nothing_else_is() {
    let all = leaves(64);
    for size in 1..=64_u64 {
        let tree_root = plain_root(&all[..size as usize]);
        for index in 0..size {
            let proof = inclusion_proof(&mut Leaves(all.clone()), index, size).unwrap();
            let leaf = &all[index as usize];
            let included = verify_inclusion(leaf, index, size, &tree_root, &proof).unwrap();
            assert_eq!((included.index(), included.size()), (index, size));
            let other = if index == 0 { size - 1 } else { index - 1 };
            assert!(other == index || verify_inclusion(leaf, other, size, &tree_root, &proof).is_err(), "at another place");
            assert!(verify_inclusion(&leaf_hash(b"another"), index, size, &tree_root, &proof).is_err(), "another entry");
            assert!(verify_inclusion(leaf, index, size, &leaf_hash(b"another"), &proof).is_err(), "another root");
            for_each_mutation(&proof, |mutated| assert!(verify_inclusion(leaf, index, size, &tree_root, mutated).is_err()));
        }
        assert_eq!(verify_inclusion(&all[0], size, size, &tree_root, &[]), Err(MerkleError::OutOfRange(size, size)));
    }
}

#[test]
fn every_tree_up_to_64_continues_every_smaller_one_and_no_other() {
    let all = leaves(64);
    for new in 0..=64_u64 {
        let new_root = plain_root(&all[..new as usize]);
        for old in 0..=new {
            let old_root = plain_root(&all[..old as usize]);
            let proof = consistency_proof(&mut Leaves(all.clone()), old, new).unwrap();
            assert_eq!(verify_consistency(old, &old_root, new, &new_root, &proof).unwrap().sizes(), (old, new));
            let other = leaf_hash(b"another");
            assert!(verify_consistency(old, &other, new, &new_root, &proof).is_err(), "another beginning, {old} of {new}");
            assert!(old == 0 || verify_consistency(old, &old_root, new, &other, &proof).is_err(), "another end, {old} of {new}");
            for_each_mutation(&proof, |mutated| {
                assert!(verify_consistency(old, &old_root, new, &new_root, mutated).is_err(), "{old} of {new}");
            });
        }
    }
    assert!(verify_consistency(3, &empty_root(), 2, &empty_root(), &[]).is_err(), "a tree does not shrink");
}

/// A hash changed, left out, doubled, or two exchanged.
fn for_each_mutation(proof: &[Hash], mut check: impl FnMut(&[Hash])) {
    for at in 0..proof.len() {
        let mut changed = proof.to_vec();
        let mut bytes = *changed[at].as_bytes();
        bytes[at % 32] ^= 1;
        changed[at] = Hash::from_bytes(bytes);
        check(&changed);
        let mut shorter = proof.to_vec();
        shorter.remove(at);
        check(&shorter);
        let mut longer = proof.to_vec();
        longer.insert(at, proof[at]);
        check(&longer);
        if at > 0 {
            let mut exchanged = proof.to_vec();
            exchanged.swap(at - 1, at);
            check(&exchanged);
        }
    }
    let mut longer = proof.to_vec();
    longer.push(Hash::from_bytes([0; 32]));
    check(&longer);
}

#[test]
fn a_tree_that_grows_over_tile_borders_keeps_the_plain_root() {
    let mut tree = TiledTree::default();
    let all = leaves(65_537);
    for (at, leaf) in all.iter().enumerate() {
        tree.push(*leaf);
        let size = at + 1;
        if [255, 256, 257, 511, 512, 513, 600, 65_535, 65_536, 65_537].contains(&size) {
            assert_eq!(tree.root(), plain_root(&all[..size]), "{size} entries");
        }
    }
    let full: Vec<String> = tree.take_full().iter().map(|(tile, _)| tile.to_string()).collect();
    assert_eq!(full.len(), 257);
    assert_eq!(full.last().unwrap(), "tile/1/000");
    let partial: Vec<String> = tree.partial().map(|(tile, _)| tile.to_string()).collect();
    assert_eq!(partial, ["tile/0/256.p/1", "tile/2/000.p/1"]);
}

proptest! {
    #[test]
    fn no_proof_makes_the_check_panic(index: u64, size: u64, bytes in prop::collection::vec(any::<[u8; 32]>(), 0..70)) {
        let proof: Vec<Hash> = bytes.into_iter().map(Hash::from_bytes).collect();
        prop_assert!(verify_inclusion(&empty_root(), index, size, &empty_root(), &proof).is_err());
        if 0 < index && index < size {
            prop_assert!(verify_consistency(index, &empty_root(), size, &empty_root(), &proof).is_err());
        }
    }
}
