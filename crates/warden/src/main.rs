//! `sulku-warden`: starts the warden, or says what the host lacks for it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks on its standard streams")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sulku_warden::config::Config;
use sulku_warden::{RunError, chain, doctor, run, rung};

/// The only privileged process of Sulku: builds the cells of sessions, enforces their plans, reaps them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a gateway until SIGTERM.
    Run {
        /// The configuration, which only the user whom the warden runs as can write.
        #[arg(long)]
        config: PathBuf,
    },
    /// Say what this host has and lacks for cells, and what to do about it.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env().add_directive(tracing::Level::INFO.into()))
        .with_writer(std::io::stderr)
        .init();
    match Arguments::parse().command {
        Command::Run { config } => match Config::read(&config).map_err(RunError::from).and_then(run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("sulku-warden: {}", chain(&error));
                ExitCode::FAILURE
            }
        },
        Command::Doctor { json } => report(json),
    }
}

fn report(json: bool) -> ExitCode {
    let (rung, checks) = doctor::of_this_user();
    if json {
        println!("{}", serde_json::to_string_pretty(&checks).unwrap_or_default());
    } else {
        for check in &checks {
            match (&check.found, &check.lacking, &check.missing) {
                (Some(found), ..) => println!("ok       {:<20} {found}", check.what),
                (None, Some(lacking), _) => println!("without  {:<20} {lacking}", check.what),
                (None, None, missing) => println!("missing  {:<20} {}", check.what, missing.as_deref().unwrap_or_default()),
            }
        }
    }
    if !json {
        println!(
            "{:<8} {:<20} {}",
            "rung",
            rung.name(),
            if rung::differences(rung).is_empty() { "the strongest" } else { "as root the rung is root, which is stronger:" }
        );
        rung::differences(rung).iter().for_each(|difference| println!("{:<8} {:<20} {difference}", "", ""));
    }
    if checks.iter().all(|check| check.missing.is_none()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
