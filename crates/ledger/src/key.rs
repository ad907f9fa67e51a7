//! The ledger's signing keys: how they are made, written and read. A file holds a pair, Ed25519 and ML-DSA-44, a line each.
//!
//! The private text is wiped from memory after use. No passphrase and no hardware token yet.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sulku_audit::log_key::LogKeyError;
use sulku_audit::policy::{POLICY_BYTES_MAX, TrustError};
use sulku_audit::{LogKeys, LogSigner, Trust};
use zeroize::Zeroizing;

/// A private pair's text is some 600 bytes, a public one's 2 KB; two public pairs while a key is being replaced. A longer file is none.
const KEY_BYTES_MAX: u64 = 16 * 1024;

/// A key that can't be made, written or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can't be read or written.
    #[error("{0} could not be read or written")]
    File(PathBuf, #[source] io::Error),
    /// There is a file already.
    #[error("{0} exists; a key that signed a log must not be lost: move it away yourself if it did not")]
    Exists(PathBuf),
    /// Others than the owner may read the private key.
    #[error("{path} may be read by others than its owner (mode {mode:o}); run: chmod 600 {path}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode's last nine bits.
        mode: u32,
    },
    /// The text is no key.
    #[error("{0} does not hold a log's keys: {1}")]
    Key(PathBuf, LogKeyError),
    /// The text says nothing about whom to trust.
    #[error("{0} holds neither a log's public keys nor a trust policy: {1}")]
    Trust(PathBuf, TrustError),
    /// The name is not one, or the system gave no randomness.
    #[error("no key could be made: {0}")]
    Make(String),
}

/// Makes a new pair of keys of that name.
///
/// # Errors
/// The name can't be a key's, or the system gave no randomness.
pub fn generate(origin: &str) -> Result<LogSigner, KeyFileError> {
    let mut seeds = Zeroizing::new([[0_u8; 32]; 2]);
    for seed in seeds.iter_mut() {
        getrandom::fill(seed).map_err(|error| KeyFileError::Make(error.to_string()))?;
    }
    LogSigner::from_seeds(origin, &seeds[0], &seeds[1]).map_err(|error| KeyFileError::Make(error.to_string()))
}

/// Makes a new pair of keys and writes it: the private halves to `file`, for its owner alone, the public halves to `file.pub`. Gives
/// the public halves.
///
/// # Errors
/// A file exists already or can't be written.
pub fn create(origin: &str, file: &Path) -> Result<LogKeys, KeyFileError> {
    let signer = generate(origin)?;
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    if public.exists() {
        return Err(KeyFileError::Exists(public));
    }
    write_new(file, signer.to_private_text().as_bytes(), 0o600)?;
    write_new(&public, signer.own_keys().to_string().as_bytes(), 0o644)?;
    Ok(signer.own_keys())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::File(path.to_owned(), error),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Reads a private pair.
///
/// # Errors
/// The file can't be read, may be read by others, or holds no pair.
pub fn load(path: &Path) -> Result<LogSigner, KeyFileError> {
    let failed = |error| KeyFileError::File(path.to_owned(), error);
    let file = fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(KEY_BYTES_MAX as usize));
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    text.parse().map_err(|error| KeyFileError::Key(path.to_owned(), error))
}

/// Reads a log's public keys.
///
/// # Errors
/// The file can't be read or does not hold them.
pub fn load_public(path: &Path) -> Result<LogKeys, KeyFileError> {
    read_text(path, KEY_BYTES_MAX)?.parse().map_err(|error| KeyFileError::Key(path.to_owned(), error))
}

/// Reads whom to trust: a log's public keys or a C2SP tlog-policy.
///
/// # Errors
/// The file can't be read or says no such thing.
pub fn load_trust(path: &Path) -> Result<Trust, KeyFileError> {
    read_text(path, POLICY_BYTES_MAX as u64)?.parse().map_err(|error| KeyFileError::Trust(path.to_owned(), error))
}

fn read_text(path: &Path, bytes_max: u64) -> Result<String, KeyFileError> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text));
    read.map_err(|error| KeyFileError::File(path.to_owned(), error))?;
    Ok(text)
}
