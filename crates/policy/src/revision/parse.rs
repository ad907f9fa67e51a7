//! The way from a revision's text to a [`Revision`].

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::{
    FILES_MAX, FileLine, NUMBER_MAX, REASON_CHARS_MAX, REVISION_BYTES_MAX, Revision, SIGNATURE_BYTES_MAX, SIGNATURES_MAX, SignatureLine, Signed,
    TITLE,
};
use crate::digest::Digest;
use crate::tree::{OBJECT_BYTES_MAX, TREE_BYTES_MAX, TreePath};

/// Of what stands in a bad line, so much is quoted.
const QUOTED_CHARS_MAX: usize = 80;

/// A text that is no revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}; {help}")]
pub struct ParseError {
    /// Where, the first line being 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

const DAMAGED: &str = "a revision is never edited: put back the file that `sulku policy apply` wrote, or apply again";

/// The lines of a text, each with its number.
struct Lines<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Lines<'t> {
    const fn of(text: &'t str) -> Self {
        Self { rest: text, line: 0 }
    }

    /// The next line, which ends with a newline.
    fn next(&mut self) -> Result<Option<&'t str>, ParseError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let (line, rest) = self.rest.split_once('\n').ok_or_else(|| self.error("its last line has no end", DAMAGED))?;
        self.rest = rest;
        Ok(Some(line))
    }

    /// The value of the next line, which begins with that key and a space.
    fn value(&mut self, key: &str) -> Result<&'t str, ParseError> {
        let line = self.next()?;
        let value = line.and_then(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.ok_or_else(|| match line {
            Some(line) => self.error(format!("here belongs \"{key} …\", not {:?}", quoted(line)), DAMAGED),
            None => Self { rest: "", line: self.line + 1 }.error(format!("it ends where \"{key} …\" belongs"), DAMAGED),
        })
    }

    fn error(&self, what: impl Into<String>, help: &'static str) -> ParseError {
        ParseError { line: self.line, what: what.into(), help }
    }
}

fn quoted(line: &str) -> String {
    line.chars().take(QUOTED_CHARS_MAX).collect()
}

/// Reads a revision's file: text, empty line, signatures.
pub(super) fn signed(bytes: &[u8]) -> Result<Signed, ParseError> {
    let at_first = |what: String| ParseError { line: 1, what, help: DAMAGED };
    if bytes.len() > REVISION_BYTES_MAX {
        return Err(at_first(format!("it has {} bytes, and a revision has at most {REVISION_BYTES_MAX}", bytes.len())));
    }
    let all = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        ParseError { line, what: "this is no UTF-8 text".to_owned(), help: DAMAGED }
    })?;
    let (text, signatures) = match all.split_once("\n\n") {
        Some((text, signatures)) => (format!("{text}\n"), signatures),
        None => return Err(self::text(all.to_owned()).err().unwrap_or_else(|| at_first("no empty line parts text and signatures".to_owned()))),
    };
    let revision = self::text(text)?;
    let mut lines = Lines { rest: signatures, line: 7 + revision.files.len() };
    let mut signatures = Vec::new();
    while !lines.rest.is_empty() {
        signatures.push(signature(&mut lines)?);
        if signatures.len() > SIGNATURES_MAX {
            return Err(lines.error(format!("it has more than {SIGNATURES_MAX} signatures"), DAMAGED));
        }
    }
    Ok(Signed { revision, signatures })
}

fn signature(lines: &mut Lines<'_>) -> Result<SignatureLine, ParseError> {
    let value = lines.value("signature")?;
    let bad = |lines: &Lines<'_>| lines.error("this is no signature: \"signature OPERATOR BASE64\"", DAMAGED);
    let (operator, encoded) = value.split_once(' ').ok_or_else(|| bad(lines))?;
    let operator = operator.parse().map_err(|_| bad(lines))?;
    if encoded.len() > SIGNATURE_BYTES_MAX * 2 {
        return Err(bad(lines));
    }
    let signature = STANDARD.decode(encoded).map_err(|_| bad(lines))?;
    // One signature has one text, so an edit of the file is an edit of the signature.
    if signature.is_empty() || signature.len() > SIGNATURE_BYTES_MAX || STANDARD.encode(&signature) != encoded {
        return Err(bad(lines));
    }
    Ok(SignatureLine { operator, signature })
}

