//! The question to the gateway and its answer. What is not the answer to the question is an error; a refusal is not.

use std::time::Duration;

use sulku_permit::{PermitId, SessionId};
use sulku_protocol::{Ask, HelloFrame, Purpose, RefusedFrame, SessionRow, Tell, VERSION};
use tokio::time::timeout;

use crate::dial::{Transport, dial};
use crate::error::{DialError, Refused};
use crate::link::{Link, SendError};
use crate::profile::Profile;
use crate::session::Session;

/// A gateway builds a workspace in well under a second; one that makes its records durable on a slow disk takes a few.
const WELCOME_PATIENCE: Duration = Duration::from_secs(30);
/// As the gateway records it.
const CLIENT: &str = concat!("sulku ", env!("CARGO_PKG_VERSION"));

/// The terminal at which a session will be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Its kind, as in `TERM`.
    pub term: String,
    /// Its columns, at least 1.
    pub columns: u16,
    /// Its rows, at least 1.
    pub rows: u16,
}

/// Opens a session: a shell, or the command. Without a permit, the profile's own or the only one is meant.
///
/// # Errors
/// The gateway refused, or could not be reached or believed.
pub async fn connect(
    profile: &Profile,
    transport: Transport,
    permit: Option<PermitId>,
    command: Option<Vec<String>>,
    terminal: Terminal,
) -> Result<Session, DialError> {
    let Terminal { term, columns, rows } = terminal;
    let permit = permit.or_else(|| profile.permit().cloned());
    let purpose = Purpose::Connect { permit, command, term, columns: columns.max(1), rows: rows.max(1) };
    match ask(profile, transport, purpose).await? {
        (link, Tell::Welcome(welcome)) => Ok(Session::new(welcome, link)),
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

async fn ask(profile: &Profile, transport: Transport, purpose: Purpose) -> Result<(Link, Tell), DialError> {
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
    match timeout(WELCOME_PATIENCE, answer).await.unwrap_or_else(|_| Err(no_answer())) {
        Ok(Tell::Refused(RefusedFrame { code, advice, choices })) => {
            link.farewell.say().await;
            Err(DialError::Refused(Refused { code, advice, choices }))
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
