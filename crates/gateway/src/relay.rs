//! Drives one session: everything that happens to it becomes an event of its machine, everything that the machine wants is done.
//!
//! One task a session, with one more that sends to the peer. The peer may go and the session stay; then another may come. Nothing here is buffered without bound: output by the credit that
//! the client has, input by the one it gives, entries by the ledger's queue.

mod line;
mod moving;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::{CloseReason, Draft, Receipt};
use sulku_permit::PermitId;
use sulku_plan::order::{Order, Signal, TerminalSize};
use sulku_protocol::{Ask, DenialRow, INPUT_CREDIT_BYTES, Tell};
use sulku_session::{Effect, Event, Facts, Now, RecordingKey, Session};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::{NoFrame, turn_away, violated};
use crate::daemon::Shared;
use crate::ledger::{AppendError, Job, Pending};
use crate::registry::{Place, Verdict};
use crate::terminal::{Shown, Terminal};
use crate::warden::CellNews;

use line::{Held, joined, next, reserve};
pub use line::{Joining, Line};

/// What the terminal has taken is reported when it reaches this, so that a paste never runs dry; and what a person types, at each [`TICK`].
const TAKEN_REPORT_BYTES: usize = INPUT_CREDIT_BYTES as usize / 4;
/// How often a session looks at its clocks.
const TICK: Duration = Duration::from_millis(250);
/// The same of a session in which nothing happens: thousands of them must cost next to nothing. What has a moment of its own (its end, a warning,
/// its idle time) comes at that; what is left is a wall clock that was set.
const TICK_AT_REST: Duration = Duration::from_secs(5);
/// After so many bytes of output the other sessions have their turn: a keystroke's echo waits several turns of a flood for its own.
const TURN_BYTES: usize = 16 * 1024;
/// A terminal whose shell has ended and that shows nothing for this long has nothing more to show.
const QUIET: Duration = Duration::from_millis(20);
/// A closing session waits this long for the warden and the ledger before it lets go. What was handed to the ledger may still be kept.
const CLOSE_PATIENCE: Duration = Duration::from_secs(40);
/// News of one cell: four reports, refused signals, and denials as far as there is room.
const NEWS_MAX: usize = 16;

/// Runs a session from its admission to its close.
pub async fn run(shared: Arc<Shared>, facts: Facts, key: RecordingKey, place: Place, line: Line) {
    let (news_in, news) = mpsc::channel(NEWS_MAX);
    shared.warden.follow(facts.id(), news_in).await;
    let relay = Relay::new(&shared, &facts, Held::new(line));
    let mut effects = Vec::new();
    let session = Session::begin(facts, key, &mut effects);
    relay.finish(session, effects, news, place).await;
}

/// Runs a session that another gateway opened that long ago, from its adoption to its close. Nobody is connected at first.
pub async fn adopt(shared: Arc<Shared>, facts: Facts, key: RecordingKey, place: Place, terminal: Terminal, ago: Duration) {
    let (news_in, news) = mpsc::channel(NEWS_MAX);
    shared.warden.follow(facts.id(), news_in).await;
    let mut relay = Relay::new(&shared, &facts, Held::nobody(facts.asked().from, facts.asked().transport));
    relay.began = relay.began.checked_sub(ago).unwrap_or(relay.began);
    relay.terminal = Some(terminal);
    let mut effects = Vec::new();
    let session = Session::adopt(facts, key, relay.now(), &mut effects);
    relay.finish(session, effects, news, place).await;
}

/// How this gateway came to have a session no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// It is closed.
    Closed(CloseReason),
    /// It is left to the next gateway.
    Left,
}

struct CellOrder {
    id: sulku_permit::SessionId,
    size: TerminalSize,
    term: String,
}

struct Relay {
    shared: Arc<Shared>,
    permit: PermitId,
    /// Of the holder, as the permit writes it.
    identity: String,
    cell: CellOrder,
    began: Instant,
    terminal: Option<Terminal>,
    /// What was typed and the terminal has not taken; bounded by the client's credit.
    typed: VecDeque<u8>,
    /// What the terminal has taken, or nothing ever will, and the client has not been told of.
    taken_bytes: usize,
    line: Held,
    /// What the ledger's queue has no room for yet; few, since a session has one chunk at a time on its way.
    unsubmitted: VecDeque<Job>,
    /// Receipts on their way, in the order of the requests.
    owed: VecDeque<Pending>,
    /// The first.
    violation: Option<Breach>,
}

/// What a peer did that the protocol does not know.
struct Breach {
    what: String,
    from: IpAddr,
    transport: &'static str,
}

