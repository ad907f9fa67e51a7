//! `sulku policy check` and `test`: every problem at once, and every case.

use std::process::ExitCode;

use clap::Args;
use sulku_permit::{Failed, Permit, Policy, Problem};
use sulku_policy::Tree;

use super::data::{self, Looked};
use super::diagnose::Diagnoses;
use super::folder::{PoliciesArgs, meaning, read_tree};
use crate::print;

/// Permits that are named one by one; of more, only their number is told.
const NAMED_MAX: usize = 40;

/// What is checked.
#[derive(Args)]
pub struct CheckArgs {
    /// Also read all data, and compare them with their lists of SHA-256 sums
    #[arg(long)]
    data: bool,
    #[command(flatten)]
    policies: PoliciesArgs,
}

/// Runs `sulku policy check`.
///
/// # Errors
/// The folder can't be read. Problems are no error of this command's, but its answer, with exit code 1.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let CheckArgs { data: with_data, policies: args } = args;
    let tree = read_tree(&args.policies)?;
    match meaning(&args.policies, &tree) {
        Err(problems) => told(args, &tree, &problems),
        Ok(policy) => {
            let failed: Vec<_> = policy.failed_cases().iter().map(Failed::problem).collect();
            if !failed.is_empty() {
                return told(args, &tree, &failed);
            }
            print::answer(&summary(args, &tree, &policy))?;
            if *with_data {
                let Looked { datasets, files, unlisted, problems } = data::look(&policy)?;
                print::answer(&format!("{} compared with {}; {} without one\n", count(datasets, "dataset"), count(files, "listed file"), unlisted))?;
                if !problems.is_empty() {
                    return told(args, &tree, &problems);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs `sulku policy test`.
///
/// # Errors
/// The folder can't be read, or its files are wrong.
pub fn test(args: &PoliciesArgs) -> anyhow::Result<ExitCode> {
    let tree = read_tree(&args.policies)?;
    let policy = match meaning(&args.policies, &tree) {
        Ok(policy) => policy,
        Err(problems) => return told(args, &tree, &problems),
    };
    let failed = policy.failed_cases();
    let mut text = String::new();
    for (permit, case) in policy.all_cases() {
        let bad = failed.iter().any(|failed| std::ptr::eq(failed.case, case));
        text.push_str(&format!("{} {}  {}\n", if bad { "✗" } else { "✓" }, permit.id, case.name));
    }
    let problems: Vec<_> = failed.iter().map(Failed::problem).collect();
    text.push_str(&format!("{} of {} cases come out as they say\n", policy.cases() - failed.len(), policy.cases()));
    print::answer(&text)?;
    if problems.is_empty() { Ok(ExitCode::SUCCESS) } else { told(args, &tree, &problems) }
}

fn told(args: &PoliciesArgs, tree: &Tree, problems: &[Problem]) -> anyhow::Result<ExitCode> {
    print::answer(&Diagnoses::of(&args.policies, tree, problems).render())?;
    print::answer(&format!("{}; nothing of it comes into force\n", count(problems.len(), "problem")))?;
    Ok(ExitCode::FAILURE)
}

fn summary(args: &PoliciesArgs, tree: &Tree, policy: &Policy) -> String {
    let mut text = String::new();
    let permits = tree.iter().filter(|(path, _)| path.folder() == Some("permits")).collect::<Vec<_>>();
    if permits.len() <= NAMED_MAX {
        for (path, _) in &permits {
            if let Some(permit) = policy.in_file(path.as_str()) {
                text.push_str(&format!("✓ {}  {}\n", args.policies.join(path.as_str()).display(), one(permit)));
            }
        }
    }
    if let Some(halt) = policy.permits().halt() {
        text.push_str(&format!("! halted: {}\n", halt.reason));
    }
    text.push_str(&format!("{} in {}, {}: no problem\n", count(permits.len(), "permit"), count(tree.len(), "file"), count(policy.cases(), "case")));
    text
}

fn one(permit: &Permit) -> String {
    let (persons, destinations) = (count(permit.holders.len(), "person"), count(permit.egress.len(), "destination"));
    let state = if permit.suspended.is_some() { "suspended" } else { permit.status.name() };
    format!("{}  {state}  {persons}, {destinations}, until {}", permit.id, print::local(permit.validity.until))
}

pub fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}
