//! What an answer says of the name that was asked: pure.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData};

use super::TTL_MAX_S;

/// Aliases in one answer.
const ALIASES_MAX: usize = 8;
/// Addresses in one answer that are looked at; all of them are judged.
const ADDRESSES_MAX: usize = 256;

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Addresses, and the seconds that they and the aliases to them are good for.
    Addresses(Vec<IpAddr>, u32),
    /// An alias whose end is not in the answer.
    Alias(Name, u32),
    /// The name is there without an address.
    NoAddresses,
    /// There is no such name.
    NoSuchName,
    /// Something else.
    Unusable,
}

/// Reads what an answer says of this name: its aliases in their order from the name on, the addresses at their end, and nothing that
/// stands beside them.
#[must_use]
pub fn read(message: &Message, name: &Name) -> Found {
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Found::Unusable;
    }
    let (mut end, mut ttl_s, mut aliases) = (name, TTL_MAX_S, 0);
    let alias_of = |name: &Name| {
        message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(alias) if record.dns_class == DNSClass::IN && record.name == *name => Some((&alias.0, record.ttl)),
            _ => None,
        })
    };
    while let Some((alias, good_s)) = alias_of(end) {
        aliases += 1;
        if aliases > ALIASES_MAX {
            return Found::Unusable;
        }
        (end, ttl_s) = (alias, ttl_s.min(good_s));
    }
    let mut addresses = Vec::new();
    for record in message.answers.iter().filter(|record| record.dns_class == DNSClass::IN && record.name == *end) {
        let address: IpAddr = match record.data {
            RData::A(address) => address.0.into(),
            _ => continue,
        };
        if addresses.len() == ADDRESSES_MAX {
            return Found::Unusable;
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        ttl_s = ttl_s.min(record.ttl);
    }
    match (addresses.is_empty(), code) {
        (false, ResponseCode::NoError) => Found::Addresses(addresses, ttl_s),
        // Addresses of a name that is not there.
        (false, _) => Found::Unusable,
        (true, ResponseCode::NXDomain) => Found::NoSuchName,
        (true, _) if aliases > 0 => Found::Alias(end.clone(), ttl_s),
        (true, _) => Found::NoAddresses,
    }
}
