//! The connection of a session, which may go while the session stays, and another come: frames in, frames out.
//!
//! A connection over QUIC may go on from another address; nothing passes either way until that is judged and in the ledger.
//! Output waits here for a sender of its own, bounded by the credit that the client has. Decides nothing about the session.

use std::net::IpAddr;
use std::time::Duration;

use sulku_protocol::{Ask, PAYLOAD_BYTES_MAX, Tell, encode, quic_code};
use sulku_session::Comer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::busy::Counted;
use crate::connection::{Frames, NoFrame};
use crate::transport::Writer;

/// When a connection is hung up, its peer has this long to take what was sent.
const SENDER_PATIENCE: Duration = Duration::from_secs(5);
/// So often a connection may go on from another address. Then it is broken off, and its client takes the session up again.
const MOVES_MAX: u32 = 64;
/// And the sender to take the last of it.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// A connection on which the first frame has come.
pub struct Line {
    /// What comes on it.
    pub frames: Frames,
    /// What it is sent.
    pub writer: Writer,
    /// Its place among the connections of its address.
    pub counted: Counted,
    /// Where the peer is.
    pub from: IpAddr,
    /// `tls` or `quic`.
    pub transport: &'static str,
}

/// A connection whose holder takes a session up again, and was admitted.
pub struct Joining {
    /// The connection.
    pub line: Line,
    /// Who it is.
    pub comer: Comer,
}

/// A session's connection as it is held, or what is left of it.
pub struct Held {
    /// What comes; `None` when nothing more does.
    pub frames: Option<Frames>,
    /// Of a peer that broke the protocol, what still comes and is not looked at.
    unheeded: Option<Frames>,
    /// What waits for the sender; neighbouring output is joined.
    pub outbox: Vec<Tell>,
    /// `None` once the connection is to be ended.
    pub outgoing: Option<mpsc::Sender<Vec<u8>>>,
    /// Whether its client knows that the session is open.
    pub welcomed: bool,
    /// Where the peer is.
    pub from: IpAddr,
    /// `tls` or `quic`.
    pub transport: &'static str,
    /// Receipts that are owed before anything more passes.
    pub held_for: usize,
    sender: JoinHandle<()>,
    counted: Option<Counted>,
    mobile: Option<quinn::Connection>,
    moves: u32,
}

impl Held {
    /// Holds a connection.
    pub fn new(line: Line) -> Self {
        let Line { frames, writer, counted, from, transport } = line;
        let mobile = writer.mobile().cloned();
        let (outgoing, sender) = start_sender(writer);
        let (frames, outgoing, counted) = (Some(frames), Some(outgoing), Some(counted));
        Self { frames, outgoing, counted, mobile, ..Self::with(sender, from, transport) }
    }

    /// Holds none: its peer is expected.
    pub fn nobody(from: IpAddr, transport: &'static str) -> Self {
        Self::with(tokio::spawn(std::future::ready(())), from, transport)
    }

    const fn with(sender: JoinHandle<()>, from: IpAddr, transport: &'static str) -> Self {
        Self {
            frames: None,
            unheeded: None,
            outbox: Vec::new(),
            outgoing: None,
            welcomed: false,
            from,
            transport,
            held_for: 0,
            sender,
            counted: None,
            mobile: None,
            moves: 0,
        }
    }

    /// The address that it goes on from, if that is not the one that was judged.
    pub fn strayed(&self) -> Option<IpAddr> {
        self.mobile.as_ref().filter(|_| self.is_there()).map(|mobile| mobile.remote_address().ip()).filter(|place| *place != self.from)
    }

    /// Gives a frame back, to be heard again.
    pub fn put_back(&mut self, ask: Ask) {
        if let Some(frames) = &mut self.frames {
            frames.put_back(ask);
        }
    }

    /// It may go on from there. False where it has done so too often.
    pub fn moves_to(&mut self, from: IpAddr, counted: Counted) -> bool {
        (self.from, self.counted, self.moves) = (from, Some(counted), self.moves + 1);
        self.moves <= MOVES_MAX
    }

