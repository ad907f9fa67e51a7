//! The ledger's own figures: counted where things happen, told as text when asked.
//!
//! A figure is never the truth of anything: it is for whoever watches over the ledger. Counting takes no lock and can't fail.

use std::sync::Arc;
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
pub(crate) struct Metrics {
    started: Instant,
    append: Histogram,
    batch: Histogram,
    entries: AtomicU64,
    published: AtomicU64,
    published_at_ms: AtomicU64,
    waiting_requests: AtomicU64,
    waiting_bytes: AtomicU64,
    refused: AtomicU64,
    policy: AtomicU64,
}

/// What others know of the ledger's state at the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// Whether the disk has no room.
    pub(crate) is_full: bool,
    /// How long ago the last cosigned checkpoint came; `None` where none is asked for.
    pub(crate) cosigned: Option<Duration>,
    /// What missing cosignatures have led to: 0 nothing, 1 no new sessions, 2 sessions stand still.
    pub(crate) effect: u8,
}

impl Metrics {
    /// Nothing counted yet, for a log of so many entries.
    pub(crate) fn new(entries: u64) -> Arc<Self> {
        let zero = AtomicU64::default;
        Arc::new(Self {
            started: Instant::now(),
            append: Histogram::new(LATENCY_BOUNDS),
            batch: Histogram::new(BATCH_BOUNDS),
            entries: AtomicU64::new(entries),
            published: zero(),
            published_at_ms: AtomicU64::new(NEVER),
            waiting_requests: zero(),
            waiting_bytes: zero(),
            refused: zero(),
            policy: zero(),
        })
    }

    /// A request was taken from its connection; it waits as long as this lives.
    pub(crate) fn taken(self: &Arc<Self>, bytes: usize) -> Taken {
        self.waiting_requests.fetch_add(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Taken { metrics: Arc::clone(self), bytes: bytes as u64, at: Instant::now() }
    }

    /// A batch became durable; the log has so many entries now.
    #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 entries")]
    pub(crate) fn committed(&self, batch: usize, entries: u64) {
        self.batch.observe(batch as f64);
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// That revision of the policy is in force.
    pub(crate) fn policy(&self, number: u64) {
        self.policy.store(number, Ordering::Relaxed);
    }

    /// A checkpoint over so many entries is out.
    pub(crate) fn published(&self, size: u64) {
        self.published.store(size, Ordering::Relaxed);
        self.published_at_ms.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(NEVER - 1), Ordering::Relaxed);
    }

    /// The figures in Prometheus' text format.
    pub(crate) fn to_text(&self, state: State) -> String {
        use Kind::{Counter, Gauge};
        let value = |atomic: &AtomicU64| atomic.load(Ordering::Relaxed);
        let State { is_full, cosigned, effect } = state;
        let mut text = Exposition::default();
        text.histogram("sulku_ledger_append_seconds", "From taking an append to its answer, which comes when it is durable.", &self.append);
        text.histogram("sulku_ledger_batch_entries", "Entries made durable with one sync.", &self.batch);
        text.single("sulku_ledger_entries", Gauge, "Entries in the log.", value(&self.entries));
        text.single("sulku_ledger_unacknowledged_requests", Gauge, "Requests that were taken and not yet answered.", value(&self.waiting_requests));
        text.single("sulku_ledger_unacknowledged_bytes", Gauge, "Bytes of those requests.", value(&self.waiting_bytes));
        text.single("sulku_ledger_refused_total", Counter, "Requests that were refused.", value(&self.refused));
        text.single("sulku_ledger_checkpoint_entries", Gauge, "Entries that the last published checkpoint covers.", value(&self.published));
        text.single("sulku_ledger_checkpoint_age_seconds", Gauge, "Since a checkpoint was published; NaN before the first.", self.checkpoint_age());
        let age = cosigned.map_or(f64::NAN, |age| age.as_secs_f64());
        text.single("sulku_ledger_cosignature_age_seconds", Gauge, "Since enough witnesses cosigned; NaN where none is asked for.", age);
        text.single("sulku_ledger_full", Gauge, "1 while the disk has no room and only what closes is kept.", u8::from(is_full));
        let help = "The number of the policy's revision in force, as the gateway said last; 0 before it has said one.";
        text.single("sulku_policy_revision", Gauge, help, value(&self.policy));
        let help = "What missing cosignatures have led to: 0 nothing, 1 no new sessions, 2 sessions stand still.";
        text.single("sulku_ledger_witness_effect", Gauge, help, effect);
        text.into_text()
    }

    #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
    fn checkpoint_age(&self) -> f64 {
        match self.published_at_ms.load(Ordering::Relaxed) {
            NEVER => f64::NAN,
            at => self.started.elapsed().as_secs_f64() - at as f64 / 1000.0,
        }
    }
}

/// A request that waits for its answer.
pub(crate) struct Taken {
    metrics: Arc<Metrics>,
    bytes: u64,
    at: Instant,
}

impl Taken {
    /// It is answered with a receipt.
    pub(crate) fn kept(&self) {
        self.metrics.append.observe_time(self.at.elapsed());
    }

    /// It is refused.
    pub(crate) fn refused(&self) {
        self.metrics.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.metrics.waiting_requests.fetch_sub(1, Ordering::Relaxed);
        self.metrics.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
