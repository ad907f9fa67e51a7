//! `sulku ledger`: what an operator, as root on the ledger's host, asks of a running ledger. Each is an entry before it is done.
//!
//! Reads nothing of the log; auditors do, with `sulku audit`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use sulku_ledger::client::Client;

use crate::print::answer;

#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Record that you are going in while sessions can't be recorded, and why; kept also when the disk is full
    BreakGlass {
        /// Why, for the auditors to read
        reason: String,
        #[command(flatten)]
        place: Place,
    },
    /// Destroy the key of what entries say of persons, for good; refused until a year after the last of them
    DestroyKey {
        /// The permit's id, or year:2025 for what is about no permit
        scope: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
pub struct Place {
    /// The running ledger's socket
    #[arg(long, value_name = "SOCKET", default_value = "/run/sulku/ledger/ledger.sock")]
    ledger: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The ledger can't be reached, or refuses.
pub fn run(command: LedgerCommand) -> anyhow::Result<ExitCode> {
    match command {
        LedgerCommand::BreakGlass { reason, place } => {
            let receipt = Client::connect(&place.ledger)?.break_glass(&reason)?;
            answer(&format!("entry {}: recorded; what you do now is yours to answer for\n", receipt.index()))?;
        }
        LedgerCommand::DestroyKey { scope, place } => {
            let receipt = Client::connect(&place.ledger)?.destroy_key(&scope)?;
            let index = receipt.index();
            answer(&format!("entry {index}: the key of {scope} is destroyed; names and addresses in its entries can't be read any more\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
