//! `sulku connect`: a session between this terminal and a workspace.
//!
//! Three things run beside each other: what is typed goes to the session, what the session shows goes to standard output, and
//! signals go where they belong. Output that nobody reads stops at the gateway, by the credit; nothing piles up here. It filters
//! no output: the gateway did, and recorded what it let through.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use sulku_client::{Terminal, connect};
use sulku_permit::PermitId;
use sulku_protocol::ClosedFrame;

use crate::profile::{ProfileArgs, TransportArgs};
use denials::Denials;
use relay::{Departure, Stopped, relay};
use terminal::{Mode, RawMode};

mod denials;
mod escape;
mod notice;
mod relay;
mod signals;
mod terminal;
mod typing;

/// What a shell reports for a program that its signal ended: this and the signal.
const EXIT_BY_SIGNAL: u8 = 128;

const HELP: &str = "\
Examples:
  sulku connect                               a shell, under your only permit
  sulku connect THL/1234/14.02.00/2026        a shell, under one of several
  sulku connect -- Rscript analysis.R         a command, and its exit code

At a terminal, type ~. on a new line to leave, and ~~ for one ~ there.

A command runs on a terminal in the workspace: its output comes as that terminal
shows it, with lines ended by CR LF. Input from a pipe or a file is typed there,
then the end-of-file character (twice where the last line has no end): it is
echoed, a line may have 4095 bytes, and control characters act as if typed.

Without a terminal, the signals INT, QUIT, TERM and HUP are passed on to the
command, and the session is left 2 seconds later, or at once by one more signal.

Exit codes:
  that of the shell or command, where one ended; 128 + n where signal n ended sulku
  3 where the gateway refused; 2 for a wrong command line; 1 for all else";

/// Whose workspace, and what to run in it.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct ConnectArgs {
    /// The permit, if you hold several
    permit: Option<PermitId>,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    transport: TransportArgs,
    /// A command instead of a shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs `sulku connect`.
///
/// # Errors
/// No session opened, or it ended without being closed.
pub fn run(args: ConnectArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(hold(args));
    // A write to a standard output that nobody reads may never end; it must not keep us.
    runtime.shutdown_background();
    outcome
}

async fn hold(args: ConnectArgs) -> anyhow::Result<ExitCode> {
    let ConnectArgs { permit, profile, transport, command } = args;
    let profile = profile.load()?;
    let command = (!command.is_empty()).then_some(command);
    let (columns, rows) = terminal::size().unwrap_or(terminal::SIZE_WITHOUT_TERMINAL);
    let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    let session = connect(&profile, transport.transport(), permit, command, Terminal { term, columns, rows }).await?;
    let mode = Mode::of_standard_input();
    notice::opened(&session, mode);
    let id = session.welcome.session;
    let raw = match mode {
        Mode::Raw => Some(RawMode::enter()?),
        Mode::Piped => None,
    };
    let relayed = relay(session.keyboard, session.screen, mode, Denials::new(profile.notices())).await;
    drop(raw);
    let (outcome, departed) = relayed.context("signals can't be received; this is a fault of the system")?;
    match outcome {
        Ok(closed) => {
            notice::closed(id, &closed);
            Ok(exit_code(&closed, departed))
        }
        Err(Stopped::Unconfirmed) => {
            notice::unconfirmed(id);
            Ok(exit_code_of_departure(departed))
        }
        Err(Stopped::Session(error)) => Err(error.into()),
        Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::FAILURE),
        Err(Stopped::Output(error)) => Err(error).context("standard output can't be written; check what it is redirected to"),
    }
}

fn exit_code(closed: &ClosedFrame, departed: Option<Departure>) -> ExitCode {
    match closed.exit_status {
        Some(status) => ExitCode::from(u8::try_from(status.rem_euclid(256)).expect("a remainder of 256 is less")),
        None => exit_code_of_departure(departed),
    }
}

fn exit_code_of_departure(departed: Option<Departure>) -> ExitCode {
    match departed {
        Some(Departure::Signalled(signal)) => ExitCode::from(EXIT_BY_SIGNAL + signals::number(signal)),
        Some(Departure::Asked | Departure::HungUp) | None => ExitCode::FAILURE,
    }
}
