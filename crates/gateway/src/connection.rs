//! A verified peer's first frame, and where it leads: to a session, to an operator's act, or out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use sulku_audit::CloseReason;
use sulku_audit::event::{Draft, Event};
use sulku_permit::{PermitId, Refusal, RefusalCode, Request, SessionId};
use sulku_plan::Plan;
use sulku_protocol::{
    Ask, Decoder, FrameError, HelloFrame, INPUT_CREDIT_BYTES, Purpose, RefusedFrame, SessionRow, Stay, Tell, VERSION, encode, quic_code,
};
use sulku_session::{Asked, Comer, Facts, RecordingKey};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::auditors;
use crate::busy::Counted;
use crate::daemon::Shared;
use crate::denied;
use crate::identity::VerifiedIdentity;
use crate::known::{Full, Here};
use crate::operator;
use crate::readmission;
use crate::refusals::{Kept, Kind};
use crate::registry::{OpenSession, Origin, Place, Verdict};
use crate::relay::{self, Joining, Line};
use crate::revocation::Sweep;
use crate::transport::{FAREWELL, Peer, Writer};

/// The bytes of one read from a peer: typing is short, and each idle session holds a buffer of this.
pub const READ_BYTES: usize = 4 * 1024;
/// What a peer may have sent before it heard that all is over: its credit, twice over for what is around it.
const HEARD_OUT_BYTES_MAX: usize = 2 * INPUT_CREDIT_BYTES as usize;
/// A command's words, and the bytes of all of them.
const COMMAND_WORDS_MAX: usize = 256;
const COMMAND_BYTES_MAX: usize = 8 * 1024;
/// A client's name, a terminal's kind.
const NAME_BYTES_MAX: usize = 64;
/// A permit's id and a workspace's name are shorter.
const NAMED_BYTES_MAX: usize = 256;
/// A terminal larger than this is none.
const TERMINAL_SIDE_MAX: u16 = 1000;

/// Frames from a peer, one after the other.
pub struct Frames {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder<Ask>,
    aside: Option<Ask>,
}

/// Why no further frame comes.
#[derive(Debug)]
pub enum NoFrame {
    /// The peer is gone.
    Gone,
    /// It broke the protocol.
    Broke(FrameError),
}

impl Frames {
    /// Frames out of these bytes.
    pub fn new(reader: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { reader, decoder: Decoder::default(), aside: None }
    }

    /// Gives a frame back, to be heard again.
    pub fn put_back(&mut self, ask: Ask) {
        self.aside = Some(ask);
    }

    /// Waits for the next frame. Cancelled, it has lost none.
    ///
    /// # Errors
    /// There is none, and there will be none.
    pub async fn next(&mut self) -> Result<Ask, NoFrame> {
        if let Some(ask) = self.aside.take() {
            return Ok(ask);
        }
        loop {
            if let Some(ask) = self.decoder.next().map_err(NoFrame::Broke)? {
                return Ok(ask);
            }
            let mut bytes = [0; READ_BYTES];
            match self.reader.read(&mut bytes).await {
                Ok(0) => {
                    self.decoder.finish().map_err(NoFrame::Broke)?;
                    return Err(NoFrame::Gone);
                }
                Ok(read) => self.decoder.feed(&bytes[..read]),
                Err(error) => {
                    tracing::debug!(%error, "connection broke");
                    return Err(NoFrame::Gone);
                }
            }
        }
    }

    /// Hears the peer out, which has been told all, until it hangs up or [`FAREWELL`] has passed: a TCP connection that is closed with bytes unread is
    /// reset, and what its peer was told last may be lost with it.
    pub async fn hear_out(mut self) {
        let hears_out = async {
            let (mut heard, mut bytes) = (0, [0; READ_BYTES]);
            while heard < HEARD_OUT_BYTES_MAX
                && let Ok(read @ 1..) = self.reader.read(&mut bytes).await
            {
                heard += read;
            }
        };
        if tokio::time::timeout(FAREWELL, hears_out).await.is_err() {
            tracing::debug!("peer did not hang up in time");
        }
    }
}

