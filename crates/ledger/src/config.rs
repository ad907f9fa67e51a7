//! The ledger's configuration: one TOML file, unknown keys refused, every error with its place and what to do.
//!
//! Reads no file: the text is an argument. Knows no user names, only numeric ids, which is what the kernel says of a peer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sulku_audit::PublicKey;
use sulku_audit::key::Algorithm;
use sulku_permit::HolderId;
use toml::Spanned;

/// A week: who lets a log go on unseen for longer has no witness.
const WITNESS_TIMERS_S_MAX: u64 = 7 * 24 * 3600;

/// Where the ledger keeps its log, whom it listens to, and whom it runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The log's name, which is also its key's.
    pub origin: String,
    /// The log's folder.
    pub directory: PathBuf,
    /// The unix socket.
    pub socket: PathBuf,
    /// The private keys' file.
    pub signing_key: PathBuf,
    /// The file of the keys that `signing_key` replaces; they sign checkpoints beside it for as long as it is named here.
    pub previous_signing_key: Option<PathBuf>,
    /// Who must have seen the log, and what follows when they have not.
    pub witness: Option<WitnessSettings>,
    /// Whom a root process becomes before it touches the log.
    pub run_as: Option<RunAs>,
    /// The user id that writes as the gateway.
    pub gateway_uid: u32,
    /// The user id that writes as the warden.
    pub warden_uid: u32,
    /// Who may read, and which person each is; root may in any case, since it could anyway and then leaves its entry.
    pub auditors: BTreeMap<u32, HolderId>,
    /// The user id that carries the log out to witnesses, mirrors and sinks.
    pub courier_uid: Option<u32>,
}

/// Witnesses, and the time that the log may go on without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessSettings {
    /// Their keys. Keys of one name are one witness.
    pub keys: Vec<PublicKey>,
    /// How many of them must have cosigned.
    pub quorum: usize,
    /// Without their cosignatures for so long, no session opens.
    pub no_new_sessions_after: Duration,
    /// For so long, and sessions freeze.
    pub freeze_after: Duration,
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAs {
    /// The user.
    pub uid: u32,
    /// The group; there are no others beside it.
    pub gid: u32,
}

/// Something wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}; {help}")]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1 in characters.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

