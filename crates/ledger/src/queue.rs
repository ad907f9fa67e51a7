//! What waits for the writer, bounded in number and bytes, and who writes it: the thread that brought it when nobody is writing,
//! which saves handing it on, or else a thread of its own.
//!
//! Keeps the order in which requests came. Whoever writes takes what waits only while holding the writer, so that nothing is overtaken.
//! Knows nothing of entries.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::writer::{Command, Writer};

/// Requests that wait for the writer. Beyond it a connection's next request is not read.
const WAITING_REQUESTS_MAX: usize = 4096;
/// Bytes that they may hold, whatever the connections' own bounds add up to.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// So many requests at once are written by the thread that brought them. More of them are handed on, so that it reads the next ones
/// meanwhile.
const INLINE_REQUESTS_MAX: usize = 8;

/// The ledger takes no more.
#[derive(Debug)]
pub(crate) struct Closed;

/// A request, and the bytes that it holds in memory.
pub(crate) type Weighed = (Command, usize);

/// Requests in the order in which they came.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    work: Condvar,
    /// There is room.
    room: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Weighed>,
    bytes: usize,
    /// Something other than a request is to be looked at.
    nudged: bool,
    closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds requests, when there is room for each.
    fn push(&self, batch: impl Iterator<Item = Weighed>) -> Result<(), Closed> {
        let mut state = self.state();
        for (command, bytes) in batch {
            let is_full = |state: &State| {
                let has_room = state.waiting.len() < WAITING_REQUESTS_MAX && state.bytes + bytes <= WAITING_BYTES_MAX;
                !state.closed && !state.waiting.is_empty() && !has_room
            };
            while is_full(&state) {
                self.work.notify_one();
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return Err(Closed);
            }
            state.waiting.push_back((command, bytes));
            state.bytes += bytes;
        }
        Ok(())
    }

    /// Moves the requests that came first to `taken`, up to so many and until they have so many bytes. Only for who holds the writer.
    pub(crate) fn take(&self, taken: &mut VecDeque<Weighed>, count_max: usize, bytes_max: usize) {
        let mut state = self.state();
        state.nudged = false;
        let was_full = state.waiting.len() >= WAITING_REQUESTS_MAX || state.bytes + (1 << 20) > WAITING_BYTES_MAX;
        let (mut count, mut bytes) = (0, 0);
        while count < count_max
            && bytes < bytes_max
            && let Some((command, weight)) = state.waiting.pop_front()
        {
            (count, bytes) = (count + 1, bytes + weight);
            taken.push_back((command, weight));
        }
        state.bytes -= bytes;
        if was_full && count > 0 {
            self.room.notify_all();
        }
    }

    /// Puts requests back in front that were taken and not looked at.
    pub(crate) fn put_back(&self, taken: &mut VecDeque<Weighed>) {
        if taken.is_empty() {
            return;
        }
        let mut state = self.state();
        for (command, bytes) in taken.drain(..).rev() {
            state.bytes += bytes;
            state.waiting.push_front((command, bytes));
        }
    }

    /// Takes no more; gives what waits.
    pub(crate) fn close(&self) -> Vec<Command> {
        let mut state = self.state();
        state.closed = true;
        state.bytes = 0;
        let waiting = state.waiting.drain(..).map(|(command, _)| command).collect();
        drop(state);
        self.room.notify_all();
        self.work.notify_all();
        waiting
    }

    fn has_work(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// Waits until there is something to write.
    fn wait(&self) -> Result<(), Closed> {
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.closed && !state.nudged;
        let mut state = self.work.wait_while(self.state(), nothing).unwrap_or_else(PoisonError::into_inner);
        state.nudged = false;
        if state.closed { Err(Closed) } else { Ok(()) }
    }

    fn nudge(&self) {
        self.state().nudged = true;
        self.work.notify_one();
    }
}

/// The writer and what waits for it.
pub(crate) struct Desk {
    queue: Queue,
    writer: Mutex<Writer>,
}

impl Desk {
    pub(crate) fn new(writer: Writer) -> Arc<Self> {
        Arc::new(Self { queue: Queue::default(), writer: Mutex::new(writer) })
    }

