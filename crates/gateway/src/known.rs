//! Connections of peers that have shown who they are: so many of one key, so many of all, and some that are kept for operators.
//!
//! A key may have some connections beyond one for each session that it opened, and so may all keys together. By key and not by name, since a key is what was
//! proven: nobody can take up another's places, whatever an authority writes into certificates. Who may do what is not decided here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections of all holders, beyond one for each session.
pub const KNOWN_MAX: usize = 1_024;
/// Connections that are kept for operators, whatever holders do.
pub const OPERATORS_MAX: usize = 64;
/// Of one key that has too many, so many are told so at once; those beyond are hung up on.
const TOLD_MAX: usize = 8;

/// Who is connected.
#[derive(Debug, Clone)]
pub struct Known {
    table: Arc<Mutex<Table>>,
    each: usize,
    all: usize,
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<[u8; 32], Of>,
    holders: usize,
    operators: usize,
}

#[derive(Debug, Default)]
struct Of {
    here: usize,
    told: usize,
}

/// Whose places a connection is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Anybody's who has a certificate.
    Holder,
    /// An operator's.
    Operator,
}

/// What a connection counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Holder,
    Operator,
    Told,
}

/// The sessions that are open.
#[derive(Debug, Clone, Copy)]
pub struct Sessions {
    /// That this key opened.
    pub hers: usize,
    /// Of all.
    pub all: usize,
}

/// A connection whose peer is known; dropped, it is counted no more.
#[derive(Debug)]
#[must_use]
pub struct Here {
    known: Known,
    key: [u8; 32],
    counts: Counts,
}

/// There is no place for it.
#[derive(Debug)]
pub struct Full {
    /// Which places are taken, for the entry.
    pub reason: String,
    /// To be held while its peer is told; `None` where so many are told already.
    pub told: Option<Here>,
}

impl Known {
    /// So many of one key.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { table: Arc::default(), each, all: KNOWN_MAX }
    }

    /// Counts one more connection of this key.
    ///
    /// # Errors
    /// It has as many as it may, or all have.
    pub fn enter(&self, key: [u8; 32], standing: Standing, sessions: Sessions) -> Result<Here, Full> {
        let mut table = self.lock();
        let Table { keys, holders, operators } = &mut *table;
        let of = keys.entry(key).or_default();
        let most = self.each + sessions.hers;
        let reason = if of.here >= most {
            format!("the key has {} connections and {} sessions; it may have {most} connections then", of.here, sessions.hers)
        } else if standing == Standing::Operator && *operators < OPERATORS_MAX {
            (of.here, *operators) = (of.here + 1, *operators + 1);
            return Ok(self.here(key, Counts::Operator));
        } else if *holders < self.all + sessions.all {
            (of.here, *holders) = (of.here + 1, *holders + 1);
            return Ok(self.here(key, Counts::Holder));
        } else {
            format!("all holders together have {holders} connections and {} sessions", sessions.all)
        };
        let told = (of.told < TOLD_MAX).then(|| {
            of.told += 1;
            self.here(key, Counts::Told)
        });
        Err(Full { reason, told })
    }

    fn here(&self, key: [u8; 32], counts: Counts) -> Here {
        Here { known: self.clone(), key, counts }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut table = self.known.lock();
        let Table { keys, holders, operators } = &mut *table;
        let Some(of) = keys.get_mut(&self.key) else { return };
        match self.counts {
            Counts::Holder => (of.here, *holders) = (of.here - 1, *holders - 1),
            Counts::Operator => (of.here, *operators) = (of.here - 1, *operators - 1),
            Counts::Told => of.told -= 1,
        }
        if of.here == 0 && of.told == 0 {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Sessions = Sessions { hers: 0, all: 0 };
    const MAIJA: [u8; 32] = [1; 32];
    const BO: [u8; 32] = [2; 32];

    #[test]
    fn a_key_has_so_many_connections_beyond_its_sessions_and_others_have_theirs() {
        let known = Known::new(3);
        let enter = |key, sessions| known.enter(key, Standing::Holder, sessions);
        let mut hers: Vec<_> = (0..3).map(|_| enter(MAIJA, NONE).expect("a place")).collect();
        assert!(enter(MAIJA, NONE).is_err());
        assert!(enter(BO, NONE).is_ok(), "control: another key");
        let two = Sessions { hers: 2, all: 2 };
        hers.extend((0..2).map(|_| enter(MAIJA, two).expect("one for each session")));
        assert!(enter(MAIJA, two).is_err());
        hers.pop();
        assert!(enter(MAIJA, two).is_ok(), "a place that is free again");
        drop(hers);
        let table = known.lock();
        assert!(table.keys.is_empty() && table.holders == 0, "keys that are gone are forgotten");
    }

    #[test]
    fn of_those_that_are_too_many_few_are_told_so_at_once() {
        let known = Known::new(1);
        let _here = known.enter(MAIJA, Standing::Holder, NONE).expect("a place");
        let full: Vec<_> = (0..100).map(|_| known.enter(MAIJA, Standing::Holder, NONE).expect_err("no place")).collect();
        assert_eq!(full.iter().filter(|full| full.told.is_some()).count(), TOLD_MAX);
        drop(full);
        assert!(known.enter(MAIJA, Standing::Holder, NONE).expect_err("no place").told.is_some());
    }

    #[test]
    fn holders_without_number_leave_operators_their_places() {
        let known = Known { all: 10, ..Known::new(3) };
        let holders: Vec<_> = (0..100).map(|n| known.enter([n; 32], Standing::Holder, NONE)).collect();
        assert_eq!(holders.iter().filter(|here| here.is_ok()).count(), 10);
        let operator = known.enter([200; 32], Standing::Operator, NONE);
        assert!(operator.is_ok());
        assert!(known.enter([201; 32], Standing::Holder, NONE).is_err(), "control: no holder has one");
        let sessions = Sessions { hers: 0, all: 1 };
        assert!(known.enter([201; 32], Standing::Holder, sessions).is_ok(), "one for each session");
    }
}
