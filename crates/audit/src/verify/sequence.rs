//! The log in its order: the tree over the bundles, the gapless counters, the recordings, and at the end the root.

use jiff::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::counters::Counters;
use crate::entry::Entry;
use crate::event::Event;
use crate::merkle::Hash;
use crate::rotation::Rotation;
use crate::source::{Source, read_hashes};
use crate::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};
use crate::verify::recording::Recorded;
use crate::verify::{Checked, Fault, Recordings, Verified};

/// A verification under way: takes bundle after bundle, from the first on.
#[derive(Debug)]
pub struct Sequence {
    checkpoint: Checkpoint,
    recordings: Recordings,
    counters: Counters,
    tree: TiledTree,
    recorded: Recorded,
    period: Option<(Timestamp, Timestamp)>,
}

impl Sequence {
    /// Begins to verify up to this checkpoint, whose signature was checked.
    #[must_use]
    pub fn new(checkpoint: Checkpoint, recordings: Recordings) -> Self {
        let (counters, tree, recorded) = (Counters::default(), TiledTree::default(), Recorded::default());
        Self { checkpoint, recordings, counters, tree, recorded, period: None }
    }

    /// Entries that the checkpoint covers.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Takes the next bundle, and shows each entry with its number and bytes.
    ///
    /// # Errors
    /// The first thing wrong up to the bundle's end.
    pub fn take<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        checked: &mut Checked,
        mut visit: impl FnMut(u64, &Entry, &[u8]),
    ) -> Result<(), Fault> {
        let outcome = self.take_entries(source, checked, &mut visit);
        // A recording's digest may be reckoned later than its entry, but what is wrong with it comes first.
        self.recorded.settle()?;
        outcome?;
        if let Some(fault) = checked.fault.take() {
            return Err(fault);
        }
        checked.portion.hashes.iter().for_each(|hash| self.tree.push(*hash));
        for (tile, hashes) in self.tree.take_full() {
            check_tile(source, tile, &hashes)?;
        }
        Ok(())
    }

    fn take_entries<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        checked: &Checked,
        visit: &mut impl FnMut(u64, &Entry, &[u8]),
    ) -> Result<(), Fault> {
        for (index, entry, bytes) in checked.entries() {
            let chunk = self.counters.check(entry).map_err(|cause| Fault::Counter { index, cause })?;
            if self.recordings == Recordings::Check {
                self.recorded.take(source, index, entry, chunk)?;
            }
            if let Event::LedgerKeyRotated { old, new, signature } = &*entry.event {
                let rotation = Rotation { old: old.clone(), new: new.clone(), signature: signature.clone() };
                rotation.check(&self.checkpoint.origin).map_err(|cause| Fault::Rotation { index, cause })?;
            }
            let time = entry.stamp.time;
            self.period = Some((self.period.map_or(time, |(first, _)| first), time));
            visit(index, entry, bytes);
        }
        Ok(())
    }

    /// Compares the tree's edge and its root.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn finish<S: Source + ?Sized>(self, source: &mut S) -> Result<Verified, Fault> {
        let Self { checkpoint, recordings: _, counters, tree, recorded, period } = self;
        for (tile, hashes) in tree.partial() {
            check_tile(source, tile, hashes)?;
        }
        if tree.size() != checkpoint.size || tree.root() != checkpoint.root {
            return Err(Fault::Root { size: checkpoint.size });
        }
        recorded.finish()?;
        let (permits, sessions) = (counters.permits(), counters.sessions());
        let Recorded { chunks, bytes: recorded_bytes, deleted, .. } = recorded;
        Ok(Verified { checkpoint, permits, sessions, chunks, recorded_bytes, deleted, period })
    }
}

/// Compares a tile with what the entries give. Level 0 was compared entry by entry.
fn check_tile<S: Source + ?Sized>(source: &mut S, tile: Tile, expected: &[Hash]) -> Result<(), Fault> {
    let TileKind::Hashes(level @ 1..) = tile.kind else { return Ok(()) };
    let index = (tile.number * TILE_WIDTH) << (tile::TILE_HEIGHT * u32::from(level));
    let found = read_hashes(source, tile).map_err(|cause| Fault::Unreadable { index, cause })?;
    if found == expected { Ok(()) } else { Err(Fault::Tile { index, path: tile.to_string() }) }
}
