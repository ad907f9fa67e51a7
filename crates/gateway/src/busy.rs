//! Bounds on what peers may take up: connections from one address, handshakes, and descriptors.
//!
//! Handshakes are what a stranger can make the gateway compute, so few are under way at once. Those of one address share an eighth of the
//! places, and the rest waits; a peer that is slow at one loses its place, and not its handshake.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::known::{Here, KNOWN_MAX, OPERATORS_MAX};
use crate::strangers::STRANGERS_MAX;

/// One address takes up at most one in so many handshakes.
const SHARE: usize = 8;

/// A handshake has its place for so long: a peer that is on the other side of the world, and not silent, is done by then. Who is not goes on
/// without one.
const PLACE_KEPT: Duration = Duration::from_millis(250);
/// Connections that are over, or whose place another has, until their tasks have noticed.
const ENDING_MAX: usize = 256;
/// Descriptors that are no peer's: listeners, ledger, warden, files that are read again.
const DESCRIPTORS_BESIDE: usize = 256;

/// There are fewer descriptors than the gateway may come to need: under a flood nobody could be served, operators neither.
#[derive(Debug, thiserror::Error)]
#[error(
    "{sessions} sessions may need {needed} file descriptors, and the gateway may have {most}; raise LimitNOFILE or ulimit -n, or lower sessions in [limits]"
)]
pub struct TooFewDescriptors {
    sessions: usize,
    needed: u64,
    most: u64,
}

/// Connections over TCP that may be there at once: each has a descriptor. Strangers, those who are known, operators and sessions have their
/// bounds each, of which this is the sum, so that none of them can take what is kept for another.
#[must_use]
pub const fn sockets_max(sessions: usize) -> usize {
    STRANGERS_MAX + KNOWN_MAX + OPERATORS_MAX + sessions + ENDING_MAX
}

/// Sees to it that descriptors do not run out before sessions and strangers do: raises what the process may have as far as it needs.
///
/// # Errors
/// The system's limit is lower.
pub fn reserve_descriptors(sessions: usize) -> Result<(), TooFewDescriptors> {
    // A session has a terminal beside its connection.
    let needed = (sockets_max(sessions) + sessions + DESCRIPTORS_BESIDE) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = limit.maximum.is_none_or(|most| most >= needed)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum }).is_ok();
    let most = limit.maximum.or(limit.current).unwrap_or_default();
    if raised { Ok(()) } else { Err(TooFewDescriptors { sessions, needed, most }) }
}

/// Whoever has an address of IPv6 has 2⁶⁴ of them.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Counts connections by address.
#[derive(Debug, Clone)]
pub struct Addresses {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// One connection of an address; dropped, it is counted no more. It lives as long as its connection, and so has what else that takes up.
#[derive(Debug)]
pub struct Counted {
    addresses: Addresses,
    address: IpAddr,
    _socket: Option<OwnedSemaphorePermit>,
    _here: Option<Here>,
}

impl Counted {
    /// The connection has a descriptor.
    pub fn has(&mut self, socket: OwnedSemaphorePermit) {
        self._socket = Some(socket);
    }

    /// It is known whose the connection is.
    pub fn is_of(&mut self, here: Here) {
        self._here = Some(here);
    }
}

impl Addresses {
    /// At most so many connections from one address.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { counts: Arc::default(), most }
    }

    /// Counts one more connection, unless the address has as many as it may.
    #[must_use]
    pub fn count(&self, address: IpAddr) -> Option<Counted> {
        let address = network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted { addresses: self.clone(), address, _socket: None, _here: None })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// The places for handshakes.
#[derive(Debug, Clone)]
pub struct Handshakes {
    all: Arc<Semaphore>,
    most: usize,
    shares: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

/// A place for one handshake; dropped, it is another's.
#[derive(Debug)]
pub struct Handshake {
    _place: OwnedSemaphorePermit,
    _share: Share,
}

#[derive(Debug)]
struct Share {
    handshakes: Handshakes,
    address: IpAddr,
    place: Option<OwnedSemaphorePermit>,
}

impl Handshakes {
    /// So many at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), most, shares: Arc::default() }
    }

