//! `sulku policy apply`: the folder of policies becomes a revision that its operator has signed.
//!
//! Puts nothing in force: gateway and warden read the store themselves, and believe the signatures and nothing else.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use sulku_policy::store::{self, InForce, RevisionError, Store as _};
use sulku_policy::{Draft, File, FileLine, Operators, Revision, Signed, Tree, TreePath, diff, file_changes, narrows, verify};

use super::folder::PoliciesArgs;
use super::operators::{OperatorsArgs, SignerArgs};
use super::plan::{understood, words};
use super::store::FolderStore;
use crate::print;

/// Of files that say the same otherwise, so many are named.
const FILES_TOLD: usize = 20;

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

/// Who signs, and where it goes.
#[derive(Args)]
pub struct SigningArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    operators: OperatorsArgs,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

#[derive(Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    policies: PoliciesArgs,
    /// Why, in one line; it stands in the revision
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    signing: SigningArgs,
}

/// Runs `sulku policy apply`.
///
/// # Errors
/// As [`apply`].
pub fn run(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    apply(&args.policies, &args.reason, &args.signing)
}

/// Makes a signed revision of a folder of policies.
///
/// # Errors
/// The policies are wrong, or the store can't take a revision of them now.
fn apply(policies: &PoliciesArgs, reason: &str, args: &SigningArgs) -> anyhow::Result<ExitCode> {
    revise(reason, args, |_| policies.sound().map(|(tree, _)| tree))
}

/// Makes a signed revision of what `make` makes of the files in force, while nobody else writes.
///
/// # Errors
/// As `make`, or the store can't take the revision now.
pub fn revise(reason: &str, args: &SigningArgs, make: impl FnOnce(&Tree) -> anyhow::Result<Tree>) -> anyhow::Result<ExitCode> {
    let operators = args.operators.read()?;
    let key = args.signer.read(&operators)?;
    let store = FolderStore::at(&args.store.store);
    let lock = store.lock()?;
    let current = current(&store, &operators)?;
    let (empty, number) = (Tree::default(), store.highest().context("the store can't be read")? + 1);
    let before = current.in_force.as_ref().map_or(&empty, |in_force| in_force.tree());
    let tree = make(before)?;
    may_follow(&current, before, &tree)?;

    let line = |(path, file): (&TreePath, &File)| FileLine { sha256: file.sha256(), bytes: file.text().len() as u64, path: path.clone() };
    let draft = Draft {
        number,
        previous: current.in_force.as_ref().map(|in_force| in_force.revision().digest()),
        made: Timestamp::now(),
        by: args.signer.operator.clone(),
        reason: reason.to_owned(),
        files: tree.iter().map(line).collect(),
    };
    let revision = Revision::new(draft).context("these policies can't become a revision")?;
    print::answer(&changes(before, &tree)?)?;
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

/// What a revision changes, in words.
pub fn changes(before: &Tree, after: &Tree) -> anyhow::Result<String> {
    // What is in force was read by the daemons as well; an older program's files may mean nothing to this one.
    let changes = diff(&sulku_policy::meaning(before).unwrap_or_default(), &understood(after)?);
    let mut text = words(&changes);
    if changes.is_empty() {
        let files: Vec<_> = file_changes(before, after).iter().take(FILES_TOLD).map(ToString::to_string).collect();
        text.push_str(&format!("{}\n", files.join(", ")));
    }
    if narrows(before, after) {
        text.push_str("it only takes access away, so one operator's signature is enough\n");
    }
    Ok(text)
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
