//! The unprivileged daemons, one role a process: `sulkud ledger`, `sulkud gateway`, `sulkud courier`.
//!
//! Composes and nothing more: reads the configuration, starts the role, turns signals into an orderly stop, and prints an error
//! chain once. The warden, which is privileged, is a program of its own.

mod courier;
mod gateway;
mod ledger;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "sulkud", version, about = "The unprivileged daemons of Sulku")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Keep the audit: entries, checkpoints, recordings.
    Ledger(ledger::Arguments),
    /// Accept researchers: handshake, admission, relay.
    Gateway(gateway::Arguments),
    /// Carry the published audit out: sinks, metrics, tiles for mirrors.
    Courier(courier::Arguments),
}

fn main() -> ExitCode {
    let Arguments { role } = Arguments::parse();
    let filter = EnvFilter::try_from_env("SULKU_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let outcome = match role {
        Role::Ledger(arguments) => ledger::run(&arguments),
        Role::Gateway(arguments) => gateway::run(&arguments),
        Role::Courier(arguments) => courier::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
