//! What daemons keep: memory and descriptors, for as long as each process lives.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use sulku_stage::Daemon;

/// After so long a daemon has met all that it will meet, and what it keeps from then on must stay.
const WARM: Duration = Duration::from_secs(60);
/// A process that lived no longer says nothing about growth.
const TELLING: Duration = Duration::from_secs(150);
/// What may come on top of what a warm daemon keeps: allocators give back late, and in a run of minutes that is most of what is seen.
const SLACK_KIB: u64 = 12 << 10;
/// A courier keeps what it carried last, up to so much, and takes a while to have so much.
const CARRIED_KIB: u64 = 24 << 10;
/// And for each session: a ledger keeps the counters of every session that there ever was.
const PER_SESSION_KIB: u64 = 4;
/// Between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// What was seen of a process at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the run's beginning.
    pub at: Duration,
    /// Memory that no file backs.
    pub kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Sessions that have been opened so far.
    pub sessions: u64,
}

/// Of every process that there was.
#[derive(Debug, Default)]
pub struct Vitals {
    lives: BTreeMap<(Daemon, u32), Vec<Sample>>,
}

/// How one process's memory developed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// When it was warm: the most of a few samples.
    pub warm_kib: u64,
    /// In the end: the least of a few samples.
    pub end_kib: u64,
    /// What it may be in the end.
    pub bound_kib: u64,
    /// Sessions in between.
    pub sessions: u64,
    /// How long that was.
    pub over: Duration,
}

impl Growth {
    /// Whether it stays within its bound.
    pub fn is_bounded(&self) -> bool {
        self.end_kib <= self.bound_kib
    }
}

impl Vitals {
    /// Notes what this process keeps now.
    pub fn sample(&mut self, daemon: Daemon, pid: u32, at: Duration, sessions: u64) {
        if let (Some(kib), Some(descriptors)) = (memory_kib(pid), descriptors(pid)) {
            self.lives.entry((daemon, pid)).or_default().push(Sample { at, kib, descriptors, sessions });
        }
    }

    /// The most memory and the most descriptors that a daemon ever had.
    pub fn most(&self, daemon: Daemon) -> (u64, u64) {
        let samples = || self.lives.iter().filter(|((of, _), _)| *of == daemon).flat_map(|(_, samples)| samples);
        (samples().map(|sample| sample.kib).max().unwrap_or_default(), samples().map(|sample| sample.descriptors).max().unwrap_or_default())
    }

    /// The growth of the process of this daemon that lived longest, if that says anything.
    pub fn growth(&self, daemon: Daemon) -> Option<Growth> {
        let lives = self.lives.iter().filter(|((of, _), _)| *of == daemon).map(|(_, samples)| samples);
        let longest = lives.max_by_key(|samples| span(samples))?;
        growth(longest, if daemon == Daemon::Courier { SLACK_KIB + CARRIED_KIB } else { SLACK_KIB })
    }
}

fn span(samples: &[Sample]) -> Duration {
    samples.last().zip(samples.first()).map_or(Duration::ZERO, |(last, first)| last.at.saturating_sub(first.at))
}

fn growth(samples: &[Sample], slack_kib: u64) -> Option<Growth> {
    if span(samples) < TELLING {
        return None;
    }
    let first = samples.first()?;
    let warm = samples.iter().position(|sample| sample.at >= first.at + WARM)?;
    let (early, late) = (samples.get(warm..)?.iter().take(5), samples.iter().rev().take(5));
    let (begins, ends) = (samples.get(warm)?, samples.last()?);
    let (warm_kib, end_kib) = (early.map(|sample| sample.kib).max()?, late.map(|sample| sample.kib).min()?);
    let sessions = ends.sessions.saturating_sub(begins.sessions);
    let bound_kib = warm_kib + slack_kib + PER_SESSION_KIB * sessions;
    Some(Growth { warm_kib, end_kib, bound_kib, sessions, over: ends.at.saturating_sub(begins.at) })
}

fn memory_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..200).map(|number| Sample { at: Duration::from_secs(number * 2), kib: kib(number), descriptors: 10, sessions: number }).collect()
    }

    #[test]
    fn what_grows_with_time_is_found_and_what_is_flat_passes() {
        let flat = growth(&samples(|number| 20_000 + number % 7 * 300), SLACK_KIB).expect("long enough");
        assert!(flat.is_bounded(), "{flat:?}");
        let grows = growth(&samples(|number| 20_000 + number * 150), SLACK_KIB).expect("long enough");
        assert!(!grows.is_bounded(), "{grows:?}");
        let warms_up = growth(&samples(|number| 20_000 + number.min(25) * 2_000), SLACK_KIB).expect("long enough");
        assert!(warms_up.is_bounded(), "{warms_up:?}");
        assert_eq!(growth(&samples(|_| 1)[..50], SLACK_KIB), None, "too short to tell");
    }
}
