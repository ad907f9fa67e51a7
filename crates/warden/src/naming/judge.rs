//! What a resolver's finding is worth: the plan says which names, at which ports, where their addresses may lie. Nothing that the
//! resolver says is taken on its word but that a name has an address.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use jiff::{SignedDuration, Timestamp};
use sulku_permit::{HostName, NameCheck, Port, Protocol};
use sulku_plan::NamedHosts;
use sulku_plan::naming::ADDRESSES_MAX;

use crate::network::{Look, Way};

/// The bounds of an answer's time, in seconds: shorter would close what a program has just asked for, longer would keep open what is the
/// name's no more.
const TTL_S: std::ops::RangeInclusive<u32> = 30..=300;
/// How long after an answer's time a connection may still begin: programs ask first and connect a little later.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// The port at which a name is checked.
const CHECKED: Port = Port { number: 443, protocol: Protocol::Tcp };

/// Why nothing is opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session's permit does not list the name, or shuts it.
    #[error("the permit does not list {0}")]
    NotListed(HostName),
    /// All destinations that mean it are closed by now.
    #[error("what lists {0} has closed")]
    Over(HostName),
    /// An address that the permit does not cover, or that nobody may reach.
    #[error("{name} has the address {address}, which {why}")]
    Address {
        /// Whose.
        name: HostName,
        /// Which.
        address: IpAddr,
        /// Why.
        why: &'static str,
    },
    /// So many addresses are none.
    #[error("{0} addresses")]
    Count(usize),
}

/// When what is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// It is now.
    pub now: Timestamp,
    /// The session ends.
    pub ends: Timestamp,
    /// The answer is good for so long, as the resolver says.
    pub ttl_s: u32,
}

/// The ways that a name's addresses open to a session of this plan.
///
/// # Errors
/// Why they open none. One bad address spoils all: an answer with a good one beside it is how a name is rebound.
pub fn ways(hosts: &[NamedHosts], own: &[Ipv4Net], name: &HostName, addresses: &[IpAddr], times: Times) -> Result<Vec<Way>, Refused> {
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        return Err(Refused::Count(addresses.len()));
    }
    let meant: Vec<_> = (0..).zip(hosts).filter(|(_, hosts)| hosts.listed.names.means(name)).collect();
    if meant.is_empty() || meant.iter().any(|(_, hosts)| hosts.listed.check == NameCheck::Closed) {
        return Err(Refused::NotListed(name.clone()));
    }
    let mut ways = Vec::new();
    let lasts = times.now + SignedDuration::from_secs(i64::from(times.ttl_s.clamp(*TTL_S.start(), *TTL_S.end()))) + GRACE;
    for (line, hosts) in meant {
        let closes = hosts.until.map_or(times.ends, |until| until.min(times.ends));
        for address in addresses {
            let address =
                reachable(*address, &hosts.listed.within, own).map_err(|why| Refused::Address { name: name.clone(), address: *address, why })?;
            if closes > times.now {
                ways.extend(hosts.listed.ports.iter().map(|port| {
                    let port = Port { number: port.number, protocol: port.protocol };
                    let look = if hosts.listed.check == NameCheck::NameChecked && port == CHECKED { Look::Checked } else { Look::Unchecked };
                    Way { address, port, look, lasts: lasts.min(closes), closes, line }
                }));
            }
        }
    }
    if ways.is_empty() { Err(Refused::Over(name.clone())) } else { Ok(ways) }
}

fn reachable(address: IpAddr, within: &[IpNet], own: &[Ipv4Net]) -> Result<Ipv4Addr, &'static str> {
    let IpAddr::V4(v4) = address else { return Err("is not of IPv4, and IPv6 is closed") };
    if own.iter().any(|network| network.contains(&v4)) {
        return Err("is the environment's own");
    }
    if let Some(why) = nobodys(v4) {
        return Err(why);
    }
    match within {
        [] => unlisted(v4).map_or(Ok(v4), Err),
        within if within.iter().any(|network| network.contains(&address)) => Ok(v4),
        _ => Err("lies outside of what the permit says"),
    }
}

/// What no permit opens.
fn nobodys(address: Ipv4Addr) -> Option<&'static str> {
    let [a, ..] = address.octets();
    match a {
        0 => Some("is nobody's"),
        127 => Some("is a loopback address"),
        169 if address.is_link_local() => Some("is link-local, where metadata services are"),
        224.. => Some("is a multicast or reserved address"),
        _ => None,
    }
}

