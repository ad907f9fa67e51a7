//! The terminal that we run at: its size, and its raw mode, which always comes to an end. Reads and writes no bytes.
//!
//! The mode is put back when the guard is dropped and when the process panics, whether or not a panic unwinds. The signals that
//! would end the process are received instead (see [`super::signals`]), so that they end it in order.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// What programs expect where there is no terminal: columns and rows.
pub const SIZE_WITHOUT_TERMINAL: (u16, u16) = (80, 24);

/// The mode before ours, while ours is set.
static COOKED: Mutex<Option<Termios>> = Mutex::new(None);

/// How what is typed reaches us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From a terminal, key by key.
    Raw,
    /// From a pipe, a file or nothing.
    Piped,
}

impl Mode {
    /// What standard input is.
    pub fn of_standard_input() -> Self {
        if isatty(stdio::stdin()) { Self::Raw } else { Self::Piped }
    }
}

/// Columns and rows of the terminal, if there is one and it knows.
pub fn size() -> Option<(u16, u16)> {
    [stdio::stdout(), stdio::stdin(), stdio::stderr()]
        .into_iter()
        .filter_map(|fd| tcgetwinsize(fd).ok())
        .map(|size| (size.ws_col, size.ws_row))
        .find(|(columns, rows)| *columns > 0 && *rows > 0)
}

/// While this lives, keys reach the session untouched.
#[must_use = "the terminal leaves raw mode when this is dropped"]
pub struct RawMode(());

impl RawMode {
    /// Enters raw mode on standard input.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                put_back();
                before(panic);
            }));
        });
        let cooked = tcgetattr(stdio::stdin())?;
        set_raw(&cooked)?;
        *COOKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(cooked);
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        put_back();
    }
}

/// Enters raw mode anew if it should be on: a shell resets the terminal when it stops a job.
pub fn raw_again() {
    if let Some(cooked) = &*COOKED.lock().unwrap_or_else(PoisonError::into_inner) {
        // A terminal that refuses now is gone, and reading from it tells so.
        let _ = set_raw(cooked);
    }
}

fn set_raw(cooked: &Termios) -> rustix::io::Result<()> {
    let mut raw = cooked.clone();
    raw.make_raw();
    tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)
}

fn put_back() {
    if let Some(cooked) = COOKED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that refuses now is gone; there is nobody left to tell.
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, &cooked);
    }
}
