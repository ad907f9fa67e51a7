//! What the writer hands over to the publisher: frames that are durable, and who wants a checkpoint over them. Bounded.
//!
//! Wakes the publisher only when there is much, or when somebody waits: it looks by itself often enough for the rest. Writes nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::Contents;
use crate::publisher::Written;
use crate::server::Reply;

/// Frames, and bytes of them, that wait to be published. Beyond it the writer waits: memory stays bounded. Some seconds' frames of
/// one entry each.
const FRAMES_MAX: usize = 64 << 10;
/// See above; a second's worth at the rate of a disk.
const BYTES_MAX: usize = 64 << 20;
/// The publisher is woken when so much came since it last looked.
const WORTH_WAKING_BYTES: usize = 4 << 20;
/// The same in frames.
const WORTH_WAKING_FRAMES: usize = 4096;

/// The publisher has ended.
#[derive(Debug)]
pub(crate) struct Ended;

/// See the module.
#[derive(Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
    work: Condvar,
    lighter: Condvar,
}

#[derive(Default)]
struct State {
    given: Given,
    given_bytes: usize,
    /// What is not written yet, taken by the publisher or not.
    frames: usize,
    bytes: usize,
    /// The publisher can't write for want of room: what waits is bounded by the reserve.
    has_no_bound: bool,
    ended: bool,
}

/// What the writer gave.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) frames: Vec<Contents>,
    /// Who wants a checkpoint over these frames and those before.
    pub(crate) asking: Vec<Reply>,
    /// No more will come.
    pub(crate) is_last: bool,
}

impl Handover {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a durable frame over, when there is room for it. One always has room.
    pub(crate) fn put(&self, contents: Contents) -> Result<(), Ended> {
        let bytes = contents.bytes();
        let is_full = |state: &mut State| {
            !state.ended && !state.has_no_bound && state.frames > 0 && (state.frames >= FRAMES_MAX || state.bytes + bytes > BYTES_MAX)
        };
        let mut state = self.state();
        if is_full(&mut state) {
            self.work.notify_one();
            state = self.lighter.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended {
            return Err(Ended);
        }
        state.given.frames.push(contents);
        state.given_bytes += bytes;
        (state.frames, state.bytes) = (state.frames + 1, state.bytes + bytes);
        if state.given_bytes >= WORTH_WAKING_BYTES || state.given.frames.len() >= WORTH_WAKING_FRAMES {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Asks for a checkpoint over all that was put before.
    pub(crate) fn ask(&self, replies: impl Iterator<Item = Reply>) {
        let mut state = self.state();
        let before = state.given.asking.len();
        state.given.asking.extend(replies);
        if state.given.asking.len() > before {
            self.work.notify_one();
        }
    }

    /// Nothing more will be put.
    pub(crate) fn close(&self) {
        self.state().given.is_last = true;
        self.work.notify_one();
    }

    /// Waits for so long, or until there is something that should not wait; gives what there is.
    pub(crate) fn take(&self, wait: Duration) -> Given {
        let can_wait = |state: &mut State| {
            let little = state.given_bytes < WORTH_WAKING_BYTES && state.given.frames.len() < WORTH_WAKING_FRAMES;
            little && state.given.asking.is_empty() && !state.given.is_last
        };
        let (mut state, _) = self.work.wait_timeout_while(self.state(), wait, can_wait).unwrap_or_else(PoisonError::into_inner);
        state.given_bytes = 0;
        let is_last = state.given.is_last;
        let given = std::mem::take(&mut state.given);
        state.given.is_last = is_last;
        given
    }

    /// So much of it is written.
    pub(crate) fn done(&self, written: Written) {
        let mut state = self.state();
        (state.frames, state.bytes) = (state.frames - written.frames, state.bytes - written.bytes);
        drop(state);
        self.lighter.notify_all();
    }

    /// Whether the bound holds. It does not while the disk is full: the writer, which then keeps closing entries alone, must not wait.
    pub(crate) fn set_bound(&self, holds: Bound) {
        self.state().has_no_bound = holds == Bound::Reserve;
        self.lighter.notify_all();
    }

    /// Nothing is published any more; gives who waits for it.
    pub(crate) fn end(&self) -> Vec<Reply> {
        let mut state = self.state();
        state.ended = true;
        state.given.frames.clear();
        let asking = std::mem::take(&mut state.given.asking);
        drop(state);
        self.lighter.notify_all();
        asking
    }
}

/// What bounds the frames that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Their number and bytes.
    Memory,
    /// The reserve that they are written to.
    Reserve,
}
