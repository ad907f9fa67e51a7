//! The stage itself: everything put up in order, and taken down in the reverse.

mod furnish;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::authority::{Authority, Person};
use crate::command::{Finished, Interrupt, Running, run};
use crate::daemon::{Daemon, Process, listens_at, listens_on};
use crate::disk::Disk;
use crate::entry::Entry;
use crate::error::StageError;
use crate::ground::Ground;
use crate::host::Host;
use crate::instance::Instance;
use crate::leftover::{self, Leftover};
use crate::permits::PermitFile;
use crate::register;

/// A daemon that takes longer to start is broken, also on a busy machine.
const READY_TIME: Duration = Duration::from_secs(20);
/// A daemon that takes longer to stop in order is killed.
const STOP_TIME: Duration = Duration::from_secs(15);
/// The kernel takes a moment to take down a namespace after its last process.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// A command of ours that is not a session.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// Where the mirror is, as the permit of the statin study says.
pub(crate) const MIRROR: Ipv4Addr = Ipv4Addr::new(10, 20, 30, 40);
/// The host that the permit of the statin study does not list, and that of the asthma study does.
const FORBIDDEN: Ipv4Addr = Ipv4Addr::new(10, 20, 50, 60);
/// The mirror's name, for permits that list hosts by name. The mirror itself answers for it, and for no other.
pub const MIRROR_NAME: &str = "mirror.demo.sulku.example";
const NAMES: &[(&str, Ipv4Addr)] = &[(MIRROR_NAME, MIRROR)];
/// Stages that this process has raised.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// What a stage is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ends the asthma study's permit this long after the stage has begun to rise.
    pub asthma_ends_after: Option<Duration>,
    /// Permits beyond those of `policies/`.
    pub permits: Vec<PermitFile>,
    /// Lines for the gateway's `[limits]`.
    pub limits: String,
    /// How long the warden keeps the cells of a gateway that is gone.
    pub gateway_lost_grace_s: u32,
    /// What the warden is not to find on this host.
    pub hidden_from_warden: Option<PathBuf>,
    /// What a courier carries the audit to, in the words of its configuration, where `{root}` is the stage's folder; without it there is
    /// no courier.
    pub courier: Option<String>,
    /// The address at which the gateway listens.
    pub listen: Ipv4Addr,
    /// Gives the ledger a file system of its own, of so many MiB, that can be filled; without it, it is in the stage's folder.
    pub ledger_disk_mib: Option<u32>,
    /// What the daemons find in their environment, beside what the stage puts there.
    pub daemon_env: Vec<(&'static str, PathBuf)>,
    /// Rows of each register.
    pub rows: u32,
    /// Who may interrupt.
    pub interrupt: Interrupt,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            asthma_ends_after: None,
            permits: Vec::new(),
            limits: String::new(),
            gateway_lost_grace_s: 30,
            hidden_from_warden: None,
            courier: None,
            listen: Ipv4Addr::LOCALHOST,
            ledger_disk_mib: None,
            daemon_env: Vec::new(),
            rows: register::REGISTER_ROWS,
            interrupt: Interrupt::never(),
        }
    }
}

