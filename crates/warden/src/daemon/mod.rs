//! The warden's one loop: waits for something to happen, does what follows, never waits for anything else.
//!
//! What follows from the gateway is in `orders` and `adoption`, from cells in `cells`, from the ledger in `record`, from what was seen in `sights` and
//! `doings`, from others' changes of the router's rules in `drift`.

mod adoption;
mod cells;
mod doings;
mod drift;
mod naming;
mod orders;
mod record;
mod roll;
mod sights;
mod unfit;
mod waiting;
mod ways;
mod workspaces;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::process::{Resource, Rlimit};
use sulku_audit::{CloseReason, Draft, Event};
use sulku_permit::{Rung, SessionId};
use sulku_plan::order::Report;
use sulku_plan::ruleset;

use self::roll::Roll;
use self::waiting::Waiting;
use self::ways::Ways;
use crate::cell::{Concern, Filter, Ground, Owners, Seats};
use crate::cgroup::Hierarchy;
use crate::config::{Config, ConfigError};
use crate::gateway::{Gateway, Listener};
use crate::images::Images;
use crate::layers::Layers;
use crate::ledger::{Ledger, LedgerError};
use crate::naming::{Naming, User};
use crate::network::NetworkError;
use crate::permits::Permits;
use crate::rung::{self, Standing};
use crate::seen::{Audit, Ends, Eyes, Groups, Losses, Senders};
use crate::verdict::{Judge, Names};
use crate::workspace::Deletion;
use crate::workspace::disk::Disks;
use crate::{doctor, sys};

/// Words and ends of cells that are taken in between two looks at everything else.
const CELLS_AT_ONCE: usize = 64;
/// How often all cells are looked at for what time brings, at most: there may be many, and much may happen to one of them.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often time-outs are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// How often the warden looks whether its permits have changed.
const REVIEW_EVERY: Duration = Duration::from_millis(500);
/// How often the kernel is asked whether a cell's link is gone, while one is going.
const VANISHING_TICK: Duration = Duration::from_millis(5);
/// How long cells stay frozen for a ledger that is away.
const LEDGER_AWAY_MAX: Duration = Duration::from_secs(30);
/// Nothing is made ahead of need so long after a launch: the shell that starts then has the processors first.
const FILL_AFTER: Duration = Duration::from_millis(20);
/// How long a cell may take to build itself; milliseconds are usual.
const BUILD_WITHIN: Duration = Duration::from_secs(10);
/// How long a cell whose shell has ended waits for the gateway to end it.
const ENDED_STAYS: Duration = Duration::from_secs(120);
/// How long processes may take to die, and after that the network to vanish, before they are named as leftovers.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// A link that is still there so long after its last process is taken down. Most go by themselves, at no cost to the warden.
const LINK_LINGERS: Duration = Duration::from_millis(200);
/// How long the warden takes at most to reap all cells when it stops.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Why the warden did not start or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host lacks something that it had a moment ago.
    #[error("this host can't hold cells: {0}; run sulku-warden doctor")]
    Host(String),
    /// The network is not as it must be.
    #[error("the network can't be made")]
    Network(#[from] NetworkError),
    /// The ledger can't be relied on.
    #[error("the ledger can't be relied on")]
    Ledger(#[from] LedgerError),
    /// The seccomp filter does not compile.
    #[error("the seccomp filter can't be made: {0}")]
    Filter(String),
    /// The socket for the gateway can't be made, or another basic thing failed.
    #[error("could not {step}")]
    System {
        /// What.
        step: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Cells could not be recorded any more and were ended.
    #[error("the ledger stayed away for {} s; all cells were ended", LEDGER_AWAY_MAX.as_secs())]
    Unrecorded,
}

/// Whether launches are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// They are.
    Serving,
    /// The ledger is away since then; nothing runs.
    Unrecorded(Instant),
    /// The warden was told to stop; then it goes.
    Stopping(Instant),
}

/// Whether the permits could be read when they were last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reliance {
    /// They could.
    Given,
    /// They could not; what was decided by those before stands, and nothing is launched.
    Lost,
}

