//! What an operator may ask of the gateway: to see the open sessions and the workspaces, to end a session, to have a workspace destroyed.
//! Each is an entry before it takes effect. Which workspace may be destroyed is the warden's to decide.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::CloseReason;
use sulku_audit::event::{Draft, Event};
use sulku_permit::{HolderId, Permit, Refusal, RefusalCode, SessionId};
use sulku_plan::order::{self, Report, WorkspaceState};
use sulku_protocol::{DeletedFrame, RefusedFrame, Tell, WorkspaceRow, WorkspacesFrame, quic_code};

use crate::connection::{record_refusal, refuse, say_and_end};
use crate::daemon::Shared;
use crate::identity::VerifiedIdentity;
use crate::transport::Writer;
use crate::warden::Question;

/// A session that was told to end has this long until the operator is told that it has.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Rows of one answer, so that it fits a frame.
pub const ROWS_MAX: usize = 80;

/// Sends the open sessions, the newest first where there are too many for one frame.
pub async fn list(shared: &Shared, identity: &VerifiedIdentity, from: IpAddr, transport: &'static str, writer: Writer) {
    let Some(operator) = operator(shared, identity) else {
        return not_an_operator(shared, from, transport, writer).await;
    };
    let event = Event::OperatorActed { action: "sessions-listed".to_owned(), from: from.into() };
    if !kept(shared, Draft { person: Some(operator), ..Draft::new(event) }).await {
        return refuse(writer, RefusedFrame::plain(RefusalCode::AuditUnavailable), quic_code::REFUSED).await;
    }
    let mut rows = shared.registry.rows(Timestamp::now());
    let surplus = rows.len().saturating_sub(ROWS_MAX);
    rows.drain(..surplus);
    say_and_end(writer, &Tell::Sessions(rows), quic_code::DONE).await;
}

/// Ends a session, and says so once it has ended.
pub async fn end(shared: &Shared, identity: &VerifiedIdentity, session: SessionId, from: IpAddr, transport: &'static str, writer: Writer) {
    let Some(operator) = operator(shared, identity) else {
        return not_an_operator(shared, from, transport, writer).await;
    };
    if !shared.registry.has(session) {
        let refusal = Refusal { holder: Some(operator), ..Refusal::new(RefusalCode::NoSuchSession, format!("no session {session} is open")) };
        record_refusal(shared, refusal, from, transport).await;
        return refuse(writer, RefusedFrame::plain(RefusalCode::NoSuchSession), quic_code::REFUSED).await;
    }
    let event = Event::OperatorActed { action: "session-ended".to_owned(), from: from.into() };
    if !kept(shared, Draft { session: Some(session), person: Some(operator), ..Draft::new(event) }).await {
        return refuse(writer, RefusedFrame::plain(RefusalCode::AuditUnavailable), quic_code::REFUSED).await;
    }
    shared.registry.end(session, CloseReason::Operator);
    let ended = tokio::time::timeout(END_PATIENCE, async {
        while shared.registry.has(session) {
            // Woken at each end; the pause covers an end between the check and the wait.
            tokio::time::timeout(Duration::from_millis(100), shared.registry.someone_left()).await.ok();
        }
    });
    match ended.await {
        Ok(()) => say_and_end(writer, &Tell::Done, quic_code::DONE).await,
        Err(_) => refuse(writer, RefusedFrame::plain(RefusalCode::CellUnavailable), quic_code::REFUSED).await,
    }
}

/// Sends the workspaces that there are.
pub async fn workspaces(shared: &Shared, identity: &VerifiedIdentity, from: IpAddr, transport: &'static str, writer: Writer) {
    let Some(operator) = operator(shared, identity) else {
        return not_an_operator(shared, from, transport, writer).await;
    };
    let event = Event::OperatorActed { action: "workspaces-listed".to_owned(), from: from.into() };
    if !kept(shared, Draft { person: Some(operator), ..Draft::new(event) }).await {
        return refuse(writer, RefusedFrame::plain(RefusalCode::AuditUnavailable), quic_code::REFUSED).await;
    }
    let Some(Report::Workspaces { rows, all }) = shared.warden.ask(Question::Workspaces).await else {
        return refuse(writer, RefusedFrame::plain(RefusalCode::CellUnavailable), quic_code::REFUSED).await;
    };
    let row = |row: order::WorkspaceRow| {
        let order::WorkspaceRow { workspace, permit, state, ends, kept_until } = row;
        let state = match state {
            WorkspaceState::Due => "due",
            WorkspaceState::Sealed => "sealed",
            WorkspaceState::InUse => "in-use",
            WorkspaceState::Open => "open",
        };
        WorkspaceRow { workspace, permit, state: state.to_owned(), ends, kept_until }
    };
    say_and_end(writer, &Tell::Workspaces(WorkspacesFrame { rows: rows.into_iter().map(row).collect(), all }), quic_code::DONE).await;
}

/// Has a workspace destroyed, and says so once it is.
pub async fn delete_workspace(shared: &Shared, identity: &VerifiedIdentity, named: String, from: IpAddr, transport: &'static str, writer: Writer) {
    let Some(operator) = operator(shared, identity) else {
        return not_an_operator(shared, from, transport, writer).await;
    };
    let event = Event::OperatorActed { action: "workspace-deletion-ordered".to_owned(), from: from.into() };
    let is_it = |permit: &&std::sync::Arc<Permit>| permit.id.as_str() == named || permit.workspace.name.as_str() == named;
    let permit = shared.policy().permits().iter().find(is_it).map(|permit| permit.id.clone());
    if !kept(shared, Draft { permit, person: Some(operator), ..Draft::new(event) }).await {
        return refuse(writer, RefusedFrame::plain(RefusalCode::AuditUnavailable), quic_code::REFUSED).await;
    }
    match shared.warden.ask(Question::Deletion(named)).await {
        Some(Report::Deleted { workspace, files, bytes }) => {
            say_and_end(writer, &Tell::Deleted(DeletedFrame { workspace, files, bytes }), quic_code::DONE).await;
        }
        // An operator runs the host: she learns the warden's reason.
        Some(Report::Kept { reason, .. }) => {
            let frame = RefusedFrame { advice: reason, ..RefusedFrame::plain(RefusalCode::WorkspaceKept) };
            refuse(writer, frame, quic_code::REFUSED).await;
        }
        _ => refuse(writer, RefusedFrame::plain(RefusalCode::CellUnavailable), quic_code::REFUSED).await,
    }
}

/// Which operator the certificate shows, if any.
pub fn operator(shared: &Shared, identity: &VerifiedIdentity) -> Option<HolderId> {
    let shown = &identity.credential().identities;
    shared.config.operator.iter().find(|operator| shown.contains(&operator.certificate)).map(|operator| operator.id.clone())
}

async fn not_an_operator(shared: &Shared, from: IpAddr, transport: &'static str, writer: Writer) {
    let refusal = Refusal::new(RefusalCode::NotAnOperator, "asked for an operator's act without an operator's certificate");
    record_refusal(shared, refusal, from, transport).await;
    refuse(writer, RefusedFrame::plain(RefusalCode::NotAnOperator), quic_code::REFUSED).await;
}

async fn kept(shared: &Shared, draft: Draft) -> bool {
    shared.ledger.append(draft).await.inspect_err(|error| tracing::error!(%error, "operator's act not recorded, so not done")).is_ok()
}
