//! A cell's control group: what it may use up, freezing it, and what it has used. Version 2 where the host has the controllers
//! there, else version 1.
//!
//! Below the rung `root` there is none: its folders can't be made there, and what a cell may use up is held to for each process.
//!
//! It knows numbers and folders; which limits a permit gives is the plan's matter.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sulku_permit::Rung;
use sulku_plan::Limits;

/// The controllers that a cell needs, as version 1 names them.
const V1_CONTROLLERS: [&str; 4] = ["pids", "memory", "cpu", "freezer"];
const V2_CONTROLLERS: [&str; 3] = ["pids", "memory", "cpu"];
/// The period over which processor time is shared out, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// Where the host keeps its control groups.
#[derive(Debug, Clone)]
pub enum Hierarchy {
    /// One tree.
    V2(PathBuf),
    /// A tree for each controller, in the order of [`V1_CONTROLLERS`], and that of `cpuacct` if there is one.
    V1 {
        /// Pids, memory, cpu, freezer.
        trees: [PathBuf; 4],
        /// Processor time used.
        cpuacct: Option<PathBuf>,
    },
    /// None that this warden may make groups in.
    Absent,
}

/// The control group of one cell.
#[derive(Debug)]
pub struct Group {
    hierarchy: Hierarchy,
    name: PathBuf,
}

/// What a cell has used.
#[derive(Debug, Default, Clone, Copy)]
pub struct Usage {
    /// Processor time in milliseconds.
    pub cpu_ms: u64,
    /// Most memory at once, in bytes; 0 where the kernel does not tell.
    pub memory_peak_bytes: u64,
    /// Most processes and threads at once; 0 where the kernel does not tell.
    pub processes_peak: u64,
    /// Processes that the kernel ended because the group had no memory left.
    pub oom_kills: u64,
}

/// Whether a cell's processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Motion {
    /// They run.
    Thawed,
    /// They stand still.
    Frozen,
}

impl Hierarchy {
    /// What a rung has.
    ///
    /// # Errors
    /// As [`Hierarchy::find`].
    pub fn of(rung: Rung) -> Result<Self, Vec<&'static str>> {
        if rung == Rung::Root { Self::find() } else { Ok(Self::Absent) }
    }

    /// Finds the hierarchy in the host's mounts.
    ///
    /// # Errors
    /// The names of the controllers that are nowhere to be found.
    pub fn find() -> Result<Self, Vec<&'static str>> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let lines: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
        let of_type = |kind: &'static str| lines.iter().filter(move |line| line.get(2) == Some(&kind) && line.len() > 3);
        for line in of_type("cgroup2") {
            let available = fs::read_to_string(Path::new(line[1]).join("cgroup.controllers")).unwrap_or_default();
            if V2_CONTROLLERS.iter().all(|wanted| available.split_whitespace().any(|found| found == *wanted)) {
                return Ok(Self::V2(line[1].into()));
            }
        }
        let tree = |controller: &str| {
            of_type("cgroup").find(|line| line[3].split(',').any(|option| option == controller)).map(|line| PathBuf::from(line[1]))
        };
        match V1_CONTROLLERS.map(tree) {
            [Some(pids), Some(memory), Some(cpu), Some(freezer)] => Ok(Self::V1 { trees: [pids, memory, cpu, freezer], cpuacct: tree("cpuacct") }),
            found => Err(V1_CONTROLLERS.into_iter().zip(found).filter(|(_, tree)| tree.is_none()).map(|(name, _)| name).collect()),
        }
    }

    /// In words, for the operator.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::V2(root) => format!("version 2 at {}", root.display()),
            Self::Absent => "none on this rung: limits hold for each process".to_owned(),
            Self::V1 { trees, .. } => format!("version 1: {}", trees.iter().map(|tree| tree.display().to_string()).collect::<Vec<_>>().join(", ")),
        }
    }

    fn roots(&self) -> Vec<&PathBuf> {
        match self {
            Self::V2(root) => vec![root],
            Self::Absent => Vec::new(),
            // Two controllers may share one tree.
            Self::V1 { trees, cpuacct } => trees.iter().chain(cpuacct).collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }

    /// Makes a group without limits, which must not be there yet.
    ///
    /// # Errors
    /// The kernel refused; what was made is removed.
    pub fn make(&self, instance: &str, name: &str) -> io::Result<Group> {
        let parent = PathBuf::from(format!("sulku-{instance}"));
        for root in self.roots() {
            fs::create_dir_all(root.join(&parent))?;
            if let Self::V2(root) = self {
                for folder in [root.clone(), root.join(&parent)] {
                    fs::write(folder.join("cgroup.subtree_control"), "+pids +memory +cpu")?;
                }
            }
        }
        let group = Group { hierarchy: self.clone(), name: parent.join(name) };
        let mut made = Vec::new();
        for folder in group.folders() {
            if let Err(error) = fs::create_dir(&folder) {
                made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
                return Err(error);
            }
            made.push(folder);
        }
        Ok(group)
    }

    /// Removes the cells' groups that an earlier warden of this instance left when it died. Their processes died with it.
    pub fn sweep(&self, instance: &str) {
        let of = |root: &PathBuf| fs::read_dir(root.join(format!("sulku-{instance}"))).into_iter().flatten().flatten();
        for folder in self.roots().into_iter().flat_map(of).map(|entry| entry.path()).filter(|path| path.is_dir()) {
            if let Err(error) = fs::remove_dir(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "a control group of an earlier warden could not be removed");
            }
        }
    }

    /// Removes the group that held those of the cells.
    pub fn leave(&self, instance: &str) {
        for folder in self.roots().into_iter().map(|root| root.join(format!("sulku-{instance}"))) {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "the warden's control group could not be removed");
                }
                _ => {}
            }
        }
    }
}

