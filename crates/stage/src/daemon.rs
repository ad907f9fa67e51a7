//! The daemons as processes: started, seen to be ready, ended by their id.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::command::{Interrupt, send, tail};
use crate::error::StageError;

/// How much of a log is told when something went wrong.
const LOG_TOLD_BYTES: usize = 6_000;

/// One of the processes that make an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Daemon {
    /// Keeps the audit.
    Ledger,
    /// Builds the cells.
    Warden,
    /// Faces the network.
    Gateway,
    /// Carries the audit out, where a stage has one.
    Courier,
}

impl Daemon {
    /// Those of every stage, in the order of their start.
    pub const ALL: &[Self] = &[Self::Ledger, Self::Warden, Self::Gateway];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Warden => "warden",
            Self::Gateway => "gateway",
            Self::Courier => "courier",
        }
    }

    /// The program, and its first argument.
    pub(crate) const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Ledger => ("sulkud", "ledger"),
            Self::Warden => ("sulku-warden", "run"),
            Self::Gateway => ("sulkud", "gateway"),
            Self::Courier => ("sulkud", "courier"),
        }
    }
}

/// A daemon that was started.
#[derive(Debug)]
pub(crate) struct Process {
    daemon: Daemon,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in a process group of its own, its words in a file. Where `hidden` is given, nothing is found at that path.
    pub(crate) fn start(
        daemon: Daemon,
        program: &Path,
        hidden: Option<&Path>,
        config: &Path,
        env: &[(&'static str, PathBuf)],
        log: PathBuf,
    ) -> Result<Self, StageError> {
        let open = || fs::OpenOptions::new().create(true).append(true).open(&log);
        let (out, err) = open().and_then(|out| Ok((out.try_clone()?, out))).map_err(StageError::file("opening a log", &log))?;
        let mut command = match hidden {
            None => Command::new(program),
            Some(hidden) => {
                // A mount namespace of its own; exec keeps the process id.
                let mut command = Command::new("/usr/bin/unshare");
                command.args(["--mount", "sh", "-c", "mount --bind /dev/null \"$0\" && exec \"$@\""]).arg(hidden).arg(program);
                command
            }
        };
        let child = command
            .arg(daemon.program().1)
            .arg("--config")
            .arg(config)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("SULKU_LOG", std::env::var("SULKU_LOG").unwrap_or_else(|_| "info".to_owned()))
            .env("NO_COLOR", "1")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(StageError::file("starting a daemon", program))?;
        Ok(Self { daemon, child, log })
    }

    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `ready` says so; a daemon that ends meanwhile is told with its log.
    pub(crate) fn await_ready(&mut self, within: Duration, interrupt: &Interrupt, ready: impl Fn(u32) -> bool) -> Result<(), StageError> {
        let daemon = self.daemon.name();
        let waited = interrupt.until(daemon, within, || match self.ended() {
            Some(status) => Err(StageError::Ended { daemon, status, log: self.log_end() }),
            None => Ok(ready(self.pid()).then_some(())),
        });
        match waited {
            Err(StageError::TooLate { waited, .. }) => Err(StageError::NotReady { daemon, waited, log: self.log_end() }),
            other => other,
        }
    }

    /// The end of its log.
    pub(crate) fn log_end(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        tail(&String::from_utf8_lossy(&log), LOG_TOLD_BYTES).to_owned()
    }

    /// Sends it a signal and waits for its end; SIGKILL when it takes too long. Ctrl-C does not shorten this: it is the cleaning up.
    pub(crate) fn end(&mut self, signal: Signal, within: Duration) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        send(self.child.id(), signal);
        let ended = crate::command::poll(within, || self.ended());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether this process listens on this unix socket. Read from the kernel's table, of which each network has its own: a try to connect
/// would be a connection.
pub(crate) fn listens_at(pid: u32, socket: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let path = socket.to_string_lossy();
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|line| line.get(3) == Some(&ACCEPTS) && line.get(7) == Some(&&*path))
}

/// Whether somebody listens on this port of this address, over TCP and over UDP. Read from this thread's network.
pub(crate) fn listens_on(address: Ipv4Addr, port: u16) -> bool {
    const LISTENS: &str = "0A";
    // The kernel prints the address as the number that its bytes are in this machine's order.
    let local = format!("{:08X}:{port:04X}", u32::from_ne_bytes(address.octets()));
    let has = |table: &str, state: Option<&str>| {
        let table = fs::read_to_string(table).unwrap_or_default();
        table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .any(|line| line.get(1) == Some(&&*local) && (state.is_none() || line.get(3).copied() == state))
    };
    has("/proc/thread-self/net/tcp", Some(LISTENS)) && has("/proc/thread-self/net/udp", None)
}
