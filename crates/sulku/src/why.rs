//! `sulku why`: what one's own sessions were denied of late. The gateway remembers the last of them, for a day.

use std::process::ExitCode;

use sulku_client::denials;
use sulku_protocol::DenialRow;

use crate::print;
use crate::profile::{ProfileArgs, TransportArgs};

/// What to ask.
#[derive(clap::Args)]
pub struct WhyArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    transport: TransportArgs,
    /// As JSON, one array
    #[arg(long)]
    json: bool,
}

/// Runs `sulku why`.
///
/// # Errors
/// The gateway refused or could not be reached.
pub fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let WhyArgs { profile, transport, json } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(denials(&profile.load()?, transport.transport()))?;
    let text = if json { serde_json::to_string_pretty(&rows)? + "\n" } else { words(&rows) };
    print::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn words(rows: &[DenialRow]) -> String {
    if rows.is_empty() {
        return "nothing was denied in your sessions of late\n".to_owned();
    }
    let line = |DenialRow { at, session, permit: _, text }: &DenialRow| vec![print::local(*at), session.to_string(), text.clone()];
    let head = ["WHEN", "SESSION", "WHAT"].map(String::from).to_vec();
    print::table(&std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>())
}
