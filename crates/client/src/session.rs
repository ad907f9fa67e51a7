//! An open session: a keyboard and a screen that do not wait for each other.
//!
//! What is typed goes through a short channel and what controls the session through another that is emptied first, so that a
//! signal overtakes a long paste. Both directions are paced by credit: output counts as shown when the caller says so, input as
//! taken when the gateway does, and no more than the credit is ever on its way. Where the gateway keeps a session that has lost its connection,
//! the screen takes it up again over another one, and the keyboard goes on.

use std::sync::Arc;
use std::time::Duration;

use sulku_permit::SessionId;
use sulku_protocol::{Ask, ClosedFrame, DetachedFrame, INPUT_CREDIT_BYTES, NoticeFrame, Purpose, ResumedFrame, Signal, Tell, WelcomeFrame};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::dial::{Carrier, Transport};
use crate::ending::Ending;
use crate::error::{DialError, SessionError};
use crate::link::{Farewell, Incoming, Link};
use crate::open::{ask, size};
use crate::profile::Profile;
use crate::sending::{Control, INPUT_FRAME_BYTES_MAX, Next, Untaken, send_all};

/// Pieces of input that wait for the network; more make the caller wait.
const INPUT_FRAMES_MAX: usize = 8;
/// Resizes, signals and reports that wait for the network; more make the caller wait.
const CONTROL_FRAMES_MAX: usize = 16;
/// After this long without output, what was shown is reported even if it is little.
const REPORT_PAUSE: Duration = Duration::from_millis(20);
/// After this long without output a gateway over QUIC is asked whether it is still there, once: one that was killed says nothing, and its
/// successor answers whoever sends. Who is shown nothing at all finds out by the connection's own sign of life.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// Shown output is reported when it reaches this part of the credit: often enough that the gateway never runs dry.
const REPORTS_PER_CREDIT: u32 = 8;

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
        let (lines, next_lines) = mpsc::channel(1);
        let untaken = Untaken::of(welcome.resumed);
        let waiting = welcome.resumed.map_or(0, |resumed| resumed.waiting);
        let input_credit = Arc::new(Semaphore::new(INPUT_CREDIT_BYTES.saturating_sub(waiting) as usize));
        let mut sender = JoinSet::new();
        sender.spawn(send_all(outgoing, controls, inputs, untaken.clone(), next_lines));
        let credit = InputCredit(Arc::clone(&input_credit));
        let screen = Screen {
            session: welcome.session,
            part: welcome.resumed.map_or(0, |resumed| resumed.part),
            incoming,
            lines,
            number: 0,
            control: control.clone(),
            unreported_bytes: 0,
            report_at_bytes: report_at_bytes(&welcome),
            asks_at: None,
            untaken,
            input_credit: credit,
            farewell,
            sender,
        };
        Self { welcome, carrier, keyboard: Keyboard { input, input_credit, control }, screen }
    }
}

fn report_at_bytes(welcome: &WelcomeFrame) -> u32 {
    (welcome.credit / REPORTS_PER_CREDIT).max(1)
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
    control: mpsc::Sender<Control>,
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

    /// Leaves the session open, to be taken up later; overtakes input that waits. The screen shows when the gateway has let go.
    ///
    /// # Errors
    /// The session is over.
    pub async fn detach(&self) -> Result<(), Over> {
        self.control(Ask::Detach).await
    }

    async fn control(&self, ask: Ask) -> Result<(), Over> {
        self.control.send(Control::Ask(ask)).await.map_err(|_| Over)
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
    /// It goes on without this client; nothing follows.
    Detached(DetachedFrame),
}

/// A session that was taken up again over another connection.
#[derive(Debug)]
pub struct TakenUp {
    /// What the gateway says of it.
    pub welcome: WelcomeFrame,
    /// What it runs over.
    pub carrier: Carrier,
    /// Which gateway has it.
    pub by: By,
}

/// Which gateway has a session that was taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The one that had it before.
    TheSame,
    /// One that took it over, and knows neither what was shown nor what was typed before.
    Another {
        /// Bytes that were typed and of which nobody knows whether they reached the terminal. They are not sent again.
        unknown: u32,
    },
}

/// The end of a session that the holder looks at.
pub struct Screen {
    session: SessionId,
    /// Which of the gateways that had the session.
    part: u32,
    incoming: Incoming,
    lines: mpsc::Sender<Option<Next>>,
    /// Which connection this is.
    number: u64,
    control: mpsc::Sender<Control>,
    unreported_bytes: u32,
    report_at_bytes: u32,
    /// When the gateway is to be asked, unless it shows something before.
    asks_at: Option<Instant>,
    untaken: Untaken,
    input_credit: InputCredit,
    farewell: Farewell,
    sender: JoinSet<()>,
}