impl Group {
    /// Limits what all processes in the group may use up together.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        let quota_us = u64::from(limits.cpu_percent) * CPU_PERIOD_US / 100;
        let set = |root: &Path, file: &str, value: String| fs::write(root.join(&self.name).join(file), value);
        match &self.hierarchy {
            Hierarchy::V2(root) => {
                set(root, "pids.max", limits.processes.to_string())?;
                set(root, "memory.max", limits.memory_bytes.to_string())?;
                set(root, "cpu.max", format!("{quota_us} {CPU_PERIOD_US}"))
            }
            Hierarchy::Absent => Ok(()),
            Hierarchy::V1 { trees: [pids, memory, cpu, _], .. } => {
                set(pids, "pids.max", limits.processes.to_string())?;
                set(memory, "memory.limit_in_bytes", limits.memory_bytes.to_string())?;
                set(cpu, "cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                set(cpu, "cpu.cfs_quota_us", quota_us.to_string())
            }
        }
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.hierarchy.roots().into_iter().map(|root| root.join(&self.name)).collect()
    }

    /// Puts this process, and all that it will start, into the group.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn enter(&self) -> io::Result<()> {
        self.folders().iter().try_for_each(|folder| fs::write(folder.join("cgroup.procs"), "0"))
    }

    /// Whether there is one: without, nobody but the cell's first process can hold the others.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        !matches!(self.hierarchy, Hierarchy::Absent)
    }

    /// Freezes or thaws all of the group.
    ///
    /// # Errors
    /// The kernel refused, or there is no group.
    pub fn set_motion(&self, motion: Motion) -> io::Result<()> {
        match (&self.hierarchy, motion) {
            (Hierarchy::V2(root), Motion::Frozen) => fs::write(root.join(&self.name).join("cgroup.freeze"), "1"),
            (Hierarchy::V2(root), Motion::Thawed) => fs::write(root.join(&self.name).join("cgroup.freeze"), "0"),
            (Hierarchy::V1 { trees, .. }, Motion::Frozen) => fs::write(trees[3].join(&self.name).join("freezer.state"), "FROZEN"),
            (Hierarchy::Absent, _) => Err(io::ErrorKind::Unsupported.into()),
            (Hierarchy::V1 { trees, .. }, Motion::Thawed) => fs::write(trees[3].join(&self.name).join("freezer.state"), "THAWED"),
        }
    }

    /// What the group has used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let text = |root: &Path, file: &str| fs::read_to_string(root.join(&self.name).join(file)).unwrap_or_default();
        let number = |root: &Path, file: &str| text(root, file).trim().parse().unwrap_or(0_u64);
        let field = |root: &Path, file: &str, key: &str| {
            text(root, file).lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0_u64)
        };
        match &self.hierarchy {
            Hierarchy::Absent => Usage::default(),
            Hierarchy::V2(root) => Usage {
                cpu_ms: field(root, "cpu.stat", "usage_usec") / 1_000,
                memory_peak_bytes: number(root, "memory.peak"),
                processes_peak: number(root, "pids.peak"),
                oom_kills: field(root, "memory.events", "oom_kill"),
            },
            Hierarchy::V1 { trees: [pids, memory, ..], cpuacct } => Usage {
                cpu_ms: cpuacct.as_ref().map_or(0, |root| number(root, "cpuacct.usage")) / 1_000_000,
                memory_peak_bytes: number(memory, "memory.max_usage_in_bytes"),
                processes_peak: number(pids, "pids.peak"),
                oom_kills: field(memory, "memory.oom_control", "oom_kill"),
            },
        }
    }

    /// Removes the group; returns the folders that are still there.
    pub fn remove(&self) -> Vec<PathBuf> {
        let gone = |folder: &PathBuf| match fs::remove_dir(folder) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        self.folders().into_iter().filter(|folder| !gone(folder)).collect()
    }
}
