//! The warden's side of names: the resolver's process, what is said to it and what it says.
//!
//! The resolver has no rights and is believed in little: it learns which names a session lists and says which addresses they have. What
//! it says is judged by the plan (`judge`) and let through by the daemon. A resolver that ends, or says what makes no sense, is started
//! anew; meanwhile no name has an answer and no checked connection begins.

mod judge;
mod process;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use rustix::io::Errno;
use sulku_permit::SessionId;
use sulku_plan::naming::{Carries, Finding, Listed, NAMING_VERSION, Task};
use sulku_plan::order::{PACKET_BYTES_MAX, decode, encode};

pub use self::judge::{Times, ways};
use self::process::Process;
pub use self::process::User;
use crate::config::Resolver;
use crate::packet;

/// Findings that are heard in one turn, so that a resolver can't keep the warden busy.
const FINDINGS_A_TURN: usize = 32;
/// Tasks that wait for a resolver that does not read. More, and it is as good as dead.
const WAITING_MAX: usize = 8_192;
/// How long a resolver that has ended is waited with at first, and at most; twice as long each time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// After so long a resolver is taken to work, and the next end to be a new matter.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// A session that may ask for names.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Which.
    pub session: SessionId,
    /// Its cell's address.
    pub address: Ipv4Addr,
    /// What it lists.
    pub listed: Vec<Listed>,
}

/// The resolver and what is known of it.
#[derive(Debug)]
pub struct Naming {
    resolver: Resolver,
    user: User,
    own: Vec<Ipv4Net>,
    running: Option<Running>,
    started: Instant,
    next: Instant,
    backoff: Duration,
    /// Where the resolver may connect to, and until when.
    dialled: BTreeMap<Ipv4Addr, Timestamp>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    tasks: VecDeque<Vec<u8>>,
    /// Whether it has said that it serves.
    ready: bool,
    last_question: u64,
}

impl Naming {
    /// No resolver yet; [`Naming::is_due`] says when there is to be one.
    #[must_use]
    pub fn new(resolver: Resolver, user: User, own: Vec<Ipv4Net>) -> Self {
        let now = Instant::now();
        Self { resolver, user, own, running: None, started: now, next: now, backoff: BACKOFF.0, dialled: BTreeMap::new() }
    }

