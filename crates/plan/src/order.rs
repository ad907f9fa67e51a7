//! The orders that the gateway gives the warden and the reports that come back: a closed set, one JSON text a packet.
//!
//! Packets travel over a unix `SOCK_SEQPACKET` socket; [`Report::Launched`] and [`Report::Orphan`] carry the master side of the cell's
//! terminal as a file descriptor (`SCM_RIGHTS`). One gateway at a time. The first order is [`Order::Hello`]; an order out of phase is refused.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sulku_permit::{PermitId, SessionId};

use crate::Denied;

/// The version of this vocabulary; gateway and warden must agree.
pub const ORDER_VERSION: u32 = 4;
/// The longest packet: a receipt with its entry (65,535 bytes, escaped once more as a JSON string) and a little.
pub const PACKET_BYTES_MAX: usize = 160 * 1024;
/// Workspaces in one answer, so that an operator's client gets it in one frame.
pub const WORKSPACES_MAX: usize = 80;

/// What the gateway may ask of the warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order<R> {
    /// First, and once.
    Hello {
        /// [`ORDER_VERSION`].
        version: u32,
    },
    /// Build the cell of the session that this receipt's entry opens. Everything about it (permit, person, command, end) is read
    /// from the entry, whose receipt the ledger has signed.
    Launch {
        /// The receipt of the `session.opened` entry.
        receipt: R,
        /// The terminal's size.
        size: TerminalSize,
        /// The terminal's kind, as in `TERM`.
        term: String,
    },
    /// Let the cell of a lost gateway go on as this gateway's. Which, is read from the entry, whose receipt the ledger has signed.
    Adopt {
        /// The receipt of the `session.adopted` entry.
        receipt: R,
    },
    /// Send a signal to the foreground processes of the session's terminal.
    Signal {
        /// Which session.
        session: SessionId,
        /// Which signal.
        signal: Signal,
    },
    /// Tell which workspaces there are.
    ListWorkspaces,
    /// Destroy the workspace of a permit that has ended. One at a time.
    DeleteWorkspace {
        /// The permit's id or the workspace's name.
        named: String,
    },
    /// Reap the session's cell now.
    End {
        /// Which session.
        session: SessionId,
        /// Why, for the cell's last entry.
        reason: EndReason,
    },
}

/// Why a cell is reaped; the same words as the closing entry's reasons.
pub type EndReason = String;

/// What the warden tells the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// The answer to [`Order::Hello`].
    Ready {
        /// [`ORDER_VERSION`].
        version: u32,
        /// The isolation rung in force, such as `root`; empty when none is.
        rung: String,
        /// What the host lacks, each with what to install or enable. Not empty means that every launch is refused.
        missing: Vec<String>,
        /// Cells that a lost gateway left: so many [`Report::Orphan`] follow before anything else.
        orphans: u32,
        /// Cells that went while there was no gateway: so many [`Report::Gone`] follow after those.
        gone: u32,
    },
    /// A cell went while there was no gateway to close its session. Told once.
    Gone {
        /// Which session.
        session: SessionId,
        /// When the ledger took its opening entry.
        opened: Timestamp,
        /// That entry's draft as the ledger signed it, as JSON text.
        opening: String,
        /// How many gateways had adopted it.
        adoptions: u32,
        /// Why it went.
        reason: EndReason,
    },
    /// A cell that a lost gateway left stands still, without egress, until it is adopted, ended or reaped. The packet carries the terminal's
    /// master descriptor.
    Orphan {
        /// Which session.
        session: SessionId,
        /// The number of its opening entry.
        entry: u64,
        /// When the ledger took that.
        opened: Timestamp,
        /// That entry's draft as the ledger signed it, as JSON text.
        opening: String,
        /// The terminal's kind, as in `TERM`.
        term: String,
        /// How many gateways have adopted it before.
        adoptions: u32,
    },
    /// The answer to [`Order::Adopt`]: the cell moves, has the egress that it had left, and is this gateway's.
    Adopted {
        /// Which session.
        session: SessionId,
    },
    /// The cell runs. The packet carries the terminal's master descriptor.
    Launched {
        /// Which session.
        session: SessionId,
    },
    /// The order was not carried out, and nothing of it is left.
    Refused {
        /// Which session, where the order named one.
        session: Option<SessionId>,
        /// Why, for the operator.
        reason: String,
    },
    /// The shell or the command has ended. The terminal may still hold output; the cell waits for [`Order::End`].
    Exited {
        /// Which session.
        session: SessionId,
        /// Its exit status; 128 + n when signal n ended it.
        status: i32,
    },
    /// The answer to [`Order::ListWorkspaces`].
    Workspaces {
        /// Those first that somebody has to do something about; at most [`WORKSPACES_MAX`].
        rows: Vec<WorkspaceRow>,
        /// How many there are.
        all: u64,
    },
    /// The answer to [`Order::DeleteWorkspace`]: it is gone, and its certificate is in the ledger.
    Deleted {
        /// Which.
        workspace: String,
        /// Files that it had.
        files: u64,
        /// Bytes that they had.
        bytes: u64,
    },
    /// The other answer to either: it stays, or what is left of it does.
    Kept {
        /// `list-workspaces` or `delete-workspace`.
        order: String,
        /// Why, for the operator.
        reason: String,
    },
    /// Something that the cell tried was denied, for its holder to read. Rationed: the ledger has them all.
    Denied {
        /// Which session.
        session: SessionId,
        /// What.
        denied: Denied,
    },
    /// The cell is gone.
    Reaped {
        /// Which session.
        session: SessionId,
        /// Why: the order's words, or the warden's own where it did not wait for one.
        reason: EndReason,
        /// What could not be removed; empty when all is gone.
        leftovers: Vec<String>,
    },
}

/// One workspace on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRow {
    /// Its name.
    pub workspace: String,
    /// The permit it belongs to.
    pub permit: PermitId,
    /// What may be done with it.
    pub state: WorkspaceState,
    /// When the permit ends.
    pub ends: Timestamp,
    /// Until when the permit keeps it.
    pub kept_until: Timestamp,
}

/// What may be done with a workspace; first that which somebody has to do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceState {
    /// Its permit has ended and its retention is over: it may be destroyed.
    Due,
    /// Its permit has ended: nobody works in it, and it is kept.
    Sealed,
    /// A session is open in it.
    InUse,
    /// A session may be opened in it, as far as the permit is in force.
    Open,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// The signals that a holder may send to what runs in her terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
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

/// A packet that is no order, or no report.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// Longer than [`PACKET_BYTES_MAX`].
    #[error("a packet of {0} bytes is longer than {PACKET_BYTES_MAX}")]
    TooLong(usize),
    /// Not of the vocabulary.
    #[error("the packet is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A packet's bytes.
///
/// # Errors
/// [`PacketError::TooLong`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, PacketError> {
    let packet = serde_json::to_vec(message)?;
    if packet.len() > PACKET_BYTES_MAX { Err(PacketError::TooLong(packet.len())) } else { Ok(packet) }
}

/// The message in a packet.
///
/// # Errors
/// The packet is too long or not of the vocabulary.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, PacketError> {
    if packet.len() > PACKET_BYTES_MAX { Err(PacketError::TooLong(packet.len())) } else { Ok(serde_json::from_slice(packet)?) }
}
