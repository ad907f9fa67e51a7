//! The names and user ids of one stage, apart from those of every other on this machine.

use std::ops::Range;

use crate::ground::Ground;

/// User ids of an instance: ledger, gateway, courier, resolver, then the cells.
const UIDS_EACH: u32 = 4_096;
/// User ids before those of the cells.
const UIDS_OF_DAEMONS: u32 = 16;
/// Ranges until they begin anew: enough for any two stages that stand at the same time.
const UID_RANGES: u32 = 262_144;
/// The first of all of them: far above what systems hand out, below what some take for negative.
const UID_FIRST: u32 = 700_000_000;
/// Stages that one process may raise; their numbers must not meet those of the next process.
const STAGES_EACH: u32 = 32;

/// One stage's part of what all on the machine share.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// Part of every name.
    pub(crate) name: String,
    /// Its user ids.
    pub(crate) uids: Range<u32>,
    ground: Ground,
}

impl Instance {
    /// That of a process's first, second … stage.
    pub(crate) fn of(pid: u32, count: u32, ground: Ground) -> Self {
        let number = pid * STAGES_EACH + count % STAGES_EACH;
        let start = UID_FIRST + number % UID_RANGES * UIDS_EACH;
        Self { name: format!("s{}", base_36(number)), uids: start..start + UIDS_EACH, ground }
    }

    /// What it stands on.
    pub(crate) fn ground(&self) -> Ground {
        self.ground
    }

    /// The user and the group of a daemon: its own, where there is more than one.
    fn user(&self, number: u32) -> (u32, u32) {
        match self.ground {
            Ground::Machine => (self.uids.start + number, self.uids.start + number),
            Ground::Own { uid, gid } => (uid, gid),
        }
    }

    pub(crate) fn ledger_user(&self) -> (u32, u32) {
        self.user(0)
    }

    pub(crate) fn courier_user(&self) -> (u32, u32) {
        self.user(2)
    }

    pub(crate) fn ledger_uid(&self) -> u32 {
        self.user(0).0
    }

    pub(crate) fn warden_uid(&self) -> u32 {
        if self.ground.is_machine() { 0 } else { self.user(0).0 }
    }

    pub(crate) fn gateway_uid(&self) -> u32 {
        self.user(1).0
    }

    pub(crate) fn courier_uid(&self) -> u32 {
        self.user(2).0
    }

    pub(crate) fn resolver_uid(&self) -> u32 {
        self.user(3).0
    }

    pub(crate) fn cell_uids(&self) -> Range<u32> {
        self.uids.start + UIDS_OF_DAEMONS..self.uids.end
    }

    /// What its folder's name begins with.
    pub(crate) fn folder_prefix(&self) -> String {
        format!("sulku-{}-", self.name)
    }

    /// The network namespace of a host of its.
    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("sulku-{}-{host}", self.name)
    }

    /// Its ledger's name.
    pub(crate) fn origin(&self) -> String {
        format!("ledger.demo.sulku.example/{}", self.name)
    }
}

/// In few characters: the name becomes part of interface names, which the kernel keeps to 15.
fn base_36(mut number: u32) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.is_empty() {
        digits.extend(char::from_digit(number % 36, 36));
        number /= 36;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_stages_of_neighbouring_processes_meet() {
        let all: Vec<_> = (1..40).flat_map(|pid| (0..STAGES_EACH).map(move |count| Instance::of(pid, count, Ground::Machine))).collect();
        let names: std::collections::BTreeSet<_> = all.iter().map(|instance| &instance.name).collect();
        assert_eq!(names.len(), all.len());
        let mut ranges: Vec<_> = all.iter().map(|instance| instance.uids.clone()).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(Instance::of(4_194_304, 31, Ground::Machine).name.len() <= 8, "the warden takes names of 8 characters");
    }
}
