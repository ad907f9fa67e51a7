//! Cloudflare's `signed_note` and `tlog_tiles`.

use std::fs;

use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash, HashReader as _, Tile, TileHashReader, TileReader, check_record, check_tree, prove_record, prove_tree};

use crate::log::{ORIGIN, folder, signer, sizes};

struct Tiles;

impl TileReader for Tiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &Tile| {
            let kind = sulku_audit::tile::TileKind::Hashes(tile.level());
            let width = u16::try_from(tile.width()).unwrap();
            let ours = sulku_audit::tile::Tile { kind, number: tile.level_index(), width };
            let partial = fs::read(folder().join(ours.to_string()));
            let mut bytes = partial.or_else(|_| fs::read(folder().join(ours.when_full().to_string()))).unwrap();
            bytes.truncate(usize::from(width) * 32);
            bytes
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[test]
fn cloudflares_crates_verify_every_size() {
    let verifier = StandardVerifier::new(&signer().own_keys().keys()[0].to_string()).unwrap();
    let known = VerifierList::new(vec![Box::new(verifier)]);
    let open = |size: u64| {
        let note = Note::from_bytes(&fs::read(folder().join(format!("sizes/{size}"))).unwrap()).unwrap();
        let (verified, unknown) = note.verify(&known).unwrap();
        assert_eq!((verified.len(), unknown.len()), (1, 1), "Ed25519 is checked, ML-DSA-44 is passed over");
        let checkpoint = Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!((checkpoint.origin(), checkpoint.size()), (ORIGIN, size));
        *checkpoint.hash()
    };
    let largest = sizes().last().unwrap();
    let largest_root: Hash = open(largest);
    let all = TileHashReader::new(largest, largest_root, &Tiles);
    for size in sizes() {
        let root = open(size);
        let reader = TileHashReader::new(size, root, &Tiles);
        assert_eq!(tlog_tiles::tree_hash(size, &reader).unwrap(), root, "{size}");
        if size == 0 {
            continue;
        }
        for index in [0, size / 2, size - 1] {
            let leaf = reader.read_hashes(&[tlog_tiles::stored_hash_index(0, index)]).unwrap()[0];
            assert_eq!(leaf, tlog_tiles::record_hash(&crate::log::entry(index)));
            check_record(&prove_record(size, index, &reader).unwrap(), size, root, index, leaf).unwrap();
        }
        check_tree(&prove_tree(largest, size, &all).unwrap(), largest, largest_root, size, root).unwrap();
    }
}
