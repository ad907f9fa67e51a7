//! The log's side: asks one witness to cosign a checkpoint, with the proof that it continues the one before.
//!
//! Remembers how many entries the witness has seen, and learns it from the witness where it does not know. Takes nothing at its word:
//! a cosignature counts when it verifies with the witness's configured keys. Decides nothing about what follows when there is none.

use sulku_audit::checkpoint::CheckpointError;
use sulku_audit::merkle::consistency_proof;
use sulku_audit::note::{Note, parse_lines};
use sulku_audit::source::{ReadError, TileNodes};
use sulku_audit::witness::{ADD_CHECKPOINT, encode};
use sulku_audit::{Checkpoint, PublicKey, Source};

use crate::https::{Answered, Https, HttpsError};

/// The longest answer: a few cosignature lines.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How often the old size is learnt anew for one checkpoint. Once is usual; more only when others ask the same witness meanwhile.
const CONFLICTS_MAX: usize = 3;

/// What a witness says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has cosigned: the lines of its configured keys, each verified, to be added to the note.
    Cosigned(String),
    /// It has seen more entries of this log than there are: the log was put back, or another one has its name.
    Ahead {
        /// Entries that it has cosigned.
        size: u64,
    },
    /// It has cosigned fewer entries than it did before: its own state was put back. It was told, and may cosign again next time.
    WentBack {
        /// Entries that it has cosigned, as it says.
        size: u64,
        /// Entries that it had cosigned.
        before: u64,
    },
    /// It holds that this log shows two histories.
    Forked {
        /// What it says.
        says: String,
    },
    /// It does not cosign for another reason.
    Refused {
        /// HTTP's status.
        status: u16,
        /// What it says.
        says: String,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The witness can't be reached.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The proof can't be made from the log's tiles.
    #[error("the proof for the witness could not be made")]
    Read(#[from] ReadError),
    /// The checkpoint is none.
    #[error("what should be cosigned is not a checkpoint")]
    Checkpoint(#[from] CheckpointError),
    /// The answer is not a witness's.
    #[error("{0} answers what no witness does: {1}")]
    Confused(String, &'static str),
}

/// A client of one witness, for one log.
pub struct Client {
    https: Https,
    keys: Vec<PublicKey>,
    seen: u64,
}

impl Client {
    /// A client of the witness at this address with these keys. `seen` is what it has cosigned as far as is known; 0 if nothing is.
    #[must_use]
    pub const fn new(https: Https, keys: Vec<PublicKey>, seen: u64) -> Self {
        Self { https, keys, seen }
    }

    /// Entries that the witness has cosigned, as far as is known.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Asks for a cosignature over this checkpoint; the proof is made from the log's tiles.
    ///
    /// # Errors
    /// There is no answer; asking again later is right.
    pub async fn cosign(&mut self, note: &str, source: &mut (dyn Source + Send)) -> Result<Answer, AskError> {
        let checkpoint = Checkpoint::of_note(&Note::parse(note.as_bytes()).map_err(CheckpointError::from)?)?;
        let before = self.seen;
        // An older checkpoint than it has seen can only be refused.
        let mut old = self.seen.min(checkpoint.size);
        for _ in 0..CONFLICTS_MAX {
            let proof = consistency_proof(&mut TileNodes::new(source, checkpoint.size), old, checkpoint.size)?;
            let body = encode(old, &proof, note).into_bytes();
            let answered = self.https.post(ADD_CHECKPOINT, body, ANSWER_BYTES_MAX).await?;
            match answered.status {
                200 => return self.take(note, &checkpoint, &answered),
                409 => {
                    let size = self.size(&answered)?;
                    if size > checkpoint.size {
                        self.seen = size;
                        return Ok(Answer::Ahead { size });
                    }
                    if size == old {
                        return Ok(Answer::Forked { says: format!("another tree of {size} entries was cosigned") });
                    }
                    if size < before && before <= checkpoint.size {
                        self.seen = size;
                        return Ok(Answer::WentBack { size, before });
                    }
                    old = size;
                }
                422 => return Ok(Answer::Forked { says: says(&answered) }),
                status => return Ok(Answer::Refused { status, says: says(&answered) }),
            }
        }
        Err(self.confused("the size of what it cosigned changes with each answer"))
    }

    fn take(&mut self, note: &str, checkpoint: &Checkpoint, answered: &Answered) -> Result<Answer, AskError> {
        let text = std::str::from_utf8(&answered.body).map_err(|_| self.confused("it is not text"))?;
        let lines = parse_lines(text).map_err(|_| self.confused("it holds no signature lines"))?;
        let split = note.rfind("\n\n").map_or(0, |at| at + 2);
        let mut taken = String::new();
        for line in &lines {
            // One line at a time, over the note's own text: what keys that are not known say is not looked at.
            let alone = format!("{}{}\n", &note[..split], line.line);
            let verifies = |key: &PublicKey| {
                let note = Note::parse(alone.as_bytes()).ok()?;
                key.find(&note, checkpoint).ok()
            };
            if self.keys.iter().any(|key| verifies(key).is_some()) && !taken.contains(line.line) {
                taken += &format!("{}\n", line.line);
            }
        }
        if taken.is_empty() {
            return Err(self.confused("it is cosigned by none of the witness's configured keys"));
        }
        self.seen = checkpoint.size;
        Ok(Answer::Cosigned(taken))
    }

    fn size(&self, answered: &Answered) -> Result<u64, AskError> {
        let text = std::str::from_utf8(&answered.body).ok().and_then(|text| text.strip_suffix('\n'));
        text.and_then(|text| text.parse().ok()).ok_or_else(|| self.confused("409 without the size of what it cosigned"))
    }

    fn confused(&self, what: &'static str) -> AskError {
        AskError::Confused(self.https.url().to_string(), what)
    }
}

/// What an answer says to people, as far as a log line has room.
fn says(answered: &Answered) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    String::from_utf8_lossy(&answered.body).chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}
