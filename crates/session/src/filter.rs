//! What a workspace's terminal may show: text, colours, cursor movements and titles; nothing that writes the holder's clipboard,
//! moves files, prints, or wraps one of these.
//!
//! The terminal is a UTF-8 one: bytes that are no UTF-8 become U+FFFD, and the controls U+0080–U+009F are taken out, since some
//! terminals obey them. So what is recorded and what is shown are the same text, and there is one way to write each control.
//!
//! Control strings (ECMA-48 section 5.6) pass only if they are on a list: operating system commands by their number, device
//! control strings by what they query. A new number that some terminal invents is off until someone has thought about it.

use memchr::{memchr, memchr3};

/// Operating system commands that pass: titles, colours, hyperlinks, prompt marks.
const OSC_ALLOWED: &[u16] = &[0, 1, 2, 4, 8, 10, 11, 12, 17, 19, 104, 110, 111, 112, 117, 119, 133];
/// A longer control sequence is none that a terminal knows.
const SEQUENCE_BYTES_MAX: usize = 128;
/// What passes of one operating system command: a title or a link, not a file.
const OSC_CHARS_MAX: usize = 4096;

const BEL: char = '\u{7}';
const CAN: char = '\u{18}';
const SUB: char = '\u{1a}';
const ESC: char = '\u{1b}';

/// What the controls U+0080–U+009F begin with in UTF-8.
const C1_LEAD: u8 = 0xc2;

/// What was taken out, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The kind, such as `osc-52`.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Where in the terminal's language the last character left us.
#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and intermediate bytes, as in `ESC ( B`.
    EscapeIntermediate(String),
    /// After `ESC [`: the sequence so far.
    Control(String),
    /// After `ESC ]`: the number so far.
    CommandNumber(String),
    /// Inside an operating system command that passes: how many characters may still.
    Command(usize),
    /// After `ESC P`: what tells the kind so far.
    DeviceHead(String),
    /// Inside a device control string that passes: how many characters may still.
    Device(usize),
    /// Inside a control string that does not pass.
    Dropped,
}

/// The filter of one terminal's output. Keeps its place between calls, so that a sequence cut in two is one.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    /// The first bytes of a UTF-8 character whose rest has not come.
    partial: Vec<u8>,
    /// The character before, in the ground state: ZMODEM's start is told by it.
    before: char,
    removed: Vec<Removed>,
}

