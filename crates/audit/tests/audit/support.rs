//! A log in memory, made the way a ledger makes one.

use std::collections::BTreeMap;

use sulku_audit::entry::EntryError;
use sulku_audit::merkle::{leaf_hash, sha256};
use sulku_audit::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};
use sulku_audit::{Body, Checkpoint, Counters, Draft, Event, Hash, LogSigner, PersonalKey, Signer, Source, SourceError, Stamp, Trust};
use sulku_permit::{PermitId, SessionId};

pub const ORIGIN: &str = "test.example/audit";

/// When the log's checkpoints were signed.
pub const SIGNED_AT: u64 = 1_790_000_000;

/// What signs the log's receipts.
pub fn signer() -> Signer {
    Signer::from_seed(ORIGIN, &[7; 32]).unwrap()
}

/// What signs the log's checkpoints.
pub fn log_signer() -> LogSigner {
    LogSigner::from_seeds(ORIGIN, &[7; 32], &[8; 32]).unwrap()
}

pub fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

pub fn permit() -> PermitId {
    "THL/1/2026".parse().unwrap()
}

pub fn opened() -> Draft {
    let event = Event::SessionOpened {
        from: "192.0.2.7".parse::<std::net::IpAddr>().unwrap().into(),
        transport: "quic".to_owned(),
        identity: "spiffe://example/maija".to_owned().into(),
        at: "thl-1.toml:7".to_owned(),
        command: None.into(),
        ends: "2027-01-01T00:00:00Z".parse().unwrap(),
        plan: "0".repeat(64),
        rung: "root".to_owned(),
        policy: "1 0".to_owned(),
        client: "sulku \u{1b}[31m \"0.1.0\"".to_owned().into(),
        stays_s: None,
        certificates: None.into(),
    };
    Draft { permit: Some(permit()), session: Some(session(1)), person: Some("maija".parse().unwrap()), event }
}

pub fn acted(number: u64) -> Draft {
    Draft::new(Event::OperatorActed { action: number.to_string(), from: "192.0.2.8".parse::<std::net::IpAddr>().unwrap().into() })
}

pub fn chunk(chunk: u64, offset: u64, bytes: &[u8]) -> Draft {
    let event = Event::RecordingChunk {
        part: 0,
        chunk,
        offset,
        length: bytes.len() as u64,
        sha256: sha256(&[bytes]).to_string(),
        began_ms: chunk,
        ended_ms: chunk,
        lines: 1,
    };
    Draft { permit: Some(permit()), session: Some(session(1)), person: None, event }
}

pub fn stamp(number: u64, (permit_seq, session_seq): (Option<u64>, Option<u64>)) -> Stamp {
    let time = jiff::Timestamp::from_microsecond(1_790_000_000_000_000 + i64::try_from(number).unwrap()).unwrap();
    Stamp { time, mono_ns: number, boot: "c2655b15-1d5c-4547-bf12-3c6eb65c8302".to_owned(), permit_seq, session_seq, salt: [number as u8; 16] }
}

/// The key of every scope, and a nonce that only tests use twice.
pub fn personal_key() -> PersonalKey {
    PersonalKey::from_random([9; 32])
}

pub fn encode(draft: &Draft, stamp: &Stamp) -> Result<Vec<u8>, EntryError> {
    Body::new(draft, &personal_key(), &[8; 24])?.encode(stamp)
}

/// A log, or a damaged one.
#[derive(Clone, Default)]
pub struct Memory(pub BTreeMap<String, Vec<u8>>);

impl Source for Memory {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.0.get(path).cloned())
    }

    fn read_at(&mut self, path: &str, offset: u64, length: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let cut = |bytes: &Vec<u8>| bytes.iter().skip(offset as usize).take(length as usize).copied().collect();
        Ok(self.0.get(path).map(cut))
    }
}

/// The log of these entries' bytes.
pub fn log_of(entries: &[Vec<u8>]) -> Memory {
    let (mut files, mut tree, mut bundle) = (BTreeMap::new(), TiledTree::default(), Vec::new());
    for bytes in entries {
        tile::push_entry(&mut bundle, bytes).unwrap();
        tree.push(leaf_hash(bytes));
        if tree.size().is_multiple_of(TILE_WIDTH) {
            let tile = Tile::in_tree(TileKind::Entries, tree.size() / TILE_WIDTH - 1, tree.size()).unwrap();
            files.insert(tile.to_string(), std::mem::take(&mut bundle));
        }
    }
    for (tile, hashes) in tree.take_full() {
        files.insert(tile.to_string(), tile::encode_hashes(&hashes));
    }
    for (tile, hashes) in tree.partial() {
        files.insert(tile.to_string(), tile::encode_hashes(hashes));
    }
    if let Some(tile) = Tile::in_tree(TileKind::Entries, tree.size() / TILE_WIDTH, tree.size()) {
        files.insert(tile.to_string(), bundle);
    }
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: tree.size(), root: tree.root() };
    files.insert("checkpoint".to_owned(), log_signer().sign(&checkpoint, SIGNED_AT).into_bytes());
    Memory(files)
}

/// The entries of these drafts, with the counters that they get.
pub fn entries_of(drafts: impl IntoIterator<Item = Draft>) -> Vec<Vec<u8>> {
    let mut counters = Counters::default();
    let encode = |(number, draft): (u64, Draft)| {
        let stamp = stamp(number, counters.next(&draft));
        counters.count(&draft, stamp.time).unwrap();
        encode(&draft, &stamp).unwrap()
    };
    (0..).zip(drafts).map(encode).collect()
}

pub fn key() -> Trust {
    log_signer().own_keys().into()
}

/// The root by RFC 6962's own words, without tiles.
pub fn plain_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let mut split = 1;
            while split * 2 < leaves.len() {
                split *= 2;
            }
            sha256(&[&[1], plain_root(&leaves[..split]).as_bytes(), plain_root(&leaves[split..]).as_bytes()])
        }
    }
}
