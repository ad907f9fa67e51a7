//! `sulku connect`: a session between this terminal and a workspace.
//!
//! Three things run beside each other: what is typed goes to the session, what the session shows goes to standard output, and
//! signals go where they belong. Output that nobody reads stops at the gateway, by the credit; nothing piles up here. It filters
//! no output: the gateway did, and recorded what it let through.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use sulku_client::{DialError, Profile, Session, Terminal, Transport, connect, take_up};
use sulku_permit::{PermitId, RefusalCode, SessionId};
use sulku_protocol::{ClosedFrame, Stay};

use crate::profile::{ProfileArgs, TransportArgs};
use again::{Again, Lost};
use denials::Denials;
use relay::{Departure, Ended, Stopped, relay};
use terminal::{Mode, RawMode};

mod again;
mod denials;
mod escape;
mod notice;
mod redraw;
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
  sulku connect --new                         another, beside one that goes on

At a terminal, type ~. on a new line to leave and end what runs, ~d to leave it
running, and ~~ for one ~ there. A session that is left running, or whose
connection is lost, goes on for as long as the permit says: sulku connect takes
it up again with the same key, and comes back by itself while it runs. What is
typed while there is no connection goes nowhere.

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
    /// Open another session, though one of yours goes on without you
    #[arg(long, conflicts_with = "session")]
    new: bool,
    /// Take up this one of your sessions, wherever else it is shown
    #[arg(long, value_name = "ID", conflicts_with_all = ["permit", "command"])]
    session: Option<SessionId>,
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
    let ConnectArgs { permit, profile, transport, new, session, command } = args;
    let (profile, transport) = (profile.load()?, transport.transport());
    let mode = Mode::of_standard_input();
    let session = match session {
        Some(session) => take_up(&profile, transport, session, terminal::size().unwrap_or(terminal::SIZE_WITHOUT_TERMINAL)).await?,
        None => open(&profile, transport, permit, command, stay(mode, new)).await?,
    };
    notice::opened(&session, mode);
    let Session { welcome, keyboard, screen, .. } = session;
    let (id, stays) = (welcome.session, welcome.stays_s.map(Duration::from_secs));
    let raw = match mode {
        Mode::Raw => Some(RawMode::enter()?),
        Mode::Piped => None,
    };
    let denials = Denials::new(profile.notices());
    let again = Again { profile, transport, stays, lost: Lost::default() };
    let relayed = relay(keyboard, screen, mode, again, denials, welcome.resumed).await;
    drop(raw);
    let (outcome, departed) = relayed.context("signals can't be received; this is a fault of the system")?;
    match outcome {
        Ok(Ended::Closed(closed)) => {
            notice::closed(id, &closed);
            Ok(exit_code(&closed, departed))
        }
        Ok(Ended::Detached(detached)) => {
            notice::detached(id, &detached);
            Ok(ExitCode::SUCCESS)
        }
        Err(Stopped::GaveUp) => {
            notice::gave_up(id, stays.unwrap_or_default());
            Ok(ExitCode::SUCCESS)
        }
        Err(Stopped::Unconfirmed) => {
            notice::unconfirmed(id);
            Ok(exit_code_of_departure(departed))
        }
        Err(Stopped::Session(error)) => Err(error.into()),
        Err(Stopped::NoWayBack(DialError::Refused(refused))) if refused.code == RefusalCode::NoSuchSession => {
            anyhow::bail!("the connection was lost, and session {id} has ended meanwhile; connect again")
        }
        Err(Stopped::NoWayBack(error)) => Err(error).context(format!("the connection of session {id} was lost, and there is no way back to it")),
        Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::FAILURE),
        Err(Stopped::Output(error)) => Err(error).context("standard output can't be written; check what it is redirected to"),
    }
}

/// What is shown into a pipe or a file can't be drawn anew, so a session without a terminal ends with its connection.
const fn stay(mode: Mode, new: bool) -> Stay {
    match (mode, new) {
        (Mode::Piped, _) => Stay::Ends,
        (Mode::Raw, true) => Stay::Stays,
        (Mode::Raw, false) => Stay::TakesUp,
    }
}

/// Opens a session, or takes one up that goes on without its holder. Where there are several, she says which.
async fn open(profile: &Profile, transport: Transport, permit: Option<PermitId>, command: Vec<String>, stay: Stay) -> anyhow::Result<Session> {
    let command = (!command.is_empty()).then_some(command);
    // A command is meant to run anew.
    let stay = if command.is_some() && stay == Stay::TakesUp { Stay::Stays } else { stay };
    let size = terminal::size().unwrap_or(terminal::SIZE_WITHOUT_TERMINAL);
    let terminal = Terminal { term: std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()), columns: size.0, rows: size.1 };
    match connect(profile, transport, permit.clone(), command.clone(), terminal.clone(), stay).await {
        Err(DialError::Refused(refused)) if stay != Stay::Ends && !refused.sessions.is_empty() => {
            let full = refused.code == RefusalCode::TooManySessions;
            notice::choices(&refused, full);
            let mut answer = String::new();
            io::stdin().read_line(&mut answer)?;
            match answer.trim() {
                "n" if !full => Ok(connect(profile, transport, permit, command, terminal, Stay::Stays).await?),
                number => {
                    let chosen = number.parse().ok().and_then(|number: usize| refused.sessions.get(number.checked_sub(1)?));
                    let Some(chosen) = chosen else { return Err(DialError::Refused(refused).into()) };
                    Ok(take_up(profile, transport, chosen.session, size).await?)
                }
            }
        }
        opened => Ok(opened?),
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
        Some(Departure::Asked | Departure::Detaching | Departure::GaveUp | Departure::HungUp) | None => ExitCode::FAILURE,
    }
}
