//! The witness as a service: requests of HTTP in, answers out. Knows no sockets; [`crate::serve`] carries them.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sulku_audit::witness::{ADD_CHECKPOINT, AddCheckpoint, REQUEST_BYTES_MAX, Refusal, SIZE_TYPE};
use sulku_audit::{SecretKey, Trust};

use crate::files::FileError;
use crate::state::{Outcome, State, StateError};

/// What a service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP's status.
    pub status: u16,
    /// The body's type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Words for people.
    #[must_use]
    pub fn text(status: u16, words: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{words}\n").into_bytes() }
    }
}

/// Whatever answers requests of HTTP.
pub trait Answers: Send + Sync + 'static {
    /// The longest body that a request may have.
    fn body_bytes_max(&self) -> usize;
    /// Answers; may wait for the disk.
    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Reply;
}

/// A witness.
pub struct Service {
    state: State,
    keys: Vec<SecretKey>,
}

impl Service {
    /// A witness with its state in this folder, for the logs of these keys.
    ///
    /// # Errors
    /// The state can't be gone on with.
    pub fn open(directory: &Path, trusted: Vec<Trust>, keys: Vec<SecretKey>) -> Result<Arc<Self>, StateError> {
        Ok(Arc::new(Self { state: State::open(directory, trusted, &keys)?, keys }))
    }

    /// What it keeps.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    fn add_checkpoint(&self, body: &[u8]) -> Result<Reply, FileError> {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return Ok(Reply::text(400, &error.to_string())),
        };
        let time = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        Ok(match self.state.add_checkpoint(&request, body, &self.keys, time)? {
            Outcome::Cosigned(lines) => Reply { status: 200, content_type: "text/plain; charset=utf-8", body: lines.into_bytes() },
            Outcome::Refused(refusal) => match refusal {
                Refusal::Conflict(size) | Refusal::Fork(size) => {
                    Reply { status: refusal.status(), content_type: SIZE_TYPE, body: format!("{size}\n").into_bytes() }
                }
                refusal => Reply::text(refusal.status(), &refusal.to_string()),
            },
        })
    }
}

impl Answers for Service {
    fn body_bytes_max(&self) -> usize {
        REQUEST_BYTES_MAX
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        match (method, path) {
            ("POST", ADD_CHECKPOINT) => self.add_checkpoint(body).unwrap_or_else(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "the state could not be kept; nothing was cosigned");
                Reply::text(500, "the witness can't keep its state; nothing was cosigned")
            }),
            (_, ADD_CHECKPOINT) => Reply::text(405, "checkpoints come by POST"),
            _ => Reply::text(404, "this is a C2SP tlog-witness: POST /add-checkpoint"),
        }
    }
}
