//! A witness's keys: a pair under one name, Ed25519 and ML-DSA-44, both of the cosignature types. Nothing else is signed with them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sulku_audit::key::{Algorithm, KeyError};
use sulku_audit::{PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::files::{FileError, read, write_new};

/// A private pair's text is some 600 bytes.
const KEY_BYTES_MAX: u64 = 4096;
/// The types of a witness's keys, in the order of their lines.
const PAIR: [Algorithm; 2] = [Algorithm::Ed25519Cosignature, Algorithm::MlDsa44];

/// Keys that can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a file already.
    #[error("{0} exists; a witness's key must not be lost: move it away yourself if nobody trusts it")]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no {0}; make it with `sulku witness init`")]
    Missing(PathBuf),
    /// Others than the owner may read the private keys.
    #[error("{path} may be read by others than its owner (mode {mode:o}); run: chmod 600 {path}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode's last nine bits.
        mode: u32,
    },
    /// The text is no pair.
    #[error("{0} holds no pair of a witness's keys, one a line: {1}")]
    Key(PathBuf, KeyError),
    /// The name is not one, or the system gave no randomness.
    #[error("no key could be made: {0}")]
    Make(String),
}

/// Makes a new pair and writes it: the private halves to `file`, for its owner alone, the public ones to `file.pub`. Gives the public
/// halves.
///
/// # Errors
/// A file exists already or can't be written.
pub fn create(name: &str, file: &Path) -> Result<Vec<PublicKey>, KeyFileError> {
    let public_file = file.with_file_name(format!("{}.pub", file.file_name().unwrap_or_default().to_string_lossy()));
    if let Some(there) = [file, &public_file].into_iter().find(|path| path.exists()) {
        return Err(KeyFileError::Exists(there.to_owned()));
    }
    let (mut private, mut public, mut keys) = (Zeroizing::new(String::new()), String::new(), Vec::new());
    for algorithm in PAIR {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut()).map_err(|error| KeyFileError::Make(error.to_string()))?;
        let key = SecretKey::from_seed(name, algorithm, &seed).map_err(|error| KeyFileError::Make(error.to_string()))?;
        private = Zeroizing::new([private.as_str(), &key.to_private_text(), "\n"].concat());
        public += &format!("{}\n", key.public());
        keys.push(key.public().clone());
    }
    write_new(file, private.as_bytes(), 0o600)?;
    write_new(&public_file, public.as_bytes(), 0o644)?;
    Ok(keys)
}

/// Reads a pair.
///
/// # Errors
/// The file can't be read, may be read by others, or holds no pair.
pub fn load(path: &Path) -> Result<Vec<SecretKey>, KeyFileError> {
    let bytes = Zeroizing::new(read(path, KEY_BYTES_MAX)?.ok_or_else(|| KeyFileError::Missing(path.to_owned()))?);
    let mode = std::fs::metadata(path).map_err(|cause| FileError { path: path.to_owned(), cause })?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    let wrong = |error| KeyFileError::Key(path.to_owned(), error);
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong(KeyError::Form))?;
    let keys = text.trim_end().split('\n').map(str::parse).collect::<Result<Vec<SecretKey>, _>>().map_err(wrong)?;
    match keys.as_slice() {
        [first, second] if first.public().name() == second.public().name() => {}
        _ => return Err(wrong(KeyError::Form)),
    }
    match keys.iter().zip(PAIR).find(|(key, algorithm)| key.public().algorithm() != *algorithm) {
        Some((key, _)) => Err(wrong(KeyError::Algorithm(key.public().algorithm().byte()))),
        None => Ok(keys),
    }
}
