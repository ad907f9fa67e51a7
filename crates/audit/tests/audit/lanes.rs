//! Hashing in lanes against the `sha2` crate, for every width that this processor has.

use proptest::prelude::*;
use sulku_audit::Hash;
use sulku_audit::lanes::{self, Lanes};
use sulku_audit::merkle::{leaf_hash, node_hash, sha256};

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + length) as u8).collect()
}

fn refs(messages: &[Vec<u8>]) -> Vec<&[u8]> {
    messages.iter().map(Vec::as_slice).collect()
}

fn assert_same(messages: &[Vec<u8>]) {
    let messages = refs(messages);
    let leaves: Vec<Hash> = messages.iter().map(|message| leaf_hash(message)).collect();
    let digests: Vec<Hash> = messages.iter().map(|message| sha256(&[message])).collect();
    for lanes in Lanes::all() {
        assert_eq!(lanes.leaf_hashes(&messages), leaves, "{lanes:?}");
        assert_eq!(lanes.digests(&messages), digests, "{lanes:?}");
    }
    assert_eq!(lanes::leaf_hashes(&messages), leaves);
    assert_eq!(lanes::digests(&messages), digests);
}

#[test]
fn messages_of_every_length_hash_as_sha2_hashes_them() {
    for length in 0..=300 {
        assert_same(&vec![bytes(length); 17]);
    }
    assert_same(&(0..=300).map(bytes).collect::<Vec<_>>());
    assert_same(&(0..=300).rev().map(bytes).collect::<Vec<_>>());
    assert_same(&[1 << 20, 0, 65_535, 55, 56, 63, 64, 65, 119, 120].map(bytes));
}

#[test]
fn any_number_of_messages_is_hashed_each_in_its_place() {
    for count in 0..70 {
        assert_same(&(0..count).map(|number| bytes(number * 37 % 300)).collect::<Vec<_>>());
    }
}

#[test]
fn rows_of_nodes_hash_as_their_pairs_do() {
    let row: Vec<Hash> = (0..300_usize).map(|number| sha256(&[&number.to_be_bytes()])).collect();
    for width in 0..=300 {
        let expected: Vec<Hash> = row[..width].chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        for lanes in Lanes::all() {
            assert_eq!(lanes.node_hashes(&row[..width]), expected, "{lanes:?}, {width} nodes");
        }
        assert_eq!(lanes::node_hashes(&row[..width]), expected);
    }
}

/// The control of all the others: where the vector units are, they are what is compared.
#[test]
#[cfg(target_arch = "x86_64")]
fn every_vector_unit_of_this_processor_takes_part() {
    let widths: Vec<usize> = Lanes::all().map(Lanes::count).collect();
    assert_eq!(widths.contains(&8), std::is_x86_feature_detected!("avx2"));
    assert_eq!(widths.contains(&16), std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bw"));
    assert!(Lanes::all().any(|lanes| lanes == Lanes::best()));
}

proptest! {
    #[test]
    fn mixed_messages_hash_as_sha2_hashes_them(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..50)) {
        assert_same(&messages);
    }
}