/// Serves a peer to the end of its connection.
pub async fn serve(shared: Arc<Shared>, peer: Peer) {
    let Peer { identity, from, transport, reader, writer, counted } = peer;
    let mut heard = Some((Frames::new(reader), counted));
    attend(shared, identity, &mut heard, writer, (from, transport)).await;
    if let Some((frames, _counted)) = heard {
        frames.hear_out().await;
    }
}

/// Audits that a peer has, or all together have, as many connections as may be. Gives back what it is to be told, if it is to be told.
pub async fn record_full(
    shared: &Shared,
    identity: &VerifiedIdentity,
    full: Full,
    from: IpAddr,
    transport: &'static str,
) -> Option<(Here, RefusedFrame)> {
    let Full { reason, told } = full;
    let holder = operator::operator(shared, identity).or_else(|| shared.policy().permits().person(identity.credential()).cloned());
    let refusal = Refusal { holder, ..Refusal::new(RefusalCode::TooManyConnections, reason) };
    let kept = record_refusal(shared, refusal, from, transport).await;
    let code = if kept { RefusalCode::TooManyConnections } else { RefusalCode::AuditUnavailable };
    told.map(|told| (told, RefusedFrame::plain(code)))
}

/// Tells a peer so, and hangs up.
pub async fn turn_out(reader: Box<dyn AsyncRead + Send + Unpin>, writer: Writer, frame: RefusedFrame) {
    refuse(writer, frame, quic_code::REFUSED).await;
    Frames::new(reader).hear_out().await;
}

