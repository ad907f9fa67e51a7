//! Text that is not durable yet: how much of it is shown all the same.
//!
//! Strict: none. Windowed: little of it and briefly, so that a crash loses no more than that. Sends and records nothing itself.

use std::collections::VecDeque;
use std::time::Duration;

use sulku_permit::Durability;

/// The most text that is shown and not durable: what a person might have read that no recording has, after the worst crash.
pub(crate) const WINDOW_BYTES_MAX: usize = 64 * 1024;
/// Once something shown has not been durable for this long, nothing more is shown.
pub(crate) const WINDOW_AGE_MAX: Duration = Duration::from_millis(250);

/// Text on its way to the holder.
#[derive(Debug)]
pub(crate) struct Window {
    durability: Durability,
    /// What is not durable, oldest first. Bounded by the client's credit.
    text: String,
    /// So much of it is shown, from its beginning.
    ahead: usize,
    /// Of what is shown ahead, the pieces' lengths and their moments.
    pieces: VecDeque<(usize, Duration)>,
}

impl Window {
    pub(crate) const fn new(durability: Durability) -> Self {
        Self { durability, text: String::new(), ahead: 0, pieces: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Text that waits for its recording to be shown.
    pub(crate) const fn held(&self) -> usize {
        self.text.len() - self.ahead
    }

    /// Text that is shown and not durable.
    pub(crate) const fn shown_ahead(&self) -> usize {
        self.ahead
    }

    /// The oldest bytes are durable: gives those that were not shown yet.
    pub(crate) fn kept(&mut self, bytes: usize) -> String {
        let rest = self.text.split_off(bytes);
        let mut durable = std::mem::replace(&mut self.text, rest);
        let shown = self.ahead.min(bytes);
        self.ahead -= shown;
        let mut left = shown;
        while let Some((piece, _)) = self.pieces.front_mut().filter(|_| left > 0) {
            let taken = left.min(*piece);
            (*piece, left) = (*piece - taken, left - taken);
            if *piece == 0 {
                self.pieces.pop_front();
            }
        }
        durable.split_off(shown)
    }

    /// What may be shown now although it is not durable.
    pub(crate) fn take_ahead(&mut self, now: Duration) -> Option<String> {
        let stale = self.pieces.front().is_some_and(|(_, shown)| now.saturating_sub(*shown) >= WINDOW_AGE_MAX);
        if self.durability == Durability::Strict || stale {
            return None;
        }
        let until = floor(&self.text, WINDOW_BYTES_MAX);
        let piece = self.text.get(self.ahead..until).filter(|piece| !piece.is_empty())?.to_owned();
        self.ahead = until;
        self.pieces.push_back((piece.len(), now));
        Some(piece)
    }
}

/// The last border between characters that is not beyond `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// All that is pushed is given out once, in order; windowed, no more than the window and nothing once it is stale; strict, nothing early.
        #[test]
        fn text_is_shown_once_in_order_and_never_too_far_ahead(
            windowed: bool,
            steps in proptest::collection::vec((0_u8..3, 0_usize..30_000, 0_u64..200), 0..60),
        ) {
            let durability = if windowed { Durability::Windowed } else { Durability::Strict };
            let (mut window, mut now) = (Window::new(durability), Duration::ZERO);
            let (mut pushed, mut shown, mut durable) = (String::new(), String::new(), 0);
            // When each byte that is shown was, as long as it is not durable.
            let mut moments: VecDeque<(usize, Duration)> = VecDeque::new();
            for (step, size, pause) in steps {
                now += Duration::from_millis(pause);
                match step {
                    0 => {
                        let text = "äb".repeat(size / 3);
                        window.push(&text);
                        pushed.push_str(&text);
                    }
                    1 => {
                        let bytes = floor(&pushed[durable..], size);
                        durable += bytes;
                        shown.push_str(&window.kept(bytes));
                        moments.retain(|(end, _)| *end > durable);
                    }
                    _ => {
                        let stale = moments.front().is_some_and(|(_, shown)| now - *shown >= WINDOW_AGE_MAX);
                        let ahead = window.take_ahead(now).unwrap_or_default();
                        prop_assert!(!stale || ahead.is_empty(), "something old is not durable");
                        prop_assert!(windowed || ahead.is_empty(), "strict");
                        shown.push_str(&ahead);
                        if !ahead.is_empty() {
                            moments.push_back((shown.len(), now));
                        }
                    }
                }
                prop_assert_eq!(&pushed[..shown.len()], &shown);
                prop_assert_eq!(shown.len().saturating_sub(durable), window.shown_ahead());
                prop_assert!(window.shown_ahead() <= WINDOW_BYTES_MAX && shown.len() >= durable);
            }
        }
    }
}
