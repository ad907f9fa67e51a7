//! The ledger's signing key: how it is made, written and read. The text forms are Go's `sumdb/note`'s.
//!
//! The private text is wiped from memory after use. No passphrase and no hardware token yet.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sulku_audit::note::KeyError;
use sulku_audit::{Signer, Verifier};
use zeroize::Zeroizing;

/// A key's text is some 300 bytes; a longer file is not one.
const KEY_BYTES_MAX: u64 = 4096;

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
    #[error("{0} holds no key: {1}")]
    Key(PathBuf, KeyError),
    /// The name is not one, or the system gave no randomness.
    #[error("no key could be made: {0}")]
    Make(String),
}

/// Makes a new key of that name.
///
/// # Errors
/// The name can't be a key's, or the system gave no randomness.
pub fn generate(origin: &str) -> Result<Signer, KeyFileError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| KeyFileError::Make(error.to_string()))?;
    Signer::from_seed(origin, &seed).map_err(|error| KeyFileError::Make(error.to_string()))
}

/// Makes a new key and writes it: the private half to `file`, for its owner alone, the public half to `file.pub`. Gives the
/// public half.
///
/// # Errors
/// A file exists already or can't be written.
pub fn create(origin: &str, file: &Path) -> Result<Verifier, KeyFileError> {
    let signer = generate(origin)?;
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    if public.exists() {
        return Err(KeyFileError::Exists(public));
    }
    let private_text = Zeroizing::new(signer.to_private_text() + "\n");
    write_new(file, private_text.as_bytes(), 0o600)?;
    write_new(&public, format!("{}\n", signer.verifier()).as_bytes(), 0o644)?;
    Ok(signer.verifier())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::File(path.to_owned(), error),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Reads a private key.
///
/// # Errors
/// The file can't be read, may be read by others, or holds no key.
pub fn load(path: &Path) -> Result<Signer, KeyFileError> {
    let failed = |error| KeyFileError::File(path.to_owned(), error);
    let file = fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(KEY_BYTES_MAX as usize));
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    text.trim_end().parse().map_err(|error| KeyFileError::Key(path.to_owned(), error))
}

/// Reads a public key.
///
/// # Errors
/// The file can't be read or holds no key.
pub fn load_public(path: &Path) -> Result<Verifier, KeyFileError> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| KeyFileError::File(path.to_owned(), error))?;
    text.trim_end().parse().map_err(|error| KeyFileError::Key(path.to_owned(), error))
}
