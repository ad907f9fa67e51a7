//! The wire between client and gateway, frame by frame: ALPN `sulku/1`, the same over TLS and over a QUIC stream.
//!
//! A frame is one byte of kind, four bytes of length (big endian), and that many bytes. Small structured frames are JSON, the
//! rest is raw. The client speaks first ([`Ask::Hello`]); the gateway answers with [`Tell::Welcome`] or [`Tell::Refused`]. TLS 1.3
//! lets a client believe in success before the server has judged its certificate, so nothing counts before that answer.
//!
//! Output is paced by credit: the gateway never has more than [`OUTPUT_CREDIT_BYTES`] on the way that the client has not
//! reported as shown, so that a Ctrl-C is heard at once however slow the client is. Input is paced the same way: the client never
//! has more than [`INPUT_CREDIT_BYTES`] on the way that the gateway has not reported as taken. So each side can always read, and
//! no signal, report or farewell waits behind input that a program does not read.
//!
//! A session may outlive its connection ([`Stay`]). Whoever takes it up again is told how much of what was typed has arrived, and what was
//! shown last, so that nothing is typed twice and the screen is what it was.
//!
//! This crate encodes and decodes; it opens no connection and knows no clock.

mod codec;
mod frame;

pub use codec::{Decoder, FrameError, encode};
pub use frame::{
    Ask, ClosedFrame, DeletedFrame, DenialRow, DetachedFrame, HelloFrame, Message, NoticeFrame, NoticeKind, Purpose, RefusedFrame, ResumedFrame,
    SessionRow, Signal, Stay, Tell, WelcomeFrame, WorkspaceRow, WorkspacesFrame,
};

/// The protocol's name in TLS ALPN (RFC 7301).
pub const ALPN: &[u8] = b"sulku/1";
/// The version in [`HelloFrame`].
pub const VERSION: u32 = 1;
/// The longest payload of a frame. Output comes in quanta of at most this, so that no session keeps the others waiting.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
/// Output that may be on its way to a client unreported, at the most: the gateway gives a slow one less.
pub const OUTPUT_CREDIT_BYTES: u32 = 128 * 1024;
/// Input that may be on its way to a terminal unreported: more than a person types or a page that she pastes, and little enough
/// that the gateway keeps it for every session.
pub const INPUT_CREDIT_BYTES: u32 = 64 * 1024;
/// QUIC application error codes with which the gateway closes a connection.
pub mod quic_code {
    /// The session is over; the frames said why.
    pub const DONE: u32 = 0;
    /// A refusal was sent, or would have been.
    pub const REFUSED: u32 = 1;
    /// The peer broke the protocol.
    pub const PROTOCOL: u32 = 2;
    /// The gateway is full.
    pub const BUSY: u32 = 3;
}

#[cfg(test)]
mod tests;
