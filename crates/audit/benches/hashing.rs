//! What hashing costs in each way that works here: `cargo bench -p sulku-audit --bench hashing`.
//!
//! Best of several rounds, so that what else the machine does counts least.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use sulku_audit::Hash;
use sulku_audit::lanes::Lanes;
use sulku_audit::merkle::leaf_hash;

const ROUNDS: usize = 300;

fn best(mut work: impl FnMut()) -> Duration {
    let once = |()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    std::iter::repeat_n((), ROUNDS).map(once).min().unwrap_or_default()
}

fn line(what: &str, lanes: Lanes, took: Duration, hashes: usize, bytes: usize) {
    let (each, rate) = (took.as_nanos() as f64 / hashes as f64, bytes as f64 / took.as_nanos() as f64);
    let lanes = format!("{} lanes{}", lanes.count(), if lanes == Lanes::best() { ", used here" } else { "" });
    println!("{what:<26} {lanes:<22} {each:>8.0} ns each  {rate:>6.2} GB/s");
}

fn main() {
    let leaf = |number: usize| leaf_hash(&number.to_be_bytes());
    for lanes in Lanes::all() {
        for count in [4, 8, 16, 24, 256] {
            // Around 280 bytes, as entries are, and no two alike.
            let entries: Vec<Vec<u8>> = (0..count).map(|number| vec![number as u8; 260 + number * 13 % 40]).collect();
            let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
            let took = best(|| drop(black_box(lanes.leaf_hashes(black_box(&entries)))));
            line(&format!("{count} leaves of 280 B"), lanes, took, count, entries.iter().map(|entry| entry.len()).sum());
        }
        let row: Vec<Hash> = (0..256).map(leaf).collect();
        line("128 nodes", lanes, best(|| drop(black_box(lanes.node_hashes(black_box(&row))))), 128, 128 * 64);
        let chunks: Vec<Vec<u8>> = (0..16).map(|number| vec![number; 32 << 10]).collect();
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        line("16 chunks of 32 KiB", lanes, best(|| drop(black_box(lanes.digests(black_box(&chunks))))), 16, 16 * (32 << 10));
    }
}
