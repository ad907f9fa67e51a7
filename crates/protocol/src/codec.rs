//! Frames to bytes and back. The decoder never holds more than one frame beyond what it was just given.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PAYLOAD_BYTES_MAX;
use crate::frame::Message;

const HEADER_BYTES: usize = 5;

/// Bytes that are no frame. The connection they came over is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Beyond the bound.
    #[error("a frame of kind {kind:#04x} has {length} bytes, more than {PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// The frame's kind.
        kind: u8,
        /// Its length.
        length: usize,
    },
    /// No frame of this direction has that kind.
    #[error("there is no frame of kind {kind:#04x} in this direction")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// The payload is not of its kind.
    #[error("the payload of a frame of kind {kind:#04x} is malformed")]
    Payload {
        /// The frame's kind.
        kind: u8,
    },
    /// The bytes ended inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
}

/// Appends a frame's bytes to `out`.
///
/// # Errors
/// [`FrameError::TooLong`]: the payload is beyond the bound; nothing is appended.
pub fn encode<M: Message>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let (kind, payload) = message.to_parts()?;
    let too_long = FrameError::TooLong { kind, length: payload.len() };
    let length = u32::try_from(payload.len()).map_err(|_| too_long.clone())?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(too_long);
    }
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

/// Takes frames of one direction out of a stream of bytes.
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: Vec<u8>,
    taken: usize,
    direction: PhantomData<M>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self { buffer: Vec::new(), taken: 0, direction: PhantomData }
    }
}

impl<M: Message> Decoder<M> {
    /// Adds bytes from the stream. Take all frames with [`next`](Self::next) before adding more, and the decoder stays bounded.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// The bytes are no frame of this direction. A length beyond the bound is refused before its payload is awaited.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't be fed between two items")]
    pub fn next(&mut self) -> Result<Option<M>, FrameError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((&[kind, a, b, c, d], rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong { kind, length });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let message = M::from_parts(kind, payload)?;
        self.taken += HEADER_BYTES + length;
        Ok(Some(message))
    }

    /// To be asked when the stream has ended.
    ///
    /// # Errors
    /// [`FrameError::Truncated`]: it ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.taken == self.buffer.len() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

pub(crate) fn json<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|_| FrameError::Payload { kind })
}

pub(crate) fn json_payload<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    Ok(serde_json::to_vec(value).expect("the frames' types have text keys and finite numbers only"))
}
