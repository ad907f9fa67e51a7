//! The operator's folder of policies: its files, and what they mean.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use sulku_permit::{Failed, Policy, Problem, Source};
use sulku_policy::{FOLDERS, File, HALT, OBJECT_BYTES_MAX, Tree, TreePath};

use super::diagnose::Diagnoses;
use super::store::read_bounded;

/// Where policies are written.
#[derive(Args)]
pub struct PoliciesArgs {
    /// The folder with permits/, images/, datasets/, networks/, calendars/, authorities/ and, to let nobody in, halt.toml
    #[arg(long, value_name = "DIR", default_value = "policies")]
    pub policies: PathBuf,
}

impl PoliciesArgs {
    /// What the folder's files mean, when all are right and every case comes out as it says.
    pub fn sound(&self) -> anyhow::Result<(Tree, Policy)> {
        let tree = read_tree(&self.policies)?;
        sound(&self.policies, &tree).map(|policy| (tree, policy))
    }
}

/// What these files mean, when all are right and every case comes out as it says.
pub fn sound(folder: &Path, tree: &Tree) -> anyhow::Result<Policy> {
    let policy = meaning(folder, tree).and_then(|policy| {
        let failed: Vec<_> = policy.failed_cases().iter().map(Failed::problem).collect();
        if failed.is_empty() { Ok(policy) } else { Err(failed) }
    });
    policy.map_err(|problems| {
        let shown = Diagnoses::of(folder, tree, &problems).render();
        anyhow::anyhow!("the policies have {}, so nothing is done\n{shown}", super::check::count(problems.len(), "problem"))
    })
}

/// What a folder's files mean; problems name them as the operator sees them.
pub fn meaning(folder: &Path, tree: &Tree) -> Result<Policy, Vec<Problem>> {
    let files: Vec<_> = tree.iter().map(|(path, file)| (path.as_str(), folder.join(path.as_str()).display().to_string(), file.text())).collect();
    Policy::read(files.iter().map(|(path, shown, text)| Source { path, shown, text }))
}

/// Every file of a policy that is in a folder. Others, such as a README.md, are no part of it.
pub fn read_tree(folder: &Path) -> anyhow::Result<Tree> {
    anyhow::ensure!(folder.join("permits").is_dir(), "{} has no folder permits/; name the folder of policies with --policies", folder.display());
    let mut paths = Vec::new();
    if folder.join(HALT).exists() {
        paths.push(HALT.to_owned());
    }
    for name in FOLDERS {
        let entries = match fs::read_dir(folder.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("{} can't be read", folder.join(name).display()))?,
        };
        for entry in entries {
            let file = entry?.file_name();
            if Path::new(&file).extension().is_some_and(|extension| extension == "toml") {
                paths.push(format!("{name}/{}", file.to_string_lossy()));
            }
        }
    }
    let file = |path: String| -> anyhow::Result<(TreePath, File)> {
        let place = folder.join(&path);
        let bytes = read_bounded(&place, OBJECT_BYTES_MAX).with_context(|| format!("{} can't be read", place.display()))?;
        anyhow::ensure!(bytes.len() as u64 <= OBJECT_BYTES_MAX, "{} is larger than {OBJECT_BYTES_MAX} bytes", place.display());
        let text = String::from_utf8(bytes).with_context(|| format!("{} is no UTF-8 text; save it as UTF-8", place.display()))?;
        Ok((
            path.parse::<TreePath>().with_context(|| format!("{} has a name that no policy's file has; rename it", place.display()))?,
            File::new(&text),
        ))
    };
    paths.into_iter().map(file).collect()
}
