//! Peers that have not shown who they are: so many at one door. One that comes when all places are taken has the place of another, of the
//! network that has most, the one that has waited longest: who has just come is the likeliest to be somebody.
//!
//! Whether a peer is a stranger any more is not decided here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::busy::network;

/// Connections at one door that have not shown who they are yet: more than a door sees in the time that an honest one takes.
pub const STRANGERS_MAX: usize = 1_024;

/// The places of one door.
#[derive(Debug, Clone)]
pub struct Strangers {
    table: Arc<Mutex<Table>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    count: usize,
    /// By network, each with those that came first in front.
    networks: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
}

/// A place at the door; dropped, it is another's.
#[derive(Debug)]
#[must_use]
pub struct Stranger {
    strangers: Strangers,
    network: IpAddr,
    number: u64,
    displaced: CancellationToken,
}

impl Strangers {
    /// So many at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { table: Arc::default(), most }
    }

    /// A place for whoever comes from there; where there is none, that of another.
    pub fn enter(&self, from: IpAddr) -> Stranger {
        let mut table = self.lock();
        if table.count >= self.most {
            table.displace_one();
        }
        let (network, number, displaced) = (network(from), table.next, CancellationToken::new());
        table.next += 1;
        table.count += 1;
        table.networks.entry(network).or_default().insert(number, displaced.clone());
        Stranger { strangers: self.clone(), network, number, displaced }
    }

    /// Whether more than half of the places are taken.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.lock().count > self.most / 2
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn displace_one(&mut self) {
        let oldest = |of: &BTreeMap<u64, CancellationToken>| of.keys().next().copied().unwrap_or(u64::MAX);
        let most = self.networks.iter().max_by_key(|(_, of)| (of.len(), std::cmp::Reverse(oldest(of))));
        let Some((network, number)) = most.map(|(network, of)| (*network, oldest(of))) else { return };
        if let Some(displaced) = self.take(network, number) {
            displaced.cancel();
        }
    }

    fn take(&mut self, network: IpAddr, number: u64) -> Option<CancellationToken> {
        let of = self.networks.get_mut(&network)?;
        let taken = of.remove(&number)?;
        if of.is_empty() {
            self.networks.remove(&network);
        }
        self.count -= 1;
        Some(taken)
    }
}

impl Stranger {
    /// Waits until another has its place.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.lock().take(self.network, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    fn is_out(stranger: &Stranger) -> bool {
        stranger.displaced.is_cancelled()
    }

    #[test]
    fn who_comes_when_all_places_are_taken_has_that_of_the_network_with_most() {
        let strangers = Strangers::new(4);
        let one = strangers.enter(at("192.0.2.1"));
        let many: Vec<_> = (0..3).map(|_| strangers.enter(at("198.51.100.1"))).collect();
        assert!(!many.iter().any(is_out), "control: there was room");
        let other = strangers.enter(at("203.0.113.1"));
        assert_eq!(many.iter().map(is_out).collect::<Vec<_>>(), [true, false, false], "the one that waited longest");
        assert!(!is_out(&one) && !is_out(&other));
        let flood: Vec<_> = (0..1_000).map(|_| strangers.enter(at("198.51.100.1"))).collect();
        assert!(!is_out(&one) && !is_out(&other), "a network that floods displaces its own");
        assert_eq!(flood.iter().filter(|stranger| !is_out(stranger)).count(), 2);
        drop((one, many, other, flood));
        let table = strangers.lock();
        assert!(table.count == 0 && table.networks.is_empty(), "those that are gone are forgotten");
    }

    #[test]
    fn where_every_network_has_one_the_newest_stay() {
        let strangers = Strangers::new(100);
        let all: Vec<_> = (0..1_000_u32).map(|n| strangers.enter(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into())).collect();
        assert!(all[..900].iter().all(is_out));
        assert!(!all[900..].iter().any(is_out));
        assert!(strangers.are_many());
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let strangers = Strangers::new(3);
        let other = strangers.enter(at("2001:db8:0:1::1"));
        let first = strangers.enter(at("2001:db8::1"));
        let _second = strangers.enter(at("2001:db8::2"));
        let _third = strangers.enter(at("2001:db8::3"));
        assert!(is_out(&first) && !is_out(&other));
    }
}