    /// Whether more than half of the places are taken.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.all.available_permits() < self.most / 2
    }

    /// Waits for a place among those of the address, and then among all. `None` never comes: nothing closes the places.
    pub async fn place(&self, address: IpAddr) -> Option<Handshake> {
        let address = network(address);
        let own = {
            let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
            let share = || Arc::new(Semaphore::new((self.most / SHARE).max(1)));
            Arc::clone(shares.entry(address).or_insert_with(share))
        };
        // Made before the wait, so that a wait that is given up leaves nothing behind.
        let mut share = Share { handshakes: self.clone(), address, place: None };
        share.place = Some(own.acquire_owned().await.ok()?);
        let place = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Handshake { _place: place, _share: share })
    }
}

/// Sees a handshake to its end, and gives its place to another if that takes long.
pub async fn with_place<T>(place: Option<Handshake>, handshake: impl Future<Output = T>) -> T {
    let mut handshake = pin!(handshake);
    if let Ok(done) = tokio::time::timeout(PLACE_KEPT, &mut handshake).await {
        return done;
    }
    drop(place);
    handshake.await
}

impl Drop for Share {
    fn drop(&mut self) {
        drop(self.place.take());
        let mut shares = self.handshakes.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // This map holds one; whoever has a place of the address, or waits for one, holds another.
        if shares.get(&self.address).is_some_and(|share| Arc::strong_count(share) == 1) {
            shares.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn has_place(handshakes: &Handshakes, address: [u8; 4]) -> Option<Handshake> {
        tokio::time::timeout(Duration::from_millis(50), handshakes.place(address.into())).await.ok().flatten()
    }

    #[tokio::test]
    async fn slow_handshakes_of_one_address_leave_the_places_to_others() {
        let handshakes = Handshakes::new(16);
        let first = has_place(&handshakes, [192, 0, 2, 1]).await.expect("a place");
        let second = has_place(&handshakes, [192, 0, 2, 1]).await.expect("a place");
        assert!(has_place(&handshakes, [192, 0, 2, 1]).await.is_none(), "an eighth is all that it gets");
        let others = of_others(&handshakes).await;
        assert_eq!(others.len(), 14, "control: others get the rest");
        assert!(has_place(&handshakes, [192, 0, 2, 99]).await.is_none(), "all are taken");
        drop((first, others));
        let third = has_place(&handshakes, [192, 0, 2, 1]).await;
        assert!(third.is_some(), "a place that is free again");
        drop((second, third));
        assert!(handshakes.shares.lock().expect("a lock").is_empty(), "addresses that are gone are forgotten");
    }

    #[tokio::test]
    async fn a_peer_that_is_slow_at_its_handshake_loses_its_place_and_not_its_handshake() {
        let handshakes = Handshakes::new(8);
        let (answer, answered) = tokio::sync::oneshot::channel();
        let place = handshakes.place([192, 0, 2, 1].into()).await;
        let slow = tokio::spawn(with_place(place, answered));
        assert!(has_place(&handshakes, [192, 0, 2, 1]).await.is_none(), "the control: its address has no other");
        assert!(handshakes.place([192, 0, 2, 1].into()).await.is_some(), "it waits for a peer that is silent, and not for ever");
        answer.send("done").expect("it is still waited for");
        assert_eq!(slow.await.expect("a task without a panic"), Ok("done"));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let addresses = Addresses::new(1);
        let at = |address: &str| addresses.count(address.parse().expect("an address"));
        let first = at("2001:db8::1");
        assert!(first.is_some() && at("2001:db8::2").is_none());
        assert!(at("2001:db8:0:1::1").is_some(), "control: another network");
    }

    async fn of_others(handshakes: &Handshakes) -> Vec<Handshake> {
        let mut places = Vec::new();
        for n in 10..40 {
            places.extend(has_place(handshakes, [192, 0, 2, n]).await);
        }
        places
    }
}
