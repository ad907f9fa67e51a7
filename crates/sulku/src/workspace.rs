//! Workspaces, for an operator: which there are, and the end of one. The gateway decides who is an operator, the warden what may go.

use std::process::ExitCode;

use clap::Subcommand;
use sulku_client::{delete_workspace, workspaces};
use sulku_protocol::{DeletedFrame, WorkspaceRow, WorkspacesFrame};

use crate::print;
use crate::profile::{ProfileArgs, TransportArgs};

/// What to do with workspaces.
#[derive(Subcommand)]
pub enum WorkspaceCommand {
    /// Show the workspaces on the host, those first that are due to be destroyed
    List {
        #[command(flatten)]
        profile: ProfileArgs,
        #[command(flatten)]
        transport: TransportArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Destroy the workspace of a permit that has ended and whose retention is over; there is no way back
    Delete {
        /// The workspace, or its permit
        #[arg(value_name = "WORKSPACE|PERMIT")]
        named: String,
        #[command(flatten)]
        profile: ProfileArgs,
        #[command(flatten)]
        transport: TransportArgs,
    },
}

/// Runs `sulku workspace`.
///
/// # Errors
/// The gateway refused or could not be reached.
pub fn run(command: WorkspaceCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        WorkspaceCommand::List { profile, transport, json } => {
            let listed = runtime.block_on(workspaces(&profile.load()?, transport.transport()))?;
            let text = if json { serde_json::to_string_pretty(&listed)? + "\n" } else { table(&listed) };
            print::answer(&text)?;
        }
        WorkspaceCommand::Delete { named, profile, transport } => {
            let DeletedFrame { workspace, files, bytes } = runtime.block_on(delete_workspace(&profile.load()?, transport.transport(), named))?;
            print::answer(&format!(
                "{workspace} is destroyed: {files} files, {}; its certificate is the entry workspace.deleted\n",
                print::amount(bytes)
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(listed: &WorkspacesFrame) -> String {
    let WorkspacesFrame { rows, all } = listed;
    if rows.is_empty() {
        return "no workspaces\n".to_owned();
    }
    let head = ["WORKSPACE", "PERMIT", "STATE", "PERMIT ENDS", "KEPT UNTIL"].map(String::from).to_vec();
    let line = |row: &WorkspaceRow| {
        let WorkspaceRow { workspace, permit, state, ends, kept_until } = row;
        vec![workspace.clone(), permit.to_string(), state.clone(), print::local(*ends), print::local(*kept_until)]
    };
    let table = print::table(&std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>());
    let more = all.saturating_sub(rows.len() as u64);
    if more == 0 { table } else { format!("{table}and {more} more\n") }
}
