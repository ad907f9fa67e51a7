//! The one gateway: who it is, what phase it is in, and its packets in and out.
//!
//! It hands over orders as they came; whether one is carried out is decided elsewhere.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with, sockopt};
use sulku_audit::Receipt;
use sulku_plan::order::{self, Order, PACKET_BYTES_MAX, Report};

use crate::packet;

/// Reports that may wait for a gateway that does not read; more means that it is as good as gone.
const REPORTS_MAX: usize = 8_192;

/// Where gateways connect.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    uid: u32,
    _lock: std::fs::File,
}

/// What a connected gateway may say next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Hello, and nothing else.
    Greeting,
    /// Everything but hello.
    Serving,
}

/// A connected gateway.
#[derive(Debug)]
pub struct Gateway {
    socket: OwnedFd,
    /// What it may say next.
    pub phase: Phase,
    reports: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

/// What came from the gateway.
#[derive(Debug)]
pub enum Heard {
    /// An order.
    Order(Box<Order<Receipt>>),
    /// Something that is no order.
    Nonsense(String),
    /// The connection has ended.
    Gone,
}

impl Listener {
    /// Listens at the path; only this user may connect. A second warden at the same path is refused.
    ///
    /// # Errors
    /// The path can't be made or is another's.
    pub fn at(path: &Path, uid: u32) -> io::Result<Self> {
        let lock = std::fs::File::create(path.with_extension("lock"))?;
        lock.try_lock().map_err(|_| io::Error::new(io::ErrorKind::AddrInUse, "another warden listens here"))?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = bind(&socket, &SocketAddrUnix::new(path)?);
        rustix::process::umask(before);
        bound?;
        std::os::unix::fs::chown(path, Some(uid), None)?;
        listen(&socket, 4)?;
        Ok(Self { socket, uid, _lock: lock })
    }

    /// A gateway that connects, if it is the gateway. Others are shown out.
    pub fn accept(&self) -> Option<Gateway> {
        let socket = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()?;
        let peer = sockopt::socket_peercred(&socket).ok()?;
        if peer.uid.as_raw() != self.uid {
            tracing::warn!(uid = peer.uid.as_raw(), "a process of another user connected and was shown out");
            return None;
        }
        Some(Gateway { socket, phase: Phase::Greeting, reports: VecDeque::new() })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Gateway {
    /// One order, or what came instead.
    pub fn hear(&self) -> Option<Heard> {
        match packet::receive(&self.socket, PACKET_BYTES_MAX) {
            Ok((packet, _)) if packet.is_empty() => Some(Heard::Gone),
            Ok((packet, _)) => Some(match order::decode(&packet) {
                Ok(order) => Heard::Order(Box::new(order)),
                Err(error) => Heard::Nonsense(error.to_string()),
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(Heard::Nonsense(error.to_string())),
            Err(_) => Some(Heard::Gone),
        }
    }

    /// Whether it may hear this: before the greetings it hears of refusals alone.
    #[must_use]
    pub const fn phase_allows(&self, report: &Report) -> bool {
        matches!(self.phase, Phase::Serving) || matches!(report, Report::Refused { .. })
    }

    /// Queues a report, with the terminal's master if it carries one.
    ///
    /// # Errors
    /// The gateway does not read.
    pub fn report(&mut self, report: &Report, master: Option<OwnedFd>) -> io::Result<()> {
        if self.reports.len() >= REPORTS_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.reports.push_back((order::encode(report).map_err(io::Error::other)?, master));
        self.flush()
    }

    /// Whether reports wait.
    #[must_use]
    pub fn wants_to_write(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Sends what can be sent without waiting.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some((packet, master)) = self.reports.front() {
            match packet::send(&self.socket, packet, &master.iter().map(AsFd::as_fd).collect::<Vec<_>>()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                result => result?,
            }
            self.reports.pop_front();
        }
        Ok(())
    }
}

impl AsFd for Gateway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