    /// It may not: whoever is there is told no more than that.
    pub fn bar(&mut self) {
        if let Some(mobile) = self.mobile.take() {
            mobile.close(quic_code::REFUSED.into(), b"refused");
        }
        (self.frames, self.outgoing) = (None, None);
        self.outbox.clear();
    }

    /// Another connection takes the place of this one, which is ended.
    pub fn replace(&mut self, line: Line) {
        let before = std::mem::replace(self, Self::new(line));
        tokio::spawn(before.end());
    }

    /// Whether there is a peer that hears or is heard.
    pub const fn is_there(&self) -> bool {
        self.frames.is_some() || self.outgoing.is_some()
    }

    /// Puts a frame into the outbox, and joins output that stands next to output.
    pub fn post(&mut self, tell: Tell) {
        self.welcomed |= matches!(tell, Tell::Welcome(_));
        if let (Some(Tell::Output(last)), Tell::Output(bytes)) = (self.outbox.last_mut(), &tell)
            && last.len() + bytes.len() <= PAYLOAD_BYTES_MAX
        {
            last.extend_from_slice(bytes);
        } else if self.outgoing.is_some() {
            self.outbox.push(tell);
        }
    }

    /// Hands the last of it to the sender, which then ends the connection.
    pub fn hang_up(&mut self) {
        let Some(outgoing) = self.outgoing.take() else { return };
        if self.outbox.is_empty() {
            return;
        }
        let bytes = joined(&mut self.outbox);
        // Not here: a peer that takes nothing must not stop the session's clocks.
        tokio::spawn(async move {
            if outgoing.send_timeout(bytes, FLUSH_PATIENCE).await.is_err() {
                tracing::debug!("peer did not take its last frames");
            }
        });
    }

    /// Heeds nothing more that comes.
    pub fn break_off(&mut self) {
        self.unheeded = self.frames.take().or_else(|| self.unheeded.take());
    }

    /// Lets go of it, and of all that has not left.
    pub fn abandon(&mut self) {
        (self.frames, self.unheeded, self.outgoing, self.counted, self.mobile) = (None, None, None, None, None);
        self.outbox.clear();
        self.sender.abort();
    }

    /// Waits until all that was sent has left and the peer has hung up, or too long.
    pub async fn end(mut self) {
        self.hang_up();
        if tokio::time::timeout(SENDER_PATIENCE, &mut self.sender).await.is_err() {
            tracing::debug!("connection dropped: the peer takes nothing");
            self.sender.abort();
        }
        if let Some(frames) = self.frames.or(self.unheeded) {
            frames.hear_out().await;
        }
    }
}

/// The next frame. Cancelled, it has lost none.
pub async fn next(frames: &mut Option<Frames>) -> Result<Ask, NoFrame> {
    match frames {
        Some(frames) => frames.next().await,
        None => std::future::pending().await,
    }
}

/// Room at the sender, or `None` when the connection is to be ended or has ended.
pub async fn reserve(outgoing: &Option<mpsc::Sender<Vec<u8>>>) -> Option<mpsc::OwnedPermit<Vec<u8>>> {
    match outgoing {
        Some(outgoing) => outgoing.clone().reserve_owned().await.ok(),
        None => None,
    }
}

/// All that waits, as bytes.
pub fn joined(outbox: &mut Vec<Tell>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for tell in outbox.drain(..) {
        if let Err(error) = encode(&tell, &mut bytes) {
            tracing::error!(%error, "frame not sent");
        }
    }
    bytes
}

/// Sends what the relay hands over, in order, until the relay hangs up; then ends the connection.
fn start_sender(mut writer: Writer) -> (mpsc::Sender<Vec<u8>>, JoinHandle<()>) {
    let (outgoing, mut queue) = mpsc::channel::<Vec<u8>>(1);
    let task = tokio::spawn(async move {
        while let Some(bytes) = queue.recv().await {
            if let Err(error) = writer.send(&bytes).await {
                tracing::debug!(%error, "peer takes no more");
                break;
            }
        }
        queue.close();
        writer.end(quic_code::DONE).await;
    });
    (outgoing, task)
}
