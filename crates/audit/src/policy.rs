//! Whom a reader of a log trusts: the log's keys, the witnesses, and how many of them must have cosigned.
//!
//! Two forms of text say it. A log's public file (`ledger.key.pub`) holds the log's keys, and each of them must have signed. A C2SP
//! tlog-policy holds lines of these forms; there any one of the logs' keys is enough, as that specification says, and the quorum must
//! have cosigned:
//!
//! ```text
//! log <key> [<url>]
//! witness <name> <key> [<url>]
//! group <name> <k|any|all> <name>...
//! quorum <name|none>
//! ```
//!
//! A policy that wants the log's ML-DSA-44 signature as well names that key in a `witness` line and lets the quorum have it. Asks
//! nobody and reads no file.

use std::str::FromStr;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosign::{PublicKey, Signed};
use crate::key::Algorithm;
use crate::log_key::{LogKeyError, LogKeys};
use crate::note::{Note, NoteError, Verifier};

/// The specification asks for 32 of each kind at least.
const LINES_OF_A_KIND_MAX: usize = 64;
/// The longest text of a policy: 64 keys of ML-DSA-44 for logs and for witnesses.
pub const POLICY_BYTES_MAX: usize = 512 * 1024;

/// A text that says nothing about whom to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A line of a policy.
    #[error("line {line}: {what}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to do.
        what: String,
    },
    /// The policy has no quorum.
    #[error("the policy has no quorum line; write `quorum none` if no witness is asked for")]
    NoQuorum,
    /// The policy names no log.
    #[error("the policy names no log; add a line: log <the log's public key>")]
    NoLog,
    /// It is longer than any policy.
    #[error("a policy is at most {POLICY_BYTES_MAX} bytes")]
    TooLong,
    /// A public file.
    #[error(transparent)]
    Keys(#[from] LogKeyError),
}

/// Whom a reader trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    logs: Logs,
    /// Witnesses and groups in the order of their definitions; a group's members come before it.
    members: Vec<Member>,
    /// A place in `members`.
    quorum: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Logs {
    /// One log, each of whose keys must have signed.
    Every(LogKeys),
    /// Any of these.
    Any(Vec<PublicKey>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Witness(Box<PublicKey>),
    Group { need: usize, of: Vec<usize> },
}

/// A checkpoint that carries what was demanded. Nothing but [`Trust::open`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Opened {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The log's keys that were found, and when they signed.
    pub signed: Vec<(PublicKey, Signed)>,
    /// The witnesses' keys that were found, and when they cosigned.
    pub cosigned: Vec<(PublicKey, Signed)>,
}

impl Trust {
    /// The log's keys, and of these witnesses at least `quorum`. Keys of one name are one witness, which then has to cosign with each.
    ///
    /// # Errors
    /// There are fewer witnesses than the quorum, or a key is no witness's.
    pub fn with_witnesses(log: LogKeys, witnesses: &[PublicKey], quorum: usize) -> Result<Self, TrustError> {
        let mut trust = Self { logs: Logs::Every(log), members: Vec::new(), quorum: None };
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        for key in witnesses {
            trust
                .add_witness(format!("{}:{}", key.name(), key.algorithm().name()), key.clone())
                .map_err(|what| TrustError::Line { line: 1, what })?;
            let at = trust.members.len() - 1;
            match groups.iter_mut().find(|(name, _)| name == key.name()) {
                Some((_, of)) => of.push(at),
                None => groups.push((key.name().to_owned(), vec![at])),
            }
        }
        if quorum > groups.len() {
            return Err(TrustError::Line { line: 1, what: format!("a quorum of {quorum} can't come from {} witnesses", groups.len()) });
        }
        let begin = trust.members.len();
        trust.members.extend(groups.into_iter().map(|(name, of)| Member { name, kind: Kind::Group { need: of.len(), of } }));
        let of = (begin..trust.members.len()).collect();
        trust.members.push(Member { name: "quorum".to_owned(), kind: Kind::Group { need: quorum, of } });
        trust.quorum = (quorum > 0).then(|| trust.members.len() - 1);
        Ok(trust)
    }

    /// The log's name; with a policy of several logs the first one's.
    #[must_use]
    pub fn origin(&self) -> &str {
        match &self.logs {
            Logs::Every(keys) => keys.origin(),
            Logs::Any(keys) => keys.first().map_or("", PublicKey::name),
        }
    }

