//! Inside the new process: from a copy of the warden to the cell's first process, wall by wall, and on to the holder's shell.
//!
//! The user namespace comes last of the namespaces, so that all others belong to the host's: even capabilities that a process
//! might win back inside have no power over the cell's network and mounts. No record, no shell: it waits for the warden's word.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, chdir, getrlimit, ioctl_tiocsctty, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit, setsid, umask, wait,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcgetpgrp, tcsetattr, tcsetwinsize};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid, UnshareFlags, clear_ambient_capability_set, move_into_link_name_space,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use sulku_permit::Rung;
use sulku_plan::filesystem::{CELL_UID, PATH, Programmes, WORKSPACE};
use sulku_plan::order::TerminalSize;

use super::ahead::Ahead;
use super::blueprint::{Blueprint, c_strings};
use super::channel::{Said, Told, hear, hear_blueprint, say};
use super::files::{Devices, Means};
use super::motion::Held;
use super::user::{Mapped, Unmapped};
use super::walls::{Filter, Rules, WallError};
use super::{Step, files};
use crate::cgroup::Group;
use crate::layers::{Layer, Layers};
use crate::sys;

/// The status of a first process whose cell could not be built.
const FAILED: i32 = 70;
/// The status of a command that could not be run, as shells have it.
const NOT_RUN: i32 = 127;

/// A cell's first process while it waits: what is the same for all cells.
pub struct First<'a> {
    /// The layers that hold cells.
    pub layers: Layers,
    /// The seccomp programme.
    pub filter: &'a Filter,
    /// The rung of isolation.
    pub rung: Rung,
    /// Its control group.
    pub group: &'a Group,
    /// The way to the warden.
    pub channel: OwnedFd,
}

/// A cell's first process once it knows which.
struct Builder<'a> {
    first: &'a First<'a>,
    blueprint: Blueprint,
    /// A detached mount of the workspace's folder.
    workspace: OwnedFd,
    /// A detached mount of its system, where that is an image.
    image: Option<OwnedFd>,
    /// The user namespace that knows the workspace's owner alone.
    owners: Option<OwnedFd>,
    /// The cell's network namespace.
    network: OwnedFd,
}

/// What a waiting process makes before it knows which cell it becomes.
struct Ready {
    /// Half of a root, unless the cell is to see the host's files.
    ahead: Option<Ahead>,
    /// The cell's own user namespace, unless it is to be root.
    user: Option<Unmapped>,
}

/// A cell's terminal: both sides.
struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl First<'_> {
    /// Waits in its control group, and becomes the cell that it is told. Never returns.
    pub fn run(self) -> ! {
        let lived = self.wait().and_then(|(builder, ready)| {
            let (terminal, landlock) = builder.build(ready)?;
            builder.serve(&terminal, landlock).map(|(shell, children)| (shell, children, terminal.master))
        });
        let failed = match lived {
            Ok((shell, children, master)) => attend(shell, &children, &self.channel, &master),
            Err(failed) => failed,
        };
        // If nobody hears it, nobody is there to.
        let _unheard = say(&self.channel, &Said::Failed { step: failed.step, error: failed.error.to_string() }, &[]);
        sys::exit_now(FAILED)
    }

    /// Until it is told which cell to become.
    fn wait(&self) -> Result<(Builder<'_>, Ready), Step> {
        // A warden that dies takes its cells with it.
        Step::at("die with the warden", set_parent_process_death_signal(Some(Signal::KILL)))?;
        sys::reset_signals();
        Step::at("let go of descriptors", self.let_go_of_descriptors())?;
        umask(Mode::empty());
        Step::at("enter the control group", self.group.enter())?;
        Step::at("make a control group namespace", sys::unshare(UnshareFlags::NEWCGROUP))?;
        // While the host's /proc is in sight.
        let user = Step::at("make a user namespace", self.layers.has(Layer::Users).then(Unmapped::make).transpose())?;
        let ahead = self.layers.has(Layer::Files).then(|| Ahead::make(self.means())).transpose()?;
        if let (Told::Become(blueprint), descriptors) = Step::at("hear which cell to become", hear_blueprint(&self.channel))? {
            let mut descriptors = descriptors.into_iter();
            if let (Some(workspace), Some(network)) = (descriptors.next(), descriptors.next()) {
                let image = if blueprint.has_image() { descriptors.next() } else { None };
                let builder = Builder { first: self, blueprint: *blueprint, workspace, image, owners: descriptors.next(), network };
                return Ok((builder, Ready { ahead, user }));
            }
        }
        Err(Step::new("hear which cell to become", io::ErrorKind::InvalidData.into()))
    }

    const fn means(&self) -> Means {
        let devices = if matches!(self.rung, Rung::Root) { Devices::Made } else { Devices::OfTheHost };
        Means { devices, layers: self.layers }
    }

    fn let_go_of_descriptors(&self) -> io::Result<()> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        (0..=2).try_for_each(|number| sys::duplicate_as(null.as_fd(), number))?;
        drop(null);
        let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
        sys::close_all_but(&[input.as_fd(), output.as_fd(), errors.as_fd(), self.channel.as_fd()])
    }
}

