//! A log on the disk whose entry `n` is `entry n`, with a checkpoint of every size that is looked at.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use sulku_audit::merkle::{self, Hash, Nodes, leaf_hash, node_hash};
use sulku_audit::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};
use sulku_audit::{Checkpoint, LogSigner};

pub const ORIGIN: &str = "interop.example/audit";
const TIME: u64 = 1_790_000_000;
const LARGEST: u64 = 65_537;

/// Every size from 0 to 600, and around the full tile of the third level.
pub fn sizes() -> impl Iterator<Item = u64> {
    (0..=600).chain(65_535..=LARGEST)
}

pub fn signer() -> LogSigner {
    LogSigner::from_seeds(ORIGIN, &[1; 32], &[2; 32]).unwrap()
}

pub fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// The log's folder: `tile/…`, `sizes/<size>` with a checkpoint each, `ed25519.pub`. Made once.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(make).path()
}

fn make() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("ed25519.pub", format!("{}\n", signer().own_keys().keys()[0]).as_bytes());
    let (mut tree, mut bundle) = (TiledTree::default(), Vec::new());
    let mut wanted = sizes().peekable();
    while let Some(size) = wanted.peek() {
        if tree.size() == *size {
            if let Some(tile) = Tile::in_tree(TileKind::Entries, size / TILE_WIDTH, *size) {
                write(&tile.to_string(), &bundle);
            }
            tree.partial().for_each(|(tile, hashes)| write(&tile.to_string(), &tile::encode_hashes(hashes)));
            write(&format!("sizes/{size}"), signer().sign(&checkpoint(&tree), TIME).as_bytes());
            wanted.next();
            continue;
        }
        let bytes = entry(tree.size());
        tile::push_entry(&mut bundle, &bytes).unwrap();
        tree.push(leaf_hash(&bytes));
        if tree.size().is_multiple_of(TILE_WIDTH) {
            let tile = Tile::in_tree(TileKind::Entries, tree.size() / TILE_WIDTH - 1, tree.size()).unwrap();
            write(&tile.to_string(), &std::mem::take(&mut bundle));
        }
        tree.take_full().iter().for_each(|(tile, hashes)| write(&tile.to_string(), &tile::encode_hashes(hashes)));
    }
    folder
}

fn checkpoint(tree: &TiledTree) -> Checkpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size: tree.size(), root: tree.root() }
}

/// All leaves, for proofs that are made without tiles.
pub struct Leaves(pub Vec<Hash>);

impl Leaves {
    pub fn of(size: u64) -> Self {
        Self((0..size).map(|index| leaf_hash(&entry(index))).collect())
    }
}

impl Nodes for Leaves {
    type Error = std::convert::Infallible;
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let begin = usize::try_from(index << level).unwrap();
        let mut row = self.0[begin..begin + (1 << level)].to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(row[0])
    }
}

pub fn root(size: u64) -> Hash {
    merkle::root(&mut Leaves::of(size), size).unwrap()
}
