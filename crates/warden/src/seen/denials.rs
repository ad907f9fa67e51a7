//! Denied packets of one session, gathered so that a flood becomes few entries and no packet goes uncounted.
//!
//! The first packet to a destination is told at once, with who sent it; more of them within [`WINDOW`] are counted and told together,
//! without a sender, since they may have had several. It decides nothing about packets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use sulku_audit::{Event, WhyDenied};
use sulku_plan::Denied;

use super::Doer;
use crate::network::Denial;

/// How long packets to one destination are gathered.
const WINDOW: Duration = Duration::from_secs(5);
/// Destinations that are told apart within a window. A scan of more is counted under the last of them.
const DESTINATIONS_MAX: usize = 64;

/// A session's denied packets.
#[derive(Debug, Default)]
pub struct Denials {
    recent: BTreeMap<Target, Gathered>,
    /// Packets that got no line of their own, and the last such.
    uncounted: Option<(Target, u64)>,
    last: Option<Instant>,
    ration: Ration,
}

/// So many denials are told to the holder in a ration's time; the ledger has them all.
const RATION: u32 = 10;
const RATION_LASTS: Duration = Duration::from_secs(10);

/// What the holder is told of.
#[derive(Debug, Default)]
struct Ration {
    since: Option<Instant>,
    told: u32,
    untold: u64,
    /// For when the gateway knows of the cell; a ration at most.
    held: Vec<Denied>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    protocol: u8,
    destination: Ipv4Addr,
    port: u16,
    reason: WhyDenied,
}

#[derive(Debug)]
struct Gathered {
    since: Instant,
    packets: u64,
}

impl Denials {
    /// Takes a packet in; the event to write now, if it is the first to its destination. Only then is asked who sent it.
    pub fn note(&mut self, denial: &Denial, now: Instant, sender: impl FnOnce() -> Option<Doer>) -> Option<Event> {
        let Denial { protocol, destination, port, reason, source_port, .. } = *denial;
        let target = Target { protocol, destination, port, reason };
        if let Some(gathered) = self.recent.get_mut(&target) {
            gathered.packets += 1;
            return None;
        }
        if self.recent.len() >= DESTINATIONS_MAX {
            self.count(target, 1, now);
            return None;
        }
        self.recent.insert(target, Gathered { since: now, packets: 0 });
        Some(target.denied(0, Some(source_port), sender()))
    }

    /// The events of windows that have closed; of all, if `until` is far enough.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        let closed = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        let mut events = Vec::new();
        self.recent.retain(|target, gathered| {
            let keep = !closed(gathered.since);
            if !keep && gathered.packets > 0 {
                events.push(target.denied(gathered.packets - 1, None, None));
            }
            keep
        });
        if self.last.is_some_and(closed)
            && let Some((target, packets)) = self.uncounted.take()
        {
            events.push(target.denied(packets - 1, None, None));
        }
        events
    }

    /// All that is still untold: for the end of the session.
    pub fn rest(&mut self) -> Vec<Event> {
        self.due(Instant::now() + 2 * WINDOW)
    }

    /// Whether the holder is to be told of one now, and if so, of how many others she was not.
    pub fn may_tell(&mut self, now: Instant) -> Option<u64> {
        let Ration { since, told, untold, held: _ } = &mut self.ration;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= RATION_LASTS) {
            (*since, *told) = (Some(now), 0);
        }
        if *told >= RATION {
            *untold += 1;
            return None;
        }
        *told += 1;
        Some(std::mem::take(untold))
    }

    /// Keeps one that may be told, but not yet.
    pub fn hold(&mut self, denied: Denied) {
        self.ration.held.push(denied);
        self.ration.held.truncate(RATION as usize);
    }

    /// Those that were kept.
    pub fn held(&mut self) -> Vec<Denied> {
        std::mem::take(&mut self.ration.held)
    }

    fn count(&mut self, target: Target, packets: u64, now: Instant) {
        let before = self.uncounted.map_or_else(
            || {
                self.last = Some(now);
                0
            },
            |(_, packets)| packets,
        );
        self.uncounted = Some((target, before + packets));
    }
}

impl Target {
    /// One entry for this packet and `suppressed` more.
    fn denied(self, suppressed: u64, source_port: Option<u16>, sender: Option<Doer>) -> Event {
        let Self { protocol, destination, port, reason } = self;
        let (process, program) = sender.map_or((None, None), |Doer { process, program }| (Some(process), program));
        Event::EgressDenied {
            protocol,
            destination: IpAddr::V4(destination),
            port,
            suppressed,
            source_port: source_port.filter(|port| *port > 0),
            reason: Some(reason),
            at: None,
            process,
            name: None.into(),
            program: program.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(port: u16) -> Denial {
        let (source, destination) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 1));
        Denial { mark: 1, interface: 1000, protocol: 6, source, source_port: 40_000, destination, port, reason: WhyDenied::NotListed }
    }

    fn packets(events: &[Event]) -> u64 {
        let of = |event: &Event| if let Event::EgressDenied { suppressed, .. } = event { suppressed + 1 } else { 0 };
        events.iter().map(of).sum()
    }

    /// NW-04: every denied packet is in an entry or in the count of one.
    #[test]
    fn every_denied_packet_is_counted_once_however_they_come() {
        let start = Instant::now();
        let mut denials = Denials::default();
        let mut events = Vec::new();
        let mut sent = 0;
        for round in 0..3_u32 {
            let now = start + round * 2 * WINDOW;
            for port in 1..=300 {
                for _ in 0..=port % 3 {
                    events.extend(denials.note(&denial(port), now, || None));
                    sent += 1;
                }
            }
            events.extend(denials.due(now + WINDOW));
        }
        events.extend(denials.rest());
        assert_eq!(packets(&events), sent);
        assert!(events.len() < 3 * (2 * DESTINATIONS_MAX + 2), "a scan gave {} entries", events.len());
    }

    #[test]
    fn a_holder_is_told_of_few_and_of_how_many_more_there_were() {
        let start = Instant::now();
        let mut denials = Denials::default();
        let told: Vec<_> = (0..1_000).filter_map(|millis| denials.may_tell(start + Duration::from_millis(millis))).collect();
        assert_eq!(told, vec![0; RATION as usize]);
        assert_eq!(denials.may_tell(start + RATION_LASTS), Some(1_000 - u64::from(RATION)));
    }

    #[test]
    fn the_first_packet_to_a_destination_is_told_at_once() {
        let mut denials = Denials::default();
        assert!(denials.note(&denial(80), Instant::now(), || None).is_some());
        assert!(denials.note(&denial(80), Instant::now(), || None).is_none());
        assert!(denials.note(&denial(81), Instant::now(), || None).is_some());
    }
}
