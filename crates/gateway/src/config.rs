//! The gateway's configuration: the shape of its file, and the way from text to values.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use sulku_permit::{Assurance, HolderId, Identity};
use sulku_policy::{Approval, Operator, OperatorKey, Operators, OperatorsError};

use crate::auditors::{AUDITORS_MAX, AuditorConfig};

/// The largest configuration that is looked at.
const CONFIG_BYTES_MAX: u64 = 256 * 1024;

/// The gateway's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port, for TCP and UDP.
    pub listen: SocketAddr,
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub private_key: PathBuf,
    /// The store of the policy, where operators' signed revisions are.
    pub policy: PathBuf,
    /// The ledger's socket.
    pub ledger_socket: PathBuf,
    /// The warden's socket.
    pub warden_socket: PathBuf,
    /// The user that the gateway becomes. Must be given when it is started as root.
    pub run_as: Option<RunAs>,
    /// The authorities whose certificates are believed.
    pub issuer: Vec<IssuerConfig>,
    /// The persons who operate the environment.
    #[serde(default)]
    pub operator: Vec<OperatorConfig>,
    /// How many operators have to sign.
    #[serde(default)]
    pub approval: Approval,
    /// The persons who can open recordings. At least one.
    #[serde(default)]
    pub auditor: Vec<AuditorConfig>,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
}

/// A user and a group by number.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAs {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// An authority whose certificates are believed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The name that permits use.
    pub name: String,
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// Its list of revoked certificates, PEM or DER. An authority without one can't take a certificate back, so there must be one.
    pub crl: PathBuf,
    /// How surely it knows the persons whom it certifies. A permit may ask for a least.
    #[serde(default, deserialize_with = "assurance")]
    pub assurance: Option<Assurance>,
    /// A list of this age, counted from its `thisUpdate`, is an alarm; else when three quarters of the time to its `nextUpdate` are over.
    #[serde(default, deserialize_with = "age")]
    pub crl_alarm_after: Option<SignedDuration>,
    /// A list of this age is believed no more; one past its `nextUpdate` never is.
    #[serde(default, deserialize_with = "age")]
    pub crl_refuse_after: Option<SignedDuration>,
}

/// A person who operates the environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// The name that entries use.
    pub id: HolderId,
    /// What her certificate must show.
    #[serde(deserialize_with = "identity")]
    pub certificate: Identity,
    /// Her certificate's public key, which her signatures are verified with; without one she signs nothing.
    pub key: Option<OperatorKey>,
}

/// Bounds on what peers may take up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Handshakes at once; further ones wait, an eighth of these of each address.
    pub handshakes_in_flight: usize,
    /// A handshake, first frame included, that takes longer is broken off.
    pub handshake_deadline_s: u64,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// Connections of one holder, by her key, beyond one for each session that her key has opened.
    pub connections_per_holder: usize,
    /// Sessions of all holders.
    pub sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 64 handshakes of 1 ms each are 64 ms of queue on one core; a hospital behind one address has some 100 researchers.
        // Whoever starts sessions in a loop has a few dozen connections that are about to have one; nobody who works has more.
        Self { handshakes_in_flight: 64, handshake_deadline_s: 10, connections_per_address: 128, connections_per_holder: 64, sessions: 4096 }
    }
}