impl Relay {
    fn new(shared: &Arc<Shared>, facts: &Facts, line: Held) -> Self {
        let asked = facts.asked();
        let size = TerminalSize { columns: asked.size.0, rows: asked.size.1 };
        Self {
            shared: Arc::clone(shared),
            permit: facts.permit_id().clone(),
            identity: facts.identity().to_owned(),
            cell: CellOrder { id: facts.id(), size, term: asked.term.clone() },
            began: Instant::now(),
            terminal: None,
            typed: VecDeque::new(),
            taken_bytes: 0,
            line,
            unsubmitted: VecDeque::new(),
            owed: VecDeque::new(),
            violation: None,
        }
    }

    async fn finish(mut self, session: Session, effects: Vec<Effect>, news: mpsc::Receiver<CellNews>, place: Place) {
        let over = self.drive(session, effects, news, place).await;
        let shared = Arc::clone(&self.shared);
        tracing::info!(session = %self.cell.id, ?over, "session over");
        shared.warden.forget(self.cell.id).await;
        if over == Over::Left {
            shared.left.fetch_add(1, Ordering::Relaxed);
        }
        if over == Over::Closed(CloseReason::ProtocolError) {
            self.break_off("a frame that has no place in an open session".to_owned());
        }
        if let Some(Breach { what, from, transport }) = self.violation.take() {
            violated(&shared, what, from, transport).await;
        }
        self.line.end().await;
    }

