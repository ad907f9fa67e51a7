//! Where in a log the entries that pass a filter may be. Without an index: everywhere, but for the time.
//!
//! An index would be another [`Candidates`]: it may name too many entries, since each is looked at and proven, and that it names too
//! few shows where entries are counted.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use sulku_audit::reading::Pages;
use sulku_audit::tile::TILE_WIDTH;
use sulku_audit::{Entry, Source};

use super::filter::Filter;

/// Times are searched as if they grew with the entries' numbers. A wall clock that was set by up to this much hides nothing.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(1);

/// Which way a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From older to newer.
    Forward,
    /// From newer to older.
    Backward,
}

/// Numbers of entries that may pass a filter, in the order in which they are to be looked at.
pub(super) trait Candidates {
    /// The next numbers; `None` when there are no more.
    fn next(&mut self) -> Option<Range<u64>>;
}

/// All entries of a range, bundle by bundle.
pub(super) struct Everything {
    left: Range<u64>,
    direction: Direction,
}

impl Everything {
    pub(super) const fn new(range: Range<u64>, direction: Direction) -> Self {
        Self { left: range, direction }
    }
}

impl Candidates for Everything {
    fn next(&mut self) -> Option<Range<u64>> {
        let Range { start, end } = self.left;
        if start >= end {
            return None;
        }
        Some(match self.direction {
            Direction::Forward => {
                let middle = ((start / TILE_WIDTH + 1) * TILE_WIDTH).min(end);
                self.left = middle..end;
                start..middle
            }
            Direction::Backward => {
                let middle = ((end - 1) / TILE_WIDTH * TILE_WIDTH).max(start);
                self.left = start..middle;
                middle..end
            }
        })
    }
}

/// The part of a log in which the filter's times are.
pub(super) fn within_times(pages: &mut Pages<'_, dyn Source + '_>, filter: &Filter) -> anyhow::Result<Range<u64>> {
    let size = pages.checkpoint().size;
    let begin = match filter.since.and_then(|since| since.checked_sub(CLOCK_SLACK).ok()) {
        // The bundle before the first that begins late enough may end late enough.
        Some(since) => first_from(pages, since)?.saturating_sub(1) * TILE_WIDTH,
        None => 0,
    };
    let end = match filter.until.and_then(|until| until.checked_add(CLOCK_SLACK).ok()) {
        Some(until) => (first_from(pages, until)? * TILE_WIDTH).min(size),
        None => size,
    };
    Ok(begin.min(end)..end)
}

/// The first bundle whose first entry is not before that time.
fn first_from(pages: &mut Pages<'_, dyn Source + '_>, time: Timestamp) -> anyhow::Result<u64> {
    let (mut low, mut high) = (0, pages.checkpoint().size.div_ceil(TILE_WIDTH));
    while low < high {
        let middle = low + (high - low) / 2;
        let bundle = pages.bundle_of(middle * TILE_WIDTH)?;
        let first = bundle.entries().next().map(|(_, bytes)| Entry::parse(bytes)).transpose()?;
        if first.is_some_and(|entry| entry.stamp.time < time) { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(range: Range<u64>, direction: Direction) -> Vec<Range<u64>> {
        let mut everything = Everything::new(range, direction);
        std::iter::from_fn(|| everything.next()).collect()
    }

    #[test]
    fn everything_comes_in_the_pieces_that_bundles_are_in_either_order() {
        assert_eq!(all(300..700, Direction::Forward), [300..512, 512..700]);
        assert_eq!(all(300..700, Direction::Backward), [512..700, 300..512]);
        assert_eq!(all(256..513, Direction::Backward), [512..513, 256..512]);
        assert_eq!(all(7..7, Direction::Backward), []);
    }
}
