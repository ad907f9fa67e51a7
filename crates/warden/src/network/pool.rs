//! Networks for cells, made ahead of need: a namespace with one link to the router. Making one costs milliseconds, at worst a second.
//!
//! A network serves one cell and is never used again; it ends when the last descriptor and process let go of it. Interface
//! numbers are never reused either, so that no element or log record can mean two cells.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipnet::Ipv4Net;
use rustix::thread::UnshareFlags;

use super::netlink::{ACK, CREATE, Message, Part, Socket};
use super::router::{NetworkError, link_header, set_sysctl, step};
use crate::sys;

/// Interface indices below this are the router's own.
const INDEX_BASE: u32 = 1_000;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
/// The name of the link inside a cell.
const INSIDE: &str = "eth0";
/// Above the indices of the devices that some kernels put into every new namespace.
const INSIDE_INDEX: u32 = 1_000;

/// A network namespace with one link to the router, of one cell.
#[derive(Debug)]
pub struct CellNetwork {
    /// Its namespace.
    pub namespace: OwnedFd,
    /// The cell's address.
    pub address: Ipv4Addr,
    number: u32,
    slot: u32,
}

impl CellNetwork {
    /// A namespace that nothing leads out of, for a cell that has no network; it has no address.
    ///
    /// # Errors
    /// The kernel makes no more namespaces.
    pub fn without_link(number: u32) -> Result<Self, NetworkError> {
        let home = step("hold the warden's network namespace", std::fs::File::open("/proc/thread-self/ns/net"))?;
        let (namespace, _socket) = new_namespace(home.as_fd())?;
        Ok(Self { namespace, address: Ipv4Addr::UNSPECIFIED, number, slot: number })
    }

    /// The index of the router's end of the link.
    #[must_use]
    pub const fn index(&self) -> u32 {
        INDEX_BASE + self.number
    }

    /// The name of the router's end of the link.
    #[must_use]
    pub fn interface(&self) -> String {
        format!("cell{}", self.number)
    }

    /// Which of the cell network's address pairs it has.
    #[must_use]
    pub const fn slot(&self) -> u32 {
        self.slot
    }
}

/// Networks that wait for their cell.
#[derive(Debug)]
pub struct Pool {
    network: Ipv4Net,
    size: usize,
    ready: VecDeque<CellNetwork>,
    next: u32,
    slots_used: BTreeSet<u32>,
}

impl Pool {
    /// An empty pool that wants to hold `size` networks, with addresses of `network`.
    #[must_use]
    pub const fn new(network: Ipv4Net, size: usize) -> Self {
        Self { network, size, ready: VecDeque::new(), next: 0, slots_used: BTreeSet::new() }
    }