struct Warden {
    config: Config,
    ground: Ground,
    owners: Owners,
    seats: Seats,
    /// When a cell was last launched.
    launched: Option<Instant>,
    judge: Judge,
    ledger: Ledger,
    /// The ways out of cells.
    ways: Ways,
    /// Who answers questions for names, where there is one. It ends before the group of `senders`, in which its process is.
    naming: Option<Naming>,
    /// Who sends packets; `None` where the kernel does not tell.
    senders: Option<Senders>,
    losses: Losses,
    /// What is run and opened in cells; `None` on a rung that can't see it.
    eyes: Option<Eyes>,
    /// How what was run ends; `None` where that can't be seen either, or the kernel does not tell.
    ends: Option<Ends>,
    /// The host's audit; `None` where it can't be heard.
    audit: Option<Audit>,
    listener: Listener,
    signals: OwnedFd,
    gateway: Option<Gateway>,
    cells: Roll,
    /// When all cells were last looked at for what time brings.
    looked: Instant,
    /// What cells say and their ends, watched by the kernel: asking for each of hundreds takes longer than what follows.
    concern: OwnedFd,
    /// Sessions whose flows may still be reported as ended: their mark, and their draft without an event.
    next_mark: u32,
    /// What the next gateway is told of cells that went while there was none.
    unclosed: Vec<Report>,
    mode: Mode,
    reviewed: Instant,
    permits: Reliance,
    rules: drift::Rules,
    /// The workspace that is being destroyed.
    deletion: Option<Deletion>,
    /// Sessions whose cells are not begun, for want of what is on its way.
    waiting: BTreeMap<SessionId, Waiting>,
    /// Workspaces' own disks.
    disks: Disks,
    /// Systems that are not the host's.
    images: Images,
}

/// What a descriptor that became readable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Gateway,
    Ledger,
    Watch,
    Drift,
    Relay,
    Resolver,
    ResolverEnd,
    Eyes,
    Ends,
    Audit,
    Cells,
    Errand,
    Channel(SessionId),
    Process(SessionId),
}

/// Runs a warden until SIGTERM or SIGINT.
///
/// # Errors
/// Why it did not start, or why it had to end all cells.
pub fn run(config: Config) -> Result<(), RunError> {
    run_without(config, Layers::ALL)
}

