//! What processes cost, read from `/proc`: processor time of a whole family, memory of a few.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;

/// One process as `/proc/PID/stat` tells of it.
struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, and stands in parentheses.
    let fields: Vec<_> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    // proc_pid_stat(5): from the state on, which is field 3: ppid 4, utime 14, stime 15, cutime 16, cstime 17.
    let ticks = [11, 12, 13, 14].into_iter().map(number).sum::<Option<u64>>()?;
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks })
}

fn all() -> BTreeMap<u32, Stat> {
    let folder = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    folder.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// These processes and all that descend from them, those first that are named.
#[must_use]
pub fn family(roots: &[u32]) -> Vec<u32> {
    let all = all();
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Processor time that these processes, their living descendants, and those of them that have ended and were waited for have used. To 10 ms.
#[must_use]
pub fn cpu(roots: &[u32]) -> Duration {
    let ticks: u64 = family(roots).iter().filter_map(|pid| stat(*pid)).map(|stat| stat.ticks).sum();
    // USER_HZ is 100 on every architecture that Debian has.
    Duration::from_millis(ticks * 10)
}

/// Processor time that the threads of these processes have used, without descendants and without threads that have ended.
///
/// # Errors
/// One of them has ended.
pub fn own_cpu(pids: &[u32]) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for pid in pids {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?.flatten() {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split_whitespace().next().and_then(|time| time.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// A line of a process's `smaps_rollup`, in KiB. Zero for one that has ended.
#[must_use]
pub fn memory_kib(pid: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse().ok());
    found.unwrap_or_default()
}

/// The program that a process runs; empty for one that has ended.
#[must_use]
pub fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_and_its_dead_children_used_is_counted() {
        let own = std::process::id();
        let before = cpu(&[own]);
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let ended = std::process::Command::new("/bin/sh").args(["-c", busy]).status().expect("a shell");
        assert!(ended.success() && cpu(&[own]) > before, "{before:?}");
        assert!(own_cpu(&[own]).expect("this process runs") > Duration::ZERO);
        assert!(memory_kib(own, "Pss") > 100 && memory_kib(own, "Rss") >= memory_kib(own, "Pss"));
    }
}
