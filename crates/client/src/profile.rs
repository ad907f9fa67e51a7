//! A profile: which gateway, whom to trust, who one is. One TOML 1.0 file; paths in it count from its folder.
//!
//! ```toml
//! gateway = "spe.example.fi:8443"
//! server_name = "spe.example.fi"       # only where it differs from the host in `gateway`
//! authority = "authority.pem"          # who issued the gateway's certificate
//! certificate = "maija.pem"
//! private_key = "maija.key"            # chmod 600
//! permit = "THL/1234/14.02.00/2026"    # only for holders of several
//! notices = false                      # nothing is said in the terminal of what was denied there; sulku why still shows it
//! ```
//! A profile holds no secret itself; the key stays in its own file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde::Deserialize;
use sulku_permit::{PermitId, Place, Problem};
use toml::Spanned;

use crate::files::{self, FileFault};

/// The largest profile that is looked at; a real one has ten lines.
pub const PROFILE_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    gateway: Spanned<String>,
    server_name: Option<Spanned<String>>,
    authority: Spanned<PathBuf>,
    certificate: Spanned<PathBuf>,
    private_key: Spanned<PathBuf>,
    permit: Option<Spanned<String>>,
    notices: Option<bool>,
}

/// Whether the holder is told in her terminal, as it happens, what was denied there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Notices {
    /// She is.
    #[default]
    Told,
    /// She asks when she wants to know.
    Off,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no such file, or it is not ours to read.
    #[error("the profile {} can't be read; put the one that you were given there, or name it with --profile", path.display())]
    Read {
        /// The profile.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Every problem in it, each with its place.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

/// Which gateway, whom to trust, who one is. The key is loaded and belongs to the certificate.
pub struct Profile {
    address: Address,
    server_name: ServerName<'static>,
    permit: Option<PermitId>,
    authority: Arc<RootCertStore>,
    credential: Arc<dyn ResolvesClientCert>,
    validity: (Timestamp, Timestamp),
    notices: Notices,
}

impl Profile {
    /// Reads a profile and the files that it names.
    ///
    /// # Errors
    /// The file can't be read, or every problem in it and in the files that it names.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let read = |source| ProfileError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        // One byte more than allowed, so that a profile that is too long is seen to be.
        File::open(path).and_then(|file| file.take(PROFILE_BYTES_MAX as u64 + 1).read_to_string(&mut text)).map_err(read)?;
        let mut reader = Reader::new(&path.display().to_string(), &text);
        let profile = reader.document().and_then(|document| reader.profile(document, path.parent().unwrap_or(Path::new(""))));
        reader.problems.sort_by_key(|problem| (problem.at.line, problem.at.column));
        profile.filter(|_| reader.problems.is_empty()).ok_or(ProfileError::Problems(reader.problems))
    }

    /// Host and port, as the profile writes them.
    #[must_use]
    pub fn gateway(&self) -> String {
        self.address.to_string()
    }

    /// The permit that is meant when none is named.
    #[must_use]
    pub fn permit(&self) -> Option<&PermitId> {
        self.permit.as_ref()
    }

    /// Whether the holder wants to be told of what is denied, as it happens.
    #[must_use]
    pub const fn notices(&self) -> Notices {
        self.notices
    }

    /// From when until when the certificate holds.
    #[must_use]
    pub fn certificate_validity(&self) -> (Timestamp, Timestamp) {
        self.validity
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    pub(crate) fn authority(&self) -> &Arc<RootCertStore> {
        &self.authority
    }

    pub(crate) fn credential(&self) -> &Arc<dyn ResolvesClientCert> {
        &self.credential
    }

    #[cfg(test)]
    pub(crate) fn with_credential(mut self, credential: Arc<dyn ResolvesClientCert>) -> Self {
        self.credential = credential;
        self
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("gateway", &self.address).field("permit", &self.permit).finish_non_exhaustive()
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|number| *number > 0 && !port.starts_with('+'))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
            None if host.contains(':') => return None,
            None => host.to_owned(),
        };
        ServerName::try_from(host.as_str()).ok()?;
        Some(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// Collects problems while it reads; `None` from a method means that it has noted at least one.
struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(file: &str, text: &'a str) -> Self {
        Self { file: file.into(), text, problems: Vec::new() }
    }

    fn problem(&mut self, span: &Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem::new(Place::in_text(&self.file, self.text, span), what, help));
    }

    fn document(&mut self) -> Option<Document> {
        if self.text.len() > PROFILE_BYTES_MAX {
            self.problem(&(0..0), "the file is too long", format!("a profile has at most {PROFILE_BYTES_MAX} bytes"));
            return None;
        }
        match toml::from_str(self.text) {
            Ok(document) => Some(document),
            Err(error) => {
                let help = "a profile has gateway, authority, certificate and private_key; server_name, permit and notices where needed";
                self.problem(&error.span().unwrap_or(0..0), error.message().trim().replace('\n', ", "), help);
                None
            }
        }
    }

    fn profile(&mut self, document: Document, folder: &Path) -> Option<Profile> {
        let Document { gateway, server_name, authority, certificate, private_key, permit, notices } = document;
        let notices = if notices == Some(false) { Notices::Off } else { Notices::Told };
        let (address, server_name) = self.whereto(&gateway, server_name.as_ref());
        let permit = match permit {
            Some(permit) => match permit.get_ref().parse() {
                Ok(id) => Some(Some(id)),
                Err(error) => {
                    self.problem(&permit.span(), "this is no permit's id", format!("{error}"));
                    None
                }
            },
            None => Some(None),
        };
        let authority = self.file(&authority, folder, |path| {
            let mut roots = RootCertStore::empty();
            for certificate in files::certificates(path)? {
                roots.add(certificate).map_err(|_| FileFault {
                    what: format!("{} has a certificate that is no authority's", path.display()),
                    help: "name the file of the authority that you were given".into(),
                })?;
            }
            Ok(roots)
        });
        let chain = self.file(&certificate, folder, files::certificates);
        let key = self.file(&private_key, folder, files::private_key);
        let (chain, key) = (chain?, key?);
        let Some(validity) = chain.first().and_then(files::validity) else {
            self.problem(&certificate.span(), "the certificate is damaged", "copy the file again, unchanged");
            return None;
        };
        let credential = CertifiedKey::new(chain, key);
        if credential.keys_match().is_err() {
            self.problem(&private_key.span(), "this key does not belong to the certificate", "name the key that the certificate was made for");
        }
        let credential = Arc::new(SingleCertAndKey::from(credential));
        Some(Profile {
            address: address?,
            server_name: server_name?,
            permit: permit?,
            authority: Arc::new(authority?),
            credential,
            validity,
            notices,
        })
    }

    fn whereto(&mut self, gateway: &Spanned<String>, name: Option<&Spanned<String>>) -> (Option<Address>, Option<ServerName<'static>>) {
        let address = Address::parse(gateway.get_ref());
        if address.is_none() {
            self.problem(&gateway.span(), "this is no gateway", "write host:port, as in \"spe.example.fi:8443\" or \"[2001:db8::7]:8443\"");
        }
        let server_name = match name {
            None => address.as_ref().and_then(|address| ServerName::try_from(address.host.clone()).ok()),
            Some(name) => {
                let parsed = ServerName::try_from(name.get_ref().clone()).ok();
                if parsed.is_none() {
                    self.problem(&name.span(), "this is no server's name", "write the name in the gateway's certificate, as in \"spe.example.fi\"");
                }
                parsed
            }
        };
        (address, server_name)
    }

    fn file<T>(&mut self, path: &Spanned<PathBuf>, folder: &Path, read: impl FnOnce(&Path) -> Result<T, FileFault>) -> Option<T> {
        read(&folder.join(path.get_ref())).map_err(|FileFault { what, help }| self.problem(&path.span(), what, help)).ok()
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
