//! The process: from the warden's first task to the end of its socket.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Resource, Rlimit};
use sulku_plan::naming::{Finding, NAMING_VERSION, Task};
use tokio::sync::Semaphore;

use crate::answer::Answering;
use crate::confine::{ConfineError, confine};
use crate::dns;
use crate::sessions::Sessions;
use crate::tls;
use crate::upstream::Upstream;
use crate::warden::{self, Warden, WardenError, Word};

/// Where cells find the resolver.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// For questions, over UDP and TCP.
    pub dns: SocketAddr,
    /// For TLS connections that the router has turned.
    pub tls: SocketAddr,
}

/// A resolver that does not serve any more. It never ends otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The warden.
    #[error("the warden can't be worked with")]
    Warden(#[from] WardenError),
    /// A socket could not be opened.
    #[error("{address} can't be had; the router's net.ipv4.ip_unprivileged_port_start must be 53 or less")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its own walls.
    #[error("the resolver can't be confined")]
    Confine(#[from] ConfineError),
    /// A socket failed, or the runtime.
    #[error("a socket failed")]
    Socket(#[from] io::Error),
}

/// Serves until the warden's socket, standard input, ends.
///
/// # Errors
/// Always: it says what ended.
pub fn run(addresses: Addresses) -> Result<Infallible, RunError> {
    // What one task panics at, the next one would trust. In release builds a panic aborts anyway.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::abort();
    }));
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let (upstream, carries) = warden::first_task(&socket)?;
    let failed = |address| move |source| RunError::Bind { address, source };
    let udp = UdpSocket::bind(addresses.dns).map_err(failed(addresses.dns))?;
    let tcp = TcpListener::bind(addresses.dns).map_err(failed(addresses.dns))?;
    let tls = TcpListener::bind(addresses.tls).map_err(failed(addresses.tls))?;
    rustix::io::ioctl_fionbio(&socket, true).map_err(io::Error::from)?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    tls.set_nonblocking(true)?;
    let room = Arc::new(Semaphore::new(connections_max()?));
    // One thread, and it has its pipes before the walls stand.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let walls = confine(&upstream)?;
    tracing::info!(walls, "the resolver serves");
    runtime.block_on(serve(socket, Upstream::new(upstream, carries), Sockets { udp, tcp, tls, room }))
}

/// What cells speak to.
struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    tls: TcpListener,
    room: Arc<Semaphore>,
}

async fn serve(socket: OwnedFd, upstream: Upstream, Sockets { udp, tcp, tls, room }: Sockets) -> Result<Infallible, RunError> {
    // A socket of packets with a connection reads and writes as one without.
    let socket = tokio::net::UnixDatagram::from_std(socket.into())?;
    let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let tls = tokio::net::TcpListener::from_std(tls)?;
    let (warden, findings) = Warden::new();
    let warden = Arc::new(warden);
    let sessions = Arc::new(Sessions::default());
    let answering = Arc::new(Answering::new(warden.clone(), Arc::new(upstream)));
    // Room for 256 findings, and this is the first.
    let _ = warden.tell(Finding::Ready { version: NAMING_VERSION });
    let carry_out = |task| carry_out(task, &sessions, &warden);
    Err(tokio::select! {
        // The warden first: a session is there before its first packet.
        biased;
        error = warden::tasks(&socket, carry_out) => error.into(),
        error = warden::findings(&socket, findings) => error.into(),
        error = dns::over_udp(udp, sessions.clone(), answering.clone()) => error.into(),
        error = dns::over_tcp(tcp, sessions.clone(), answering.clone()) => error.into(),
        never = tls::serve(tls, sessions.clone(), warden.clone(), room) => match never {},
        never = dns::tell_suppressed(sessions.clone(), answering.clone()) => match never {},
    })
}

/// Takes as many descriptors as the process may have, and says how many TLS connections that is: two each, and some are left for
/// questions.
fn connections_max() -> io::Result<usize> {
    /// With more, one process is not enough.
    const CONNECTIONS_MAX: usize = 8192;
    /// For questions, upstream and what the process has itself.
    const OTHERS: u64 = 1024;
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let descriptors = maximum.unwrap_or(u64::MAX);
    let pairs = descriptors.saturating_sub(OTHERS).max(descriptors / 2) / 2;
    Ok(usize::try_from(pairs).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX))
}

fn carry_out(task: Task, sessions: &Sessions, warden: &Arc<Warden>) -> Result<(), WardenError> {
    match task {
        Task::Serve { .. } => return Err(WardenError::Order),
        Task::Open { session, address, listed } => sessions.open(session, address, listed, Instant::now()),
        Task::Close { session } => {
            if let Some(last) = sessions.close(session) {
                let warden = warden.clone();
                // There is one at most for each session, and nothing of it is left when it has gone out.
                tokio::spawn(async move { warden.tell_patiently(last).await });
            }
        }
        Task::Opened { question } => warden.hear(question, Word::Opened),
        Task::Refused { question } => warden.hear(question, Word::Refused),
    }
    Ok(())
}

/// An error with all that caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
