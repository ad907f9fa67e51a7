//! A ledger that does not answer freezes the session, and ends it at last.
//!
//! Frozen, nothing is shown and nothing that is typed is taken, so that nothing goes on unrecorded; the holder is told why. Counts from
//! the oldest request that has no answer.

use std::time::Duration;

use sulku_protocol::{NoticeFrame, NoticeKind};

/// A session freezes when the ledger has not answered for this long: much longer than any sync of a healthy disk.
pub(crate) const FREEZE_AFTER: Duration = Duration::from_secs(5);
/// A session ends when the ledger has not answered for this long: a ledger that is started anew answers sooner.
pub(crate) const END_AFTER: Duration = Duration::from_secs(30);

/// Whether a session is frozen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freeze {
    /// It goes on.
    #[default]
    Thawed,
    /// It waits for the ledger.
    Frozen,
}

/// What a look at the clock gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// All is as before.
    Same,
    /// It froze or thawed; the holder is to be told.
    Changed(NoticeFrame),
    /// It has waited for too long.
    Over,
}

impl Freeze {
    /// Looks at how long the oldest request has waited for the ledger.
    pub(crate) fn look(&mut self, waited: Duration) -> Look {
        if waited >= END_AFTER {
            return Look::Over;
        }
        let now = if waited >= FREEZE_AFTER { Self::Frozen } else { Self::Thawed };
        if std::mem::replace(self, now) == now { Look::Same } else { Look::Changed(now.notice()) }
    }

    pub(crate) fn notice(self) -> NoticeFrame {
        match self {
            Self::Frozen => NoticeFrame {
                kind: NoticeKind::Frozen,
                text: "the environment can't record this session just now, so nothing is shown and nothing that you type is taken; it goes on by \
                       itself when recording does, or ends in half a minute"
                    .to_owned(),
            },
            Self::Thawed => NoticeFrame { kind: NoticeKind::Resumed, text: "this session is recorded again and goes on".to_owned() },
        }
    }
}
