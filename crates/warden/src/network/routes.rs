//! The router's routing rules: the wall behind the ruleset, which holds when no ruleset does.
//!
//! Only the ruleset gives a cell's packet a mark, and only what is marked has a route. Whoever empties the tables of nftables, from
//! within the router's own namespace even, opens nothing: every packet of a cell then ends here.

use std::io;

use sulku_plan::naming::RESOLVER;

use super::netlink::{ACK, CREATE, Message, Socket};

const NEW_ROUTE: u16 = 24;
const ROUTE_OUT_BY: u16 = 4;
const ROUTE_FROM: u16 = 7;
const NEW_RULE: u16 = 32;
const RULE_INTERFACE: u16 = 3;
const RULE_PRIORITY: u16 = 6;
const RULE_MARK: u16 = 10;
const RULE_TABLE: u16 = 15;
const RULE_MARK_MASK: u16 = 16;
const MAIN: u32 = 254;
/// Where the router's own connections find a way that there is no link for.
const CARRIED: u8 = 100;
const TO_TABLE: u8 = 1;
const BLACKHOLE: u8 = 6;
const INVERTED: u32 = 2;
/// After the kernel's rule for its own addresses (0), before its rule that sends everything on (32766).
const FIRST: u32 = 100;

/// Puts the rules in force: what is marked goes on, what the router says itself, and what comes back over an uplink; nothing else.
pub(super) fn restrict(links: &Socket, uplinks: impl Iterator<Item = String>) -> io::Result<()> {
    let marked = rule(FIRST, TO_TABLE, INVERTED).with(RULE_MARK, &0_u32.to_ne_bytes()).with(RULE_MARK_MASK, &u32::MAX.to_ne_bytes());
    let own = to_main(rule(FIRST + 1, TO_TABLE, 0).with_name(RULE_INTERFACE, "lo"));
    let back = uplinks.map(|uplink| to_main(rule(FIRST + 2, TO_TABLE, 0).with_name(RULE_INTERFACE, &uplink)));
    let rest = rule(FIRST + 4, BLACKHOLE, 0);
    let rules: Vec<_> = [to_main(marked), own].into_iter().chain(back).chain([rest]).collect();
    links.request(&rules).map(drop)
}

/// Has the router's own connections begin on its loopback, where no link leads to their end: there the ruleset turns them to the relay, or
/// drops them.
pub(super) fn carry(links: &Socket, loopback: u32) -> io::Result<()> {
    const PROTOCOL_STATIC: u8 = 4;
    const LINK_SCOPE: u8 = 253;
    const UNICAST: u8 = 1;
    let header = [libc::AF_INET as u8, 0, 0, 0, CARRIED, PROTOCOL_STATIC, LINK_SCOPE, UNICAST, 0, 0, 0, 0];
    let everything = Message::new(NEW_ROUTE, ACK | CREATE, &header).with(ROUTE_OUT_BY, &loopback.to_ne_bytes()).with(ROUTE_FROM, &RESOLVER.octets());
    let own = rule(FIRST + 3, TO_TABLE, 0).with_name(RULE_INTERFACE, "lo").with(RULE_TABLE, &u32::from(CARRIED).to_ne_bytes());
    links.request(&[everything, own]).map(drop)
}

fn rule(priority: u32, action: u8, flags: u32) -> Message {
    let header = [&[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, action][..], &flags.to_ne_bytes()].concat();
    Message::new(NEW_RULE, ACK | CREATE, &header).with(RULE_PRIORITY, &priority.to_ne_bytes())
}

fn to_main(rule: Message) -> Message {
    rule.with(RULE_TABLE, &MAIN.to_ne_bytes())
}
