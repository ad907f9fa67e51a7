//! The gateway's end of the warden's socket: orders go out, reports come back and find their session.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use jiff::Timestamp;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recvmsg, sendmsg, socket_with,
};
use sulku_audit::{CloseReason, Draft, Receipt};
use sulku_permit::SessionId;
use sulku_plan::Denied;
use sulku_plan::order::{self, ORDER_VERSION, Order, PACKET_BYTES_MAX, Report};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::descriptor::Descriptor;

/// Orders that may wait for the warden.
const ORDERS_WAITING_MAX: usize = 256;
/// Operators' questions that may wait for an answer.
const QUESTIONS_MAX: usize = 16;

/// A warden that can't be worked with.
#[derive(Debug, thiserror::Error)]
pub enum WardenError {
    /// The connection failed.
    #[error("the connection to the warden failed")]
    Socket(#[from] io::Error),
    /// A packet is not of the vocabulary.
    #[error("the warden said something that is no report")]
    Packet(#[from] order::PacketError),
    /// It is of another version.
    #[error("the warden speaks version {theirs}, this gateway {ORDER_VERSION}; install both from one release")]
    Version {
        /// The warden's version.
        theirs: u32,
    },
    /// What it says of a cell that was left makes no sense.
    #[error("the warden speaks of a cell that was left, and not so that it can be adopted")]
    Orphan,
    /// It did not begin with `ready`.
    #[error("the warden did not begin with its readiness")]
    Unready,
}

/// What a session hears of its cell.
#[derive(Debug)]
pub enum CellNews {
    /// It runs, with this terminal.
    Launched(OwnedFd),
    /// It was another gateway's and is this one's, and runs.
    Adopted,
    /// An order was not carried out, for the reason logged.
    Refused,
    /// What ran in it has ended.
    Exited(i32),
    /// It was denied something.
    Denied(Denied),
    /// It is gone, for this reason.
    Reaped(CloseReason),
}

/// A cell that another gateway left, standing still.
#[derive(Debug)]
pub struct Orphan {
    /// Whose.
    pub session: SessionId,
    /// The number of its opening entry.
    pub entry: u64,
    /// When the ledger took that.
    pub opened: Timestamp,
    /// What that says, with all that is private in it.
    pub opening: Draft,
    /// The terminal's kind.
    pub term: String,
    /// How many gateways have adopted it before.
    pub adoptions: u32,
    /// The terminal's master.
    pub master: OwnedFd,
}

/// A session whose cell went while there was no gateway to close it.
#[derive(Debug)]
pub struct Gone {
    /// When the ledger took its opening entry.
    pub opened: Timestamp,
    /// What that says.
    pub opening: Draft,
    /// How many gateways had adopted it.
    pub adoptions: u32,
    /// Why it went.
    pub reason: CloseReason,
}

/// What the gateway before left.
#[derive(Debug, Default)]
pub struct Left {
    /// Cells that stand still.
    pub orphans: Vec<Orphan>,
    /// Sessions that nobody has closed.
    pub gone: Vec<Gone>,
}

/// Places that denials leave free for news that a session can't do without.
const NEWS_RESERVED: usize = 8;

enum Job {
    Order(Box<Order<Receipt>>),
    Follow(SessionId, mpsc::Sender<CellNews>),
    Forget(SessionId),
    Ask(Question, oneshot::Sender<Report>),
}

/// What an operator asks of the warden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Which workspaces there are.
    Workspaces,
    /// To destroy one.
    Deletion(String),
}

/// The warden, to give orders to.
#[derive(Debug, Clone)]
pub struct Warden {
    jobs: mpsc::Sender<Job>,
    /// The isolation rung in force.
    pub rung: String,
    /// What the host lacks for a cell; empty when nothing.
    pub missing: Vec<String>,
}

impl Warden {
    /// Connects, exchanges versions, and hears of the cells that another gateway left. `lost` is cancelled when the connection breaks.
    ///
    /// # Errors
    /// There is no warden at that socket, or it is of another version.
    pub async fn connect(path: &Path, lost: CancellationToken) -> Result<(Self, Left), WardenError> {
        let socket = Socket::connect(path)?;
        socket.send(&order::encode(&Order::<Receipt>::Hello { version: ORDER_VERSION })?).await?;
        let (rung, missing, orphans, gone) = match socket.receive().await? {
            Some((packet, _)) => match order::decode(&packet)? {
                Report::Ready { version: ORDER_VERSION, rung, missing, orphans, gone } => (rung, missing, orphans, gone),
                Report::Ready { version: theirs, .. } => return Err(WardenError::Version { theirs }),
                _ => return Err(WardenError::Unready),
            },
            None => return Err(WardenError::Unready),
        };
        let mut left = Left::default();
        for _ in 0..orphans {
            left.orphans.push(orphan(&socket).await?);
        }
        for _ in 0..gone {
            left.gone.push(one_gone(&socket).await?);
        }
        let (jobs, queue) = mpsc::channel(ORDERS_WAITING_MAX);
        tokio::spawn(async move {
            if let Err(error) = work(&socket, queue).await {
                tracing::error!(error = %chain(&error), "connection to the warden broke");
            }
            lost.cancel();
        });
        Ok((Self { jobs, rung, missing }, left))
    }

