//! The question to the gateway and its answer. What is not the answer to the question is an error; a refusal is not.

use std::time::Duration;

use sulku_permit::{PermitId, SessionId};
use sulku_protocol::{Ask, DeletedFrame, DenialRow, HelloFrame, Purpose, RefusedFrame, SessionRow, Stay, Tell, VERSION, WorkspacesFrame};
use tokio::time::timeout;

use crate::dial::{Transport, dial};
use crate::error::{DialError, Refused};
use crate::link::{Link, SendError};
use crate::profile::Profile;
use crate::session::Session;

/// A gateway builds a workspace in well under a second; one that makes its records durable on a slow disk takes a few.
const WELCOME_PATIENCE: Duration = Duration::from_secs(30);
/// A workspace with millions of files takes minutes to destroy.
const DELETION_PATIENCE: Duration = Duration::from_secs(30 * 60);
/// What a gateway takes as a command; more belongs into a script.
const COMMAND_WORDS_MAX: usize = 256;
const COMMAND_BYTES_MAX: usize = 8 * 1024;
/// What a gateway takes as the side of a terminal, in characters.
const TERMINAL_SIDE_MAX: u16 = 1000;
/// What a gateway takes as a terminal's kind.
const TERM_BYTES_MAX: usize = 64;
/// The kind of a terminal that has none: no program expects anything of it.
const TERM_UNKNOWN: &str = "dumb";
/// As the gateway records it.
const CLIENT: &str = concat!("sulku ", env!("CARGO_PKG_VERSION"));

/// The terminal at which a session will be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Its kind, as in `TERM`; `dumb` is meant where this can't be one.
    pub term: String,
    /// Its columns; 1 to 1000 are meant.
    pub columns: u16,
    /// Its rows; 1 to 1000 are meant.
    pub rows: u16,
}

/// The size nearest to it that a terminal can have.
pub(crate) fn size(columns: u16, rows: u16) -> (u16, u16) {
    (columns.clamp(1, TERMINAL_SIDE_MAX), rows.clamp(1, TERMINAL_SIDE_MAX))
}

/// Opens a session: a shell, or the command; or takes one up that is detached, where `stay` says so. Without a permit, the profile's own or the
/// only one is meant.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn connect(
    profile: &Profile,
    transport: Transport,
    permit: Option<PermitId>,
    command: Option<Vec<String>>,
    terminal: Terminal,
    stay: Stay,
) -> Result<Session, DialError> {
    if let Some(words) = &command {
        check_command(words)?;
    }
    let (columns, rows) = size(terminal.columns, terminal.rows);
    let is_term = |term: &str| (1..=TERM_BYTES_MAX).contains(&term.len()) && term.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let term = if is_term(&terminal.term) { terminal.term } else { TERM_UNKNOWN.to_owned() };
    let permit = permit.or_else(|| profile.permit().cloned());
    let purpose = Purpose::Connect { permit, command, term, columns, rows, stay };
    match ask(profile, transport, purpose).await? {
        (link, Tell::Welcome(welcome)) => Ok(Session::new(welcome, link)),
        (link, _) => out_of_phase(link).await,
    }
}

/// Takes a session up that this profile's key opened, at a terminal of this size. Whoever is connected to it is let go.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn take_up(profile: &Profile, transport: Transport, session: SessionId, (columns, rows): (u16, u16)) -> Result<Session, DialError> {
    let (columns, rows) = size(columns, rows);
    match ask(profile, transport, Purpose::TakeUp { session, columns, rows }).await? {
        (link, Tell::Welcome(welcome)) => Ok(Session::new(welcome, link)),
        (link, _) => out_of_phase(link).await,
    }
}

/// The open sessions that this profile's key opened.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn own_sessions(profile: &Profile, transport: Transport) -> Result<Vec<SessionRow>, DialError> {
    match ask(profile, transport, Purpose::ListOwn).await? {
        (link, Tell::Sessions(rows)) => {
            link.farewell.say().await;
            Ok(rows)
        }
        (link, _) => out_of_phase(link).await,
    }
}

