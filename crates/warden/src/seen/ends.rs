//! The kernel's word of how programmes ended that were told of when they began: a descriptor for each process, which keeps its status once its
//! parent has asked for it (`PIDFD_INFO_EXIT`, Linux 6.15).
//!
//! It costs who ends nothing, and is about a process, not a number that may be another's by now. A process that runs several programmes one after
//! the other ends once.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use sulku_audit::{Process, ProgramEnd};
use sulku_permit::SessionId;

use crate::sys;

/// Processes of one session whose end is waited for. Each is a descriptor.
const OF_A_SESSION_MAX: usize = 256;
/// The same of all sessions.
const WATCHED_MAX: usize = 4_096;
/// Ends that are read in one turn.
const A_TURN: usize = 64;

/// The processes whose end is waited for.
#[derive(Debug)]
pub struct Ends {
    group: OwnedFd,
    watched: BTreeMap<u64, Watched>,
    /// By number on the host: those that live have one that nobody else has.
    numbers: HashMap<u32, u64>,
    of: HashMap<SessionId, usize>,
    next: u64,
}

#[derive(Debug)]
struct Watched {
    descriptor: OwnedFd,
    session: SessionId,
    process: Process,
    since: Instant,
}

/// Whether the end of a programme will be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It will.
    Later,
    /// It will not: the kernel is waited with for as many as may be.
    Never,
}

/// An end, or that the kernel did not say how.
pub type Ended = Option<ProgramEnd>;

impl Ends {
    /// Nothing is waited for yet.
    ///
    /// # Errors
    /// The kernel keeps no status for who is not the parent.
    pub fn open() -> io::Result<Self> {
        is_told()?;
        let group = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { group, watched: BTreeMap::new(), numbers: HashMap::new(), of: HashMap::new(), next: 0 })
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Waits for the end of a process that begins to run a programme, and is there while this runs.
    pub fn watch(&mut self, session: SessionId, process: Process, now: Instant) -> Told {
        // One that has run another before ends once, with this one.
        let known = self.numbers.get(&process.pid).and_then(|number| self.watched.get_mut(number)).filter(|known| !has_ended(&known.descriptor));
        if let Some(known) = known {
            known.since = now;
            return Told::Later;
        }
        let of_session = self.of.entry(session).or_default();
        if *of_session >= OF_A_SESSION_MAX || self.watched.len() >= WATCHED_MAX {
            return Told::Never;
        }
        let Some(descriptor) = Pid::from_raw(process.pid.cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return Told::Never;
        };
        self.next += 1;
        // Not when it has ended, but when its parent has asked how: then the kernel says so to others.
        if epoll::add(&self.group, &descriptor, epoll::EventData::new_u64(self.next), epoll::EventFlags::empty()).is_err() {
            return Told::Never;
        }
        *of_session += 1;
        self.numbers.insert(process.pid, self.next);
        self.watched.insert(self.next, Watched { descriptor, session, process, since: now });
        Told::Later
    }

    /// Those that have ended since.
    pub fn hear(&mut self, now: Instant) -> Vec<(SessionId, Ended)> {
        let mut events = Vec::with_capacity(A_TURN);
        if epoll::wait(&self.group, spare_capacity(&mut events), Some(&Timespec::default())).is_err() {
            return Vec::new();
        }
        events.iter().filter_map(|event| self.let_go(event.data.u64(), now)).collect()
    }

    /// All of a session of which no process is left.
    pub fn forget(&mut self, session: SessionId, now: Instant) -> Vec<Ended> {
        let numbers: Vec<_> = self.watched.iter().filter(|(_, watched)| watched.session == session).map(|(number, _)| *number).collect();
        let ended = numbers.into_iter().filter_map(|number| self.let_go(number, now)).map(|(_, ended)| ended).collect();
        self.of.remove(&session);
        ended
    }

