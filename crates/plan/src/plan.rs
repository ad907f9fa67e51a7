//! The plan of one permit's cells, and how it follows from the permit.

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sulku_permit::{Admission, Budget, Destination, Permit, PermitId, Place, Port, Reach, Resources, WorkspaceName};

use crate::filesystem::{self, LandlockRule, Mount, Programmes, SystemImage};
use crate::naming::Listed;

/// Open files that one process of a cell may have. Large statistical jobs open hundreds; the kernel's memory bounds the rest.
const OPEN_FILES_MAX: u64 = 16_384;
/// Memory that one process may lock, in bytes: enough for keys and small buffers.
const LOCKED_BYTES_MAX: u64 = 8 << 20;

/// All that the warden must do for a cell of one permit, as plain data.
///
/// Made of a permit and nothing else, so that gateway and warden, each from its own copy, come to the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    permit: PermitId,
    workspace: WorkspaceName,
    image: Option<SystemImage>,
    mounts: Vec<Mount>,
    landlock: Vec<LandlockRule>,
    programmes: Programmes,
    destinations: Vec<Allowed>,
    named: Vec<NamedHosts>,
    limits: Limits,
    disk_bytes: Option<u64>,
}

/// One thing that a cell may reach: a network at one port, and the permit's line that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// An address (as a full-length prefix) or a network.
    pub to: IpNet,
    /// The port and its protocol.
    pub port: Port,
    /// When it closes, if before the permit's end.
    pub until: Option<Timestamp>,
    /// How much of it a session may use; it shares that with all that has the same line.
    pub budget: Budget,
    /// The permit's line.
    pub at: Place,
}

/// Hosts that a cell may reach by their names, and the permit's line that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHosts {
    /// Which, at which ports, how they are held to their names.
    pub listed: Listed,
    /// When they close, if before the permit's end.
    pub until: Option<Timestamp>,
    /// How much of them a session may use, of all names and ports together.
    pub budget: Budget,
    /// The permit's line.
    pub at: Place,
}

/// What one cell may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, the files in `/tmp` and `/dev/shm` included.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: u32,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of memory that one process may lock.
    pub locked_bytes: u64,
    /// Bytes of a core dump: a dump would be a copy of data where nobody looks for one.
    pub core_bytes: u64,
}

/// SHA-256 of a plan's rendered text; displayed in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanDigest([u8; 32]);

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Plan {
    /// The plan of the permit's cells.
    #[must_use]
    pub fn of(permit: &Permit) -> Self {
        let Resources { memory_bytes, processes, cpu_percent } = permit.resources;
        let limits = Limits { memory_bytes, processes, cpu_percent, open_files: OPEN_FILES_MAX, locked_bytes: LOCKED_BYTES_MAX, core_bytes: 0 };
        Self {
            permit: permit.id.clone(),
            workspace: permit.workspace.name.clone(),
            image: filesystem::image(permit),
            mounts: filesystem::mounts(permit),
            landlock: filesystem::landlock(permit),
            programmes: filesystem::programmes(permit),
            destinations: permit.egress.iter().flat_map(allowed).collect(),
            named: permit.egress.iter().filter_map(named).collect(),
            limits,
            disk_bytes: permit.workspace.disk_bytes,
        }
    }

    /// The plan of the cell that an admission opens.
    #[must_use]
    pub fn for_admission(admission: &Admission) -> Self {
        Self::of(admission.permit())
    }

    /// Whether a cell runs what is written in it.
    #[must_use]
    pub const fn programmes(&self) -> Programmes {
        self.programmes
    }

    /// The permit it follows from.
    #[must_use]
    pub const fn permit(&self) -> &PermitId {
        &self.permit
    }

    /// The workspace; also the cell's host name.
    #[must_use]
    pub const fn workspace(&self) -> &WorkspaceName {
        &self.workspace
    }

    /// The image that is the cell's system; without one, the host's own programmes are.
    #[must_use]
    pub const fn image(&self) -> Option<&SystemImage> {
        self.image.as_ref()
    }

    /// What the cell's file system is made of, in the order in which it is made.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// What Landlock leaves open; it denies the rest.
    #[must_use]
    pub fn landlock(&self) -> &[LandlockRule] {
        &self.landlock
    }

    /// What the cell may reach by address; all else is dropped, but what [`Plan::named`] adds.
    #[must_use]
    pub fn destinations(&self) -> &[Allowed] {
        &self.destinations
    }

    /// What the cell may reach by name.
    #[must_use]
    pub fn named(&self) -> &[NamedHosts] {
        &self.named
    }

    /// What the cell may use up.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The most that the workspace holds, in bytes, where it has a disk of its own: of all its cells together.
    #[must_use]
    pub const fn disk_bytes(&self) -> Option<u64> {
        self.disk_bytes
    }

    /// SHA-256 of [`Plan::render`].
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        PlanDigest(Sha256::digest(self.render().as_bytes()).into())
    }
}

fn allowed(destination: &Destination) -> impl Iterator<Item = Allowed> + '_ {
    let Destination { to, ports, budget, until, at, name: _, reason: _, owner: _ } = destination;
    let networks = to.network().into_iter();
    networks.flat_map(move |to| ports.iter().map(move |port| Allowed { to: to.trunc(), port: *port, until: *until, budget: *budget, at: at.clone() }))
}

fn named(destination: &Destination) -> Option<NamedHosts> {
    let Destination { to, ports, budget, until, at, name: _, reason: _, owner: _ } = destination;
    let Reach::Names(names) = to else { return None };
    let ports = ports.iter().map(|port| (*port).into()).collect();
    let within = names.within.iter().map(IpNet::trunc).collect();
    let listed = Listed { names: names.pattern.clone(), ports, check: names.check, within };
    Some(NamedHosts { listed, until: *until, budget: *budget, at: at.clone() })
}
