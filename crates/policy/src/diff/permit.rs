//! What changes in one permit.

use std::cmp::Ordering;

use ipnet::IpNet;
use jiff::Timestamp;
use sulku_permit::{
    Destination, Holder, HolderId, OutputChecker, Permit, Place, Programs, Recording, Resources, SessionLimits, Status, TerminalRecording, Validity,
};

use super::words::{self, list};
use super::{Change, Effect, egress};

/// A permit that was not there.
pub(super) fn new(permit: &Permit) -> Change {
    let holders = list(permit.holders.iter().map(|holder| format!("{} ({}), {}", holder.id, holder.name, words::roles(&holder.roles))));
    let data = list(permit.datasets.iter().map(words::dataset));
    let reach = list(permit.egress.iter().map(words::destination));
    let what = format!(
        "is new, {}, until {}: {holders}; data: {data}; reach: {reach}; workspace {}",
        permit.status.name(),
        words::time(permit.validity.until),
        permit.workspace.name
    );
    Change { permit: Some(permit.id.clone()), person: None, effect: Effect::Widens, what, at: Some(permit.at.clone()) }
}

/// A permit that is there no more.
pub(super) fn gone(permit: &Permit) -> Change {
    let holders = list(permit.holders.iter().map(|holder| format!("{} ({})", holder.id, holder.name)));
    let what = format!("is gone: {holders} can no longer use workspace {}", permit.workspace.name);
    Change { permit: Some(permit.id.clone()), person: None, effect: Effect::Narrows, what, at: None }
}

/// All that changes from one text of a permit to another.
pub(super) fn changes(old: &Permit, new: &Permit) -> Vec<Change> {
    // Taken apart field by field, so that a field that nobody compares does not compile.
    let Permit {
        id: _,
        version,
        status,
        status_at: _,
        replaces,
        suspended,
        title,
        purpose,
        issuer,
        controller,
        validity,
        holders,
        output_checkers,
        workspace,
        datasets: _,
        egress,
        session,
        resources,
        recording,
        workspace_retention_days,
        minimum_rung,
        minimum_assurance,
        at,
    } = new;
    let mut notes = Notes { permit: new, changes: Vec::new() };
    notes.plain(old.version != *version, format!("is version {version} now"), at);
    notes.status(old.status, *status, &new.status_at);
    notes.plain(old.replaces != *replaces, format!("replaces {} now", replaces.as_ref().map_or("none", |id| id.as_str())), at);
    match (&old.suspended, suspended) {
        (None, Some(suspension)) => {
            notes.add(Effect::Narrows, format!("is suspended, and its sessions end: {}", suspension.reason), Some(&suspension.at));
        }
        (Some(_), None) => notes.add(Effect::Widens, "is suspended no more".to_owned(), Some(at)),
        (Some(before), Some(now)) => notes.plain(before.reason != now.reason, format!("stays suspended: {}", now.reason), &now.at),
        (None, None) => {}
    }
    notes.plain(old.title != *title, format!("is called {title:?} now"), at);
    notes.plain(old.purpose != *purpose, format!("its purpose is {purpose:?} now"), at);
    notes.plain(old.issuer != *issuer, format!("its issuer is {issuer} now"), at);
    notes.plain(old.controller != *controller, format!("its controller is {}, {} now", controller.name, list(&controller.contacts)), at);
    notes.validity(&old.validity, validity);
    notes.holders(&old.holders, holders);
    notes.checkers(&old.output_checkers, output_checkers);
    let moved = old.workspace.name != workspace.name || old.workspace.image != workspace.image;
    let image = workspace.image.as_ref().map_or_else(|| "the host".to_owned(), words::image);
    notes.wide(moved, format!("its workspace is {} on {image} now", workspace.name), &workspace.at);
    notes.datasets(old);
    notes.egress(&old.egress, egress);
    notes.session(&old.session, session);
    if old.workspace.programs != workspace.programs {
        let (effect, what) = match workspace.programs {
            Programs::Anywhere => (Effect::Widens, "runs programs from anywhere"),
            Programs::ImageOnly => (Effect::Narrows, "runs no programs but its system's"),
        };
        notes.add(effect, what.to_owned(), Some(&workspace.at));
    }
    notes.disk(old.workspace.disk_bytes, workspace.disk_bytes, &workspace.at);
    notes.resources(old.resources.clone(), resources.clone());
    notes.recording(old.recording, *recording);
    let kept = format!("its workspace is kept for {workspace_retention_days} days after its end, {} before", old.workspace_retention_days);
    notes.plain(old.workspace_retention_days != *workspace_retention_days, kept, at);
    let rung_at = minimum_rung.1.as_ref().unwrap_or(at);
    notes.ordered(minimum_rung.0.cmp(&old.minimum_rung.0), format!("asks for isolation {:?} at least", minimum_rung.0.name()), rung_at);
    let level = |assurance: &Option<(sulku_permit::Assurance, Place)>| assurance.as_ref().map(|(level, _)| *level);
    let asks = level(minimum_assurance).map_or("any certificate", sulku_permit::Assurance::name);
    let assurance_at = minimum_assurance.as_ref().map_or(at, |(_, at)| at);
    notes.ordered(level(minimum_assurance).cmp(&level(&old.minimum_assurance)), format!("asks for assurance of {asks} at least"), assurance_at);
    notes.changes
}