    /// Has requests written, and returns when they wait in order or are answered already.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub(crate) fn submit(&self, batch: &mut Vec<Weighed>) -> Result<(), Closed> {
        let few = batch.len() <= INLINE_REQUESTS_MAX;
        self.queue.push(batch.drain(..))?;
        if !few {
            self.queue.work.notify_one();
            return Ok(());
        }
        match self.writer.try_lock() {
            Ok(mut writer) => writer.write_batch(&self.queue),
            // Whoever holds it looks at the queue again afterwards.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Poisoned(_)) => return Err(Closed),
        }
        if self.queue.has_work() {
            self.queue.work.notify_one();
        }
        Ok(())
    }

    /// Has the writer look at what changed around it.
    pub(crate) fn nudge(&self) {
        self.queue.nudge();
    }

    /// Writes what others left waiting, until the ledger stops.
    pub(crate) fn write_until_stopped(&self) {
        while self.queue.wait().is_ok() {
            // A poisoned writer is half way through something: nothing is written any more.
            let Ok(mut writer) = self.writer.lock() else { return };
            writer.write_batch(&self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::server::Reply;

    fn fill(queue: &Queue, count: usize, bytes: usize) {
        queue.push((0..count).map(|_| (Command::Publish(Reply::nobody()), bytes))).expect("the queue is open");
    }

    /// A stalled disk: nobody takes anything.
    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes_and_whoever_brings_more_waits() {
        for (bytes, fit) in [(100, WAITING_REQUESTS_MAX), (1 << 20, WAITING_BYTES_MAX >> 20)] {
            let queue = Queue::default();
            std::thread::scope(|scope| {
                let bringing = scope.spawn(|| fill(&queue, fit + 500, bytes));
                let deadline = Instant::now() + Duration::from_secs(10);
                while queue.state().waiting.len() < fit {
                    assert!(Instant::now() < deadline, "it fills up");
                    std::thread::yield_now();
                }
                let state = queue.state();
                assert_eq!((state.waiting.len(), state.bytes), (fit, fit * bytes), "and no further");
                drop(state);
                assert!(!bringing.is_finished());
                // Room for some lets in as many.
                let mut taken = VecDeque::new();
                queue.take(&mut taken, 600, usize::MAX);
                assert!(!taken.is_empty());
                while !bringing.is_finished() {
                    assert!(Instant::now() < deadline, "it goes on when there is room");
                    queue.take(&mut taken, 1, usize::MAX);
                    std::thread::yield_now();
                }
                queue.take(&mut taken, usize::MAX, usize::MAX);
                assert_eq!((taken.len(), queue.state().bytes), (fit + 500, 0), "each was there once");
            });
        }
    }

    /// A frame that is full in the middle of what was taken.
    #[test]
    fn requests_that_are_put_back_come_first_again_and_count_again() {
        let queue = Queue::default();
        let stop = |number: usize| (Command::Stop { reason: number.to_string() }, 10 + number);
        queue.push((0..6).map(stop)).expect("the queue is open");
        let mut taken = VecDeque::new();
        queue.take(&mut taken, 4, usize::MAX);
        drop(taken.drain(..2));
        queue.push(std::iter::once(stop(6))).expect("the queue is open");
        queue.put_back(&mut taken);
        assert_eq!(queue.state().bytes, (2..=6).map(|number| 10 + number).sum::<usize>());
        queue.take(&mut taken, 10, 40);
        let names = taken.iter().map(|(command, _)| match command {
            Command::Stop { reason } => reason.as_str(),
            _ => "another",
        });
        assert!(names.eq(["2", "3", "4", "5"]), "with the fourth there are 40 bytes and more");
        assert_eq!(queue.state().bytes, 16);
    }

    #[test]
    fn whoever_waits_for_room_hears_that_the_ledger_stops() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            let batch = (0..=WAITING_REQUESTS_MAX).map(|_| (Command::Publish(Reply::nobody()), 1));
            let bringing = scope.spawn(|| queue.push(batch).is_err());
            while queue.state().waiting.len() < WAITING_REQUESTS_MAX {
                std::thread::yield_now();
            }
            assert_eq!(queue.close().len(), WAITING_REQUESTS_MAX);
            assert!(bringing.join().expect("it ends"));
        });
    }
}