    /// Whether a checkpoint needs cosignatures.
    #[must_use]
    pub const fn asks_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// The logs' keys.
    #[must_use]
    pub fn log_keys(&self) -> &[PublicKey] {
        match &self.logs {
            Logs::Every(keys) => keys.keys(),
            Logs::Any(keys) => keys,
        }
    }

    /// The checkpoint in a note that carries what is demanded. Signatures by keys that are not known are not looked at; a wrong one by
    /// a known key spoils all.
    ///
    /// # Errors
    /// It does not carry it.
    pub fn open(&self, note: &[u8]) -> Result<Opened, CheckpointError> {
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::of_note(&note)?;
        let find = |key: &PublicKey| match key.find(&note, &checkpoint) {
            Ok(signed) => Ok(Some((key.clone(), signed))),
            Err(NoteError::Signature) => Err(CheckpointError::Signature(key.short())),
            Err(_) => Ok(None),
        };
        let mut signed = Vec::new();
        for key in self.log_keys() {
            match (find(key)?, &self.logs) {
                (Some(found), _) => signed.push(found),
                (None, Logs::Every(_)) => return Err(CheckpointError::Unsigned { key: key.short(), by: signers(&note) }),
                (None, Logs::Any(_)) => {}
            }
        }
        // A key may sign for one log alone: its name is the log's.
        let others = |key: &PublicKey| key.name() != checkpoint.origin;
        if let Some((key, _)) = signed.iter().find(|(key, _)| others(key)) {
            return Err(CheckpointError::Origin { expected: key.name().to_owned(), found: checkpoint.origin });
        }
        if signed.is_empty() {
            return Err(CheckpointError::Log(signers(&note)));
        }
        let mut cosigned = Vec::new();
        let mut reached = vec![false; self.members.len()];
        for (at, member) in self.members.iter().enumerate() {
            reached[at] = match &member.kind {
                Kind::Witness(key) => match find(key)? {
                    Some(found) => {
                        cosigned.push(found);
                        true
                    }
                    None => false,
                },
                Kind::Group { need, of } => of.iter().filter(|member| reached[**member]).count() >= *need,
            };
        }
        match self.quorum {
            Some(quorum) if !reached[quorum] => Err(CheckpointError::Quorum(self.lacking(&reached))),
            _ => Ok(Opened { checkpoint, signed, cosigned }),
        }
    }

    fn lacking(&self, reached: &[bool]) -> String {
        let witnesses = self.members.iter().zip(reached).filter(|(member, _)| matches!(member.kind, Kind::Witness(_)));
        let (found, missing): (Vec<_>, Vec<_>) = witnesses.partition(|(_, reached)| **reached);
        let names = |members: Vec<(&Member, &bool)>| match members.iter().map(|(member, _)| member.name.as_str()).collect::<Vec<_>>() {
            names if names.is_empty() => "none".to_owned(),
            names => names.join(", "),
        };
        format!("cosigned by {}; not by {}", names(found), names(missing))
    }

    fn add_witness(&mut self, name: String, key: PublicKey) -> Result<(), String> {
        if key.algorithm() == Algorithm::Ed25519 {
            return Err("a witness's key has type 0x04 or 0x06; this one signs notes, not cosignatures".to_owned());
        }
        let same = |member: &&Member| matches!(&member.kind, Kind::Witness(other) if other.bytes() == key.bytes());
        if let Some(other) = self.members.iter().find(same) {
            return Err(format!("the witness {:?} has this key already", other.name));
        }
        self.define(name, Kind::Witness(Box::new(key)))
    }

    fn define(&mut self, name: String, kind: Kind) -> Result<(), String> {
        if name == "none" || self.members.iter().any(|member| member.name == name) {
            return Err(format!("the name {name:?} is taken"));
        }
        let alike = self.members.iter().filter(|member| std::mem::discriminant(&member.kind) == std::mem::discriminant(&kind)).count();
        if alike >= LINES_OF_A_KIND_MAX {
            return Err(format!("more than {LINES_OF_A_KIND_MAX} lines of this kind"));
        }
        self.members.push(Member { name, kind });
        Ok(())
    }

    fn place(&self, name: &str) -> Result<usize, String> {
        let found = self.members.iter().position(|member| member.name == name);
        found.ok_or_else(|| format!("{name:?} is no witness or group of a line before this one"))
    }
}

