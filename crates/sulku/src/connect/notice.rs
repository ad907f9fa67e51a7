//! What the holder is told before and after a session, on standard error: it is not the session's output.

use std::time::Duration;

use sulku_client::{By, Carrier, Refused, Session};
use sulku_permit::SessionId;
use sulku_protocol::{ClosedFrame, DetachedFrame, NoticeFrame, WelcomeFrame};

use super::terminal::Mode;
use crate::print;

/// Whose workspace this is, until when, that it is recorded, and what is off.
pub fn opened(session: &Session, mode: Mode) {
    let WelcomeFrame { session: id, permit, title, person, workspace, ends, recording, off, credit: _, stays_s, resumed } = &session.welcome;
    eprintln!("{permit}  {title}");
    eprintln!("this session is recorded: {recording}");
    if !off.is_empty() {
        eprintln!("off: {}", off.join(", "));
    }
    eprintln!("{person} in workspace {workspace} until {}, session {id} over {}", print::local(*ends), session.carrier);
    if let Some(resumed) = resumed {
        eprintln!("taken up again after {}", print::length(resumed.detached_ms / 1_000));
    }
    match (mode, stays_s) {
        (Mode::Raw, Some(stays_s)) => {
            eprintln!("leave with exit, or with ~. on a new line; with ~d it goes on without you, for {} at most", print::length(*stays_s));
        }
        (Mode::Raw, None) => eprintln!("leave with exit, or with ~. on a new line"),
        (Mode::Piped, _) => {}
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

/// The connection is lost, and the session is not.
pub fn lost(stays: Duration) {
    eprint!("\r\nsulku: connection lost, trying again for {}; Ctrl-C ends the trying …\r\n", print::length(stays.as_secs()));
}

/// It is taken up again; so much was typed meanwhile that went nowhere.
pub fn back(after: Duration, carrier: Carrier, dropped: usize, by: By) {
    eprint!("sulku: back after {} over {carrier}\r\n", print::length(after.as_secs()));
    if let By::Another { unknown } = by {
        eprint!("sulku: the gateway was started anew: what was on its way to this screen then is not on it\r\n");
        if unknown > 0 {
            eprint!("sulku: of what you typed last, {unknown} bytes may have been lost; they are not sent again: look before you type them anew\r\n");
        }
    }
    if dropped > 0 {
        eprint!("sulku: {dropped} bytes that you typed meanwhile went nowhere\r\n");
    }
}

/// The session goes on without this client.
pub fn detached(id: SessionId, detached: &DetachedFrame) {
    eprintln!("sulku: session {id}: {}; it stays until {} at most", detached.message, print::local(detached.until));
}

/// She went before the gateway let go, or while there was no connection.
pub fn gave_up(id: SessionId, stays: Duration) {
    eprintln!("sulku: left session {id}; it goes on for {} at most, and sulku connect takes it up again", print::length(stays.as_secs()));
}

/// Those of her sessions that she may take up instead of opening one, by number; `full` says that she may not open one.
pub fn choices(refused: &Refused, full: bool) {
    eprintln!("{}", if full { "you have as many sessions open as the permit allows:" } else { "several of your sessions go on without you:" });
    for (number, row) in (1..).zip(&refused.sessions) {
        let alone = row.detached_s.map_or_else(|| "shown elsewhere".to_owned(), |alone| format!("alone for {}", print::length(alone)));
        eprintln!("  {number}  {}  opened {}, {alone}", row.session, print::local(row.opened));
    }
    eprint!("take up which (1-{}{})? ", refused.sessions.len(), if full { "" } else { ", n for a new one" });
}

/// Why the session is over.
pub fn closed(id: SessionId, closed: &ClosedFrame) {
    eprintln!("sulku: session {id} is closed: {} ({})", closed.message, closed.reason);
}

/// It was left, and nobody said goodbye.
pub fn unconfirmed(id: SessionId) {
    eprintln!("sulku: left session {id}; the gateway did not confirm it in time and will close it by itself");
}
