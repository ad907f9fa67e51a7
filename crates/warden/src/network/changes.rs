//! Changes of the router's nftables by somebody else, gathered and put into words.
//!
//! Names in them are whatever their maker liked; they are made plain before anybody reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::netlink::attribute;

/// Length of the netfilter header before a message's attributes.
const HEADER_BYTES: usize = 4;
/// Different changes of one process that are told apart, those of them that an entry names, and processes that are told apart in one turn.
/// What is more is counted.
const CHANGES_MAX: usize = 128;
const CHANGES_TOLD: usize = 16;
const STRANGERS_MAX: usize = 8;
/// The kernel's messages of one kind of thing, the attribute that names it, and what it is called; those first that weigh most.
const KINDS: &[(u16, u16, Option<u16>, &str)] = &[
    (0, 2, None, "table"),
    (12, 14, Some(2), "element"),
    (18, 20, Some(2), "object"),
    (3, 5, Some(3), "chain"),
    (22, 24, Some(2), "flowtable"),
    (6, 8, Some(2), "rule"),
    (9, 11, Some(2), "set"),
];

/// A process as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stranger {
    /// Its id, on the host.
    pub process: u32,
    /// What it calls itself; letters and digits are kept, all else is a `?`.
    pub program: String,
}

/// What one process changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In words, each with how often; by the weight of what was changed.
    told: BTreeMap<(usize, String), u64>,
    more: u64,
}

impl Changes {
    pub(super) fn add(&mut self, what: (usize, String), times: u64) {
        if self.told.len() < CHANGES_MAX || self.told.contains_key(&what) {
            *self.told.entry(what).or_default() += times;
        } else {
            self.more += times;
        }
    }

    fn join(&mut self, other: Self) {
        other.told.into_iter().for_each(|(what, times)| self.add(what, times));
        self.more += other.more;
    }

    /// Each kind of change in words, as `rule added in inet sulku forward (2 times)`.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let times = |((_, what), times): (&(usize, String), &u64)| if *times > 1 { format!("{what} ({times} times)") } else { what.clone() };
        let more = self.more + self.told.values().skip(CHANGES_TOLD).sum::<u64>();
        let more = (more > 0).then(|| format!("{more} other changes"));
        self.told.iter().take(CHANGES_TOLD).map(times).chain(more).collect()
    }
}

/// What somebody else has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Who did what; `None` is whoever the kernel did not tell of.
    pub by: BTreeMap<Option<Stranger>, Changes>,
    /// Budgets that were made or deleted: what is left of them is not to be believed.
    pub budgets: BTreeSet<String>,
}

impl Foreign {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// Takes in what was heard later.
    pub fn join(&mut self, later: Self) {
        later.by.into_iter().for_each(|(stranger, changes)| self.note(stranger, changes));
        self.budgets.extend(later.budgets);
    }

    /// Something has changed, and the kernel could not keep what.
    pub fn note_unheard(&mut self, what: &str) {
        let mut changes = Changes::default();
        changes.add((0, what.to_owned()), 1);
        self.note(None, changes);
    }

    pub(super) fn note(&mut self, stranger: Option<Stranger>, changes: Changes) {
        let stranger = if self.by.len() < STRANGERS_MAX || self.by.contains_key(&stranger) { stranger } else { None };
        self.by.entry(stranger).or_default().join(changes);
    }
}

/// A change in words, and its weight. Names are whatever their maker liked: they are shortened and made plain.
pub(super) fn words(kind: u16, body: &[u8]) -> (usize, String) {
    let family = match body.first().copied().map(i32::from) {
        Some(libc::NFPROTO_INET) => "inet",
        Some(libc::NFPROTO_IPV4) => "ip",
        Some(libc::NFPROTO_IPV6) => "ip6",
        Some(libc::NFPROTO_ARP) => "arp",
        Some(libc::NFPROTO_BRIDGE) => "bridge",
        Some(libc::NFPROTO_NETDEV) => "netdev",
        _ => "?",
    };
    let attributes = body.get(HEADER_BYTES..).unwrap_or_default();
    let known = KINDS.iter().enumerate().find(|(_, (new, gone, ..))| kind & 0xff == *new || kind & 0xff == *gone);
    let Some((weight, (new, _, named, what))) = known else { return (KINDS.len(), format!("message {} of nftables", kind & 0xff)) };
    let done = if kind & 0xff == *new { "added or changed" } else { "deleted" };
    let name = |attribute_kind| attribute(attributes, attribute_kind).map(printable).unwrap_or_default();
    let words = match named {
        None => format!("{what} {family} {} {done}", name(1)),
        Some(named) if *what == "rule" || *what == "element" => format!("{what} {done} in {family} {} {}", name(1), name(*named)),
        Some(named) => format!("{what} {family} {} {} {done}", name(1), name(*named)),
    };
    (weight, words)
}

/// The budget that a message is about.
pub(super) fn budget(kind: u16, attributes: &[u8]) -> Option<String> {
    matches!(kind & 0xff, 18 | 20).then(|| attribute(attributes, 2).map(printable)).flatten()
}

/// A name as far as it is plain: of others' bytes nothing but letters, digits and a few marks come into an entry.
pub(super) fn printable(name: &[u8]) -> String {
    const NAME_BYTES_MAX: usize = 64;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let plain = |byte: &u8| if byte.is_ascii_alphanumeric() || b"-_./:+ ".contains(byte) { char::from(*byte) } else { '?' };
    name.iter().take(NAME_BYTES_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changes_are_told_apart_up_to_a_bound_and_counted_beyond() {
        let mut foreign = Foreign::default();
        for number in 0..1_000_u32 {
            let mut changes = Changes::default();
            (0..200).for_each(|table| changes.add((table, format!("table {table}")), 1));
            foreign.note(Some(Stranger { process: number % 50, program: "x".to_owned() }), changes);
        }
        assert!(foreign.by.len() <= STRANGERS_MAX + 1 && foreign.by.values().all(|changes| changes.words().len() <= CHANGES_TOLD + 1));
        let all: u64 = foreign.by.values().map(|changes| changes.told.values().sum::<u64>() + changes.more).sum();
        assert_eq!(all, 200_000, "none is forgotten");
        assert!(foreign.by.values().all(|changes| changes.words()[0].starts_with("table 0 (")), "what weighs most is told first");
    }

    proptest! {
        /// What the kernel passes on holds names that somebody else chose; no such bytes may stop the warden or forge a line.
        #[test]
        fn whatever_a_change_is_called_it_is_told_in_plain_words(kind in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..300)) {
            let (_, said) = words(kind, &body);
            prop_assert!(said.is_ascii() && !said.contains(['\n', '\r', '\u{1b}']), "{said}");
            let _ = budget(kind, &body);
        }
    }
}
