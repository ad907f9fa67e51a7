//! Whether what one destination opens is open by others too: then taking it away, or adding it, changes nothing.
//!
//! What it can't tell to be covered is not: then a change is called wider.

use ipnet::IpNet;
use jiff::Timestamp;
use sulku_permit::{Budget, Destination, NameCheck, Names, Port, Rate, Reach};

/// Whether it shuts names instead of opening them.
pub(super) fn is_shut(destination: &Destination) -> bool {
    destination.to.names().is_some_and(|names| names.check == NameCheck::Closed)
}

/// Whether everything that this destination opens (or shuts, if that is what it does) is so by those, at least as long and as much.
/// `among` are the destinations that it stands among.
pub(super) fn covered(destination: &Destination, among: &[Destination], by: &[Destination]) -> bool {
    let opens = |port: &Port| by.iter().any(|wide| reaches(wide, destination, *port) && affords(wide, destination, among));
    destination.ports.iter().all(opens)
}

/// Whether `wide` leads wherever `destination` leads at this port, as long as that does.
fn reaches(wide: &Destination, destination: &Destination, port: Port) -> bool {
    let ends = |until: Option<Timestamp>| until.unwrap_or(Timestamp::MAX);
    let place = match (&wide.to, &destination.to) {
        (Reach::Network(wide), Reach::Network(narrow)) => wide.contains(narrow),
        (Reach::Names(wide), Reach::Names(narrow)) => names_cover(wide, narrow),
        _ => false,
    };
    // What is shut is shut at every port.
    place && (is_shut(wide) || wide.ports.contains(&port)) && ends(wide.until) >= ends(destination.until)
}

fn names_cover(wide: &Names, narrow: &Names) -> bool {
    let check = match wide.check {
        NameCheck::NameChecked => narrow.check == NameCheck::NameChecked,
        NameCheck::AddressOnly => matches!(narrow.check, NameCheck::NameChecked | NameCheck::AddressOnly),
        NameCheck::Closed => narrow.check == NameCheck::Closed,
    };
    let inside = |network: &IpNet| wide.within.iter().any(|wide| wide.contains(network));
    // No place means anywhere public, which neither holds a private one nor lies in any.
    let place = wide.within.is_empty() == narrow.within.is_empty() && narrow.within.iter().all(inside);
    check && wide.pattern.covers(&narrow.pattern) && place
}

/// Whether a session may use as much of `wide` as of `destination`. What is bounded can be spent once: it affords one destination,
/// not two that were made of it.
fn affords(wide: &Destination, destination: &Destination, among: &[Destination]) -> bool {
    let Budget { bytes, connections } = wide.budget;
    let enough = bytes.is_none_or(|most| destination.budget.bytes.is_some_and(|bytes| bytes <= most))
        && connections.is_none_or(|most| destination.budget.connections.is_some_and(|rate| slower(rate, most)));
    let shared = |other: &Destination| other.at != destination.at && other.ports.iter().any(|port| reaches(wide, other, *port));
    enough && (wide.budget == Budget::default() || !among.iter().any(shared))
}

/// Whether a rate lets through no more than another, at once and in the long run.
fn slower(rate: Rate, than: Rate) -> bool {
    let over = |rate: Rate, other: Rate| u64::from(rate.connections) * u64::from(other.per.seconds());
    rate.connections <= than.connections && over(rate, than) <= over(than, rate)
}
