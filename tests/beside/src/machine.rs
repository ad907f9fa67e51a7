//! The machine that figures are from, and how quiet it was.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::row::percentile;

/// Pieces of work between two rounds: a twentieth of a second of them.
const PIECES: u32 = 50;
/// Turns of one piece of work: about a millisecond.
const TURNS: u32 = 1_000_000;

/// In words: processors, memory, kernel, file system, programs.
#[must_use]
pub fn description() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, start: &str| {
        text.lines().find_map(|line| line.strip_prefix(start)?.split_once(':').map(|(_, value)| value.trim().to_owned())).unwrap_or_default()
    };
    let memory: u64 = line(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} × {}, {} GiB, Linux {}, {}",
        line(&read("/proc/cpuinfo"), "model name"),
        memory >> 20,
        read("/proc/sys/kernel/osrelease").trim(),
        line(&read("/etc/os-release").replace('=', ":"), "PRETTY_NAME").trim_matches('"'),
    )
}

/// The load average of the last minute.
#[must_use]
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// The times of equal pieces of work, done between the rounds.
#[derive(Debug, Default)]
pub struct Unrest(Vec<f64>);

impl Unrest {
    /// Does some pieces of work.
    pub fn sample(&mut self) {
        for _ in 0..PIECES {
            let begun = Instant::now();
            let mut value = 1_u64;
            for turn in 0..TURNS {
                // One multiplication waits for the one before it: nothing but the processor's clock and its other users count.
                value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(turn)));
            }
            self.0.push(begun.elapsed().as_secs_f64());
        }
    }

    /// The slowest twentieth beside the middle one, 1 on a machine of one's own; and begins anew.
    pub fn take(&mut self) -> f64 {
        let times = std::mem::take(&mut self.0);
        percentile(&times, 0.95) / percentile(&times, 0.5)
    }
}

/// As many descriptors as are allowed; daemons that are started from here inherit it.
///
/// # Errors
/// The kernel refuses.
pub fn raise_descriptors() -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?)
}

/// Long enough for what a session leaves to be cleared away, in which a person does nothing either.
pub const PAUSE: Duration = Duration::from_millis(60);
