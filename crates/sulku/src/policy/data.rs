//! `sulku policy check --data`: whether each dataset is what its list of SHA-256 sums says, no file more and none less.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use sulku_permit::{Dataset, Policy, Problem};
use sulku_policy::Digest;

/// More files than any register's extract has.
const FILES_MAX: usize = 1_000_000;
/// The longest line of a list.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// Of one dataset's differences, so many are told.
const TOLD_MAX: usize = 5;

/// What was looked at.
#[derive(Debug, Default)]
pub struct Looked {
    /// Datasets that have a list.
    pub datasets: usize,
    /// Files of theirs that were read.
    pub files: usize,
    /// Datasets that have none.
    pub unlisted: usize,
    /// What is not as it should be, at the line that grants the data.
    pub problems: Vec<Problem>,
}

/// Reads every file of every dataset that has a list.
///
/// # Errors
/// A list or a folder can't be read at all.
pub fn look(policy: &Policy) -> anyhow::Result<Looked> {
    let mut looked = Looked::default();
    let mut seen = BTreeSet::new();
    for dataset in policy.permits().iter().flat_map(|permit| &permit.datasets) {
        if !seen.insert((&dataset.path, &dataset.manifest)) {
            continue;
        }
        match &dataset.manifest {
            None => looked.unlisted += 1,
            Some(manifest) => {
                let differences = compare(dataset, manifest, &mut looked.files)?;
                looked.datasets += 1;
                let more = differences.len().saturating_sub(TOLD_MAX);
                for what in differences.into_iter().take(TOLD_MAX) {
                    looked.problems.push(Problem::new(dataset.at.clone(), what, "put back what was delivered, or the list that belongs to it"));
                }
                if more > 0 {
                    looked.problems.push(Problem::new(dataset.at.clone(), format!("and {more} more differences"), "see sha256sum --check"));
                }
            }
        }
    }
    Ok(looked)
}

fn compare(dataset: &Dataset, manifest: &Path, files: &mut usize) -> anyhow::Result<Vec<String>> {
    let listed = listed(manifest)?;
    let mut differences = Vec::new();
    let mut found = BTreeSet::new();
    walk(&dataset.path, &dataset.path, &mut found)
        .with_context(|| format!("{} can't be read; the data of {:?}", dataset.path.display(), dataset.name))?;
    for (path, sum) in &listed {
        if !found.remove(path) {
            differences.push(format!("{} is listed and not there", path.display()));
            continue;
        }
        *files += 1;
        let place = dataset.path.join(path);
        if sum_of(&place).with_context(|| format!("{} can't be read", place.display()))? != sum.to_string() {
            differences.push(format!("{} is not what was listed", path.display()));
        }
    }
    // The list itself may lie beside the data.
    let own = manifest.strip_prefix(&dataset.path).ok();
    differences.extend(found.iter().filter(|path| Some(path.as_path()) != own).map(|path| format!("{} is there and not listed", path.display())));
    Ok(differences)
}

/// Lines of `sha256sum`: 64 digits, a space, a space or `*`, a path below the dataset's folder.
fn listed(manifest: &Path) -> anyhow::Result<BTreeMap<PathBuf, Digest>> {
    let wrong = |number: usize| {
        format!("{}:{number}: this is no line of sha256sum; make the list with sha256sum in the dataset's folder", manifest.display())
    };
    let mut reader = BufReader::new(File::open(manifest).with_context(|| format!("{} can't be read", manifest.display()))?);
    let mut listed = BTreeMap::new();
    for number in 1.. {
        let mut line = String::new();
        if reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).with_context(|| wrong(number))? == 0 {
            break;
        }
        let line = line.strip_suffix('\n').with_context(|| wrong(number))?;
        let (sum, path) = line.split_at_checked(64).with_context(|| wrong(number))?;
        let path = path.strip_prefix("  ").or_else(|| path.strip_prefix(" *")).with_context(|| wrong(number))?;
        let path = Path::new(path.strip_prefix("./").unwrap_or(path));
        anyhow::ensure!(path.components().all(|part| matches!(part, Component::Normal(_))), wrong(number));
        let sum: Digest = sum.parse().ok().with_context(|| wrong(number))?;
        listed.insert(path.to_owned(), sum);
        anyhow::ensure!(listed.len() <= FILES_MAX, "{} lists more than {FILES_MAX} files", manifest.display());
    }
    Ok(listed)
}

/// Every file below a folder. A symlink is one: where it points to is no part of the data.
fn walk(top: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(top, &entry.path(), found)?;
        } else {
            found.insert(entry.path().strip_prefix(top).unwrap_or(&entry.path()).to_owned());
        }
        if found.len() > FILES_MAX {
            return Err(io::Error::other("there are more files than a dataset has"));
        }
    }
    Ok(())
}

/// In hexadecimal, as a digest is displayed.
fn sum_of(place: &Path) -> io::Result<String> {
    if fs::symlink_metadata(place)?.is_symlink() {
        return Err(io::Error::other("it is a symlink, not a file"));
    }
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(place)?, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}
