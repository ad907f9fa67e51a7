//! Names of hosts, and which of them a permit lists.
//!
//! Names are what the wire has: letters, digits and hyphens (RFC 1123 section 2.1), in lower case, without the root's dot. A name in
//! another script is written as its A-label (`xn--…`, RFC 5890), so that two names that look alike are two texts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// The longest label (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A text that is no host's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host's name: two or more labels of a-z 0-9 - with dots between them, the last not a number")]
pub struct NameError(String);

/// A host's name, such as `cran.r-project.org`: lower case, at least two labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = NameError;

    /// Takes upper case and a root's dot too, as resolvers do, and keeps neither.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last_is_word = name.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_lowercase()));
        let good = name.len() <= NAME_BYTES_MAX && name.contains('.') && last_is_word && name.split('.').all(label);
        if good { Ok(Self(name)) } else { Err(NameError(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for HostName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which names a destination means: one, or all below a suffix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NamePattern {
    /// This name and no other.
    Exact(HostName),
    /// Every name below this one, itself not among them; written `*.suffix`.
    Below(HostName),
}

impl NamePattern {
    /// Whether it means this name.
    #[must_use]
    pub fn means(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(_) => self.labels_below(name).is_some(),
        }
    }

    /// How many labels of the name stand before the suffix; `None` where the pattern does not mean it.
    #[must_use]
    pub fn labels_below(&self, name: &HostName) -> Option<usize> {
        match self {
            Self::Exact(exact) => (exact == name).then_some(0),
            Self::Below(suffix) => {
                let before = name.as_str().strip_suffix(suffix.as_str())?.strip_suffix('.')?;
                Some(before.split('.').count())
            }
        }
    }

    /// Whether it means every name that the other means.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Below(_)) => false,
            (Self::Below(_), Self::Exact(name)) => self.means(name),
            (Self::Below(a), Self::Below(b)) => a == b || self.means(b),
        }
    }

    /// Whether some name is meant by both. Then one of them covers the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), pattern) | (pattern, Self::Exact(name)) => pattern.means(name),
            (Self::Below(_), Self::Below(_)) => self.covers(other) || other.covers(self),
        }
    }
}

impl FromStr for NamePattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        text.strip_prefix("*.").map_or_else(|| text.parse().map(Self::Exact), |suffix| suffix.parse().map(Self::Below))
    }
}

impl TryFrom<String> for NamePattern {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().expect("a name")
    }

    fn pattern(text: &str) -> NamePattern {
        text.parse().expect("a pattern")
    }

    #[test]
    fn a_name_is_kept_in_one_form() {
        assert_eq!(name("CRAN.R-Project.org.").as_str(), "cran.r-project.org");
        for bad in ["", "localhost", "a..b", "-a.org", "a-.org", "10.0.0.1", "a.b c", "ä.fi", "a.org..", "*.org.x*", ".org", "a_b.org"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert!(format!("{}.org", "a".repeat(64)).parse::<HostName>().is_err());
    }

    #[test]
    fn a_suffix_means_what_is_below_it_and_not_itself_nor_a_lookalike() {
        let below = pattern("*.example.org");
        assert_eq!(below.labels_below(&name("a.b.example.org")), Some(2));
        assert!(below.means(&name("a.example.org")));
        for other in ["example.org", "anexample.org", "a.example.org.evil.net", "example.com"] {
            assert!(!below.means(&name(other)), "{other}");
        }
    }

    #[test]
    fn patterns_overlap_where_one_name_is_meant_by_both() {
        for (a, b, overlap) in [
            ("a.org", "a.org", true),
            ("a.org", "b.org", false),
            ("*.a.org", "x.a.org", true),
            ("*.a.org", "a.org", false),
            ("*.a.org", "*.b.a.org", true),
            ("*.a.org", "*.a.org", true),
            ("*.a.org", "*.ba.org", false),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), overlap, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), overlap, "{b} {a}");
            assert_eq!(pattern(a).covers(&pattern(b)) || pattern(b).covers(&pattern(a)), overlap, "{a} {b}: one covers the other");
        }
    }
}