    /// Gives an order. An order that the warden is no longer there to take is answered by the gateway's end.
    pub async fn order(&self, order: Order<Receipt>) {
        if self.jobs.send(Job::Order(Box::new(order))).await.is_err() {
            tracing::warn!("order not given: the warden is gone");
        }
    }

    /// From here on, what the warden reports of this session comes to `news`. A session that does not take its news loses its place.
    pub async fn follow(&self, session: SessionId, news: mpsc::Sender<CellNews>) {
        self.jobs.send(Job::Follow(session, news)).await.ok();
    }

    /// Asks for an operator. `None`: the warden is gone, or has too much to answer already.
    pub async fn ask(&self, question: Question) -> Option<Report> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Ask(question, answer)).await.ok()?;
        answered.await.ok()
    }

    /// The session is closed.
    pub async fn forget(&self, session: SessionId) {
        self.jobs.send(Job::Forget(session)).await.ok();
    }
}

async fn orphan(socket: &Socket) -> Result<Orphan, WardenError> {
    let Some((packet, Some(master))) = socket.receive().await? else { return Err(WardenError::Orphan) };
    let Report::Orphan { session, entry, opened, opening, term, adoptions } = order::decode(&packet)? else { return Err(WardenError::Orphan) };
    let opening = serde_json::from_str(&opening).map_err(|_| WardenError::Orphan)?;
    Ok(Orphan { session, entry, opened, opening, term, adoptions, master })
}

async fn one_gone(socket: &Socket) -> Result<Gone, WardenError> {
    let Some((packet, _)) = socket.receive().await? else { return Err(WardenError::Orphan) };
    let Report::Gone { session: _, opened, opening, adoptions, reason } = order::decode(&packet)? else { return Err(WardenError::Orphan) };
    let opening = serde_json::from_str(&opening).map_err(|_| WardenError::Orphan)?;
    Ok(Gone { opened, opening, adoptions, reason: reason_of(reason) })
}

/// A reason in the closing entry's words, or that of a cell that broke.
fn reason_of(reason: String) -> CloseReason {
    serde_json::from_value(serde_json::Value::String(reason)).unwrap_or(CloseReason::CellFailed)
}

async fn work(socket: &Socket, mut queue: mpsc::Receiver<Job>) -> Result<(), WardenError> {
    let mut sessions = HashMap::<SessionId, mpsc::Sender<CellNews>>::new();
    let mut asked = Asked::default();
    loop {
        tokio::select! {
            job = queue.recv() => match job {
                Some(Job::Order(order)) => socket.send(&order::encode(&*order)?).await?,
                Some(Job::Follow(session, news)) => drop(sessions.insert(session, news)),
                Some(Job::Forget(session)) => drop(sessions.remove(&session)),
                Some(Job::Ask(question, answer)) => {
                    if let Some(order) = asked.order(question, answer) {
                        socket.send(&order::encode(&order)?).await?;
                    }
                }
                None => return Ok(()),
            },
            packet = socket.receive() => match packet? {
                Some((packet, fd)) => {
                    let Some(report) = asked.answer(order::decode(&packet)?) else { continue };
                    let launched = matches!(report, Report::Launched { .. });
                    let Some((session, news)) = news(report, fd) else { continue };
                    if launched && matches!(news, CellNews::Refused) {
                        // Whoever asked for it never has it, so nobody else would end it.
                        let reason = CloseReason::CellFailed.name();
                        socket.send(&order::encode(&Order::<Receipt>::End { session, reason })?).await?;
                    }
                    // A session that is behind misses what is only for its holder to read; the ledger has it.
                    if matches!(news, CellNews::Denied(_)) && sessions.get(&session).is_none_or(|sender| sender.capacity() <= NEWS_RESERVED) {
                        continue;
                    }
                    if let Some(sender) = sessions.get(&session)
                        && sender.try_send(news).is_err()
                    {
                        // The session has closed, or is so far behind that it is better told by the channel's end.
                        sessions.remove(&session);
                    }
                }
                None => return Ok(()),
            },
        }
    }
}

