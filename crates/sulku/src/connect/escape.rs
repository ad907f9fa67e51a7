//! The escape: `~.` at the start of a line leaves, `~d` leaves the session open, `~~` there stands for one `~`, as OpenSSH users know them. Knows
//! no other.

/// Finds the escape in what is typed.
#[derive(Debug, Default)]
pub struct Escape(At);

#[derive(Debug, Default, Clone, Copy)]
enum At {
    #[default]
    LineStart,
    /// A `~` at the start of a line, held back until it is clear what it means.
    Tilde,
    Line,
}

/// What to do after the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on typing.
    Go,
    /// Leave; what was typed after the escape is dropped.
    Leave,
    /// The same, and the session stays open.
    Detach,
}

impl Escape {
    /// Takes what was typed; gives what is to be sent, and what comes next.
    pub fn take(&mut self, typed: &[u8]) -> (Vec<u8>, Next) {
        let mut sent = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            self.0 = match (self.0, byte) {
                (At::Tilde, b'.') => return (sent, Next::Leave),
                (At::Tilde, b'd') => return (sent, Next::Detach),
                (At::LineStart, b'~') => At::Tilde,
                (At::Tilde, b'~') => {
                    sent.push(b'~');
                    At::Line
                }
                (before, _) => {
                    if matches!(before, At::Tilde) {
                        sent.push(b'~');
                    }
                    sent.push(byte);
                    if matches!(byte, b'\r' | b'\n') { At::LineStart } else { At::Line }
                }
            };
        }
        (sent, Next::Go)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(text: &str) -> (String, Next) {
        let (sent, next) = Escape::default().take(text.as_bytes());
        (String::from_utf8(sent).expect("ASCII"), next)
    }

    #[test]
    fn a_tilde_and_a_dot_leave_at_the_start_of_a_line_only() {
        assert_eq!(typed("~."), (String::new(), Next::Leave));
        assert_eq!(typed("ls\r~.rest"), ("ls\r".into(), Next::Leave));
        assert_eq!(typed("ls\r~d"), ("ls\r".into(), Next::Detach));
        assert_eq!(typed("cp a ~.\r"), ("cp a ~.\r".into(), Next::Go));
        assert_eq!(typed("~x~.\r"), ("~x~.\r".into(), Next::Go));
    }

    #[test]
    fn two_tildes_stand_for_one() {
        assert_eq!(typed("~~.\r"), ("~.\r".into(), Next::Go));
    }

    proptest! {
        #[test]
        fn what_has_no_tilde_passes_unchanged_however_it_is_cut(text in "[a-z.\r\n]{0,60}", piece in 1_usize..9) {
            let mut escape = Escape::default();
            let sent: Vec<_> = text.as_bytes().chunks(piece).flat_map(|bytes| escape.take(bytes).0).collect();
            prop_assert_eq!(sent, text.into_bytes());
        }

        #[test]
        fn cutting_changes_nothing(text in "[ad~.\r]{0,20}", piece in 1_usize..4) {
            let whole = Escape::default().take(text.as_bytes());
            let mut escape = Escape::default();
            let (mut sent, mut next) = (Vec::new(), Next::Go);
            for bytes in text.as_bytes().chunks(piece) {
                let (more, then) = escape.take(bytes);
                sent.extend(more);
                next = then;
                if next != Next::Go {
                    break;
                }
            }
            prop_assert_eq!((sent, next), whole);
        }
    }
}
