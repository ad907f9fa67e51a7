//! The frames, one enum for each direction.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sulku_permit::{HolderId, PermitId, RefusalCode, SessionId};

use crate::codec::{FrameError, json, json_payload};

/// A set of frames that travels in one direction.
pub trait Message: Sized {
    /// The frame's kind and payload.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]: the payload is beyond the bound.
    fn to_parts(&self) -> Result<(u8, Cow<'_, [u8]>), FrameError>;

    /// The frame of that kind and payload.
    ///
    /// # Errors
    /// The kind is unknown or the payload is not of its kind.
    fn from_parts(kind: u8, payload: &[u8]) -> Result<Self, FrameError>;
}

/// From the client to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// First, and once: who speaks and what for.
    Hello(HelloFrame),
    /// What the holder typed.
    Input(Vec<u8>),
    /// The holder's terminal has another size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Send a signal to what runs in the foreground.
    Signal(Signal),
    /// This many more bytes of output have been shown.
    Shown(u32),
    /// The holder leaves: her session ends.
    Leave,
    /// The holder leaves her session open and takes it up later. Only where [`WelcomeFrame::stays_s`] says that it stays.
    Detach,
}

/// From the gateway to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// The session is open.
    Welcome(WelcomeFrame),
    /// It is not, and this is what to do.
    Refused(RefusedFrame),
    /// What the terminal shows; recorded before it is sent.
    Output(Vec<u8>),
    /// The session is closed; nothing follows.
    Closed(ClosedFrame),
    /// The open sessions, to an operator.
    Sessions(Vec<SessionRow>),
    /// The workspaces, to an operator.
    Workspaces(WorkspacesFrame),
    /// A workspace is destroyed, and its certificate in the ledger; nothing follows.
    Deleted(DeletedFrame),
    /// What an operator asked for is done; nothing follows.
    Done,
    /// This many more bytes of input have been taken by the terminal.
    Taken(u32),
    /// Something that the holder should know while her session goes on.
    Notice(NoticeFrame),
    /// What the holder's own sessions were denied, the newest last; nothing follows.
    Denials(Vec<DenialRow>),
    /// The session goes on without this connection; nothing follows.
    Detached(DetachedFrame),
}

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelloFrame {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The client's name and version, for the record.
    pub client: String,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Purpose {
    /// A session in the workspace of a permit.
    Connect {
        /// The permit; needed by a holder of several.
        permit: Option<PermitId>,
        /// A command instead of a shell.
        command: Option<Vec<String>>,
        /// The terminal's kind, as in `TERM`.
        term: String,
        /// The terminal's columns.
        columns: u16,
        /// The terminal's rows.
        rows: u16,
        /// What becomes of the session when the connection is lost.
        #[serde(default, skip_serializing_if = "Stay::is_ending")]
        stay: Stay,
    },
    /// A holder wants to see what her own sessions were denied of late.
    Why,
    /// A holder takes her own open session up again, with the key that opened it. Whoever is connected to it is let go.
    TakeUp {
        /// Which.
        session: SessionId,
        /// The terminal's columns.
        columns: u16,
        /// The terminal's rows.
        rows: u16,
    },
    /// A holder wants to see her own open sessions: those that this key opened.
    ListOwn,
    /// An operator wants to see the open sessions.
    ListSessions,
    /// An operator wants to see the workspaces.
    ListWorkspaces,
    /// An operator destroys the workspace of a permit that has ended.
    DeleteWorkspace {
        /// The permit's id or the workspace's name.
        named: String,
    },
    /// An operator ends a session.
    EndSession {
        /// Which.
        session: SessionId,
    },
}

/// What becomes of a session when its connection is lost, and whether one that stayed is taken up instead of a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stay {
    /// It ends with its connection: what its client shows is not a screen that could be drawn anew.
    #[default]
    Ends,
    /// It stays, as far as the permit lets it; and it is a new one.
    Stays,
    /// It stays; and where one of hers under this permit is detached, that one is taken up.
    TakesUp,
}

impl Stay {
    /// Whether it is [`Stay::Ends`], which a client of before does not write.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        *self == Self::Ends
    }
}

/// The session is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WelcomeFrame {
    /// Its id.
    pub session: SessionId,
    /// The permit.
    pub permit: PermitId,
    /// The permit's title.
    pub title: String,
    /// The holder, as the permit calls her.
    pub person: HolderId,
    /// The workspace's name.
    pub workspace: String,
    /// When the session ends at the latest.
    pub ends: Timestamp,
    /// What is recorded, in words.
    pub recording: String,
    /// What is off, in words.
    pub off: Vec<String>,
    /// Credit for output, in bytes.
    pub credit: u32,
    /// For how many seconds it stays open without a connection. Left out: it ends with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays_s: Option<u64>,
    /// It was open before, and is taken up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<ResumedFrame>,
}