    fn let_go(&mut self, number: u64, now: Instant) -> Option<(SessionId, Ended)> {
        let Watched { descriptor, session, process, since } = self.watched.remove(&number)?;
        if self.numbers.get(&process.pid) == Some(&number) {
            self.numbers.remove(&process.pid);
        }
        if let Some(of_session) = self.of.get_mut(&session) {
            *of_session = of_session.saturating_sub(1);
        }
        let ended = sys::exit_of(descriptor.as_fd()).ok().flatten().map(|code| end(process, code, now.saturating_duration_since(since)));
        Some((session, ended))
    }
}

fn has_ended(descriptor: &OwnedFd) -> bool {
    sys::readable_within(descriptor, 0).unwrap_or(true)
}

/// As wait(2) writes it: a status in the second byte, or a signal in the first.
fn end(process: Process, code: i32, lasted: Duration) -> ProgramEnd {
    let [low, high, ..] = code.to_le_bytes();
    let signal = low & 0x7f;
    ProgramEnd {
        process,
        status: (signal == 0).then_some(high),
        signal: (signal != 0).then_some(signal),
        duration_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Asks of a process of this one's own, whose end is known.
///
/// # Errors
/// The kernel does not say.
pub fn is_told() -> io::Result<()> {
    const STATUS: i32 = 3;
    let Some(child) = sys::fork()? else { sys::exit_now(STATUS) };
    let descriptor = pidfd_open(child, PidfdFlags::empty())?;
    waitid(WaitId::PidFd(descriptor.as_fd()), WaitIdOptions::EXITED)?;
    match sys::exit_of(descriptor.as_fd())? {
        Some(code) if code == STATUS << 8 => Ok(()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn session() -> SessionId {
        SessionId::from_random([7; 10])
    }

    fn process(pid: u32) -> Process {
        Process { pid, in_cell: None }
    }

    /// The next of them that is told within a generous time.
    fn heard(ends: &mut Ends) -> Ended {
        assert!(sys::readable_within(ends.descriptor(), i64::try_from(LONG.as_millis()).expect("short")).expect("poll"), "an end is told");
        ends.hear(Instant::now()).pop().expect("an end").1
    }

    #[test]
    fn a_status_and_a_signal_are_told_once_the_parent_has_asked() {
        let mut ends = Ends::open().expect("Linux 6.15");
        for (script, status, signal) in [("exit 7", Some(7), None), ("kill -9 $$", None, Some(9)), ("true", Some(0), None)] {
            let mut child = std::process::Command::new("/bin/sh")
                .args(["-c", &format!("read x; {script}")])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("sh");
            assert_eq!(ends.watch(session(), process(child.id()), Instant::now()), Told::Later);
            assert!(ends.hear(Instant::now()).is_empty(), "control: it lives");
            drop(child.stdin.take());
            child.wait().expect("its end");
            let end = heard(&mut ends).expect("the kernel says how");
            assert_eq!((end.process, end.status, end.signal), (process(child.id()), status, signal), "{script}");
        }
        assert_eq!((ends.watched.len(), ends.numbers.len(), ends.of[&session()]), (0, 0, 0));
    }

    #[test]
    fn so_many_of_a_session_are_waited_for_and_no_more() {
        let mut ends = Ends::open().expect("Linux 6.15");
        let mut children: Vec<_> = (0..=OF_A_SESSION_MAX)
            .map(|_| std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().expect("cat"))
            .collect();
        let told: Vec<_> = children.iter().map(|child| ends.watch(session(), process(child.id()), Instant::now())).collect();
        assert_eq!(told.iter().filter(|told| **told == Told::Later).count(), OF_A_SESSION_MAX);
        assert_eq!(told.last(), Some(&Told::Never));
        assert_eq!(ends.watch(session(), process(children[0].id()), Instant::now()), Told::Later, "one that is waited for runs something else");
        for child in &mut children {
            drop(child.stdin.take());
            child.wait().expect("its end");
        }
        let ended = ends.forget(session(), Instant::now());
        assert_eq!((ended.len(), ended.iter().flatten().filter(|end| end.status == Some(0)).count()), (OF_A_SESSION_MAX, OF_A_SESSION_MAX));
    }
}