/// Does what a peer asks for first. A session that hears more of it takes its frames, and its place among the connections.
async fn attend(
    shared: Arc<Shared>,
    identity: VerifiedIdentity,
    heard: &mut Option<(Frames, Counted)>,
    writer: Writer,
    (from, transport): (IpAddr, &'static str),
) {
    let Some((frames, _)) = heard else { return };
    let first = tokio::select! {
        first = tokio::time::timeout(shared.config.limits.handshake_deadline(), frames.next()) => first,
        () = shared.drain.cancelled() => {
            // Said and not waited for: what it has not said yet keeps no gateway from its end.
            *heard = None;
            return refuse(writer, RefusedFrame::plain(RefusalCode::Draining), quic_code::REFUSED).await;
        }
    };
    let hello = match first {
        Ok(Ok(Ask::Hello(hello))) => checked(hello),
        Ok(Ok(_)) => Err("the first frame was no hello".to_owned()),
        Ok(Err(NoFrame::Broke(error))) => Err(error.to_string()),
        Ok(Err(NoFrame::Gone)) => return,
        Err(_) => Err("no hello came in time".to_owned()),
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(reason) => {
            violated(&shared, reason, from, transport).await;
            return refuse(writer, RefusedFrame::plain(RefusalCode::ProtocolError), quic_code::PROTOCOL).await;
        }
    };
    // Whatever it asks for is judged by the address at which it began.
    if writer.place().is_some_and(|place| place != from) {
        return writer.end(quic_code::PROTOCOL).await;
    }
    let now = Timestamp::now();
    let HelloFrame { version: _, client, purpose } = hello;
    let key = identity.key();
    let size;
    let outcome = match purpose {
        Purpose::Connect { permit, command, term, columns, rows, stay } => {
            size = (columns, rows);
            let (stays, certificates) = (stay != Stay::Ends, identity.to_text());
            let asked = Asked { from, transport, client: client.clone(), command, term, size, stays, certificates };
            enter(&shared, permit.as_ref(), now, asked, Origin { from, transport, identity }, stay)
        }
        Purpose::Why => return denied::why(&shared, &identity, writer).await,
        Purpose::TakeUp { session, columns, rows } => {
            size = (columns, rows);
            again(&shared, session, Origin { from, transport, identity }, now)
        }
        Purpose::ListOwn => return own(&shared, &identity, now, writer).await,
        Purpose::ListSessions => return operator::list(&shared, &identity, from, transport, writer).await,
        Purpose::ListWorkspaces => return operator::workspaces(&shared, &identity, from, transport, writer).await,
        Purpose::DeleteWorkspace { named } => return operator::delete_workspace(&shared, &identity, named, from, transport, writer).await,
        Purpose::EndSession { session } => return operator::end(&shared, &identity, session, from, transport, writer).await,
    };
    let mut line = |writer| heard.take().map(|(frames, counted)| Line { frames, writer, counted, from, transport });
    let (refusal, sessions) = match outcome {
        Ok(Way::New(Entered { facts, key, place })) => {
            let Some(line) = line(writer) else { return };
            return relay::run(shared, *facts, key, place, line).await;
        }
        Ok(Way::Again(session, admitted)) => {
            let Some(line) = line(writer) else { return };
            let comer = Comer { from, transport, client, policy: shared.policy().name(), size };
            let Err(joining) = take_up(&shared, session, admitted, Joining { line, comer }, now) else { return };
            return turn_away(joining.line).await;
        }
        Ok(Way::Choose(refusal, rows)) => (refusal, rows),
        Err(refusal) => {
            // One of them may be all that is left of a connection that is gone: she may take it over instead.
            let hers = refusal.code == RefusalCode::TooManySessions;
            let mut rows = if hers { shared.registry.rows_of_key(key, now) } else { Vec::new() };
            rows.retain(|row| Some(&row.permit) == refusal.permit.as_ref());
            rows.truncate(operator::ROWS_MAX);
            (refusal, rows)
        }
    };
    let frame = RefusedFrame { choices: refusal.choices.clone(), sessions, ..RefusedFrame::plain(refusal.code) };
    let kept = record_refusal(&shared, refusal, from, transport).await;
    let frame = if kept { frame } else { RefusedFrame::plain(RefusalCode::AuditUnavailable) };
    refuse(writer, frame, quic_code::REFUSED).await;
}

/// Refuses who came for a session that is not open to her.
pub async fn turn_away(line: Line) {
    refuse(line.writer, RefusedFrame::plain(RefusalCode::NoSuchSession), quic_code::REFUSED).await;
    line.frames.hear_out().await;
}

/// Where an admission leads.
enum Way {
    /// To a session.
    New(Entered),
    /// To one of her own that is open.
    Again(SessionId, Arc<OpenSession>),
    /// Nowhere, before she has chosen one of hers.
    Choose(Refusal, Vec<SessionRow>),
}

/// All that a session is made from.
struct Entered {
    facts: Box<Facts>,
    key: RecordingKey,
    place: Place,
}

/// Admission; then one of her own that is detached, or a place among the sessions, a key for its recording, a plan.
fn enter(shared: &Shared, permit: Option<&PermitId>, now: Timestamp, asked: Asked, origin: Origin, stay: Stay) -> Result<Way, Refusal> {
    if shared.drain.is_cancelled() {
        return Err(Refusal::new(RefusalCode::Draining, "the gateway is draining"));
    }
    let request =
        Request { credential: origin.identity.credential(), permit, from: origin.from, now, opened: None, rung: shared.warden.rung.parse().ok() };
    let policy = shared.policy();
    let admission = sulku_permit::admit(policy.permits(), &request)?;
    if stay == Stay::TakesUp {
        let mut detached = shared.registry.rows_of_key(origin.identity.key(), now);
        detached.retain(|row| row.detached_s.is_some() && row.permit == admission.permit().id && row.person == admission.holder().id);
        match detached.as_slice() {
            [] => {}
            [one] => return again(shared, one.session, origin, now),
            several => {
                let reason = format!("{} of her sessions are detached, and she named none", several.len());
                let (permit, holder) = (Some(admission.permit().id.clone()), Some(admission.holder().id.clone()));
                detached.truncate(operator::ROWS_MAX);
                return Ok(Way::Choose(Refusal { permit, holder, ..Refusal::new(RefusalCode::ChooseASession, reason) }, detached));
            }
        }
    }
    if !shared.warden.missing.is_empty() {
        let reason = format!("the host lacks: {}", shared.warden.missing.join("; "));
        return Err(Refusal {
            permit: Some(admission.permit().id.clone()),
            holder: Some(admission.holder().id.clone()),
            ..Refusal::new(RefusalCode::CellUnavailable, reason)
        });
    }
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| Refusal::new(RefusalCode::CellUnavailable, format!("the kernel gives no randomness: {error}")))?;
    let session = SessionId::from_random(random);
    let place = shared.registry.enter(session, &admission, origin, now, shared.config.limits.sessions)?;
    // What changed since the handshake has not been asked of a session that had no place yet.
    let trust = shared.trust();
    readmission::judge(shared, &Sweep::by(&trust, now), &place.admitted, now).map_err(|code| Refusal {
        permit: Some(admission.permit().id.clone()),
        holder: Some(admission.holder().id.clone()),
        ..Refusal::new(code, "refused by what came into force while the session opened")
    })?;
    let key = auditors::make_key(&shared.config.auditor).map_err(|error| Refusal::new(RefusalCode::AuditUnavailable, error.to_string()))?;
    let plan = Plan::for_admission(&admission);
    let facts = Facts::new(session, admission, &plan, (&shared.warden.rung, &policy.name()), asked);
    Ok(Way::New(Entered { facts: Box::new(facts), key, place }))
}

