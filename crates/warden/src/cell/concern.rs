//! What of a cell the kernel watches for the warden, and the number under which it gives notice. It says nothing of what follows.

/// What of a cell is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// What its first process says.
    Words,
    /// Its first process's end.
    End,
}

impl Concern {
    /// As a number, with the mark of the cell.
    #[must_use]
    pub const fn in_cell(self, mark: u32) -> u64 {
        (mark as u64) << 1 | self as u64
    }

    /// The mark of the cell, and what is meant of it.
    #[must_use]
    pub fn of(number: u64) -> (u32, Self) {
        let mark = u32::try_from(number >> 1).unwrap_or(0);
        (mark, if number & 1 == Self::Words as u64 { Self::Words } else { Self::End })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_which_cell_and_what_of_it() {
        for mark in [0, 1, 77, u32::MAX] {
            for concern in [Concern::Words, Concern::End] {
                assert_eq!(Concern::of(concern.in_cell(mark)), (mark, concern));
            }
        }
    }
}
