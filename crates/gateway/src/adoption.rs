//! Sessions that another gateway opened and lost: each is judged anew, and goes on without a connection or ends.
//!
//! What is known of one is its opening entry, as the ledger signed it. The certificate in that is verified as in a handshake, but for the
//! possession of its key; who comes to take the session up shows that. Decides nothing that admission does not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::{CloseReason, Draft, Event};
use sulku_permit::{HolderId, PermitId};
use sulku_plan::Plan;
use sulku_plan::order::Order;
use sulku_session::{Adopted, Asked, Facts};

use crate::auditors;
use crate::daemon::Shared;
use crate::identity::VerifiedIdentity;
use crate::ledger::AppendError;
use crate::readmission;
use crate::registry::OpenSession;
use crate::relay;
use crate::revocation::Sweep;
use crate::terminal::Terminal;
use crate::warden::{Gone, Left, Orphan};

/// What an opening entry says, as far as it goes on with the session.
struct Opened {
    permit: PermitId,
    holder: HolderId,
    from: IpAddr,
    transport: &'static str,
    client: String,
    command: Option<Vec<String>>,
    ends: Timestamp,
    stays: bool,
    certificates: Option<Vec<String>>,
}

impl Opened {
    fn of(draft: Draft) -> Option<Self> {
        let Draft { permit, session: _, person, event } = draft;
        let Event::SessionOpened { from, transport, client, command, ends, stays_s, certificates, .. } = event else { return None };
        Some(Self {
            permit: permit?,
            holder: person?,
            from: *from.known()?,
            transport: if transport == "quic" { "quic" } else { "tls" },
            client: client.known()?.clone(),
            command: command.known()?.clone(),
            ends,
            stays: stays_s.is_some(),
            certificates: certificates.known().cloned().flatten(),
        })
    }
}

/// All that an adopted session is made from.
struct Ready {
    facts: Facts,
    admitted: OpenSession,
    terminal: Terminal,
}

/// Closes what nobody has closed; judges what stands still, starts what may go on, and ends the rest.
///
/// # Errors
/// The ledger does not keep that one has ended.
pub async fn take_over(shared: &Arc<Shared>, left: Left) -> Result<(), AppendError> {
    let Left { orphans, gone } = left;
    for Gone { opened, opening, adoptions, reason } in gone {
        let lasted = Duration::try_from(Timestamp::now().duration_since(opened)).unwrap_or_default();
        shared.ledger.append(Draft { event: closing(reason, lasted, adoptions.saturating_add(1)), ..opening }).await?;
    }
    let (mut adopted, mut ended) = (0_usize, 0_usize);
    for orphan in orphans {
        let now = Timestamp::now();
        let Orphan { session, opened, adoptions, .. } = orphan;
        let about = Draft { event: closing(CloseReason::CellFailed, Duration::ZERO, 0), ..orphan.opening.clone() };
        let ago = Duration::try_from(now.duration_since(opened)).unwrap_or_default();
        match ready(shared, orphan, now).and_then(|ready| Ok((auditors::make_key(&shared.config.auditor).map_err(failed)?, ready))) {
            Ok((key, Ready { facts, admitted, terminal })) => {
                let place = shared.registry.adopt(session, admitted, facts.asked().transport, facts.ends());
                shared.tasks.spawn(relay::adopt(Arc::clone(shared), facts, key, place, terminal, ago));
                adopted += 1;
            }
            Err(reason) => {
                tracing::info!(%session, ?reason, "a session that another gateway left ends");
                shared.warden.order(Order::End { session, reason: reason.name() }).await;
                shared.ledger.append(Draft { event: closing(reason, ago, adoptions.saturating_add(1)), ..about }).await?;
                ended += 1;
            }
        }
    }
    tracing::info!(adopted, ended, "sessions of the gateway before were judged");
    Ok(())
}

/// Whether it may go on, by all that is asked of an open session.
fn ready(shared: &Shared, orphan: Orphan, now: Timestamp) -> Result<Ready, CloseReason> {
    let Orphan { session, entry, opened, opening, term, adoptions, master } = orphan;
    let Opened { permit, holder, from, transport, client, command, ends, stays, certificates } =
        Opened::of(opening).ok_or(CloseReason::CellFailed)?;
    let trust = shared.trust();
    let identity = match &certificates {
        Some(chain) => VerifiedIdentity::of_text(chain, &trust, now).map_err(CloseReason::of_refusal)?,
        // Nobody can tell whether it was revoked.
        None => return Err(CloseReason::RevocationUnknown),
    };
    let admitted = OpenSession { permit, holder, identity: Arc::new(identity), from, opened };
    let admission = readmission::admission(shared, &Sweep::by(&trust, now), &admitted, now).map_err(CloseReason::of_refusal)?;
    let terminal = Terminal::new(master).map_err(failed)?;
    let size = terminal.size().map_err(failed)?;
    let plan = Plan::for_admission(&admission);
    let asked = Asked { from, transport, client, command, term, size, stays, certificates };
    let policy = shared.policy().name();
    let facts = Facts::new(session, admission, &plan, (&shared.warden.rung, &policy), asked);
    let facts = facts.adopted(Adopted { opening: entry, ends, part: adoptions.saturating_add(1) });
    // Its connection is gone with the gateway that had it.
    if facts.stays().is_none() { Err(CloseReason::HolderLeft) } else { Ok(Ready { facts, admitted, terminal }) }
}

fn failed(error: impl std::fmt::Display) -> CloseReason {
    tracing::error!(%error, "a session that another gateway left can't go on");
    CloseReason::CellFailed
}

/// The closing entry of a session of which this gateway has recorded nothing.
fn closing(reason: CloseReason, lasted: Duration, from_part: u32) -> Event {
    let duration_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
    Event::SessionClosed { reason, bytes_out: 0, bytes_in: 0, duration_ms, exit_status: None, chunks: 0, recorded_bytes: 0, from_part }
}
