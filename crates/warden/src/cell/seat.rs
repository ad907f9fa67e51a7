//! Seats: processes that wait, each in a control group of its own, to hear which cell they become.
//!
//! With control groups of version 1 the kernel waits for all processors before it moves a process into one, 6 to 12 ms; nobody who waits for her
//! prompt should wait for that. A waiting process holds no descriptor but its channel and those of two mount namespaces, has the warden's network until it leaves
//! it, and serves one cell, once ([0040](../../../../docs/decisions/0040-first-processes-wait-in-their-groups.md)).

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sulku_permit::Rung;

use super::child::First;
use super::{Filter, Step};
use crate::cgroup::{Group, Hierarchy};
use crate::layers::{Layer, Layers};
use crate::sys;

/// What is the same for all cells of a warden.
#[derive(Debug)]
pub struct Ground {
    /// The warden's name.
    pub instance: String,
    /// The rung of isolation.
    pub rung: Rung,
    /// The control groups.
    pub hierarchy: Hierarchy,
    /// The layers that cells are held by.
    pub layers: Layers,
    /// The seccomp programme.
    pub filter: Filter,
}

/// A cell's first process.
#[derive(Debug)]
pub struct Process {
    /// Its id on the host.
    pub pid: Pid,
    /// A descriptor that means it alone.
    pub pidfd: OwnedFd,
    /// The way to it.
    pub channel: OwnedFd,
}

/// A process that waits, and its control group.
#[derive(Debug)]
pub struct Seat {
    /// The process.
    pub process: Process,
    /// Its group, without limits yet.
    pub group: Group,
}

/// Seats that wait for their cells.
#[derive(Debug)]
pub struct Seats {
    size: usize,
    ready: VecDeque<Seat>,
    next: u64,
    /// Whether the last one could not be made; then no other is tried ahead of need.
    failed: bool,
}

impl Seats {
    /// None yet; `size` are wanted.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size, ready: VecDeque::new(), next: 0, failed: false }
    }

    /// Whether there are less than are wanted.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        !self.failed && self.ready.len() < self.size
    }

    /// Makes one more.
    ///
    /// # Errors
    /// A step that failed; nothing of it is left.
    pub fn fill(&mut self, ground: &Ground) -> Result<(), Step> {
        let name = format!("cell{}", self.next);
        self.next += 1;
        let made = Seat::make(ground, &name);
        self.failed = made.is_err();
        self.ready.push_back(made?);
        Ok(())
    }

    /// One for a cell; made now if none waits.
    ///
    /// # Errors
    /// None waits and none can be made.
    pub fn take(&mut self, ground: &Ground) -> Result<Seat, Step> {
        loop {
            let Some(seat) = self.ready.pop_front() else {
                self.fill(ground)?;
                continue;
            };
            // Whoever killed it meant no cell.
            match sys::end_of(seat.process.pidfd.as_fd()) {
                Ok(None) => return Ok(seat),
                _ => drop(seat.group.remove()),
            }
        }
    }

    /// Ends all that wait, and says what could not be removed.
    pub fn dismiss(&mut self) -> Vec<std::path::PathBuf> {
        self.ready.drain(..).flat_map(|seat| seat.dismiss()).collect()
    }
}

impl Seat {
    fn make(ground: &Ground, name: &str) -> Result<Self, Step> {
        let group = Step::at("make a control group", ground.hierarchy.make(&ground.instance, name))?;
        match process(ground, &group) {
            Ok(process) => Ok(Self { process, group }),
            Err(failed) => {
                group.remove();
                Err(failed)
            }
        }
    }

    /// Ends it, and says what could not be removed.
    pub fn dismiss(self) -> Vec<std::path::PathBuf> {
        let _gone_already = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
        // It runs nothing that could hold it up.
        let _reaped = waitid(WaitId::PidFd(self.process.pidfd.as_fd()), WaitIdOptions::EXITED);
        self.group.remove()
    }
}

/// Starts the process, which goes into its group by itself, and makes half of a root: the warden does not wait for that.
fn process(ground: &Ground, group: &Group) -> Result<Process, Step> {
    let Ground { rung, layers, filter, .. } = ground;
    let (ours, theirs) = Step::at("make a channel", sys::packet_pair())?;
    let own = |layer, flag| if layers.has(layer) { flag } else { 0 };
    let namespaces = libc::CLONE_NEWUTS | own(Layer::Processes, libc::CLONE_NEWPID) | own(Layer::Ipc, libc::CLONE_NEWIPC);
    match Step::at("start a process", sys::clone_into_namespaces(namespaces))? {
        sys::Side::Child => First { layers: *layers, filter, rung: *rung, group, channel: theirs }.run(),
        sys::Side::Parent { pid, pidfd } => Ok(Process { pid, pidfd, channel: ours }),
    }
}
