//! What is typed here, on its way to the session. From a terminal, keys pass as they come, but for the escape; from a pipe, the
//! bytes are typed for the holder, and their end is typed as the end-of-file character.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};
use rustix::stdio::stdin;
use sulku_client::{Keyboard, Over};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::again::Lost;
use super::escape::{Escape, Next};
use super::relay::Departure;
use super::terminal::Mode;

/// What is read from standard input at once.
const PIECE_BYTES: usize = 4 * 1024;
/// Pieces that wait for the network; more make us read no further.
const PIECES_MAX: usize = 4;
/// While typing waits, how often it is looked whether the connection is lost.
const LOOK: Duration = Duration::from_millis(200);
/// Ctrl-C, termios' VINTR.
const INTERRUPT: u8 = 0x03;
/// Ctrl-D, termios' VEOF.
const END_OF_FILE: u8 = 0x04;

/// Types until input ends or the session is over. Then it waits: what ends the session is decided elsewhere.
pub async fn type_in(keyboard: Keyboard, mode: Mode, lost: Lost, departing: mpsc::Sender<Departure>) {
    let pieces = pieces();
    let departure = match mode {
        Mode::Raw => keys(&keyboard, pieces, &lost).await.map(Some),
        Mode::Piped => pipe(&keyboard, pieces).await.map(|()| None),
    };
    if let Ok(Some(departure)) = departure {
        // No receiver means that the session is over already.
        let _ = departing.send(departure).await;
    }
}

async fn keys(keyboard: &Keyboard, mut pieces: mpsc::Receiver<Vec<u8>>, lost: &Lost) -> Result<Departure, Over> {
    let mut escape = Escape::default();
    while let Some(piece) = pieces.recv().await {
        if lost.is_lost() {
            if let Some(departure) = unheard(&piece, lost) {
                return Ok(departure);
            }
            continue;
        }
        let (bytes, next) = escape.take(&piece);
        let mut typing = std::pin::pin!(keyboard.input(&bytes));
        // While a connection is lost, what was typed before waits for another; what ends the trying must be heard all the same.
        loop {
            tokio::select! {
                biased;
                typed = &mut typing => break typed?,
                Some(piece) = pieces.recv(), if lost.is_lost() => {
                    if let Some(departure) = unheard(&piece, lost) {
                        return Ok(departure);
                    }
                }
                () = sleep(LOOK), if !lost.is_lost() => {}
            }
        }
        match next {
            Next::Go => {}
            Next::Leave => return Ok(Departure::Asked),
            Next::Detach => return Ok(Departure::Detaching),
        }
    }
    Ok(Departure::HungUp)
}

/// What is typed while nobody hears it.
fn unheard(piece: &[u8], lost: &Lost) -> Option<Departure> {
    lost.dropped(piece.len());
    piece.contains(&INTERRUPT).then_some(Departure::GaveUp)
}

/// The end-of-file character ends the input at the start of a line; within a line, the first one only hands the line over
/// (termios(3), VEOF).
async fn pipe(keyboard: &Keyboard, mut pieces: mpsc::Receiver<Vec<u8>>) -> Result<(), Over> {
    let mut last = b'\n';
    while let Some(piece) = pieces.recv().await {
        keyboard.input(&piece).await?;
        last = piece.last().copied().unwrap_or(last);
    }
    let end: &[u8] = if last == b'\n' { &[END_OF_FILE] } else { &[END_OF_FILE, END_OF_FILE] };
    keyboard.input(end).await
}

/// Standard input, read by a thread of its own: files and terminals know no other way that works for all of them. The thread
/// ends with the input or the process.
fn pieces() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    std::thread::spawn(move || {
        let mut bytes = [0; PIECE_BYTES];
        loop {
            match read(stdin(), &mut bytes) {
                Ok(0) => return,
                Ok(length) => {
                    if pieces.blocking_send(bytes.get(..length).unwrap_or_default().to_vec()).is_err() {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let input = stdin();
                    // An error here shows itself at the next read.
                    let _ = poll(&mut [PollFd::new(&input, PollFlags::IN)], None);
                }
                Err(_) => return,
            }
        }
    });
    receiver
}
