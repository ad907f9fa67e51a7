//! A screen from the last of what was shown on it. The gateway keeps text and no picture; here a terminal of the same size is played it, out of
//! sight, and what that one shows is drawn: so nothing in the old text asks this terminal a question anew.

use avt::Terminal;

/// Modes that programs switch on for their whole time and the terminal out of sight does not know: mouse, focus, bracketed paste.
const MODES: &[&str] = &["1000", "1002", "1003", "1004", "1006", "2004"];
/// A terminal with more cells is not played: what is drawn is the text as it is.
const CELLS_MAX: usize = 200_000;

/// What draws the screen on a terminal of this size, whatever is on it. What was on it goes up out of sight.
pub fn screen(shown: &str, (columns, rows): (u16, u16)) -> String {
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let model = Terminal::new(columns, rows).ok().filter(|_| columns * rows <= CELLS_MAX);
    let drawn = model.map_or_else(
        || shown.to_owned(),
        |mut model| {
            model.feed(shown);
            model.dump()
        },
    );
    format!("{}\u{1b}[999;1H{}\u{1b}[H\u{1b}[2J{drawn}{}", plain(), "\n".repeat(rows), modes(shown))
}

/// What makes a terminal plain again that a program had for itself.
pub fn plain() -> String {
    let off: String = MODES.iter().map(|mode| format!("\u{1b}[?{mode}l")).collect();
    format!("\u{1b}[?1049l{off}\u{1b}[!p\u{1b}[?25h\u{1b}[m")
}

/// Those of the modes that are on at the end.
fn modes(shown: &str) -> String {
    let is_on = |mode: &&&str| {
        let switched = shown.rmatch_indices("\u{1b}[?").find_map(|(at, start)| {
            let rest = shown.get(at + start.len()..)?;
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            let on = matches!(rest.as_bytes().get(end), Some(b'h'));
            let off = matches!(rest.as_bytes().get(end), Some(b'l'));
            ((on || off) && rest.get(..end)?.split(';').any(|one| one == **mode)).then_some(on)
        });
        switched == Some(true)
    };
    MODES.iter().filter(is_on).map(|mode| format!("\u{1b}[?{mode}h")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(terminal: &Terminal) -> Vec<String> {
        terminal.screen().text()
    }

    /// The terminal that was watched all the time, and one with something else on it that is drawn to, as their holders see them.
    fn both(shown: &str) -> (Vec<String>, Vec<String>) {
        let (mut watched, mut other) = (Terminal::new(80, 24).expect("a size"), Terminal::new(80, 24).expect("a size"));
        watched.feed(shown);
        other.feed("\u{1b}[?1049hsomething else\r\n\u{1b}[31mred");
        other.feed(screen(shown, (80, 24)).as_str());
        assert_eq!(watched.cursor().position(), other.cursor().position());
        (text(&watched), text(&other))
    }

    #[test]
    fn what_is_drawn_is_what_was_there() {
        for shown in ["$ ls\r\na  b\r\n$ ", "\u{1b}[?1049h\u{1b}[2J\u{1b}[5;7Hedited\u{1b}[24;1H-- INSERT --\u{1b}[5;13H", "\u{1b}[1;31mred"] {
            let (watched, other) = both(shown);
            assert_eq!(watched, other, "{shown:?}");
        }
    }

    #[test]
    fn no_question_is_asked_anew_and_a_programs_modes_are_on() {
        let drawn = screen("\u{1b}[c\u{1b}[6n\u{1b}[?2004h\u{1b}[?1000h\u{5}$ \u{1b}[?1000l", (80, 24));
        assert!(!drawn.contains("\u{1b}[c") && !drawn.contains("[6n") && !drawn.contains('\u{5}'), "{drawn:?}");
        assert!(drawn.ends_with("\u{1b}[?2004h"), "{drawn:?}");
    }

    proptest! {
        #[test]
        fn any_text_of_lines_is_drawn_as_it_was(lines in proptest::collection::vec("[a-zäö€ ]{0,100}", 0..60)) {
            let (watched, other) = both(&lines.join("\r\n"));
            prop_assert_eq!(watched, other);
        }
    }
}
