//! What goes over the ledger's unix socket: length-prefixed frames, each a JSON head and an optional blob.
//!
//! ```text
//! u32 big endian: length of the head   u32 big endian: length of the blob   head   blob
//! ```
//!
//! Requests are numbered by the sender and may be in flight together; each gets exactly one response of the same number.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use sulku_permit::SessionId;

use crate::event::Draft;
pub use crate::receipt::Receipt;

/// The longest head. An entry is at most 65,535 bytes (C2SP tlog-tiles), and a head is a little more than one.
pub const HEAD_BYTES_MAX: usize = 96 * 1024;
/// The longest blob: a recording's chunk, or a file of the log.
pub const BLOB_BYTES_MAX: usize = 1 << 20;

/// A request to the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The sender's number for it.
    pub id: u64,
    /// What is asked.
    pub body: RequestBody,
}

/// What the ledger can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "nearly every request is an append, and none is kept for long")]
pub enum RequestBody {
    /// Keep this. The answer comes when it is durable. With `recording.begun` and `recording.chunk`, the blob is the wrapped key or the
    /// chunk, durable with the entry.
    Append(Draft),
    /// An auditor or operator is about to read; the entry is durable before the answer.
    Announce {
        /// What will be read, in words.
        what: String,
    },
    /// A file of the log, by its path in the log's folder (`checkpoint`, `tile/…`, `recordings/…`). Needs an announcement.
    Fetch {
        /// The path.
        path: String,
        /// Where to begin, for files longer than a blob.
        offset: u64,
    },
    /// Publish a checkpoint over everything appended so far, now.
    Publish,
    /// A checkpoint that witnesses cosigned; from the courier.
    Cosign {
        /// The checkpoint with the cosignatures, as a signed note.
        note: String,
    },
    /// An operator takes the route that stays open when sessions' records can't be kept; the entry is durable before the answer.
    BreakGlass {
        /// Why, in the operator's words.
        reason: String,
    },
    /// Destroy the key that seals what is private in entries about a permit, or of a year without one.
    DestroyKey {
        /// The permit's id, or `year:` and a year.
        scope: String,
    },
    /// Destroy a recording's key, and the recording with it.
    DeleteRecording {
        /// Whose recording.
        session: SessionId,
    },
    /// The ledger's figures, as the blob, in Prometheus' text format.
    Metrics,
}

/// The ledger's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// The request's number.
    pub id: u64,
    /// The answer.
    pub body: ResponseBody,
}

/// What the ledger can answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ResponseBody {
    /// It is durable.
    Kept(Receipt),
    /// The file's bytes are the blob.
    File {
        /// The whole file's length.
        total: u64,
    },
    /// There is no such file.
    NoFile,
    /// A checkpoint over this many entries is published.
    Published {
        /// Entries that it covers.
        size: u64,
    },
    /// A cosigned checkpoint was accepted.
    Cosigned,
    /// The figures are the blob.
    Figures,
    /// Nothing was kept.
    Refused {
        /// What the sender can go by.
        cause: Cause,
        /// Why, in words.
        reason: String,
    },
}

/// Why the ledger refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The sender may not ask this, or not now.
    NotAllowed,
    /// The request is not what it should be.
    Malformed,
    /// The disk is full: what opens or shows something is not kept, what closes is.
    Full,
    /// No witness has cosigned for too long: nothing opens.
    Unwitnessed,
    /// The ledger can't keep anything any more.
    Broken,
}

/// A frame that can't be one.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A length is beyond its bound.
    #[error("a frame of {head} + {blob} bytes is longer than {HEAD_BYTES_MAX} + {BLOB_BYTES_MAX}")]
    TooLong {
        /// Length of the head.
        head: usize,
        /// Length of the blob.
        blob: usize,
    },
    /// The head is not what it should be.
    #[error("the frame's head is malformed: {0}")]
    Head(#[from] serde_json::Error),
}

/// A frame's bytes.
///
/// # Errors
/// [`WireError::TooLong`]: the head or the blob is beyond its bound.
pub fn encode<T: Serialize>(head: &T, blob: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut frame = Vec::with_capacity(512 + blob.len());
    append(&mut frame, head, blob)?;
    Ok(frame)
}

/// Adds a frame's bytes to those of others.
///
/// # Errors
/// As [`encode`]; `frames` is as it was.
pub fn append<T: Serialize>(frames: &mut Vec<u8>, head: &T, blob: &[u8]) -> Result<(), WireError> {
    let begin = frames.len();
    let appended = append_parts(frames, head, blob);
    if appended.is_err() {
        frames.truncate(begin);
    }
    appended
}

fn append_parts<T: Serialize>(frames: &mut Vec<u8>, head: &T, blob: &[u8]) -> Result<(), WireError> {
    let begin = frames.len();
    frames.extend_from_slice(&[0; 8]);
    serde_json::to_writer(&mut *frames, head)?;
    let (head_length, blob_length) = lengths(frames.len() - begin - 8, blob.len())?;
    frames[begin..begin + 4].copy_from_slice(&head_length.to_be_bytes());
    frames[begin + 4..begin + 8].copy_from_slice(&blob_length.to_be_bytes());
    frames.extend_from_slice(blob);
    Ok(())
}

/// A frame taken off a buffer: its head, its blob, and how many bytes it had.
pub type Frame<'b, T> = (T, &'b [u8], usize);

/// Takes the first frame off `buffer`: its head, its blob, and how many bytes it had. `None` when it is not all there yet.
///
/// # Errors
/// The bytes can never become a frame; the connection they came over is of no more use.
pub fn decode<T: DeserializeOwned>(buffer: &[u8]) -> Result<Option<Frame<'_, T>>, WireError> {
    let Some((lengths_bytes, rest)) = buffer.split_first_chunk::<8>() else {
        return Ok(None);
    };
    let [a, b, c, d, e, f, g, h] = *lengths_bytes;
    let (head, blob) = (u32::from_be_bytes([a, b, c, d]) as usize, u32::from_be_bytes([e, f, g, h]) as usize);
    lengths(head, blob)?;
    let (Some(head_bytes), Some(blob_bytes)) = (rest.get(..head), rest.get(head..head + blob)) else {
        return Ok(None);
    };
    Ok(Some((serde_json::from_slice(head_bytes)?, blob_bytes, 8 + head + blob)))
}

fn lengths(head: usize, blob: usize) -> Result<(u32, u32), WireError> {
    match (u32::try_from(head), u32::try_from(blob)) {
        (Ok(head_length), Ok(blob_length)) if head <= HEAD_BYTES_MAX && blob <= BLOB_BYTES_MAX => Ok((head_length, blob_length)),
        _ => Err(WireError::TooLong { head, blob }),
    }
}
