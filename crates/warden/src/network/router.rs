//! The router: a network namespace with links to cells and to the configured uplinks, and the ruleset between them.
//!
//! The warden enters it to make it and to open sockets there, and stands outside it otherwise.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipnet::Ipv4Net;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use sulku_plan::naming::RESOLVER;
use sulku_plan::ruleset::{RELAY, RELAY_PORT};

use super::drift::Drift;
use super::elements::Elements;
use super::netlink::{ACK, Message, Part, Socket, attribute, parsed};
use super::pool::{CellNetwork, address, route, up, veth};
use super::rules::{Rules, RulesetError};
use super::watch::Watch;
use crate::config::{Peer, Uplink};
use crate::relay::Relay;
use crate::sys;

/// Connections that may wait for the relay.
const RELAY_BACKLOG: i32 = 256;
const GET_LINK: u16 = 18;
const DELETE_LINK: u16 = 17;
const IFLA_IFNAME: u16 = 3;
/// The index of every namespace's loopback.
const LOOPBACK: u32 = 1;

/// Why the network is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused a step.
    #[error("could not {step}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A namespace that the configuration names can't be opened.
    #[error("uplink {uplink}: {path} can't be opened; make it with: ip netns add NAME")]
    Namespace {
        /// Which uplink.
        uplink: String,
        /// The namespace's file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The ruleset is not in force.
    #[error("the ruleset is not in force")]
    Ruleset(#[from] RulesetError),
    /// Every address pair of `cell_network` is in use.
    #[error("cell_network has no free addresses; give it a shorter prefix")]
    NoAddress,
}

/// The router, held by its descriptor alone.
#[derive(Debug)]
pub struct Router {
    home: OwnedFd,
    links: Socket,
    /// Sessions' elements.
    pub elements: Elements,
    namespace: OwnedFd,
    rules: Rules,
}

impl Router {
    /// Makes the router with its uplinks and its ruleset, and the sockets that watch it.
    ///
    /// # Errors
    /// The kernel or nft refused a step; with this process everything made so far goes.
    pub fn make(uplinks: &[Uplink], relay: Option<Relay>) -> Result<(Self, Watch, Drift), NetworkError> {
        let home: OwnedFd = step("hold the host's network namespace", std::fs::File::open("/proc/thread-self/ns/net"))?.into();
        let (namespace, links, elements, watch, drift, rules) = returning_to(home.as_fd(), || {
            // In one that goes at once.
            step("make a network namespace", sys::unshare(UnshareFlags::NEWNET))?;
            let rules = Rules::learn()?;
            step("make the router's network namespace", sys::unshare(UnshareFlags::NEWNET))?;
            for (path, value) in SYSCTLS {
                set_sysctl(path, value)?;
            }
            let mut elements = step("open the elements' socket", Elements::open(relay))?;
            rules.install()?;
            // Before they are read back: what is changed after is heard of.
            let own = step("ask for the elements' port", elements.socket().port())?;
            let drift = step("listen for changes of the rules", Drift::open(own))?;
            rules.compare()?;
            // After the rules: conntrack's settings exist once something in the namespace uses it.
            for (path, value) in CONNTRACK_SYSCTLS {
                set_sysctl(path, value)?;
            }
            let namespace: OwnedFd = step("hold the router's network namespace", std::fs::File::open("/proc/thread-self/ns/net"))?.into();
            let links = step("open a route socket", Socket::open(Part::Links, 0))?;
            step("raise the router's loopback", links.request(&[up(LOOPBACK), address(LOOPBACK, RESOLVER, 32)]))?;
            if let Some(relay) = elements.relay() {
                step("give the relay its socket", relay_socket(&links).and_then(|socket| relay.listen(socket.as_fd())))?;
            }
            step("turn connections to the relay", elements.turn_to_relay())?;
            let watch = step("watch the router", Watch::open())?;
            Ok::<_, NetworkError>((namespace, links, elements, watch, drift, rules))
        })?;
        let router = Self { home, links, elements, namespace, rules };
        // Before there is any way out.
        step("restrict the router's routes", super::routes::restrict(&router.links, uplinks.iter().map(|uplink| uplink_name(&uplink.name))))?;
        if router.elements.relay().is_some() {
            step("route to the relay", super::routes::carry(&router.links, LOOPBACK))?;
        }
        uplinks.iter().try_for_each(|uplink| router.connect(uplink))?;
        Ok((router, watch, drift))
    }

    /// The host's network namespace, to which the warden returns.
    #[must_use]
    pub fn home(&self) -> BorrowedFd<'_> {
        self.home.as_fd()
    }

    /// The router's own network namespace.
    #[must_use]
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    pub(super) const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Runs something in the router's network namespace.
    pub(super) fn inside<T>(&self, run: impl FnOnce() -> Result<T, RulesetError>) -> Result<T, NetworkError> {
        returning_to(self.home.as_fd(), || {
            let entered = move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network));
            step("enter the router's network namespace", entered.map_err(Into::into))?;
            Ok(run()?)
        })
    }

    /// The socket that arranges the router's links.
    #[must_use]
    pub const fn links(&self) -> &Socket {
        &self.links
    }

    /// Whether a cell's link is still there.
    #[must_use]
    pub fn has_link(&self, network: &CellLink) -> bool {
        self.links.request(&[Message::new(GET_LINK, ACK, &link_header(network.index, false))]).is_ok()
    }

    /// Takes a cell's link down at once, instead of waiting until the kernel has let go of its namespace: connections that were open
    /// when its processes died may hold that for minutes.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_link(&self, network: &CellLink) -> io::Result<()> {
        self.links.request(&[Message::new(DELETE_LINK, ACK, &link_header(network.index, false))]).map(drop)
    }

    fn connect(&self, uplink: &Uplink) -> Result<(), NetworkError> {
        let here = uplink_name(&uplink.name);
        let there = uplink.peer_interface();
        let opened;
        let peer = match &uplink.peer {
            Peer::Host => self.home.as_fd(),
            Peer::Namespace(path) => {
                let named = |source| NetworkError::Namespace { uplink: uplink.name.clone(), path: path.display().to_string(), source };
                opened = std::fs::File::open(path).map_err(named)?;
                opened.as_fd()
            }
        };
        step("make an uplink", self.links.request(&[veth(&here, &there, peer)]))?;
        let index = step("find the uplink", index_of(&self.links, &here))?;
        let (router, world) = (uplink.router_address, uplink.peer_address);
        step("give the uplink its address", self.links.request(&[address(index, router.addr(), router.prefix_len()), up(index)]))?;
        // The far end first: a route needs a link that is up.
        let far = returning_to(self.home.as_fd(), || {
            step("enter the uplink's namespace", move_into_link_name_space(peer, Some(LinkNameSpaceType::Network)).map_err(Into::into))?;
            step("open a route socket", Socket::open(Part::Links, 0))
        })?;
        let far_index = step("find the uplink's far end", index_of(&far, &there))?;
        step("give the uplink's far end its address", far.request(&[address(far_index, world.addr(), world.prefix_len()), up(far_index)]))?;
        let routes: Vec<Message> = uplink.routes.iter().map(|to| route(*to, world.addr())).collect();
        step("route over the uplink", self.links.request(&routes)).map(drop)
    }
}