/// Collects the changes of a permit.
struct Notes<'a> {
    permit: &'a Permit,
    changes: Vec<Change>,
}

impl Notes<'_> {
    fn add(&mut self, effect: Effect, what: String, at: Option<&Place>) {
        self.changes.push(Change { permit: Some(self.permit.id.clone()), person: None, effect, what, at: at.cloned() });
    }

    fn about(&mut self, person: &HolderId, effect: Effect, what: String, at: Option<&Place>) {
        self.changes.push(Change { permit: Some(self.permit.id.clone()), person: Some(person.clone()), effect, what, at: at.cloned() });
    }

    fn plain(&mut self, differs: bool, what: String, at: &Place) {
        if differs {
            self.add(Effect::Neither, what, Some(at));
        }
    }

    fn wide(&mut self, differs: bool, what: String, at: &Place) {
        if differs {
            self.add(Effect::Widens, what, Some(at));
        }
    }

    /// A demand that grew narrows, one that shrank widens.
    fn ordered(&mut self, demand: Ordering, what: String, at: &Place) {
        if let Some(effect) = effect_of(demand.reverse()) {
            self.add(effect, what, Some(at));
        }
    }

    fn status(&mut self, old: Status, new: Status, at: &Place) {
        let ended = |status| matches!(status, Status::Revoked | Status::Expired);
        if old == new {
            return;
        }
        let effect = match (ended(old), ended(new)) {
            (false, true) => Effect::Narrows,
            (true, false) => Effect::Widens,
            _ => Effect::Neither,
        };
        let follows = if effect == Effect::Narrows { ", and its sessions end" } else { "" };
        self.add(effect, format!("is {} now, {} before{follows}", new.name(), old.name()), Some(at));
    }

    fn validity(&mut self, old: &Validity, new: &Validity) {
        if let Some(effect) = effect_of(old.from.cmp(&new.from)) {
            self.add(effect, format!("begins {}, {} before", words::time(new.from), words::time(old.from)), Some(&new.from_at));
        }
        if let Some(effect) = effect_of(new.until.cmp(&old.until)) {
            self.add(effect, format!("ends {}, {} before", words::time(new.until), words::time(old.until)), Some(&new.until_at));
        }
    }

    fn holders(&mut self, old: &[Holder], new: &[Holder]) {
        for holder in new {
            match old.iter().find(|known| known.id == holder.id) {
                Some(known) => self.holder(known, holder),
                None => {
                    let what = format!("{} ({}) becomes a holder: {}", holder.id, holder.name, words::roles(&holder.roles));
                    self.about(&holder.id, Effect::Widens, what, Some(&holder.at));
                }
            }
        }
        for holder in old.iter().filter(|holder| !new.iter().any(|known| known.id == holder.id)) {
            let what = format!("{} ({}) is no holder any more, and loses workspace {}", holder.id, holder.name, self.permit.workspace.name);
            self.about(&holder.id, Effect::Narrows, what, None);
        }
    }

    fn holder(&mut self, old: &Holder, new: &Holder) {
        let Holder { id, name, identity, roles, roles_at, from, until, revoked, at } = new;
        if old.name != *name {
            self.about(id, Effect::Neither, format!("{id} is called {name} now"), Some(at));
        }
        if old.identity != *identity {
            self.about(id, Effect::Widens, format!("{id} comes with {identity}, {} before", old.identity), Some(at));
        }
        for role in roles.iter().filter(|role| !old.roles.contains(role)) {
            self.about(id, Effect::Widens, format!("{id} becomes {}", role.name()), Some(roles_at));
        }
        for role in old.roles.iter().filter(|role| !roles.contains(role)) {
            self.about(id, Effect::Narrows, format!("{id} is no {} any more", role.name()), Some(roles_at));
        }
        let begins = |from: &Option<Timestamp>| from.unwrap_or(Timestamp::MIN);
        if let Some(effect) = effect_of(begins(&old.from).cmp(&begins(from))) {
            let when = from.map_or_else(|| "with the permit".to_owned(), words::time);
            self.about(id, effect, format!("{id}'s own time begins {when}"), Some(at));
        }
        let ends = |until: &Option<Timestamp>| until.unwrap_or(Timestamp::MAX);
        if let Some(effect) = effect_of(ends(until).cmp(&ends(&old.until))) {
            self.about(id, effect, format!("{id}'s own time ends {}, {} before", words::end(*until), words::end(old.until)), Some(at));
        }
        let since = |revoked: &Option<(Timestamp, Place)>| revoked.as_ref().map_or(Timestamp::MAX, |(since, _)| *since);
        if let Some(effect) = effect_of(since(revoked).cmp(&since(&old.revoked))) {
            let what = match revoked {
                Some((since, _)) => format!("{id}'s part is taken back from {} on, and her sessions end", words::time(*since)),
                None => format!("{id}'s part is taken back no more"),
            };
            self.about(id, effect, what, Some(revoked.as_ref().map_or(at, |(_, at)| at)));
        }
    }

    fn checkers(&mut self, old: &[OutputChecker], new: &[OutputChecker]) {
        let same = |one: &OutputChecker, other: &OutputChecker| one.id == other.id && one.identity == other.identity && one.name == other.name;
        for checker in new.iter().filter(|checker| !old.iter().any(|known| same(known, checker))) {
            let what = format!("{} ({}) decides on what leaves, with {}", checker.id, checker.name, checker.identity);
            self.add(Effect::Widens, what, Some(&checker.at));
        }
        for checker in old.iter().filter(|checker| !new.iter().any(|known| known.id == checker.id)) {
            self.add(Effect::Narrows, format!("{} ({}) no longer decides on what leaves", checker.id, checker.name), None);
        }
    }

    fn datasets(&mut self, old: &Permit) {
        let permit = self.permit;
        for dataset in &permit.datasets {
            match old.datasets.iter().find(|known| known.path == dataset.path && known.mounted_at == dataset.mounted_at) {
                None => self.add(Effect::Widens, format!("grants {} from {}", words::dataset(dataset), dataset.path.display()), Some(&dataset.at)),
                Some(known) => {
                    let described =
                        |dataset: &sulku_permit::Dataset| (dataset.name.clone(), dataset.manifest.clone(), dataset.persons, dataset.records);
                    self.plain(described(known) != described(dataset), format!("describes {} anew", words::dataset(dataset)), &dataset.at);
                }
            }
        }
        let kept = |dataset: &sulku_permit::Dataset| {
            permit.datasets.iter().any(|known| known.path == dataset.path && known.mounted_at == dataset.mounted_at)
        };
        for dataset in old.datasets.iter().filter(|dataset| !kept(dataset)) {
            self.add(Effect::Narrows, format!("no longer grants {}", words::dataset(dataset)), None);
        }
    }

    fn egress(&mut self, old: &[Destination], new: &[Destination]) {
        for destination in new.iter().filter(|destination| !egress::covered(destination, new, old)) {
            let (effect, does) = if egress::is_shut(destination) { (Effect::Narrows, "shuts") } else { (Effect::Widens, "opens") };
            self.add(effect, format!("{does} {}: {}", words::destination(destination), destination.reason), Some(&destination.at));
        }
        for destination in old.iter().filter(|destination| !egress::covered(destination, old, new)) {
            let (effect, does) = if egress::is_shut(destination) { (Effect::Widens, "shuts") } else { (Effect::Narrows, "opens") };
            let cut = new.iter().find(|known| known.name == destination.name).map(|known| &known.at);
            self.add(effect, format!("no longer {does} all of {}", words::destination(destination)), cut);
        }
        for destination in new {
            let said = |known: &Destination| (known.name.clone(), known.reason.clone(), known.owner.clone());
            let same = |known: &&Destination| known.to == destination.to && known.ports == destination.ports;
            let differs = old.iter().find(same).is_some_and(|known| said(known) != said(destination));
            self.plain(differs, format!("says of {}: {}", words::destination(destination), destination.reason), &destination.at);
        }
    }

    fn session(&mut self, old: &SessionLimits, new: &SessionLimits) {
        let SessionLimits { max_per_person, max_at_once, max_length, idle_disconnect, max_detached, from_networks, from_networks_at, hours } = new;
        let at = &self.permit.at;
        let mut limit = |order: Ordering, what: String| {
            if let Some(effect) = effect_of(order) {
                self.changes.push(Change { permit: Some(self.permit.id.clone()), person: None, effect, what, at: Some(at.clone()) });
            }
        };
        limit(max_per_person.cmp(&old.max_per_person), format!("allows {max_per_person} sessions a person, {} before", old.max_per_person));
        let bound = |number: &Option<u32>| number.unwrap_or(u32::MAX);
        let at_once = format!("allows {} at once, {} before", words::number(max_at_once), words::number(&old.max_at_once));
        limit(bound(max_at_once).cmp(&bound(&old.max_at_once)), at_once);
        let longest = format!("allows sessions of {}, {} before", words::length(*max_length), words::length(old.max_length));
        limit(max_length.cmp(&old.max_length), longest);
        let idle = format!("closes idle sessions after {}, {} before", words::length(*idle_disconnect), words::length(old.idle_disconnect));
        limit(idle_disconnect.cmp(&old.idle_disconnect), idle);
        let stays = |longest: &Option<std::time::Duration>| longest.map_or_else(|| "no time".to_owned(), words::length);
        let detached = format!("keeps sessions without a connection for {}, {} before", stays(max_detached), stays(&old.max_detached));
        limit(max_detached.cmp(&old.max_detached), detached);
        let within = |networks: &[IpNet], network: &IpNet| networks.iter().any(|wide| wide.contains(network));
        for network in from_networks.iter().filter(|network| !within(&old.from_networks, network)) {
            self.add(Effect::Widens, format!("lets holders connect from {network}"), Some(from_networks_at));
        }
        for network in old.from_networks.iter().filter(|network| !within(from_networks, network)) {
            self.add(Effect::Narrows, format!("no longer lets holders connect from all of {network}"), Some(from_networks_at));
        }
        let hours_at = hours.as_ref().map_or(&self.permit.at, |hours| &hours.at);
        let (widens, narrows, what) = match (&old.hours, hours) {
            (None, None) => return,
            (None, Some(now)) => (false, true, now.words()),
            (Some(_), None) => (true, false, "any".to_owned()),
            (Some(before), Some(now)) => (!now.within(before), !before.within(now), now.words()),
        };
        if widens || narrows {
            self.add(if widens { Effect::Widens } else { Effect::Narrows }, format!("its hours are {what} now"), Some(hours_at));
        }
    }

    /// Without a disk of its own a workspace takes what the host has.
    fn disk(&mut self, old: Option<u64>, new: Option<u64>, at: &Place) {
        let most = |bytes: Option<u64>| bytes.unwrap_or(u64::MAX);
        let words = |bytes: Option<u64>| bytes.map_or_else(|| "no bound".to_owned(), |bytes| format!("a disk of {}", words::bytes(bytes)));
        if let Some(effect) = effect_of(most(new).cmp(&most(old))) {
            self.add(effect, format!("gives its workspace {}, {} before", words(new), words(old)), Some(at));
        }
    }

    fn resources(&mut self, old: Resources, new: Resources) {
        let at = &self.permit.at;
        let Resources { memory_bytes, processes, cpu_percent } = new;
        let figures = [
            (
                memory_bytes.cmp(&old.memory_bytes),
                format!("gives {} of memory, {} before", words::bytes(memory_bytes), words::bytes(old.memory_bytes)),
            ),
            (processes.cmp(&old.processes), format!("gives {processes} processes, {} before", old.processes)),
            (
                cpu_percent.cmp(&old.cpu_percent),
                format!(
                    "gives {}.{:02} processors, {}.{:02} before",
                    cpu_percent / 100,
                    cpu_percent % 100,
                    old.cpu_percent / 100,
                    old.cpu_percent % 100
                ),
            ),
        ];
        for (order, what) in figures {
            if let Some(effect) = effect_of(order) {
                self.add(effect, what, Some(at));
            }
        }
    }

    /// Less recorded, less surely, or for less long is a widening; so is more that is recorded, since it is a person who is recorded.
    fn recording(&mut self, old: Recording, new: Recording) {
        let at = &self.permit.at;
        if old.terminal != new.terminal {
            let what = match new.terminal {
                TerminalRecording::OutputAndInput => "records what is typed, passwords included",
                TerminalRecording::OutputAndInputTiming => "no longer records what is typed",
            };
            self.add(Effect::Widens, what.to_owned(), Some(at));
        }
        if old.durability != new.durability {
            let effect = if new.durability == sulku_permit::Durability::Strict { Effect::Narrows } else { Effect::Widens };
            self.add(effect, format!("records {}", new.durability.name()), Some(at));
        }
        if let Some(effect) = effect_of(old.retention_days.cmp(&new.retention_days)) {
            let effect = if effect == Effect::Narrows { Effect::Neither } else { effect };
            self.add(effect, format!("keeps recordings for {} days, {} before", new.retention_days, old.retention_days), Some(at));
        }
    }
}

/// What it does when the amount allowed compares so with the one before.
const fn effect_of(order: Ordering) -> Option<Effect> {
    match order {
        Ordering::Greater => Some(Effect::Widens),
        Ordering::Less => Some(Effect::Narrows),
        Ordering::Equal => None,
    }
}