impl Filter {
    /// What may be shown of these bytes.
    pub fn pass(&mut self, bytes: &[u8]) -> String {
        let joined;
        let bytes = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let mut out = String::with_capacity(bytes.len());
        // Nearly always it is whole, which is seen many bytes at a time.
        if let Ok(text) = std::str::from_utf8(bytes) {
            self.text(text, &mut out);
            return out;
        }
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.text(chunk.valid(), &mut out);
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && may_be_completed(invalid) {
                self.partial = invalid.to_vec();
            } else {
                self.character(char::REPLACEMENT_CHARACTER, &mut out);
            }
        }
        out
    }

    /// What was taken out since the last call.
    pub fn take_removed(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.removed)
    }

    /// Most output is text between one control and the next, which passes as it is.
    fn text(&mut self, mut text: &str, out: &mut String) {
        while !text.is_empty() {
            if matches!(self.state, State::Ground) {
                let (plain, rest) = text.split_at(plain_bytes(text.as_bytes()));
                self.before = plain.chars().next_back().unwrap_or(self.before);
                out.push_str(plain);
                text = rest;
            }
            let mut rest = text.chars();
            let Some(character) = rest.next() else { return };
            self.character(character, out);
            text = rest.as_str();
        }
    }

    fn character(&mut self, c: char, out: &mut String) {
        if ('\u{80}'..='\u{9f}').contains(&c) {
            self.remove("c1", c.len_utf8());
            return;
        }
        let state = std::mem::take(&mut self.state);
        self.state = match (state, c) {
            // These end whatever they stand in (ECMA-48; xterm's parser does the same).
            (State::Ground, CAN | SUB) => self.cancel(c),
            (State::Command(_) | State::Device(_), CAN | SUB | ESC) => {
                // Ends the string that has passed so far, in the one form that every terminal knows.
                out.push_str("\u{1b}\\");
                if c == ESC { State::Escape } else { State::Ground }
            }
            (_, CAN | SUB) => State::Ground,
            (_, ESC) => State::Escape,
            (State::Ground, c) => {
                self.before = c;
                out.push(c);
                State::Ground
            }
            (State::Escape, c) => self.after_escape(c, out),
            (State::EscapeIntermediate(so_far), c) => self.intermediate(so_far, c, out),
            (State::Control(so_far), c) => self.control(so_far, c, out),
            (State::CommandNumber(number), c) => self.command_number(number, c, out),
            (State::Command(_), BEL) => {
                out.push(BEL);
                State::Ground
            }
            (State::Command(left), c) => self.string(left, c, "osc-long", State::Command, out),
            (State::DeviceHead(head), c) => self.device_head(head, c, out),
            (State::Device(left), c) => self.string(left, c, "dcs-long", State::Device, out),
            (State::Dropped, BEL) => State::Ground,
            (State::Dropped, c) => {
                self.count_bytes(c.len_utf8());
                State::Dropped
            }
        };
    }

    /// CAN and SUB cancel a sequence; where there is none they say nothing, so they are left out. After `*`, CAN would start a ZMODEM
    /// transfer.
    fn cancel(&mut self, c: char) -> State {
        if c == CAN && self.before == '*' {
            self.remove("zmodem", 1);
        }
        State::Ground
    }

    fn after_escape(&mut self, c: char, out: &mut String) -> State {
        match c {
            '[' => State::Control(String::new()),
            ']' => State::CommandNumber(String::new()),
            'P' => State::DeviceHead(String::new()),
            '_' => self.drop_string("apc"),
            '^' => self.drop_string("pm"),
            'X' => self.drop_string("sos"),
            // The end of a string that has been closed already; alone it means nothing.
            '\\' => State::Ground,
            ' '..='/' => State::EscapeIntermediate(c.to_string()),
            '0'..='~' => {
                out.extend([ESC, c]);
                State::Ground
            }
            _ => State::Ground,
        }
    }

    fn intermediate(&mut self, mut so_far: String, c: char, out: &mut String) -> State {
        match c {
            ' '..='/' if so_far.len() < 4 => {
                so_far.push(c);
                State::EscapeIntermediate(so_far)
            }
            '0'..='~' => {
                out.push(ESC);
                out.push_str(&so_far);
                out.push(c);
                State::Ground
            }
            _ => State::Ground,
        }
    }

    fn control(&mut self, mut so_far: String, c: char, out: &mut String) -> State {
        match c {
            ' '..='?' if so_far.len() < SEQUENCE_BYTES_MAX => {
                so_far.push(c);
                State::Control(so_far)
            }
            // Media copy sends what follows to a printer, which may be a file.
            'i' => {
                self.remove("media-copy", so_far.len() + 3);
                State::Ground
            }
            '@'..='~' => {
                out.extend([ESC, '[']);
                out.push_str(&so_far);
                out.push(c);
                State::Ground
            }
            // A control character inside a sequence acts at once, and the sequence goes on.
            '\0'..='\u{1f}' => {
                out.push(c);
                State::Control(so_far)
            }
            _ => {
                self.remove("control-sequence", so_far.len() + 2 + c.len_utf8());
                State::Ground
            }
        }
    }

    fn command_number(&mut self, mut number: String, c: char, out: &mut String) -> State {
        match c {
            '0'..='9' if number.len() < 5 => {
                number.push(c);
                State::CommandNumber(number)
            }
            ';' | BEL if number.parse().is_ok_and(|number| OSC_ALLOWED.contains(&number)) => {
                out.extend([ESC, ']']);
                out.push_str(&number);
                out.push(c);
                if c == BEL { State::Ground } else { State::Command(OSC_CHARS_MAX) }
            }
            BEL => {
                self.remove(&osc_kind(&number), number.len() + 3);
                State::Ground
            }
            _ => {
                self.remove(&osc_kind(&number), number.len() + 2 + c.len_utf8());
                State::Dropped
            }
        }
    }

    fn device_head(&mut self, mut head: String, c: char, out: &mut String) -> State {
        head.push(c);
        match head.as_str() {
            "$" | "+" => State::DeviceHead(head),
            // DECRQSS and XTGETTCAP: a programme asks what the terminal can do.
            "$q" | "+q" => {
                out.extend([ESC, 'P']);
                out.push_str(&head);
                State::Device(SEQUENCE_BYTES_MAX)
            }
            _ => {
                self.remove("dcs", head.len() + 2);
                State::Dropped
            }
        }
    }

    fn string(&mut self, left: usize, c: char, kind: &str, next: fn(usize) -> State, out: &mut String) -> State {
        match left.checked_sub(1) {
            Some(left) => {
                // Control characters have no business in a string, and some terminals act on them.
                if !c.is_control() {
                    out.push(c);
                }
                next(left)
            }
            None => {
                out.push_str("\u{1b}\\");
                self.drop_string(kind)
            }
        }
    }

    fn drop_string(&mut self, kind: &str) -> State {
        self.remove(kind, 2);
        State::Dropped
    }

    fn remove(&mut self, kind: &str, bytes: usize) {
        // The kind that was removed last stands last, so that the rest of its bytes is counted to it.
        let known = self.removed.iter().position(|removed| removed.kind == kind).map(|place| self.removed.remove(place));
        let mut removed = known.unwrap_or_else(|| Removed { kind: kind.to_owned(), count: 0, bytes: 0 });
        removed.count += 1;
        removed.bytes += bytes as u64;
        self.removed.push(removed);
    }

    fn count_bytes(&mut self, bytes: usize) {
        match self.removed.last_mut() {
            Some(removed) => removed.bytes += bytes as u64,
            // The entry of its beginning has been taken; what comes now is counted as its rest.
            None => self.removed.push(Removed { kind: "string-rest".to_owned(), count: 0, bytes: bytes as u64 }),
        }
    }
}

fn osc_kind(number: &str) -> String {
    if number.is_empty() { "osc".to_owned() } else { format!("osc-{}", number.trim_start_matches('0')) }
}

/// How many of these bytes, in the ground state, are nothing more than text: up to a control above, or what may be one beyond ASCII.
fn plain_bytes(bytes: &[u8]) -> usize {
    let end = memchr3(CAN as u8, SUB as u8, ESC as u8, bytes).unwrap_or(bytes.len());
    memchr(C1_LEAD, &bytes[..end]).unwrap_or(end)
}

/// Whether these bytes are the beginning of a UTF-8 character, and not already wrong.
fn may_be_completed(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}
