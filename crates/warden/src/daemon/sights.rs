//! What was seen of cells, as entries: denied packets, ended flows, what the kernel could not keep.

use std::net::Ipv4Addr;
use std::time::Instant;

use sulku_audit::{Draft, Event};

use super::Warden;
use crate::cell::Cell;
use crate::network::{Denial, Flow, Sighting};
use crate::seen::{Doer, Packet, Senders, look};

/// Packets of flow ends that are read when a session ends; each holds several.
const FLOW_PACKETS_MAX: usize = 4_096;

impl Warden {
    /// Takes in what the router has seen.
    pub(super) fn look(&mut self) {
        let seen = self.watch.sightings();
        self.take_in(seen);
    }

    /// Takes in the flows that have just been ended, all of them.
    pub(super) fn look_to_the_end(&mut self) {
        for _ in 0..FLOW_PACKETS_MAX {
            let seen = self.watch.sightings();
            if seen.is_empty() {
                break;
            }
            self.take_in(seen);
        }
    }

    /// What the kernel could not keep is told, a little later, so that one entry tells of many.
    pub(super) fn tell_of_losses(&mut self, now: Instant) {
        for event in self.losses.due(now) {
            self.record(Draft::new(event));
        }
    }

    fn take_in(&mut self, seen: Vec<Sighting>) {
        let now = Instant::now();
        let mut drafts = Vec::new();
        for sighting in seen {
            match sighting {
                Sighting::Denied(denial) => drafts.extend(self.denied(&denial, now)),
                Sighting::Ended(flow) => drafts.extend(self.ended(&flow)),
                Sighting::Lost(what, count) => self.losses.note(what, count),
            }
        }
        for draft in drafts {
            self.record(draft);
        }
    }

    fn denied(&mut self, denial: &Denial, now: Instant) -> Option<Draft> {
        // A packet under a false address has no mark; the link it came over says whose it is. Of a cell that is being reaped every
        // packet is without a mark, and it is being reaped.
        let cell = self
            .cells
            .values_mut()
            .find(|cell| if denial.mark == 0 { cell.link.index() == denial.interface } else { cell.grant.mark == denial.mark })?;
        if denial.mark == 0 && !cell.is_running() {
            return None;
        }
        let (inside, senders) = (cell.pid(), self.senders.as_ref());
        let Denial { protocol, source, source_port, destination, port, .. } = *denial;
        let sender = || doer(senders, &Packet { protocol, source, source_port, destination, port }, inside);
        let event = cell.denials.note(denial, now, sender)?;
        Some(cell.draft(event))
    }

    fn ended(&self, flow: &Flow) -> Option<Draft> {
        let Flow { mark, protocol, source, source_port, destination, port, bytes_out, bytes_in, lasted } = *flow;
        let cell = self.cells.values().find(|cell| cell.grant.mark == mark)?;
        let began = doer(self.senders.as_ref(), &Packet { protocol, source, source_port, destination, port }, cell.pid());
        let (process, program) = began.map_or((None, None), |Doer { process, program }| (Some(process), program));
        let (protocol, at) = Cell::allowed_by(cell, protocol, Ipv4Addr::from(destination.octets()), port)?;
        Some(cell.draft(Event::EgressAllowed {
            protocol,
            destination: destination.into(),
            port,
            bytes_out,
            bytes_in,
            at,
            duration_ms: lasted.map(|lasted| u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)),
            process,
            name: None.into(),
            program: program.into(),
        }))
    }
}

/// Which process sent it, as far as the kernel tells.
fn doer(senders: Option<&Senders>, packet: &Packet, inside: i32) -> Option<Doer> {
    let sender = senders?.of(packet)?;
    Some(look(sender.pid, sender.at, inside))
}
