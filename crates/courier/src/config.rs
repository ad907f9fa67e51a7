//! The courier's configuration: one TOML file, unknown keys refused, every error with its place and what to do.
//!
//! Reads no certificate and no key: it knows where they are. A sink's name is the name of its cursor, so it is not to be changed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sulku_audit::PublicKey;
pub use sulku_ledger::config::{ConfigError, RunAs};
use sulku_witness::https::Url;
use toml::Spanned;

/// The largest configuration that is looked at.
const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// Sinks of one courier: each has a task and a bundle in memory.
const SINKS_MAX: usize = 16;
/// Witnesses of one log: a quorum of some is what a policy asks for.
const WITNESSES_MAX: usize = 16;
/// The longest name of a sink.
const NAME_BYTES_MAX: usize = 48;
/// What every receiver of RFC 5425 takes; less does not hold an entry's number and hash for certain.
const MESSAGE_BYTES_MIN: usize = 2048;
/// RFC 5612's number for documentation: Sulku has no enterprise number of its own.
const DOCUMENTATION_ENTERPRISE: u32 = 32_473;
/// RFC 5424's facility "log audit".
const LOG_AUDIT: u8 = 13;

/// What the courier reads, and where it carries it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The ledger's socket.
    pub ledger_socket: PathBuf,
    /// The log's public key.
    pub ledger_key: PathBuf,
    /// The courier's folder: cursors and the last head.
    pub state: PathBuf,
    /// Whom a root process becomes.
    pub run_as: Option<RunAs>,
    /// Files.
    pub files: Vec<FileSettings>,
    /// Syslog receivers.
    pub syslogs: Vec<SyslogSettings>,
    /// Where Prometheus finds the figures.
    pub metrics: Option<MetricsPlace>,
    /// The endpoint for mirrors and witnesses.
    pub serve: Option<ServeSettings>,
    /// Who cosigns the log.
    pub witnesses: Vec<WitnessSettings>,
}

/// A witness.
#[derive(Debug, Clone)]
pub struct WitnessSettings {
    /// Its name, in the courier's log and figures.
    pub name: String,
    /// Where it is.
    pub url: Url,
    /// The authority of its certificate, PEM; `None` for one on this host's loopback.
    pub authority: Option<PathBuf>,
    /// Its keys.
    pub keys: Vec<PublicKey>,
}

/// Where a sink without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begin {
    /// With the log's first entry.
    Start,
    /// With the first entry that is published after it was first started.
    Now,
}

/// A file of OCSF lines.
#[derive(Debug, Clone)]
pub struct FileSettings {
    /// The sink's name.
    pub name: String,
    /// Where it begins.
    pub begin: Begin,
    /// The file.
    pub path: PathBuf,
    /// The size from which on it is put aside.
    pub rotate_bytes: u64,
    /// How many that were put aside are kept.
    pub keep_files: usize,
}

/// A syslog receiver.
#[derive(Debug, Clone)]
pub struct SyslogSettings {
    /// The sink's name.
    pub name: String,
    /// Where it begins.
    pub begin: Begin,
    /// Host and port.
    pub address: String,
    /// The name in the receiver's certificate.
    pub server_name: String,
    /// The authority of the receiver's certificate, PEM.
    pub authority: PathBuf,
    /// Our certificate and its key, PEM, for a receiver that wants one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The longest message.
    pub message_bytes_max: usize,
    /// How long messages may be unconfirmed.
    pub confirm_every: Duration,
    /// RFC 5424's facility.
    pub facility: u8,
    /// The host's name in messages.
    pub hostname: String,
    /// The enterprise number in the name of the structured data.
    pub enterprise_number: u32,
}

impl SyslogSettings {
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            name: "siem".to_owned(),
            begin: Begin::Start,
            address: "127.0.0.1:6514".to_owned(),
            server_name: "localhost".to_owned(),
            authority: PathBuf::new(),
            client: None,
            message_bytes_max: 8192,
            confirm_every: Duration::from_secs(10),
            facility: LOG_AUDIT,
            hostname: "-".to_owned(),
            enterprise_number: DOCUMENTATION_ENTERPRISE,
        }
    }
}

