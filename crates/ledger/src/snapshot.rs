//! Where the log stood at some size: counters and the tree's edge, so that a start need not read what was before.
//!
//! ```text
//! snapshot   u32 length of the note   note   body: JSON
//! note       sulku-snapshot/1\n<origin>\n<entries>\n<root, base64>\n<SHA-256 of the body, hexadecimal>\n, signed by the log's Ed25519 key
//! ```
//!
//! Only of sizes that a signed head covers. Proves nothing to anybody else: the log is the truth, and when this file is missing all of it is
//! read. One that contradicts the log, or that somebody else wrote, is not used and not passed over.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sulku_audit::merkle::sha256;
use sulku_audit::tile::{TILE_WIDTH, TiledTree};
use sulku_audit::{Counters, Hash, LogSigner};

use crate::disk::Disk;
use crate::files::{FileError, replace};
use crate::recover::RecoverError;

const FILE: &str = "snapshot";
const TITLE: &str = "sulku-snapshot/1";

/// Where the log stood. Its size is a multiple of a bundle's, so that no bundle is unfinished.
pub(crate) struct Snapshot {
    pub(crate) tree: TiledTree,
    pub(crate) counters: Counters,
    pub(crate) rotated_to: Option<Vec<String>>,
    pub(crate) signed_by: SignedBy,
}

/// Which of the log's keys signed a snapshot, while one is being replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignedBy {
    /// The one that signs from now on.
    Current,
    /// The one that is being replaced: soon nobody knows it any more.
    Previous,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<C> {
    /// The unfinished tile of each level, as hexadecimal hashes.
    edge: Vec<Vec<String>>,
    counters: C,
    rotated_to: Option<Vec<String>>,
}

/// A snapshot that was taken, and is written when a signed head covers it.
pub(crate) struct Taken {
    pub(crate) size: u64,
    bytes: Vec<u8>,
}

impl Taken {
    /// Takes a snapshot. Its time and memory grow with the number of permits and sessions.
    pub(crate) fn new(signer: &LogSigner, tree: &TiledTree, counters: &Counters, rotated_to: Option<&Vec<String>>) -> Option<Self> {
        let edge = tree.unfinished().iter().map(|hashes| hashes.iter().map(ToString::to_string).collect()).collect();
        let body = serde_json::to_vec(&Body { edge, counters, rotated_to: rotated_to.cloned() }).ok()?;
        let note = signer.receipts().sign_note(&text(signer.origin(), tree.size(), &tree.root(), &body));
        let mut bytes = u32::try_from(note.len()).ok()?.to_be_bytes().to_vec();
        bytes.extend_from_slice(note.as_bytes());
        bytes.extend_from_slice(&body);
        Some(Self { size: tree.size(), bytes })
    }

    /// Puts it in the place of the one before.
    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), FileError> {
        replace(disk, &directory.join(FILE), &self.bytes)
    }
}

fn text(origin: &str, size: u64, root: &Hash, body: &[u8]) -> String {
    format!("{TITLE}\n{origin}\n{size}\n{}\n{}\n", root.to_base64(), sha256(&[body]))
}

/// Reads the snapshot, if there is one.
///
/// # Errors
/// It is not one, not this log's, or larger than what was signed.
pub(crate) fn read(disk: &dyn Disk, directory: &Path, signer: &LogSigner, signed: u64) -> Result<Option<Snapshot>, RecoverError> {
    let path = directory.join(FILE);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::Io(path, error).into()),
    };
    match parse(&bytes, signer) {
        Some(snapshot) if snapshot.tree.size() > signed => Err(RecoverError::Smaller { found: signed, signed: snapshot.tree.size() }),
        Some(snapshot) => Ok(Some(snapshot)),
        None => Err(refused(path)),
    }
}

/// Why a log with this snapshot does not start.
pub(crate) fn refused(path: PathBuf) -> RecoverError {
    RecoverError::Snapshot(path)
}

/// The path of the snapshot.
pub(crate) fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

fn parse(bytes: &[u8], signer: &LogSigner) -> Option<Snapshot> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (note, body) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let signers = std::iter::once(signer).chain(signer.previous());
    let verifiers: Vec<_> = signers.map(|signer| signer.receipts().verifier()).collect();
    let (by, signed) = verifiers.iter().enumerate().find_map(|(by, verifier)| Some((by, verifier.open(note).ok()?)))?;
    let signed_by = if by == 0 { SignedBy::Current } else { SignedBy::Previous };
    let size: u64 = signed.lines().nth(2)?.parse().ok()?;
    let Body { edge, counters, rotated_to } = serde_json::from_slice::<Body<Counters>>(body).ok()?;
    let edge = edge.iter().map(|hashes| hashes.iter().map(|hash| Hash::from_hex(hash)).collect()).collect::<Option<_>>()?;
    let tree = TiledTree::resume(size, edge)?;
    let is_right = size.is_multiple_of(TILE_WIDTH) && size > 0 && signed == text(signer.origin(), size, &tree.root(), body);
    is_right.then_some(Snapshot { tree, counters, rotated_to, signed_by })
}