    async fn drive(&mut self, mut session: Session, mut effects: Vec<Effect>, mut news: mpsc::Receiver<CellNews>, mut place: Place) -> Over {
        let mut ticked = Instant::now();
        let (mut news_here, mut told_to_end) = (true, false);
        let (mut closing_since, mut turn_bytes) = (None, 0);
        loop {
            for effect in effects.drain(..) {
                self.perform(effect).await;
            }
            match session {
                Session::Closed(reason) => return Over::Closed(reason),
                Session::Left => return Over::Left,
                _ => {}
            }
            if matches!(session, Session::Closing(_)) {
                let since = *closing_since.get_or_insert_with(Instant::now);
                if since.elapsed() > CLOSE_PATIENCE {
                    tracing::error!(session = %self.cell.id, "session let go: warden or ledger did not answer");
                    return Over::Closed(CloseReason::CellFailed);
                }
            }
            self.shared.ledger.submit(&mut self.unsubmitted);
            self.report_taken();
            if let Some(moved) = self.judge_place(&session).await {
                session = session.step(moved, self.now(), &mut effects);
                continue;
            }
            let wakes = session.wakes().map(|elapsed| self.began + elapsed);
            let tick = ticked + if session.is_at_rest() && self.taken_bytes == 0 { TICK_AT_REST } else { TICK };
            let takes_input = session.takes_input();
            let room = if self.terminal.is_some() { session.output_room() } else { 0 };
            let drains = session.drains();
            let event = tokio::select! {
                // In this order: what ends or frees comes before what fills.
                biased;
                changed = place.end.changed(), if !told_to_end => {
                    let verdict = changed.ok().and(*place.end.borrow_and_update());
                    told_to_end = !matches!(verdict, Some(Verdict::Stays { .. }));
                    match verdict {
                        Some(Verdict::Ends(reason)) => Event::EndNow(reason),
                        Some(Verdict::HandedOver) => Event::HandedOver,
                        Some(Verdict::Stays { ends, because }) => Event::Ends(ends, because),
                        None => continue,
                    }
                }
                heard = news.recv(), if news_here => match heard {
                    Some(CellNews::Launched(master)) => match Terminal::new(master) {
                        Ok(terminal) => {
                            self.terminal = Some(terminal);
                            Event::Launched
                        }
                        Err(error) => {
                            tracing::error!(%error, "terminal not usable");
                            effects.push(Effect::EndCell(CloseReason::CellFailed));
                            Event::LaunchRefused
                        }
                    },
                    Some(CellNews::Adopted) => Event::Launched,
                    Some(CellNews::Refused) => Event::LaunchRefused,
                    Some(CellNews::Exited(status)) => Event::Exited(status),
                    Some(CellNews::Denied(denied)) => Event::Denied(denied),
                    Some(CellNews::Reaped(reason)) => Event::Reaped(reason),
                    None => {
                        news_here = false;
                        Event::WardenLost
                    }
                },
                () = tokio::time::sleep_until(wakes.unwrap_or(self.began)), if wakes.is_some() => Event::Tick,
                () = self.shared.warden_lost.cancelled(), if news_here => {
                    news_here = false;
                    Event::WardenLost
                }
                kept = receipt(&mut self.owed), if !self.owed.is_empty() => match kept {
                    Ok(receipt) => {
                        self.line.held_for = self.line.held_for.saturating_sub(1);
                        Event::Kept(receipt)
                    }
                    Err(error) => {
                        tracing::error!(session = %self.cell.id, %error, "entry not kept");
                        match error {
                            AppendError::Refused { cause, .. } => Event::Refused(cause),
                            AppendError::Gone => Event::AuditGone,
                        }
                    }
                },
                () = self.shared.ledger.has_room(), if !self.unsubmitted.is_empty() => continue,
                // Who comes for a session that is just being adopted waits the moment that it takes.
                Some(joining) = place.joins.recv(), if !matches!(session, Session::Adopting(_)) => {
                    if !session.may_be_taken_up() {
                        self.shared.tasks.spawn(turn_away(joining.line));
                        continue;
                    }
                    if self.line.is_there() {
                        session = session.step(Event::TakenOver, self.now(), &mut effects);
                        for effect in effects.drain(..) {
                            self.perform(effect).await;
                        }
                    }
                    let Joining { line, comer } = joining;
                    self.line.replace(line);
                    Event::TakenUp(Box::new(comer))
                }
                frame = next(&mut self.line.frames), if self.line.frames.is_some() && self.line.held_for == 0 => match frame {
                    // It may come from where nobody has judged her; the next turn looks.
                    Ok(ask) if self.line.strayed().is_some() => {
                        self.line.put_back(ask);
                        continue;
                    }
                    Ok(Ask::Input(bytes)) if bytes.len() + self.typed.len() + self.taken_bytes > INPUT_CREDIT_BYTES as usize => {
                        self.break_off(format!("more than {INPUT_CREDIT_BYTES} bytes of input that were not taken yet"));
                        Event::PeerBroke
                    }
                    Ok(ask) => Event::Asked(ask),
                    Err(NoFrame::Gone) => {
                        self.line.frames = None;
                        Event::PeerGone
                    }
                    Err(NoFrame::Broke(error)) => {
                        self.break_off(error.to_string());
                        Event::PeerBroke
                    }
                },
                slot = reserve(&self.line.outgoing), if !self.line.outbox.is_empty() && self.line.held_for == 0 => {
                    match slot {
                        // What is for her is not for whoever is where she was not judged; the next turn looks who that is.
                        Some(_) if self.line.strayed().is_some() => {}
                        Some(slot) => drop(slot.send(joined(&mut self.line.outbox))),
                        None => self.line.outbox.clear(),
                    }
                    continue;
                }
                written = write(&self.terminal, &mut self.typed), if takes_input && !self.typed.is_empty() => {
                    match written {
                        Ok(written) => self.taken_bytes += self.typed.drain(..written).len(),
                        Err(error) => {
                            tracing::debug!(%error, "terminal takes no more");
                            self.taken_bytes += self.typed.drain(..).len();
                        }
                    }
                    continue;
                }
                shown = read(&self.terminal, room, drains), if room > 0 => match shown {
                    Ok(Shown::Bytes(bytes)) => {
                        turn_bytes += bytes.len();
                        Event::Output(bytes)
                    }
                    Ok(Shown::Ended) => Event::OutputEnded,
                    Err(error) => {
                        tracing::error!(%error, "terminal broke");
                        Event::EndNow(CloseReason::CellFailed)
                    }
                },
                () = tokio::time::sleep_until(tick) => {
                    ticked = Instant::now();
                    self.report_all_taken();
                    Event::Tick
                }
            };
            let now = self.now();
            let ended = matches!(event, Event::OutputEnded);
            session = session.step(event, now, &mut effects);
            if let Some((idle_s, bytes_out)) = session.activity(now) {
                place.activity.set(idle_s, bytes_out, session.detached(now));
            }
            if ended && matches!(session, Session::Open(_)) {
                // The terminal has no reader left inside; what is typed from here on goes nowhere.
                self.taken_bytes += self.typed.drain(..).len();
            }
            // Tokio counts operations, not bytes.
            if turn_bytes >= TURN_BYTES {
                turn_bytes = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Append(draft) => self.submit(draft, Vec::new()),
            Effect::Record(draft, chunk) => self.submit(draft, chunk),
            Effect::Launch(receipt) => {
                let CellOrder { id: _, size, term } = &self.cell;
                self.shared.warden.order(Order::Launch { receipt, size: *size, term: term.clone() }).await;
            }
            Effect::Adopt(receipt) => self.shared.warden.order(Order::Adopt { receipt }).await,
            Effect::Type(bytes) => self.typed.extend(bytes),
            Effect::Resize(columns, rows) => {
                if let Some(Err(error)) = self.terminal.as_ref().map(|terminal| terminal.resize(columns, rows)) {
                    tracing::debug!(%error, "terminal not resized");
                }
            }
            Effect::Signal(signal) => {
                self.shared.warden.order(Order::Signal { session: self.cell.id, signal: signal_of(signal) }).await;
            }
            Effect::Send(Tell::Welcome(mut welcome)) => {
                if let Some(resumed) = &mut welcome.resumed {
                    // What was taken and not reported, its client learns from this.
                    resumed.waiting = u32::try_from(self.typed.len()).unwrap_or(u32::MAX);
                    self.taken_bytes = 0;
                }
                self.line.post(Tell::Welcome(welcome));
            }
            Effect::Send(tell) => self.line.post(tell),
            Effect::Remember(text) => {
                let row = DenialRow { at: Timestamp::now(), session: self.cell.id, permit: self.permit.clone(), text };
                self.shared.denied.note(&self.identity, row);
            }
            Effect::EndCell(reason) => {
                // The terminal is closed first: from here on nothing of it is shown, unless it ended by itself and these are its last words.
                self.terminal = None;
                self.typed.clear();
                if reason != CloseReason::ShellExited {
                    self.line.outbox.retain(|tell| !matches!(tell, Tell::Output(_)));
                }
                self.shared.warden.order(Order::End { session: self.cell.id, reason: reason.name() }).await;
            }
            Effect::HangUp => {
                self.report_all_taken();
                self.line.hang_up();
            }
            Effect::Abandon => self.line.abandon(),
        }
    }

    /// Hands a request to the ledger, at the latest when its queue has room: a ledger that stalls must not stop this session's clocks.
    fn submit(&mut self, draft: Draft, chunk: Vec<u8>) {
        let (job, pending) = Job::new(draft, chunk);
        self.unsubmitted.push_back(job);
        self.owed.push_back(pending);
    }

    /// Tells the client what the terminal has taken, so that it may type on.
    fn report_taken(&mut self) {
        if self.taken_bytes >= TAKEN_REPORT_BYTES {
            self.report_all_taken();
        }
    }

    /// The same, however little it is: what is not reported when this gateway dies, its holder is told may be missing.
    fn report_all_taken(&mut self) {
        if self.line.welcomed
            && self.taken_bytes > 0
            && let Ok(bytes) = u32::try_from(self.taken_bytes)
        {
            self.taken_bytes = 0;
            self.line.post(Tell::Taken(bytes));
        }
    }

    /// Hears no more of a peer that broke the protocol, and remembers how, if it is the first.
    fn break_off(&mut self, what: String) {
        self.line.break_off();
        let Held { from, transport, .. } = self.line;
        self.violation.get_or_insert(Breach { what, from, transport });
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp::now(), elapsed: self.began.elapsed() }
    }
}

