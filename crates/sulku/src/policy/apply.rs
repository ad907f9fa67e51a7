//! `sulku policy apply`: the folder of policies becomes a revision that its operator has signed.
//!
//! Puts nothing in force: gateway and warden read the store themselves, and believe the signatures and nothing else.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use sulku_permit::{PermitSet, parse};
use sulku_policy::store::{self, InForce, RevisionError, Store as _};
use sulku_policy::{
    Draft, FOLDERS, File, FileLine, HALT, OBJECT_BYTES_MAX, Operators, Revision, Signed, Tree, TreePath, file_changes, narrows, verify,
};

use super::operators::{OperatorsArgs, SignerArgs};
use super::store::{FolderStore, read_bounded};
use crate::print;

/// So many problems and changes are printed; a thousand lines are not read.
const LINES_MAX: usize = 100;

/// Where revisions are.
#[derive(Args)]
pub struct StoreArgs {
    /// The store, which gateway and warden read
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sulku/policy")]
    pub store: PathBuf,
}

/// How a signature is confirmed.
#[derive(Args)]
pub struct ConfirmArgs {
    /// Sign without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct ApplyArgs {
    /// The folder with permits/, images/, datasets/, networks/, calendars/, authorities/ and, to let nobody in, halt.toml
    #[arg(long, value_name = "DIR", default_value = "policies")]
    policies: PathBuf,
    /// Why, in one line; it stands in the revision
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    operators: OperatorsArgs,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Runs `sulku policy apply`.
///
/// # Errors
/// The policies are wrong, or the store can't take a revision of them now.
pub fn run(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let operators = args.operators.read()?;
    let key = args.signer.read(&operators)?;
    let tree = read_tree(&args.policies)?;
    check(&args.policies, &tree)?;
    let store = FolderStore::at(&args.store.store);
    let lock = store.lock()?;
    let current = current(&store, &operators)?;
    let (empty, number) = (Tree::default(), store.highest().context("the store can't be read")? + 1);
    let before = current.in_force.as_ref().map_or(&empty, |in_force| in_force.tree());
    may_follow(&current, before, &tree)?;

    let line = |(path, file): (&TreePath, &File)| FileLine { sha256: file.sha256(), bytes: file.text().len() as u64, path: path.clone() };
    let draft = Draft {
        number,
        previous: current.in_force.as_ref().map(|in_force| in_force.revision().digest()),
        made: Timestamp::now(),
        by: args.signer.operator.clone(),
        reason: args.reason.clone(),
        files: tree.iter().map(line).collect(),
    };
    let revision = Revision::new(draft).context("these policies can't become a revision")?;
    print::answer(&changes(before, &tree))?;
    print::answer(&format!("revision {number}: {} files, SHA-256 {}\n", tree.len(), revision.digest()))?;
    confirm(&args.confirm, &format!("Sign it as {}?", args.signer.operator))?;
    lock.put_objects(&tree)?;
    let signatures = vec![revision.sign(args.signer.operator.clone(), &key)];
    let signed = Signed { revision, signatures };
    lock.publish(&signed)?;
    for waiting in &current.waiting {
        print::answer(&format!("revision {waiting}, which waited for a signature, will not count any more; apply it again if it is still wanted\n"))?;
    }
    print::answer(&outcome(&store, &operators, &signed, &args.store, &args.operators)?)?;
    Ok(ExitCode::SUCCESS)
}

/// What the store has.
pub struct Current {
    /// The revision in force.
    pub in_force: Option<Arc<InForce>>,
    /// The numbers of those after it, which wait for signatures.
    pub waiting: Vec<u64>,
}

/// What is in force, as the daemons find it.
pub fn current(store: &FolderStore, operators: &Operators) -> anyhow::Result<Current> {
    let in_force = match store::read(store, operators, narrows, None) {
        Ok(in_force) => Some(in_force),
        Err(RevisionError::Empty | RevisionError::Waiting { .. }) => None,
        Err(error) => return Err(error).context("what is in the store can't be verified; nothing is added to it until that is put right"),
    };
    let floor = in_force.as_ref().map_or(0, |in_force| in_force.revision().number());
    let mut waiting: Vec<_> = store.revisions()?.into_iter().filter(|number| *number > floor).collect();
    waiting.sort_unstable();
    Ok(Current { in_force, waiting })
}

fn may_follow(current: &Current, before: &Tree, tree: &Tree) -> anyhow::Result<()> {
    if let Some(in_force) = &current.in_force {
        let number = in_force.revision().number();
        anyhow::ensure!(before != tree, "nothing has changed: revision {number}, which is in force, has these very files");
    }
    if let Some(number) = current.waiting.last() {
        anyhow::ensure!(
            current.in_force.is_some() && narrows(before, tree),
            "revision {number} waits for a signature; a second operator signs it (sulku policy approve {number}), or you take it back (sulku policy withdraw {number})"
        );
    }
    Ok(())
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

/// Every permit alone and all against each other: what the daemons would refuse is not signed.
pub fn check(folder: &Path, tree: &Tree) -> anyhow::Result<()> {
    let (mut permits, mut problems) = (Vec::new(), Vec::new());
    for (path, file) in tree.iter().filter(|(path, _)| path.folder() == Some("permits")) {
        match parse(&folder.join(path.as_str()).display().to_string(), file.text()) {
            Ok(permit) => permits.push(permit),
            Err(found) => problems.extend(found),
        }
    }
    problems.extend(PermitSet::new(permits).err().unwrap_or_default());
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = problems.iter().take(LINES_MAX).map(ToString::to_string).collect();
    anyhow::bail!("the policies have {} problems, so nothing is signed\n{}", problems.len(), lines.join("\n"))
}

/// What a revision changes.
pub fn changes(before: &Tree, after: &Tree) -> String {
    let changes = file_changes(before, after);
    let mut lines: Vec<_> = changes.iter().take(LINES_MAX).map(|change| format!("  {change}")).collect();
    if changes.len() > LINES_MAX {
        lines.push(format!("  and {} more", changes.len() - LINES_MAX));
    }
    if narrows(before, after) {
        lines.push("  it only takes access away, so one operator's signature is enough".to_owned());
    }
    lines.join("\n") + "\n"
}

/// Asks, unless told not to.
pub fn confirm(args: &ConfirmArgs, question: &str) -> anyhow::Result<()> {
    if args.yes {
        return Ok(());
    }
    anyhow::ensure!(std::io::stdin().is_terminal(), "nobody is there to be asked; give --yes to sign without");
    let mut out = std::io::stderr();
    write!(out, "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    anyhow::ensure!(matches!(answer.trim(), "y" | "yes"), "not signed");
    Ok(())
}

/// What the store, read back, makes of a revision that was just signed.
pub fn outcome(store: &FolderStore, operators: &Operators, signed: &Signed, at: &StoreArgs, of: &OperatorsArgs) -> anyhow::Result<String> {
    let (number, digest) = (signed.revision.number(), signed.revision.digest());
    let current = current(store, operators)?;
    match &current.in_force {
        Some(in_force) if in_force.revision().digest() == digest => {
            let approvers: Vec<_> = in_force.approved().approvers().iter().map(ToString::to_string).collect();
            Ok(format!("revision {number} counts, signed by {}; gateway and warden put it in force within a second\n", approvers.join(" and ")))
        }
        _ => {
            let short = verify(signed, operators).err().map_or_else(String::new, |error| format!(": {error}"));
            Ok(format!(
                "revision {number} does not count yet{short}\na second operator signs it with\n  sulku policy approve {number} --store {} --operators {} --as OPERATOR --key FILE\n",
                at.store.display(),
                of.operators.display()
            ))
        }
    }
}
