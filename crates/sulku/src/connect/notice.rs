//! What the holder is told before and after a session, on standard error: it is not the session's output.

use sulku_client::Session;
use sulku_permit::SessionId;
use sulku_protocol::{ClosedFrame, NoticeFrame, WelcomeFrame};

use super::terminal::Mode;
use crate::print;

/// Whose workspace this is, until when, that it is recorded, and what is off.
pub fn opened(session: &Session, mode: Mode) {
    let WelcomeFrame { session: id, permit, title, person, workspace, ends, recording, off, credit: _ } = &session.welcome;
    eprintln!("{permit}  {title}");
    eprintln!("this session is recorded: {recording}");
    if !off.is_empty() {
        eprintln!("off: {}", off.join(", "));
    }
    eprintln!("{person} in workspace {workspace} until {}, session {id} over {}", print::local(*ends), session.carrier);
    if mode == Mode::Raw {
        eprintln!("leave with exit, or with ~. on a new line");
    }
}

/// What the gateway says while the session goes on. In raw mode a line's end alone does not go back to the first column.
pub fn told(notice: &NoticeFrame, mode: Mode) {
    let end = match mode {
        Mode::Raw => "\r\n",
        Mode::Piped => "\n",
    };
    eprint!("{end}sulku: {}{end}", notice.text);
}

/// Why the session is over.
pub fn closed(id: SessionId, closed: &ClosedFrame) {
    eprintln!("sulku: session {id} is closed: {} ({})", closed.message, closed.reason);
}

/// It was left, and nobody said goodbye.
pub fn unconfirmed(id: SessionId) {
    eprintln!("sulku: left session {id}; the gateway did not confirm it in time and will close it by itself");
}