/// Where a session stands that is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumedFrame {
    /// Bytes of input that the session has received so far, over all its connections. A client that has sent more sends what is beyond again.
    pub typed: u64,
    /// How many of them its terminal has not taken yet; they count against the credit for input, and are reported once they are.
    pub waiting: u32,
    /// The first so many bytes of output are what was shown last, to draw the screen from.
    pub replay: u32,
    /// For how long nobody was connected, in milliseconds.
    pub detached_ms: u64,
    /// How many gateways had the session before this one. Another number than before says that what is counted is counted anew: this one
    /// knows nothing of what was typed before it had the session, and nothing of that is to be sent again.
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u32,
}

/// Most sessions have one gateway all their time.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_first(part: &u32) -> bool {
    *part == 0
}

/// The session goes on without this connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachedFrame {
    /// When it ends at the latest if nobody takes it up.
    pub until: Timestamp,
    /// What happened, in words.
    pub message: String,
}

/// The session does not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedFrame {
    /// The reason's stable name.
    pub code: RefusalCode,
    /// What to do.
    pub advice: String,
    /// The permits to choose from, where that is the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<PermitId>,
    /// The sessions to choose from, where that is the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionRow>,
}

impl RefusedFrame {
    /// A refusal with its code's own advice.
    #[must_use]
    pub fn plain(code: RefusalCode) -> Self {
        Self { code, advice: code.advice().to_owned(), choices: Vec::new(), sessions: Vec::new() }
    }
}

/// Something that the holder should know while her session goes on. Not part of the terminal's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeFrame {
    /// What happened.
    pub kind: NoticeKind,
    /// In words, for the holder.
    pub text: String,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// The session waits for the ledger: nothing is shown, and nothing that is typed is taken.
    Frozen,
    /// It goes on.
    Resumed,
    /// It ends soon; the text says when and why.
    Ending,
    /// Something in the workspace was denied; the text says what, why, and whom to ask.
    Denied,
}

/// Something that one of the holder's own sessions was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenialRow {
    /// When.
    pub at: Timestamp,
    /// Which session.
    pub session: SessionId,
    /// Under which permit.
    pub permit: PermitId,
    /// What, why, and whom to ask, in words.
    pub text: String,
}

/// The session is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedFrame {
    /// Why: the same stable name as in the ledger's `session.closed`.
    pub reason: String,
    /// In words, for the holder.
    pub message: String,
    /// The exit status of shell or command, if it ended by itself; 128 + n when signal n ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
}

/// One open session, as an operator sees it, or its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// The permit.
    pub permit: PermitId,
    /// The holder.
    pub person: HolderId,
    /// Where she is.
    pub from: String,
    /// `tls` or `quic`.
    pub transport: String,
    /// Since when.
    pub opened: Timestamp,
    /// Until when at the latest.
    pub ends: Timestamp,
    /// Seconds since she last typed.
    pub idle_s: u64,
    /// Bytes shown.
    pub bytes_out: u64,
    /// Seconds since nobody is connected to it. Left out: somebody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached_s: Option<u64>,
}

/// The workspaces on the host, as an operator sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspacesFrame {
    /// Those first that somebody has to do something about.
    pub rows: Vec<WorkspaceRow>,
    /// How many there are.
    pub all: u64,
}

/// One workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRow {
    /// Its name.
    pub workspace: String,
    /// Its permit.
    pub permit: PermitId,
    /// `due`, `sealed`, `in-use` or `open`.
    pub state: String,
    /// When the permit ends.
    pub ends: Timestamp,
    /// Until when the permit keeps it.
    pub kept_until: Timestamp,
}

/// A workspace is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletedFrame {
    /// Its name.
    pub workspace: String,
    /// Files that it had.
    pub files: u64,
    /// Bytes that they had.
    pub bytes: u64,
}

/// A signal for what runs in the foreground; the byte on the wire is its place in [`Signal::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "signal(7) says what each is")]
pub enum Signal {
    Hup,
    Int,
    Quit,
    Term,
    Usr1,
    Usr2,
    Tstp,
    Cont,
}

impl Signal {
    /// All signals, in the order of their bytes.
    pub const ALL: &[Self] = &[Self::Hup, Self::Int, Self::Quit, Self::Term, Self::Usr1, Self::Usr2, Self::Tstp, Self::Cont];
}

const HELLO: u8 = 0x01;
const INPUT: u8 = 0x02;
const RESIZE: u8 = 0x03;
const SIGNAL: u8 = 0x04;
const SHOWN: u8 = 0x05;
const LEAVE: u8 = 0x06;
const DETACH: u8 = 0x07;
const WELCOME: u8 = 0x81;
const REFUSED: u8 = 0x82;
const OUTPUT: u8 = 0x83;
const CLOSED: u8 = 0x84;
const SESSIONS: u8 = 0x85;
const DONE: u8 = 0x86;
const TAKEN: u8 = 0x87;
const NOTICE: u8 = 0x88;
const WORKSPACES: u8 = 0x89;
const DELETED: u8 = 0x8a;
const DENIALS: u8 = 0x90;
const DETACHED: u8 = 0x8b;

