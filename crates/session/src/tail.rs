//! The last of what a terminal showed, from which a holder's screen is drawn anew when she takes her session up again.
//!
//! Text as it was shown, and so recorded and filtered before; no model of a terminal: what programs write never runs through one here. The
//! one thing that is understood is whether the alternate screen was on where the text begins, since a full-screen program says so once.

/// So much is kept of it: some screenfuls, and less than the credit of a client that comes.
pub(crate) const TAIL_BYTES_MAX: usize = 64 * 1024;
/// What stands before the text at most.
const PREFIX: &str = "\u{1b}[?1049h";
/// The longest that [`Tail::screen`] gives.
pub(crate) const SCREEN_BYTES_MAX: usize = TAIL_BYTES_MAX + PREFIX.len();
/// The text is cut when it is so much longer: not at each piece.
const SLACK_BYTES: usize = 32 * 1024;
/// A line's end is looked for within this, so that the text begins with a line where there are lines.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// The last of what a terminal showed.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    text: String,
    /// Where the text begins, the alternate screen is on.
    alternate: bool,
}

impl Tail {
    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() > TAIL_BYTES_MAX + SLACK_BYTES {
            self.cut();
        }
    }

    /// What draws the screen as it was last, on a terminal that is empty.
    pub(crate) fn screen(&mut self) -> String {
        self.cut();
        format!("{}{}", if self.alternate { PREFIX } else { "" }, self.text)
    }

    /// Whether the alternate screen is on: what runs there draws the whole of it, when it is asked to.
    pub(crate) fn is_alternate(&self) -> bool {
        alternate_after(self.alternate, &self.text)
    }

    fn cut(&mut self) {
        let surplus = self.text.len().saturating_sub(TAIL_BYTES_MAX);
        if surplus == 0 {
            return;
        }
        let surplus = (surplus..).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len());
        let line = self.text.as_bytes().iter().skip(surplus).take(LINE_BYTES_MAX).position(|byte| *byte == b'\n');
        let at = line.map_or(surplus, |line| surplus + line + 1);
        self.alternate = alternate_after(self.alternate, self.text.get(..at).unwrap_or_default());
        self.text.drain(..at);
    }
}

/// Whether the alternate screen is on after this text. The filter lets whole control sequences through and no others.
fn alternate_after(before: bool, text: &str) -> bool {
    const MODES: [&str; 3] = ["1049", "1047", "47"];
    let switched = text.rmatch_indices('\u{1b}').find_map(|(at, _)| {
        let rest = text.get(at..)?.strip_prefix("\u{1b}[?")?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
        let on = match rest.as_bytes().get(end)? {
            b'h' => true,
            b'l' => false,
            _ => return None,
        };
        rest.get(..end)?.split(';').any(|mode| MODES.contains(&mode)).then_some(on)
    });
    switched.unwrap_or(before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_alternate_screen_is_known_though_its_beginning_is_long_gone() {
        let mut tail = Tail::default();
        tail.push("prompt$ vim\r\n\u{1b}[?25;1049h");
        (0..5_000).for_each(|line| tail.push(&format!("\u{1b}[{};1Hline {line} of what is edited\r\n", line % 24)));
        assert!(tail.is_alternate());
        let screen = tail.screen();
        assert!(screen.starts_with("\u{1b}[?1049h\u{1b}[") && screen.ends_with("line 4999 of what is edited\r\n"), "{:?}", &screen[..60]);
        tail.push("\u{1b}[?1049lprompt$ ");
        assert!(!tail.is_alternate() && tail.screen().starts_with("\u{1b}[?1049h"), "its beginning is within what was edited");
        (0..10_000).for_each(|line| tail.push(&format!("line {line}\r\n")));
        assert!(!tail.is_alternate() && tail.screen().starts_with("line "));
    }

    proptest! {
        #[test]
        fn it_is_the_end_of_what_was_shown_and_never_too_long(pieces in proptest::collection::vec(("[a-zäö€🦭\n]{0,40}", 0_usize..700), 0..40)) {
            let (mut tail, mut all) = (Tail::default(), String::new());
            for (piece, times) in pieces {
                let piece = piece.repeat(times);
                tail.push(&piece);
                all.push_str(&piece);
                prop_assert!(tail.text.len() <= TAIL_BYTES_MAX + SLACK_BYTES);
            }
            let screen = tail.screen();
            prop_assert!(screen.len() <= SCREEN_BYTES_MAX && all.ends_with(&screen));
            prop_assert!(screen.len() >= all.len().min(TAIL_BYTES_MAX - LINE_BYTES_MAX - 4));
        }
    }
}
