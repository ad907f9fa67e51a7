//! The policy: checked, made into signed revisions, looked at. Asks no gateway: what is in the store counts or not by its signatures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use sulku_permit::{Permit, PermitSet, parse};

use crate::print;

mod apply;
mod approve;
mod operators;
mod store;

/// What to do with the policy.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Check every *.toml of a folder, each alone and all against each other
    Check {
        /// The folder
        #[arg(value_name = "DIR", default_value = "policies/permits")]
        folder: PathBuf,
    },
    /// Make a signed revision of the policies, which gateway and warden put in force
    Apply(apply::ApplyArgs),
    /// Sign a revision that another operator made
    Approve(approve::ApproveArgs),
    /// Take back a revision that waits for a signature
    Withdraw(approve::WithdrawArgs),
    /// List revisions, the newest first
    Log(approve::LogArgs),
    /// Print a revision, or a file of it
    Show(approve::ShowArgs),
    /// Print an operator's table for gateway.toml and warden.toml
    Key(operators::KeyArgs),
}

/// Runs `sulku policy`.
///
/// # Errors
/// The command can't do what it is for. Problems in permits are no error of this command's, but its answer, with exit code 1.
pub fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    let folder = match command {
        PolicyCommand::Check { folder } => folder,
        PolicyCommand::Apply(args) => return apply::run(args),
        PolicyCommand::Approve(args) => return approve::approve(args),
        PolicyCommand::Withdraw(args) => return approve::withdraw(args),
        PolicyCommand::Log(args) => return approve::log(args),
        PolicyCommand::Show(args) => return approve::show(args),
        PolicyCommand::Key(args) => {
            print::answer(&operators::table(args)?)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let report = check(folder)?;
    print::answer(&report.text)?;
    Ok(if report.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Report {
    text: String,
    problems: usize,
}

impl Report {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn problem(&mut self, problem: &str) {
        self.problems += 1;
        self.line(problem);
    }
}

fn check(folder: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut permits = Vec::new();
    let files = files(folder).with_context(|| format!("{} can't be read; name the folder that holds the permits", folder.display()))?;
    anyhow::ensure!(!files.is_empty(), "{} has no *.toml file; name the folder that holds the permits", folder.display());
    for file in files {
        let name = file.display().to_string();
        match fs::read_to_string(&file) {
            Err(error) => report.problem(&format!("{name}:1:1: it can't be read: {error}; make it a UTF-8 text that you may read")),
            Ok(text) => match parse(&name, &text) {
                Err(problems) => problems.iter().for_each(|problem| report.problem(&problem.to_string())),
                Ok(permit) => {
                    report.line(&summary(&name, &permit));
                    permits.push(permit);
                }
            },
        }
    }
    if let Err(contradictions) = PermitSet::new(permits) {
        contradictions.iter().for_each(|problem| report.problem(&problem.to_string()));
    }
    Ok(report)
}

/// By name, so that the answer is the same everywhere.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

fn summary(name: &str, permit: &Permit) -> String {
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let (persons, destinations) = (count(permit.holders.len(), "person"), count(permit.egress.len(), "destination"));
    format!("✓ {name}  {}  {persons}, {destinations}, until {}", permit.id, print::local(permit.validity.until))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../permit/tests/good.toml");

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    #[test]
    fn a_good_permit_is_summed_up_in_one_line() {
        let folder = folder(&[("a.toml", GOOD), ("README.md", "not a permit")]);
        let report = check(folder.path()).expect("checked");
        assert_eq!((report.problems, report.text.lines().count()), (0, 1));
        assert!(report.text.contains("a.toml  THL/1234/14.02.00/2026  2 persons, 1 destination, until 202"), "{}", report.text);
    }

    #[test]
    fn each_problem_is_told_with_its_place() {
        let folder = folder(&[("a.toml", &GOOD.replace("\"443/tcp\"", "\"443\"")), ("b.toml", "schema = "), ("c.toml", GOOD)]);
        let report = check(folder.path()).expect("checked");
        let line = GOOD.lines().position(|line| line.starts_with("ports")).expect("a line") + 1;
        assert!(report.text.contains(&format!("a.toml:{line}:10: this is no port; ")), "{}", report.text);
        assert!(report.text.contains("b.toml:1:"), "{}", report.text);
        assert!(report.text.contains("✓ ") && report.problems == 3, "{}", report.text);
    }

    #[test]
    fn two_permits_that_contradict_each_other_are_a_problem() {
        let folder = folder(&[("a.toml", GOOD), ("b.toml", GOOD)]);
        let report = check(folder.path()).expect("checked");
        assert!(report.problems > 0 && report.text.contains("b.toml:4:6: THL/1234/14.02.00/2026 is the id of the permit at"), "{}", report.text);
    }

    #[test]
    fn a_folder_without_permits_is_an_error_and_not_a_success() {
        assert!(check(folder(&[]).path()).is_err());
        assert!(check(Path::new("/nonexistent")).is_err());
    }
}
