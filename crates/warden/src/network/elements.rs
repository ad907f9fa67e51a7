//! One session's elements in the router's sets and maps: written and removed over a long-lived netlink socket, in microseconds.
//!
//! Every element carries a kernel time-out that ends with the session, so that a permit's end cuts its traffic even if the warden
//! is dead. The warden only names marks that it has given out itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use sulku_permit::{Port, Protocol};
use sulku_plan::naming::{DNS_PORT, RESOLVER};
use sulku_plan::ruleset::{
    ALLOWED, ALLOWED_BYTES, ALLOWED_RATE, CHECKED, DIALLED, NAMED, NAMED_BYTES, NAMED_OPEN, NAMED_RATE, NETWORKS, NETWORKS_BYTES, NETWORKS_RATE,
    RELAYED, RESOLVER_USER, SESSIONS, UPSTREAM,
};

use super::batch::{Batch, Element, Gives};
use super::budgets::Budgets;
use super::grant::{Grant, Open, Purse, place};
use super::named::{Look, Way};
use super::netlink::{Part, Socket};
use crate::relay::Relay;

/// What bounds a destination stays a little longer than what opens it.
const BUDGETS_STAY_MS: u64 = 60_000;

/// Where a cell that may ask for names asks.
const QUESTIONS: [Port; 2] = [Port { number: DNS_PORT, protocol: Protocol::Udp }, Port { number: DNS_PORT, protocol: Protocol::Tcp }];

/// How long something lasts from now on.
#[derive(Clone, Copy)]
struct Clock(Timestamp);

impl Clock {
    fn ms_until(self, end: Timestamp) -> u64 {
        u64::try_from(end.duration_since(self.0).as_millis()).unwrap_or_default()
    }
}

/// The writer of elements, and of the relay's list of living cells where there is one: whoever may pass the one passes the other.
#[derive(Debug)]
pub struct Elements {
    socket: Socket,
    relay: Option<Relay>,
    /// What stands as long as the router does.
    standing: Vec<(&'static str, Vec<Element>)>,
}

/// Whether a session's packets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// They do.
    Open,
    /// They do not until it is resumed; what it had open and what its budgets have left is kept for it.
    Suspended,
}

/// A session that the router has elements of, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'a> {
    /// What it may do.
    pub grant: &'a Grant,
    /// Its end.
    pub ends: Timestamp,
    /// Whether its packets pass.
    pub passage: Passage,
}

/// All sets and maps that hold elements.
const SETS: [&str; 16] = [
    SESSIONS,
    ALLOWED,
    NETWORKS,
    NAMED,
    NAMED_OPEN,
    CHECKED,
    ALLOWED_BYTES,
    ALLOWED_RATE,
    NETWORKS_BYTES,
    NETWORKS_RATE,
    NAMED_BYTES,
    NAMED_RATE,
    RESOLVER_USER,
    UPSTREAM,
    DIALLED,
    RELAYED,
];
/// What opens destinations that are listed by address, and what bounds them: single addresses, and networks.
const LISTED: [Listed; 2] = [
    Listed { single: true, open: ALLOWED, bytes: ALLOWED_BYTES, rate: ALLOWED_RATE },
    Listed { single: false, open: NETWORKS, bytes: NETWORKS_BYTES, rate: NETWORKS_RATE },
];

/// Where destinations of one kind stand.
struct Listed {
    single: bool,
    open: &'static str,
    bytes: &'static str,
    rate: &'static str,
}