/// Questions that the warden has not answered yet: one deletion, and few listings, which it answers in order.
#[derive(Default)]
struct Asked {
    listings: VecDeque<oneshot::Sender<Report>>,
    deletion: Option<oneshot::Sender<Report>>,
}

impl Asked {
    /// The order that asks it; `None` where it is answered already, or dropped since too many wait.
    fn order(&mut self, question: Question, answer: oneshot::Sender<Report>) -> Option<Order<Receipt>> {
        match question {
            Question::Workspaces if self.listings.len() >= QUESTIONS_MAX => None,
            Question::Workspaces => {
                self.listings.push_back(answer);
                Some(Order::ListWorkspaces)
            }
            Question::Deletion(_) if self.deletion.is_some() => {
                let reason = "a workspace is being destroyed; try again when it is gone".to_owned();
                answer.send(Report::Kept { order: "delete-workspace".to_owned(), reason }).ok();
                None
            }
            Question::Deletion(named) => {
                self.deletion = Some(answer);
                Some(Order::DeleteWorkspace { named })
            }
        }
    }

    /// Hands an answer to whoever asked; gives back what is no answer.
    fn answer(&mut self, report: Report) -> Option<Report> {
        let answers_listing = match &report {
            Report::Workspaces { .. } => true,
            Report::Kept { order, .. } => order == "list-workspaces",
            Report::Deleted { .. } => false,
            _ => return Some(report),
        };
        let asked = if answers_listing { self.listings.pop_front() } else { self.deletion.take() };
        match asked {
            Some(answer) => drop(answer.send(report)),
            None => tracing::warn!("the warden answered what nobody asked"),
        }
        None
    }
}

fn news(report: Report, fd: Option<OwnedFd>) -> Option<(SessionId, CellNews)> {
    match (report, fd) {
        (Report::Launched { session }, Some(terminal)) => Some((session, CellNews::Launched(terminal))),
        (Report::Launched { session }, None) => {
            tracing::error!(%session, "warden reported a cell without its terminal");
            Some((session, CellNews::Refused))
        }
        (Report::Refused { session, reason }, _) => {
            tracing::error!(?session, reason, "warden refused an order");
            session.map(|session| (session, CellNews::Refused))
        }
        (Report::Exited { session, status }, _) => Some((session, CellNews::Exited(status))),
        (Report::Denied { session, denied }, _) => Some((session, CellNews::Denied(denied))),
        (Report::Reaped { session, reason, leftovers }, _) => {
            if !leftovers.is_empty() {
                tracing::error!(%session, ?leftovers, "warden could not remove all of a cell");
            }
            Some((session, CellNews::Reaped(reason_of(reason))))
        }
        (Report::Adopted { session }, _) => Some((session, CellNews::Adopted)),
        (
            Report::Ready { .. }
            | Report::Orphan { .. }
            | Report::Gone { .. }
            | Report::Workspaces { .. }
            | Report::Deleted { .. }
            | Report::Kept { .. },
            _,
        ) => None,
    }
}

/// A `SOCK_SEQPACKET` socket that can be waited for.
struct Socket(Descriptor);

impl Socket {
    fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(Descriptor::new(socket)?))
    }

    async fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.0.writable().await?;
            match sendmsg(self.0.get_ref(), &[IoSlice::new(packet)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next packet and the descriptor that came with it; `None` when the warden has hung up. Cancelled, it has taken none.
    async fn receive(&self) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut packet = vec![0; PACKET_BYTES_MAX];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            match recvmsg(self.0.get_ref(), &mut [IoSliceMut::new(&mut packet)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                // `CTRUNC` alone says that no descriptor was left for the terminal, which then is missing: one session's loss, not the warden's.
                Ok(received) if received.flags.contains(ReturnFlags::TRUNC) => {
                    return Err(io::Error::other("a packet of the warden was longer than any may be"));
                }
                Ok(received) if received.bytes == 0 => return Ok(None),
                Ok(received) => {
                    packet.truncate(received.bytes);
                    let fd = ancillary.drain().find_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                        _ => None,
                    });
                    return Ok(Some((packet, fd)));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
