//! A terminal with `sulku connect` in it, and a way to the gateway that can be cut.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use sulku_stage::{Person, Stage, poll};

/// What a terminal showed that is kept; what is beyond is read and dropped.
const SHOWN_BYTES_MAX: usize = 8 << 20;

/// What has shown nothing new for so many looks shows nothing more: on a busy machine its reader may come to its turn late.
const STILL_LOOKS: u32 = 30;

/// A terminal of 100 by 30 and the program in it.
pub struct AtTerminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Its other end, so that what was shown last is read after the program has ended.
    _other: OwnedFd,
}

impl AtTerminal {
    /// Starts the program with its three streams at a new terminal.
    ///
    /// # Errors
    /// There is no terminal, or it does not start.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let own = openpt(flags)?;
        grantpt(&own)?;
        unlockpt(&own)?;
        let other = ioctl_tiocgptpeer(&own, flags)?;
        tcsetwinsize(&own, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })?;
        command.env("TERM", "xterm").stdin(other.try_clone()?).stdout(other.try_clone()?).stderr(other.try_clone()?).process_group(0);
        let child = command.spawn().context("sulku starts")?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut from, kept) = (File::from(own.try_clone()?), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = SHOWN_BYTES_MAX.saturating_sub(kept.len());
                kept.extend(buffer.iter().take(read.min(room)));
            }
        });
        Ok(Self { child, keys: File::from(own), shown, _other: other })
    }

    /// All that it has shown so far.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until it has shown this, beyond the first `after` bytes.
    ///
    /// # Errors
    /// Not in time.
    pub fn shows_after(&self, after: usize, text: &str, within: Duration) -> anyhow::Result<()> {
        let later = || self.shown().get(after..).map_or_else(String::new, str::to_owned);
        poll(within, || later().contains(text).then_some(())).with_context(|| format!("no {text:?} in {:?}", later()))
    }

    /// Waits until it has shown this.
    ///
    /// # Errors
    /// Not in time.
    pub fn shows(&self, text: &str, within: Duration) -> anyhow::Result<()> {
        self.shows_after(0, text, within)
    }

    /// Types.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn types(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.keys.write_all(text.as_bytes())?)
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // One that has ended hears nothing more.
            let _gone = kill_process(pid, signal);
        }
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn finish(mut self, within: Duration) -> anyhow::Result<(ExitStatus, String)> {
        let ended = poll(within, || self.child.try_wait().ok().flatten());
        let Some(status) = ended else { bail!("it does not end; it showed {:?}", self.shown()) };
        // What it wrote last is on its way to the reader.
        let (mut before, mut looks) = (usize::MAX, 0);
        let still = poll(Duration::from_secs(10), || {
            let now = self.shown().len();
            looks = if std::mem::replace(&mut before, now) == now { looks + 1 } else { 0 };
            (looks >= STILL_LOOKS).then_some(())
        });
        still.context("it shows and shows")?;
        Ok((status, self.shown()))
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ended = self.child.kill();
        }
        let _reaped = self.child.wait();
    }
}

/// A way to the gateway over TCP that can be cut and mended.
pub struct Wire {
    port: u16,
    whole: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// A way to this port of this host.
    ///
    /// # Errors
    /// There is no other port.
    pub fn to(gateway: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (whole, open) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (is_whole, ends) = (Arc::clone(&whole), Arc::clone(&open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if !is_whole.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, gateway))) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                    std::thread::spawn(move || {
                        let _broke = std::io::copy(&mut from, &mut to);
                        let _closed = to.shutdown(Shutdown::Write);
                    });
                }
                ends.lock().unwrap_or_else(PoisonError::into_inner).extend([near, far]);
            }
        });
        Ok(Self { port, whole, open })
    }

    /// Breaks all that is open, and lets nothing through.
    pub fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
        for end in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _gone = end.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }

    /// The person's profile by this way.
    ///
    /// # Errors
    /// Her profile can't be read or another written beside it.
    pub fn profile(&self, stage: &Stage, person: Person) -> anyhow::Result<PathBuf> {
        by_way_of(self.port, stage, person)
    }
}

/// A person's profile in which the gateway stands at another port of this host.
pub(crate) fn by_way_of(port: u16, stage: &Stage, person: Person) -> anyhow::Result<PathBuf> {
    let straight = stage.profile(person);
    let text = std::fs::read_to_string(&straight)?;
    let by = straight.with_file_name(format!("by-way-of-{port}.toml"));
    let gateway = format!(":{}\"", stage.port());
    anyhow::ensure!(text.contains(&gateway), "the profile names the gateway: {text}");
    std::fs::write(&by, text.replace(&gateway, &format!(":{port}\"")))?;
    Ok(by)
}
