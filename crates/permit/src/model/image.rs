//! The system of a workspace: whose programs it has.

use std::fmt;
use std::str::FromStr;

use crate::ids::SharedName;

/// What stands before the digits.
const ALGORITHM: &str = "sha256:";

/// An image that a permit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name, by which permits and the warden's configuration know it.
    pub name: SharedName,
    /// What its file must be; none where it is the host's own programs.
    pub digest: Option<ImageDigest>,
}

/// SHA-256 of an image's file; written as `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageDigest([u8; 32]);

impl ImageDigest {
    /// Of a sum that was made.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ImageDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const HELP: &str = "write \"host\", or \"sha256:\" and the 64 digits that sha256sum prints of the image's file";
        let digits = text.strip_prefix(ALGORITHM).ok_or(HELP)?.as_bytes();
        let is_digit = |digit: &u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit);
        if digits.len() != 64 || !digits.iter().all(is_digit) {
            return Err(HELP);
        }
        let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0]) << 4 | value(pair[1]);
        }
        Ok(Self(sum))
    }
}
