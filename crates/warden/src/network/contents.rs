//! What stands in the router's nftables, as the kernel lists it: by which names, and what of budgets is used up. And the taking away of
//! what does not belong there.
//!
//! What rules say is not read here: `rules` has `nft` list it and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use sulku_plan::ruleset::{self, TABLE};

use super::netlink::{ACK, DUMP, Message, Socket, attribute, parsed};

const SUBSYSTEM: u16 = 10 << 8;
const HEADER_BYTES: usize = 4;
const INET: u8 = libc::NFPROTO_INET as u8;
/// The first attribute of every message is its table, the second or third its name.
const TABLE_NAME: u16 = 1;
const NAME: u16 = 2;
const CHAIN_NAME: u16 = 3;
const SET_FLAGS: u16 = 3;
const ANONYMOUS: u32 = 1;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const QUOTA_CONSUMED: u16 = 4;
pub(super) const TYPE_QUOTA: u32 = 2;
pub(super) const TYPE_LIMIT: u32 = 4;

/// A kind of thing: its messages, and which attribute names it.
#[derive(Clone, Copy)]
struct Kind {
    new: u16,
    get: u16,
    delete: u16,
    name: u16,
}

const TABLES: Kind = Kind { new: 0, get: 1, delete: 2, name: TABLE_NAME };
const CHAINS: Kind = Kind { new: 3, get: 4, delete: 5, name: CHAIN_NAME };
const SETS: Kind = Kind { new: 9, get: 10, delete: 11, name: NAME };
const OBJECTS: Kind = Kind { new: 18, get: 19, delete: 20, name: NAME };
const FLOWTABLES: Kind = Kind { new: 22, get: 23, delete: 24, name: NAME };

/// A name as the kernel has it, without the zero at its end. It need not be text.
type Name = Vec<u8>;

/// Everything that is there.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Every table, with its family.
    tables: BTreeSet<(u8, Name)>,
    chains: BTreeSet<Name>,
    sets: BTreeSet<Name>,
    flowtables: BTreeSet<Name>,
    /// By type and name; what is used up of a quota.
    objects: BTreeMap<(u32, Name), u64>,
}

impl Contents {
    /// Asks the kernel.
    pub(super) fn read(socket: &Socket) -> io::Result<Self> {
        let mut contents = Self::default();
        list(socket, TABLES, |family, _, name| contents.tables.extend([(family, name)]))?;
        list(socket, CHAINS, |_, _, name| contents.chains.extend([name]))?;
        list(socket, FLOWTABLES, |_, _, name| contents.flowtables.extend([name]))?;
        list(socket, SETS, |_, body, name| {
            // Those without a name belong to a rule, and go with it.
            if number(attribute(body, SET_FLAGS)) & ANONYMOUS == 0 {
                contents.sets.insert(name);
            }
        })?;
        list(socket, OBJECTS, |_, body, name| {
            let consumed = attribute(body, OBJECT_DATA).and_then(|data| attribute(data, QUOTA_CONSUMED)?.try_into().ok());
            contents.objects.insert((number(attribute(body, OBJECT_TYPE)), name), consumed.map_or(0, u64::from_be_bytes));
        })?;
        Ok(contents)
    }

    /// Bytes that are used up of a quota, if it is there.
    pub(super) fn used(&self, quota: &str) -> Option<u64> {
        self.objects.get(&(TYPE_QUOTA, quota.as_bytes().to_vec())).copied()
    }

    /// Whether a rate is there.
    pub(super) fn has_limit(&self, limit: &str) -> bool {
        self.objects.contains_key(&(TYPE_LIMIT, limit.as_bytes().to_vec()))
    }

    /// Whether all sets and maps of the ruleset are there.
    pub(super) fn has_all_sets(&self) -> bool {
        self.tables.contains(&own()) && ruleset::declared().filter(|(kind, _)| *kind != "chain").all(|(_, name)| self.sets.contains(name.as_bytes()))
    }

    /// Takes away every table but the ruleset's.
    pub(super) fn delete_other_tables(&self, socket: &Socket) -> io::Result<()> {
        let others = self.tables.iter().filter(|table| **table != own());
        super::batch::transact(socket, others.map(|(family, name)| delete(TABLES, *family, name, &[])).collect())
    }

    /// Takes away the ruleset's own table.
    pub(super) fn delete_own_table(&self, socket: &Socket) -> io::Result<()> {
        let own = self.tables.get(&own()).map(|(family, name)| delete(TABLES, *family, name, &[]));
        super::batch::transact(socket, own.into_iter().collect())
    }

    /// Takes away what the ruleset's table has and the ruleset has not; of objects those that are none of these.
    pub(super) fn delete_others(&self, socket: &Socket, objects: &BTreeSet<String>) -> io::Result<()> {
        let declares = |name: &Name| ruleset::declared().any(|(_, declared)| declared.as_bytes() == *name);
        let within = |kind, name: &Name| delete(kind, INET, TABLE.as_bytes(), name);
        // What refers to other things goes first.
        let sets = self.sets.iter().filter(|name| !declares(name)).map(|name| within(SETS, name));
        let chains = self.chains.iter().filter(|name| !declares(name)).map(|name| within(CHAINS, name));
        let flowtables = self.flowtables.iter().map(|name| within(FLOWTABLES, name));
        let known = |name: &Name| std::str::from_utf8(name).is_ok_and(|name| objects.contains(name));
        let strange = self.objects.keys().filter(|(kind, name)| !matches!(*kind, TYPE_QUOTA | TYPE_LIMIT) || !known(name));
        let strange = strange.map(|(kind, name)| within(OBJECTS, name).with(OBJECT_TYPE, &kind.to_be_bytes()));
        super::batch::transact(socket, sets.chain(chains).chain(flowtables).chain(strange).collect())
    }
}

fn own() -> (u8, Name) {
    (INET, TABLE.as_bytes().to_vec())
}

fn delete(kind: Kind, family: u8, table: &[u8], name: &[u8]) -> Message {
    let text = |name: &[u8]| [name, &[0]].concat();
    let message = Message::new(SUBSYSTEM | kind.delete, ACK, &[family, 0, 0, 0]).with(TABLE_NAME, &text(table));
    if kind.name == TABLE_NAME { message } else { message.with(kind.name, &text(name)) }
}

/// Gives what is there of a kind, of the ruleset's table alone unless it is about tables: family, attributes, name.
fn list(socket: &Socket, kind: Kind, mut take: impl FnMut(u8, &[u8], Name)) -> io::Result<()> {
    let answers = socket.request(&[Message::new(SUBSYSTEM | kind.get, DUMP, &[libc::NFPROTO_UNSPEC as u8, 0, 0, 0])])?;
    let name = |name: &[u8]| name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    for (_, body) in parsed(&answers).filter(|(of, _)| *of == SUBSYSTEM | kind.new) {
        let (Some(family), Some(attributes)) = (body.first(), body.get(HEADER_BYTES..)) else { continue };
        let table = attribute(attributes, TABLE_NAME).map(name);
        if kind.name == TABLE_NAME || (*family, table.unwrap_or_default()) == own() {
            take(*family, attributes, attribute(attributes, kind.name).map(name).unwrap_or_default());
        }
    }
    Ok(())
}

/// A number in network order; 0 where it is absent.
fn number(value: Option<&[u8]>) -> u32 {
    value.and_then(|value| value.try_into().ok()).map_or(0, u32::from_be_bytes)
}