/// Runs a warden whose cells lack layers, for tests that show what each layer stops.
///
/// # Errors
/// As [`run`].
pub fn run_without(mut config: Config, layers: Layers) -> Result<(), RunError> {
    let system = |step| move |source| RunError::System { step, source };
    let signals = sys::signals(&[libc::SIGTERM, libc::SIGINT]).map_err(system("watch signals"))?;
    // Each cell takes a few descriptors; the host's hard limit is the bound, not the soft one that shells set.
    let files = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files })
        .map_err(|error| system("raise the limit of open files")(error.into()))?;
    let (rung, relay) = match rung::stand(&mut config) {
        Standing::On(rung, relay) => (rung, relay),
        Standing::Unfit(missing) => return unfit::refuse(&config, &signals, &missing),
    };
    let hierarchy = Hierarchy::of(rung).map_err(|missing| RunError::Host(missing.join(", ")))?;
    let filter = Filter::compile(rung).map_err(|error| RunError::Filter(crate::chain(&error)))?;
    let listener = Listener::at(&config.socket, config.gateway_uid).map_err(system("listen for the gateway"))?;
    hierarchy.sweep(&config.instance);
    let groups = if matches!(hierarchy, Hierarchy::V2(_)) { Groups::Version2 } else { Groups::Version1 };
    let senders = Senders::watch(&config.instance, groups)
        .inspect_err(|error| tracing::warn!(%error, "the kernel does not tell which process sends a packet; entries say unknown"))
        .ok();
    let eyes = match rung {
        Rung::Root => Some(Eyes::open().map_err(system("watch what is run in cells"))?),
        // The kernel asks nobody before files are opened but who is root on the host.
        Rung::Rootless | Rung::NoNetwork => None,
    };
    let ends = eyes.as_ref().and_then(|_| {
        Ends::open()
            .inspect_err(|error| tracing::warn!(%error, "the kernel does not tell how programmes end, Linux 6.15 does; no entry says so"))
            .ok()
    });
    let audit = match rung {
        Rung::Root => {
            Audit::open().inspect_err(|error| tracing::warn!(%error, "the host's audit can't be heard; no entry says what Landlock denies")).ok()
        }
        Rung::Rootless | Rung::NoNetwork => None,
    };
    let concern = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| system("watch cells")(error.into()))?;
    let mut ledger = Ledger::connect(config.ledger_socket.clone())?;
    let mut ways = if rung == Rung::NoNetwork { Ways::Closed(0) } else { Ways::routed(&config, relay)? };
    let own_networks = config.own_networks();
    let user = if rung == Rung::Root { User::Own } else { User::Wardens };
    let naming = config.resolver.take().filter(|_| rung != Rung::NoNetwork).map(|resolver| Naming::new(resolver, user, own_networks));
    if let Some(naming) = &naming {
        ways.serve_names(naming.uid(), &naming.resolver().upstream).map_err(system("let the resolver ask for names"))?;
    }
    let start = ledger.append(Draft::new(Event::WardenStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rung: rung.name().to_owned(),
        kernel: doctor::kernel(),
        landlock_abi: sys::landlock_abi(),
        ruleset: if rung == Rung::NoNetwork { String::new() } else { ruleset::digest() },
    }))?;
    // When all is settled, this has its receipt; were it not so, nothing would ever open.
    let started = ledger.settle()?.iter().find(|(pending, _)| *pending == start).map_or(u64::MAX, |(_, receipt)| receipt.index());
    let names = if naming.is_some() { Names::Resolved } else { Names::Unknown };
    let permits = Permits::in_store(config.policy.clone(), config.operators.clone());
    let judge = Judge::new(rung, config.ledger_keys.clone(), names, permits, started);
    // Only root mounts them.
    let images = std::mem::take(&mut config.images).into_iter().filter(|_| rung == Rung::Root).collect();
    let mut warden = Warden {
        ground: Ground { instance: config.instance.clone(), rung, hierarchy, layers, filter },
        owners: Owners::default(),
        seats: Seats::new(config.pool),
        launched: None,
        judge,
        ledger,
        ways,
        senders,
        losses: Losses::default(),
        naming,
        eyes,
        ends,
        audit,
        listener,
        signals,
        gateway: None,
        cells: Roll::default(),
        looked: Instant::now(),
        concern,
        next_mark: 1,
        unclosed: Vec::new(),
        mode: Mode::Serving,
        reviewed: Instant::now(),
        permits: Reliance::Given,
        rules: drift::Rules::default(),
        deletion: None,
        waiting: BTreeMap::new(),
        disks: Disks::default(),
        images: Images::new(images),
        config,
    };
    tracing::info!(instance = warden.config.instance, rung = rung.name(), "the warden serves");
    rung::differences(rung).iter().for_each(|difference| tracing::warn!(rung = rung.name(), "weaker than with root: {difference}"));
    warden.serve()
}

impl Warden {
    fn serve(&mut self) -> Result<(), RunError> {
        loop {
            let ready = self.wait();
            let idle = ready.is_empty();
            for source in ready {
                self.attend(source);
            }
            self.pass_time();
            self.carry_on_deleting();
            match self.mode {
                Mode::Serving if idle && self.may_fill() => self.fill(),
                Mode::Serving => {}
                Mode::Unrecorded(since) if since.elapsed() > LEDGER_AWAY_MAX => return self.leave_unrecorded(),
                Mode::Unrecorded(_) => {}
                Mode::Stopping(since) if self.cells.is_empty() || since.elapsed() > STOP_WITHIN => return self.leave(),
                Mode::Stopping(_) => {}
            }
        }
    }

