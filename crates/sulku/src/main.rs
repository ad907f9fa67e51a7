//! Everyone's command line: researchers connect, operators see sessions and check policies and hosts, auditors verify.
//!
//! It decides nothing: admission is the gateway's, and what a record proves the audit's. It prints an error once, here, as
//! what happened and what to do.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sulku_client::{DialError, SessionError};

mod audit;
mod connect;
mod demo;
mod doctor;
mod ledger;
mod permit;
mod policy;
mod print;
mod profile;
mod sessions;
mod why;
mod witness;
mod workspace;

/// The gateway said no.
const EXIT_REFUSED: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes: 0 when all went well; for connect, that of the session's shell or
command; 3 when the gateway refused; 2 for a wrong command line; 1 for all else";

/// Access to secure processing environments.
#[derive(Parser)]
#[command(name = "sulku", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Open a session in the workspace of a permit
    Connect(connect::ConnectArgs),
    /// See what your own sessions were denied of late, and whom to ask
    Why(why::WhyArgs),
    /// See your open sessions; see and end everybody's, as an operator
    Sessions(sessions::SessionsArgs),
    /// See workspaces, and destroy those whose time is over, as an operator
    #[command(subcommand)]
    Workspace(workspace::WorkspaceCommand),
    /// Check the policy, and put it in force
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// See, end, hold up and prolong permits
    #[command(subcommand)]
    Permit(permit::PermitCommand),
    /// End every session and admit nobody, until the halt is lifted
    Halt(permit::HaltArgs),
    /// Read and verify the record, as an auditor
    Audit(audit::AuditArgs),
    /// Ask a running ledger for what only its operator may
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// See for an authority that logs only ever grow, and say so
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
    /// Hold copies of whole logs for an authority
    #[command(subcommand)]
    Mirror(witness::MirrorCommand),
    /// Check what this computer has and lacks
    Doctor(doctor::DoctorArgs),
    /// Show a whole environment on this machine
    Demo(demo::DemoArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_if_asked();
    let outcome = match cli.command {
        Command::Connect(args) => connect::run(args),
        Command::Why(args) => why::run(args),
        Command::Sessions(args) => sessions::run(args),
        Command::Workspace(command) => workspace::run(command),
        Command::Policy(command) => policy::run(&command),
        Command::Permit(command) => permit::run(&command),
        Command::Halt(args) => permit::halt(&args),
        Command::Audit(args) => audit::run(args),
        Command::Ledger(command) => ledger::run(command),
        Command::Witness(command) => witness::run(&command),
        Command::Mirror(command) => witness::mirror(&command),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(args),
    };
    outcome.unwrap_or_else(|error| {
        report(&error);
        if is_refusal(&error) { ExitCode::from(EXIT_REFUSED) } else { ExitCode::FAILURE }
    })
}

/// An error and its causes: `sulku: what; what to do`, then one line for each cause.
fn report(error: &anyhow::Error) {
    eprintln!("sulku: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(DialError::Refused(_) | DialError::Unexplained))
        || matches!(error.downcast_ref(), Some(SessionError::Refused(_)))
}

/// Silent unless asked: a log line in the middle of a session's screen helps nobody.
fn log_if_asked() {
    if let Ok(filter) = std::env::var("SULKU_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
