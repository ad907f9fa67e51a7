//! Random bytes for nonces and salts, drawn from the kernel in pages: an entry needs two small pieces, and each call costs more than its
//! bytes.
//!
//! Makes no keys; those are drawn from the kernel one by one.

use std::cell::RefCell;

use zeroize::Zeroize as _;

const PAGE_BYTES: usize = 4096;

struct Page {
    bytes: [u8; PAGE_BYTES],
    used: usize,
}

thread_local! {
    static PAGE: RefCell<Page> = const { RefCell::new(Page { bytes: [0; PAGE_BYTES], used: PAGE_BYTES }) };
}

/// Bytes that nobody else gets. They are wiped from the page when they are given.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    const { assert!(N <= PAGE_BYTES, "a piece is smaller than a page") };
    PAGE.with_borrow_mut(|page| {
        if PAGE_BYTES - page.used < N {
            getrandom::fill(&mut page.bytes)?;
            page.used = 0;
        }
        let mut given = [0; N];
        let piece = &mut page.bytes[page.used..page.used + N];
        given.copy_from_slice(piece);
        piece.zeroize();
        page.used += N;
        Ok(given)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::random;

    #[test]
    fn no_piece_is_given_twice_across_pages_and_threads() {
        let draw = || (0..1000).map(|_| random::<16>().expect("randomness")).collect::<Vec<_>>();
        let other = std::thread::spawn(draw);
        let pieces: BTreeSet<[u8; 16]> = draw().into_iter().chain(other.join().expect("it ends")).collect();
        assert_eq!(pieces.len(), 2000);
        assert!(!pieces.contains(&[0; 16]), "the page was filled");
    }
}
