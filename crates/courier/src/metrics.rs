//! The courier's figures: how far behind each sink is, what was sent, what failed.
//!
//! The lag in seconds is how long ago the first checkpoint was seen that covers an entry which the sink's receiver does not have for
//! certain. It needs no clock of the entries', so a clock that jumps does not bend it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sulku_ledger::exposition::{Exposition, Kind};

/// Heads whose moment is remembered: an hour of them. A lag that is longer is told as at least that.
const HEADS_MAX: usize = 3600;

/// What the reading thread counts.
#[derive(Debug, Default)]
pub(crate) struct TrailFigures {
    connected: AtomicBool,
    fault: AtomicBool,
    heads: Mutex<VecDeque<(u64, Instant)>>,
}

impl TrailFigures {
    pub(crate) fn connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub(crate) fn fault(&self, fault: bool) {
        self.fault.store(fault, Ordering::Relaxed);
    }

    pub(crate) fn head(&self, size: u64) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.push_back((size, Instant::now()));
        if heads.len() > HEADS_MAX {
            // The oldest moment stays with the next larger size: the lag it tells is never too long.
            heads.pop_front();
        }
    }

    /// Entries in the newest head, and the age of the first head with more than `cursor` of them.
    fn behind(&self, cursor: u64) -> (u64, f64) {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let size = heads.back().map_or(0, |(size, _)| *size);
        let first = heads.partition_point(|(size, _)| *size <= cursor);
        (size, heads.get(first).map_or(0.0, |(_, seen)| seen.elapsed().as_secs_f64()))
    }
}

/// What one sink's task counts.
#[derive(Debug)]
pub(crate) struct SinkFigures {
    name: String,
    kind: &'static str,
    up: AtomicBool,
    cursor: AtomicU64,
    sent: AtomicU64,
    resent: AtomicU64,
    errors: AtomicU64,
    gaps: AtomicU64,
}

impl SinkFigures {
    pub(crate) fn new(name: &str, kind: &'static str) -> Arc<Self> {
        let zero = AtomicU64::default;
        let (up, cursor, sent, resent, errors, gaps) = (AtomicBool::new(false), zero(), zero(), zero(), zero(), zero());
        Arc::new(Self { name: name.to_owned(), kind, up, cursor, sent, resent, errors, gaps })
    }

    pub(crate) fn up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    pub(crate) fn cursor(&self, next: u64) {
        self.cursor.store(next, Ordering::Relaxed);
    }

    /// Entries were handed over, so many of them not for the first time.
    pub(crate) fn sent(&self, entries: u64, again: u64) {
        self.sent.fetch_add(entries, Ordering::Relaxed);
        self.resent.fetch_add(again, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.up(false);
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn gaps(&self, entries: u64) {
        self.gaps.fetch_add(entries, Ordering::Relaxed);
    }
}

/// What the task of one witness counts.
#[derive(Debug)]
pub(crate) struct WitnessFigures {
    name: String,
    cosigned: AtomicU64,
    errors: AtomicU64,
}

impl WitnessFigures {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), cosigned: AtomicU64::default(), errors: AtomicU64::default() })
    }

    pub(crate) fn cosigned(&self, size: u64) {
        self.cosigned.store(size, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// All figures of a courier.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) trail: Arc<TrailFigures>,
    pub(crate) sinks: Vec<Arc<SinkFigures>>,
    pub(crate) witnesses: Vec<Arc<WitnessFigures>>,
}

impl Figures {
    /// In Prometheus' text format.
    pub(crate) fn to_text(&self) -> String {
        use Kind::{Counter, Gauge};
        let Self { trail, sinks, witnesses } = self;
        let mut text = Exposition::default();
        let is = |flag: &AtomicBool| u8::from(flag.load(Ordering::Relaxed));
        text.single("sulku_courier_ledger_connected", Gauge, "1 while the ledger lets the courier read.", is(&trail.connected));
        let help = "1 when the log's newest checkpoint does not continue what was seen before, or can't be trusted.";
        text.single("sulku_courier_log_fault", Gauge, help, is(&trail.fault));
        text.single("sulku_courier_head_entries", Gauge, "Entries in the newest checkpoint that was checked.", trail.behind(0).0);
        let mut of_each = |name: &str, kind, help, value: &dyn Fn(&SinkFigures) -> f64| {
            text.family(name, kind, help);
            for sink in sinks {
                text.sample(name, &[("sink", &sink.name), ("kind", sink.kind)], value(sink));
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "entries are far below 2^52")]
        let count = |atomic: &AtomicU64| atomic.load(Ordering::Relaxed) as f64;
        of_each("sulku_courier_sink_up", Gauge, "1 while the way to the sink's receiver is open.", &|sink| f64::from(is(&sink.up)));
        of_each("sulku_courier_sink_cursor", Gauge, "Entries that the receiver has for certain.", &|sink| count(&sink.cursor));
        #[expect(clippy::cast_precision_loss, reason = "entries are far below 2^52")]
        of_each("sulku_courier_sink_lag_entries", Gauge, "Published entries that the receiver does not have for certain.", &|sink| {
            let cursor = sink.cursor.load(Ordering::Relaxed);
            trail.behind(cursor).0.saturating_sub(cursor) as f64
        });
        of_each("sulku_courier_sink_lag_seconds", Gauge, "Since the first of those entries was published.", &|sink| {
            trail.behind(sink.cursor.load(Ordering::Relaxed)).1
        });
        of_each("sulku_courier_sink_sent_total", Counter, "Entries that were handed over.", &|sink| count(&sink.sent));
        of_each("sulku_courier_sink_resent_total", Counter, "Those that were handed over before.", &|sink| count(&sink.resent));
        of_each("sulku_courier_sink_errors_total", Counter, "Deliveries that failed and are tried again.", &|sink| count(&sink.errors));
        of_each("sulku_courier_sink_gaps_total", Counter, "Entries that were passed over; there is no way to.", &|sink| count(&sink.gaps));
        let mut of_each = |name: &str, kind, help, value: &dyn Fn(&WitnessFigures) -> f64| {
            text.family(name, kind, help);
            for witness in witnesses {
                text.sample(name, &[("witness", &witness.name)], value(witness));
            }
        };
        let help = "Entries in the last checkpoint that the witness cosigned for this courier.";
        of_each("sulku_courier_witness_cosigned_entries", Gauge, help, &|witness| count(&witness.cosigned));
        let help = "Times that the witness did not cosign or did not answer.";
        of_each("sulku_courier_witness_errors_total", Counter, help, &|witness| count(&witness.errors));
        text.into_text()
    }
}
