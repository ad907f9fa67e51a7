//! What goes over the ledger's unix socket: length-prefixed frames, each a JSON head and an optional blob.
//!
//! ```text
//! u32 big endian: length of the head   u32 big endian: length of the blob   head   blob
//! ```
//!
//! Requests are numbered by the sender and may be in flight together; each gets exactly one response of the same number.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
    /// Keep this. The answer comes when it is durable. With `recording.chunk`, the blob is the chunk, kept first.
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
    /// The request is not allowed or not understood; nothing was kept.
    Refused {
        /// Why.
        reason: String,
    },
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
    let head = serde_json::to_vec(head)?;
    let (head_length, blob_length) = lengths(head.len(), blob.len())?;
    let mut frame = Vec::with_capacity(8 + head.len() + blob.len());
    frame.extend_from_slice(&head_length.to_be_bytes());
    frame.extend_from_slice(&blob_length.to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(blob);
    Ok(frame)
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
