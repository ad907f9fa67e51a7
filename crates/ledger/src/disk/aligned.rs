//! Memory for direct writes: begins at a block's boundary, and holds whole blocks.
//!
//! Never shrinks, so that one buffer serves frame after frame. Reads nothing.

use super::BLOCK_BYTES;

/// Bytes that begin at a multiple of [`BLOCK_BYTES`] in memory.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    /// Longer than needed by a block, for the beginning to be moved.
    memory: Vec<u8>,
    begin: usize,
    length: usize,
}

impl Aligned {
    /// Empties it, and makes room for this many bytes.
    pub(crate) fn begin(&mut self, room: usize) {
        self.length = 0;
        self.reserve(room);
    }

    /// Adds bytes at the end.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(self.length + bytes.len());
        let at = self.begin + self.length;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Adds zeroes up to the end of the block.
    pub(crate) fn pad(&mut self) {
        let length = self.length.next_multiple_of(BLOCK_BYTES);
        self.reserve(length);
        self.memory[self.begin + self.length..self.begin + length].fill(0);
        self.length = length;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.length]
    }

    fn reserve(&mut self, length: usize) {
        let length = length.next_multiple_of(BLOCK_BYTES);
        if self.memory.len() < self.begin + length {
            let memory = vec![0; length + BLOCK_BYTES];
            // Nothing but a new allocation moves the memory of a vector, so the boundary stays where it is.
            let begin = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
            let old = std::mem::replace(self, Self { memory, begin, length: 0 });
            self.extend(old.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_at_a_block_however_it_grows() {
        let mut aligned = Aligned::default();
        for round in 1..50_usize {
            aligned.begin(round);
            let bytes: Vec<u8> = (0..round * 999).map(|at| at as u8).collect();
            aligned.extend(&bytes[..round]);
            aligned.extend(&bytes[round..]);
            aligned.pad();
            assert_eq!(aligned.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!(aligned.bytes().len() % BLOCK_BYTES, 0);
            assert_eq!(aligned.bytes()[..bytes.len()], bytes);
            assert!(aligned.bytes()[bytes.len()..].iter().all(|byte| *byte == 0));
        }
    }
}
