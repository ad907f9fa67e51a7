//! The settings of a witness or mirror: one TOML file, unknown keys refused, every error with its place and what to do.
//!
//! Reads no file but by [`load`]: the text is an argument.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sulku_audit::{LogKeys, Trust};
use toml::Spanned;

/// A log's public file holds one pair, or two; a longer one is none.
const KEYS_BYTES_MAX: u64 = 16 * 1024;
/// Logs that one witness may know. Each costs one small file and one lock.
const LOGS_MAX: usize = 256;

/// What a witness or mirror is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file of its private keys.
    pub key: PathBuf,
    /// Its own state.
    pub directory: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its certificates, as PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, as PEM.
    pub certificate_key: PathBuf,
    /// The logs that it knows.
    pub logs: Vec<Log>,
}

/// A log that a witness knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The log's public file.
    pub keys: PathBuf,
    /// For a mirror: where the log's files are, as in `https://spe.example.fi:8444/`.
    pub url: Option<String>,
    /// For a mirror: the certificates that it trusts there, as PEM.
    pub ca: Option<PathBuf>,
}

/// Something wrong with the settings.
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    key: Spanned<PathBuf>,
    directory: Spanned<PathBuf>,
    listen: Spanned<String>,
    certificate: Spanned<PathBuf>,
    certificate_key: Spanned<PathBuf>,
    #[serde(default)]
    log: Vec<LogTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    keys: Spanned<PathBuf>,
    url: Option<Spanned<String>>,
    ca: Option<Spanned<PathBuf>>,
}

/// Reads the settings' text.
///
/// # Errors
/// The first thing wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Settings, ConfigError> {
    let error = |span: Option<Range<usize>>, what: String, help| {
        let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        ConfigError { file: file.to_owned(), line, column, what, help }
    };
    let document: Document = toml::from_str(text).map_err(|found| {
        let what = found.message().lines().next().unwrap_or("not TOML").to_owned();
        error(found.span(), what, "config/witness.toml shows every key")
    })?;
    let Document { key, directory, listen, certificate, certificate_key, log } = document;
    let absolute = |path: Spanned<PathBuf>| {
        if path.as_ref().is_absolute() {
            Ok(path.into_inner())
        } else {
            Err(error(Some(path.span()), format!("{} is not an absolute path", path.as_ref().display()), "write the path from / on"))
        }
    };
    let address = listen.as_ref().parse();
    let listen = address.map_err(|_| error(Some(listen.span()), format!("{:?} is no address", listen.as_ref()), "write one as in \"[::]:8443\""))?;
    if log.is_empty() || log.len() > LOGS_MAX {
        let what = format!("{} logs are named", log.len());
        return Err(error(None, what, "add a [[log]] table with the log's public file for each, at most 256"));
    }
    let mut logs = Vec::new();
    for LogTable { keys, url, ca } in log {
        if let Some(url) = &url
            && crate::https::Url::parse(url.as_ref()).is_none()
        {
            let help = "write one as in \"https://spe.example.fi:8444/\"";
            return Err(error(Some(url.span()), format!("{:?} is no https address", url.as_ref()), help));
        }
        logs.push(Log { keys: absolute(keys)?, url: url.map(Spanned::into_inner), ca: ca.map(absolute).transpose()? });
    }
    Ok(Settings {
        key: absolute(key)?,
        directory: absolute(directory)?,
        listen,
        certificate: absolute(certificate)?,
        certificate_key: absolute(certificate_key)?,
        logs,
    })
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
    /// A log's public file.
    #[error("{0} does not hold a log's public keys: {1}")]
    Keys(PathBuf, String),
}

/// Reads the settings from their file.
///
/// # Errors
/// The file can't be read, or what is wrong with its text.
pub fn load(file: &Path) -> Result<Settings, LoadError> {
    let text = std::fs::read_to_string(file).map_err(|error| LoadError::Read(file.to_owned(), error))?;
    Ok(parse(&file.display().to_string(), &text)?)
}

impl Log {
    /// Whom the log's checkpoints must be signed by: each key of its file.
    ///
    /// # Errors
    /// The file can't be read or holds no log's keys.
    pub fn trust(&self) -> Result<Trust, LoadError> {
        let wrong = |what: String| LoadError::Keys(self.keys.clone(), what);
        let bytes = crate::files::read(&self.keys, KEYS_BYTES_MAX).map_err(|error| LoadError::Read(error.path, error.cause))?;
        let bytes = bytes.ok_or_else(|| LoadError::Read(self.keys.clone(), std::io::ErrorKind::NotFound.into()))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8".to_owned()))?;
        let keys: LogKeys = text.parse().map_err(|error: sulku_audit::log_key::LogKeyError| wrong(error.to_string()))?;
        Ok(keys.into())
    }
}