/// An environment that runs. Dropping it takes everything down.
#[derive(Debug)]
pub struct Stage {
    // Dropped in this order: the daemons, then the hosts, then the ledger's disk, then the folder.
    processes: BTreeMap<Daemon, Process>,
    hosts: Option<Hosts>,
    ledger_disk: Option<Disk>,
    folder: Option<TempDir>,
    root: PathBuf,
    instance: Instance,
    listen: Ipv4Addr,
    port: u16,
    programs: PathBuf,
    authority: Authority,
    hidden_from_warden: Option<PathBuf>,
    daemon_env: Vec<(&'static str, PathBuf)>,
    interrupt: Interrupt,
}

#[derive(Debug)]
struct Hosts {
    mirror: Host,
    forbidden: Host,
}

impl Stage {
    /// Raises everything and waits until it is ready.
    ///
    /// # Errors
    /// What is missing on this machine, or what a daemon said when it did not start.
    pub fn raise(options: &Options) -> Result<Self, StageError> {
        let ground = Ground::take()?;
        let instance = Instance::of(std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed), ground);
        let folder = tempfile::Builder::new().prefix(&instance.folder_prefix()).tempdir().map_err(StageError::system("making the stage's folder"))?;
        let root = folder.path().to_owned();
        furnish::open_for_all(&root)?;
        let mut stage = Self {
            processes: BTreeMap::new(),
            hosts: None,
            ledger_disk: None,
            listen: options.listen,
            programs: programs()?,
            authority: Authority::make(&root.join("authority"))?,
            folder: Some(folder),
            root,
            instance,
            port: free_port()?,
            hidden_from_warden: options.hidden_from_warden.clone(),
            daemon_env: options.daemon_env.clone(),
            interrupt: options.interrupt.clone(),
        };
        stage.furnish(options)?;
        let host = |name: &str, address, known| Host::raise(&stage.instance.namespace(name), address, known, ground);
        stage.hosts = Some(Hosts { mirror: host("mirror", MIRROR, NAMES)?, forbidden: host("other", FORBIDDEN, &[])? });
        for daemon in Daemon::ALL.iter().chain(options.courier.is_some().then_some(&Daemon::Courier)) {
            stage.start(*daemon)?;
        }
        Ok(stage)
    }

    /// Starts a daemon that does not run, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start, or is not ready in time.
    pub fn start(&mut self, daemon: Daemon) -> Result<(), StageError> {
        let (program, _) = daemon.program();
        let config = self.root.join(format!("config/{}.toml", daemon.name()));
        let log = self.root.join(format!("log/{}.log", daemon.name()));
        let hidden = self.hidden_from_warden.as_deref().filter(|_| daemon == Daemon::Warden);
        let mut process = Process::start(daemon, &self.programs.join(program), hidden, &config, &self.daemon_env, log)?;
        let ready = process.await_ready(READY_TIME, &self.interrupt, |pid| match daemon {
            Daemon::Ledger => listens_at(pid, &self.ledger_socket()),
            Daemon::Warden => listens_at(pid, &self.warden_socket()),
            Daemon::Gateway => listens_on(self.listen, self.port),
            Daemon::Courier => listens_at(pid, &self.figures_socket()),
        });
        ready.map_err(|error| error.with_logs(self.processes.values().map(|other| (other.daemon().name(), other.log_end()))))?;
        self.processes.insert(daemon, process);
        Ok(())
    }

    /// Sends a daemon a signal and waits for its end. `None`: it did not end in time and was killed.
    pub fn kill(&mut self, daemon: Daemon, signal: Signal) -> Option<ExitStatus> {
        self.processes.remove(&daemon).and_then(|mut process| process.end(signal, STOP_TIME))
    }

    /// How a daemon ended by itself, if it has.
    pub fn ended(&mut self, daemon: Daemon) -> Option<ExitStatus> {
        self.processes.get_mut(&daemon).and_then(Process::ended)
    }

    /// A daemon's process id, while it runs.
    #[must_use]
    pub fn pid(&self, daemon: Daemon) -> Option<u32> {
        self.processes.get(&daemon).map(Process::pid)
    }

    /// The end of a daemon's log.
    #[must_use]
    pub fn log(&self, daemon: Daemon) -> String {
        fs::read_to_string(self.root.join(format!("log/{}.log", daemon.name()))).unwrap_or_default()
    }

