//! Makes a long log in a folder, quickly: `cargo run --release -p sulku-ledger --example make_log -- FOLDER ENTRIES`.
//!
//! For measuring what reads logs. The entries are of the kinds and sizes of a running environment: sessions that open, are shown
//! output, are denied egress and close. It is a real log, signed with a key that everybody knows; FOLDER.pub is its public half.
//! Nothing is synced: it is not how a ledger keeps entries.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sulku_audit::lanes::leaf_hashes;
use sulku_audit::merkle::sha256;
use sulku_audit::personal::{KeyFile, Scope};
use sulku_audit::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};
use sulku_audit::{Body, Checkpoint, CloseReason, Counters, Draft, Event, Hash, LogSigner, PersonalKey, Stamp, WhyDenied};
use sulku_permit::{HolderId, PermitId, SessionId};

const PERMITS: u64 = 40;
const PERSONS: u64 = 200;
/// Entries from a session's opening to its closing, both included.
const SESSION_ENTRIES: u64 = 100;
/// 2026-01-01, in microseconds.
const BEGIN_US: i64 = 1_767_225_600_000_000;
/// Between two entries, in microseconds: ten million are 23 days.
const PACE_US: i64 = 200_000;
const ORIGIN: &str = "made.example/audit";

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(entries)) = (args.next(), args.next().and_then(|entries| entries.parse().ok())) else {
        return Err(io::Error::other("usage: make_log FOLDER ENTRIES"));
    };
    make(Path::new(&folder), entries)
}

/// The key that signs made logs.
pub fn signer() -> LogSigner {
    LogSigner::from_seeds(ORIGIN, &[1; 32], &[2; 32]).expect("the name is one")
}

/// Makes the log. Two of the same size have the same bytes.
///
/// # Errors
/// The folder can't be written.
pub fn make(folder: &Path, entries: u64) -> io::Result<()> {
    let mut files = Files { folder, made: HashSet::new() };
    let (mut tree, mut counters) = (TiledTree::default(), Counters::default());
    for first in (0..entries).step_by(TILE_WIDTH as usize) {
        let documents: Vec<Vec<u8>> = (first..entries.min(first + TILE_WIDTH)).map(|number| document(&mut counters, number)).collect();
        let mut bundle = Vec::new();
        documents.iter().try_for_each(|document| tile::push_entry(&mut bundle, document)).map_err(io::Error::other)?;
        let leaves = leaf_hashes(&documents.iter().map(Vec::as_slice).collect::<Vec<_>>());
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        let tile = Tile::in_tree(TileKind::Entries, first / TILE_WIDTH, tree.size()).expect("it was just filled");
        files.write(tile, &bundle)?;
        for (tile, hashes) in tree.take_full() {
            files.write(tile, &tile::encode_hashes(&hashes))?;
        }
    }
    for (tile, hashes) in tree.partial() {
        files.write(tile, &tile::encode_hashes(hashes))?;
    }
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: tree.size(), root: tree.root() };
    fs::create_dir_all(folder)?;
    fs::write(folder.join("checkpoint"), signer().sign(&checkpoint, 1_790_000_000))?;
    fs::create_dir_all(folder.join("keys"))?;
    for permit in 0..PERMITS {
        let scope = Scope::Permit(permit_id(permit));
        let mut file = KeyFile::new(&scope, personal_key());
        let persons: Vec<_> = (0..PERSONS).map(holder).collect();
        let _new = file.add(&persons);
        fs::write(folder.join(scope.key_id().path()), file.to_text().as_bytes())?;
    }
    fs::write(folder.with_extension("pub"), signer().own_keys().to_string())
}

/// The key of every permit.
fn personal_key() -> PersonalKey {
    PersonalKey::from_random([2; 32])
}

fn permit_id(number: u64) -> PermitId {
    format!("MADE/{number}/2026").parse().expect("an id")
}

fn holder(number: u64) -> HolderId {
    format!("holder-{number}").parse().expect("an id")
}

struct Files<'f> {
    folder: &'f Path,
    made: HashSet<PathBuf>,
}

impl Files<'_> {
    fn write(&mut self, tile: Tile, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(tile.to_string());
        if let Some(parent) = path.parent().filter(|parent| !self.made.contains(*parent)) {
            fs::create_dir_all(parent)?;
            self.made.insert(parent.to_owned());
        }
        fs::write(path, bytes)
    }
}

fn document(counters: &mut Counters, number: u64) -> Vec<u8> {
    let draft = draft(number);
    let (permit_seq, session_seq) = counters.next(&draft);
    let time = jiff::Timestamp::from_microsecond(BEGIN_US + number as i64 * PACE_US).expect("within this century");
    let [salt @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *sha256(&[&number.to_be_bytes()]).as_bytes();
    let boot = "c2655b15-1d5c-4547-bf12-3c6eb65c8302".to_owned();
    let stamp = Stamp { time, mono_ns: number * 1000, boot, permit_seq, session_seq, salt };
    counters.count(&draft, time).expect("no made entry is out of order");
    let nonce = *sha256(&[b"nonce", &number.to_be_bytes()]).as_bytes().first_chunk().expect("a hash is longer than a nonce");
    let body = Body::new(&draft, &personal_key(), &nonce);
    body.and_then(|body| body.encode(&stamp)).expect("no made entry is long")
}

fn draft(number: u64) -> Draft {
    let (session, step) = (number / SESSION_ENTRIES, number % SESSION_ENTRIES);
    let permit = session % PERMITS;
    let digest: Hash = sha256(&[b"plan", &session.to_be_bytes()]);
    let event = match step {
        0 => Event::SessionOpened {
            from: IpAddr::from([192, 0, 2, (session % 250) as u8]).into(),
            transport: "quic".to_owned(),
            identity: format!("spiffe://made.example/{}", holder(session % PERSONS)).into(),
            at: format!("made-{permit}.toml:7"),
            command: None.into(),
            ends: jiff::Timestamp::from_second(1_900_000_000).expect("within this century"),
            plan: digest.to_string(),
            rung: "root".to_owned(),
            policy: "1 0".to_owned(),
            client: "0.1.0".to_owned().into(),
            stays_s: None,
            certificates: None.into(),
        },
        99 => Event::SessionClosed {
            from_part: 0,
            reason: CloseReason::HolderLeft,
            bytes_out: number,
            bytes_in: step,
            duration_ms: 60_000,
            exit_status: Some(0),
            chunks: 0,
            recorded_bytes: 0,
        },
        _ if step % 10 == 0 => Event::EgressDenied {
            protocol: 6,
            destination: [203, 0, 113, step as u8].into(),
            port: 443,
            suppressed: 0,
            source_port: Some(40_000),
            reason: Some(WhyDenied::NotListed),
            at: None,
            process: None,
            name: None.into(),
            program: None.into(),
        },
        _ if step % 10 == 1 => Event::SequenceRemoved { kind: "osc-52".to_owned(), count: step, bytes: 10 * step },
        _ => Event::EgressAllowed {
            protocol: sulku_permit::Protocol::Tcp,
            destination: [198, 51, 100, step as u8].into(),
            port: 5432,
            bytes_out: 1000 + step,
            bytes_in: number,
            at: format!("made-{permit}.toml:31"),
            duration_ms: None,
            process: None,
            name: None.into(),
            program: None.into(),
        },
    };
    let mut id = [0; 10];
    id[2..].copy_from_slice(&session.to_be_bytes());
    Draft { permit: Some(permit_id(permit)), session: Some(SessionId::from_random(id)), person: Some(holder(session % PERSONS)), event }
}
