//! How long a long log takes to verify, and how much memory: `cargo bench -p sulku-ledger --bench verification`.
//!
//! `SULKU_BENCH_ENTRIES` says how many entries (a million unless told; the goal is ten million in under 10 s on two cores),
//! `SULKU_BENCH_FOLDER` where the log is made and, if one is there already, found. It is removed afterwards unless it was there.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs, io};

use sulku_audit::Recordings;
use sulku_audit::source::read_checkpoint;
use sulku_ledger::folder::Folder;
use sulku_ledger::verification;

#[path = "../examples/make_log.rs"]
#[expect(dead_code, reason = "its `main` is the example's")]
mod make_log;

fn main() -> io::Result<()> {
    let entries = env::var("SULKU_BENCH_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let folder = env::var_os("SULKU_BENCH_FOLDER").map_or_else(|| env::temp_dir().join("sulku-bench-verification"), PathBuf::from);
    let found = folder.join("checkpoint").is_file();
    if !found {
        let begun = Instant::now();
        make_log::make(&folder, entries)?;
        println!("{entries} entries made in {:.1} s", begun.elapsed().as_secs_f64());
    }
    for threads in [1, 2, 4].into_iter().filter_map(NonZeroUsize::new) {
        forget_peak()?;
        let mut source = Folder::new(folder.clone());
        let key = make_log::signer().own_keys().into();
        let (begun, busy) = (Instant::now(), processor_s()?);
        let (_, checkpoint) = read_checkpoint(&mut source, &key).map_err(io::Error::other)?;
        let verified = verification::verify(&mut source, checkpoint, Recordings::Check, threads, |_, _, _| {}).map_err(io::Error::other)?;
        let took = begun.elapsed().as_secs_f64();
        let (count, peak, busy) = (verified.entries(), peak_kib()? >> 10, processor_s()? - busy);
        let rate = count as f64 / took / 1e6;
        println!("{threads} threads: {count} entries in {took:.2} s ({busy:.2} s of processor), {rate:.2} million a second, {peak} MiB at most");
    }
    if found { Ok(()) } else { fs::remove_dir_all(&folder).and_then(|()| fs::remove_file(folder.with_extension("pub"))) }
}

/// Lets the kernel begin anew to note the most memory at once.
fn forget_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

/// Processor time of this process so far, on all threads: what the machine's other work does not stretch.
fn processor_s() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name in parentheses; utime and stime are the 14th and 15th field, in hundredths of a second.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()));
    fields.map(|fields| fields.sum::<f64>() / 100.0).ok_or_else(|| io::Error::other("the kernel does not tell"))
}

fn peak_kib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).ok_or_else(|| io::Error::other("the kernel does not tell"))
}