impl Limits {
    /// The deadline as a duration.
    #[must_use]
    pub const fn handshake_deadline(&self) -> Duration {
        Duration::from_secs(self.handshake_deadline_s)
    }
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{file} can't be read; name the gateway's configuration with --config")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{file} is larger than {CONFIG_BYTES_MAX} bytes and can't be a configuration")]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The file's content is wrong.
    #[error("{file}:{line}:{column}: {what}; see config/gateway.toml for what it may contain")]
    Content {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        what: String,
    },
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// The file can't be read or has something wrong, with its place.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { file: file.to_owned(), source };
        if std::fs::metadata(file).map_err(failed)?.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { file: file.to_owned() });
        }
        Self::parse(file, &std::fs::read_to_string(file).map_err(failed)?)
    }

    /// Takes the configuration out of its text; `file` only says where a problem is.
    ///
    /// # Errors
    /// Something is wrong, with its place.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |at: usize, what: String| {
            let before = text.get(..at).unwrap_or_default();
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            ConfigError::Content { file: file.to_owned(), line: before.matches('\n').count() + 1, column, what }
        };
        let config: Self =
            toml::from_str(text).map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().trim().replace('\n', ", ")))?;
        if let Err(error) = config.operators() {
            return Err(wrong(0, format!("no revision of the policy could count: {error}; `sulku policy key` prints what [[operator]] needs")));
        }
        let Limits { handshakes_in_flight, handshake_deadline_s, connections_per_address, connections_per_holder, sessions } = config.limits;
        if config.issuer.is_empty() {
            return Err(wrong(0, "no [[issuer]] is configured, so nobody could connect".to_owned()));
        }
        if config.auditor.is_empty() || config.auditor.len() > AUDITORS_MAX {
            let what = "an [[auditor]] is needed, since nobody else can open recordings: on her own computer she runs `sulku audit identity --out \
                        FILE`, and what it prints goes here as recipient";
            return Err(wrong(0, format!("{what}; there are {}, and 1 to {AUDITORS_MAX} are allowed", config.auditor.len())));
        }
        let late = |issuer: &&IssuerConfig| issuer.crl_alarm_after.zip(issuer.crl_refuse_after).is_some_and(|(alarm, refuse)| alarm > refuse);
        if let Some(issuer) = config.issuer.iter().find(late) {
            return Err(wrong(
                0,
                format!("issuer {}: crl_alarm_after is longer than crl_refuse_after, so nobody would hear of it in time", issuer.name),
            ));
        }
        if [handshakes_in_flight, connections_per_address, connections_per_holder, sessions].contains(&0)
            || !(1..=120).contains(&handshake_deadline_s)
        {
            return Err(wrong(0, "a limit is zero, or the handshake's deadline is not 1 to 120 s".to_owned()));
        }
        Ok(config)
    }

    /// Whose signatures make a revision of the policy count.
    ///
    /// # Errors
    /// They can't; [`Config::parse`] lets no such configuration through.
    pub fn operators(&self) -> Result<Operators, OperatorsError> {
        let keys = self.operator.iter().filter_map(|operator| Some(Operator { id: operator.id.clone(), key: operator.key.clone()? }));
        Operators::new(keys.collect(), self.approval.signatures)
    }
}

/// `low`, `substantial` or `high`, as in permits.
fn assurance<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Assurance>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

/// A whole number and its unit.
fn age<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SignedDuration>, D::Error> {
    const HELP: &str = "write a whole number and a unit: s, min, h or d, as in \"24 h\"";
    let text = String::deserialize(deserializer)?;
    let (number, unit) = text.trim().split_once(' ').ok_or_else(|| serde::de::Error::custom(HELP))?;
    let seconds_each = match unit.trim() {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(serde::de::Error::custom(HELP)),
    };
    let number: u32 = number.parse().map_err(|_| serde::de::Error::custom(HELP))?;
    if number == 0 {
        Err(serde::de::Error::custom("an age must be more than nothing"))
    } else {
        Ok(Some(SignedDuration::from_secs(i64::from(number) * seconds_each)))
    }
}

/// Exactly one way to tell a person, as in permits.
fn identity<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        uri: Option<String>,
        issuer: Option<String>,
        subject_serial_number: Option<String>,
        key_sha256: Option<String>,
    }
    let Shape { uri, issuer, subject_serial_number, key_sha256 } = Shape::deserialize(deserializer)?;
    Identity::of_document(uri, issuer, subject_serial_number, key_sha256).map_err(serde::de::Error::custom)
}
