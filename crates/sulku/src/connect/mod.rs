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
use relay::{Departure, Stopped, relay};
use terminal::{Mode, RawMode};

mod escape;
mod notice;
mod relay;
mod signals;
mod terminal;
mod typing;

/// What a shell reports for a program that its signal ended: this and the signal.
const EXIT_BY_SIGNAL: u8 = 128;

const INPUT_HELP: &str = "\
At a terminal, type ~. on a new line to leave, and ~~ for one ~ there.

The command runs on a terminal in the workspace, and so does what it reads: input from a pipe or a file is typed into that \
terminal, followed by the end-of-file character. Lines may have 4095 bytes, and control characters act as if typed. Its output \
comes as the terminal shows it, with lines ended by CR LF.

Without a terminal, INT, TERM and HUP are passed on to the command; then the session is left.

Exit codes: what ended the session's shell or command; 128 + n when signal n ended sulku; 3 when the gateway refused; 1 for all else.";

/// Whose workspace, and what to run in it.
#[derive(clap::Args)]
#[command(after_help = INPUT_HELP)]
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
    let relayed = relay(session.keyboard, session.screen, mode).await;
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
