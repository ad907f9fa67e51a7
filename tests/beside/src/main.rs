//! Sulku beside what a user would pick instead, on one machine, in one run, the sides in turns.
//!
//! Prints a table and writes `results.json`. It asserts nothing: a figure is not a test. docs/performance.md says what each metric is, how the
//! peers are set up, and what limits each figure.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

mod bench;
mod connect;
mod crowded;
mod echo;
mod flood;
mod handshake;
mod machine;
mod memory;
mod ours;
mod processes;
mod proxy;
mod restart;
mod row;
mod side;
mod ssh;
mod sshd;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use bench::{Bench, Size};
use row::{Row, TABLE_HEAD};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Metric {
    /// From the first packet to the first prompt, one at a time.
    Connect,
    /// The same, 32 at once: sessions a second, and the servers' processor time.
    Crowd,
    /// From a key to its echo.
    Echo,
    /// The same while eight other sessions flood.
    Busy,
    /// How fast a flood of output comes.
    Flood,
    /// How soon Ctrl-C is heard in a flood by who reads 2 MB/s.
    Interrupt,
    /// The processor time of a full handshake with a client's certificate.
    Handshake,
    /// What an idle session keeps in memory.
    Memory,
    /// What thousands of idle sessions cost.
    Idle,
    /// From a revocation to the last byte at a thousand clients.
    Revocation,
    /// From a gateway's end to the first new byte at forty clients.
    Restart,
}

/// Sulku beside what a user would pick instead. As root.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; all of it if nothing is named.
    metrics: Vec<Metric>,
    /// Little of everything, to see that it works; its figures decide nothing.
    #[arg(long)]
    quick: bool,
    /// Rounds in which all sides take their turns.
    #[arg(long)]
    rounds: Option<usize>,
    /// Where to write the results, beside the table that is printed.
    #[arg(long, default_value = "target/bench/results.json")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(rustix::process::geteuid().is_root(), "cells with a network of their own need root: run it with sudo");
    machine::raise_descriptors()?;
    let mut size = if arguments.quick { Size::QUICK } else { Size::FULL };
    size.rounds = arguments.rounds.unwrap_or(size.rounds);
    let metrics = if arguments.metrics.is_empty() { Metric::value_variants() } else { &arguments.metrics };
    let load = machine::load();
    println!("{}; load {load:.1} at the start\n\n{TABLE_HEAD}", machine::description());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bench = Bench::raise()?;
    let mut rows = Vec::new();
    for metric in metrics {
        let measuring = unless_interrupted(measure(&mut bench, *metric, size));
        let measured = LocalSet::new().block_on(&runtime, measuring).with_context(|| format!("measuring {metric:?}"))?;
        measured.iter().for_each(|row| println!("{}", row.markdown()));
        rows.extend(measured);
    }
    let left = bench.ours.stage.close();
    ensure!(left.is_empty(), "something is left: {left:?}");
    let verdict = verdict(&rows, load);
    write(&arguments.out, &rows, &format!("{}; {verdict}", machine::description()))?;
    println!("\n{verdict}");
    Ok(())
}

/// Ctrl-C and SIGTERM end a run in order, so that nothing of it is left.
async fn unless_interrupted<T>(measuring: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        measured = measuring => measured,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to stop"),
    }
}

async fn measure(bench: &mut Bench, metric: Metric, size: Size) -> anyhow::Result<Vec<Row>> {
    match metric {
        Metric::Connect => connect::one_at_a_time(bench, size).await,
        Metric::Crowd => connect::many_at_once(bench, size).await,
        Metric::Echo => echo::alone(bench, size).await,
        Metric::Busy => echo::among_floods(bench, size).await,
        Metric::Flood => flood::rates(bench, size).await,
        Metric::Interrupt => flood::interrupts(bench, size).await,
        Metric::Handshake => handshake::costs(bench, size).await,
        Metric::Memory => memory::per_session(bench, size).await,
        Metric::Idle => crowded::idle(bench, size).await,
        Metric::Revocation => crowded::revocation(bench, size).await,
        Metric::Restart => restart::returns(bench, size).await,
    }
}

/// In words, for whoever reads the table.
fn verdict(rows: &[Row], load: f64) -> String {
    let noisy = rows.iter().filter(|row| row.is_noisy()).count();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let quiet = noisy == 0 && load < cores as f64 / 2.0;
    let missed = rows.iter().filter(|row| !row.is_noisy() && row.met() == Some(false)).count();
    let judged = rows.iter().filter(|row| row.met().is_some()).count();
    let calm = if quiet {
        "the machine was quiet".to_owned()
    } else {
        format!("the machine was busy (load {load:.1} at the start): run it again when it is quiet")
    };
    format!("{judged} goals, {missed} missed, {noisy} figures too noisy to decide; {calm}.")
}

/// The rows as they are, and as they are read. Both belong to whoever has the folder, though root has measured.
fn write(out: &Path, rows: &[Row], words: &str) -> anyhow::Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let owner = std::fs::metadata(folder)?;
    let json: Vec<Value> = rows.iter().map(Row::json).collect();
    let lines: Vec<String> = rows.iter().map(Row::markdown).collect();
    let texts = [
        (out.to_owned(), serde_json::to_string_pretty(&json)? + "\n"),
        (out.with_extension("md"), format!("{words}\n\n{TABLE_HEAD}\n{}\n", lines.join("\n"))),
    ];
    for (file, text) in texts {
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    println!("\nresults in {} and .md", out.display());
    Ok(())
}
