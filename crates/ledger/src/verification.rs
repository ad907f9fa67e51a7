//! Verification of a whole log on several threads: hashes and forms of many bundles at once, the rest in the log's order.
//!
//! One thread, the caller's, reads the log and takes what was checked in order; the others check bundles. So the first thing wrong is
//! the first in the log, whatever thread found it, and a [`Source`] need not be shared. What is checked, and how, is all in
//! [`sulku_audit::verify`].

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sulku_audit::tile::TILE_WIDTH;
use sulku_audit::verify::{Checked, Portion, Sequence};
use sulku_audit::{Checkpoint, Entry, Fault, Recordings, Source, Verified};

/// Beyond it the reading thread is what takes the time.
pub const THREADS_MAX: usize = 16;
/// Bundles that wait for or with each thread, so that none idles while the log is read.
const BUNDLES_A_THREAD_MAX: usize = 4;
/// Bundles' bytes in memory at once. Parsed they take up to some five times as much; a usual bundle has 70 KB.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// As many threads as this machine runs at once.
#[must_use]
pub fn threads() -> NonZeroUsize {
    let here = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    here.min(NonZeroUsize::new(THREADS_MAX).unwrap_or(NonZeroUsize::MIN))
}

/// Checks a log up to this checkpoint, whose signatures were checked, on that many threads, and shows each entry, in order, with its
/// number and its bytes. What was shown holds only once all of it has been checked.
///
/// # Errors
/// The first thing wrong.
pub fn verify<S: Source + ?Sized>(
    source: &mut S,
    checkpoint: Checkpoint,
    recordings: Recordings,
    threads: NonZeroUsize,
    mut visit: impl FnMut(u64, &Entry, &[u8]),
) -> Result<Verified, Fault> {
    let bundles = checkpoint.size.div_ceil(TILE_WIDTH);
    let mut sequence = Sequence::new(checkpoint, recordings);
    if threads == NonZeroUsize::MIN {
        for number in 0..bundles {
            let portion = Portion::read(source, number, sequence.size())?;
            sequence.take(source, &mut portion.check(), &mut visit)?;
        }
        return sequence.finish(source);
    }
    thread::scope(|scope| {
        let start = |_| {
            // For each bundle under way there is at most one that is done with: they are worked off in their order.
            let (to_do, work) = sync_channel::<Work>(2 * BUNDLES_A_THREAD_MAX);
            let (done, checked) = sync_channel::<Checked>(BUNDLES_A_THREAD_MAX);
            scope.spawn(move || {
                work.iter().try_for_each(|work| match work {
                    Work::Check(portion) => done.send(portion.check()),
                    Work::Free(_) => Ok(()),
                })
            });
            Worker { to_do, checked }
        };
        let workers: Vec<_> = (0..threads.get().min(THREADS_MAX)).map(start).collect();
        let mut flight = Flight { workers: &workers, bytes: VecDeque::new(), next: 0 };
        for number in 0..bundles {
            let portion = match Portion::read(source, number, sequence.size()) {
                Ok(portion) => portion,
                Err(fault) => {
                    // What is wrong before it comes first.
                    while flight.land(|checked| sequence.take(source, checked, &mut visit))? {}
                    return Err(fault);
                }
            };
            while flight.is_full(portion.bytes()) && flight.land(|checked| sequence.take(source, checked, &mut visit))? {}
            flight.launch(portion);
        }
        while flight.land(|checked| sequence.take(source, checked, &mut visit))? {}
        sequence.finish(source)
    })
}

enum Work {
    Check(Portion),
    /// It is done with, and is freed by the thread that made it: memory that goes back on another thread makes both wait for each other.
    Free(#[expect(dead_code, reason = "to be dropped")] Checked),
}

struct Worker {
    to_do: SyncSender<Work>,
    checked: Receiver<Checked>,
}

/// Bundles that are being checked. They go to the workers in turn and come back in turn, which keeps their order.
struct Flight<'w> {
    workers: &'w [Worker],
    /// The size of each bundle under way, the earliest first.
    bytes: VecDeque<usize>,
    /// Bundles that came back.
    next: usize,
}

impl Flight<'_> {
    fn is_full(&self, more: usize) -> bool {
        let bytes: usize = self.bytes.iter().sum();
        self.bytes.len() >= self.workers.len() * BUNDLES_A_THREAD_MAX || bytes + more > IN_FLIGHT_BYTES_MAX
    }

    fn launch(&mut self, portion: Portion) {
        let worker = &self.workers[(self.next + self.bytes.len()) % self.workers.len()];
        self.bytes.push_back(portion.bytes());
        worker.to_do.send(Work::Check(portion)).expect("a worker ends only when its channel does, or by a panic of its own");
    }

    /// Has the earliest bundle taken, once it is checked. False where there is none.
    fn land(&mut self, mut take: impl FnMut(&mut Checked) -> Result<(), Fault>) -> Result<bool, Fault> {
        if self.bytes.pop_front().is_none() {
            return Ok(false);
        }
        let worker = &self.workers[self.next % self.workers.len()];
        self.next += 1;
        let mut checked = worker.checked.recv().expect("a worker answers every bundle, or panics");
        take(&mut checked)?;
        worker.to_do.send(Work::Free(checked)).expect("a worker ends only when its channel does, or by a panic of its own");
        Ok(true)
    }
}
