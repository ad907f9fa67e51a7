//! A warden that plays cells: it answers the gateway's orders as the real one does, with terminals that show a line every two seconds and
//! nothing behind them. It builds no cell, checks no receipt and is of no use for anything but load.

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
    accept_with, bind, listen, recvmsg, sendmsg, socket_with,
};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::Value;
use sulku_permit::SessionId;
use sulku_plan::order::{self, ORDER_VERSION, Order, PACKET_BYTES_MAX, Report};

/// Each cell shows a line so often.
const SHOWS_EVERY: Duration = Duration::from_secs(2);

/// The warden, until it is dropped.
pub struct Warden {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

struct Cell {
    terminal: OwnedFd,
    next: Instant,
}

impl Warden {
    /// Waits for a gateway at this socket.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        std::fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, 1)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let gateway = accept_with(&socket, SocketFlags::CLOEXEC)?;
            let served = serve(&gateway, &stopped);
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

fn serve(gateway: &OwnedFd, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut cells: BTreeMap<SessionId, Cell> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let wait = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        if poll(&mut [PollFd::new(gateway, PollFlags::IN)], Some(&wait))? > 0 {
            let mut packet = vec![0; PACKET_BYTES_MAX];
            let received = recvmsg(gateway, &mut [IoSliceMut::new(&mut packet)], &mut RecvAncillaryBuffer::default(), RecvFlags::empty())?;
            if received.bytes == 0 {
                return Ok(());
            }
            obey(gateway, order::decode(&packet[..received.bytes])?, &mut cells)?;
        }
        let now = Instant::now();
        for cell in cells.values_mut().filter(|cell| cell.next <= now) {
            cell.next = now + SHOWS_EVERY;
            // A terminal that nobody reads is full; it shows its next line later.
            let _full = rustix::io::write(&cell.terminal, b"at work\n");
        }
    }
    Ok(())
}

fn obey(gateway: &OwnedFd, order: Order<Value>, cells: &mut BTreeMap<SessionId, Cell>) -> anyhow::Result<()> {
    match order {
        Order::Hello { .. } => report(gateway, &Report::Ready { version: ORDER_VERSION, rung: "root".to_owned(), missing: Vec::new() }, None),
        Order::Launch { receipt, .. } => {
            let draft: Value = serde_json::from_str(receipt["opening"]["draft"].as_str().context("a signed draft")?)?;
            let session: SessionId = serde_json::from_value(draft["session"].clone())?;
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&master)?;
            unlockpt(&master)?;
            let terminal = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&terminal, true)?;
            // Spread over the time between two lines, by what is random in a session's id.
            let spread = session.to_string().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 2_000;
            cells.insert(session, Cell { terminal, next: Instant::now() + Duration::from_millis(spread) });
            report(gateway, &Report::Launched { session }, Some(&master))
        }
        Order::End { session, reason } => {
            cells.remove(&session);
            report(gateway, &Report::Reaped { session, reason, leftovers: Vec::new() }, None)
        }
        Order::Signal { .. } => Ok(()),
        Order::ListWorkspaces | Order::DeleteWorkspace { .. } => bail!("nobody asks a played warden about workspaces"),
    }
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