/// Where Prometheus finds the figures.
#[derive(Debug, Clone)]
pub enum MetricsPlace {
    /// A port of this host's own.
    Loopback(SocketAddr),
    /// A unix socket.
    Socket(PathBuf),
}

/// The endpoint for mirrors and witnesses.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub private_key: PathBuf,
    /// The authority of those who may fetch, PEM; `None` where anybody may.
    pub clients: Option<PathBuf>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("{0} could not be read; name the courier's configuration with --config")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is too large.
    #[error("{0} is larger than {CONFIG_BYTES_MAX} bytes and can't be a configuration")]
    TooLarge(PathBuf),
    /// The file's text.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    ledger_socket: Spanned<PathBuf>,
    ledger_key: Spanned<PathBuf>,
    state: Spanned<PathBuf>,
    run_as: Option<Spanned<RunAs>>,
    #[serde(default)]
    file: Vec<FileDocument>,
    #[serde(default)]
    syslog: Vec<SyslogDocument>,
    metrics: Option<Spanned<MetricsDocument>>,
    serve: Option<Spanned<ServeDocument>>,
    #[serde(default)]
    witness: Vec<WitnessDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDocument {
    name: Spanned<String>,
    begin: Option<Begin>,
    path: Spanned<PathBuf>,
    rotate_mib: Option<Spanned<u64>>,
    keep_files: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyslogDocument {
    name: Spanned<String>,
    begin: Option<Begin>,
    address: Spanned<String>,
    server_name: Option<String>,
    authority: Spanned<PathBuf>,
    certificate: Option<Spanned<PathBuf>>,
    private_key: Option<Spanned<PathBuf>>,
    message_bytes_max: Option<Spanned<usize>>,
    confirm_every_s: Option<Spanned<u64>>,
    facility: Option<Spanned<u8>>,
    hostname: Option<String>,
    enterprise_number: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessDocument {
    name: Spanned<String>,
    url: Spanned<String>,
    authority: Option<Spanned<PathBuf>>,
    keys: Spanned<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsDocument {
    listen: Option<Spanned<SocketAddr>>,
    socket: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeDocument {
    listen: SocketAddr,
    certificate: Spanned<PathBuf>,
    private_key: Spanned<PathBuf>,
    #[serde(default)]
    client_certificates: ClientCertificates,
    client_authority: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ClientCertificates {
    #[default]
    Required,
    NotAsked,
}

/// Where in the text, what, and what to do.
struct Wrong(Range<usize>, String, &'static str);

/// Reads the configuration from its file.
///
/// # Errors
/// The file can't be read, or what is wrong with its text.
pub fn load(file: &Path) -> Result<Settings, LoadError> {
    let failed = |error| LoadError::Read(file.to_owned(), error);
    if std::fs::metadata(file).map_err(failed)?.len() > CONFIG_BYTES_MAX {
        return Err(LoadError::TooLarge(file.to_owned()));
    }
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(parse(&file.display().to_string(), &std::fs::read_to_string(file).map_err(failed)?, &hostname)?)
}

/// Reads the configuration's text. `hostname` is this host's name, where the text gives none.
///
/// # Errors
/// The first thing wrong with it.
pub fn parse(file: &str, text: &str, hostname: &str) -> Result<Settings, ConfigError> {
    let error = |at: usize, what: String, help| ConfigError::at(file, text, at, what, help);
    let document: Document = toml::from_str(text).map_err(|found| {
        let what = found.message().lines().next().unwrap_or("not TOML").to_owned();
        error(found.span().map_or(0, |span| span.start), what, "config/courier.toml shows every key")
    })?;
    settings(document, hostname).map_err(|Wrong(at, what, help)| error(at.start, what, help))
}

fn settings(document: Document, hostname: &str) -> Result<Settings, Wrong> {
    let Document { ledger_socket, ledger_key, state, run_as, file, syslog, metrics, serve, witness } = document;
    if let Some(run_as) = run_as.as_ref().filter(|run_as| run_as.as_ref().uid == 0) {
        return Err(Wrong(run_as.span(), "the courier can't run as root".to_owned(), "give it a user of its own"));
    }
    let mut names = BTreeSet::new();
    for name in file.iter().map(|sink| &sink.name).chain(syslog.iter().map(|sink| &sink.name)) {
        check_name(name)?;
        if !names.insert(name.as_ref().clone()) {
            return Err(Wrong(name.span(), format!("two sinks are named {:?}", name.as_ref()), "give each a name of its own"));
        }
        if names.len() > SINKS_MAX {
            return Err(Wrong(name.span(), format!("there are more than {SINKS_MAX} sinks"), "run a second courier for the rest"));
        }
    }
    if let Some(surplus) = witness.get(WITNESSES_MAX) {
        return Err(Wrong(surplus.name.span(), format!("there are more than {WITNESSES_MAX} witnesses"), "leave some out"));
    }
    Ok(Settings {
        ledger_socket: absolute(ledger_socket)?,
        ledger_key: absolute(ledger_key)?,
        state: absolute(state)?,
        run_as: run_as.map(Spanned::into_inner),
        files: file.into_iter().map(file_settings).collect::<Result<_, _>>()?,
        syslogs: syslog.into_iter().map(|sink| syslog_settings(sink, hostname)).collect::<Result<_, _>>()?,
        metrics: metrics.map(metrics_place).transpose()?,
        serve: serve.map(serve_settings).transpose()?,
        witnesses: witness.into_iter().map(witness_settings).collect::<Result<_, _>>()?,
    })
}

fn absolute(path: Spanned<PathBuf>) -> Result<PathBuf, Wrong> {
    if path.as_ref().is_absolute() {
        return Ok(path.into_inner());
    }
    Err(Wrong(path.span(), format!("{} is not an absolute path", path.as_ref().display()), "write the path from / on"))
}

fn check_name(name: &Spanned<String>) -> Result<(), Wrong> {
    let text = name.as_ref();
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
        return Ok(());
    }
    Err(Wrong(name.span(), format!("{text:?} can't name a sink"), "write 1 to 48 of a-z 0-9 -, a letter or digit first"))
}

/// A number within bounds, or its default.
fn within<T: PartialOrd + Copy + std::fmt::Display>(
    value: Option<Spanned<T>>,
    default: T,
    bounds: std::ops::RangeInclusive<T>,
    help: &'static str,
) -> Result<T, Wrong> {
    match value {
        None => Ok(default),
        Some(value) if bounds.contains(value.as_ref()) => Ok(value.into_inner()),
        Some(value) => {
            let what = format!("{} is not within {} to {}", value.as_ref(), bounds.start(), bounds.end());
            Err(Wrong(value.span(), what, help))
        }
    }
}

fn file_settings(document: FileDocument) -> Result<FileSettings, Wrong> {
    let FileDocument { name, begin, path, rotate_mib, keep_files } = document;
    let has_name = path.as_ref().file_name().is_some();
    if !has_name {
        return Err(Wrong(path.span(), format!("{} names no file", path.as_ref().display()), "write the file's own path"));
    }
    Ok(FileSettings {
        name: name.into_inner(),
        begin: begin.unwrap_or(Begin::Start),
        path: absolute(path)?,
        rotate_bytes: within(rotate_mib, 64, 1..=65_536, "give the size of a file in MiB")? << 20,
        keep_files: within(keep_files, 16, 1..=100_000, "say how many full files are kept")?,
    })
}

fn syslog_settings(document: SyslogDocument, hostname: &str) -> Result<SyslogSettings, Wrong> {
    let SyslogDocument {
        name,
        begin,
        address,
        server_name,
        authority,
        certificate,
        private_key,
        message_bytes_max,
        confirm_every_s,
        facility,
        hostname: own_hostname,
        enterprise_number,
    } = document;
    let host = match address.as_ref().rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            host.trim_start_matches('[').trim_end_matches(']').to_owned()
        }
        _ => {
            let what = format!("{:?} is not a host and a port", address.as_ref());
            return Err(Wrong(address.span(), what, "write it as \"siem.example.fi:6514\""));
        }
    };
    let client = match (certificate, private_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((absolute(certificate)?, absolute(key)?)),
        (Some(one), None) | (None, Some(one)) => {
            let what = "a certificate and its key go together".to_owned();
            return Err(Wrong(one.span(), what, "give both certificate and private_key, or neither"));
        }
    };
    Ok(SyslogSettings {
        name: name.into_inner(),
        begin: begin.unwrap_or(Begin::Start),
        server_name: server_name.unwrap_or(host),
        address: address.into_inner(),
        authority: absolute(authority)?,
        client,
        message_bytes_max: within(message_bytes_max, 8192, MESSAGE_BYTES_MIN..=1 << 20, "give what the receiver takes; each takes 2048")?,
        confirm_every: Duration::from_secs(within(confirm_every_s, 10, 1..=3600, "give seconds")?),
        facility: within(facility, LOG_AUDIT, 0..=23, "give RFC 5424's number; 13 is the audit's")?,
        hostname: own_hostname.unwrap_or_else(|| hostname.to_owned()),
        enterprise_number: enterprise_number.unwrap_or(DOCUMENTATION_ENTERPRISE),
    })
}

fn metrics_place(document: Spanned<MetricsDocument>) -> Result<MetricsPlace, Wrong> {
    let span = document.span();
    match document.into_inner() {
        MetricsDocument { listen: Some(listen), socket: None } if listen.as_ref().ip().is_loopback() => {
            Ok(MetricsPlace::Loopback(listen.into_inner()))
        }
        MetricsDocument { listen: Some(listen), socket: None } => {
            let what = format!("{} is not this host's own", listen.as_ref());
            Err(Wrong(listen.span(), what, "the figures go over plain HTTP: give a port of 127.0.0.1 or [::1], or a unix socket"))
        }
        MetricsDocument { listen: None, socket: Some(socket) } => Ok(MetricsPlace::Socket(absolute(socket)?)),
        _ => Err(Wrong(span, "[metrics] needs one place".to_owned(), "give listen or socket")),
    }
}

fn witness_settings(document: WitnessDocument) -> Result<WitnessSettings, Wrong> {
    let WitnessDocument { name, url, authority, keys } = document;
    check_name(&name)?;
    let Some(address) = Url::parse(url.as_ref()) else {
        let what = format!("{:?} is no witness's address", url.as_ref());
        return Err(Wrong(url.span(), what, "write it as \"https://witness.example.fi\"; http:// is for 127.0.0.1 and [::1] alone"));
    };
    if url.as_ref().starts_with("https:") != authority.is_some() {
        let what = "https:// goes with the authority of the witness's certificate, and http:// with none".to_owned();
        return Err(Wrong(url.span(), what, "give authority = \"FILE\" with https:// alone"));
    }
    let key = |text: &Spanned<String>| {
        text.as_ref()
            .parse()
            .map_err(|error: sulku_audit::key::KeyError| Wrong(text.span(), error.to_string(), "write a line of the witness's .pub file"))
    };
    let found = keys.as_ref().iter().map(key).collect::<Result<Vec<PublicKey>, Wrong>>()?;
    if found.is_empty() {
        return Err(Wrong(keys.span(), "a witness has a key".to_owned(), "write the lines of its .pub file"));
    }
    Ok(WitnessSettings { name: name.into_inner(), url: address, authority: authority.map(absolute).transpose()?, keys: found })
}

fn serve_settings(document: Spanned<ServeDocument>) -> Result<ServeSettings, Wrong> {
    let span = document.span();
    let ServeDocument { listen, certificate, private_key, client_certificates, client_authority } = document.into_inner();
    let clients = match (client_certificates, client_authority) {
        (ClientCertificates::Required, Some(authority)) => Some(absolute(authority)?),
        (ClientCertificates::NotAsked, None) => None,
        (ClientCertificates::Required, None) => {
            let what = "nobody could fetch: there is no authority of the clients' certificates".to_owned();
            return Err(Wrong(span, what, "give client_authority, or say client_certificates = \"not-asked\" to let anybody fetch"));
        }
        (ClientCertificates::NotAsked, Some(authority)) => {
            let what = "an authority of certificates that are not asked for".to_owned();
            return Err(Wrong(authority.span(), what, "remove it, or remove client_certificates = \"not-asked\""));
        }
    };
    Ok(ServeSettings { listen, certificate: absolute(certificate)?, private_key: absolute(private_key)?, clients })
}