/// The oldest receipt that is owed. Cancelled, it is still owed.
async fn receipt(owed: &mut VecDeque<Pending>) -> Result<Receipt, AppendError> {
    let Some(oldest) = owed.front_mut() else {
        return std::future::pending().await;
    };
    let result = oldest.await.unwrap_or(Err(AppendError::Gone));
    owed.pop_front();
    result
}

async fn write(terminal: &Option<Terminal>, typed: &mut VecDeque<u8>) -> std::io::Result<usize> {
    match terminal {
        Some(terminal) => terminal.write(typed.make_contiguous()).await,
        None => std::future::pending().await,
    }
}

/// A terminal in which nothing runs any more has ended when it is quiet: something in the background may hold it open for ever.
async fn read(terminal: &Option<Terminal>, room: usize, drains: bool) -> std::io::Result<Shown> {
    match terminal {
        Some(terminal) if drains => tokio::time::timeout(QUIET, terminal.read(room)).await.unwrap_or(Ok(Shown::Ended)),
        Some(terminal) => terminal.read(room).await,
        None => std::future::pending().await,
    }
}

const fn signal_of(signal: sulku_protocol::Signal) -> Signal {
    use sulku_protocol::Signal as Wire;
    match signal {
        Wire::Hup => Signal::Hup,
        Wire::Int => Signal::Int,
        Wire::Quit => Signal::Quit,
        Wire::Term => Signal::Term,
        Wire::Usr1 => Signal::Usr1,
        Wire::Usr2 => Signal::Usr2,
        Wire::Tstp => Signal::Tstp,
        Wire::Cont => Signal::Cont,
    }
}