impl Elements {
    /// Opens the socket in the network namespace in which this runs: the router's.
    pub(super) fn open(relay: Option<Relay>) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Part::Filter, 0)?.with_room()?, relay, standing: Vec::new() })
    }

    /// Turns connections to the relay, where there is one.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn turn_to_relay(&mut self) -> io::Result<()> {
        let relayed = self.relay.is_some().then(|| Element::new(vec![Protocol::Tcp.number()]));
        self.let_stand(vec![(RELAYED, relayed.into_iter().collect())])
    }

    fn let_stand(&mut self, elements: Vec<(&'static str, Vec<Element>)>) -> io::Result<()> {
        let mut batch = Batch::default();
        elements.iter().for_each(|(set, elements)| batch.add(set, elements));
        batch.commit(&self.socket)?;
        self.standing.extend(elements);
        Ok(())
    }

    /// The relay, where there is one.
    #[must_use]
    pub const fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Lets the resolver's user ask these, and nobody else.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn serve_names(&mut self, uid: u32, upstream: &[SocketAddr]) -> io::Result<()> {
        let user = vec![Element::new(uid.to_ne_bytes().to_vec())];
        let key = |address: Ipv4Addr, protocol: Protocol, port: u16| place([0; 4], address, Port { number: port, protocol })[4..].to_vec();
        let asked = upstream.iter().filter_map(|to| match to {
            SocketAddr::V4(to) => Some([Protocol::Udp, Protocol::Tcp].map(|protocol| Element::new(key(*to.ip(), protocol, to.port())))),
            SocketAddr::V6(_) => None,
        });
        let asked = asked.flatten().collect();
        self.let_stand(vec![(RESOLVER_USER, user), (UPSTREAM, asked)])
    }

    /// Lets the session's packets through for so long, and to each destination until that closes. What it has open by name is written
    /// too, as far as its time is not over.
    ///
    /// # Errors
    /// The kernel refused; nothing of the session is there then.
    pub fn admit(&self, grant: &Grant, now: Timestamp, ends: Timestamp) -> io::Result<()> {
        if let Some(relay) = &self.relay {
            relay.open(grant.address)?;
        }
        let clock = Clock(now);
        let mut batch = Batch::default();
        for purse in grant.purses() {
            purse.bytes(grant.mark).into_iter().for_each(|(name, bytes)| batch.add_quota(&name, bytes, 0));
            purse
                .rate(grant.mark)
                .into_iter()
                .for_each(|(name, rate)| batch.add_limit(&name, rate.connections, rate.per.seconds(), rate.connections));
        }
        self.put_session(&mut batch, &Admitted { grant, ends, passage: Passage::Open }, clock);
        batch.commit(&self.socket)
    }

    fn put_session(&self, batch: &mut Batch, session: &Admitted<'_>, clock: Clock) {
        let Admitted { grant, ends, passage } = *session;
        let lasts_ms = clock.ms_until(ends).max(1);
        for listed in LISTED {
            let (mut open, mut bytes, mut rates) = (Vec::new(), Vec::new(), Vec::new());
            for to in self.carried(grant).filter(|to| to.is_single() == listed.single) {
                let open_ms = to.until.map_or(lasts_ms, |until| clock.ms_until(until).min(lasts_ms));
                if open_ms > 0 {
                    open.push(grant.listed(to).lasting(open_ms));
                    spend(to.spends, grant, grant.listed(to).lasting(open_ms + BUDGETS_STAY_MS), &mut bytes, &mut rates);
                }
            }
            batch.add(listed.bytes, &bytes);
            batch.add(listed.rate, &rates);
            batch.add(listed.open, &open);
        }
        if !grant.hosts.is_empty() {
            batch.add(NAMED, &QUESTIONS.map(|port| grant.single(RESOLVER, port).lasting(lasts_ms)));
        }
        let ways: Vec<_> = grant.named.ways().cloned().collect();
        self.put_ways(batch, grant, &ways, clock);
        if passage == Passage::Open {
            batch.add(SESSIONS, &[grant.session().giving(Gives::Mark(grant.mark)).lasting(lasts_ms)]);
        }
    }

    /// Writes everything anew, in one transaction, in place of whatever is in the sets: what stands as long as the router does, these
    /// sessions, and where the resolver may connect to. Gives the number of budgets that had to be taken for used up.
    ///
    /// # Errors
    /// The kernel refused; everything is as it was.
    pub(super) fn rewrite(
        &self,
        sessions: &[Admitted<'_>],
        dialled: &[(Ipv4Addr, Timestamp)],
        budgets: &Budgets<'_>,
        now: Timestamp,
    ) -> io::Result<u64> {
        let clock = Clock(now);
        let mut batch = Batch::default();
        SETS.iter().for_each(|set| batch.empty(set));
        let mut taken = 0;
        for Admitted { grant, .. } in sessions {
            for purse in grant.purses() {
                taken += u64::from(budgets.put(&mut batch, purse, grant.mark));
            }
        }
        self.standing.iter().for_each(|(set, elements)| batch.add(set, elements));
        batch.add(DIALLED, &dialled.iter().map(|to| dialled_until(to, clock)).collect::<Vec<_>>());
        sessions.iter().for_each(|session| self.put_session(&mut batch, session, clock));
        batch.commit(&self.socket)?;
        Ok(taken)
    }

    /// The socket over which elements are written.
    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Opens these ways of the session, in place of what stood there, and closes those. The kernel has done so when this returns.
    ///
    /// # Errors
    /// The kernel refused; everything is as it was.
    pub fn open_ways(&self, grant: &Grant, ways: &[Way], gone: &[Way], now: Timestamp) -> io::Result<()> {
        let mut batch = Batch::default();
        take_ways(&mut batch, grant, gone);
        take_ways(&mut batch, grant, ways);
        self.put_ways(&mut batch, grant, ways, Clock(now));
        batch.commit(&self.socket)
    }

    /// Lets the resolver connect to these until then.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn let_dial(&self, to: &[(Ipv4Addr, Timestamp)], now: Timestamp) -> io::Result<()> {
        let clock = Clock(now);
        let dialled: Vec<_> = to.iter().map(|to| dialled_until(to, clock)).collect();
        let mut batch = Batch::default();
        batch.destroy(DIALLED, &dialled);
        batch.add(DIALLED, &dialled);
        batch.commit(&self.socket)
    }

    /// Lets nothing of the session through until it is resumed, in either direction. What it has open stays as it is, and so does what its
    /// budgets have left.
    ///
    /// # Errors
    /// The kernel refused. A session that has no element is none: that is what was asked.
    pub fn suspend(&self, grant: &Grant) -> io::Result<()> {
        // The session's element alone lets it through.
        let mut session = Batch::default();
        session.destroy(SESSIONS, &[grant.session()]);
        let cut = session.commit(&self.socket);
        // What has passed the router already is in the relay's hands.
        let closed = self.relay.as_ref().map_or(Ok(()), |relay| relay.close(grant.address));
        cut.and(closed)
    }

    /// Lets a session's packets through again that was suspended, until then.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn resume(&self, grant: &Grant, now: Timestamp, ends: Timestamp) -> io::Result<()> {
        if let Some(relay) = &self.relay {
            relay.open(grant.address)?;
        }
        let mut session = Batch::default();
        let lasts_ms = Clock(now).ms_until(ends).max(1);
        session.add(SESSIONS, &[grant.session().giving(Gives::Mark(grant.mark)).lasting(lasts_ms)]);
        session.commit(&self.socket)
    }

    /// Lets nothing of the session through any more, in either direction.
    ///
    /// # Errors
    /// The kernel refused. A session that has no elements is none: that is what was asked.
    pub fn revoke(&self, grant: &Grant) -> io::Result<()> {
        // It cuts the session off, so it goes first and by itself.
        self.suspend(grant)?;
        let mut rest = Batch::default();
        for listed in LISTED {
            let those: Vec<_> = self.carried(grant).filter(|to| to.is_single() == listed.single).collect();
            let (mut bytes, mut rates) = (Vec::new(), Vec::new());
            those.iter().for_each(|to| spend(to.spends, grant, grant.listed(to), &mut bytes, &mut rates));
            rest.destroy(listed.open, &those.iter().map(|to| grant.listed(to)).collect::<Vec<_>>());
            rest.destroy(listed.bytes, &bytes);
            rest.destroy(listed.rate, &rates);
        }
        if !grant.hosts.is_empty() {
            rest.destroy(NAMED, &QUESTIONS.map(|port| grant.single(RESOLVER, port)));
        }
        take_ways(&mut rest, grant, &grant.named.ways().cloned().collect::<Vec<_>>());
        // After all that spends from them.
        for purse in grant.purses() {
            purse.bytes(grant.mark).into_iter().for_each(|(name, _)| rest.destroy_quota(&name));
            purse.rate(grant.mark).into_iter().for_each(|(name, _)| rest.destroy_limit(&name));
        }
        rest.commit(&self.socket)
    }

    /// What leads out: a link carries every packet, a relay connections alone. A datagram that nobody carries on is as good as denied.
    fn carries(&self, port: Port) -> bool {
        self.relay.is_none() || port.protocol == Protocol::Tcp
    }

    fn carried<'a>(&self, grant: &'a Grant) -> impl Iterator<Item = &'a Open> + use<'_, 'a> {
        grant.to.iter().filter(|open| self.carries(open.port))
    }

    fn put_ways(&self, batch: &mut Batch, grant: &Grant, ways: &[Way], clock: Clock) {
        let (mut bytes, mut rates) = (Vec::new(), Vec::new());
        let (mut fresh, mut open) = (Vec::new(), Vec::new());
        for way in ways.iter().filter(|way| self.carries(way.port)) {
            let (fresh_ms, open_ms) = (clock.ms_until(way.lasts), clock.ms_until(way.closes));
            let single = |ms| grant.single(way.address, way.port).lasting(ms);
            if open_ms > 0 {
                fresh.extend((fresh_ms > 0).then(|| single(fresh_ms.min(open_ms))));
                open.push(single(open_ms));
                spend(grant.purse_of(way), grant, single(open_ms + BUDGETS_STAY_MS), &mut bytes, &mut rates);
            }
        }
        // What bounds and what looks come before what opens.
        batch.add(NAMED_BYTES, &bytes);
        batch.add(NAMED_RATE, &rates);
        let look = |way: &Way| grant.checked(way.address).lasting(clock.ms_until(way.closes) + BUDGETS_STAY_MS);
        batch.add(CHECKED, &checked(ways, look));
        batch.add(NAMED_OPEN, &open);
        batch.add(NAMED, &fresh);
    }
}

