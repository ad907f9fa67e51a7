//! Certificates and keys from files. A key that others can read is no key; its bytes are wiped once it is loaded.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// A chain of several RSA certificates is a tenth of this.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// Read or write for group or others.
const OTHERS_BITS: u32 = 0o077;

/// What is wrong with a file, and what to do.
pub(crate) struct FileFault {
    pub(crate) what: String,
    pub(crate) help: String,
}

fn fault<T>(what: impl Into<String>, help: impl Into<String>) -> Result<T, FileFault> {
    Err(FileFault { what: what.into(), help: help.into() })
}

/// The certificates of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let text = content(&open(path)?, path)?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => fault(format!("{} has no certificate", path.display()), "name a PEM file with a BEGIN CERTIFICATE line"),
        Err(_) => fault(format!("{} is damaged", path.display()), "copy the file again, unchanged"),
    }
}

/// The key of a PEM file that its owner alone can read.
pub(crate) fn private_key(path: &Path) -> Result<Arc<dyn SigningKey>, FileFault> {
    let file = open(path)?;
    let status = file.metadata().or_else(|error| unreadable(path, &error))?;
    if status.mode() & OTHERS_BITS != 0 {
        return fault(format!("others can read or change {}", path.display()), format!("chmod 600 {}", path.display()));
    }
    let me = rustix::process::geteuid().as_raw();
    if me != 0 && status.uid() != me {
        return fault(format!("{} belongs to someone else", path.display()), "use your own key");
    }
    let text = content(&file, path)?;
    let Ok(key) = PrivateKeyDer::from_pem_slice(&text) else {
        return fault(format!("{} has no private key", path.display()), "name a PEM file with an unencrypted BEGIN PRIVATE KEY line");
    };
    let key = Zeroizing::new(key);
    any_supported_type(&key).or_else(|_| fault(format!("{} is no key for TLS", path.display()), "use a key of type ECDSA, Ed25519 or RSA"))
}

/// From when until when a certificate holds.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    let instant = |second| Timestamp::from_second(second).ok();
    Some((instant(validity.not_before.timestamp())?, instant(validity.not_after.timestamp())?))
}

/// Opens a plain file; a named pipe would make us wait for ever.
fn open(path: &Path) -> Result<File, FileFault> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("O_NONBLOCK is a small flag");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).or_else(|error| unreadable(path, &error))?;
    match file.metadata() {
        Ok(status) if status.is_file() => Ok(file),
        Ok(_) => fault(format!("{} is no file", path.display()), "name a PEM file"),
        Err(error) => unreadable(path, &error),
    }
}

/// The whole file, read into one piece of memory that is wiped when it is dropped.
fn content(mut file: &File, path: &Path) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    let length = file.metadata().or_else(|error| unreadable(path, &error))?.len();
    if length > FILE_BYTES_MAX {
        return fault(format!("{} has {length} bytes", path.display()), format!("name a PEM file of at most {FILE_BYTES_MAX}"));
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).expect("below the bound")]);
    file.read_exact(&mut bytes).or_else(|error| unreadable(path, &error))?;
    Ok(bytes)
}

fn unreadable<T>(path: &Path, error: &io::Error) -> Result<T, FileFault> {
    fault(format!("{} can't be read: {error}", path.display()), "name a file that is there and that you may read")
}
