//! An open session: a keyboard and a screen that do not wait for each other.
//!
//! What is typed goes through a short channel and what controls the session through another that is emptied first, so that a
//! signal overtakes a long paste. Both directions are paced by credit: output counts as shown when the caller says so, input as
//! taken when the gateway does, and no more than the credit is ever on its way.

use std::sync::Arc;
use std::time::Duration;

use sulku_protocol::{Ask, ClosedFrame, INPUT_CREDIT_BYTES, NoticeFrame, Signal, Tell, WelcomeFrame};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::dial::Carrier;
use crate::ending::Ending;
use crate::error::SessionError;
use crate::link::{Farewell, Incoming, Link, Outgoing};
use crate::open::size;

/// What is typed or pasted travels in pieces of at most this, so that a signal never waits behind a long frame.
const INPUT_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Pieces of input that wait for the network; more make the caller wait.
const INPUT_FRAMES_MAX: usize = 8;
/// Resizes, signals and reports that wait for the network; more make the caller wait.
const CONTROL_FRAMES_MAX: usize = 16;
/// After this long without output, what was shown is reported even if it is little.
const REPORT_PAUSE: Duration = Duration::from_millis(20);
/// Shown output is reported when it reaches this part of the credit: often enough that the gateway never runs dry.
const REPORTS_PER_CREDIT: u32 = 4;

/// An open session.
#[derive(Debug)]
#[non_exhaustive]
pub struct Session {
    /// What the gateway says of it.
    pub welcome: WelcomeFrame,
    /// What it runs over.
    pub carrier: Carrier,
    /// The end that the holder types at.
    pub keyboard: Keyboard,
    /// The end that she looks at.
    pub screen: Screen,
}

impl Session {
    pub(crate) fn new(welcome: WelcomeFrame, link: Link) -> Self {
        let Link { carrier, incoming, outgoing, farewell } = link;
        let (control, controls) = mpsc::channel(CONTROL_FRAMES_MAX);
        let (input, inputs) = mpsc::channel(INPUT_FRAMES_MAX);
        let input_credit = Arc::new(Semaphore::new(INPUT_CREDIT_BYTES as usize));
        let mut sender = JoinSet::new();
        sender.spawn(send_all(outgoing, controls, inputs));
        let report_at_bytes = (welcome.credit / REPORTS_PER_CREDIT).max(1);
        let credit = InputCredit(Arc::clone(&input_credit));
        let screen = Screen { incoming, control: control.clone(), unreported_bytes: 0, report_at_bytes, input_credit: credit, farewell, sender };
        Self { welcome, carrier, keyboard: Keyboard { input, input_credit, control }, screen }
    }
}

/// The session is over; the screen says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct Over;

/// The end of a session that the holder types at. Each method waits while the network is slow.
#[derive(Debug, Clone)]
pub struct Keyboard {
    input: mpsc::Sender<Vec<u8>>,
    input_credit: Arc<Semaphore>,
    control: mpsc::Sender<Ask>,
}

impl Keyboard {
    /// Types these bytes. Waits while the terminal takes none.
    ///
    /// # Errors
    /// The session is over.
    pub async fn input(&self, bytes: &[u8]) -> Result<(), Over> {
        for piece in bytes.chunks(INPUT_FRAME_BYTES_MAX) {
            let bytes = u32::try_from(piece.len()).expect("a piece has few bytes");
            self.input_credit.acquire_many(bytes).await.map_err(|_| Over)?.forget();
            self.input.send(piece.to_vec()).await.map_err(|_| Over)?;
        }
        Ok(())
    }

    /// The terminal has another size now.
    ///
    /// # Errors
    /// The session is over.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), Over> {
        let (columns, rows) = size(columns, rows);
        self.control(Ask::Resize { columns, rows }).await
    }

    /// Sends a signal to what runs in the foreground; overtakes input that waits.
    ///
    /// # Errors
    /// The session is over.
    pub async fn signal(&self, signal: Signal) -> Result<(), Over> {
        self.control(Ask::Signal(signal)).await
    }

    /// Asks the gateway to close the session; overtakes input that waits. The screen shows when it has.
    ///
    /// # Errors
    /// The session is over.
    pub async fn leave(&self) -> Result<(), Over> {
        self.control(Ask::Leave).await
    }

    async fn control(&self, ask: Ask) -> Result<(), Over> {
        self.control.send(ask).await.map_err(|_| Over)
    }
}

