//! Words from the gateway, made safe for a terminal. Removes; never translates or judges.

use sulku_protocol::{
    ClosedFrame, DeletedFrame, DenialRow, DetachedFrame, NoticeFrame, RefusedFrame, SessionRow, Tell, WelcomeFrame, WorkspaceRow, WorkspacesFrame,
};

/// Longer than any sentence that a gateway has for a person.
const WORDS_CHARS_MAX: usize = 400;
/// More items than any list of what is off has.
const ITEMS_MAX: usize = 32;

/// One line without control characters and without those that reorder what is read.
fn plain(text: &mut String) {
    let acts = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    *text = text.chars().take(WORDS_CHARS_MAX).map(|c| if acts(c) { '\u{fffd}' } else { c }).collect();
}

fn plain_rows(rows: &mut [SessionRow]) {
    for SessionRow { from, transport, session: _, permit: _, person: _, opened: _, ends: _, idle_s: _, bytes_out: _, detached_s: _ } in rows {
        [from, transport].into_iter().for_each(plain);
    }
}

/// The frame with all its words made safe. Ids are safe by their types, and output is the terminal's own.
pub(crate) fn made_plain(mut tell: Tell) -> Tell {
    match &mut tell {
        Tell::Welcome(WelcomeFrame {
            title,
            recording,
            off,
            session: _,
            permit: _,
            person: _,
            workspace,
            ends: _,
            credit: _,
            stays_s: _,
            resumed: _,
        }) => {
            [title, recording, workspace].into_iter().for_each(plain);
            off.truncate(ITEMS_MAX);
            off.iter_mut().for_each(plain);
        }
        Tell::Refused(RefusedFrame { code: _, advice, choices, sessions }) => {
            plain(advice);
            choices.truncate(ITEMS_MAX);
            plain_rows(sessions);
        }
        Tell::Closed(ClosedFrame { reason, message, exit_status: _ }) => [reason, message].into_iter().for_each(plain),
        Tell::Sessions(rows) => plain_rows(rows),
        Tell::Workspaces(WorkspacesFrame { rows, all: _ }) => {
            for WorkspaceRow { workspace, state, permit: _, ends: _, kept_until: _ } in rows {
                [workspace, state].into_iter().for_each(plain);
            }
        }
        Tell::Deleted(DeletedFrame { workspace, files: _, bytes: _ }) => plain(workspace),
        Tell::Notice(NoticeFrame { kind: _, text }) => plain(text),
        Tell::Denials(rows) => {
            for DenialRow { at: _, session: _, permit: _, text } in rows {
                plain(text);
            }
        }
        Tell::Detached(DetachedFrame { until: _, message }) => plain(message),
        Tell::Output(_) | Tell::Done | Tell::Taken(_) => {}
    }
    tell
}
