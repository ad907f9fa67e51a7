//! What was seen of cells, as entries: denied packets, ended flows, what the kernel could not keep.

use std::net::Ipv4Addr;
use std::time::Instant;

use sulku_audit::{Draft, Event};
use sulku_permit::SessionId;
use sulku_plan::{Denied, Report};

use super::Warden;
use crate::cell::Cell;
use crate::network::{Denial, Flow, Sighting};
use crate::seen::{Doer, Packet, Senders, look};

/// Packets of flow ends that are read when a session ends; each holds several.
const FLOW_PACKETS_MAX: usize = 4_096;
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Warden {
    /// Takes in what the router has seen.
    pub(super) fn look(&mut self) {
        let seen = self.ways.sightings();
        self.take_in(seen);
    }

    /// Takes in the flows that have just been ended, all of them.
    pub(super) fn look_to_the_end(&mut self) {
        for _ in 0..FLOW_PACKETS_MAX {
            let seen = self.ways.sightings();
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
        for sighting in seen {
            match sighting {
                Sighting::Denied(denial) => {
                    if let Some(draft) = self.denied(&denial, now) {
                        self.deny(draft, now);
                    }
                }
                Sighting::Ended(flow) => {
                    if let Some(draft) = self.ended(&flow) {
                        self.record(draft);
                    }
                }
                Sighting::Lost(what, count) => self.losses.note(what, count),
            }
        }
    }

    /// Something was denied: an entry, and a word to the holder while there are not too many.
    pub(super) fn deny(&mut self, draft: Draft, now: Instant) {
        let told = draft.session.zip(in_words(&draft.event));
        self.record(draft);
        let Some((session, denied)) = told else { return };
        let Some(cell) = self.cells.get_mut(&session) else { return };
        let Some(more) = cell.denials.may_tell(now) else { return };
        let denied = Denied { more, ..denied };
        // A cell's first packet may be seen before its first process has said that it runs.
        if cell.is_starting() {
            cell.denials.hold(denied);
        } else {
            self.report(&Report::Denied { session, denied });
        }
    }

    /// Tells what was held until the gateway knew of the cell.
    pub(super) fn tell_what_was_held(&mut self, session: SessionId) {
        let held = self.cells.get_mut(&session).map(|cell| cell.denials.held()).unwrap_or_default();
        for denied in held {
            self.report(&Report::Denied { session, denied });
        }
    }

    fn denied(&mut self, denial: &Denial, now: Instant) -> Option<Draft> {
        // A packet under a false address has no mark; the link it came over says whose it is. Of a cell that is being reaped every
        // packet is without a mark, and it is being reaped.
        let session = if denial.mark == 0 { self.cells.by_link(denial.interface) } else { self.cells.by_mark(denial.mark) }?;
        let cell = self.cells.get_mut(&session)?;
        if denial.mark == 0 && !cell.is_running() {
            return None;
        }
        let (inside, senders) = (cell.pid(), self.senders.as_ref());
        let Denial { protocol, source, source_port, destination, port, .. } = *denial;
        let sender = || doer(senders, &Packet { protocol, source, source_port, destination, port }, inside);
        let event = cell.denials.note(denial, now, sender)?;
        Some(cell.draft(event))
    }

    fn ended(&mut self, flow: &Flow) -> Option<Draft> {
        let Flow { mark, protocol, source, source_port, destination, port, bytes_out, bytes_in, lasted } = *flow;
        let session = self.cells.by_mark(mark)?;
        let cell = self.cells.get_mut(&session)?;
        let began = doer(self.senders.as_ref(), &Packet { protocol, source, source_port, destination, port }, cell.pid());
        let (process, program) = began.map_or((None, None), |Doer { process, program }| (Some(process), program));
        let name = cell.grant.named.name_of_flow(source_port, destination, protocol, port).map(|name| name.to_string());
        let (protocol, at) = Cell::allowed_by(cell, protocol, Ipv4Addr::from(destination.octets()), port)?;
        cell.carried = (cell.carried.0.saturating_add(bytes_out), cell.carried.1.saturating_add(bytes_in));
        Some(cell.draft(Event::EgressAllowed {
            protocol,
            destination: destination.into(),
            port,
            bytes_out,
            bytes_in,
            at,
            duration_ms: lasted.map(|lasted| u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)),
            process,
            name: name.into(),
            program: program.into(),
        }))
    }
}

/// A denial as its holder is told; nothing for what is none.
fn in_words(event: &Event) -> Option<Denied> {
    match event {
        Event::EgressDenied { protocol, destination, port, reason, name, .. } => Some(Denied {
            name: name.known().cloned().flatten(),
            to: Some(*destination),
            port: *port,
            protocol: *protocol,
            reason: (*reason)?.as_str().to_owned(),
            more: 0,
        }),
        Event::NameDenied { reason, name, .. } => {
            Some(Denied { name: name.known().cloned(), to: None, port: 0, protocol: UDP, reason: format!("name-{reason}"), more: 0 })
        }
        Event::ConnectionDenied { destination, port, reason, name, .. } => Some(Denied {
            name: name.known().cloned().flatten(),
            to: Some(*destination),
            port: *port,
            protocol: TCP,
            reason: format!("connection-{reason}"),
            more: 0,
        }),
        _ => None,
    }
}

/// Which process sent it, as far as the kernel tells.
fn doer(senders: Option<&Senders>, packet: &Packet, inside: i32) -> Option<Doer> {
    let sender = senders?.of(packet)?;
    Some(look(sender.pid, sender.at, inside))
}