impl Message for Ask {
    fn to_parts(&self) -> Result<(u8, Cow<'_, [u8]>), FrameError> {
        Ok(match self {
            Self::Hello(hello) => (HELLO, json_payload(hello)?.into()),
            Self::Input(bytes) => (INPUT, bytes.into()),
            Self::Resize { columns, rows } => (RESIZE, [columns.to_be_bytes(), rows.to_be_bytes()].concat().into()),
            Self::Signal(signal) => {
                let byte = Signal::ALL.iter().position(|known| known == signal).and_then(|place| u8::try_from(place).ok());
                (SIGNAL, vec![byte.expect("ALL has every signal, and fewer than 256")].into())
            }
            Self::Shown(bytes) => (SHOWN, bytes.to_be_bytes().to_vec().into()),
            Self::Leave => (LEAVE, Cow::default()),
            Self::Detach => (DETACH, Cow::default()),
        })
    }

    fn from_parts(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        let wrong = FrameError::Payload { kind };
        match (kind, payload) {
            (HELLO, payload) => Ok(Self::Hello(json(kind, payload)?)),
            (INPUT, []) => Err(wrong),
            (INPUT, payload) => Ok(Self::Input(payload.to_vec())),
            (RESIZE, &[a, b, c, d]) => match (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])) {
                (0, _) | (_, 0) => Err(wrong),
                (columns, rows) => Ok(Self::Resize { columns, rows }),
            },
            (SIGNAL, &[place]) => Signal::ALL.get(usize::from(place)).map(|signal| Self::Signal(*signal)).ok_or(wrong),
            (SHOWN, &[a, b, c, d]) => Ok(Self::Shown(u32::from_be_bytes([a, b, c, d]))),
            (LEAVE, []) => Ok(Self::Leave),
            (DETACH, []) => Ok(Self::Detach),
            (RESIZE | SIGNAL | SHOWN | LEAVE | DETACH, _) => Err(wrong),
            _ => Err(FrameError::Kind { kind }),
        }
    }
}

impl Message for Tell {
    fn to_parts(&self) -> Result<(u8, Cow<'_, [u8]>), FrameError> {
        Ok(match self {
            Self::Welcome(welcome) => (WELCOME, json_payload(welcome)?.into()),
            Self::Refused(refused) => (REFUSED, json_payload(refused)?.into()),
            Self::Output(bytes) => (OUTPUT, bytes.into()),
            Self::Closed(closed) => (CLOSED, json_payload(closed)?.into()),
            Self::Sessions(rows) => (SESSIONS, json_payload(rows)?.into()),
            Self::Workspaces(workspaces) => (WORKSPACES, json_payload(workspaces)?.into()),
            Self::Deleted(deleted) => (DELETED, json_payload(deleted)?.into()),
            Self::Detached(detached) => (DETACHED, json_payload(detached)?.into()),
            Self::Done => (DONE, Cow::default()),
            Self::Taken(bytes) => (TAKEN, bytes.to_be_bytes().to_vec().into()),
            Self::Notice(notice) => (NOTICE, json_payload(notice)?.into()),
            Self::Denials(rows) => (DENIALS, json_payload(rows)?.into()),
        })
    }

    fn from_parts(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        match (kind, payload) {
            (WELCOME, payload) => Ok(Self::Welcome(json(kind, payload)?)),
            (REFUSED, payload) => Ok(Self::Refused(json(kind, payload)?)),
            (OUTPUT, []) => Err(FrameError::Payload { kind }),
            (OUTPUT, payload) => Ok(Self::Output(payload.to_vec())),
            (CLOSED, payload) => Ok(Self::Closed(json(kind, payload)?)),
            (SESSIONS, payload) => Ok(Self::Sessions(json(kind, payload)?)),
            (WORKSPACES, payload) => Ok(Self::Workspaces(json(kind, payload)?)),
            (DELETED, payload) => Ok(Self::Deleted(json(kind, payload)?)),
            (DETACHED, payload) => Ok(Self::Detached(json(kind, payload)?)),
            (DONE, []) => Ok(Self::Done),
            (NOTICE, payload) => Ok(Self::Notice(json(kind, payload)?)),
            (DENIALS, payload) => Ok(Self::Denials(json(kind, payload)?)),
            (TAKEN, &[a, b, c, d]) => Ok(Self::Taken(u32::from_be_bytes([a, b, c, d]))),
            (DONE | TAKEN, _) => Err(FrameError::Payload { kind }),
            _ => Err(FrameError::Kind { kind }),
        }
    }
}