    /// What the configuration says of it.
    #[must_use]
    pub const fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Its user, as the router's network knows it.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        match self.user {
            User::Own => self.resolver.uid,
            User::Wardens => 0,
        }
    }

    /// The environment's own networks, where no name leads.
    #[must_use]
    pub fn own(&self) -> &[Ipv4Net] {
        &self.own
    }

    /// Whether it is to be started now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && now >= self.next
    }

    /// Starts it in the router's network, with all sessions that may ask.
    ///
    /// # Errors
    /// The kernel refused; it is tried again later.
    pub fn start(&mut self, network: BorrowedFd<'_>, askers: impl Iterator<Item = Asker>, now: Instant) -> io::Result<()> {
        self.started = now;
        let process = Process::start(&self.resolver, self.user, network).inspect_err(|_| self.next = now + self.backoff)?;
        self.running = Some(Running { process, tasks: VecDeque::new(), ready: false, last_question: 0 });
        let carries = match self.user {
            User::Own => Carries::Packets,
            User::Wardens => Carries::Connections,
        };
        self.tell(&Task::Serve { version: NAMING_VERSION, upstream: self.resolver.upstream.clone(), carries });
        askers.for_each(|asker| self.open(asker));
        Ok(())
    }

    /// A session may ask from now on. Said before a packet of it can pass.
    pub fn open(&mut self, Asker { session, address, listed }: Asker) {
        self.tell(&Task::Open { session, address, listed });
    }

    /// A session is over.
    pub fn close(&mut self, session: SessionId) {
        self.tell(&Task::Close { session });
    }

    /// The kernel has opened what a finding said.
    pub fn opened(&mut self, question: u64) {
        self.tell(&Task::Opened { question });
    }

    /// Nothing was opened.
    pub fn refused(&mut self, question: u64) {
        self.tell(&Task::Refused { question });
    }

    fn tell(&mut self, task: &Task) {
        let Some(running) = &mut self.running else { return };
        match encode(task) {
            Ok(packet) => running.tasks.push_back(packet),
            // A permit is far shorter than a packet may be.
            Err(error) => tracing::error!(%error, "the resolver could not be told something"),
        }
        self.flush();
    }

    /// Sends what waits, as far as the resolver takes it. What is wrong with the socket shows when it is heard.
    pub fn flush(&mut self) {
        let Some(running) = &mut self.running else { return };
        while let Some(packet) = running.tasks.front() {
            match packet::send(&running.process.channel, packet, &[]) {
                Ok(()) => drop(running.tasks.pop_front()),
                Err(_) => return,
            }
        }
    }

    /// The descriptors to wait on: what it says, with whether there is something to be sent, and its end.
    #[must_use]
    pub fn descriptors(&self) -> Option<(BorrowedFd<'_>, bool, BorrowedFd<'_>)> {
        self.running.as_ref().map(|running| (running.process.channel.as_fd(), !running.tasks.is_empty(), running.process.pidfd()))
    }

    /// What it has found since it was last heard.
    ///
    /// # Errors
    /// It has ended or said what makes no sense: why, in words. It is to be given up.
    pub fn hear(&mut self) -> Result<Vec<Finding>, String> {
        let Some(running) = &mut self.running else { return Ok(Vec::new()) };
        if running.tasks.len() > WAITING_MAX {
            return Err("it does not listen".to_owned());
        }
        let mut findings = Vec::new();
        while findings.len() < FINDINGS_A_TURN {
            let packet = match packet::receive_now(&running.process.channel, PACKET_BYTES_MAX) {
                Ok(packet) if packet.is_empty() => return Err(running.process.last_words()),
                Ok(packet) => packet,
                Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => break,
                Err(_) => return Err(running.process.last_words()),
            };
            match decode(&packet).map_err(|error| error.to_string())? {
                Finding::Ready { version: NAMING_VERSION } if !running.ready => {
                    running.ready = true;
                    tracing::info!("the resolver serves");
                }
                Finding::Ready { version } => {
                    return Err(format!("it speaks version {version} about names, this warden {NAMING_VERSION}, each once"));
                }
                _ if !running.ready => return Err("it spoke before it was ready".to_owned()),
                Finding::Resolved { question, .. } if question <= running.last_question => {
                    return Err(format!("its questions do not count up: {question} after {}", running.last_question));
                }
                finding => {
                    if let Finding::Resolved { question, .. } = finding {
                        running.last_question = question;
                    }
                    findings.push(finding);
                }
            }
        }
        Ok(findings)
    }

    /// Why it has ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        self.running.as_ref().and_then(|running| running.process.ended())
    }

    /// Lets go of it; says in how long there will be another.
    pub fn give_up(&mut self, now: Instant) -> Duration {
        self.running = None;
        if now.duration_since(self.started) >= SETTLED_AFTER {
            self.backoff = BACKOFF.0;
        }
        let wait = self.backoff;
        (self.next, self.backoff) = (now + wait, (wait * 2).min(BACKOFF.1));
        wait
    }

    /// Of these addresses those to which the resolver may not connect for long enough yet. Once written, they are [`Naming::note_dialled`].
    #[must_use]
    pub fn undialled(&self, wanted: &[(Ipv4Addr, Timestamp)]) -> Vec<(Ipv4Addr, Timestamp)> {
        wanted.iter().filter(|(address, until)| self.dialled.get(address).is_none_or(|known| known < until)).copied().collect()
    }

    /// All addresses to which the resolver may connect, each until then.
    #[must_use]
    pub fn dialled(&self, now: Timestamp) -> Vec<(Ipv4Addr, Timestamp)> {
        self.dialled.iter().filter(|(_, until)| **until > now).map(|(address, until)| (*address, *until)).collect()
    }

    /// The kernel has these.
    pub fn note_dialled(&mut self, written: &[(Ipv4Addr, Timestamp)], now: Timestamp) {
        self.dialled.retain(|_, until| *until > now);
        self.dialled.extend(written.iter().copied());
    }
}
