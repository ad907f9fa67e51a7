//! Changes of the router's nftables that somebody else than the warden has made, as the kernel tells of them.
//!
//! It listens, and says who changed what. What is to be done about it is the daemon's, how the rules are mended is `repair`'s. Who
//! changes them is root on the host or somebody with as much: no cell has any power over the router.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::changes::{Changes, Foreign, Stranger, budget, printable, words};
use super::netlink::{Part, Socket, attribute, heard};

const SUBSYSTEM: u16 = 10;
/// NFNLGRP_NFTABLES is the seventh group.
const GROUP: u32 = 1 << 6;
const NEW_GENERATION: u16 = SUBSYSTEM << 8 | 15;
const GENERATION: u16 = 1;
const GENERATION_PROCESS: u16 = 2;
const GENERATION_PROGRAM: u16 = 3;
/// Length of the netfilter header before a message's attributes.
const HEADER_BYTES: usize = 4;
/// The kernel itself, which tells when a budget is used up.
const KERNEL: u32 = 0;
/// Packets that are read in one turn, so that nobody can keep the warden busy.
const PACKETS_A_TURN: usize = 64;
/// What `nft` makes for the warden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    /// The first generation that may be it.
    pub(super) first: u32,
    /// The last one.
    pub(super) last: u32,
    /// The process that made it; only asked for where others have made generations beside it.
    pub(super) process: u32,
}

/// Generations of the ruleset that are to be the warden's.
#[derive(Debug, Default)]
struct Expected(Vec<Own>);

impl Expected {
    /// Whether it is one, and then it is expected no more. Generations are heard of in their order.
    fn takes(&mut self, generation: u32, process: u32) -> bool {
        self.0.retain(|own| generation <= own.last);
        let is_own = |own: &Own| generation >= own.first && (own.first == own.last || process == own.process);
        self.0.iter().position(is_own).map(|found| self.0.remove(found)).is_some()
    }
}

/// The socket that hears of every change.
#[derive(Debug)]
pub struct Drift {
    socket: Socket,
    /// The port of the socket over which the warden writes elements.
    own: u32,
    expected: Expected,
    /// Changes whose generation was not told yet, by whose they are.
    open: BTreeMap<u32, (Changes, BTreeSet<String>)>,
}

impl Drift {
    /// Opens the socket in the network namespace in which this runs: the router's. What comes over the port `own` is the warden's.
    pub(super) fn open(own: u32) -> io::Result<Self> {
        let socket = Socket::open(Part::Filter, GROUP)?.with_room()?;
        Ok(Self { socket, own, expected: Expected::default(), open: BTreeMap::new() })
    }

    /// The descriptor that becomes readable when anything has changed, by whomsoever.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// One of these generations is the warden's own.
    pub(super) fn expect(&mut self, own: Own) {
        self.expected.0.push(own);
    }

    /// What somebody else has changed since the last call.
    pub fn hear(&mut self) -> Foreign {
        let mut foreign = Foreign::default();
        for _ in 0..PACKETS_A_TURN {
            match self.socket.receive() {
                Ok(None) => break,
                Ok(Some(packet)) => self.take(&packet, &mut foreign),
                // ENOBUFS: what is missing may be somebody else's, so it is taken to be.
                Err(error) => {
                    self.open.clear();
                    foreign.note_unheard(&format!("changes that the kernel could not tell of ({error})"));
                }
            }
        }
        foreign
    }

    fn take(&mut self, packet: &[u8], foreign: &mut Foreign) {
        let own = self.own;
        for message in heard(packet).filter(|message| message.sender != own && message.sender != KERNEL) {
            let body = message.body.get(HEADER_BYTES..).unwrap_or_default();
            if message.kind != NEW_GENERATION {
                let (changes, budgets) = self.open.entry(message.sender).or_default();
                changes.add(words(message.kind, message.body), 1);
                budgets.extend(budget(message.kind, body));
                continue;
            }
            let (changes, budgets) = self.open.remove(&message.sender).unwrap_or_default();
            let process = number(attribute(body, GENERATION_PROCESS));
            if self.expected.takes(number(attribute(body, GENERATION)), process) {
                continue;
            }
            let program = attribute(body, GENERATION_PROGRAM).map(printable).unwrap_or_default();
            foreign.note(Some(Stranger { process, program }), changes);
            foreign.budgets.extend(budgets);
        }
    }
}

/// The generation in the kernel's answer about it.
pub(super) fn generation(answer: &[u8]) -> Option<u32> {
    let message = heard(answer).find(|message| message.kind == NEW_GENERATION)?;
    attribute(message.body.get(HEADER_BYTES..)?, GENERATION)?.try_into().ok().map(u32::from_be_bytes)
}

/// A number in network order; 0 where it is absent.
fn number(value: Option<&[u8]>) -> u32 {
    value.and_then(|value| value.try_into().ok()).map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A change that somebody makes while the warden's `nft` runs is not taken for the warden's.
    #[test]
    fn of_generations_made_at_the_same_time_one_alone_is_own() {
        let mut expected = Expected(vec![Own { first: 8, last: 8, process: 50 }, Own { first: 11, last: 13, process: 51 }]);
        let heard = [(7, 50), (8, 99), (9, 50), (10, 51), (11, 99), (12, 51), (13, 51), (14, 51)];
        let own: Vec<_> = heard.into_iter().filter(|(generation, process)| expected.takes(*generation, *process)).collect();
        // Alone between before and after it is own whoever the kernel says it was: inside a container it knows processes by other numbers.
        assert_eq!(own, [(8, 99), (12, 51)]);
        assert!(expected.0.is_empty(), "what is over is forgotten");
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_answers_is_a_generation_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = generation(&bytes);
        }
    }
}