impl ConfigError {
    /// What is wrong at that byte of the file's text.
    #[must_use]
    pub fn at(file: &str, text: &str, at: usize, what: String, help: &'static str) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        Self { file: file.to_owned(), line, column, what, help }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    origin: Spanned<String>,
    directory: Spanned<PathBuf>,
    socket: Spanned<PathBuf>,
    signing_key: Spanned<PathBuf>,
    previous_signing_key: Option<Spanned<PathBuf>>,
    witness: Option<Spanned<WitnessTable>>,
    run_as: Option<Spanned<RunAs>>,
    gateway_uid: Spanned<u32>,
    warden_uid: u32,
    #[serde(default)]
    courier_uid: Option<u32>,
    #[serde(default)]
    auditor: Vec<AuditorTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessTable {
    keys: Vec<Spanned<String>>,
    quorum: Spanned<usize>,
    no_new_sessions_after_s: Spanned<u64>,
    freeze_after_s: Spanned<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditorTable {
    uid: Spanned<u32>,
    person: Spanned<String>,
}

/// Reads the configuration's text.
///
/// # Errors
/// The first thing wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Settings, ConfigError> {
    let error = |span: Option<Range<usize>>, what: String, help| ConfigError::at(file, text, span.map_or(0, |span| span.start), what, help);
    let document: Document = toml::from_str(text).map_err(|found| {
        let what = found.message().lines().next().unwrap_or("not TOML").to_owned();
        error(found.span(), what, "config/ledger.toml shows every key")
    })?;
    let Document { origin, directory, socket, signing_key, previous_signing_key, witness, run_as, gateway_uid, warden_uid, courier_uid, auditor } =
        document;
    for path in [&directory, &socket, &signing_key].into_iter().chain(&previous_signing_key) {
        if !path.as_ref().is_absolute() {
            let what = format!("{} is not an absolute path", path.as_ref().display());
            return Err(error(Some(path.span()), what, "write the path from / on"));
        }
    }
    if sulku_audit::Signer::from_seed(origin.as_ref(), &[0; 32]).is_err() {
        let what = "the origin can't name a log".to_owned();
        return Err(error(Some(origin.span()), what, "write a name such as \"spe.example.fi/audit/node1\", without spaces and '+'"));
    }
    if let Some(run_as) = &run_as {
        let RunAs { uid, .. } = *run_as.as_ref();
        if uid == 0 {
            return Err(error(Some(run_as.span()), "the ledger can't run as root".to_owned(), "give it a user of its own"));
        }
        if [Some(*gateway_uid.as_ref()), Some(warden_uid), courier_uid].contains(&Some(uid)) {
            let what = format!("user {uid} would both keep the log and write to it");
            return Err(error(Some(run_as.span()), what, "give the ledger a user that is neither the gateway's, the warden's nor the courier's"));
        }
    }
    let witness = witness.map(|table| parse_witness(table, &error)).transpose()?;
    let mut auditors = BTreeMap::new();
    for AuditorTable { uid, person } in auditor {
        let name: HolderId = person.as_ref().parse().map_err(|help: sulku_permit::IdError| {
            error(Some(person.span()), help.to_string(), "write the auditor as permits would name the person, so that a holder is refused")
        })?;
        if auditors.insert(*uid.as_ref(), name).is_some() {
            return Err(error(Some(uid.span()), format!("user {} is listed twice", uid.as_ref()), "one user id is one person's"));
        }
    }
    Ok(Settings {
        origin: origin.into_inner(),
        directory: directory.into_inner(),
        socket: socket.into_inner(),
        signing_key: signing_key.into_inner(),
        previous_signing_key: previous_signing_key.map(Spanned::into_inner),
        witness,
        run_as: run_as.map(Spanned::into_inner),
        gateway_uid: gateway_uid.into_inner(),
        warden_uid,
        auditors,
        courier_uid,
    })
}

type At<'a> = &'a dyn Fn(Option<Range<usize>>, String, &'static str) -> ConfigError;

fn parse_witness(table: Spanned<WitnessTable>, error: At<'_>) -> Result<WitnessSettings, ConfigError> {
    let span = table.span();
    let WitnessTable { keys, quorum, no_new_sessions_after_s, freeze_after_s } = table.into_inner();
    let mut parsed: Vec<PublicKey> = Vec::new();
    for text in &keys {
        let key: PublicKey =
            text.as_ref().trim().parse().map_err(|cause: sulku_audit::key::KeyError| {
                error(Some(text.span()), cause.to_string(), "write a line of the witness's .pub file")
            })?;
        if key.algorithm() == Algorithm::Ed25519 || parsed.iter().any(|other| other.bytes() == key.bytes()) {
            let help = "each line of the witnesses' .pub files once; their keys have the types 0x04 and 0x06";
            return Err(error(Some(text.span()), "not a witness's key, or one that is there already".to_owned(), help));
        }
        parsed.push(key);
    }
    let names: std::collections::BTreeSet<&str> = parsed.iter().map(PublicKey::name).collect();
    if !(1..=names.len()).contains(quorum.as_ref()) {
        let what = format!("a quorum of {} can't come from {} witnesses", quorum.as_ref(), names.len());
        return Err(error(Some(quorum.span()), what, "write how many of the witnesses must have cosigned, at least 1"));
    }
    let (no_new, freeze) = (*no_new_sessions_after_s.as_ref(), *freeze_after_s.as_ref());
    if no_new == 0 || no_new > freeze || freeze > WITNESS_TIMERS_S_MAX {
        let what = "the times can't be kept".to_owned();
        let help = "write 1 or more, no_new_sessions_after_s not beyond freeze_after_s, and neither beyond a week";
        return Err(error(Some(span), what, help));
    }
    let (no_new_sessions_after, freeze_after) = (Duration::from_secs(no_new), Duration::from_secs(freeze));
    Ok(WitnessSettings { keys: parsed, quorum: *quorum.as_ref(), no_new_sessions_after, freeze_after })
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("{0} could not be read")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file's text.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Reads the configuration from its file.
///
/// # Errors
/// The file can't be read, or what is wrong with its text.
pub fn load(file: &Path) -> Result<Settings, LoadError> {
    let text = std::fs::read_to_string(file).map_err(|error| LoadError::Read(file.to_owned(), error))?;
    Ok(parse(&file.display().to_string(), &text)?)
}
