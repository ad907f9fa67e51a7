//! Datasets and destinations: what a workspace sees and reaches.

use std::path::{Component, PathBuf};

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::measure;
use super::reader::{DayEdge, Reader};
use super::shared::Shared;
use crate::model::{Budget, Dataset, Destination, NameCheck, NamePattern, Names, Port, Problem, Protocol, Reach, Validity};
use crate::shape::{DatasetTable, EgressTable, Spanned, Texts};

/// The one port at which a connection says its destination's name before anything else: TLS (RFC 6066 section 3).
const NAME_CHECKED_PORT: Port = Port { number: 443, protocol: Protocol::Tcp };
/// Networks in which one name's addresses may lie: more than any real service has.
const WITHIN_MAX: usize = 16;

impl Reader<'_> {
    pub(super) fn dataset(&mut self, table: DatasetTable, shared: &Shared) -> Option<Dataset> {
        let DatasetTable { dataset, name, path, mounted_at, manifest, persons, records } = table;
        let target = plain_absolute(mounted_at.get())
            .filter(|target| target.starts_with("/data") && target.components().count() == 3)
            .ok_or("write a path of one name below /data, as in \"/data/hilmo\"");
        let target = self.checked(mounted_at.span(), target, "data cannot be mounted here");
        let own = name.is_some() || path.is_some() || manifest.is_some() || persons.is_some() || records.is_some();
        match (dataset, name, path) {
            (Some(reference), ..) if own => {
                self.problem(reference.span(), "this data is described twice", "write either dataset = \"NAME\" or name and path");
                None
            }
            (Some(reference), ..) => {
                let known = self.shared(&reference, &shared.datasets, "datasets")?;
                let at = self.at(&reference.span());
                Some(Dataset {
                    name: known.name.to_string(),
                    path: known.path.clone(),
                    mounted_at: target?,
                    manifest: known.manifest.clone(),
                    persons: known.persons,
                    records: known.records,
                    at,
                })
            }
            (None, Some(name), Some(path)) => {
                let at = self.at(&name.span());
                let (name, path) = (self.text(name), self.folder(&path, "this is no folder on the host"));
                let manifest = match manifest {
                    Some(manifest) => Some(self.folder(&manifest, "this is no file on the host")?),
                    None => None,
                };
                Some(Dataset { name: name?, path: path?, mounted_at: target?, manifest, persons, records, at })
            }
            (None, ..) => {
                self.problem(mounted_at.span(), "it is not said which data", "write dataset = \"NAME\", or name and path");
                None
            }
        }
    }

    pub(super) fn folder(&mut self, path: &Spanned<String>, what: &str) -> Option<PathBuf> {
        let plain = plain_absolute(path.get()).ok_or("write an absolute path without . and ..");
        self.checked(path.span(), plain, what)
    }

    pub(super) fn destination(
        &mut self,
        table: EgressTable,
        shared: &Shared,
        zone: Option<&TimeZone>,
        validity: Option<&Validity>,
    ) -> Option<Destination> {
        let EgressTable { network, name, to, ports, check, within, bytes, connections, reason, owner, valid_until } = table;
        let why = reason.span();
        let reason = self.text(reason);
        let until = match (valid_until, zone) {
            (Some(value), Some(zone)) => {
                let until = self.instant(&value, zone, DayEdge::Last)?;
                if validity.is_some_and(|validity| until > validity.until || until <= validity.from) {
                    self.problem(value.span(), "this date is outside the permit's period", "write a date inside it, or leave it out");
                }
                Some(until)
            }
            _ => None,
        };
        let budget = self.budget(bytes, connections)?;
        match (network, name, to, ports) {
            (Some(reference), None, None, None) if check.is_none() && within.is_none() => {
                let known = self.shared(&reference, &shared.networks, "networks")?;
                let at = self.at(&reference.span());
                let owner = owner.map_or_else(|| known.owner.clone(), |owner| self.text(owner));
                let budget = Budget { bytes: budget.bytes.or(known.budget.bytes), connections: budget.connections.or(known.budget.connections) };
                let (name, to, ports) = (known.name.to_string(), known.to.clone(), known.ports.clone());
                Some(Destination { name, to, ports, budget, reason: reason?, owner, until, at })
            }
            (None, Some(name), Some(to), Some(ports)) => {
                let at = self.at(&name.span());
                let (name, ports) = (self.text(name), self.ports(ports));
                let to = self.reach(&to, &ports, check, within);
                let owner = owner.and_then(|owner| self.text(owner));
                Some(Destination { name: name?, to: to?, ports, budget, reason: reason?, owner, until, at })
            }
            (Some(reference), ..) => {
                self.problem(reference.span(), "this destination is described twice", "write either network = \"NAME\" or name, to and ports");
                None
            }
            (None, ..) => {
                self.problem(why, "it is not said what may be reached", "write network = \"NAME\", or name, to and ports");
                None
            }
        }
    }

    pub(super) fn budget(&mut self, bytes: Option<Spanned<String>>, connections: Option<Spanned<String>>) -> Option<Budget> {
        let bytes = match bytes {
            Some(bytes) => Some(self.checked(bytes.span(), measure::bytes(bytes.get()), "this is no amount")?),
            None => None,
        };
        let connections = match connections {
            Some(rate) => Some(self.checked(rate.span(), measure::rate(rate.get()), "this is no rate of connections")?),
            None => None,
        };
        Some(Budget { bytes, connections })
    }

    pub(super) fn reach(&mut self, to: &Spanned<String>, ports: &[Port], check: Option<Spanned<String>>, within: Option<Texts>) -> Option<Reach> {
        let Some(pattern) = to.get().parse::<NamePattern>().ok().filter(|pattern| pattern.to_string() == *to.get()) else {
            for span in check.iter().map(Spanned::span).chain(within.iter().map(Spanned::span)) {
                self.problem(
                    span,
                    "only a name has a check and a place for its addresses",
                    "leave it out, or write a name as in to = \"cran.r-project.org\"",
                );
            }
            return self.reachable(to).map(Reach::Network);
        };
        let check_at = check.as_ref().map_or_else(|| to.span(), Spanned::span);
        let checks: Vec<_> = NameCheck::ALL.iter().map(|check| (check.name(), *check)).collect();
        let check = self.one_of(check, NameCheck::NameChecked, &checks, "is no check of a name")?;
        // Only TLS says whom it is for before anything is sent. Another port must not pass for one that is checked.
        if check == NameCheck::NameChecked && ports.iter().any(|port| *port != NAME_CHECKED_PORT) {
            let help = format!("write check = \"address-only\", or list {NAME_CHECKED_PORT} here and the other ports in an [[egress]] of their own");
            self.problem(check_at, format!("only connections to {NAME_CHECKED_PORT} can be name-checked"), help);
        }
        let within = within.map(|within| self.places(within)).unwrap_or_default();
        Some(Reach::Names(Names { pattern, check, within }))
    }

    /// Where the addresses of a name must lie. A whole private range may be: the name is what narrows it.
    fn places(&mut self, within: Texts) -> Vec<IpNet> {
        let span = within.span();
        let places = self.bounded(within.into_inner());
        if places.is_empty() || places.len() > WITHIN_MAX {
            self.problem(span, format!("within has {} networks", places.len()), format!("write 1 to {WITHIN_MAX}, or leave it out"));
        }
        let mut networks = Vec::new();
        for place in places.into_iter().take(WITHIN_MAX) {
            let Some(network) = self.network(&place, "this is no network") else { continue };
            if let Some(kind) = nobodys(&network) {
                self.problem(place.span(), format!("{network} covers {kind}"), "name the network that the host's addresses are in");
            }
            networks.push(network);
        }
        networks
    }

    fn reachable(&mut self, to: &Spanned<String>) -> Option<IpNet> {
        let network = self.network(to, "this is no destination")?;
        if let Some(kind) = never_a_destination(&network) {
            self.problem(to.span(), format!("{network} covers {kind}"), "name the host or the network that the workspace needs");
        }
        Some(network)
    }

    pub(super) fn ports(&mut self, ports: Spanned<Vec<Spanned<String>>>) -> Vec<Port> {
        let span = ports.span();
        let mut list: Vec<Port> = Vec::new();
        let ports = self.bounded(ports.into_inner());
        if ports.is_empty() {
            self.problem(span, "no port is open", "write at least one, as in [\"443/tcp\"]");
        }
        for port in ports {
            list.extend(self.checked(port.span(), measure::port(port.get()), "this is no port"));
        }
        list.sort_unstable();
        list.dedup();
        list
    }

    /// Two destinations that cover one address or name at one port would leave open which of them, with its reason and end, let
    /// something out.
    pub(super) fn apart(&mut self, egress: &[Destination]) {
        for (index, later) in egress.iter().enumerate() {
            if let Some(first) = egress[..index].iter().find(|first| overlap(first, later)) {
                let what = format!("{} at {} is covered by {:?} too", later.to, ports_of(later), first.name);
                let help = "write each address, name and port once, so that one line says why it is open";
                self.problems.push(Problem::new(later.at.clone(), what, help).with(&first.at, format!("{} at {}", first.to, ports_of(first))));
            }
        }
    }
}

