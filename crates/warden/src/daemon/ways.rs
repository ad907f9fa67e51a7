//! The ways out of cells: the router, what watches it, and networks that wait for their cells. On the rung `no-network` there are none.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use jiff::Timestamp;

use crate::config::Config;
use crate::network::{CellLink, CellNetwork, Drift, Foreign, Grant, Mending, NetworkError, Pool, Router, Sighting, Wanted, Watch, Way};
use crate::relay::Relay;

/// The ways out of cells.
pub(super) enum Ways {
    /// Through the router.
    Routed(Box<Routed>),
    /// None. Cells are numbered all the same.
    Closed(u32),
}

/// The router and what belongs to it.
pub(super) struct Routed {
    router: Router,
    watch: Watch,
    /// What is heard of others' changes of the router's rules.
    drift: Drift,
    pool: Pool,
}

impl Ways {
    /// Through a router that is made now.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) fn routed(config: &Config, relay: Option<Relay>) -> Result<Self, NetworkError> {
        let (router, watch, drift) = Router::make(&config.uplinks, relay)?;
        Ok(Self::Routed(Box::new(Routed { router, watch, drift, pool: Pool::new(config.cell_network, config.pool) })))
    }

    fn router(&self) -> Option<&Router> {
        if let Self::Routed(routed) = self { Some(&routed.router) } else { None }
    }

    /// Lets the resolver's user ask these.
    pub(super) fn serve_names(&mut self, uid: u32, upstream: &[std::net::SocketAddr]) -> io::Result<()> {
        if let Self::Routed(routed) = self { routed.router.elements.serve_names(uid, upstream) } else { Ok(()) }
    }

    /// The router's network namespace.
    pub(super) fn namespace(&self) -> Option<BorrowedFd<'_>> {
        self.router().map(Router::namespace)
    }

    /// The process that carries connections on, where there is one.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.router().and_then(|router| router.elements.relay())
    }

    pub(super) fn admit(&self, grant: &Grant, now: Timestamp, ends: Timestamp) -> io::Result<()> {
        self.router().map_or(Ok(()), |router| router.elements.admit(grant, now, ends))
    }

    pub(super) fn suspend(&self, grant: &Grant) -> io::Result<()> {
        self.router().map_or(Ok(()), |router| router.elements.suspend(grant))
    }

    pub(super) fn resume(&self, grant: &Grant, now: Timestamp, ends: Timestamp) -> io::Result<()> {
        self.router().map_or(Ok(()), |router| router.elements.resume(grant, now, ends))
    }

    pub(super) fn revoke(&self, grant: &Grant) -> io::Result<()> {
        self.router().map_or(Ok(()), |router| router.elements.revoke(grant))
    }

    pub(super) fn let_dial(&self, to: &[(Ipv4Addr, Timestamp)], now: Timestamp) -> io::Result<()> {
        self.router().map_or(Ok(()), |router| router.elements.let_dial(to, now))
    }

    pub(super) fn open_ways(&self, grant: &Grant, ways: &[Way], gone: &[Way], now: Timestamp) -> io::Result<()> {
        self.router().map_or(Ok(()), |router| router.elements.open_ways(grant, ways, gone, now))
    }

    /// Whether the kernel still has a cell's link.
    pub(super) fn has_link(&self, link: &CellLink) -> bool {
        self.router().is_some_and(|router| router.has_link(link))
    }

    pub(super) fn remove_link(&self, link: &CellLink) -> io::Result<()> {
        self.router().map_or(Ok(()), |router| router.remove_link(link))
    }

    pub(super) fn end_flows(&self, mark: u32) -> io::Result<()> {
        if let Self::Routed(routed) = self { routed.watch.end_flows(mark) } else { Ok(()) }
    }

    /// What the router has seen since this was last asked, or some of it.
    pub(super) fn sightings(&mut self) -> Vec<Sighting> {
        if let Self::Routed(routed) = self { routed.watch.sightings() } else { Vec::new() }
    }

    /// Readable when the router has seen something.
    pub(super) fn sights(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let watch = if let Self::Routed(routed) = self { Some(routed.watch.descriptors()) } else { None };
        watch.into_iter().flatten()
    }

    /// Readable when the rules were changed.
    pub(super) fn changes(&self) -> Option<BorrowedFd<'_>> {
        if let Self::Routed(routed) = self { Some(routed.drift.descriptor()) } else { None }
    }

    /// What somebody else has changed of the rules.
    pub(super) fn hear_changes(&mut self) -> Foreign {
        if let Self::Routed(routed) = self { routed.drift.hear() } else { Foreign::default() }
    }

    pub(super) fn mend(&mut self, wanted: Wanted<'_>) -> Mending {
        match self {
            Self::Routed(routed) => routed.router.mend(&mut routed.drift, wanted),
            Self::Closed(_) => Mending { budgets_taken: 0, whole: Ok(()) },
        }
    }

    /// A network for a cell.
    pub(super) fn take(&mut self) -> Result<CellNetwork, NetworkError> {
        match self {
            Self::Routed(routed) => routed.pool.take(routed.router.home(), routed.router.links()),
            Self::Closed(next) => {
                let number = *next;
                *next = number.checked_add(1).ok_or(NetworkError::NoAddress)?;
                CellNetwork::without_link(number)
            }
        }
    }

    /// The addresses of a network that is gone may be given out again.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Self::Routed(routed) = self {
            routed.pool.forget(slot);
        }
    }

    pub(super) fn wants_more(&self) -> bool {
        if let Self::Routed(routed) = self { routed.pool.wants_more() } else { false }
    }

    pub(super) fn fill(&mut self) -> Result<(), NetworkError> {
        if let Self::Routed(routed) = self { routed.pool.fill(routed.router.home(), routed.router.links()) } else { Ok(()) }
    }
}
