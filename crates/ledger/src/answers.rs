//! Answers on their way to a peer: gathered, and sent by whoever made them if the peer takes them at once, or else by a thread that waits.
//!
//! The writer never waits for a peer. Decides nothing about what is answered.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::net::{SendFlags, send};
use sulku_audit::wire::{self, Response, WireError};

use crate::flight::Flight;

/// A reason to keep a connection open: that it is read, or that an answer will come.
pub(crate) struct Expected(Arc<Outbox>);

impl Expected {
    pub(crate) fn new(outbox: &Arc<Outbox>) -> Self {
        outbox.state().open += 1;
        Self(Arc::clone(outbox))
    }

    pub(crate) const fn outbox(&self) -> &Arc<Outbox> {
        &self.0
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        let is_last = state.open == 0;
        drop(state);
        if is_last {
            self.0.left.notify_one();
        }
    }
}

/// A connection's way back.
pub(crate) struct Outbox {
    stream: UnixStream,
    flight: Arc<Flight>,
    state: Mutex<State>,
    /// There is something for the thread that waits.
    left: Condvar,
    /// Whether the peer has announced what it reads.
    announced: AtomicBool,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    requests: usize,
    weight: usize,
    /// The thread that waits is sending: nobody else may.
    is_sending: bool,
    /// The peer does not take at once: the thread has to send.
    is_left: bool,
    /// How many [`Expected`] there are.
    open: usize,
    gone: bool,
}

impl Outbox {
    pub(crate) fn new(stream: UnixStream, flight: Arc<Flight>) -> Arc<Self> {
        Arc::new(Self { stream, flight, state: Mutex::default(), left: Condvar::new(), announced: AtomicBool::new(false) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn flight(&self) -> &Flight {
        &self.flight
    }

    pub(crate) fn announce(&self) {
        self.announced.store(true, Ordering::Release);
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Adds the answer of a request of this weight, to be sent by [`Outbox::flush`].
    ///
    /// # Errors
    /// It can't be encoded; nothing was added.
    pub(crate) fn add(&self, response: &Response, blob: &[u8], weight: usize) -> Result<(), WireError> {
        let mut state = self.state();
        if !state.gone {
            wire::append(&mut state.bytes, response, blob)?;
            (state.requests, state.weight) = (state.requests + 1, state.weight + weight);
        }
        Ok(())
    }

    /// Sends what the peer takes at once, and leaves the rest to the thread that waits.
    pub(crate) fn flush(&self) {
        let mut state = self.state();
        let mut sent = 0;
        while !state.is_sending && !state.gone && sent < state.bytes.len() {
            match send(&self.stream, &state.bytes[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(rustix::io::Errno::INTR) => {}
                // The thread that waits also finds out what is wrong with a connection.
                Err(_) => break,
            }
        }
        state.bytes.drain(..sent);
        if state.bytes.is_empty() {
            let (requests, weight) = (std::mem::take(&mut state.requests), std::mem::take(&mut state.weight));
            drop(state);
            self.flight.leave_together(requests, weight);
        } else {
            state.is_left = true;
            drop(state);
            self.left.notify_one();
        }
    }

    /// Sends what was left, until no request is open any more or the peer is gone.
    pub(crate) fn send_what_is_left(&self) {
        if self.send_until_done().is_err() {
            let mut state = self.state();
            state.gone = true;
            state.bytes = Vec::new();
        }
        self.flight.break_off();
        let _gone = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn send_until_done(&self) -> io::Result<()> {
        loop {
            let nothing_left = |state: &mut State| !state.is_left && state.open > 0;
            let mut state = self.left.wait_while(self.state(), nothing_left).unwrap_or_else(PoisonError::into_inner);
            if state.bytes.is_empty() && state.open == 0 {
                return Ok(());
            }
            let bytes = std::mem::take(&mut state.bytes);
            let (requests, weight) = (std::mem::take(&mut state.requests), std::mem::take(&mut state.weight));
            (state.is_sending, state.is_left) = (true, false);
            drop(state);
            let sent = (&self.stream).write_all(&bytes);
            self.flight.leave_together(requests, weight);
            let mut state = self.state();
            state.is_sending = false;
            sent?;
            state.is_left = !state.bytes.is_empty();
        }
    }
}