/// The name of the router's end of an uplink, by which the ruleset knows it.
fn uplink_name(name: &str) -> String {
    format!("up-{name}")
}

/// The socket of the router to which connections are turned that the relay carries on.
fn relay_socket(links: &Socket) -> io::Result<OwnedFd> {
    links.request(&[address(1, RELAY, 32)])?;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    bind(&socket, &SocketAddrV4::new(RELAY, RELAY_PORT))?;
    listen(&socket, RELAY_BACKLOG)?;
    Ok(socket)
}

/// What remains of a cell's network once its namespace is let go: the link that the kernel removes in its own time.
#[derive(Debug, Clone, Copy)]
pub struct CellLink {
    index: u32,
    /// The address pair it had.
    pub slot: u32,
}

impl CellLink {
    /// The index of the router's end.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }
}

impl From<&CellNetwork> for CellLink {
    fn from(network: &CellNetwork) -> Self {
        Self { index: network.index(), slot: network.slot() }
    }
}

/// Forwarding on, IPv6 off, no redirects, port 53 for a resolver without rights; nothing that a new namespace might inherit from the host is left to chance.
const SYSCTLS: &[(&str, &str)] = &[
    ("/proc/sys/net/ipv4/ip_forward", "1"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "53"),
    ("/proc/sys/net/ipv4/conf/all/send_redirects", "0"),
    ("/proc/sys/net/ipv4/conf/default/send_redirects", "0"),
    ("/proc/sys/net/ipv4/conf/all/accept_redirects", "0"),
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Bytes and time are counted per flow, and a flow that conntrack has not seen from its beginning is none.
const CONNTRACK_SYSCTLS: &[(&str, &str)] = &[
    ("/proc/sys/net/netfilter/nf_conntrack_acct", "1"),
    ("/proc/sys/net/netfilter/nf_conntrack_timestamp", "1"),
    ("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", "0"),
];

/// Names the step at which the kernel refused.
pub(super) fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, NetworkError> {
    result.map_err(|source| NetworkError::Step { step, source })
}

pub(super) fn set_sysctl(path: &'static str, value: &str) -> Result<(), NetworkError> {
    step(path, std::fs::write(path, value))
}

/// Runs something that changes the network namespace, then returns. A warden that can't return must not go on.
pub(super) fn returning_to<T>(home: BorrowedFd<'_>, inside: impl FnOnce() -> T) -> T {
    let result = inside();
    if move_into_link_name_space(home, Some(LinkNameSpaceType::Network)).is_err() {
        std::process::abort();
    }
    result
}

/// The fixed header of a message about a link; `raise` also sets it up.
pub(super) fn link_header(index: u32, raise: bool) -> Vec<u8> {
    let up = u32::from(raise);
    [&[0; 4][..], &index.to_ne_bytes(), &up.to_ne_bytes(), &up.to_ne_bytes()].concat()
}

fn index_of(socket: &Socket, name: &str) -> io::Result<u32> {
    let answer = socket.request(&[Message::new(GET_LINK, ACK, &link_header(0, false)).with_name(IFLA_IFNAME, name)])?;
    parsed(&answer)
        .find(|(kind, body)| *kind == 16 && body.len() >= 16 && attribute(&body[16..], IFLA_IFNAME).is_some())
        .and_then(|(_, body)| body.get(4..8)?.try_into().ok().map(u32::from_ne_bytes))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether two networks share an address.
#[must_use]
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}