/// What a screen is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// To be shown. Report it with [`Screen::shown`] once it is.
    Output(Vec<u8>),
    /// Something that the holder should know; not output of her terminal.
    Notice(NoticeFrame),
    /// The session is closed; nothing follows.
    Closed(ClosedFrame),
}

/// The end of a session that the holder looks at.
pub struct Screen {
    incoming: Incoming,
    control: mpsc::Sender<Ask>,
    unreported_bytes: u32,
    report_at_bytes: u32,
    input_credit: InputCredit,
    farewell: Farewell,
    sender: JoinSet<()>,
}

/// What may still be typed. Without a screen nothing is ever taken again, and who waits to type must learn it.
struct InputCredit(Arc<Semaphore>);

impl InputCredit {
    fn taken(&self, bytes: u32) -> Result<(), SessionError> {
        if self.0.available_permits().saturating_add(bytes as usize) > INPUT_CREDIT_BYTES as usize {
            return Err(SessionError::OutOfPhase);
        }
        self.0.add_permits(bytes as usize);
        Ok(())
    }
}

impl Drop for InputCredit {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Screen {
    /// What comes next. Nothing is lost when this is dropped before it is ready.
    ///
    /// # Errors
    /// The session ended without being closed, or the gateway broke the protocol.
    pub async fn next(&mut self) -> Result<Event, SessionError> {
        loop {
            let pause = async { if self.unreported_bytes > 0 { sleep(REPORT_PAUSE).await } else { std::future::pending().await } };
            let tell = tokio::select! {
                biased;
                tell = self.incoming.next() => tell.map_err(Ending::within_session)?,
                () = pause => {
                    self.report();
                    continue;
                }
            };
            match tell {
                Tell::Output(bytes) => return Ok(Event::Output(bytes)),
                Tell::Notice(notice) => return Ok(Event::Notice(notice)),
                Tell::Closed(closed) => return Ok(Event::Closed(closed)),
                Tell::Taken(bytes) => self.input_credit.taken(bytes)?,
                Tell::Welcome(_) | Tell::Refused(_) | Tell::Sessions(_) | Tell::Workspaces(_) | Tell::Deleted(_) | Tell::Denials(_) | Tell::Done => {
                    return Err(SessionError::OutOfPhase);
                }
            }
        }
    }

    /// This many more bytes of output have been shown.
    pub fn shown(&mut self, bytes: usize) {
        self.unreported_bytes = self.unreported_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.unreported_bytes >= self.report_at_bytes {
            self.report();
        }
    }

    /// Leaves the connection, without waiting for the gateway.
    pub async fn close(self) {
        drop(self.sender);
        self.farewell.say().await;
    }

    /// Never waits, or a gateway that does not read could stop our reading too. What finds no room is reported later, together.
    fn report(&mut self) {
        if self.control.try_send(Ask::Shown(self.unreported_bytes)).is_ok() {
            self.unreported_bytes = 0;
        }
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("unreported_bytes", &self.unreported_bytes).finish_non_exhaustive()
    }
}

/// Sends what is typed and what controls, the latter first. Runs until the session is left or the screen is dropped.
async fn send_all(mut outgoing: Outgoing, mut controls: mpsc::Receiver<Ask>, mut inputs: mpsc::Receiver<Vec<u8>>) {
    loop {
        let ask = tokio::select! {
            biased;
            Some(ask) = controls.recv() => ask,
            Some(bytes) = inputs.recv() => Ask::Input(bytes),
            else => break,
        };
        if outgoing.send(&ask).await.is_err() || ask == Ask::Leave {
            break;
        }
    }
    // The writer stays until the screen is dropped: its end would cut the gateway short before it has said why it closes.
    drop((controls, inputs));
    std::future::pending::<()>().await;
    drop(outgoing);
}
