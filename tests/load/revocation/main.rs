//! How long a revocation takes, from the list's or the permit's change to the last byte at each client.
//!
//! `revocation real N ROUNDS` opens N sessions in real cells, half over QUIC and half over TLS, of a person whose certificate is then
//! revoked; `revocation permit N ROUNDS` revokes the permit by a signed revision instead, from the operator's command on. `revocation
//! played N ROUNDS` has a warden that only plays cells, so that thousands fit on a small machine: ledger, gateway, wire and clients are
//! real; `played-permit` revokes their permits by a revision. It asserts nothing: a figure is not a test.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::time::Duration;

use anyhow::{Context as _, bail};
use sulku_client::Transport;
use sulku_load::revocation::{Mode, Sample, measure};

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (mode, count, rounds) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["real", count, rounds] => (Mode::Real, count, rounds),
        ["permit", count, rounds] => (Mode::Permit, count, rounds),
        ["played", count, rounds] => (Mode::Played, count, rounds),
        ["played-permit", count, rounds] => (Mode::PlayedPermit, count, rounds),
        _ => bail!("usage: revocation real|permit|played|played-permit SESSIONS ROUNDS"),
    };
    let (count, rounds): (usize, usize) = (count.parse().context("a number of sessions")?, rounds.parse().context("a number of rounds")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        samples.extend(tokio::task::LocalSet::new().block_on(&runtime, measure(mode, count))?);
    }
    println!("{:<10} {:>9} {:>22} {:>22}", "", "sessions", "last byte p50/p99/max", "told p50/p99/max");
    for (name, of) in [("QUIC", Some(Transport::Quic)), ("TLS", Some(Transport::Tls)), ("together", None)] {
        let these: Vec<_> = samples.iter().filter(|sample| of.is_none_or(|of| sample.transport == of)).collect();
        let figures = |of: fn(&Sample) -> Duration| summary(these.iter().map(|sample| of(sample)).collect());
        println!("{name:<10} {:>9} {:>22} {:>22}", these.len(), figures(|sample| sample.last_byte), figures(|sample| sample.told));
    }
    Ok(())
}

/// p50, p99 and the most, in milliseconds.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: f64| times.get(((times.len() as f64 * part).ceil() as usize).saturating_sub(1)).map_or(0, Duration::as_millis);
    format!("{}/{}/{} ms", at(0.5), at(0.99), at(1.0))
}
