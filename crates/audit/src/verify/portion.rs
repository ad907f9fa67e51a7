//! One bundle of entries, checked by itself: its hashes and each entry's form.
//!
//! Needs nothing of the bundles before it, so any thread may do it in any order. What needs their order is [`super::Sequence`]'s.

use crate::entry::Entry;
use crate::lanes::leaf_hashes;
use crate::merkle::Hash;
use crate::source::{Source, read_bundle, read_hashes};
use crate::tile::{self, Extent, TILE_WIDTH, Tile, TileKind};
use crate::verify::Fault;

/// A bundle and its tile of leaf hashes, read and not looked at.
#[derive(Debug)]
pub struct Portion {
    first: u64,
    extent: Extent,
    bundle: Vec<u8>,
    pub(super) hashes: Vec<Hash>,
}

impl Portion {
    /// Reads bundle `number` of a log of `size` entries.
    ///
    /// # Errors
    /// [`Fault::Unreadable`].
    pub fn read<S: Source + ?Sized>(source: &mut S, number: u64, size: u64) -> Result<Self, Fault> {
        let first = number * TILE_WIDTH;
        let unreadable = |cause| Fault::Unreadable { index: first, cause };
        let none = || unreadable(crate::source::ReadError::Missing(format!("bundle {number} of a log of {size} entries")));
        let bundle = Tile::in_tree(TileKind::Entries, number, size).ok_or_else(none)?;
        let level_0 = Tile::in_tree(TileKind::Hashes(0), number, size).ok_or_else(none)?;
        let hashes = read_hashes(source, level_0).map_err(unreadable)?;
        let bytes = read_bundle(source, bundle).map_err(unreadable)?;
        Ok(Self { first, extent: bundle.extent(), bundle: bytes, hashes })
    }

    /// What it holds in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bundle.len() + self.hashes.len() * size_of::<Hash>()
    }

    /// Checks each entry's hash and form.
    #[must_use]
    pub fn check(self) -> Checked {
        let mut checked = Checked { portion: self, entries: Vec::new(), fault: None };
        checked.fault = checked.look().err();
        checked
    }
}

/// A bundle whose entries were checked, up to the first thing wrong.
#[derive(Debug)]
pub struct Checked {
    pub(super) portion: Portion,
    /// The entries before the first thing wrong.
    pub(super) entries: Vec<Entry>,
    pub(super) fault: Option<Fault>,
}

impl Checked {
    /// Each entry that was checked, with its number and bytes.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Entry, &[u8])> {
        (self.portion.first..).zip(&self.entries).zip(split(&self.portion.bundle)).map(|((index, entry), bytes)| (index, entry, bytes))
    }

    fn look(&mut self) -> Result<(), Fault> {
        let Portion { first, extent, bundle, hashes } = &self.portion;
        let all: Vec<&[u8]> = split(bundle).take(hashes.len()).collect();
        self.entries.reserve_exact(all.len());
        for (((index, bytes), hash), found) in (*first..).zip(&all).zip(hashes).zip(leaf_hashes(&all)) {
            if found != *hash {
                return Err(Fault::Changed(index));
            }
            self.entries.push(Entry::parse(bytes).map_err(|cause| Fault::Entry { index, cause })?);
        }
        let (next, taken) = (first + all.len() as u64, all.iter().map(|entry| 2 + entry.len()).sum());
        // Where the full bundle stands in for a partial one, it goes on beyond the checkpoint.
        if all.len() < hashes.len() {
            Err(Fault::CutShort(next))
        } else if *extent == Extent::Full && bundle.len() > taken {
            Err(Fault::Surplus(next - 1))
        } else {
            Ok(())
        }
    }
}

fn split(bundle: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bundle;
    std::iter::from_fn(move || {
        let (entry, after) = tile::split_entry(rest)?;
        rest = after;
        Some(entry)
    })
}