    /// Waits for something to happen, and says where.
    fn wait(&mut self) -> Vec<Source> {
        let concern = &self.concern;
        self.cells.settle(
            |cell| cell.be_watched(concern),
            |session, error| tracing::error!(%session, %error, "a cell can't be watched; it is tried again"),
        );
        let mut watched: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![(Source::Signals, self.signals.as_fd(), PollFlags::IN)];
        watched.extend(self.ways.changes().map(|fd| (Source::Drift, fd, PollFlags::IN)));
        if let Some(ledger) = self.ledger.descriptor() {
            watched.push((Source::Ledger, ledger, PollFlags::IN | write_if(self.ledger.wants_to_write())));
        }
        // While the ledger has much to do, what the router sees waits in the kernel.
        if !self.ledger.is_busy() {
            watched.extend(self.ways.sights().map(|fd| (Source::Watch, fd, PollFlags::IN)));
            watched.extend(self.eyes.iter().map(|eyes| (Source::Eyes, eyes.descriptor(), PollFlags::IN)));
            watched.extend(self.audit.iter().map(|audit| (Source::Audit, audit.descriptor(), PollFlags::IN)));
            watched.extend(self.ends.iter().map(|ends| (Source::Ends, ends.descriptor(), PollFlags::IN)));
        }
        // What the resolver says may become entries, and waits for the ledger as well.
        if let Some((channel, wants_to_write, end)) = self.naming.as_ref().filter(|_| !self.ledger.is_busy()).and_then(Naming::descriptors) {
            watched.push((Source::Resolver, channel, PollFlags::IN | write_if(wants_to_write)));
            watched.push((Source::ResolverEnd, end, PollFlags::IN));
        }
        if let Some(gateway) = &self.gateway {
            watched.push((Source::Gateway, gateway.as_fd(), PollFlags::IN | write_if(gateway.wants_to_write())));
        }
        if let Some(relay) = self.ways.relay().filter(|_| self.mode == Mode::Serving) {
            watched.push((Source::Relay, relay.as_fd(), PollFlags::IN));
        }
        // After the gateway: the one that comes may be the successor of one that has just gone.
        watched.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        watched.push((Source::Cells, self.concern.as_fd(), PollFlags::IN));
        watched.extend(self.images.descriptors().map(|fd| (Source::Errand, fd, PollFlags::IN)));
        watched.extend(self.disks.descriptors().map(|fd| (Source::Errand, fd, PollFlags::IN)));
        let mut fds: Vec<_> = watched.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let wait = self.wait_at_most();
        let timeout = Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(1), tv_nsec: wait.subsec_nanos().into() };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let ready: Vec<_> = watched.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|((source, _, _), _)| *source).collect();
        ready.into_iter().flat_map(|source| if source == Source::Cells { self.cells_ready() } else { vec![source] }).collect()
    }

    /// Which cells have something to say, or have ended.
    fn cells_ready(&self) -> Vec<Source> {
        let mut events = Vec::with_capacity(CELLS_AT_ONCE);
        if epoll::wait(&self.concern, spare_capacity(&mut events), Some(&Timespec::default())).is_err() {
            return Vec::new();
        }
        let sources = events.iter().filter_map(|event| {
            let (mark, concern) = Concern::of(event.data.u64());
            let session = self.cells.by_mark(mark)?;
            Some(match concern {
                Concern::Words => Source::Channel(session),
                Concern::End => Source::Process(session),
            })
        });
        sources.collect()
    }

    /// Whether something may be made ahead of need now: never while somebody waits for her prompt.
    fn may_fill(&self) -> bool {
        let wanted = self.mode == Mode::Serving && (self.ways.wants_more() || self.seats.wants_more());
        wanted && self.launched.is_none_or(|at| at.elapsed() >= FILL_AFTER) && !self.cells.stirred().any(|(_, cell)| cell.is_starting())
    }

    /// Makes one thing that the next cell needs ahead of it.
    fn fill(&mut self) {
        if self.ways.wants_more() {
            if let Err(error) = self.ways.fill() {
                tracing::error!(error = crate::chain(&error), "a cell's network could not be made");
            }
        } else if let Err(error) = self.seats.fill(&self.ground) {
            tracing::error!(error = crate::chain(&error), "a process could not be made ahead of its cell");
        }
    }

    /// Ends what waits for cells that will not come, and lets go of the group that held them.
    fn dismiss(&mut self) {
        for folder in self.seats.dismiss() {
            tracing::warn!(folder = %folder.display(), "a control group could not be removed");
        }
        self.ground.hierarchy.leave(&self.config.instance);
    }

    fn wait_at_most(&self) -> Duration {
        if self.may_fill() || self.is_deleting() {
            return Duration::ZERO;
        }
        let tick = if self.cells.stirred().any(|(_, cell)| cell.is_vanishing()) { VANISHING_TICK } else { TICK };
        if self.launched.is_some_and(|at| at.elapsed() < FILL_AFTER) { tick.min(FILL_AFTER) } else { tick }
    }

    fn attend(&mut self, source: Source) {
        match source {
            Source::Signals => {
                let mut news = [0; 256];
                let _drained = rustix::io::read(&self.signals, &mut news);
                self.stop();
            }
            Source::Listener => self.greet(),
            Source::Gateway => self.hear_gateway(),
            Source::Ledger => self.hear_ledger(),
            Source::Watch => self.look(),
            Source::Drift => self.hear_of_changes(),
            Source::Relay => {
                tracing::error!("the relay has ended, and nothing else leads out; the warden stops");
                self.stop();
            }
            Source::Resolver => self.hear_resolver(),
            Source::ResolverEnd => self.resolver_ended(),
            Source::Eyes => self.see(),
            Source::Ends => self.hear_of_ends(),
            Source::Audit => self.hear_audit(),
            Source::Cells => {}
            Source::Errand => self.hear_errands(),
            Source::Channel(session) => self.hear_cell(session),
            Source::Process(session) => self.process_ended(session),
        }
    }

    fn stop(&mut self) {
        if matches!(self.mode, Mode::Stopping(_)) {
            return;
        }
        tracing::info!(cells = self.cells.len(), "the warden was told to stop");
        self.mode = Mode::Stopping(Instant::now());
        self.look_after_the_waiting(Instant::now());
        self.reap_all(CloseReason::Drain);
    }

    fn leave(&mut self) -> Result<(), RunError> {
        let reason = if self.cells.is_empty() { "told to stop".to_owned() } else { format!("told to stop; {} cells would not go", self.cells.len()) };
        for event in self.losses.rest() {
            self.ledger.append(Draft::new(event))?;
        }
        self.ledger.append(Draft::new(Event::WardenStopped { reason }))?;
        self.ledger.settle()?;
        if let Some(gateway) = &mut self.gateway {
            let _gone_already = gateway.flush();
        }
        let _gone_already = std::fs::remove_file(&self.config.socket);
        self.dismiss();
        Ok(())
    }

    /// The ledger stayed away: everything ends, and nobody can be told but by the exit status.
    fn leave_unrecorded(&mut self) -> Result<(), RunError> {
        self.reap_all(CloseReason::AuditFailed);
        let until = Instant::now() + GONE_WITHIN;
        while !self.cells.is_empty() && Instant::now() < until {
            for source in self.wait() {
                if let Source::Process(session) = source {
                    self.process_ended(session);
                }
            }
            self.pass_time();
        }
        self.dismiss();
        Err(RunError::Unrecorded)
    }
}

fn write_if(wanted: bool) -> PollFlags {
    if wanted { PollFlags::OUT } else { PollFlags::empty() }
}
