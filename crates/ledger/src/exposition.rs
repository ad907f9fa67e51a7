//! Figures as Prometheus reads them: its text format 0.0.4, and a histogram that threads share without a lock.
//!
//! Counts nothing itself and serves nothing: the ledger speaks no network, the courier hands the text on.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What Prometheus calls the text's type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text in the making.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// What a family of figures is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.head(name, if kind == Kind::Counter { "counter" } else { "gauge" }, help);
    }

    /// One sample of the family that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _never_fails = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _never_fails = writeln!(self.0, " {value}");
    }

    /// A family with one sample and no labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A family that is a histogram.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut total = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            total += count.load(Ordering::Relaxed);
            self.sample(&format!("{name}_bucket"), &[("le", &bound.to_string())], total);
        }
        total += histogram.beyond.load(Ordering::Relaxed);
        self.sample(&format!("{name}_bucket"), &[("le", "+Inf")], total);
        self.sample(&format!("{name}_sum"), &[], histogram.sum_millionths.load(Ordering::Relaxed) as f64 / MILLION);
        self.sample(&format!("{name}_count"), &[], total);
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _never_fails = write!(self.0, "# HELP {name} {}\n# TYPE {name} {kind}\n", help.replace('\\', "\\\\").replace('\n', "\\n"));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

const MILLION: f64 = 1e6;

/// How often a value lay within each of some bounds. A value is counted while the text is made: the figures of one scrape may differ
/// by that one.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    beyond: AtomicU64,
    sum_millionths: AtomicU64,
}

impl Histogram {
    /// A histogram with these upper bounds, in rising order.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, beyond: AtomicU64::new(0), sum_millionths: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.iter().position(|bound| value <= *bound).and_then(|place| self.counts.get(place)).unwrap_or(&self.beyond);
        place.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "values are not negative, and a sum is bounded by u64")]
        let millionths = (value * MILLION) as u64;
        self.sum_millionths.fetch_add(millionths, Ordering::Relaxed);
    }

    /// Counts a duration, in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_from_below_and_ends_in_infinity() {
        let histogram = Histogram::new(&[0.001, 0.01]);
        [0.000_5, 0.001, 0.002, 7.0].into_iter().for_each(|value| histogram.observe(value));
        let mut text = Exposition::default();
        text.histogram("wait_seconds", "How long.", &histogram);
        let expected = "# HELP wait_seconds How long.\n# TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"0.001\"} 2\n\
                        wait_seconds_bucket{le=\"0.01\"} 3\nwait_seconds_bucket{le=\"+Inf\"} 4\nwait_seconds_sum 7.0035\nwait_seconds_count 4\n";
        assert_eq!(text.into_text(), expected);
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Exposition::default();
        text.sample("up", &[("sink", "a\"b\\c\nd"), ("kind", "file")], 1);
        assert_eq!(text.into_text(), "up{sink=\"a\\\"b\\\\c\\nd\",kind=\"file\"} 1\n");
    }
}
