//! The addresses that one session has for names: which name, at which ports, until when; so that elements can be written, written
//! again and taken out, and a packet's entry can say which name was meant.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use sulku_permit::{HostName, Port, Protocol};

/// Addresses and ports that one session may have open by name. A name has up to 16 addresses, and large sites change theirs every few
/// minutes.
pub const WAYS_MAX: usize = 4_096;
/// Names that are kept of one address: large distributors serve thousands at one.
const NAMES_OF_AN_ADDRESS_MAX: usize = 8;
/// Connections whose name the resolver has told and that have not ended.
const PASSED_MAX: usize = 1_024;

/// Whether TLS connections there are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// They are turned to the resolver.
    Checked,
    /// They go on as they are.
    Unchecked,
}

/// One address at one port that a name has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Where.
    pub address: Ipv4Addr,
    /// At which port.
    pub port: Port,
    /// Whether its connections are looked at.
    pub look: Look,
    /// Until when new connections may begin.
    pub lasts: Timestamp,
    /// Until when those that are open may go on.
    pub closes: Timestamp,
    /// The permit's line, by its number in the plan's list of hosts.
    pub line: usize,
}

type Key = (Ipv4Addr, u8, u16);

/// All of one session.
#[derive(Debug, Default, Clone)]
pub struct Named {
    ways: BTreeMap<Key, Way>,
    names: BTreeMap<Ipv4Addr, Vec<HostName>>,
    /// By the cell's own port and the destination.
    passed: BTreeMap<(u16, Ipv4Addr, u16), HostName>,
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has as many addresses open by name as it may ({WAYS_MAX})")]
pub struct Full;

fn key(way: &Way) -> Key {
    (way.address, way.port.protocol.number(), way.port.number)
}

impl Named {
    /// What has to be written for these, and what has to go for want of room. Nothing is changed yet.
    ///
    /// # Errors
    /// [`Full`].
    pub fn weigh(&self, ways: Vec<Way>, now: Timestamp) -> Result<(Vec<Way>, Vec<Way>), Full> {
        // The same way by another name keeps the longer time, the first line, and is looked at if either says so.
        let joined = |way: Way| match self.ways.get(&key(&way)) {
            Some(known) => Way {
                look: if known.look == Look::Checked { Look::Checked } else { way.look },
                lasts: known.lasts.max(way.lasts),
                closes: known.closes.max(way.closes),
                line: known.line,
                ..way
            },
            None => way,
        };
        let ways: Vec<_> = ways.into_iter().map(joined).collect();
        let more = ways.iter().filter(|way| !self.ways.contains_key(&key(way))).count();
        let beyond = (self.ways.len() + more).saturating_sub(WAYS_MAX);
        // Those that have been over the longest go, and with them the connections that still use them.
        let mut over: Vec<_> = self.ways.values().filter(|known| known.lasts <= now && !ways.iter().any(|way| key(way) == key(known))).collect();
        over.sort_by_key(|way| way.lasts);
        if over.len() < beyond || ways.len() > WAYS_MAX {
            return Err(Full);
        }
        Ok((ways, over.into_iter().take(beyond).cloned().collect()))
    }

    /// They are written: this name has them.
    pub fn note(&mut self, name: &HostName, ways: &[Way], gone: &[Way]) {
        for way in gone {
            self.ways.remove(&key(way));
        }
        self.ways.extend(ways.iter().map(|way| (key(way), way.clone())));
        for address in ways.iter().map(|way| way.address) {
            let names = self.names.entry(address).or_default();
            names.retain(|known| known != name);
            names.push(name.clone());
            if names.len() > NAMES_OF_AN_ADDRESS_MAX {
                names.remove(0);
            }
        }
        let ways = &self.ways;
        self.names.retain(|address, _| ways.range((*address, 0, 0)..=(*address, u8::MAX, u16::MAX)).next().is_some());
    }

