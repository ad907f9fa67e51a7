//! The router's ruleset as text: what an auditor reads is what is installed, and what the kernel reads back is compared with it.
//!
//! It holds nothing that came from a permit or a host. The names of its sets and maps are here for who writes their elements.

use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

/// The text, for `nft -f`.
pub const TEXT: &str = include_str!("ruleset.nft");
/// Its table, of family inet.
pub const TABLE: &str = "sulku";
/// Who lives where: a map to the session's mark.
pub const SESSIONS: &str = "sessions";
/// What is reached by address: single addresses.
pub const ALLOWED: &str = "allowed";
/// Networks that are reached: intervals.
pub const NETWORKS: &str = "networks";
/// What is reached by name, while the name's answer holds.
pub const NAMED: &str = "named";
/// The same for connections that are open already.
pub const NAMED_OPEN: &str = "named_open";
/// Where TLS connections are turned to the resolver.
pub const CHECKED: &str = "checked";
/// What may still be sent, by [`ALLOWED`]'s keys.
pub const ALLOWED_BYTES: &str = "allowed_bytes";
/// What may still be opened, by [`ALLOWED`]'s keys.
pub const ALLOWED_RATE: &str = "allowed_rate";
/// What may still be sent, by [`NETWORKS`]' intervals.
pub const NETWORKS_BYTES: &str = "networks_bytes";
/// What may still be opened, by [`NETWORKS`]' intervals.
pub const NETWORKS_RATE: &str = "networks_rate";
/// What may still be sent, by [`NAMED`]'s keys.
pub const NAMED_BYTES: &str = "named_bytes";
/// What may still be opened, by [`NAMED`]'s keys.
pub const NAMED_RATE: &str = "named_rate";
/// The resolver's user.
pub const RESOLVER_USER: &str = "resolver";
/// Whom the resolver asks.
pub const UPSTREAM: &str = "upstream";
/// Where the resolver connects to.
pub const DIALLED: &str = "dialled";
/// What a relay carries on.
pub const RELAYED: &str = "relayed";
/// Where the relay takes them, on the router's own loopback, as the resolver its own.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 54);
/// At which port.
pub const RELAY_PORT: u16 = 8444;
/// The NFLOG group to which denied packets are copied.
pub const LOG_GROUP: u16 = 5;
/// What a copied packet says of why it went no further: it came from nobody's address.
pub const SPOOFED: &str = "spoofed";
/// It was to nothing that is listed.
pub const DENIED: &str = "denied";
/// All bytes of its destination's budget are sent.
pub const SPENT: &str = "spent";
/// It would have opened a connection too many.
pub const HURRIED: &str = "hurried";

/// SHA-256 of the text, in hexadecimal.
#[must_use]
pub fn digest() -> String {
    Sha256::digest(TEXT.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of a ruleset that mean something, without indentation: two texts with the same lines are the same ruleset.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// What the table declares, as kind (`map`, `set`, `chain`) and name, in the text's order.
pub fn declared() -> impl Iterator<Item = (&'static str, &'static str)> {
    lines(TEXT).filter_map(|line| line.strip_suffix(" {")?.split_once(' ')).filter(|(kind, _)| matches!(*kind, "map" | "set" | "chain"))
}

/// The table with its sets and maps, and no chain: by itself it lets nothing happen.
#[must_use]
pub fn without_chains() -> String {
    let (sets, _) = TEXT.split_once("\tchain ").unwrap_or((TEXT, ""));
    format!("{sets}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is put in place before there are elements has all that holds elements, and nothing that lets a packet pass.
    #[test]
    fn the_sets_come_before_the_chains() {
        let kinds: Vec<_> = declared().map(|(kind, _)| kind).collect();
        let chains = kinds.iter().position(|kind| *kind == "chain").expect("chains");
        assert!(kinds[chains..].iter().all(|kind| *kind == "chain"), "{kinds:?}");
        let sets = without_chains();
        assert!(!lines(&sets).any(|line| line.starts_with("chain ")) && sets.matches('{').count() == sets.matches('}').count());
        assert_eq!(lines(&sets).filter(|line| line.starts_with("set ") || line.starts_with("map ")).count(), chains);
    }

    /// Whoever writes elements writes them into something that is there.
    #[test]
    fn every_name_is_in_the_text() {
        let declares = |kind: &str, name: &str| lines(TEXT).any(|line| line == format!("{kind} {name} {{"));
        for map in [SESSIONS, ALLOWED_BYTES, ALLOWED_RATE, NETWORKS_BYTES, NETWORKS_RATE, NAMED_BYTES, NAMED_RATE] {
            assert!(declares("map", map), "{map}");
        }
        for set in [ALLOWED, NETWORKS, NAMED, NAMED_OPEN, CHECKED, RESOLVER_USER, UPSTREAM, DIALLED, RELAYED] {
            assert!(declares("set", set), "{set}");
        }
        assert!(declares("table", &format!("inet {TABLE}")));
        for reason in [SPOOFED, DENIED, SPENT, HURRIED] {
            assert!(TEXT.contains(&format!("log prefix \"{reason}\" group {LOG_GROUP} ")), "{reason}");
        }
    }

    /// Nothing passes for want of a rule: whatever has a hook and can end a packet's way drops it, and the other hooks end in a decision.
    #[test]
    fn every_chain_that_decides_drops_by_default() {
        for (hook, priority) in [("input", "filter"), ("output", "mangle"), ("forward", "filter")] {
            assert!(TEXT.contains(&format!("type filter hook {hook} priority {priority}; policy drop;")), "{hook}");
        }
        let leaving = TEXT.split("chain leaving {").nth(1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
        assert_eq!(lines(leaving).last(), Some("goto deny"));
        assert!(TEXT.contains(&format!("ip daddr {} ", crate::naming::RESOLVER)));
        assert_eq!(TEXT.matches(&format!("dnat ip to {RELAY}:{RELAY_PORT}\n")).count(), 2, "of cells and of the resolver");
        assert!(TEXT.contains(&format!("dnat ip to {}:{}", crate::naming::RESOLVER, crate::naming::TLS_PORT)));
    }
}
