//! The wire between two networks: what is sent into one interface comes out of the other, later, in another order, or not at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dice::Dice;

/// Packets under way; what comes beyond is lost, as in a router's queue.
const UNDER_WAY_MAX: usize = 4096;
/// The longest packet of these interfaces.
const PACKET_BYTES_MAX: usize = 1500;
/// Packets of one side that are taken before the other's turn.
const TURN_PACKETS: usize = 64;
/// The wire looks whether it is to end so often.
const LOOK: Duration = Duration::from_millis(20);

/// What the wire does to packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Packets that are lost, of a thousand.
    pub lost_permille: u32,
    /// Each takes so long.
    pub delay_ms: u32,
    /// And up to so much longer, so that later ones overtake it.
    pub jitter_ms: u32,
}

impl Weather {
    /// Nothing arrives.
    pub const CUT: Self = Self { lost_permille: 1000, delay_ms: 0, jitter_ms: 0 };
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost_permille, delay_ms, jitter_ms } = self;
        write!(f, "loses {}.{} % and delays by {delay_ms} to {} ms, out of order", lost_permille / 10, lost_permille % 10, delay_ms + jitter_ms)
    }
}

/// What became of packets.
#[derive(Debug, Default)]
pub struct Counts {
    /// Came through.
    pub passed: AtomicU64,
    /// Were lost on purpose.
    pub lost: AtomicU64,
    /// Came through after one that was sent later.
    pub overtaken: AtomicU64,
}

/// The wire, until it is dropped.
pub struct Wire {
    weather: Arc<Mutex<Weather>>,
    counts: Arc<Counts>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A packet under way: when it is due, how many were sent before it, to which end, and its bytes.
type UnderWay = Reverse<(Instant, u64, usize, Vec<u8>)>;

impl Wire {
    /// Between these two interfaces.
    pub fn between(ends: [OwnedFd; 2], dice: Dice) -> Self {
        let (weather, counts, ended) = (Arc::<Mutex<Weather>>::default(), Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let (in_force, counted, is_ended) = (Arc::clone(&weather), Arc::clone(&counts), Arc::clone(&ended));
        let thread = std::thread::spawn(move || carry(&ends, &in_force, &counted, &is_ended, dice));
        Self { weather, counts, ended, thread: Some(thread) }
    }

    /// From now on the weather is this.
    pub fn is_now(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What became of packets so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn carry(ends: &[OwnedFd; 2], weather: &Mutex<Weather>, counts: &Counts, ended: &AtomicBool, mut dice: Dice) {
    let (mut under_way, mut sent, mut newest) = (BinaryHeap::<UnderWay>::new(), 0_u64, [0_u64; 2]);
    let mut packet = [0; PACKET_BYTES_MAX];
    while !ended.load(Ordering::Relaxed) {
        let until = under_way.peek().map_or(LOOK, |Reverse((due, ..))| due.saturating_duration_since(Instant::now()).min(LOOK));
        let wait = Timespec { tv_sec: 0, tv_nsec: until.subsec_nanos().into() };
        let mut polled = [PollFd::new(&ends[0], PollFlags::IN), PollFd::new(&ends[1], PollFlags::IN)];
        let _interrupted = poll(&mut polled, Some(&wait));
        let Weather { lost_permille, delay_ms, jitter_ms } = *weather.lock().unwrap_or_else(PoisonError::into_inner);
        for (from, end) in ends.iter().enumerate() {
            for _ in 0..TURN_PACKETS {
                let Ok(length) = rustix::io::read(end, &mut packet) else { break };
                if dice.happens(lost_permille.into()) || under_way.len() >= UNDER_WAY_MAX {
                    counts.lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                sent += 1;
                let later = u64::from(delay_ms) * 1000 + dice.below(u64::from(jitter_ms) * 1000);
                under_way.push(Reverse((Instant::now() + Duration::from_micros(later), sent, 1 - from, packet[..length].to_vec())));
            }
        }
        let now = Instant::now();
        while under_way.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, number, to, bytes))) = under_way.pop() else { break };
            counts.passed.fetch_add(1, Ordering::Relaxed);
            if number < newest[to] {
                counts.overtaken.fetch_add(1, Ordering::Relaxed);
            }
            newest[to] = newest[to].max(number);
            // An interface that takes no more loses packets, as any does.
            let _full = rustix::io::write(&ends[to], &bytes);
        }
    }
}