/// Admission to a session that is open: by the key that opened it, and all that is asked at an opening is asked again.
fn again(shared: &Shared, session: SessionId, origin: Origin, now: Timestamp) -> Result<Way, Refusal> {
    if shared.drain.is_cancelled() {
        return Err(Refusal::new(RefusalCode::Draining, "the gateway is draining"));
    }
    let Origin { from, transport: _, identity } = origin;
    let open = shared.registry.of_key(session, identity.key());
    let open = open.ok_or_else(|| Refusal::new(RefusalCode::NoSuchSession, format!("this key has opened no session {session} that is open")))?;
    let (permit, holder, opened) = (open.permit.clone(), open.holder.clone(), open.opened);
    let admitted = OpenSession { permit, holder, identity: Arc::new(identity), from, opened };
    let trust = shared.trust();
    readmission::judge(shared, &Sweep::by(&trust, now), &admitted, now).map_err(|code| Refusal {
        permit: Some(admitted.permit.clone()),
        holder: Some(admitted.holder.clone()),
        ..Refusal::new(code, format!("refused when session {session} was to be taken up again"))
    })?;
    Ok(Way::Again(session, Arc::new(admitted)))
}

/// Hands the connection to the session, and judges it by where its holder is now: what came into force meanwhile was asked of her as she was.
fn take_up(shared: &Shared, session: SessionId, admitted: Arc<OpenSession>, joining: Joining, now: Timestamp) -> Result<(), Box<Joining>> {
    shared.registry.take_up(session, Arc::clone(&admitted), joining)?;
    let trust = shared.trust();
    let verdict = readmission::judge(shared, &Sweep::by(&trust, now), &admitted, now);
    shared.registry.tell(session, verdict.unwrap_or_else(|code| Verdict::Ends(CloseReason::of_refusal(code))));
    Ok(())
}

/// Sends a holder the sessions that her key opened.
async fn own(shared: &Shared, identity: &VerifiedIdentity, now: Timestamp, writer: Writer) {
    let mut rows = shared.registry.rows_of_key(identity.key(), now);
    rows.truncate(operator::ROWS_MAX);
    say_and_end(writer, &Tell::Sessions(rows), quic_code::DONE).await;
}