impl Builder<'_> {
    fn build(&self, Ready { ahead, user }: Ready) -> Result<(Terminal, String), Step> {
        let Self { first, blueprint, .. } = self;
        ahead.as_ref().map_or(Ok(()), Ahead::look_at_host)?;
        if first.layers.has(Layer::Network) {
            Step::at("enter the network", move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network)))?;
        }
        Step::at("take the workspace's name", rustix::system::sethostname(blueprint.workspace.as_str().as_bytes()))?;
        if blueprint.programmes == Programmes::Refused {
            // Of the cell's own process namespace, and for good: a cell sees no such file.
            Step::at("refuse programmes in memory", std::fs::write("/proc/sys/vm/memfd_noexec", "2"))?;
        }
        let rules =
            files::Build { blueprint, workspace: &self.workspace, image: self.image.as_ref(), owners: self.owners.as_ref(), means: first.means() }
                .run(ahead)?;
        let terminal = Step::at("open a terminal", self.terminal())?;
        self.become_nobody(user)?;
        let landlock = match first.layers.has(Layer::Landlock) {
            true => Step::at("raise Landlock", self.rules(rules).and_then(Rules::raise))?,
            false => "left out".to_owned(),
        };
        if first.layers.has(Layer::Seccomp) {
            Step::at("load the seccomp filter", first.filter.load())?;
        }
        Ok((terminal, landlock))
    }

    /// What Landlock leaves open of the cell's files.
    fn rules(&self, ahead: Option<Rules>) -> Result<Rules, WallError> {
        match ahead {
            Some(rules) => rules.leave_open(self.blueprint.own_landlock()),
            None => Rules::begin()?.leave_open(self.blueprint.all_landlock()),
        }
    }

    /// The terminal comes from the cell's own devpts, so that the cell can name it and the host's terminals stay out of sight.
    fn terminal(&self) -> io::Result<Terminal> {
        let master = rustix::fs::open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        let TerminalSize { columns, rows } = self.blueprint.size;
        tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        let mut modes = tcgetattr(&slave)?;
        // Erasing a letter of several bytes erases all of them.
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        Ok(Terminal { master, slave })
    }

    /// Gives up every power: the user, the groups, the capabilities in every set, and the ways to win them back.
    fn become_nobody(&self, user: Option<Unmapped>) -> Result<(), Step> {
        if self.first.layers.has(Layer::Limits) {
            self.set_limits()?;
        }
        if let Some(user) = user {
            self.change_user(user)?;
        }
        Step::at("renounce new privileges", set_no_new_privs(true))?;
        Step::at("hide the first process", set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
        // The kernel forgets it whenever a process changes who it is.
        Step::at("die with the warden", set_parent_process_death_signal(Some(Signal::KILL)))
    }

    fn set_limits(&self) -> Result<(), Step> {
        let limits = &self.blueprint.limits;
        for (resource, most) in [(Resource::Nofile, limits.open_files), (Resource::Memlock, limits.locked_bytes), (Resource::Core, limits.core_bytes)]
        {
            let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
            Step::at("set limits", setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }))?;
        }
        Ok(())
    }

    fn change_user(&self, user: Unmapped) -> Result<(), Step> {
        // Below the rung of root the kernel keeps everybody from changing groups; they are those of the user who started the warden.
        if self.first.rung == Rung::Root {
            Step::at("leave all groups", set_thread_groups(&[]))?;
        }
        Step::at("map the cell's user", user.map(CELL_UID, self.blueprint.uid).and_then(Mapped::enter))?;
        let (user, group) = (Uid::from_raw(CELL_UID), Gid::from_raw(CELL_UID));
        Step::at("become the cell's group", set_thread_res_gid(group, group, group))?;
        Step::at("become the cell's user", set_thread_res_uid(user, user, user))?;
        if self.first.rung != Rung::Root {
            self.limit_processes()?;
        }
        Step::at("empty the bounding set", sys::empty_bounding_set())?;
        Step::at("empty the ambient set", clear_ambient_capability_set())?;
        let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
        Step::at("drop all capabilities", set_capabilities(None, none))
    }

    /// What control groups do on the rung of root, as far as limits can: the kernel counts the processes of the cell's own user namespace,
    /// and memory of each process.
    fn limit_processes(&self) -> Result<(), Step> {
        let limits = &self.blueprint.limits;
        [(Resource::Nproc, u64::from(limits.processes)), (Resource::Data, limits.memory_bytes)].into_iter().try_for_each(|(resource, most)| {
            let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
            Step::at("limit processes", setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }))
        })
    }

    /// Says that all stands, makes the process that will be the shell, and has it run what the holder asked for once the warden gives the word, for which
    /// that process waits itself. What the warden and the ledger have to do until then goes on meanwhile.
    fn serve(&self, terminal: &Terminal, landlock: String) -> Result<(Pid, OwnedFd), Step> {
        let pipe = || Step::at("make a pipe", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC));
        let children = Step::at("watch children", sys::signals(&[libc::SIGCHLD]))?;
        let ((news, report), (word, go)) = (pipe()?, pipe()?);
        let handed = [terminal.master.as_fd(), go.as_fd()];
        Step::at("hand over the terminal", say(&self.first.channel, &Said::Ready { landlock }, &handed))?;
        // Only the warden gives the word; where it is gone, so is the word's pipe.
        drop(go);
        let Some(shell) = Step::at("start the shell", sys::fork())? else {
            let error = self.execute(terminal, &report, &word);
            let _unheard = rustix::io::write(&report, error.to_string().as_bytes());
            sys::exit_now(NOT_RUN)
        };
        drop(report);
        let mut failure = [0; 256];
        // The pipe closes when the programme runs, and speaks when it does not.
        match Step::at("hear of the shell", rustix::io::read(&news, &mut failure))? {
            0 => {
                Step::at("say that the shell runs", say(&self.first.channel, &Said::Running, &[]))?;
                Ok((shell, children))
            }
            length => Err(Step::new("run the command", io::Error::other(String::from_utf8_lossy(&failure[..length]).into_owned()))),
        }
    }

    /// In the process that is to be the shell: all but the shell itself, then that, once the word is given.
    fn execute(&self, terminal: &Terminal, report: &OwnedFd, word: &OwnedFd) -> io::Error {
        let prepare = || -> io::Result<()> {
            // Their effects are the default ones since the first process began.
            sys::block_no_signals();
            setsid()?;
            ioctl_tiocsctty(&terminal.slave)?;
            (0..=2).try_for_each(|number| sys::duplicate_as(terminal.slave.as_fd(), number))?;
            umask(Mode::from_raw_mode(0o027));
            chdir(WORKSPACE)?;
            let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
            sys::close_all_but(&[input.as_fd(), output.as_fd(), errors.as_fd(), report.as_fd(), word.as_fd()])
        };
        if let Err(error) = prepare() {
            return error;
        }
        let command = self.blueprint.command();
        let (Some(arguments), Some(environment)) = (c_strings(command.iter().cloned()), self.blueprint.environment()) else {
            return io::ErrorKind::InvalidInput.into();
        };
        let Some(programme) = command.first() else { return io::ErrorKind::InvalidInput.into() };
        match rustix::io::read(word, &mut [0; 1]) {
            Ok(1) => {}
            Ok(_) => return io::ErrorKind::BrokenPipe.into(),
            Err(error) => return error.into(),
        }
        let mut error = io::Error::from_raw_os_error(libc::ENOENT);
        for path in PATH.split(':').map(|folder| format!("{folder}/{programme}")) {
            let path = if programme.contains('/') { programme.clone() } else { path };
            let Ok(path) = CString::new(path) else { continue };
            let found = sys::execute(&path, &arguments, &environment);
            if found.raw_os_error() != Some(libc::ENOENT) {
                error = found;
            }
        }
        error
    }
}

