//! `sulku witness` and `sulku mirror`: run them, make their keys, see what a witness has caught.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use sulku_witness::{config, daemon, keys, state};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::print::answer;

#[derive(Subcommand)]
pub enum WitnessCommand {
    /// Make a witness's or mirror's keys: FILE, which cosigns, and FILE.pub, which logs and auditors check with
    Init {
        /// Its name, such as authority.example.fi/witness
        #[arg(long)]
        name: String,
        /// Where to write them
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Cosign what logs show, as long as each checkpoint continues the one before
    Run(Place),
    /// List what showed that a log lied; exits with 1 if there is any
    Evidence(Place),
}

#[derive(Subcommand)]
pub enum MirrorCommand {
    /// Hold a copy of whole logs, checked entry by entry, and sign for it
    Run(Place),
}

/// Where the settings are.
#[derive(Args)]
pub struct Place {
    /// The settings
    #[arg(long, value_name = "FILE", default_value = "/etc/sulku/witness.toml")]
    config: PathBuf,
}

/// Runs `sulku witness`.
///
/// # Errors
/// It can't begin.
pub fn run(command: &WitnessCommand) -> anyhow::Result<ExitCode> {
    match command {
        WitnessCommand::Init { name, out } => {
            let keys = keys::create(name, out)?;
            answer(&keys.iter().map(|key| format!("{key}\n")).collect::<String>())?;
            Ok(ExitCode::SUCCESS)
        }
        WitnessCommand::Run(place) => {
            let settings = config::load(&place.config)?;
            until_told(async |stop| daemon::witness(&settings, stop).await)
        }
        WitnessCommand::Evidence(place) => evidence(&config::load(&place.config)?.directory),
    }
}

/// Runs `sulku mirror`.
///
/// # Errors
/// It can't begin.
pub fn mirror(command: &MirrorCommand) -> anyhow::Result<ExitCode> {
    let MirrorCommand::Run(place) = command;
    let settings = config::load(&place.config)?;
    until_told(async |stop| daemon::mirror(&settings, stop).await)
}

/// Runs until SIGTERM or SIGINT.
fn until_told(program: impl AsyncFnOnce(CancellationToken) -> Result<(), daemon::RunError>) -> anyhow::Result<ExitCode> {
    // A service says what it does unless it is told otherwise; what a witness catches must not go by unseen.
    if std::env::var_os("SULKU_LOG").is_none() {
        tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            told.cancel();
        });
        program(stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn evidence(directory: &Path) -> anyhow::Result<ExitCode> {
    let pieces = state::evidence(directory)?;
    if pieces.is_empty() {
        answer("nothing: no log has shown what does not continue what it showed before\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for piece in pieces {
        let time = i64::try_from(piece.time).ok().and_then(|time| jiff::Timestamp::from_second(time).ok());
        let what = match piece.kind.as_str() {
            "fork" => "the log signed two trees of one size",
            "restored" => "this witness cosigned more once than it knew: its state was put back",
            _ => "the log signed what was not proven to continue what it signed before",
        };
        let time = time.map_or_else(|| piece.time.to_string(), |time| time.to_string());
        text += &format!("{time} {what}\n  known: {}\n  shown: {}\n", piece.known.display(), piece.shown.display());
    }
    answer(&text)?;
    Ok(ExitCode::FAILURE)
}
