//! A cell: the running isolation of one session, from the first process to the last leftover.
//!
//! A cell moves through [`Phase`]s and never back. What a phase means for the rest of the warden is the daemon's matter; here is
//! what the kernel is told.

mod ahead;
mod blueprint;
mod channel;
mod child;
mod concern;
mod files;
mod filter;
mod launch;
mod motion;
mod owners;
mod seat;
mod user;
mod walls;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use rustix::event::epoll;
use rustix::process::{Signal, pidfd_send_signal};
use sulku_audit::{CloseReason, Draft, Event, Opening};
use sulku_permit::Rung;
use sulku_plan::filesystem::SystemImage;
use sulku_plan::order::TerminalSize;
use sulku_plan::{Limits, Plan, PlanDigest};

use self::blueprint::Blueprint;
use self::channel::{GO, Told, hear, say};
use self::seat::{Process, Seat};
use crate::cgroup::{Group, Motion, Usage};
use crate::config::Users;
use crate::layers::Layer;
use crate::ledger::Pending;
use crate::network::{CellLink, CellNetwork, Grant, Passage};
use crate::seen::{Denials, Endings, Forbiddens, Opens, Runs};

pub use self::channel::Said;
pub use self::concern::Concern;
pub use self::filter::Instruction;
pub use self::launch::workspace_uid;
pub use self::owners::Owners;
pub use self::seat::{Ground, Seats};
pub use self::walls::{Filter, LANDLOCK_ABI_MIN, Rules, WallError};

/// A step that failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}: {error}")]
pub struct Step {
    step: String,
    error: io::Error,
}

impl Step {
    fn new(step: impl Into<String>, error: io::Error) -> Self {
        Self { step: step.into(), error }
    }

    fn at<T>(step: impl Into<String>, result: Result<T, impl Into<io::Error>>) -> Result<T, Self> {
        result.map_err(|error| Self::new(step, error.into()))
    }
}

/// Where a cell is in its life.
#[derive(Debug)]
pub enum Phase {
    /// Its process builds its walls.
    Building(Instant),
    /// It is built; `cell.launched` is on its way to the ledger.
    AwaitingReceipt(Pending),
    /// The record is durable; the shell is being started.
    Starting,
    /// The shell or the command runs.
    Running,
    /// The shell or the command has ended, and with it all processes.
    Ended(Instant),
    /// Its processes have been told to die.
    Dying(Instant, Outcome),
    /// No process is left; the kernel is removing its network.
    Vanishing(Instant, Outcome, Remains),
}

/// When a cell ends at the latest, and what that end is called.
pub type End = (Timestamp, CloseReason);

/// Why a cell goes.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It lived.
    Reaped(CloseReason),
    /// It never came to run anything; the order is refused for this reason.
    Refused(String),
}

/// What is known of a cell whose processes are gone.
#[derive(Debug, Clone, Default)]
pub struct Remains {
    /// What it used.
    pub usage: Usage,
    /// What could not be removed.
    pub leftovers: Vec<String>,
}

/// The running isolation of one session.
#[derive(Debug)]
pub struct Cell {
    /// What its ledger entry said.
    pub opening: Opening,
    /// What it is made of.
    pub plan: Plan,
    /// When it ends at the latest, and what that end is called.
    pub ends: End,
    /// Its rights on the network.
    pub grant: Grant,
    /// Its link to the router.
    pub link: CellLink,
    /// Its address.
    pub address: std::net::Ipv4Addr,
    /// Where it is in its life.
    pub phase: Phase,
    /// The terminal's master, once there is one.
    pub master: Option<OwnedFd>,
    /// When it goes because nobody adopts it whose gateway is lost.
    pub orphaned_until: Option<Instant>,
    /// How many gateways have adopted it.
    pub adoptions: u32,
    /// The number of the entry by which its gateway has it.
    pub given_by: u64,
    /// The terminal's kind.
    pub term: String,
    /// How what ran in it ended, once it has.
    pub status: Option<i32>,
    /// Whether `cell.launched` was written.
    pub recorded: bool,
    /// Denied packets not yet told to the ledger.
    pub denials: Denials,
    /// Programmes run, and not yet told.
    pub runs: Runs,
    /// Files of datasets opened, and not yet told.
    pub opens: Opens,
    /// How programmes ended, not yet told.
    pub endings: Endings,
    /// What Landlock denied, not yet told.
    pub forbidden: Forbiddens,
    /// Bytes of the flows that were told: sent, and received.
    pub carried: (u64, u64),
    /// Where it is told that it may run.
    go: Option<OwnedFd>,
    process: Process,
    channel_open: bool,
    /// Whether its words and its end are watched.
    watched: [bool; 2],
    group: Group,
    rung: Rung,
    /// What its processes have used, as their end told it; where there is a group, that knows better.
    used: Usage,
}

/// What a cell without limits may use up.
const UNLIMITED: Limits =
    Limits { memory_bytes: 1 << 50, processes: 1 << 20, cpu_percent: 100_000, open_files: 1 << 20, locked_bytes: 1 << 40, core_bytes: 0 };

