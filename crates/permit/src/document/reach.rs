//! Datasets and destinations: what a workspace sees and reaches.

use std::path::{Component, PathBuf};

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::measure;
use super::reader::{DayEdge, Reader};
use super::shared::Shared;
use crate::model::{Dataset, Destination, Port, Problem, Validity};
use crate::shape::{DatasetTable, EgressTable, Spanned};

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
        let EgressTable { network, name, to, ports, reason, owner, valid_until } = table;
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
        match (network, name, to, ports) {
            (Some(reference), None, None, None) => {
                let known = self.shared(&reference, &shared.networks, "networks")?;
                let at = self.at(&reference.span());
                let owner = owner.map_or_else(|| known.owner.clone(), |owner| self.text(owner));
                Some(Destination { name: known.name.to_string(), to: known.to, ports: known.ports.clone(), reason: reason?, owner, until, at })
            }
            (None, Some(name), Some(to), Some(ports)) => {
                let at = self.at(&name.span());
                let (name, to, ports) = (self.text(name), self.reachable(&to), self.ports(ports));
                let owner = owner.and_then(|owner| self.text(owner));
                Some(Destination { name: name?, to: to?, ports, reason: reason?, owner, until, at })
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

    pub(super) fn reachable(&mut self, to: &Spanned<String>) -> Option<IpNet> {
        if is_name(to.get()) {
            self.unbuilt(to.span(), "resolver for names", "write the address or the network");
            return None;
        }
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

    /// Two destinations that cover one address at one port would leave open which of them, with its reason and end, let something out.
    pub(super) fn apart(&mut self, egress: &[Destination]) {
        for (index, later) in egress.iter().enumerate() {
            let overlaps = |first: &&Destination| {
                (first.to.contains(&later.to) || later.to.contains(&first.to)) && first.ports.iter().any(|port| later.ports.contains(port))
            };
            if let Some(first) = egress[..index].iter().find(overlaps) {
                let what = format!("{} at {} is covered by {:?} too", later.to, ports_of(later), first.name);
                let help = "write each address and port once, so that one line says why it is open";
                self.problems.push(Problem::new(later.at.clone(), what, help).with(&first.at, format!("{} at {}", first.to, ports_of(first))));
            }
        }
    }
}

fn ports_of(destination: &Destination) -> String {
    destination.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A host's name, or `*.` and a suffix (RFC 1123 section 2.1).
fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_word = name.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_lowercase()));
    name.len() <= 253 && name.contains('.') && last_is_word && name.split('.').all(label)
}

fn plain_absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let exact = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    (path.is_absolute() && plain && exact && path.components().count() > 1 && !text.chars().any(char::is_control)).then_some(path)
}

/// What no workspace may be pointed at: the cell itself, its neighbours on the link, and cloud metadata services.
fn never_a_destination(network: &IpNet) -> Option<&'static str> {
    let overlaps = |other: &str| other.parse::<IpNet>().is_ok_and(|other| other.contains(network) || network.contains(&other));
    if network.prefix_len() < 8 {
        Some("more than any workspace needs")
    } else if overlaps("127.0.0.0/8") || overlaps("::1/128") {
        Some("loopback addresses")
    } else if overlaps("169.254.0.0/16") || overlaps("fe80::/10") || overlaps("fd00:ec2::254/128") {
        Some("link-local addresses and metadata services")
    } else if overlaps("224.0.0.0/3") || overlaps("ff00::/8") || overlaps("0.0.0.0/8") {
        Some("multicast or reserved addresses")
    } else if network.prefix_len() < 16 && (overlaps("10.0.0.0/8") || overlaps("172.16.0.0/12") || overlaps("192.168.0.0/16") || overlaps("fc00::/7"))
    {
        Some("a whole private range")
    } else {
        None
    }
}
