//! What one live session may do on the network, and the keys of its elements.
//!
//! It writes nothing: `elements` does.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use sulku_permit::{Budget, Port};
use sulku_plan::{Allowed, Plan};

use super::batch::Element;
use super::named::{Named, Way};
use super::pool::CellNetwork;

/// One interval of addresses at one port.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) to: Ipv4Net,
    pub(super) port: Port,
    pub(super) until: Option<Timestamp>,
    pub(super) spends: Option<Purse>,
}

impl Open {
    /// Whether it is one address.
    pub(super) const fn is_single(&self) -> bool {
        self.to.prefix_len() == 32
    }
}

/// A destination's budget, by the permit's line that gives it: all that has the line spends from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purse {
    pub(super) line: u32,
    budget: Budget,
}

impl Purse {
    fn new(line: u32, budget: Budget) -> Option<Self> {
        (budget != Budget::default()).then_some(Self { line, budget })
    }

    pub(super) fn bytes(self, mark: u32) -> Option<(String, u64)> {
        self.budget.bytes.map(|bytes| (format!("bytes-{mark}-{}", self.line), bytes))
    }

    pub(super) fn rate(self, mark: u32) -> Option<(String, sulku_permit::Rate)> {
        self.budget.connections.map(|rate| (format!("rate-{mark}-{}", self.line), rate))
    }
}

/// What one live session may do on the network.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The session's mark.
    pub mark: u32,
    /// What it has open by name.
    pub named: Named,
    /// The name of the router's end of its link.
    interface: String,
    /// Its address.
    pub(super) address: Ipv4Addr,
    /// Where it may go, without overlaps: a permit that lists an address and port twice is refused.
    pub(super) to: Vec<Open>,
    /// The budget of each of the plan's destinations by name.
    pub(super) hosts: Vec<Option<Purse>>,
}

impl Grant {
    /// The grant of a session with this mark behind this link.
    #[must_use]
    pub fn new(mark: u32, network: &CellNetwork, plan: &Plan) -> Self {
        let open = |Allowed { to, port, until, budget, at }: &Allowed| match to {
            IpNet::V4(network) => Some(Open { to: network.trunc(), port: *port, until: *until, spends: Purse::new(at.line, *budget) }),
            // IPv6 is off in cells; a destination there is as good as denied.
            IpNet::V6(_) => None,
        };
        let to = plan.destinations().iter().filter_map(open).collect();
        let hosts = plan.named().iter().map(|hosts| Purse::new(hosts.at.line, hosts.budget)).collect();
        Self { mark, named: Named::default(), interface: network.interface(), address: network.address, to, hosts }
    }

    pub(super) fn session(&self) -> Element {
        let mut key = self.interface.clone().into_bytes();
        key.resize(16, 0);
        key.extend(self.address.octets());
        Element::new(key)
    }

    /// In a set of intervals nft compares every field in network order; in one of single keys a mark stands as the processor writes it.
    pub(super) fn listed(&self, open: &Open) -> Element {
        if open.is_single() {
            return self.single(open.to.network(), open.port);
        }
        let key = |address| place(self.mark.to_be_bytes(), address, open.port);
        Element::new(key(open.to.network())).until(key(open.to.broadcast()))
    }

    pub(super) fn single(&self, address: Ipv4Addr, port: Port) -> Element {
        Element::new(place(self.mark.to_ne_bytes(), address, port))
    }

    pub(super) fn checked(&self, address: Ipv4Addr) -> Element {
        Element::new([self.mark.to_ne_bytes(), address.octets()].concat())
    }

    /// Every budget once.
    pub(super) fn purses(&self) -> Vec<Purse> {
        let mut purses: Vec<_> = self.to.iter().filter_map(|open| open.spends).chain(self.hosts.iter().flatten().copied()).collect();
        purses.sort_by_key(|purse| purse.line);
        purses.dedup_by_key(|purse| purse.line);
        purses
    }

    /// The names of what counts for it.
    pub fn budgets(&self) -> impl Iterator<Item = String> {
        self.purses()
            .into_iter()
            .flat_map(|purse| [purse.bytes(self.mark).map(|(name, _)| name), purse.rate(self.mark).map(|(name, _)| name)])
            .flatten()
    }

    pub(super) fn purse_of(&self, way: &Way) -> Option<Purse> {
        self.hosts.get(way.line).copied().flatten()
    }
}

pub(super) fn place(mark: [u8; 4], address: Ipv4Addr, port: Port) -> Vec<u8> {
    let [high, low] = port.number.to_be_bytes();
    [mark, address.octets(), [port.protocol.number(), 0, 0, 0], [high, low, 0, 0]].concat()
}