    /// All ways.
    pub fn ways(&self) -> impl Iterator<Item = &Way> {
        self.ways.values()
    }

    /// The way to there, if there is one.
    #[must_use]
    pub fn way(&self, to: Ipv4Addr, protocol: u8, port: u16) -> Option<&Way> {
        self.ways.get(&(to, protocol, port))
    }

    /// The name that the session asked for last of those that have this address.
    #[must_use]
    pub fn name_of(&self, address: Ipv4Addr) -> Option<&HostName> {
        self.names.get(&address)?.last()
    }

    /// A connection from this port of the cell was let through under this name.
    pub fn pass(&mut self, from: u16, to: Ipv4Addr, port: u16, name: HostName) {
        if self.passed.len() >= PASSED_MAX {
            self.passed.pop_first();
        }
        self.passed.insert((from, to, port), name);
    }

    /// The name under which a TCP flow passed that has ended now; else the one that the address was last asked for by.
    pub fn name_of_flow(&mut self, from: u16, to: Ipv4Addr, protocol: u8, port: u16) -> Option<HostName> {
        let passed = (protocol == Protocol::Tcp.number()).then(|| self.passed.remove(&(from, to, port))).flatten();
        passed.or_else(|| self.name_of(to).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn way(number: u32, lasts: i64) -> Way {
        let port = Port { number: 443, protocol: Protocol::Tcp };
        Way { address: Ipv4Addr::from(number), port, look: Look::Checked, lasts: at(lasts), closes: at(10_000), line: 0 }
    }

    fn name(text: &str) -> HostName {
        text.parse().expect("a name")
    }

    #[test]
    fn the_oldest_that_are_over_make_room_and_no_others() {
        let mut named = Named::default();
        for number in 0..WAYS_MAX {
            let ways = vec![way(number as u32, 100 + number as i64)];
            let (ways, gone) = named.weigh(ways, at(0)).expect("room");
            assert!(gone.is_empty());
            named.note(&name("a.org"), &ways, &gone);
        }
        let more = vec![way(1 << 20, 9_000), way(1 << 21, 9_000)];
        assert_eq!(named.weigh(more.clone(), at(100)), Err(Full), "one is over, two must come");
        let (ways, gone) = named.weigh(more, at(101)).expect("room");
        assert_eq!(gone.iter().map(|way| u32::from(way.address)).collect::<Vec<_>>(), [0, 1]);
        named.note(&name("b.org"), &ways, &gone);
        assert_eq!(named.ways().count(), WAYS_MAX);
        assert_eq!((named.name_of(Ipv4Addr::from(0)), named.name_of(Ipv4Addr::from(1 << 20))), (None, Some(&name("b.org"))));
        let (again, gone) = named.weigh(vec![way(2, 50)], at(0)).expect("it is there already");
        assert_eq!((again[0].lasts, gone.len()), (at(102), 0), "a shorter answer does not shorten it");
    }

    #[test]
    fn a_connection_has_the_name_that_it_gave_and_else_the_one_last_asked_for() {
        let mut named = Named::default();
        let address = Ipv4Addr::from(7);
        for text in ["a.org", "b.org"] {
            let (ways, gone) = named.weigh(vec![way(7, 100)], at(0)).expect("room");
            named.note(&name(text), &ways, &gone);
        }
        named.pass(5_000, address, 443, name("a.org"));
        assert_eq!(named.name_of_flow(5_000, address, 6, 443), Some(name("a.org")));
        assert_eq!(named.name_of_flow(5_000, address, 6, 443), Some(name("b.org")), "the port is used anew");
        assert_eq!(named.name_of_flow(5_001, Ipv4Addr::from(8), 6, 443), None);
        for port in 0..2 * PASSED_MAX as u16 {
            named.pass(port, address, 443, name("a.org"));
        }
        assert_eq!(named.passed.len(), PASSED_MAX);
    }
}
