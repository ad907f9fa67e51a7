//! A warden that plays cells: it answers the gateway's orders as the real one does, with terminals that show a line now and then, or nothing,
//! and have nothing behind them. It builds no cell, checks no receipt and is of no use for anything but load.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, listen, recvmsg, sendmsg, socket_with, socketpair,
};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::Value;
use sulku_permit::SessionId;
use sulku_plan::order::{self, ORDER_VERSION, Order, PACKET_BYTES_MAX, Report};

/// A cell that shows something shows a line so often.
const SHOWS_EVERY: Duration = Duration::from_secs(2);

/// What the cells show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// A line every two seconds.
    Lines,
    /// Nothing. What stands for a terminal is a socket, of which there may be more than the kernel has terminals.
    Nothing,
}

/// The warden, until it is dropped.
pub struct Warden {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

struct Cell {
    terminal: OwnedFd,
    next: Option<Instant>,
}

impl Warden {
    /// Waits for a gateway at this socket.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn at(path: &Path, shows: Shows) -> anyhow::Result<Self> {
        std::fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, 1)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let gateway = accept_with(&socket, SocketFlags::CLOEXEC)?;
            let served = serve(&gateway, shows, &stopped);
            if let Err(error) = &served {
                eprintln!("the played warden ends: {error:#}");
            }
            served
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn serve(gateway: &OwnedFd, shows: Shows, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut cells: BTreeMap<SessionId, Cell> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let wait = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        if poll(&mut [PollFd::new(gateway, PollFlags::IN)], Some(&wait))? > 0 {
            let mut packet = vec![0; PACKET_BYTES_MAX];
            let received = recvmsg(gateway, &mut [IoSliceMut::new(&mut packet)], &mut RecvAncillaryBuffer::default(), RecvFlags::empty())?;
            if received.bytes == 0 {
                return Ok(());
            }
            obey(gateway, order::decode(&packet[..received.bytes])?, shows, &mut cells)?;
        }
        let now = Instant::now();
        for cell in cells.values_mut().filter(|cell| cell.next.is_some_and(|next| next <= now)) {
            cell.next = Some(now + SHOWS_EVERY);
            // A terminal that nobody reads is full; it shows its next line later.
            let _full = rustix::io::write(&cell.terminal, b"at work\n");
        }
    }
    Ok(())
}

fn obey(gateway: &OwnedFd, order: Order<Value>, shows: Shows, cells: &mut BTreeMap<SessionId, Cell>) -> anyhow::Result<()> {
    match order {
        Order::Hello { .. } => {
            report(gateway, &Report::Ready { version: ORDER_VERSION, rung: "root".to_owned(), missing: Vec::new(), orphans: 0, gone: 0 }, None)
        }
        Order::Launch { receipt, .. } => {
            let draft: Value = serde_json::from_str(receipt["opening"]["draft"].as_str().context("a signed draft")?)?;
            let session: SessionId = serde_json::from_value(draft["session"].clone())?;
            let (master, terminal) = terminal(shows)?;
            // Spread over the time between two lines, by what is random in a session's id.
            let spread = session.to_string().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 2_000;
            let next = (shows == Shows::Lines).then(|| Instant::now() + Duration::from_millis(spread));
            cells.insert(session, Cell { terminal, next });
            report(gateway, &Report::Launched { session }, Some(&master))
        }
        Order::End { session, reason } => {
            cells.remove(&session);
            report(gateway, &Report::Reaped { session, reason, leftovers: Vec::new() }, None)
        }
        Order::Adopt { .. } => bail!("a played warden leaves no cells"),
        Order::Signal { .. } => Ok(()),
        Order::ListWorkspaces | Order::DeleteWorkspace { .. } => bail!("nobody asks a played warden about workspaces"),
    }
}

/// The gateway's end, and the cell's.
fn terminal(shows: Shows) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    if shows == Shows::Nothing {
        return Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?);
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let terminal = ioctl_tiocgptpeer(&master, flags)?;
    rustix::io::ioctl_fionbio(&terminal, true)?;
    Ok((master, terminal))
}

fn report(gateway: &OwnedFd, report: &Report, master: Option<&OwnedFd>) -> anyhow::Result<()> {
    let packet = order::encode(report)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = master.map(AsFd::as_fd).into_iter().collect();
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        bail!("no room for a terminal");
    }
    sendmsg(gateway, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
