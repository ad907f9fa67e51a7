//! A processor whose vector unit this program does not use: there is no [`Unit`], so messages are hashed one after the other.

pub(super) const BLOCK_BYTES: usize = 64;
pub(super) const LANES_MAX: usize = 1;

pub(super) type Blocks = [[u8; BLOCK_BYTES]; LANES_MAX];
pub(super) type States = [[u32; LANES_MAX]; 8];

/// A vector unit; none can exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {}

impl Unit {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        std::iter::empty()
    }

    pub(super) const fn best() -> Option<Self> {
        None
    }

    pub(super) const fn lanes(self) -> usize {
        match self {}
    }

    pub(super) const fn worthwhile_from(self) -> usize {
        match self {}
    }

    pub(super) const fn compress(self, _: &mut States, _: &Blocks) {
        match self {}
    }
}
