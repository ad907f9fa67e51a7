//! The relay between an open session and this process: typing, showing and leaving, each without waiting for the others; and the way back to a
//! session whose connection is lost.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use sulku_client::{By, DialError, Event, Keyboard, Screen, SessionError};
use sulku_protocol::{ClosedFrame, DetachedFrame, ResumedFrame, Signal};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::again::Again;
use super::denials::Denials;
use super::signals::Signals;
use super::terminal::{self, Mode, SIZE_WITHOUT_TERMINAL};
use super::typing::type_in;
use super::{notice, redraw};

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
    /// She typed the other one: the session stays.
    Detaching,
    /// The connection is lost, and she does not want to wait for another.
    GaveUp,
    /// Her terminal is gone.
    HungUp,
    /// A signal told us to.
    Signalled(Signal),
}

/// The gateway's last word.
pub enum Ended {
    /// The session is closed.
    Closed(ClosedFrame),
    /// It goes on without us.
    Detached(DetachedFrame),
}

/// Why there is no last word.
pub enum Stopped {
    /// The session ended without one.
    Session(SessionError),
    /// The connection was lost, and there was no way back.
    NoWayBack(DialError),
    /// The connection was lost, and the holder did not wait for another.
    GaveUp,
    /// Standard output takes no more.
    Output(io::Error),
    /// The session was left, and the gateway did not answer in time.
    Unconfirmed,
}

/// Relays until the session is over or goes on without us: how it ended, and whether it was left from this end. Of a session that is taken up,
/// `resumed` says how it stands.
///
/// # Errors
/// Signals can't be received.
pub async fn relay(
    keyboard: Keyboard,
    mut screen: Screen,
    mode: Mode,
    again: Again,
    denials: Denials,
    resumed: Option<ResumedFrame>,
) -> io::Result<(Result<Ended, Stopped>, Option<Departure>)> {
    let (departing, departures) = mpsc::channel(DEPARTURES_MAX);
    let signals = Signals::receive()?;
    let mut helpers = JoinSet::new();
    helpers.spawn(signals.heed(keyboard.clone(), departing.clone()));
    helpers.spawn(type_in(keyboard.clone(), mode, again.lost.clone(), departing));
    let departed = Cell::new(None);
    let outcome = tokio::select! {
        outcome = show(&mut screen, mode, &again, denials, resumed) => outcome,
        stopped = depart(&keyboard, departures, mode, &again, &departed) => Err(stopped),
    };
    if matches!(outcome, Err(Stopped::Output(_))) {
        leave_unseen(&keyboard, &mut screen).await;
    }
    drop(helpers);
    screen.close().await;
    Ok((outcome, departed.get()))
}

/// Shows what the session shows. Reports it only after it was written, so that a slow reader slows the session down.
async fn show(screen: &mut Screen, mode: Mode, again: &Again, mut denials: Denials, resumed: Option<ResumedFrame>) -> Result<Ended, Stopped> {
    let mut out = tokio::io::stdout();
    // What was shown last, as far as it has come; drawn when it is whole.
    let mut replay = resumed.map(|resumed| (Vec::new(), resumed.replay as usize));
    loop {
        let event = match (screen.next().await, again.stays) {
            (Err(SessionError::Cut(_)), Some(stays)) => {
                let taken_up = again.take_up(screen, stays).await.map_err(Stopped::NoWayBack)?;
                // What another gateway showed is on the screen, and what this one shows follows it.
                let redrawn = taken_up.welcome.resumed.filter(|_| taken_up.by == By::TheSame);
                replay = redrawn.map(|resumed| (Vec::new(), resumed.replay as usize));
                continue;
            }
            (event, _) => event.map_err(Stopped::Session)?,
        };
        match event {
            Event::Closed(closed) => return Ok(Ended::Closed(closed)),
            Event::Detached(detached) => {
                if mode == Mode::Raw {
                    let plain = format!("{}\r\n", redraw::plain());
                    out.write_all(plain.as_bytes()).await.map_err(Stopped::Output)?;
                    out.flush().await.map_err(Stopped::Output)?;
                }
                return Ok(Ended::Detached(detached));
            }
            Event::Notice(said) => denials.now(said).iter().for_each(|said| notice::told(said, mode)),
            Event::Output(mut bytes) => {
                let length = bytes.len();
                if let Some((shown, whole)) = &mut replay {
                    let rest = bytes.split_off(bytes.len().min(*whole - shown.len()));
                    shown.append(&mut bytes);
                    bytes = rest;
                    if shown.len() == *whole {
                        let size = terminal::size().unwrap_or(SIZE_WITHOUT_TERMINAL);
                        let drawn = redraw::screen(&String::from_utf8_lossy(shown), size);
                        out.write_all(drawn.as_bytes()).await.map_err(Stopped::Output)?;
                        replay = None;
                    }
                }
                out.write_all(&bytes).await.map_err(Stopped::Output)?;
                out.flush().await.map_err(Stopped::Output)?;
                screen.shown(length);
                denials.shown(&bytes).iter().for_each(|said| notice::told(said, mode));
            }
        }
    }
}

/// Waits for a reason to leave, then leaves. Comes back only when there will be no last word of the gateway.
async fn depart(
    keyboard: &Keyboard,
    mut departures: mpsc::Receiver<Departure>,
    mode: Mode,
    again: &Again,
    departed: &Cell<Option<Departure>>,
) -> Stopped {
    let Some(first) = departures.recv().await else { return std::future::pending().await };
    departed.set(Some(first));
    if again.lost.is_lost() {
        return Stopped::GaveUp;
    }
    if let (Departure::Signalled(signal), Mode::Piped) = (first, mode) {
        let grace = async {
            // When the session is over, the screen says so.
            let _over = keyboard.signal(signal).await;
            sleep(SIGNAL_GRACE).await;
        };
        hurried(grace, &mut departures).await;
    }
    // A terminal that goes away is no wish to end what runs.
    let stays = again.stays.is_some() && matches!(first, Departure::Detaching | Departure::HungUp | Departure::Signalled(Signal::Hup));
    let leaving = async {
        let _late_or_over = timeout(LEAVE_PATIENCE, async { if stays { keyboard.detach().await } else { keyboard.leave().await } }).await;
        sleep(LEAVE_PATIENCE).await;
    };
    hurried(leaving, &mut departures).await;
    if stays { Stopped::GaveUp } else { Stopped::Unconfirmed }
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
                    Ok(Event::Closed(_) | Event::Detached(_)) | Err(_) => break,
                }
            }
        }
    };
    let _late = timeout(LEAVE_PATIENCE, leaving).await;
}