/// What only a permit opens that says so (RFC 6890).
fn unlisted(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("is private, and the permit does not say within which network"),
        (100, 64..=127, _) => Some("is a carrier's own, and the permit does not say within which network"),
        (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) => {
            Some("is of a special purpose, and the permit does not say within which network")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../permit/tests/good.toml");

    fn hosts(tables: &str) -> Vec<NamedHosts> {
        let text = GOOD.replacen("[session]\n", &format!("{tables}\n[session]\n"), 1);
        sulku_plan::Plan::of(&sulku_permit::parse("p.toml", &text).expect("a permit")).named().to_vec()
    }

    fn table(to: &str, rest: &str) -> String {
        format!("[[egress]]\nname = \"n\"\nto = \"{to}\"\nreason = \"r\"\n{rest}\n")
    }

    fn judge(hosts: &[NamedHosts], name: &str, addresses: &[&str]) -> Result<Vec<Way>, Refused> {
        let now = "2026-03-01T10:00:00Z".parse().expect("a time");
        let times = Times { now, ends: "2026-03-01T22:00:00Z".parse().expect("a time"), ttl_s: 4_000 };
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        ways(hosts, &["10.210.0.0/16".parse().expect("a network")], &name.parse().expect("a name"), &addresses, times)
    }

    const TLS: &str = "ports = [\"443/tcp\"]";

    #[test]
    fn a_listed_name_opens_its_ports_at_its_addresses_for_its_time() {
        let hosts = hosts(
            &(table("*.example.org", TLS)
                + &table("a.example.org", "ports = [\"22/tcp\", \"443/udp\"]\ncheck = \"address-only\"\nvalid_until = 2026-02-28")),
        );
        let ways = judge(&hosts, "a.example.org", &["93.184.216.34", "93.184.216.35"]).expect("open");
        assert_eq!(ways.len(), 2, "the second line closed a day before");
        let second = ways.iter().map(|way| (way.look, way.port.to_string(), way.lasts.to_string(), way.closes.to_string(), way.line));
        assert!(second.eq(std::iter::repeat_n(
            (Look::Checked, "443/tcp".to_owned(), "2026-03-01T10:06:00Z".to_owned(), "2026-03-01T22:00:00Z".to_owned(), 0),
            2
        )));
    }

    #[test]
    fn nothing_that_the_permit_does_not_list_is_opened_whatever_the_resolver_says() {
        let hosts = hosts(&(table("*.example.org", TLS) + &table("up.example.org", &format!("{TLS}\ncheck = \"closed\""))));
        assert!(judge(&hosts, "a.example.org", &["93.184.216.34"]).is_ok(), "the control");
        for name in ["example.org", "up.example.org", "example.com", "a.example.org.evil.net"] {
            assert_eq!(judge(&hosts, name, &["93.184.216.34"]), Err(Refused::NotListed(name.parse().expect("a name"))));
        }
        assert_eq!(judge(&hosts, "a.example.org", &[]), Err(Refused::Count(0)));
        assert_eq!(judge(&hosts, "a.example.org", &["93.184.216.34"; 17]), Err(Refused::Count(17)));
    }

    /// One bad address spoils the answer, wherever it stands.
    #[test]
    fn no_name_leads_where_nobody_or_only_a_permit_may() {
        let anywhere = hosts(&table("a.example.org", TLS));
        let ours = hosts(&table("a.example.org", &format!("{TLS}\nwithin = [\"10.0.0.0/8\", \"198.18.0.0/16\"]")));
        for (address, by_permit) in [
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("10.210.3.4", false),
            ("2001:db8::1", false),
            ("::ffff:93.184.216.34", false),
            ("100.64.0.1", false),
            ("192.168.1.1", false),
            ("10.20.30.40", true),
            ("198.18.0.1", true),
        ] {
            for addresses in [&[address][..], &["93.184.216.34", address], &[address, "93.184.216.34"]] {
                assert!(matches!(judge(&anywhere, "a.example.org", addresses), Err(Refused::Address { .. })), "{addresses:?}");
            }
            assert_eq!(judge(&ours, "a.example.org", &[address]).is_ok(), by_permit, "{address}");
        }
        assert!(judge(&ours, "a.example.org", &["93.184.216.34"]).is_err(), "public, and outside of what the permit says");
    }
}