/// Reads the text that is signed.
pub(super) fn text(text: String) -> Result<Revision, ParseError> {
    let mut lines = Lines::of(&text);
    if lines.next()? != Some(TITLE) {
        return Err(ParseError { line: 1, what: format!("it does not begin with \"{TITLE}\""), help: DAMAGED });
    }
    let number = number(lines.value("number")?)
        .filter(|number| (1..=NUMBER_MAX).contains(number))
        .ok_or_else(|| lines.error(format!("the number is not one of 1 to {NUMBER_MAX}"), DAMAGED))?;
    let previous = match lines.value("previous")? {
        "none" => None,
        digest => Some(Digest::from_str(digest).map_err(|error| lines.error(error.to_string(), DAMAGED))?),
    };
    let made = made(lines.value("made")?).ok_or_else(|| lines.error("this is no time as in 2026-11-25T01:00:00Z", DAMAGED))?;
    let by = lines.value("by")?.parse().map_err(|error: sulku_permit::IdError| lines.error(error.to_string(), DAMAGED))?;
    let reason = lines.value("reason")?;
    if !is_reason(reason) {
        let what = format!("the reason is not one line of 1 to {REASON_CHARS_MAX} characters without control characters");
        return Err(lines.error(what, "give another with --reason"));
    }
    let files = files(&mut lines)?;
    if text.len() > REVISION_BYTES_MAX {
        return Err(lines.error(format!("it has {} bytes, and a revision has at most {REVISION_BYTES_MAX}", text.len()), "apply fewer files"));
    }
    let (reason, digest) = (reason.to_owned(), Digest::of(text.as_bytes()));
    Ok(Revision { text, digest, number, previous, made, by, reason, files })
}

fn files(lines: &mut Lines<'_>) -> Result<Vec<FileLine>, ParseError> {
    let mut files: Vec<FileLine> = Vec::new();
    let mut bytes = 0;
    while !lines.rest.is_empty() {
        let value = lines.value("file")?;
        let file = file(value).map_err(|what| lines.error(what, "rename the file or take it out of the folder, and apply again"))?;
        if file.bytes > OBJECT_BYTES_MAX {
            let what = format!("{} has {} bytes, and a file has at most {OBJECT_BYTES_MAX}", file.path, file.bytes);
            return Err(lines.error(what, "shorten the file, and apply again"));
        }
        if files.last().is_some_and(|last| last.path >= file.path) {
            return Err(lines.error(format!("{} is named twice or out of order", file.path), DAMAGED));
        }
        bytes += file.bytes;
        files.push(file);
        if files.len() > FILES_MAX || bytes > TREE_BYTES_MAX {
            let what = format!("there are more than {FILES_MAX} files, or more than {TREE_BYTES_MAX} bytes of them");
            return Err(lines.error(what, "take out the files of permits that ended long ago"));
        }
    }
    Ok(files)
}

fn file(value: &str) -> Result<FileLine, String> {
    let mut parts = value.splitn(3, ' ');
    let (Some(sha256), Some(bytes), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("{:?} is no file: \"file SHA-256 BYTES PATH\"", quoted(value)));
    };
    let sha256 = sha256.parse().map_err(|error: crate::DigestError| error.to_string())?;
    let bytes = number(bytes).ok_or_else(|| format!("{:?} is no length", quoted(bytes)))?;
    let path = path.parse::<TreePath>().map_err(|error| error.to_string())?;
    Ok(FileLine { sha256, bytes, path })
}

/// A number as people write it: no sign, no zero in front.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn made(text: &str) -> Option<Timestamp> {
    let made: Timestamp = text.parse().ok()?;
    // In seconds and in UTC, so that one time has one text.
    (made.subsec_nanosecond() == 0 && made.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() == text).then_some(made)
}

fn is_reason(text: &str) -> bool {
    // Characters that turn a line around or hide in it would make what a second operator reads another text than what she signs.
    let hides =
        |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    (1..=REASON_CHARS_MAX).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(|c| c.is_control() || hides(c))
}