/// Everything in a hello that the types don't bound.
fn checked(hello: HelloFrame) -> Result<HelloFrame, String> {
    let plain = |text: &str| !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if hello.version != VERSION {
        return Err(format!("the client speaks version {}, not {VERSION}", hello.version));
    }
    if !plain(&hello.client) {
        return Err("the client's name is empty, too long or not plain text".to_owned());
    }
    let side = 1..=TERMINAL_SIDE_MAX;
    if let Purpose::TakeUp { session: _, columns, rows } = &hello.purpose
        && !(side.contains(columns) && side.contains(rows))
    {
        return Err(format!("the terminal has a side that is not 1 to {TERMINAL_SIDE_MAX}"));
    }
    if let Purpose::Connect { permit: _, command, term, columns, rows, stay: _ } = &hello.purpose {
        let words = command.as_deref().unwrap_or_default();
        let bytes: usize = words.iter().map(String::len).sum();
        let command_ok = command.is_none() || (!words.is_empty() && words.len() <= COMMAND_WORDS_MAX && bytes <= COMMAND_BYTES_MAX);
        if !command_ok || words.iter().any(|word| word.contains('\0')) || words.first().is_some_and(String::is_empty) {
            return Err(format!("the command is empty, has a NUL, or is longer than {COMMAND_WORDS_MAX} words or {COMMAND_BYTES_MAX} bytes"));
        }
        if !plain(term) || !side.contains(columns) || !side.contains(rows) {
            return Err(format!("the terminal has no plain name, or a side that is not 1 to {TERMINAL_SIDE_MAX}"));
        }
    }
    if let Purpose::DeleteWorkspace { named } = &hello.purpose
        && (named.is_empty() || named.len() > NAMED_BYTES_MAX || named.chars().any(char::is_control))
    {
        return Err("the workspace's name is none".to_owned());
    }
    Ok(hello)
}

/// Tells a peer that it is refused, and hangs up.
pub async fn refuse(writer: Writer, frame: RefusedFrame, code: u32) {
    say_and_end(writer, &Tell::Refused(frame), code).await;
}

/// Sends a last frame, and hangs up.
pub async fn say_and_end(mut writer: Writer, tell: &Tell, code: u32) {
    let mut bytes = Vec::new();
    if let Err(error) = encode(tell, &mut bytes) {
        tracing::error!(%error, "frame not sent");
    } else {
        match tokio::time::timeout(FAREWELL, writer.send(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "peer was gone before it was told"),
            // Over QUIC a peer says itself how much it takes: one that takes nothing must not keep its place by that.
            Err(_) => return writer.hang_up(code),
        }
    }
    writer.end(code).await;
}

/// Audits a refusal. Says whether it is kept, by itself or in a count.
pub async fn record_refusal(shared: &Shared, refusal: Refusal, from: IpAddr, transport: &'static str) -> bool {
    let Refusal { code, choices: _, holder, permit, reason, at } = refusal;
    if shared.refusals.keep(Kind::Session, from, Instant::now(), Timestamp::now()) == Kept::AsNumber {
        return true;
    }
    tracing::info!(%from, transport, %code, "session refused");
    let event =
        Event::SessionRefused { code, reason: reason.into(), at: at.map(|at| at.to_string()), from: from.into(), transport: transport.to_owned() };
    let permit: Option<PermitId> = permit.filter(|id| shared.policy().permits().get(id).is_some());
    match shared.ledger.append(Draft { permit, session: None, person: holder, event }).await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "refusal not recorded");
            false
        }
    }
}

/// Audits a breach of the protocol.
pub async fn violated(shared: &Shared, reason: String, from: std::net::IpAddr, transport: &'static str) {
    if shared.refusals.keep(Kind::Protocol, from, Instant::now(), Timestamp::now()) == Kept::AsNumber {
        return;
    }
    tracing::info!(%from, transport, reason, "protocol violated");
    let event = Event::ProtocolViolated { reason, from: from.into(), transport: transport.to_owned() };
    if let Err(error) = shared.ledger.append(Draft::new(event)).await {
        tracing::error!(%error, "breach of the protocol not recorded");
    }
}