/// The open sessions, for an operator.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn sessions(profile: &Profile, transport: Transport) -> Result<Vec<SessionRow>, DialError> {
    match ask(profile, transport, Purpose::ListSessions).await? {
        (link, Tell::Sessions(rows)) => {
            link.farewell.say().await;
            Ok(rows)
        }
        (link, _) => out_of_phase(link).await,
    }
}

/// What one's own sessions were denied of late, the newest last.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn denials(profile: &Profile, transport: Transport) -> Result<Vec<DenialRow>, DialError> {
    match ask(profile, transport, Purpose::Why).await? {
        (link, Tell::Denials(rows)) => {
            link.farewell.say().await;
            Ok(rows)
        }
        (link, _) => out_of_phase(link).await,
    }
}

/// Ends a session, for an operator. When this returns, the session is closed.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn end_session(profile: &Profile, transport: Transport, session: SessionId) -> Result<(), DialError> {
    match ask(profile, transport, Purpose::EndSession { session }).await? {
        (link, Tell::Done) => {
            link.farewell.say().await;
            Ok(())
        }
        (link, _) => out_of_phase(link).await,
    }
}

/// The workspaces on the host, for an operator.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn workspaces(profile: &Profile, transport: Transport) -> Result<WorkspacesFrame, DialError> {
    match ask(profile, transport, Purpose::ListWorkspaces).await? {
        (link, Tell::Workspaces(workspaces)) => {
            link.farewell.say().await;
            Ok(workspaces)
        }
        (link, _) => out_of_phase(link).await,
    }
}

/// Destroys the workspace of a permit that has ended, for an operator. When this returns, it is gone.
///
/// # Errors
/// The gateway refused, or could not be reached or believed. Where it took too long to answer, the workspace is being destroyed.
pub async fn delete_workspace(profile: &Profile, transport: Transport, named: String) -> Result<DeletedFrame, DialError> {
    match ask_for(profile, transport, Purpose::DeleteWorkspace { named }, DELETION_PATIENCE).await? {
        (link, Tell::Deleted(deleted)) => {
            link.farewell.say().await;
            Ok(deleted)
        }
        (link, _) => out_of_phase(link).await,
    }
}

fn check_command(words: &[String]) -> Result<(), DialError> {
    let bytes: usize = words.iter().map(String::len).sum();
    match words.first() {
        None => Err(DialError::NoProgram),
        Some(program) if program.is_empty() => Err(DialError::NoProgram),
        Some(_) if words.len() > COMMAND_WORDS_MAX || bytes > COMMAND_BYTES_MAX => Err(DialError::TooLong),
        Some(_) => Ok(()),
    }
}

pub(crate) async fn ask(profile: &Profile, transport: Transport, purpose: Purpose) -> Result<(Link, Tell), DialError> {
    ask_for(profile, transport, purpose, WELCOME_PATIENCE).await
}

async fn ask_for(profile: &Profile, transport: Transport, purpose: Purpose, patience: Duration) -> Result<(Link, Tell), DialError> {
    let mut link = dial(profile, transport).await?;
    let hello = Ask::Hello(HelloFrame { version: VERSION, client: CLIENT.to_owned(), purpose });
    let answer = async {
        match link.outgoing.send(&hello).await {
            Err(SendError::Frame(_)) => return Err(DialError::TooLong),
            // A gateway that refused our certificate no longer reads; why it refused is still there to be read.
            Ok(()) | Err(SendError::Gone(_)) => {}
        }
        link.incoming.next().await.map_err(|ending| ending.before_answer(&profile.gateway()))
    };
    let no_answer = || DialError::NoAnswer { gateway: profile.gateway(), over: "its open connection" };
    match timeout(patience, answer).await.unwrap_or_else(|_| Err(no_answer())) {
        Ok(Tell::Refused(RefusedFrame { code, advice, choices, sessions })) => {
            link.farewell.say().await;
            Err(DialError::Refused(Refused { code, advice, choices, sessions }))
        }
        Ok(tell) => Ok((link, tell)),
        Err(error) => {
            link.farewell.say().await;
            Err(error)
        }
    }
}

async fn out_of_phase<T>(link: Link) -> Result<T, DialError> {
    link.farewell.say().await;
    Err(DialError::OutOfPhase)
}
