//! The relay between an open session and this process: typing, showing and leaving, each without waiting for the others.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use sulku_client::{Event, Keyboard, Screen, SessionError};
use sulku_protocol::{ClosedFrame, Signal};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::denials::Denials;
use super::notice;
use super::signals::Signals;
use super::terminal::Mode;
use super::typing::type_in;

/// For a command to end by the signal that it was sent, before the session is left.
const SIGNAL_GRACE: Duration = Duration::from_secs(2);
/// For the gateway to confirm that a session was left.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// Reasons to leave that wait to be heard: the first decides, each other hurries.
const DEPARTURES_MAX: usize = 4;

/// Why the session is being left from this end.
#[derive(Debug, Clone, Copy)]
pub enum Departure {
    /// The holder typed the escape.
    Asked,
    /// Her terminal is gone.
    HungUp,
    /// A signal told us to.
    Signalled(Signal),
}

/// Why there is no closing frame.
pub enum Stopped {
    /// The session ended without one.
    Session(SessionError),
    /// Standard output takes no more.
    Output(io::Error),
    /// The session was left, and the gateway did not answer in time.
    Unconfirmed,
}

/// Relays until the session is over: how it ended, and whether it was left from this end.
///
/// # Errors
/// Signals can't be received.
pub async fn relay(
    keyboard: Keyboard,
    mut screen: Screen,
    mode: Mode,
    denials: Denials,
) -> io::Result<(Result<ClosedFrame, Stopped>, Option<Departure>)> {
    let (departing, departures) = mpsc::channel(DEPARTURES_MAX);
    let signals = Signals::receive()?;
    let mut helpers = JoinSet::new();
    helpers.spawn(signals.heed(keyboard.clone(), departing.clone()));
    helpers.spawn(type_in(keyboard.clone(), mode, departing));
    let departed = Cell::new(None);
    let outcome = tokio::select! {
        outcome = show(&mut screen, mode, denials) => outcome,
        () = depart(&keyboard, departures, mode, &departed) => Err(Stopped::Unconfirmed),
    };
    if matches!(outcome, Err(Stopped::Output(_))) {
        leave_unseen(&keyboard, &mut screen).await;
    }
    drop(helpers);
    screen.close().await;
    Ok((outcome, departed.get()))
}

/// Shows what the session shows. Reports it only after it was written, so that a slow reader slows the session down.
async fn show(screen: &mut Screen, mode: Mode, mut denials: Denials) -> Result<ClosedFrame, Stopped> {
    let mut out = tokio::io::stdout();
    loop {
        match screen.next().await.map_err(Stopped::Session)? {
            Event::Closed(closed) => return Ok(closed),
            Event::Notice(said) => denials.now(said).iter().for_each(|said| notice::told(said, mode)),
            Event::Output(bytes) => {
                out.write_all(&bytes).await.map_err(Stopped::Output)?;
                out.flush().await.map_err(Stopped::Output)?;
                screen.shown(bytes.len());
                denials.shown(&bytes).iter().for_each(|said| notice::told(said, mode));
            }
        }
    }
}

/// Waits for a reason to leave, then leaves. Comes back only when the gateway took too long to confirm.
async fn depart(keyboard: &Keyboard, mut departures: mpsc::Receiver<Departure>, mode: Mode, departed: &Cell<Option<Departure>>) {
    let Some(first) = departures.recv().await else { return std::future::pending().await };
    departed.set(Some(first));
    if let (Departure::Signalled(signal), Mode::Piped) = (first, mode) {
        let grace = async {
            // When the session is over, the screen says so.
            let _over = keyboard.signal(signal).await;
            sleep(SIGNAL_GRACE).await;
        };
        hurried(grace, &mut departures).await;
    }
    let leaving = async {
        let _late_or_over = timeout(LEAVE_PATIENCE, keyboard.leave()).await;
        sleep(LEAVE_PATIENCE).await;
    };
    hurried(leaving, &mut departures).await;
}

/// Waits for it to end, or for one more reason to leave.
async fn hurried(waiting: impl Future<Output = ()>, departures: &mut mpsc::Receiver<Departure>) {
    tokio::select! {
        () = waiting => {}
        Some(_) = departures.recv() => {}
    }
}

/// Nobody sees the output any more: leaves, and throws away what is still on its way.
async fn leave_unseen(keyboard: &Keyboard, screen: &mut Screen) {
    let leaving = async {
        if keyboard.leave().await.is_ok() {
            loop {
                match screen.next().await {
                    Ok(Event::Output(bytes)) => screen.shown(bytes.len()),
                    Ok(Event::Notice(_)) => {}
                    Ok(Event::Closed(_)) | Err(_) => break,
                }
            }
        }
    };
    let _late = timeout(LEAVE_PATIENCE, leaving).await;
}
