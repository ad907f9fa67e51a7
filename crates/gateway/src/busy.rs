//! Bounds on what peers may take up: connections from one address, and handshakes.
//!
//! Handshakes are what a stranger can make the gateway compute, so few are under way at once. A peer that is slow at one keeps a place from
//! others of its own address alone: those of one address share an eighth of the places, and the rest waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that have not shown who they are yet; those beyond wait in the kernel's queue.
pub const STRANGERS_MAX: usize = 1_024;
/// One address takes up at most one in so many handshakes.
const SHARE: usize = 8;

/// Descriptors that are neither a session's nor a stranger's: listeners, ledger, warden, files that are read again, and operators at work.
const DESCRIPTORS_BESIDE: u64 = 256;

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

/// Sees to it that descriptors do not run out before sessions and strangers do: raises what the process may have as far as it needs.
///
/// # Errors
/// The system's limit is lower.
pub fn reserve_descriptors(sessions: usize) -> Result<(), TooFewDescriptors> {
    // A session has a connection and a terminal; a stranger may come by either door.
    let needed = 2 * (sessions as u64 + STRANGERS_MAX as u64) + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = limit.maximum.is_none_or(|most| most >= needed)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum }).is_ok();
    let most = limit.maximum.or(limit.current).unwrap_or_default();
    if raised { Ok(()) } else { Err(TooFewDescriptors { sessions, needed, most }) }
}

/// Counts connections by address.
#[derive(Debug, Clone)]
pub struct Addresses {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// One connection of an address; dropped, it is counted no more.
#[derive(Debug)]
pub struct Counted {
    addresses: Addresses,
    address: IpAddr,
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
        let address = address.to_canonical();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted { addresses: self.clone(), address })
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
        let address = address.to_canonical();
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
    use std::time::Duration;

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

    async fn of_others(handshakes: &Handshakes) -> Vec<Handshake> {
        let mut places = Vec::new();
        for n in 10..40 {
            places.extend(has_place(handshakes, [192, 0, 2, n]).await);
        }
        places
    }
}
