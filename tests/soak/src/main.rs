//! `sulku-soak`: the whole product under load and faults, and what must be true of it afterwards.
//!
//! Real daemons, real cells, the product's own clients over QUIC and TLS, all in a network of this process's own. A seed decides what is done
//! and when; what the kernel's scheduler makes of it, no seed decides. What is judged is judged from outside: what clients were shown and told, what
//! an auditor reads and replays, what arrived at sinks and at a witness, and what the kernel still has afterwards.
//!
//! It reads no daemon's memory, relaxes no check, and is of no use for measuring: while things are killed, a time says nothing.

mod auditor;
mod checked;
mod clock;
mod dice;
mod disk;
mod fault;
mod holder;
mod hostile;
mod keeper;
mod load;
mod network;
mod playback;
mod rest;
mod run;
mod schedule;
mod sinks;
mod story;
mod teller;
mod verdict;
mod vitals;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use clap::Parser;

use crate::run::{Settings, run};
use crate::schedule::Schedule;

/// The longest run: the certificates of its environment last a working day.
const MINUTES_MAX: f64 = 11.0 * 60.0;

/// Runs the whole product under load, does to it what a bad day does, and checks that nothing was lost
#[derive(Parser)]
#[command(name = "sulku-soak")]
struct Arguments {
    /// For how long there is load; checking comes on top
    #[arg(long, default_value_t = 10.0, value_name = "N")]
    minutes: f64,
    /// Decides what is done and when; chosen by the clock where it is not given, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// Holders who work at the same time
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=48))]
    holders: u64,
    /// A little of everything in half a minute, to see that all of it works
    #[arg(long, conflicts_with_all = ["minutes", "seed"])]
    smoke: bool,
    /// Keep the daemons' logs and the log's entries in this folder
    #[arg(long, value_name = "FOLDER")]
    save: Option<std::path::PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    ensure!(rustix::process::geteuid().is_root(), "run this as root: its sessions are in real cells");
    ensure!((1.0..=MINUTES_MAX).contains(&arguments.minutes), "--minutes takes 1 to {MINUTES_MAX}");
    let by_clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() % 1_000_000);
    let seed = if arguments.smoke { 1 } else { arguments.seed.unwrap_or_else(by_clock) };
    let schedule = if arguments.smoke { Schedule::smoke() } else { Schedule::new(seed, Duration::from_secs_f64(arguments.minutes * 60.0)) };
    // In a test nobody has the time to think.
    let thought = Duration::from_millis(if arguments.smoke { 500 } else { 3000 });
    run(Settings { seed, thought, holders: arguments.holders, schedule, save: arguments.save })
}
