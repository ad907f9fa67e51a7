//! The way out on the rung `rootless`: a process that stayed in the network in which the warden was started.
//!
//! No link can lead from the warden's namespaces there, so connections are carried over instead. The router's rules decide first, as on
//! every rung; what they let through they turn to a socket in the router that this process has been given. It asks the kernel where the
//! connection was bound for, dials there, and carries bytes, for addresses of living cells and for the resolver alone. It opens no file, runs no program, has
//! no capability, and ends with the warden.

mod carry;
mod connection;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{
    PidfdFlags, Resource, Rlimit, Signal, getpid, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use serde::{Deserialize, Serialize};
use sulku_permit::Rung;

use crate::cell::{Filter, Rules, WallError};
use crate::{packet, sys};

pub(crate) use self::carry::RESOLVERS_CONNECTIONS_MAX;

/// What the relay says when its walls stand, and nothing else ever.
const WALLED: &[u8] = b"walled";
/// The longest of the warden's words.
const WORD_BYTES_MAX: usize = 256;
/// Descriptors that it may have: two for each connection, and a few.
const FILES_MAX: u64 = 2 * carry::CONNECTIONS_MAX as u64 + 16;

/// What the warden says.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Take connections from this socket, which comes with it. Once, and first.
    Listen,
    /// A cell with this address lives.
    Open(Ipv4Addr),
    /// It does not any more: its connections end now.
    Close(Ipv4Addr),
}

/// The warden's end.
#[derive(Debug)]
pub struct Relay {
    channel: OwnedFd,
    process: OwnedFd,
}

impl Relay {
    /// Starts the process. Before this one leaves for its namespaces; it has one thread.
    ///
    /// # Errors
    /// There is no process or no socket to be had.
    pub fn start() -> io::Result<Self> {
        let (ours, theirs) = sys::packet_pair()?;
        let warden = getpid();
        match sys::fork()? {
            Some(pid) => {
                drop(theirs);
                let process = pidfd_open(pid, PidfdFlags::empty())?;
                // It speaks once, when its walls stand; one that ends before says nothing.
                match packet::receive(&ours, WORD_BYTES_MAX)? {
                    (walled, _) if walled == WALLED => Ok(Self { channel: ours, process }),
                    _ => Err(io::Error::other("the relay could not be confined")),
                }
            }
            None => {
                let result = confine(warden, theirs.as_fd()).and_then(|()| packet::send(&theirs, WALLED, &[])).and_then(|()| carry::serve(&theirs));
                if let Err(error) = &result {
                    tracing::error!(%error, "the relay ends");
                }
                sys::exit_now(i32::from(result.is_err()))
            }
        }
    }

    /// Gives it the socket to take connections from.
    ///
    /// # Errors
    /// It is gone.
    pub fn listen(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.say(&Word::Listen, Some(socket))
    }

    /// Connections of this address are carried from now on.
    ///
    /// # Errors
    /// It is gone.
    pub fn open(&self, address: Ipv4Addr) -> io::Result<()> {
        self.say(&Word::Open(address), None)
    }

    /// Connections of this address end now, and none is carried any more.
    ///
    /// # Errors
    /// It did not take the word, and is ended for that, with all connections. One that has ended carries nothing: that is what was asked.
    pub fn close(&self, address: Ipv4Addr) -> io::Result<()> {
        match self.say(&Word::Close(address), None) {
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            result => result.inspect_err(|_| {
                let _gone_already = pidfd_send_signal(&self.process, Signal::KILL);
            }),
        }
    }

    fn say(&self, word: &Word, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        packet::send(&self.channel, &serde_json::to_vec(word)?, &socket.into_iter().collect::<Vec<_>>())
    }
}

/// Readable when the process has ended.
impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

fn hear(channel: &OwnedFd) -> io::Result<Option<(Word, Option<OwnedFd>)>> {
    let (packet, sockets) = packet::receive(channel, WORD_BYTES_MAX)?;
    if packet.is_empty() { Ok(None) } else { Ok(Some((serde_json::from_slice(&packet)?, sockets.into_iter().next()))) }
}

/// The walls of this process: what it does not need it can't do.
fn confine(warden: rustix::process::Pid, channel: BorrowedFd<'_>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(warden) {
        return Err(io::Error::other("the warden ended before its relay began"));
    }
    let errors = io::stderr();
    sys::close_all_but(&[errors.as_fd(), channel])?;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES_MAX), maximum: Some(FILES_MAX) })?;
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) })?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
    set_capabilities(None, none)?;
    set_no_new_privs(true)?;
    // No rule: no file can be opened and no program run. After that a cell's own filter, which leaves of sockets what is carried.
    Rules::begin()?.raise()?;
    Filter::compile(Rung::Rootless).and_then(|filter| filter.load()).map_err(|error: WallError| error.into())
}