/// What every cell is built with.
pub struct Site<'a> {
    /// What is the same for all cells.
    pub ground: &'a Ground,
    /// The workspaces' folder.
    pub workspaces: &'a Path,
    /// The workspaces' users.
    pub users: Users,
    /// Whose files cells can change.
    pub owners: &'a mut Owners,
    /// Processes that wait to become cells.
    pub seats: &'a mut Seats,
    /// A mount of the workspace's own disk, where it has one.
    pub disk: Option<OwnedFd>,
    /// A mount of the cell's system, where that is an image.
    pub image: Option<OwnedFd>,
}

/// What one cell is to be, verified.
pub struct Commission {
    /// The session's opening, from the ledger.
    pub opening: Opening,
    /// The plan that it must follow.
    pub plan: Plan,
    /// When it ends at the latest, and what that end is called.
    pub ends: End,
    /// The terminal's size.
    pub size: TerminalSize,
    /// The terminal's kind.
    pub term: String,
}

impl Cell {
    /// Starts building a cell. Nothing of it is left if this fails, except a workspace's folder.
    ///
    /// # Errors
    /// A step that failed.
    pub fn start(mut site: Site<'_>, commission: Commission, network: CellNetwork, mark: u32) -> Result<Self, Step> {
        let Commission { opening, plan, ends, size, term } = commission;
        let folder = launch::folder(&mut site, &plan)?;
        let uid = folder.uid;
        let limits = if site.ground.layers.has(Layer::Limits) { *plan.limits() } else { UNLIMITED };
        let grant = Grant::new(mark, &network, &plan);
        let (link, address) = (CellLink::from(&network), network.address);
        let seat = site.seats.take(site.ground)?;
        let blueprint = Blueprint::new(&plan, &opening, term.clone(), size, uid);
        // Its limits hold before anything of the holder's runs; what it does until then need not wait for them.
        let told = seat.process.become_cell(blueprint, &folder, site.image.as_ref(), &network.namespace).and_then(|()| seat.group.limit(&limits));
        if let Err(error) = told {
            seat.dismiss();
            return Err(Step::new("have a process become the cell", error));
        }
        let Seat { process, group } = seat;
        Ok(Self {
            given_by: opening.index(),
            adoptions: 0,
            term,
            status: None,
            opening,
            ends,
            grant,
            link,
            address,
            phase: Phase::Building(Instant::now()),
            master: None,
            orphaned_until: None,
            recorded: false,
            denials: Denials::default(),
            runs: Runs::default(),
            opens: Opens::default(),
            endings: Endings::default(),
            forbidden: Forbiddens::default(),
            carried: (0, 0),
            go: None,
            process,
            channel_open: true,
            watched: [false; 2],
            group,
            rung: site.ground.rung,
            used: Usage::default(),
            plan,
        })
    }

    /// An event about this cell's session. What was denied gets the name that was meant.
    #[must_use]
    pub fn draft(&self, mut event: Event) -> Draft {
        if let Event::EgressDenied { name, destination: std::net::IpAddr::V4(address), .. } = &mut event
            && let Some(asked) = self.name_of(*address)
        {
            *name = Some(asked.to_string()).into();
        }
        Draft {
            permit: Some(self.opening.permit().clone()),
            session: Some(self.opening.session()),
            person: Some(self.opening.person().clone()),
            event,
        }
    }

    /// The `cell.launched` entry.
    #[must_use]
    pub fn launched(&self, landlock: String, seccomp: &str) -> Draft {
        let digest: PlanDigest = self.plan.digest();
        self.draft(Event::CellLaunched {
            pid: self.process.pid.as_raw_nonzero().get().cast_unsigned(),
            rung: self.rung.name().to_owned(),
            landlock,
            seccomp: seccomp.to_owned(),
            plan: digest.to_string(),
            address: self.address.into(),
            ruleset: (self.rung != Rung::NoNetwork).then(sulku_plan::ruleset::digest),
            image: self.plan.image().map(|SystemImage { name, digest }| format!("{name} {digest}")),
        })
    }

    /// Has what its first process says, and its end, watched as long as they matter and no longer.
    ///
    /// # Errors
    /// The kernel watches no more.
    pub fn be_watched(&mut self, by: &OwnedFd) -> io::Result<()> {
        let matters = [self.channel_open, !matches!(self.phase, Phase::Ended(_) | Phase::Vanishing(..))];
        for ((concern, descriptor), (watched, matters)) in
            [(Concern::Words, &self.process.channel), (Concern::End, &self.process.pidfd)].into_iter().zip(self.watched.iter_mut().zip(matters))
        {
            match (*watched, matters) {
                (false, true) => epoll::add(by, descriptor, epoll::EventData::new_u64(concern.in_cell(self.grant.mark)), epoll::EventFlags::IN)?,
                (true, false) => epoll::delete(by, descriptor)?,
                _ => {}
            }
            *watched = matters;
        }
        Ok(())
    }