/// The life of a cell's first process: it buries orphans, passes signals on, and ends when the shell does, and the cell with it.
fn attend(shell: Pid, children: &OwnedFd, channel: &OwnedFd, master: &OwnedFd) -> ! {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut held = Held::default();
    loop {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == shell {
                let signalled = status.terminating_signal().map(|signal| 128 + signal);
                sys::exit_now(status.exit_status().or(signalled).unwrap_or(FAILED));
            }
        }
        let mut fds = [PollFd::new(children, PollFlags::IN), PollFd::new(channel, PollFlags::IN)];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if !fds[0].revents().is_empty() {
            let mut news = [0; 128];
            let _drained = rustix::io::read(children, &mut news);
        }
        if !fds[1].revents().is_empty() {
            match hear::<Told>(channel) {
                Ok((Told::Signal(signal), _)) => {
                    if let (Ok(group), Some(signal)) = (tcgetpgrp(master), Signal::from_named_raw(signal)) {
                        let _gone_meanwhile = rustix::process::kill_process_group(group, signal);
                    }
                }
                Ok((Told::Move(motion), _)) => held.set(motion),
                Ok(_) => {}
                // Nobody holds the other end: the warden is gone.
                Err(_) => sys::exit_now(128 + libc::SIGKILL),
            }
        }
    }
}
