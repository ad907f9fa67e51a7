//! Signals of this process, heard from the moment that a session is open. Decides nothing about the session.

use std::io;

use sulku_client::Keyboard;
use sulku_protocol::Signal;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::mpsc;

use super::relay::Departure;
use super::terminal;

/// The signals that matter to a session.
pub struct Signals {
    resized: unix::Signal,
    resumed: unix::Signal,
    hup: unix::Signal,
    int: unix::Signal,
    quit: unix::Signal,
    term: unix::Signal,
}

impl Signals {
    /// Begins to receive them; from now on none of them ends this process by itself.
    ///
    /// # Errors
    /// The system refuses.
    pub fn receive() -> io::Result<Self> {
        Ok(Self {
            resized: signal(SignalKind::window_change())?,
            resumed: signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
            hup: signal(SignalKind::hangup())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            term: signal(SignalKind::terminate())?,
        })
    }

    /// Takes each where it belongs, until the session is over.
    pub async fn heed(mut self, keyboard: Keyboard, departing: mpsc::Sender<Departure>) {
        loop {
            let ending = tokio::select! {
                Some(()) = self.resized.recv() => {
                    if let Some((columns, rows)) = terminal::size()
                        && keyboard.resize(columns, rows).await.is_err()
                    {
                        return;
                    }
                    continue;
                }
                Some(()) = self.resumed.recv() => {
                    terminal::raw_again();
                    continue;
                }
                Some(()) = self.hup.recv() => Signal::Hup,
                Some(()) = self.int.recv() => Signal::Int,
                Some(()) = self.quit.recv() => Signal::Quit,
                Some(()) = self.term.recv() => Signal::Term,
                else => return,
            };
            if departing.send(Departure::Signalled(ending)).await.is_err() {
                return;
            }
        }
    }
}

/// A signal's number (signal(7)), the same on every Linux.
pub fn number(signal: Signal) -> u8 {
    use rustix::process::Signal as S;
    let signal = match signal {
        Signal::Hup => S::HUP,
        Signal::Int => S::INT,
        Signal::Quit => S::QUIT,
        Signal::Term => S::TERM,
        Signal::Usr1 => S::USR1,
        Signal::Usr2 => S::USR2,
        Signal::Tstp => S::TSTP,
        Signal::Cont => S::CONT,
    };
    u8::try_from(signal.as_raw()).expect("Linux has 64 signals")
}
