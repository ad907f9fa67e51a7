//! The relay's loop: takes connections, dials, carries; hears which cells live. One thread, every wait bounded, every table too.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, acceptfrom_with, connect, socket_with, sockopt};
use sulku_plan::naming::RESOLVER;

use super::connection::Connection;
use super::{Word, hear};

/// Connections at once, of all cells: two descriptors and at most 128 KiB each.
pub(super) const CONNECTIONS_MAX: usize = 1_024;
/// Connections at once of one cell, so that no cell can take them all.
const CONNECTIONS_OF_A_CELL_MAX: usize = 128;
/// Connections at once of the resolver, which has those of many cells, and bounds each.
pub(crate) const RESOLVERS_CONNECTIONS_MAX: usize = 640;
/// How long a destination may take to answer; the cell's own connection stands already.
const DIAL_WITHIN: Duration = Duration::from_secs(20);
/// How often dials are looked at when nothing happens.
const TICK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Connections that are taken in one turn, so that a flood of them does not keep the others waiting.
const TAKEN_A_TURN: usize = 64;

/// All that the relay knows.
#[derive(Debug, Default)]
struct Relay {
    listener: Option<OwnedFd>,
    living: BTreeSet<Ipv4Addr>,
    connections: Vec<Connection>,
}

/// Serves until the warden's end of the channel is closed.
pub(super) fn serve(channel: &OwnedFd) -> io::Result<()> {
    let mut relay = Relay::default();
    loop {
        let mut fds = vec![PollFd::new(channel, PollFlags::IN)];
        let taking = relay.listener.as_ref().filter(|_| relay.connections.len() < CONNECTIONS_MAX);
        fds.extend(taking.map(|listener| PollFd::new(listener, PollFlags::IN)));
        let before = fds.len();
        fds.extend(relay.connections.iter().flat_map(Connection::waits_for));
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&TICK)))?;
        let happened: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let (first, rest) = happened.split_at(before);
        // The warden's words first: a session that has ended carries nothing more.
        let held = relay.connections.len();
        if first.first() == Some(&true) && !relay.obey(channel)? {
            return Ok(());
        }
        if relay.connections.len() != held {
            continue;
        }
        let mut pairs = rest.chunks_exact(2).map(|pair| pair.contains(&true));
        let now = Instant::now();
        relay.connections.retain_mut(|connection| {
            let moved = pairs.next().unwrap_or(false);
            connection.is_wanted(now, DIAL_WITHIN) && (!moved || connection.carry())
        });
        if first.get(1) == Some(&true) {
            relay.take();
        }
    }
}

impl Relay {
    /// Hears one word. False at the end.
    fn obey(&mut self, channel: &OwnedFd) -> io::Result<bool> {
        match hear(channel)? {
            None => return Ok(false),
            Some((Word::Listen, socket)) => self.listener = socket,
            Some((Word::Open(address), _)) => drop(self.living.insert(address)),
            Some((Word::Close(address), _)) => {
                self.living.remove(&address);
                self.connections.retain(|connection| connection.cell != address);
            }
        }
        Ok(true)
    }

    /// Takes connections that wait.
    fn take(&mut self) {
        for _ in 0..TAKEN_A_TURN.min(CONNECTIONS_MAX.saturating_sub(self.connections.len())) {
            let Some(listener) = &self.listener else { return };
            let Ok((inside, Some(peer))) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else { return };
            let Ok(SocketAddr::V4(peer)) = SocketAddr::try_from(peer) else { continue };
            match self.dial(&inside, *peer.ip()) {
                Ok(outside) => self.connections.push(Connection::new(*peer.ip(), inside, outside)),
                Err(error) => {
                    tracing::debug!(%error, "a connection was not carried");
                    super::connection::reset(&inside);
                }
            }
        }
    }

    /// Dials where the connection was bound for when it entered the router.
    fn dial(&self, inside: &OwnedFd, cell: Ipv4Addr) -> io::Result<OwnedFd> {
        let of_cell = self.connections.iter().filter(|connection| connection.cell == cell).count();
        // What the rules turn here of the resolver's is to where the warden has let it connect.
        let most = if cell == RESOLVER { RESOLVERS_CONNECTIONS_MAX } else { CONNECTIONS_OF_A_CELL_MAX };
        if !(cell == RESOLVER || self.living.contains(&cell)) || of_cell >= most {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let to = sockopt::ip_original_dst(inside)?;
        if !is_elsewhere(&to) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let outside = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        for socket in [inside.as_fd(), outside.as_fd()] {
            // A peer that vanished does not hold its place for ever.
            sockopt::set_socket_keepalive(socket, true)?;
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        match connect(&outside, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(outside),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether an address is not one that means this computer, or everybody, whatever a permit lists.
fn is_elsewhere(to: &SocketAddrV4) -> bool {
    let ip = to.ip();
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local()) && to.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_this_computer_or_everybody_is_never_dialled() {
        let to = |address: &str| is_elsewhere(&address.parse().expect("an address"));
        for refused in ["127.0.0.1:443", "127.8.9.1:22", "0.0.0.0:443", "169.254.169.254:80", "224.0.0.1:443", "255.255.255.255:1", "192.0.2.1:0"] {
            assert!(!to(refused), "{refused}");
        }
        assert!(to("192.0.2.1:443") && to("10.20.30.40:8080"), "control: others are");
    }
}
