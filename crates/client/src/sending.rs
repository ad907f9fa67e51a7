//! What goes to the gateway, over one connection after the other: what controls the session first, then what is typed.
//!
//! What was typed is kept until the gateway has said that the terminal took it, at most as much as the credit for input. So when a connection
//! is lost and the session taken up over another one, what had not arrived is sent again, and what had is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sulku_protocol::{Ask, ResumedFrame};
use tokio::sync::mpsc;

use crate::error::SessionError;
use crate::link::Outgoing;

/// What is typed or pasted travels in pieces of at most this, so that a signal never waits behind a long frame.
pub(crate) const INPUT_FRAME_BYTES_MAX: usize = 4 * 1024;

/// Something that is sent before whatever was typed.
#[derive(Debug)]
pub(crate) enum Control {
    /// A frame.
    Ask(Ask),
    /// So many bytes were shown of the connection of that number. On another one nobody knows of them.
    Shown(u64, u32),
}

/// Another connection, and its number.
pub(crate) struct Next {
    pub(crate) number: u64,
    pub(crate) outgoing: Outgoing,
    /// Bytes of input that had arrived before.
    pub(crate) typed: u64,
}

/// What was typed and sent, and not reported as taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Untaken(Arc<Mutex<Sent>>);

#[derive(Debug, Default)]
struct Sent {
    /// Bytes reported as taken, since the session began.
    taken: u64,
    bytes: VecDeque<u8>,
}

impl Untaken {
    /// Begins to count at a session that has been typed into before, if by somebody else.
    pub(crate) fn of(resumed: Option<ResumedFrame>) -> Self {
        // What another client typed and no terminal took yet, this one never learns the bytes of; nor will it be asked for them.
        let others = resumed.map_or((0, 0), |ResumedFrame { typed, waiting, .. }| (typed.saturating_sub(waiting.into()), waiting as usize));
        let (taken, bytes) = (others.0, std::iter::repeat_n(0, others.1).collect());
        Self(Arc::new(Mutex::new(Sent { taken, bytes })))
    }

    /// The gateway reports so many bytes as taken.
    ///
    /// # Errors
    /// So many were never sent.
    pub(crate) fn taken(&self, bytes: u32) -> Result<(), SessionError> {
        let mut sent = self.lock();
        if bytes as usize > sent.bytes.len() {
            return Err(SessionError::OutOfPhase);
        }
        sent.taken += u64::from(bytes);
        sent.bytes.drain(..bytes as usize);
        Ok(())
    }

    /// How many bytes were taken of which the report was lost with its connection.
    ///
    /// # Errors
    /// The gateway forgot some, or has more than were ever sent.
    pub(crate) fn taken_unreported(&self, resumed: &ResumedFrame) -> Result<u32, SessionError> {
        let sent = self.lock();
        let arrived = resumed.typed.checked_sub(sent.taken).filter(|arrived| *arrived <= sent.bytes.len() as u64);
        let taken = arrived.and_then(|arrived| arrived.checked_sub(resumed.waiting.into()));
        taken.and_then(|taken| u32::try_from(taken).ok()).ok_or(SessionError::OutOfPhase)
    }

    /// Counts from what a gateway says that has had the session for no longer than that. Gives how many bytes were sent to the one before and
    /// not reported as taken: nobody knows what became of them, and they are not sent again.
    pub(crate) fn begin_anew(&self, resumed: &ResumedFrame) -> u32 {
        let mut sent = self.lock();
        let unknown = u32::try_from(sent.bytes.len()).unwrap_or(u32::MAX);
        let anew = Self::of(Some(*resumed));
        *sent = std::mem::take(&mut *anew.lock());
        unknown
    }

    fn push(&self, bytes: &[u8]) {
        self.lock().bytes.extend(bytes);
    }

    /// What was sent beyond the first so many bytes, in pieces.
    fn beyond(&self, typed: u64) -> VecDeque<Vec<u8>> {
        let sent = self.lock();
        let arrived = usize::try_from(typed.saturating_sub(sent.taken)).unwrap_or(usize::MAX);
        let rest: Vec<u8> = sent.bytes.iter().skip(arrived).copied().collect();
        rest.chunks(INPUT_FRAME_BYTES_MAX).map(<[u8]>::to_vec).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends until the session is left or the screen is dropped. When a connection takes nothing more, or is said to be none any more, the rest
/// waits for another.
pub(crate) async fn send_all(
    outgoing: Outgoing,
    mut controls: mpsc::Receiver<Control>,
    mut inputs: mpsc::Receiver<Vec<u8>>,
    untaken: Untaken,
    mut lines: mpsc::Receiver<Option<Next>>,
) {
    let (mut number, mut line) = (0, Some(outgoing));
    // What has to be sent once more, before what is typed from here on.
    let mut again = VecDeque::new();
    loop {
        let ask = tokio::select! {
            biased;
            next = lines.recv() => match next {
                Some(Some(next)) => {
                    (number, line, again) = (next.number, Some(next.outgoing), untaken.beyond(next.typed));
                    continue;
                }
                Some(None) => {
                    line = None;
                    continue;
                }
                None => break,
            },
            Some(control) = controls.recv(), if line.is_some() => match control {
                Control::Ask(ask) => ask,
                Control::Shown(of, bytes) if of == number => Ask::Shown(bytes),
                Control::Shown(..) => continue,
            },
            () = std::future::ready(()), if line.is_some() && !again.is_empty() => match again.pop_front() {
                Some(piece) => Ask::Input(piece),
                None => continue,
            },
            Some(bytes) = inputs.recv(), if line.is_some() => {
                untaken.push(&bytes);
                Ask::Input(bytes)
            }
        };
        let Some(outgoing) = &mut line else { continue };
        let sent = tokio::select! {
            biased;
            sent = outgoing.send(&ask) => sent,
            // A connection that takes nothing is not waited for when there is another; what it was to send is sent again there.
            next = lines.recv() => match next {
                Some(Some(next)) => {
                    (number, line, again) = (next.number, Some(next.outgoing), untaken.beyond(next.typed));
                    continue;
                }
                Some(None) => {
                    line = None;
                    continue;
                }
                None => break,
            },
        };
        if sent.is_err() {
            line = None;
        } else if matches!(ask, Ask::Leave | Ask::Detach) {
            break;
        }
    }
    // The writer stays until the screen is dropped: its end would cut the gateway short before it has said why it closes.
    drop((controls, inputs));
    std::future::pending::<()>().await;
    drop(line);
}
