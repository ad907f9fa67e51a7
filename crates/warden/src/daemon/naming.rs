//! What follows from the resolver: names become elements, denials become entries, and one that has ended is replaced.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use sulku_audit::{Event, Private};
use sulku_permit::{HostName, NameCheck, SessionId};
use sulku_plan::naming::{Denied, Finding};

use super::Warden;
use crate::cell::Cell;
use crate::naming::{Asker, Times, ways};
use crate::network::Look;

impl Warden {
    /// Starts a resolver where there should be one and is none.
    pub(super) fn look_after_the_resolver(&mut self, now: Instant) {
        let Some(naming) = self.naming.as_mut().filter(|naming| naming.is_due(now)) else { return };
        let askers = self.cells.values().filter(|cell| cell.is_alive() && cell.orphaned_until.is_none()).filter_map(asker);
        let Some(namespace) = self.ways.namespace() else { return };
        if let Err(error) = naming.start(namespace, askers, now) {
            self.resolver_lost(&format!("it could not be started: {error}"));
        }
    }

    /// Tells the resolver of a session that may ask for names, before a packet of it can pass.
    pub(super) fn let_ask(&mut self, session: SessionId) {
        let asker = self.cells.get(&session).and_then(asker);
        if let (Some(naming), Some(asker)) = (&mut self.naming, asker) {
            naming.open(asker);
        }
    }

    pub(super) fn hear_resolver(&mut self) {
        let Some(naming) = &mut self.naming else { return };
        naming.flush();
        match naming.hear() {
            Ok(findings) => findings.into_iter().for_each(|finding| self.take_finding(finding)),
            Err(reason) => self.resolver_lost(&reason),
        }
    }

    pub(super) fn resolver_ended(&mut self) {
        // What it had said before it ended still counts, as far as it makes sense.
        self.hear_resolver();
        if let Some(reason) = self.naming.as_ref().and_then(crate::naming::Naming::ended) {
            self.resolver_lost(&reason);
        }
    }

    fn resolver_lost(&mut self, reason: &str) {
        let Some(naming) = &mut self.naming else { return };
        let wait = naming.give_up(Instant::now());
        tracing::error!(reason, again_in_ms = wait.as_millis(), "the resolver has ended; until the next one serves, no name has an answer");
        let again_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.record(sulku_audit::Draft::new(Event::ResolverEnded { reason: reason.chars().take(500).collect(), again_in_ms }));
    }

    fn take_finding(&mut self, finding: Finding) {
        match finding {
            // Said once, and heard where it is said.
            Finding::Ready { .. } => {}
            Finding::Resolved { question, session, name, addresses, ttl_s } => {
                let opened = self.open_name(session, &name, &addresses, ttl_s);
                let Some(naming) = &mut self.naming else { return };
                match opened {
                    Ok(()) => naming.opened(question),
                    Err(reason) => {
                        tracing::warn!(%session, reason, "a name's addresses were not opened");
                        naming.refused(question);
                    }
                }
            }
            Finding::Passed { session, port, to, name } => {
                if let (Some(cell), IpAddr::V4(address)) = (self.cells.get_mut(&session), to.ip()) {
                    cell.grant.named.pass(port, address, to.port(), name);
                }
            }
            Finding::Denied { session, what, suppressed } => {
                let draft = self.cells.get(&session).filter(|cell| cell.is_alive()).map(|cell| cell.draft(denied(cell, what, suppressed)));
                if let Some(draft) = draft {
                    self.deny(draft, Instant::now());
                }
            }
        }
    }

    /// Writes a name's addresses into the kernel's sets. When this returns, they are there.
    fn open_name(&mut self, session: SessionId, name: &HostName, addresses: &[IpAddr], ttl_s: u32) -> Result<(), String> {
        let (Some(naming), Some(cell)) = (&mut self.naming, self.cells.get_mut(&session)) else { return Err("there is no such session".to_owned()) };
        if !cell.is_alive() || cell.orphaned_until.is_some() {
            return Err("the session is over".to_owned());
        }
        let now = Timestamp::now();
        let times = Times { now, ends: cell.ends.0, ttl_s };
        let ways = ways(cell.plan.named(), naming.own(), name, addresses, times).map_err(|refused| refused.to_string())?;
        let (ways, gone) = cell.grant.named.weigh(ways, now).map_err(|full| full.to_string())?;
        let checked = ways.iter().filter(|way| way.look == Look::Checked).map(|way| (way.address, way.lasts)).collect::<Vec<_>>();
        let dialled = naming.undialled(&checked);
        self.ways.let_dial(&dialled, now).map_err(|error| format!("the kernel refused: {error}"))?;
        naming.note_dialled(&dialled, now);
        self.ways.open_ways(&cell.grant, &ways, &gone, now).map_err(|error| format!("the kernel refused: {error}"))?;
        cell.grant.named.note(name, &ways, &gone);
        Ok(())
    }
}

/// The session as the resolver is to know it, if it lists names. What is shut comes first.
fn asker(cell: &Cell) -> Option<Asker> {
    let mut listed: Vec<_> = cell.plan.named().iter().map(|hosts| hosts.listed.clone()).collect();
    listed.sort_by_key(|listed| listed.check != NameCheck::Closed);
    (!listed.is_empty()).then(|| Asker { session: cell.opening.session(), address: cell.address, listed })
}

fn denied(cell: &Cell, what: Denied, suppressed: u64) -> Event {
    let program = Private::from(None);
    match what {
        Denied::Question { name, record, why } => {
            let at = line_of(cell, &name);
            Event::NameDenied { record, reason: word(why), suppressed, at, process: None, name: Private::from(name), program }
        }
        Denied::Connection { to, name, why } => {
            let at = name.as_deref().and_then(|name| line_of(cell, name));
            let (destination, port) = (SocketAddr::ip(&to), to.port());
            Event::ConnectionDenied { destination, port, reason: word(why), suppressed, at, process: None, name: Private::from(name), program }
        }
    }
}

/// A reason's stable name.
fn word(why: impl Serialize) -> String {
    serde_json::to_value(why).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The permit's line that means a name, if one does: the one that shuts it first.
fn line_of(cell: &Cell, name: &str) -> Option<String> {
    let name: HostName = name.parse().ok()?;
    let meant = cell.plan.named().iter().filter(|hosts| hosts.listed.names.means(&name));
    meant.min_by_key(|hosts| hosts.listed.check != NameCheck::Closed).map(|hosts| hosts.at.to_string())
}
