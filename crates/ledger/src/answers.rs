//! Answers on their way to a peer: gathered, and sent by whoever made them if the peer takes them at once, or else by a thread that waits.
//!
//! The writer never waits for a peer. Decides nothing about what is answered.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::net::{SendFlags, send};
use sulku_audit::wire::{self, Response, WireError};

use crate::flight::Flight;

/// A reason to keep a connection open: that it is read, or that an answer will come.
pub(crate) struct Expected(Arc<Outbox>);

impl Expected {
    pub(crate) fn new(outbox: &Arc<Outbox>) -> Self {
        outbox.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(outbox))
    }

    pub(crate) const fn outbox(&self) -> &Arc<Outbox> {
        &self.0
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The thread that waits has either seen the count or is waiting when this has had the lock.
            drop(self.0.state());
            self.0.left.notify_one();
        }
    }
}

/// Answers that are sent together: each connection's lock is taken, and its socket written to, once for all of its answers.
#[derive(Default)]
pub(crate) struct Gathered {
    connections: Vec<(Expected, Answers)>,
    /// Memory of answers that were sent.
    spare: Vec<u8>,
}

/// Encoded answers of one connection.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    requests: usize,
    weight: usize,
}

impl Gathered {
    /// Adds the answer of a request of this weight. Its connection stays open until it is sent.
    ///
    /// # Errors
    /// It can't be encoded; nothing was added.
    pub(crate) fn add(&mut self, expected: Expected, response: &Response, blob: &[u8], weight: usize) -> Result<(), (WireError, Expected)> {
        // Those of one connection come one after the other, mostly.
        let known = self.connections.iter().rposition(|(other, _)| Arc::ptr_eq(other.outbox(), expected.outbox()));
        if let Some(known) = known {
            let answers = &mut self.connections[known].1;
            return answers.add(response, blob, weight).map_err(|error| (error, expected));
        }
        let mut answers = Answers { bytes: std::mem::take(&mut self.spare), ..Answers::default() };
        match answers.add(response, blob, weight) {
            Ok(()) => self.connections.push((expected, answers)),
            Err(error) => return Err((error, expected)),
        }
        Ok(())
    }

    /// Sends them: what a peer takes at once now, the rest by the thread that waits.
    pub(crate) fn send(&mut self) {
        for (expected, mut answers) in self.connections.drain(..) {
            expected.outbox().send(&answers);
            answers.bytes.clear();
            self.spare = answers.bytes;
        }
    }
}

impl Answers {
    fn add(&mut self, response: &Response, blob: &[u8], weight: usize) -> Result<(), WireError> {
        wire::append(&mut self.bytes, response, blob)?;
        (self.requests, self.weight) = (self.requests + 1, self.weight + weight);
        Ok(())
    }
}

/// A connection's way back.
pub(crate) struct Outbox {
    stream: UnixStream,
    flight: Arc<Flight>,
    state: Mutex<State>,
    /// There is something for the thread that waits.
    left: Condvar,
    /// How many [`Expected`] there are.
    open: AtomicUsize,
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
    gone: bool,
}

impl Outbox {
    pub(crate) fn new(stream: UnixStream, flight: Arc<Flight>) -> Arc<Self> {
        let (state, left) = (Mutex::default(), Condvar::new());
        Arc::new(Self { stream, flight, state, left, open: AtomicUsize::new(0), announced: AtomicBool::new(false) })
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

    /// Sends what the peer takes at once, and leaves the rest to the thread that waits.
    fn send(&self, answers: &Answers) {
        let Answers { bytes, requests, weight } = answers;
        let mut state = self.state();
        if state.gone {
            return;
        }
        let mut sent = 0;
        // What was left before goes first.
        while !state.is_sending && state.bytes.is_empty() && sent < bytes.len() {
            match send(&self.stream, &bytes[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(rustix::io::Errno::INTR) => {}
                // The thread that waits also finds out what is wrong with a connection.
                Err(_) => break,
            }
        }
        if sent == bytes.len() {
            drop(state);
            self.flight.leave_together(*requests, *weight);
        } else {
            state.bytes.extend_from_slice(&bytes[sent..]);
            (state.requests, state.weight) = (state.requests + requests, state.weight + weight);
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
            let is_open = || self.open.load(Ordering::Acquire) > 0;
            let nothing_left = |state: &mut State| !state.is_left && is_open();
            let mut state = self.left.wait_while(self.state(), nothing_left).unwrap_or_else(PoisonError::into_inner);
            if state.bytes.is_empty() && !is_open() {
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::thread;

    use sulku_audit::wire::ResponseBody;

    use super::*;

    fn response(id: u64) -> Response {
        Response { id, body: ResponseBody::Published { size: id } }
    }

    fn ids(mut bytes: &[u8]) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some((response, _, length)) = wire::decode::<Response>(bytes).expect("whole frames") {
            ids.push(response.id);
            bytes = &bytes[length..];
        }
        ids
    }

    /// Nothing else keeps it open: the peer says no more, and all requests have their answers, which are not sent yet.
    #[test]
    fn a_connection_stays_open_until_what_was_gathered_is_sent() {
        let (mut peer, ours) = UnixStream::pair().expect("sockets");
        let outbox = Outbox::new(ours, Arc::new(Flight::new(10, 1000)));
        let mut gathered = Gathered::default();
        for id in 0..3 {
            outbox.flight().board(1).expect("room");
            assert!(gathered.add(Expected::new(&outbox), &response(id), &[], 1).is_ok());
        }
        assert_eq!(outbox.open.load(Ordering::Acquire), 1, "one reason for all");
        thread::scope(|scope| {
            let waits = scope.spawn(|| outbox.send_what_is_left());
            gathered.send();
            waits.join().expect("it ends, since nothing more will come");
        });
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).expect("a connection that is closed in order");
        assert_eq!(ids(&bytes), [0, 1, 2]);
    }

    /// More than a socket takes at once.
    #[test]
    fn a_slow_peer_gets_all_answers_in_their_order_and_nobody_waits_for_it() {
        let (mut peer, ours) = UnixStream::pair().expect("sockets");
        let outbox = Outbox::new(ours, Arc::new(Flight::new(100, 1000)));
        let (mut gathered, blob) = (Gathered::default(), vec![7; 1 << 20]);
        let mut bytes = Vec::new();
        for batch in 0..5 {
            for id in 0..2 {
                outbox.flight().board(1).expect("room");
                assert!(gathered.add(Expected::new(&outbox), &response(2 * batch + id), &blob, 1).is_ok());
            }
            // Comes back although nobody reads.
            gathered.send();
            if batch == 0 {
                // Makes room in the socket, which is not for what comes later.
                bytes.resize(64 << 10, 0);
                peer.read_exact(&mut bytes).expect("a part of the first batch");
            }
        }
        thread::scope(|scope| {
            scope.spawn(|| outbox.send_what_is_left());
            peer.read_to_end(&mut bytes).expect("a connection that is closed in order");
            assert_eq!(ids(&bytes), (0..10).collect::<Vec<_>>());
        });
    }
}
