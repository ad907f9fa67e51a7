//! Every id of the project, each its own type, so that none is taken for another.
//!
//! An id's text is safe in a file name, a log line and a terminal: no control characters, no spaces, bounded length.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that cannot be the id it was given as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {rule}")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
    text: String,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, max $max:literal, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed: fn(char) -> bool = $allowed;
                let starts_well = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
                if starts_well && text.len() <= $max && text.chars().all(allowed) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(80).collect();
                    Err(IdError { what: $what, rule: $rule, text })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

text_id!(
    /// A permit's diary number, such as `THL/1234/14.02.00/2026`.
    PermitId, "a permit id", max 64, |c| c.is_ascii_alphanumeric() || "/._-".contains(c),
    "1 to 64 of A-Z a-z 0-9 / . _ -, a letter or digit first"
);
text_id!(
    /// A natural person, by the short name that permits and audit entries use, such as `maija.meikalainen`.
    HolderId, "a person's id", max 48, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c),
    "1 to 48 of a-z 0-9 . -, a letter or digit first"
);
text_id!(
    /// A workspace; also the name of its folder and its host name.
    WorkspaceName, "a workspace's name", max 48, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
    "1 to 48 of a-z 0-9 -, a letter or digit first"
);

text_id!(
    /// The name by which permits refer to a file that several of them use: an image, a dataset, a network, a calendar, an authority.
    SharedName, "a name", max 64, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c),
    "1 to 64 of a-z 0-9 . -, a letter or digit first"
);

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 80 bits, written as 16 characters of Crockford's base 32 in lower case.
fn write_bits(bytes: &[u8; 10], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 16];
    for (half, digits) in bytes.chunks_exact(5).zip(text.chunks_exact_mut(8)) {
        let bits = half.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = CROCKFORD[(bits >> (place * 5) & 31) as usize];
        }
    }
    f.write_str(std::str::from_utf8(&text).expect("the digits are ASCII"))
}

fn parse_bits(text: &str, what: &'static str) -> Result<[u8; 10], IdError> {
    let refuse = || IdError { what, rule: "16 of 0-9 a-z without i, l, o, u", text: text.chars().take(80).collect() };
    if text.len() != 16 {
        return Err(refuse());
    }
    let mut bytes = [0_u8; 10];
    for (half, out) in text.as_bytes().chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
        let mut bits = 0_u64;
        for character in half {
            let digit = CROCKFORD.iter().position(|c| c == character).ok_or_else(refuse)?;
            bits = bits << 5 | digit as u64;
        }
        out.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Ok(bytes)
}

macro_rules! bits_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $(#[$made_doc:meta])* $made:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 10]);

        impl $name {
            $(#[$made_doc])*
            #[must_use]
            pub const fn $made(bytes: [u8; 10]) -> Self {
                Self(bytes)
            }

            /// The 80 bits.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 10] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_bits(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_bits(text, $what).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

bits_id!(
    /// One session, for ever: 80 random bits, written as 16 characters of Crockford's base 32 in lower case.
    SessionId, "a session id",
    /// The id made of these random bytes.
    from_random
);
bits_id!(
    /// A person in the entries about one permit: 80 bits that say nothing without the permit's key, written as a session's id is.
    Pseudonym, "a pseudonym",
    /// The pseudonym of these bits, which come from a keyed hash.
    from_hash
);