fn overlap(one: &Destination, other: &Destination) -> bool {
    let ports = one.ports.iter().any(|port| other.ports.contains(port));
    let meet = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    match (&one.to, &other.to) {
        (Reach::Network(a), Reach::Network(b)) => ports && meet(a, b),
        // Which addresses a name has is not in the permit. Where one of them is listed too, the budgets of both lines hold.
        (Reach::Network(_), Reach::Names(_)) | (Reach::Names(_), Reach::Network(_)) => false,
        (Reach::Names(a), Reach::Names(b)) => match (a.check == NameCheck::Closed, b.check == NameCheck::Closed) {
            (false, false) => ports && a.pattern.overlaps(&b.pattern),
            (true, true) => a.pattern.overlaps(&b.pattern),
            // An exception is narrower than what it is from, and shut at every port.
            (true, false) => a.pattern.covers(&b.pattern),
            (false, true) => b.pattern.covers(&a.pattern),
        },
    }
}

fn ports_of(destination: &Destination) -> String {
    destination.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn plain_absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let exact = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    (path.is_absolute() && plain && exact && path.components().count() > 1 && !text.chars().any(char::is_control)).then_some(path)
}

/// What no workspace may be pointed at: the cell itself, its neighbours on the link, and cloud metadata services.
fn nobodys(network: &IpNet) -> Option<&'static str> {
    if network.prefix_len() < 8 {
        Some("more than any workspace needs")
    } else if overlaps(network, "127.0.0.0/8") || overlaps(network, "::1/128") {
        Some("loopback addresses")
    } else if overlaps(network, "169.254.0.0/16") || overlaps(network, "fe80::/10") || overlaps(network, "fd00:ec2::254/128") {
        Some("link-local addresses and metadata services")
    } else if overlaps(network, "224.0.0.0/3") || overlaps(network, "ff00::/8") || overlaps(network, "0.0.0.0/8") {
        Some("multicast or reserved addresses")
    } else {
        None
    }
}

/// The same, and what no destination is as wide as.
fn never_a_destination(network: &IpNet) -> Option<&'static str> {
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
    nobodys(network).or_else(|| {
        let whole = network.prefix_len() < 16 && private.iter().any(|range| overlaps(network, range));
        whole.then_some("a whole private range")
    })
}

fn overlaps(network: &IpNet, other: &str) -> bool {
    other.parse::<IpNet>().is_ok_and(|other| other.contains(network) || network.contains(&other))
}