    /// Whether it holds less than it wants.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.ready.len() < self.size
    }

    /// Makes one more network.
    ///
    /// # Errors
    /// The kernel refused a step; nothing of it is left.
    pub fn fill(&mut self, home: BorrowedFd<'_>, router: &Socket) -> Result<(), NetworkError> {
        let network = self.make(home, router)?;
        self.slots_used.insert(network.slot);
        self.ready.push_back(network);
        Ok(())
    }

    /// A network for a cell; made now if none waits.
    ///
    /// # Errors
    /// None waits and none can be made.
    pub fn take(&mut self, home: BorrowedFd<'_>, router: &Socket) -> Result<CellNetwork, NetworkError> {
        if self.ready.is_empty() {
            self.fill(home, router)?;
        }
        self.ready.pop_front().ok_or(NetworkError::NoAddress)
    }

    /// The address pair of a network that is gone may be given out again.
    pub fn forget(&mut self, slot: u32) {
        self.slots_used.remove(&slot);
    }

    fn make(&mut self, home: BorrowedFd<'_>, router: &Socket) -> Result<CellNetwork, NetworkError> {
        let pairs = 1_u32 << (31 - self.network.prefix_len());
        let number = self.next;
        let slot = (0..pairs).map(|offset| number.wrapping_add(offset) % pairs).find(|slot| !self.slots_used.contains(slot));
        let slot = slot.ok_or(NetworkError::NoAddress)?;
        self.next = number.checked_add(1).ok_or(NetworkError::NoAddress)?;
        let outside = Ipv4Addr::from(u32::from(self.network.network()) + 2 * slot);
        let inside = Ipv4Addr::from(u32::from(outside) + 1);
        let (namespace, socket) = new_namespace(home)?;
        let network = CellNetwork { namespace, address: inside, number, slot };
        let link = Message::new(NEW_LINK, ACK | CREATE, &link_header(network.index(), false))
            .with_name(IFLA_IFNAME, &network.interface())
            .with_nested(IFLA_LINKINFO, |info| {
                info.with(INFO_KIND, b"veth").with_nested(INFO_DATA, |data| {
                    data.with_nested(VETH_PEER, |peer| {
                        peer.with_raw(&link_header(INSIDE_INDEX, false))
                            .with_name(IFLA_IFNAME, INSIDE)
                            .with(IFLA_NET_NS_FD, &network.namespace.as_raw_fd().to_ne_bytes())
                    })
                })
            });
        step("make a cell's link", router.request(&[link]))?;
        step("give the router its address", router.request(&[address(network.index(), outside, 31), up(network.index())]))?;
        step("raise the link in the cell", socket.request(&[up(1), address(INSIDE_INDEX, inside, 31), up(INSIDE_INDEX)]))?;
        step("route the cell to the router", socket.request(&[route(Ipv4Net::default(), outside)]))?;
        Ok(network)
    }
}

/// A new network namespace without IPv6, and a socket to arrange it with.
fn new_namespace(home: BorrowedFd<'_>) -> Result<(OwnedFd, Socket), NetworkError> {
    super::router::returning_to(home, || {
        step("make a network namespace", sys::unshare(UnshareFlags::NEWNET))?;
        set_sysctl("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
        set_sysctl("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        let namespace = step("hold the network namespace", std::fs::File::open("/proc/thread-self/ns/net"))?;
        let socket = step("open a route socket", Socket::open(Part::Links, 0))?;
        Ok((namespace.into(), socket))
    })
}

/// Raises a link.
pub(super) fn up(index: u32) -> Message {
    Message::new(NEW_LINK, ACK, &link_header(index, true))
}

/// Gives a link an address.
pub(super) fn address(index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    let mut header = vec![libc::AF_INET as u8, prefix, 0, 0];
    header.extend(index.to_ne_bytes());
    Message::new(NEW_ADDRESS, ACK | CREATE, &header).with(2, &address.octets()).with(1, &address.octets())
}

/// Sends what is for a network to a gateway.
pub(super) fn route(to: Ipv4Net, by: Ipv4Addr) -> Message {
    const TABLE_MAIN: u8 = 254;
    const PROTOCOL_STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    let header = [libc::AF_INET as u8, to.prefix_len(), 0, 0, TABLE_MAIN, PROTOCOL_STATIC, 0, UNICAST, 0, 0, 0, 0];
    Message::new(NEW_ROUTE, ACK | CREATE, &header).with(1, &to.network().octets()).with(5, &by.octets())
}

/// A veth of which `peer` is put into a namespace.
pub(super) fn veth(name: &str, peer: &str, peer_namespace: BorrowedFd<'_>) -> Message {
    Message::new(NEW_LINK, ACK | CREATE, &link_header(0, false)).with_name(IFLA_IFNAME, name).with_nested(IFLA_LINKINFO, |info| {
        info.with(INFO_KIND, b"veth").with_nested(INFO_DATA, |data| {
            data.with_nested(VETH_PEER, |inside| {
                inside
                    .with_raw(&link_header(0, false))
                    .with_name(IFLA_IFNAME, peer)
                    .with(IFLA_NET_NS_FD, &peer_namespace.as_fd().as_raw_fd().to_ne_bytes())
            })
        })
    })
}