    /// `sulku` with these arguments, as a person at this machine would run it.
    #[must_use]
    pub fn sulku(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("sulku"));
        command.args(args).env_remove("SULKU_PROFILE").env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1");
        command
    }

    /// `sulku connect` as somebody; more arguments may follow.
    #[must_use]
    pub fn client(&self, person: Person, permit: Option<&str>) -> Command {
        let mut command = self.sulku(&["connect"]);
        command.args(permit).arg("--profile").arg(self.profile(person));
        command
    }

    /// Runs `sulku connect` to its end: somebody runs one command in her workspace.
    ///
    /// # Errors
    /// The stage's own; how the command went is in what is returned.
    pub fn connect(&self, person: Person, args: &[&str]) -> Result<Finished, StageError> {
        let mut command = self.client(person, None);
        command.args(args);
        run(command, COMMAND_TIME, &self.interrupt)
    }

    /// Starts `sulku connect` and leaves it running.
    ///
    /// # Errors
    /// It can't be started.
    pub fn connected(&self, person: Person, args: &[&str]) -> Result<Running, StageError> {
        let mut command = self.client(person, None);
        command.args(args);
        Running::start(command, &self.interrupt)
    }

    /// Runs `sulku` to its end without input.
    ///
    /// # Errors
    /// The stage's own; how it went is in what is returned.
    pub fn run(&self, args: &[&str]) -> Result<Finished, StageError> {
        run(self.sulku(args), COMMAND_TIME, &self.interrupt)
    }

    /// Runs any program to its end without input.
    ///
    /// # Errors
    /// The stage's own; how it went is in what is returned.
    pub fn run_command(&self, command: Command) -> Result<Finished, StageError> {
        run(command, COMMAND_TIME, &self.interrupt)
    }

    /// Runs any program to its end without input, with the power that root has where the stage stands.
    ///
    /// # Errors
    /// The stage's own; how it went is in what is returned.
    pub fn run_with_powers(&self, command: Command) -> Result<Finished, StageError> {
        self.instance.ground().with_powers(|| self.run_command(command))
    }

    /// What the stage stands on.
    #[must_use]
    pub fn ground(&self) -> Ground {
        self.instance.ground()
    }

    /// The ledger's entries that pass these filters of `sulku audit list`, read as an auditor does.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn entries(&self, filters: &[&str]) -> Result<Vec<Entry>, StageError> {
        let mut args = vec!["audit", "list", "--json"];
        let (socket, key) = (self.shown("run/ledger.sock"), self.shown("config/ledger.key.pub"));
        args.extend(["--ledger", &socket, "--key", &key]);
        args.extend(filters);
        let listed = self.made_by_sulku(&args)?;
        let lines = listed.lines().filter(|line| !line.trim().is_empty());
        lines.map(Entry::parse).collect()
    }

    /// Waits for an entry that passes the filters and that `wanted` wants.
    ///
    /// # Errors
    /// There is none in time.
    pub fn entry(&self, filters: &[&str], within: Duration, wanted: impl Fn(&Entry) -> bool) -> Result<Entry, StageError> {
        let what = format!("an entry in the ledger with {}", filters.join(" "));
        self.interrupt.until(&what, within, || {
            let found = self.entries(filters)?.into_iter().find(&wanted);
            if found.is_none() {
                std::thread::sleep(Duration::from_millis(150));
            }
            Ok(found)
        })
    }

    fn made_by_sulku(&self, args: &[&str]) -> Result<String, StageError> {
        let finished = self.run(args)?;
        if finished.status.success() {
            return Ok(finished.out);
        }
        Err(StageError::ProgramFailed { command: format!("sulku {}", args.join(" ")), said: finished.gist() })
    }

    /// The host that the statin study's permit lists.
    #[must_use]
    pub fn mirror(&self) -> &Host {
        &self.hosts().mirror
    }

    /// The host that it does not list.
    #[must_use]
    pub fn forbidden(&self) -> &Host {
        &self.hosts().forbidden
    }

    fn hosts(&self) -> &Hosts {
        self.hosts.as_ref().expect("the hosts are taken down by close alone, which takes the stage")
    }

    /// The stage's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.root
    }

    /// The ledger's folder.
    #[must_use]
    pub fn ledger_dir(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// The socket that auditors read from.
    #[must_use]
    pub fn ledger_socket(&self) -> PathBuf {
        self.root.join("run/ledger.sock")
    }

    /// The courier's folder, which it may write.
    #[must_use]
    pub fn courier_dir(&self) -> PathBuf {
        self.root.join("courier")
    }

    /// Where the courier gives its figures.
    #[must_use]
    pub fn figures_socket(&self) -> PathBuf {
        self.courier_dir().join("figures.sock")
    }

    /// The key that the ledger's checkpoints are verified with.
    #[must_use]
    pub fn ledger_key(&self) -> PathBuf {
        self.root.join("config/ledger.key.pub")
    }

    /// The auditor's identity, which alone opens recordings.
    #[must_use]
    pub fn auditor_identity(&self) -> PathBuf {
        self.root.join("auditor.identity")
    }

    /// The socket that the warden takes orders on.
    #[must_use]
    pub fn warden_socket(&self) -> PathBuf {
        self.root.join("run/warden.sock")
    }

    /// Somebody's profile.
    #[must_use]
    pub fn profile(&self, person: Person) -> PathBuf {
        self.root.join(format!("profiles/{}.toml", person.name()))
    }

    /// The certificates and keys.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The ledger's own file system, where it has one.
    #[must_use]
    pub fn ledger_disk(&self) -> Option<&Disk> {
        self.ledger_disk.as_ref()
    }

    /// The gateway's port, TCP and UDP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What all names of this stage on this machine have in common.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance.name
    }

    /// Where the programs are.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The processes in cells, as the host sees them.
    #[must_use]
    pub fn cell_processes(&self) -> Vec<String> {
        leftover::processes(Path::new("/nonexistent"), &self.instance.cell_uids(), self.instance.ground())
    }

    /// Takes everything down and tells what is left.
    #[must_use]
    pub fn close(mut self) -> Vec<Leftover> {
        self.take_down();
        let root = self.root.clone();
        let look = || leftover::look(&self.instance, &root);
        crate::command::poll(SETTLE_TIME, || look().is_empty().then_some(()));
        look()
    }

    fn take_down(&mut self) {
        let mut warden_cleans = false;
        // In the reverse of the order in which they are started, which is theirs.
        while let Some((daemon, mut process)) = self.processes.pop_last() {
            let ended = process.end(Signal::TERM, STOP_TIME);
            warden_cleans |= daemon == Daemon::Warden && ended.is_some_and(|status| status.success());
        }
        // A warden that stops in order leaves nothing; what a killed one left goes here.
        if !warden_cleans {
            leftover::sweep(&self.instance.name);
        }
        self.hosts = None;
        self.ledger_disk = None;
        self.folder = None;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (daemon, process) in &self.processes {
                eprintln!("--- the {}'s log ---\n{}", daemon.name(), process.log_end());
            }
        }
        self.take_down();
    }
}

/// A port that is free for TCP and UDP. It is free again when this returns; nothing on a quiet machine takes it at once.
fn free_port() -> Result<u16, StageError> {
    for _ in 0..32 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(StageError::system("looking for a free port"))?;
        let port = tcp.local_addr().map_err(StageError::system("looking for a free port"))?.port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(StageError::Unexpected { what: "no port is free for TCP and UDP".to_owned() })
}

/// The programs lie beside this one; a test lies in a folder below them.
fn programs() -> Result<PathBuf, StageError> {
    let own = std::env::current_exe().map_err(StageError::system("finding the own program"))?;
    let all = |folder: &&Path| ["sulku", "sulkud", "sulku-warden"].iter().all(|name| folder.join(name).is_file());
    own.ancestors().skip(1).take(2).find(all).map(Path::to_owned).ok_or_else(|| StageError::ProgramMissing {
        program: "one of sulku, sulkud, sulku-warden".to_owned(),
        install: format!("build all of them (cargo build --workspace); looked beside {}", own.display()),
    })
}
