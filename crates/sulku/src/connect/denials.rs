//! When the holder reads what was denied: at once, but not across a programme that has the whole screen, and not if she wants none.
//!
//! It looks for the sequences that switch to the other screen and back (xterm's private modes 47, 1047 and 1049), which full-screen
//! programmes send; one that draws without them is drawn over.

use sulku_client::Notices;
use sulku_protocol::{NoticeFrame, NoticeKind};

/// Held ones beyond this are left to `sulku why`.
const HELD_MAX: usize = 8;
/// The longest of the sequences, without its last byte.
const TAIL_BYTES: usize = 7;

/// What is shown, as far as it matters for when to speak.
#[derive(Debug, Default)]
pub struct Denials {
    notices: Notices,
    /// The last bytes shown: a sequence may come in two pieces.
    tail: Vec<u8>,
    full_screen: bool,
    held: Vec<NoticeFrame>,
}

impl Denials {
    /// For a holder who wants this.
    pub fn new(notices: Notices) -> Self {
        Self { notices, ..Self::default() }
    }

    /// The notice, if it is to be read now.
    pub fn now(&mut self, notice: NoticeFrame) -> Option<NoticeFrame> {
        if notice.kind != NoticeKind::Denied {
            return Some(notice);
        }
        if self.notices == Notices::Off {
            return None;
        }
        if self.full_screen {
            if self.held.len() < HELD_MAX {
                self.held.push(notice);
            }
            return None;
        }
        Some(notice)
    }

    /// What is to be read now that these bytes were shown.
    pub fn shown(&mut self, bytes: &[u8]) -> Vec<NoticeFrame> {
        self.tail.extend_from_slice(bytes);
        let last = |sequences: [&[u8]; 3]| {
            sequences.iter().filter_map(|sequence| self.tail.windows(sequence.len()).rposition(|window| window == *sequence)).max()
        };
        let entered = last([b"\x1b[?1049h", b"\x1b[?1047h", b"\x1b[?47h"]);
        let left = last([b"\x1b[?1049l", b"\x1b[?1047l", b"\x1b[?47l"]);
        if entered.is_some() || left.is_some() {
            self.full_screen = entered > left;
        }
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
        if self.full_screen { Vec::new() } else { std::mem::take(&mut self.held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: NoticeKind) -> NoticeFrame {
        NoticeFrame { kind, text: "x".to_owned() }
    }

    #[test]
    fn a_denial_waits_for_a_full_screen_programme_to_end_and_a_warning_does_not() {
        let mut denials = Denials::default();
        assert_eq!(denials.now(notice(NoticeKind::Denied)), Some(notice(NoticeKind::Denied)), "the control: there is none yet");
        assert!(denials.shown(b"$ vi\r\n\x1b[?10").is_empty());
        assert!(denials.shown(b"49h\x1b[2J~\r\n~").is_empty());
        for _ in 0..100 {
            assert_eq!(denials.now(notice(NoticeKind::Denied)), None);
        }
        assert_eq!(denials.now(notice(NoticeKind::Ending)), Some(notice(NoticeKind::Ending)));
        assert!(denials.shown(b"more of its screen, and more").is_empty());
        assert_eq!(denials.shown(b"\x1b[?1049l$ ").len(), HELD_MAX);
        assert_eq!(denials.now(notice(NoticeKind::Denied)), Some(notice(NoticeKind::Denied)));
    }

    #[test]
    fn who_wants_none_is_told_none_but_warned() {
        let mut denials = Denials::new(Notices::Off);
        assert_eq!(denials.now(notice(NoticeKind::Denied)), None);
        assert_eq!(denials.now(notice(NoticeKind::Ending)), Some(notice(NoticeKind::Ending)));
    }
}