/// What may still be typed. Without a screen nothing is ever taken again, and who waits to type must learn it.
struct InputCredit(Arc<Semaphore>);

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
            let pause = async {
                match (self.unreported_bytes, self.asks_at) {
                    (1.., _) => sleep(REPORT_PAUSE).await,
                    (0, Some(at)) => sleep_until(at).await,
                    (0, None) => std::future::pending().await,
                }
            };
            let tell = tokio::select! {
                biased;
                tell = self.incoming.next() => tell.map_err(|ending| self.lost(ending))?,
                () = pause => {
                    if self.unreported_bytes == 0 {
                        self.asks_at = None;
                    }
                    // Where nothing was shown, that is what it says.
                    self.report();
                    continue;
                }
            };
            match tell {
                Tell::Output(bytes) => {
                    self.asks_at = matches!(self.farewell, Farewell::Quic(..)).then(|| Instant::now() + ASKED_AFTER);
                    return Ok(Event::Output(bytes));
                }
                Tell::Notice(notice) => return Ok(Event::Notice(notice)),
                Tell::Closed(closed) => return Ok(Event::Closed(closed)),
                Tell::Detached(detached) => return Ok(Event::Detached(detached)),
                Tell::Taken(bytes) => self.taken(bytes)?,
                Tell::Welcome(_) | Tell::Refused(_) | Tell::Sessions(_) | Tell::Workspaces(_) | Tell::Deleted(_) | Tell::Denials(_) | Tell::Done => {
                    return Err(SessionError::OutOfPhase);
                }
            }
        }
    }

    /// A connection that was cut is hung up on at once: a gateway that stops waits for that, and the next one starts after it.
    fn lost(&mut self, ending: Ending) -> SessionError {
        let error = ending.within_session();
        if matches!(error, SessionError::Cut(_)) {
            self.incoming.let_go();
            // Where there is no room, the sender is about to have another one.
            let _ = self.lines.try_send(None);
        }
        error
    }

    /// Takes the session up again over another connection, at a terminal of this size. What was typed and had not arrived is sent again; what
    /// had is not. The first bytes of output, as many as the welcome says, are what was shown last.
    ///
    /// # Errors
    /// It could not be taken up. Where [`DialError::may_pass`] says so, it may be later.
    pub async fn take_up(&mut self, profile: &Profile, transport: Transport, (columns, rows): (u16, u16)) -> Result<TakenUp, DialError> {
        let (columns, rows) = size(columns, rows);
        let (link, tell) = ask(profile, transport, Purpose::TakeUp { session: self.session, columns, rows }).await?;
        let Tell::Welcome(welcome @ WelcomeFrame { resumed: Some(resumed), .. }) = tell else {
            link.farewell.say().await;
            return Err(DialError::OutOfPhase);
        };
        let Link { carrier, incoming, outgoing, farewell } = link;
        if resumed.waiting > INPUT_CREDIT_BYTES {
            farewell.say().await;
            return Err(DialError::OutOfPhase);
        }
        let by = if resumed.part == self.part { By::TheSame } else { By::Another { unknown: self.untaken.begin_anew(&resumed) } };
        if let By::Another { unknown } = by {
            self.input_credit.0.add_permits(unknown.saturating_sub(resumed.waiting) as usize);
            self.input_credit.0.forget_permits(resumed.waiting.saturating_sub(unknown) as usize);
            self.part = resumed.part;
        } else if self.untaken.taken_unreported(&resumed).and_then(|bytes| self.taken(bytes)).is_err() {
            farewell.say().await;
            return Err(DialError::OutOfPhase);
        }
        let ResumedFrame { typed, .. } = resumed;
        self.number += 1;
        // The sender takes each at once, or is gone with the screen.
        let _gone = self.lines.send(Some(Next { number: self.number, outgoing, typed })).await;
        self.incoming = incoming;
        (self.unreported_bytes, self.report_at_bytes, self.asks_at) = (0, report_at_bytes(&welcome), None);
        let before = std::mem::replace(&mut self.farewell, farewell);
        // Nobody hears it, unless the old connection was not as lost as it seemed.
        tokio::spawn(before.say());
        Ok(TakenUp { welcome, carrier, by })
    }

    fn taken(&self, bytes: u32) -> Result<(), SessionError> {
        self.untaken.taken(bytes)?;
        self.input_credit.0.add_permits(bytes as usize);
        Ok(())
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
        if self.control.try_send(Control::Shown(self.number, self.unreported_bytes)).is_ok() {
            self.unreported_bytes = 0;
        }
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("unreported_bytes", &self.unreported_bytes).finish_non_exhaustive()
    }
}
