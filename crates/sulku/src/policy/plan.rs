//! `sulku policy plan` and `diff`: what a permit's cells would be made of, and what would change.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sulku_permit::{PermitId, Policy};
use sulku_plan::{Plan, ruleset};
use sulku_policy::{Change, Effect, diff};

use super::apply::{StoreArgs, current};
use super::ask::permit_of;
use super::folder::{PoliciesArgs, meaning, read_tree};
use super::operators::OperatorsArgs;
use super::store::FolderStore;
use crate::print;

/// So many changes are printed; a thousand lines are not read.
const LINES_MAX: usize = 100;

/// Which permit's plan.
#[derive(Args)]
pub struct PlanArgs {
    /// The permit
    permit: PermitId,
    #[command(flatten)]
    policies: PoliciesArgs,
}

/// What to compare.
#[derive(Args)]
pub struct DiffArgs {
    /// Compare with this folder of policies, instead of with the revision in force
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    operators: OperatorsArgs,
    #[command(flatten)]
    policies: PoliciesArgs,
}

/// Runs `sulku policy plan`.
///
/// # Errors
/// The policies are wrong, or there is no such permit.
pub fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let (_, policy) = args.policies.sound()?;
    let plan = Plan::of(permit_of(&policy, &args.permit)?);
    print::answer(&plan.render())?;
    print::answer(&format!("sha256 {}\n\n", plan.digest()))?;
    print::answer(ruleset::TEXT)?;
    print::answer(&format!("# sha256 of the ruleset {}\n", ruleset::digest()))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `sulku policy diff`. Exit code 0: nothing widens; 1: something does.
///
/// # Errors
/// The policies are wrong, or there is nothing to compare them with.
pub fn differ(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let (_, after) = args.policies.sound()?;
    let before = match &args.against {
        Some(folder) => {
            let tree = read_tree(folder)?;
            meaning(folder, &tree)
                .map_err(|problems| anyhow::anyhow!("{} has {} problems; see sulku policy check", folder.display(), problems.len()))?
        }
        None => match current(&FolderStore::at(&args.store.store), &args.operators.read()?)?.in_force {
            Some(in_force) => understood(in_force.tree())?,
            None => Policy::default(),
        },
    };
    let changes = diff(&before, &after);
    print::answer(&words(&changes))?;
    Ok(if changes.iter().any(|change| change.effect == Effect::Widens) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a tree that was signed means.
pub fn understood(tree: &sulku_policy::Tree) -> anyhow::Result<Policy> {
    sulku_policy::meaning(tree).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        anyhow::anyhow!("the files of the revision in force say nothing that this version understands: {first}")
    })
}

/// Changes for people: widenings first, each marked.
pub fn words(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nobody gains or loses anything\n".to_owned();
    }
    let mut text = String::new();
    for (effect, title) in [(Effect::Widens, "widens:"), (Effect::Narrows, "narrows:"), (Effect::Neither, "says otherwise:")] {
        let of_kind: Vec<_> = changes.iter().filter(|change| change.effect == effect).collect();
        if of_kind.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}\n"));
        for change in of_kind.iter().take(LINES_MAX) {
            let at = change.at.as_ref().map(|at| format!("  ({at})")).unwrap_or_default();
            text.push_str(&format!("{change}{at}\n"));
        }
        if of_kind.len() > LINES_MAX {
            text.push_str(&format!("  and {} more\n", of_kind.len() - LINES_MAX));
        }
    }
    text
}