impl From<LogKeys> for Trust {
    fn from(keys: LogKeys) -> Self {
        Self { logs: Logs::Every(keys), members: Vec::new(), quorum: None }
    }
}

impl From<Verifier> for Trust {
    fn from(verifier: Verifier) -> Self {
        LogKeys::from(verifier).into()
    }
}

impl FromStr for Trust {
    type Err = TrustError;

    /// Reads a public file or a policy: a policy's lines begin with one of four words.
    fn from_str(text: &str) -> Result<Self, TrustError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(TrustError::TooLong);
        }
        let words = |line: &str| line.split([' ', '\t']).find(|word| !word.is_empty()).map(str::to_owned);
        let first = text.split('\n').filter_map(words).find(|word| !word.starts_with('#'));
        if matches!(first.as_deref(), Some("log" | "witness" | "group" | "quorum")) {
            parse_policy(text)
        } else {
            Ok(text.parse::<LogKeys>()?.into())
        }
    }
}

fn parse_policy(text: &str) -> Result<Trust, TrustError> {
    let mut logs: Vec<PublicKey> = Vec::new();
    let mut trust = Trust { logs: Logs::Any(Vec::new()), members: Vec::new(), quorum: None };
    let mut in_group = std::collections::BTreeSet::new();
    let mut quorum = None;
    for (at, line) in text.split('\n').enumerate() {
        let outcome = (|| -> Result<(), String> {
            if line.chars().any(|c| c < ' ' && c != '\t' || c == '\u{7f}') {
                return Err("it holds a control character".to_owned());
            }
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            match *words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", key] | ["log", key, _] => {
                    let key = parse_key(key)?;
                    if key.algorithm() == Algorithm::Ed25519Cosignature {
                        return Err("a log's key has type 0x01 or 0x06; this one is a witness's".to_owned());
                    }
                    if logs.iter().any(|other| other.bytes() == key.bytes()) {
                        return Err("another line has this key already".to_owned());
                    }
                    if logs.len() >= LINES_OF_A_KIND_MAX {
                        return Err(format!("more than {LINES_OF_A_KIND_MAX} lines of this kind"));
                    }
                    logs.push(key);
                }
                ["witness", name, key] | ["witness", name, key, _] => trust.add_witness(name.to_owned(), parse_key(key)?)?,
                ["group", name, need, ref members @ ..] if !members.is_empty() => {
                    let of = members.iter().map(|member| trust.place(member)).collect::<Result<Vec<_>, _>>()?;
                    if let Some(twice) = of.iter().find(|member| !in_group.insert(**member)) {
                        return Err(format!("{:?} is in a group already; a member counts once", trust.members[*twice].name));
                    }
                    let need = match need {
                        "any" => 1,
                        "all" => of.len(),
                        number => number
                            .parse()
                            .ok()
                            .filter(|need: &usize| need.to_string() == number && (1..=of.len()).contains(need))
                            .ok_or_else(|| format!("{number:?} is not any, all or a number from 1 to {}, the group's members", of.len()))?,
                    };
                    trust.define(name.to_owned(), Kind::Group { need, of })?;
                }
                ["quorum", _] if quorum.is_some() => return Err("a second quorum".to_owned()),
                ["quorum", "none"] => quorum = Some(None),
                ["quorum", name] => quorum = Some(Some(trust.place(name)?)),
                [word, ..] => {
                    return Err(format!(
                        "{word:?} begins no line of this form: log <key>, witness <name> <key>, group <name> <k|any|all> <name>..., quorum <name>"
                    ));
                }
            }
            Ok(())
        })();
        outcome.map_err(|what| TrustError::Line { line: at + 1, what })?;
    }
    trust.quorum = quorum.ok_or(TrustError::NoQuorum)?;
    if logs.is_empty() {
        return Err(TrustError::NoLog);
    }
    trust.logs = Logs::Any(logs);
    Ok(trust)
}

fn parse_key(text: &str) -> Result<PublicKey, String> {
    text.parse().map_err(|error: crate::key::KeyError| error.to_string())
}

/// The keys that a note's lines name, as far as a message has room for them. Nobody has verified them.
fn signers(note: &Note<'_>) -> String {
    const SHOWN_MAX: usize = 6;
    let mut names: Vec<String> = note.lines().iter().take(SHOWN_MAX).map(|line| crate::key::short(line.name, line.hash)).collect();
    if note.lines().len() > SHOWN_MAX {
        names.push("others".to_owned());
    }
    names.join(", ")
}
