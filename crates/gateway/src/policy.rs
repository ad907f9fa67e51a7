//! The permits in force, as the gateway reads them at start.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sulku_audit::event::{Draft, Event};
use sulku_permit::{PERMIT_BYTES_MAX, Permit, PermitSet, Place, Problem};

use crate::tls::hex;

/// More permits than any environment serves.
const PERMITS_MAX: usize = 10_000;
/// Of a file's problems, so many go into the entry.
const PROBLEMS_TOLD: usize = 10;

/// Permits that can't be put in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The folder or a file can't be read.
    #[error("{path} can't be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There are too many.
    #[error("{folder} has more than {PERMITS_MAX} permits")]
    TooMany {
        /// The folder.
        folder: PathBuf,
    },
    /// Permits contradict each other.
    #[error("the permits contradict each other: {}; until they agree, none is in force", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))]
    Contradiction {
        /// Where and how.
        problems: Vec<Problem>,
    },
}

/// The permits in force and what the ledger is to be told of each file.
#[derive(Debug)]
pub struct Policy {
    /// The permits.
    pub permits: PermitSet,
    /// `permit.loaded` or `permit.refused` of each file.
    pub drafts: Vec<Draft>,
}

/// Reads every `*.toml` of a folder. A file with a problem is left out and told of: the other permits' holders need not suffer.
///
/// # Errors
/// The folder can't be read, or the permits contradict each other.
pub fn load(folder: &Path) -> Result<Policy, PolicyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PolicyError::Read { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
        if files.len() > PERMITS_MAX {
            return Err(PolicyError::TooMany { folder: folder.to_owned() });
        }
    }
    files.sort();
    let (mut permits, mut drafts) = (Vec::new(), Vec::new());
    for path in files {
        let file = path.display().to_string();
        match read(&path).map_err(failed(&path))? {
            Ok((permit, sha256)) => {
                let holders: Vec<_> = permit.holders.iter().map(|holder| holder.id.clone()).collect();
                let event = Event::PermitLoaded { file, sha256, holders: holders.into() };
                drafts.push(Draft { permit: Some(permit.id.clone()), ..Draft::new(event) });
                permits.push(permit);
            }
            Err(problems) => {
                problems.iter().for_each(|problem| tracing::error!(%problem, "permit refused"));
                let problems: Vec<_> = problems.iter().take(PROBLEMS_TOLD).map(ToString::to_string).collect();
                drafts.push(Draft::new(Event::PermitRefused { file, problems: problems.into() }));
            }
        }
    }
    let permits = PermitSet::new(permits).map_err(|problems| PolicyError::Contradiction { problems })?;
    Ok(Policy { permits, drafts })
}

fn read(path: &Path) -> std::io::Result<Result<(Permit, String), Vec<Problem>>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(PERMIT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let sha256 = hex(&Sha256::digest(&bytes));
    let file = path.display().to_string();
    Ok(match std::str::from_utf8(&bytes) {
        Ok(text) => sulku_permit::parse(&file, text).map(|permit| (permit, sha256)),
        Err(error) => Err(vec![not_text(&file, &bytes[..error.valid_up_to()])]),
    })
}

fn not_text(file: &str, before: &[u8]) -> Problem {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let at = Place::line_of(file, u32::try_from(line).unwrap_or(u32::MAX));
    Problem::new(at, "this line is no UTF-8 text", "save the file as UTF-8")
}
