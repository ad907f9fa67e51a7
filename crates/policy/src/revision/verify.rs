//! Who signed a revision, and whether they are enough.

use sulku_permit::HolderId;

use super::Signed;
use crate::digest::Digest;
use crate::operators::Operators;

/// A revision that enough operators signed, or one whose narrowing needs one alone. What is put in force needs it, and it is made here
/// and in [`crate::store`] alone.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an approval that nothing is put in force with was for nothing"]
pub struct Approved {
    number: u64,
    digest: Digest,
    approvers: Vec<HolderId>,
}

impl Approved {
    /// The revision's number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The revision's digest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Who signed it, each once, in the order of their lines.
    #[must_use]
    pub fn approvers(&self) -> &[HolderId] {
        &self.approvers
    }
}

/// Who signed a revision. Every signature that is said to be of one of the operators is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// Operators, each once.
    pub known: Vec<HolderId>,
    /// Names that no operator has, whose signatures say nothing.
    pub unknown: Vec<HolderId>,
}

impl Signers {
    /// Verifies every signature.
    ///
    /// # Errors
    /// [`Unapproved::Forged`].
    pub fn of(signed: &Signed, operators: &Operators) -> Result<Self, Unapproved> {
        let mut signers = Self { known: Vec::new(), unknown: Vec::new() };
        let text = signed.revision.text().as_bytes();
        for line in &signed.signatures {
            let mut keys = operators.keys_of(&line.operator).peekable();
            let among = if keys.peek().is_none() {
                &mut signers.unknown
            } else if keys.any(|key| key.signed(text, &line.signature)) {
                &mut signers.known
            } else {
                return Err(Unapproved::Forged { operator: line.operator.clone() });
            };
            if !among.contains(&line.operator) {
                among.push(line.operator.clone());
            }
        }
        Ok(signers)
    }

    /// An approval by whoever signed, when the caller has found that they are enough.
    pub(crate) fn approve(self, signed: &Signed) -> Approved {
        Approved { number: signed.revision.number(), digest: signed.revision.digest(), approvers: self.known }
    }
}

/// A revision that does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unapproved {
    /// A signature is not what it says it is.
    #[error("the signature of {operator} is not by a key that is configured for {operator}: the revision was changed, or the key is another now")]
    Forged {
        /// Whose it is said to be.
        operator: HolderId,
    },
    /// Nobody known signed it, or somebody who is no operator (any more) and too few others.
    #[error("it is signed by {}, of whom {} operators here, and needs {needed}; have it signed with `sulku policy approve`", names(unknown, known), if known.is_empty() { "none are".to_owned() } else { format!("only {} are", names(known, &[])) })]
    Strangers {
        /// Those who are no operators here.
        unknown: Vec<HolderId>,
        /// Those who are.
        known: Vec<HolderId>,
        /// How many it takes.
        needed: usize,
    },
    /// Too few have signed it so far.
    #[error("{} of {needed} operators have signed it: {}", known.len(), names(known, &[]))]
    Pending {
        /// Who has.
        known: Vec<HolderId>,
        /// How many it takes.
        needed: usize,
    },
}

fn names(some: &[HolderId], more: &[HolderId]) -> String {
    let names: Vec<_> = some.iter().chain(more).map(HolderId::as_str).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// Whether enough operators signed a revision. Two signatures of one operator are one; a key belongs to one operator ([`Operators::new`]).
///
/// # Errors
/// Why it does not count.
pub fn verify(signed: &Signed, operators: &Operators) -> Result<Approved, Unapproved> {
    enough(Signers::of(signed, operators)?, signed, operators).map_err(|signers| short(signers, operators))
}

/// The approval, or the signers of whom there are too few.
pub(crate) fn enough(signers: Signers, signed: &Signed, operators: &Operators) -> Result<Approved, Signers> {
    if signers.known.len() >= operators.needed() { Ok(signers.approve(signed)) } else { Err(signers) }
}

/// Why too few do not make a revision count. One that only waits for more signatures is told from one that nobody here stands for: the
/// first lets an older one stay in force, the second may have been in force until an operator left.
pub(crate) fn short(signers: Signers, operators: &Operators) -> Unapproved {
    let (Signers { known, unknown }, needed) = (signers, operators.needed());
    if known.is_empty() || !unknown.is_empty() { Unapproved::Strangers { unknown, known, needed } } else { Unapproved::Pending { known, needed } }
}
