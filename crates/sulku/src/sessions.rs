//! Open sessions: a holder's own, and all of them for an operator. The gateway decides who is one.

use std::process::ExitCode;

use clap::Subcommand;
use sulku_client::{end_session, own_sessions, sessions};
use sulku_permit::SessionId;
use sulku_protocol::SessionRow;

use crate::print;
use crate::profile::{ProfileArgs, TransportArgs};

/// Whose sessions, and what to do with them.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    transport: TransportArgs,
    /// As JSON, one array
    #[arg(long)]
    json: bool,
}

/// What an operator may do with sessions.
#[derive(Subcommand)]
pub enum SessionsCommand {
    /// Show the open sessions
    List {
        #[command(flatten)]
        profile: ProfileArgs,
        #[command(flatten)]
        transport: TransportArgs,
        /// As JSON, one array
        #[arg(long)]
        json: bool,
    },
    /// End a session at once; its holder is told that an operator did
    End {
        /// Its id, as `sulku sessions list` shows it
        id: SessionId,
        #[command(flatten)]
        profile: ProfileArgs,
        #[command(flatten)]
        transport: TransportArgs,
    },
}

/// Runs `sulku sessions`.
///
/// # Errors
/// The gateway refused or could not be reached.
pub fn run(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let SessionsArgs { command, profile, transport, json } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let show = |rows: &[SessionRow], json: bool| -> anyhow::Result<()> {
        let text = if json { serde_json::to_string_pretty(rows)? + "\n" } else { table(rows) };
        Ok(print::answer(&text)?)
    };
    match command {
        None => show(&runtime.block_on(own_sessions(&profile.load()?, transport.transport()))?, json)?,
        Some(SessionsCommand::List { profile, transport, json }) => {
            show(&runtime.block_on(sessions(&profile.load()?, transport.transport()))?, json)?;
        }
        Some(SessionsCommand::End { id, profile, transport }) => {
            runtime.block_on(end_session(&profile.load()?, transport.transport(), id))?;
            print::answer(&format!("ended {id}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[SessionRow]) -> String {
    if rows.is_empty() {
        return "no open sessions\n".to_owned();
    }
    let head = ["SESSION", "PERSON", "PERMIT", "FROM", "OVER", "OPENED", "ENDS", "IDLE", "ALONE", "SHOWN"].map(String::from).to_vec();
    let line = |row: &SessionRow| {
        let SessionRow { session, permit, person, from, transport, opened, ends, idle_s, bytes_out, detached_s } = row;
        vec![
            session.to_string(),
            person.to_string(),
            permit.to_string(),
            from.clone(),
            transport.clone(),
            print::local(*opened),
            print::local(*ends),
            print::length(*idle_s),
            detached_s.map_or_else(|| "–".to_owned(), print::length),
            print::amount(*bytes_out),
        ]
    };
    print::table(&std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>())
}
