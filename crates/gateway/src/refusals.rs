//! How many entries strangers can cause. Each peer that is refused gets an entry, up to a ration of its network and one of all; beyond it
//! refusals are counted, and the count is an entry. What the ledger keeps for a flood does not grow with the flood, and nothing is left out
//! unsaid.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sulku_audit::event::{Draft, Event};

use crate::busy::network;
use crate::daemon::Shared;

/// Entries that a network can cause at once, and each second from then on.
const OF_A_NETWORK: Ration = Ration { most: 60.0, a_second: 1.0 };
/// Entries that all together can.
const OF_ALL: Ration = Ration { most: 300.0, a_second: 5.0 };
/// Networks that are told apart; those beyond share the ration of all.
const NETWORKS_MAX: usize = 4_096;
/// How long counts wait for their entry.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A certificate.
    Certificate,
    /// A session.
    Session,
    /// Frames that break the protocol.
    Protocol,
}

/// What becomes of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    /// It gets an entry of its own.
    InFull,
    /// It is counted; the count gets one.
    AsNumber,
}

/// Whose refusals are entries, and how many were counted instead.
#[derive(Debug)]
pub struct Refusals(Mutex<State>);

#[derive(Debug)]
struct State {
    all: Bucket,
    networks: HashMap<IpAddr, Network>,
    counted: Counted,
}

#[derive(Debug)]
struct Network {
    bucket: Bucket,
    counted: u64,
}

#[derive(Debug, Default)]
struct Counted {
    certificates: u64,
    sessions: u64,
    violations: u64,
    since: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Ration {
    most: f64,
    a_second: f64,
}

/// A token bucket: full at first.
#[derive(Debug)]
struct Bucket {
    ration: Ration,
    left: f64,
    at: Instant,
}

impl Bucket {
    const fn full(ration: Ration, at: Instant) -> Self {
        Self { ration, left: ration.most, at }
    }

    fn fill(&mut self, now: Instant) {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * self.ration.a_second;
        self.left = (self.left + grown).min(self.ration.most);
        self.at = now;
    }

    const fn is_full(&self) -> bool {
        self.left >= self.ration.most
    }
}

impl Refusals {
    /// Nobody has been refused yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { all: Bucket::full(OF_ALL, now), networks: HashMap::new(), counted: Counted::default() }))
    }

    /// Takes one of the network's ration and one of all, or counts.
    pub fn keep(&self, kind: Kind, from: IpAddr, now: Instant, clock: Timestamp) -> Kept {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { all, networks, counted } = &mut *state;
        all.fill(now);
        let from = network(from);
        if networks.len() >= NETWORKS_MAX && !networks.contains_key(&from) {
            // Those that asked for nothing of late are as if they had never come.
            networks.values_mut().for_each(|network| network.bucket.fill(now));
            networks.retain(|_, network| network.counted > 0 || !network.bucket.is_full());
        }
        let known = networks.len() < NETWORKS_MAX || networks.contains_key(&from);
        let mut network = known.then(|| networks.entry(from).or_insert_with(|| Network { bucket: Bucket::full(OF_A_NETWORK, now), counted: 0 }));
        let own = network.as_mut().map(|network| {
            network.bucket.fill(now);
            &mut network.bucket.left
        });
        if all.left >= 1.0 && own.as_ref().is_none_or(|left| **left >= 1.0) {
            all.left -= 1.0;
            if let Some(left) = own {
                *left -= 1.0;
            }
            return Kept::InFull;
        }
        if let Some(network) = network {
            network.counted += 1;
        }
        counted.since.get_or_insert(clock);
        *match kind {
            Kind::Certificate => &mut counted.certificates,
            Kind::Session => &mut counted.sessions,
            Kind::Protocol => &mut counted.violations,
        } += 1;
        Kept::AsNumber
    }

    /// What was counted since this was asked last, if anything was.
    pub fn counted(&self) -> Option<Event> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted { certificates, sessions, violations, since } = std::mem::take(&mut state.counted);
        let since = since?;
        let busiest = state.networks.iter().max_by_key(|(_, network)| network.counted).filter(|(_, network)| network.counted > 0);
        let busiest = busiest.map(|(address, network)| (*address, network.counted));
        let networks = state.networks.values().filter(|network| network.counted > 0).count() as u64;
        state.networks.values_mut().for_each(|network| network.counted = 0);
        let (busiest, busiest_count) = busiest.unzip();
        Some(Event::RefusalsCounted {
            certificates,
            sessions,
            violations,
            since,
            networks,
            busiest_count: busiest_count.unwrap_or_default(),
            busiest: busiest.into(),
        })
    }
}

/// Has the ledger keep what was counted, until the gateway drains and once more then.
pub async fn tell(shared: Arc<Shared>) {
    loop {
        let drained = tokio::select! {
            () = tokio::time::sleep(COUNTED_FOR) => false,
            () = shared.drain.cancelled() => true,
        };
        if let Some(event) = shared.refusals.counted()
            && let Err(error) = shared.ledger.append(Draft::new(event.clone())).await
        {
            tracing::error!(%error, ?event, "counted refusals not recorded");
        }
        if drained {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    fn kept(refusals: &Refusals, from: IpAddr, times: usize, now: Instant) -> usize {
        (0..times).filter(|_| refusals.keep(Kind::Certificate, from, now, Timestamp::UNIX_EPOCH) == Kept::InFull).count()
    }

    #[test]
    fn a_flood_from_one_network_is_counted_and_leaves_others_their_entries() {
        let now = Instant::now();
        let refusals = Refusals::new(now);
        assert_eq!(kept(&refusals, at("192.0.2.1"), 1_000, now), 60);
        assert_eq!(kept(&refusals, at("192.0.2.2"), 10, now), 10, "control: another address has its own ration");
        let Some(Event::RefusalsCounted { certificates, sessions, violations, networks, busiest_count, .. }) = refusals.counted() else {
            panic!("a count");
        };
        assert_eq!((certificates, sessions, violations, networks, busiest_count), (940, 0, 0, 1, 940));
        assert_eq!(refusals.counted(), None, "a count is told once");
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_too() {
        let now = Instant::now();
        let refusals = Refusals::new(now);
        let flood: usize = (0..20_000_u32).map(|n| kept(&refusals, std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 1, now)).sum();
        assert_eq!(flood, 300);
        assert!(refusals.0.lock().expect("a lock").networks.len() <= NETWORKS_MAX);
        let later = now + Duration::from_secs(10);
        assert_eq!(kept(&refusals, at("198.51.100.7"), 1_000, later), 50, "5 a second, of all that come");
        let Some(Event::RefusalsCounted { certificates, .. }) = refusals.counted() else { panic!("a count") };
        assert_eq!(certificates, 19_700 + 950, "nothing is left out");
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_ration() {
        let now = Instant::now();
        let refusals = Refusals::new(now);
        let flood: usize = (0..200).map(|n| kept(&refusals, at(&format!("2001:db8::{n:x}")), 1, now)).sum();
        assert_eq!(flood, 60);
        assert_eq!(kept(&refusals, at("2001:db8:0:1::1"), 1, now), 1, "control: another network");
    }
}
