//! How a cell's first process holds the others where there is no control group to do it: they are stopped, and let go on.
//!
//! A process can neither ignore the stop nor end it, and no process of the cell runs that could end another's. It is weaker than a
//! control group in one thing: programs can see that they were stopped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Motion;
use crate::sys;

/// How long all processes together are given to stop one after the other.
const STOPPED_WITHIN: Duration = Duration::from_millis(50);
/// How long to wait before looking whether one has.
const STOPPED_LOOK: Duration = Duration::from_micros(50);

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
                stop_in_order(&moving);
                // Those that hide from their own user, and what was started meanwhile.
                sys::signal_all_others(libc::SIGSTOP);
                Self::AllBut(stopped)
            }
            (Motion::Thawed, Self::AllBut(stopped)) => {
                // The youngest first: a shell that went on before its job did would take that for suspended.
                processes().into_iter().rev().filter(|pid| !stopped.contains(pid)).for_each(|pid| send(pid, Signal::CONT));
                // Those that hide from their own user, as agents for keys do, are not in the list.
                sys::signal_all_others(libc::SIGCONT);
                stopped.into_iter().for_each(|pid| send(pid, Signal::STOP));
                Self::Nothing
            }
            (_, unchanged) => unchanged,
        }
    }
}

/// Stops the eldest first, and each before the next: a shell that still moved when its job stopped would take that for suspended. One that
/// can't stop at once, since it waits in the kernel, must not hold up the others.
fn stop_in_order(moving: &BTreeSet<i32>) {
    let until = Instant::now() + STOPPED_WITHIN;
    for pid in moving {
        send(*pid, Signal::STOP);
        while is_moving(*pid) && Instant::now() < until {
            std::thread::sleep(STOPPED_LOOK);
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

/// The kernel's letter for what a process does, if there is one: proc_pid_stat(5).
fn state(pid: i32) -> Option<char> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit_once(") ")?.1.chars().next()
}

fn is_stopped(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// Whether it runs or waits: it neither stands still nor is gone.
fn is_moving(pid: i32) -> bool {
    !matches!(state(pid), None | Some('T' | 'Z' | 'X'))
}
