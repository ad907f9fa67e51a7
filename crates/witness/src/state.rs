//! What a witness knows, on its disk: of each log the checkpoint that it cosigned last, and what showed that a log lied.
//!
//! ```text
//! lock                                   flock: one witness a folder
//! logs/<SHA-256 of the origin>/cosigned  the last checkpoint, as the log signed it, with the witness's own cosignatures
//! evidence/<SHA-256 of the origin>/<time>-<kind>-<hash>.known       what was known then
//!                                        <time>-<kind>-<hash>.shown the request that does not fit it
//! ```
//!
//! Forgets nothing and goes back never: a state is on the disk before its cosignature leaves, and one lock for each log keeps two
//! requests apart. That the whole folder was put back to an older copy shows only when somebody brings a newer cosignature of ours.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FlockOperation;
use sulku_audit::checkpoint::CheckpointError;
use sulku_audit::merkle::sha256;
use sulku_audit::note::{NOTE_BYTES_MAX, Note};
use sulku_audit::witness::{AddCheckpoint, Evidence, Refusal, decide};
use sulku_audit::{Checkpoint, PublicKey, SecretKey, Trust};

use crate::files::{FileError, at, create_folder, read, replace};

/// Pieces of evidence of one log that are kept. One is enough to convict; more are for whoever wants to see how it went on.
const EVIDENCE_PER_LOG_MAX: usize = 256;
const COSIGNED: &str = "cosigned";

/// A state that can't be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another witness has the folder.
    #[error("another witness writes to {0}; stop it first, or give this one its own directory")]
    Locked(PathBuf),
    /// A stored checkpoint is not one, or not of its log.
    #[error(
        "{0} is not what this witness wrote: {1}; restore it from a copy that is not older, or ask the log's auditors for the last cosigned checkpoint"
    )]
    Damaged(PathBuf, CheckpointError),
}

/// The witness's memory.
pub struct State {
    directory: PathBuf,
    logs: BTreeMap<String, Kept>,
    own: Vec<PublicKey>,
    _lock: fs::File,
}

struct Kept {
    trusted: Vec<Trust>,
    folder: PathBuf,
    last: Mutex<Option<Vec<u8>>>,
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is cosigned and on the disk; these are the lines.
    Cosigned(String),
    /// It is not.
    Refused(Refusal),
}

impl State {
    /// Reads the state in this folder, or begins one.
    ///
    /// # Errors
    /// It can't be read, or is another witness's.
    pub fn open(directory: &Path, trusted: Vec<Trust>, keys: &[SecretKey]) -> Result<Self, StateError> {
        create_folder(directory)?;
        let lock_path = directory.join("lock");
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(at(&lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => StateError::Locked(directory.to_owned()),
            errno => at(&lock_path)(errno.into()).into(),
        })?;
        let mut logs: BTreeMap<String, Kept> = BTreeMap::new();
        for trust in trusted {
            let origin = trust.origin().to_owned();
            if let Some(kept) = logs.get_mut(&origin) {
                kept.trusted.push(trust);
                continue;
            }
            let folder = directory.join("logs").join(name_of(&origin));
            create_folder(&folder)?;
            let path = folder.join(COSIGNED);
            let last = read(&path, NOTE_BYTES_MAX as u64)?;
            if let Some(note) = &last {
                parse(note, &origin).map_err(|error| StateError::Damaged(path, error))?;
            }
            logs.insert(origin, Kept { trusted: vec![trust], folder, last: Mutex::new(last) });
        }
        let own = keys.iter().map(|key| key.public().clone()).collect();
        Ok(Self { directory: directory.to_owned(), logs, own, _lock: lock })
    }

    /// Decides on a request, makes the new state durable, and cosigns. `time` is in seconds since 1970.
    ///
    /// # Errors
    /// The disk failed; nothing was cosigned.
    pub fn add_checkpoint(&self, request: &AddCheckpoint<'_>, body: &[u8], keys: &[SecretKey], time: u64) -> Result<Outcome, FileError> {
        let Some(kept) = self.logs.get(request.origin()) else {
            return Ok(Outcome::Refused(Refusal::UnknownLog));
        };
        // Held until the new state is on the disk: a second request decides from it, never from the same one.
        let mut last = kept.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.as_deref().and_then(|note| parse(note, request.origin()).ok());
        match decide(request, &kept.trusted, known.as_ref(), &self.own) {
            Ok(advance) => {
                if let Some(size) = advance.restored() {
                    tracing::error!(
                        size,
                        known = known.map_or(0, |known| known.size),
                        "this witness cosigned more once than it knows: its state was put back"
                    );
                    keep_evidence(&self.directory, request.origin(), "restored", last.as_deref(), body, time)?;
                }
                let lines = advance.cosign(keys, time);
                // It was parsed before, so this can't fail; if it did, nothing would be cosigned.
                let note = Note::parse(request.note()).map_err(|error| at(&kept.folder)(io::Error::other(error)))?;
                let note = with_own(&note, &kept.trusted, &lines);
                replace(&kept.folder.join(COSIGNED), &note)?;
                *last = Some(note);
                Ok(Outcome::Cosigned(lines))
            }
            Err(refusal) => {
                let kind = match refusal.evidence() {
                    Evidence::None => return Ok(Outcome::Refused(refusal)),
                    Evidence::Suspicion => "suspicion",
                    Evidence::Fork => "fork",
                };
                tracing::error!(origin = request.origin(), kind, %refusal, "a log has signed what does not follow from what it signed before");
                keep_evidence(&self.directory, request.origin(), kind, last.as_deref(), body, time)?;
                Ok(Outcome::Refused(refusal))
            }
        }
    }

