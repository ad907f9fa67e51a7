//! The policy: written, checked, asked, made into signed revisions, looked at. Asks no gateway: what is in the store counts or not by
//! its signatures.

use std::process::ExitCode;

use clap::Subcommand;

use crate::print;

pub mod apply;
mod approve;
pub mod ask;
mod check;
mod data;
mod diagnose;
pub mod folder;
mod new;
mod operators;
pub mod plan;
mod store;

/// What to do with the policy.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Check every file, each alone and all together, and every case
    Check(check::CheckArgs),
    /// Run the [[test]] cases of all permits
    Test(folder::PoliciesArgs),
    /// Say what a person may do, and why, line by line
    Explain(ask::ExplainArgs),
    /// Say who may reach a destination or read a dataset
    WhoCan(ask::WhoCanArgs),
    /// Print all that a permit's cells would be made of
    Plan(plan::PlanArgs),
    /// Say in words who gains or loses what against what is in force
    Diff(plan::DiffArgs),
    /// Write the file of a new permit
    New(new::NewArgs),
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
/// The command can't do what it is for. Problems in policies are no error of `check`'s, but its answer, with exit code 1.
pub fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check(args) => check::check(args),
        PolicyCommand::Test(args) => check::test(args),
        PolicyCommand::Explain(args) => ask::explain(args),
        PolicyCommand::WhoCan(args) => ask::who_can(args),
        PolicyCommand::Plan(args) => plan::plan(args),
        PolicyCommand::Diff(args) => plan::differ(args),
        PolicyCommand::New(args) => new::run(args),
        PolicyCommand::Apply(args) => apply::run(args),
        PolicyCommand::Approve(args) => approve::approve(args),
        PolicyCommand::Withdraw(args) => approve::withdraw(args),
        PolicyCommand::Log(args) => approve::log(args),
        PolicyCommand::Show(args) => approve::show(args),
        PolicyCommand::Key(args) => {
            print::answer(&operators::table(args)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