fn dialled_until((address, until): &(Ipv4Addr, Timestamp), clock: Clock) -> Element {
    let key = [&address.octets()[..], &443_u16.to_be_bytes(), &[0, 0]].concat();
    Element::new(key).lasting(clock.ms_until(*until).max(1))
}

/// Puts the element into the lists of what bounds it.
fn spend(purse: Option<Purse>, grant: &Grant, element: Element, bytes: &mut Vec<Element>, rates: &mut Vec<Element>) {
    let Some(purse) = purse else { return };
    bytes.extend(purse.bytes(grant.mark).map(|(name, _)| element.clone().giving(Gives::Object(name))));
    rates.extend(purse.rate(grant.mark).map(|(name, _)| element.giving(Gives::Object(name))));
}

/// An address that is looked at stays so as long as anything is open there, so that no connection slips by in between.
fn checked<'a>(ways: &'a [Way], element: impl Fn(&Way) -> Element + 'a) -> Vec<Element> {
    ways.iter().filter(|way| way.look == Look::Checked).map(element).collect()
}

fn take_ways(batch: &mut Batch, grant: &Grant, ways: &[Way]) {
    let singles: Vec<_> = ways.iter().map(|way| grant.single(way.address, way.port)).collect();
    batch.destroy(NAMED, &singles);
    batch.destroy(NAMED_OPEN, &singles);
    let (mut bytes, mut rates) = (Vec::new(), Vec::new());
    ways.iter().for_each(|way| spend(grant.purse_of(way), grant, grant.single(way.address, way.port), &mut bytes, &mut rates));
    batch.destroy(NAMED_BYTES, &bytes);
    batch.destroy(NAMED_RATE, &rates);
    batch.destroy(CHECKED, &checked(ways, |way| grant.checked(way.address)));
}
