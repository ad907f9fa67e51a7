//! Which names and addresses a session may have: pure functions of what its permit lists.
//!
//! Asks nobody, keeps nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sulku_permit::{HostName, Protocol};
use sulku_plan::naming::{Listed, NameCheck, QuestionDenied};

/// Labels before a suffix; real names below one have one or two.
pub const LABELS_BELOW_MAX: usize = 4;
/// Bytes before a suffix, dots included: what a question can carry out at most.
pub const BYTES_BELOW_MAX: usize = 80;
/// Bytes of one label before a suffix. Encoded data fill labels to their 63 bytes.
pub const LABEL_BELOW_BYTES_MAX: usize = 40;
/// From this length on a label that is half digits is taken for data; `d111111abcdef8` of a large distributor is shorter.
pub const DIGITS_FROM_BYTES: usize = 16;
/// The port at which names are checked.
pub const TLS_DESTINATION_PORT: u16 = 443;

/// Whether the session may ask for this name.
///
/// # Errors
/// Why not. What is closed by any destination is closed.
pub fn question(listed: &[Listed], name: &HostName) -> Result<(), QuestionDenied> {
    let mut meaning = meaning(listed, name).peekable();
    if meaning.peek().is_none() {
        return Err(QuestionDenied::NotListed);
    }
    let (mut open, mut plain) = (true, false);
    for destination in meaning {
        open &= destination.check != NameCheck::Closed;
        plain |= destination.names.labels_below(name).is_some_and(|labels| is_plain(name, labels));
    }
    match (open, plain) {
        (false, _) => Err(QuestionDenied::Closed),
        (true, false) => Err(QuestionDenied::LooksLikeATunnel),
        (true, true) => Ok(()),
    }
}

/// Whether a TLS connection to port 443 may name this host.
#[must_use]
pub fn is_connectable(listed: &[Listed], name: &HostName) -> bool {
    let at_port = |destination: &Listed| destination.ports.iter().any(|port| port.number == TLS_DESTINATION_PORT && port.protocol == Protocol::Tcp);
    question(listed, name).is_ok() && meaning(listed, name).any(at_port)
}

/// Whether all of these addresses may be the answer for this name. One bad address speaks against all of them: who answers with a
/// private one among public ones is not to be believed about the others.
#[must_use]
pub fn are_usable(listed: &[Listed], name: &HostName, addresses: &[IpAddr]) -> bool {
    addresses.iter().all(|address| {
        is_unicast(*address)
            && meaning(listed, name).all(|destination| {
                if destination.within.is_empty() { is_public(*address) } else { destination.within.iter().any(|net| net.contains(address)) }
            })
    })
}

fn meaning<'a>(listed: &'a [Listed], name: &'a HostName) -> impl Iterator<Item = &'a Listed> {
    listed.iter().filter(|destination| destination.names.means(name))
}

/// Whether the labels before a suffix look like a name and not like data; an exact name always does.
fn is_plain(name: &HostName, labels_below: usize) -> bool {
    let labels = || name.as_str().split('.').take(labels_below);
    let bytes = labels().map(str::len).sum::<usize>() + labels_below.saturating_sub(1);
    let data = |label: &str| {
        let digits = label.bytes().filter(u8::is_ascii_digit).count();
        label.len() > LABEL_BELOW_BYTES_MAX || (label.len() >= DIGITS_FROM_BYTES && digits * 2 >= label.len())
    };
    labels_below <= LABELS_BELOW_MAX && bytes <= BYTES_BELOW_MAX && !labels().any(data)
}

/// Addresses that no permit can pin: they mean the router itself, its link, or many hosts at once.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let never =
                address.octets()[0] == 0 || address.is_loopback() || address.is_link_local() || address.is_multicast() || address.is_broadcast();
            !never
        }
        IpAddr::V6(address) => {
            let never = address.is_unspecified()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address.to_ipv4_mapped().is_some();
            !never
        }
    }
}

/// What IANA's special-purpose registries (RFC 6890) call globally reachable. In IPv6 that is what is given out for it, 2000::/3,
/// without the ranges in it that lead to IPv4 or nowhere.
fn is_public(address: IpAddr) -> bool {
    const NOT_V4: &[(Ipv4Addr, u8)] = &[
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 0, 0, 0), 24),
        (Ipv4Addr::new(192, 0, 2, 0), 24),
        (Ipv4Addr::new(192, 88, 99, 0), 24),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(198, 18, 0, 0), 15),
        (Ipv4Addr::new(198, 51, 100, 0), 24),
        (Ipv4Addr::new(203, 0, 113, 0), 24),
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    const NOT_V6: &[(Ipv6Addr, u8)] = &[
        (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
        (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
        (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    ];
    match address {
        IpAddr::V4(address) => !NOT_V4.iter().any(|(net, bits)| same(address.to_bits().into(), net.to_bits().into(), *bits, 32)),
        IpAddr::V6(address) => {
            let global = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);
            same(address.to_bits(), global.to_bits(), 3, 128) && !NOT_V6.iter().any(|(net, bits)| same(address.to_bits(), net.to_bits(), *bits, 128))
        }
    }
}

fn same(one: u128, other: u128, bits: u8, of: u8) -> bool {
    (one ^ other) >> (of - bits) == 0
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