    /// The last checkpoint of a log, with this witness's cosignatures.
    #[must_use]
    pub fn last(&self, origin: &str) -> Option<Vec<u8>> {
        self.logs.get(origin)?.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps what was known and what does not fit it, once.
pub(crate) fn keep_evidence(directory: &Path, origin: &str, kind: &str, known: Option<&[u8]>, shown: &[u8], time: u64) -> Result<(), FileError> {
    let folder = directory.join("evidence").join(name_of(origin));
    create_folder(&folder)?;
    let hash = sha256(&[known.unwrap_or_default(), shown]).to_string();
    let (mut count, mut there) = (0, false);
    for entry in fs::read_dir(&folder).map_err(at(&folder))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        count += usize::from(name.ends_with(".shown"));
        there |= name.ends_with(&format!("{}.shown", &hash[..16]));
    }
    if there || count >= EVIDENCE_PER_LOG_MAX {
        return Ok(());
    }
    let name = format!("{time}-{kind}-{}", &hash[..16]);
    // The second file is what makes it a piece: it is not there without the first.
    replace(&folder.join(format!("{name}.known")), known.unwrap_or_default())?;
    replace(&folder.join(format!("{name}.shown")), shown)
}

/// A piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// When it came, in seconds since 1970.
    pub time: u64,
    /// `fork`, `suspicion` or `restored`.
    pub kind: String,
    /// The last checkpoint at that time, as a note; empty if there was none.
    pub known: PathBuf,
    /// The request that does not fit it.
    pub shown: PathBuf,
}

/// The evidence in a witness's folder, oldest first.
///
/// # Errors
/// The folder can't be read.
pub fn evidence(directory: &Path) -> Result<Vec<Piece>, FileError> {
    let mut pieces = Vec::new();
    let top = directory.join("evidence");
    if !top.exists() {
        return Ok(pieces);
    }
    for log in fs::read_dir(&top).map_err(at(&top))?.flatten() {
        for entry in fs::read_dir(log.path()).map_err(at(&log.path()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut parts = name.strip_suffix(".shown").unwrap_or_default().splitn(3, '-');
            if let (Some(Ok(time)), Some(kind), Some(_)) = (parts.next().map(str::parse), parts.next(), parts.next()) {
                let shown = entry.path();
                pieces.push(Piece { time, kind: kind.to_owned(), known: shown.with_extension("known"), shown });
            }
        }
    }
    pieces.sort_by(|a, b| (a.time, &a.shown).cmp(&(b.time, &b.shown)));
    Ok(pieces)
}

pub(crate) fn name_of(origin: &str) -> String {
    sha256(&[origin.as_bytes()]).to_string()
}

/// A stored note's checkpoint. Its signatures were verified before it was stored.
fn parse(note: &[u8], origin: &str) -> Result<Checkpoint, CheckpointError> {
    let checkpoint = Checkpoint::of_note(&Note::parse(note)?)?;
    if checkpoint.origin == origin { Ok(checkpoint) } else { Err(CheckpointError::Origin { expected: origin.to_owned(), found: checkpoint.origin }) }
}

/// The note with the log's own signatures and these cosignatures, each key's once: what others added is not kept, so that a note never
/// grows beyond its bound.
pub(crate) fn with_own(note: &Note<'_>, trusted: &[Trust], lines: &str) -> Vec<u8> {
    let mut missing: Vec<String> = trusted.iter().flat_map(Trust::log_keys).map(PublicKey::short).collect();
    let mut kept = format!("{}\n", note.text());
    for line in note.lines() {
        let short = format!("{}+{:08x}", line.name, u32::from_be_bytes(line.hash));
        if let Some(at) = missing.iter().position(|key| *key == short) {
            missing.swap_remove(at);
            kept += &format!("{}\n", line.line);
        }
    }
    (kept + lines).into_bytes()
}
