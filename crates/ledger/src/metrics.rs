//! The ledger's own figures: counted where things happen, told as text when asked.
//!
//! A figure is never the truth of anything: it is for whoever watches over the ledger. Counting takes no lock and can't fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::exposition::{Exposition, Histogram, Kind};

/// From the quickest disk's sync to what a session waits for at most, in seconds.
const LATENCY_BOUNDS: &[f64] = &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];
/// Entries of one sync.
const BATCH_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// No moment yet.
const NEVER: u64 = u64::MAX;

/// What is counted. One for a ledger, shared by its threads.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    append: Histogram,
    batch: Histogram,
    entries: AtomicU64,
    signed: AtomicU64,
    cosigned: AtomicU64,
    waiting_requests: AtomicU64,
    waiting_bytes: AtomicU64,
    refused: AtomicU64,
    checkpoint_at_ms: AtomicU64,
    cosigned_at_ms: AtomicU64,
    full: AtomicU64,
    witness_effect: AtomicU64,
}

/// What missing cosignatures have led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WitnessEffect {
    /// Nothing.
    None,
    /// No session opens.
    NoNewSessions,
    /// Sessions stand still.
    Frozen,
}

/// Whether the disk has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Enough,
    /// It has none.
    Full,
}

impl Default for Metrics {
    fn default() -> Self {
        let (append, batch) = (Histogram::new(LATENCY_BOUNDS), Histogram::new(BATCH_BOUNDS));
        let zero = AtomicU64::default;
        Self {
            started: Instant::now(),
            append,
            batch,
            entries: zero(),
            signed: zero(),
            cosigned: zero(),
            waiting_requests: zero(),
            waiting_bytes: zero(),
            refused: zero(),
            checkpoint_at_ms: AtomicU64::new(NEVER),
            cosigned_at_ms: AtomicU64::new(NEVER),
            full: zero(),
            witness_effect: zero(),
        }
    }
}

impl Metrics {
    /// A request was taken from its connection.
    pub fn taken(&self, bytes: usize) {
        self.waiting_requests.fetch_add(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A request that was taken was answered.
    pub fn answered(&self, bytes: usize) {
        self.waiting_requests.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// An append was answered as durable this long after it was taken.
    pub fn kept(&self, after: Duration) {
        self.append.observe_time(after);
    }

    /// Something was refused.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A batch became durable; the log has so many entries now.
    #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 entries")]
    pub fn committed(&self, batch: usize, entries: u64) {
        self.batch.observe(batch as f64);
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// A checkpoint over so many entries was published.
    pub fn published(&self, size: u64) {
        self.signed.store(size, Ordering::Relaxed);
        self.checkpoint_at_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// A checkpoint over so many entries has the cosignatures that the policy asks for.
    pub fn cosigned(&self, size: u64) {
        self.cosigned.store(size, Ordering::Relaxed);
        self.cosigned_at_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Whether the disk has room.
    pub fn room(&self, room: Room) {
        self.full.store(u64::from(room == Room::Full), Ordering::Relaxed);
    }

    /// What missing cosignatures have led to.
    pub fn witness_effect(&self, effect: WitnessEffect) {
        let effect = match effect {
            WitnessEffect::None => 0,
            WitnessEffect::NoNewSessions => 1,
            WitnessEffect::Frozen => 2,
        };
        self.witness_effect.store(effect, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    /// Seconds since a moment; not a number when it has not come yet, which is what Prometheus makes of it too.
    #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
    fn age(&self, at_ms: &AtomicU64) -> f64 {
        match at_ms.load(Ordering::Relaxed) {
            NEVER => f64::NAN,
            at => self.now_ms().saturating_sub(at) as f64 / 1000.0,
        }
    }

    /// The figures in Prometheus' text format.
    #[must_use]
    pub fn to_text(&self) -> String {
        use Kind::{Counter, Gauge};
        let value = |atomic: &AtomicU64| atomic.load(Ordering::Relaxed);
        let mut text = Exposition::default();
        text.histogram("sulku_ledger_append_seconds", "From taking an append to its answer, which comes when it is durable.", &self.append);
        text.histogram("sulku_ledger_batch_entries", "Entries made durable with one sync.", &self.batch);
        text.single("sulku_ledger_entries", Gauge, "Entries in the log.", value(&self.entries));
        text.single("sulku_ledger_unacknowledged_requests", Gauge, "Requests that were taken and not yet answered.", value(&self.waiting_requests));
        text.single("sulku_ledger_unacknowledged_bytes", Gauge, "Bytes of those requests.", value(&self.waiting_bytes));
        text.single("sulku_ledger_refused_total", Counter, "Requests that were refused.", value(&self.refused));
        text.single("sulku_ledger_checkpoint_entries", Gauge, "Entries that the last published checkpoint covers.", value(&self.signed));
        text.single("sulku_ledger_checkpoint_age_seconds", Gauge, "Since a checkpoint was published.", self.age(&self.checkpoint_at_ms));
        text.single("sulku_ledger_cosigned_entries", Gauge, "Entries that the last cosigned checkpoint covers.", value(&self.cosigned));
        text.single("sulku_ledger_cosignature_age_seconds", Gauge, "Since enough witnesses cosigned.", self.age(&self.cosigned_at_ms));
        text.single("sulku_ledger_full", Gauge, "1 while the disk has no room and only what closes is kept.", value(&self.full));
        text.single(
            "sulku_ledger_witness_effect",
            Gauge,
            "What missing cosignatures have led to: 0 nothing, 1 no new sessions, 2 sessions stand still.",
            value(&self.witness_effect),
        );
        text.into_text()
    }
}
