//! How a cell's first process holds the others where there is no control group to do it: they are stopped, and let go on.
//!
//! A process can neither ignore the stop nor end it, and no process of the cell runs that could end another's. It is weaker than a
//! control group in one thing: programs can see that they were stopped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Motion;
use crate::sys;

/// How long processes are stopped one by one. Whatever still runs then is stopped all the same, and not waited for: a shell may take its job
/// for suspended.
const ONE_BY_ONE_MAX: Duration = Duration::from_millis(250);
/// How long until a process that was told to stop is looked at again.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// What is held.
#[derive(Debug, Default)]
pub(super) enum Held {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything; these had been stopped before, as a shell's suspended jobs are, and stay so.
    AllBut(BTreeSet<i32>),
}

impl Held {
    /// Stops all processes of the cell but this one, or lets them go on.
    pub(super) fn set(&mut self, motion: Motion) {
        *self = match (motion, std::mem::take(self)) {
            (Motion::Frozen, Self::Nothing) => {
                let (stopped, moving): (BTreeSet<_>, BTreeSet<_>) = processes().into_iter().partition(|pid| is_stopped(*pid));
                // The eldest first, and each before the next: a shell that still ran when its job stopped would take that for suspended.
                stop(&moving);
                sys::signal_all_others(libc::SIGSTOP);
                Self::AllBut(stopped)
            }
            (Motion::Thawed, Self::AllBut(stopped)) => {
                // The youngest first: a shell that went on before its job did would take that for suspended.
                processes().into_iter().rev().filter(|pid| !stopped.contains(pid)).for_each(|pid| send(pid, Signal::CONT));
                // Those that hide from their own user, as agents for keys do, are not in the list.
                sys::signal_all_others(libc::SIGCONT);
                // Seen to be stopped, so that they count as that if everything is held again at once.
                stop(&stopped);
                Self::Nothing
            }
            (_, unchanged) => unchanged,
        }
    }
}

/// Stops one after the other, the eldest first, each seen to be stopped before the next is told.
fn stop(pids: &BTreeSet<i32>) {
    let until = Instant::now() + ONE_BY_ONE_MAX;
    for pid in pids {
        send(*pid, Signal::STOP);
        while Instant::now() < until && is_running(*pid) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

fn send(pid: i32, signal: Signal) {
    let _gone_meanwhile = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
}

/// All processes of the cell but this one, the eldest first.
fn processes() -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| *pid > 1).collect()
}

fn is_stopped(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// Whether it is there, has not ended and is not stopped.
fn is_running(pid: i32) -> bool {
    state(pid).is_some_and(|state| !['T', 't', 'Z', 'X'].contains(&state))
}

/// As proc_pid_stat(5) has it; none for a process that is gone.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