    /// Hears what its first process says; keeps the terminal, and the way to let it run, if they come.
    pub fn hear(&mut self) -> Option<Said> {
        match hear(&self.process.channel) {
            Ok((said, descriptors)) => {
                if let Ok([master, go]) = <[OwnedFd; 2]>::try_from(descriptors)
                    && self.master.is_none()
                {
                    (self.master, self.go) = (Some(master), Some(go));
                }
                Some(said)
            }
            Err(_) => {
                self.channel_open = false;
                None
            }
        }
    }

    /// Lets it run: only after its record is durable, which `proof` shows.
    ///
    /// # Errors
    /// It is not built, or runs already.
    pub fn release(&mut self, proof: &sulku_audit::Receipt) -> io::Result<()> {
        let _durable = proof.index();
        let go = self.go.take().ok_or(io::ErrorKind::InvalidInput)?;
        match rustix::io::write(go, &GO) {
            // It ended while it waited, which its end tells.
            Err(rustix::io::Errno::PIPE) => Ok(()),
            written => Ok(written.map(drop)?),
        }
    }

    /// Has its first process send a signal to the terminal's foreground processes, inside the cell, where no other can be meant.
    ///
    /// # Errors
    /// Its process is gone.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        say(&self.process.channel, &Told::Signal(signal), &[])
    }

    /// Freezes or thaws it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_motion(&self, motion: Motion) -> io::Result<()> {
        if self.group.is_there() { self.group.set_motion(motion) } else { say(&self.process.channel, &Told::Move(motion), &[]) }
    }

    /// Tells all its processes to die. Those of a frozen cell must move to do so.
    pub fn kill(&self) {
        let _gone_already = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
        if self.group.is_there() {
            let _gone_already = self.group.set_motion(Motion::Thawed);
        }
    }

    /// Its first process's exit status, if it has ended; with it every other process of the cell has.
    pub fn ended(&mut self) -> Option<i32> {
        let end = crate::sys::end_of(self.process.pidfd.as_fd()).ok()??;
        self.used = Usage { cpu_ms: end.cpu_ms, memory_peak_bytes: end.memory_peak_bytes, ..Usage::default() };
        Some(end.status)
    }

    /// Lets go of all that is left once no process is, and says what stays.
    pub fn clear(&mut self) -> Remains {
        (self.master, self.go) = (None, None);
        self.channel_open = false;
        let usage = if self.group.is_there() { self.group.usage() } else { self.used };
        let leftovers = self.group.remove().into_iter().map(|folder| format!("control group {}", folder.display())).collect();
        Remains { usage, leftovers }
    }

    /// Whether it has not been told to go.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Dying(..) | Phase::Vanishing(..))
    }

    /// Whether the holder's programmes run.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running) && self.orphaned_until.is_none()
    }

    /// What the router has of it, if it has anything.
    #[must_use]
    pub const fn passage(&self) -> Option<Passage> {
        match (&self.phase, self.orphaned_until) {
            (Phase::Starting | Phase::Running, None) => Some(Passage::Open),
            (Phase::Running, Some(_)) => Some(Passage::Suspended),
            _ => None,
        }
    }

    /// Whether it is on its way to running.
    #[must_use]
    pub const fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Building(_) | Phase::AwaitingReceipt(_) | Phase::Starting)
    }

    /// Whether the kernel is removing its network.
    #[must_use]
    pub const fn is_vanishing(&self) -> bool {
        matches!(self.phase, Phase::Vanishing(..))
    }

    /// Whether its first process has said something that was not heard yet.
    #[must_use]
    pub fn has_words(&self) -> bool {
        self.channel_open && crate::sys::readable_within(&self.process.channel, 0).unwrap_or(false)
    }

    /// Its first process, on the host.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid.as_raw_nonzero().get()
    }

    /// The permit's line that allows a destination: the narrowest that does.
    #[must_use]
    pub fn allowed_by(&self, protocol: u8, address: std::net::Ipv4Addr, port: u16) -> Option<(sulku_permit::Protocol, String)> {
        let to = std::net::IpAddr::V4(address);
        let matching = self
            .plan
            .destinations()
            .iter()
            .filter(|allowed| allowed.to.contains(&to) && allowed.port.number == port && allowed.port.protocol.number() == protocol);
        let listed = matching.max_by_key(|allowed| allowed.to.prefix_len()).map(|allowed| (allowed.port.protocol, allowed.at.to_string()));
        listed.or_else(|| {
            let way = self.grant.named.way(address, protocol, port)?;
            Some((way.port.protocol, self.plan.named().get(way.line)?.at.to_string()))
        })
    }

    /// The name that the session asked for and got this address, if it did.
    #[must_use]
    pub fn name_of(&self, address: std::net::Ipv4Addr) -> Option<&sulku_permit::HostName> {
        self.grant.named.name_of(address)
    }
}
