//! Programs run with an end: every wait has a deadline and hears Ctrl-C, every output is bounded.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::StageError;

/// Between two looks at whether something has happened.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Output of a program that is kept; what is beyond is read and dropped.
const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// Whether the person at the terminal wants it to end.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Nobody interrupts.
    #[must_use]
    pub fn never() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Ctrl-C, a hang-up and SIGTERM interrupt; a second Ctrl-C does no more than the first, so that the cleaning up is left whole.
    ///
    /// # Errors
    /// The handlers can't be set.
    pub fn on_signals() -> Result<Self, StageError> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(StageError::system("setting a signal's handler"))?;
        }
        Ok(Self(flag))
    }

    /// # Errors
    /// [`StageError::Interrupted`].
    pub fn check(&self) -> Result<(), StageError> {
        if self.0.load(Ordering::Relaxed) { Err(StageError::Interrupted) } else { Ok(()) }
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    /// Interrupted, too late, or what `look` reports.
    pub fn until<T>(&self, what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>, StageError>) -> Result<T, StageError> {
        let begun = Instant::now();
        loop {
            self.check()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if begun.elapsed() >= within {
                return Err(StageError::TooLate { what: what.to_owned(), waited: within });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Waits until `look` finds something; `None` after the time given.
pub fn poll<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    Interrupt::never().until("", within, || Ok(look())).ok()
}

/// The program of that name in the system's folders. `PATH` has no say: what root runs is not for the environment to choose.
///
/// # Errors
/// It is in none of them.
pub fn find_in(program: &str, package: &str) -> Result<PathBuf, StageError> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| PathBuf::from(folder).join(program))
        .find(|path| path.exists())
        .ok_or_else(|| StageError::ProgramMissing { program: program.to_owned(), install: format!("apt-get install {package}") })
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it wrote, as text.
    pub out: String,
    /// What it wrote, to the byte.
    pub out_bytes: Vec<u8>,
    /// What it complained of.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    /// Its exit code; `None` when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Both outputs on one line, for a report.
    #[must_use]
    pub fn gist(&self) -> String {
        let text = format!("{} {}", self.out.trim(), self.err.trim());
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(300).collect()
    }
}

/// A program that runs, in a process group of its own, so that the terminal's Ctrl-C reaches it through us only.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    begun: Instant,
    out: Pipe,
    err: Pipe,
    interrupt: Interrupt,
}

#[derive(Debug)]
struct Pipe {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Pipe {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT_BYTES_MAX.saturating_sub(text.len());
                text.extend(buffer.iter().take(read.min(room)));
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn bytes(&self) -> Vec<u8> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.so_far()
    }
}

impl Running {
    /// Starts a program with all three streams piped.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(mut command: Command, interrupt: &Interrupt) -> Result<Self, StageError> {
        let shown = shown(&command);
        let begun = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(StageError::file("starting a program", command.get_program()))?;
        let out = child.stdout.take().map(Pipe::read);
        let err = child.stderr.take().map(Pipe::read);
        let (Some(out), Some(err)) = (out, err) else { unreachable!("both streams were asked for as pipes") };
        Ok(Self { child, shown, begun, out, err, interrupt: interrupt.clone() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// What it has written so far.
    #[must_use]
    pub fn out(&self) -> String {
        self.out.so_far()
    }

    /// What it has complained of so far.
    #[must_use]
    pub fn err(&self) -> String {
        self.err.so_far()
    }

    /// Its input.
    pub fn input(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// Types a line.
    ///
    /// # Errors
    /// It no longer reads.
    pub fn type_line(&mut self, line: &str) -> Result<(), StageError> {
        let Some(input) = self.child.stdin.as_mut() else { return Ok(()) };
        input.write_all(format!("{line}\n").as_bytes()).and_then(|()| input.flush()).map_err(StageError::system("typing a line"))
    }

    /// Waits until it has written this.
    ///
    /// # Errors
    /// Not in time, or it ended without.
    pub fn shows(&mut self, text: &str, within: Duration) -> Result<(), StageError> {
        let what = format!("{} to show {text:?}", self.shown);
        let interrupt = self.interrupt.clone();
        interrupt.until(&what, within, || {
            if self.out().contains(text) {
                return Ok(Some(()));
            }
            match self.child.try_wait() {
                // What it wrote last may still be on its way to us.
                Ok(Some(_)) if !self.out.whole().contains(text) => {
                    Err(StageError::ProgramFailed { command: self.shown.clone(), said: self.err.whole() })
                }
                Ok(_) => Ok(None),
                Err(source) => Err(StageError::System { what: "waiting for a program", source }),
            }
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits for its end; kills it when the time is over.
    ///
    /// # Errors
    /// Too late or interrupted.
    pub fn finish(mut self, within: Duration) -> Result<Finished, StageError> {
        let interrupt = self.interrupt.clone();
        let what = format!("the end of {}", self.shown);
        let status = interrupt.until(&what, within, || self.child.try_wait().map_err(StageError::system("waiting for a program")));
        match status {
            Ok(status) => {
                let (took, out, err) = (self.begun.elapsed(), self.out.whole(), self.err.whole());
                Ok(Finished { status, took, out, out_bytes: self.out.bytes(), err })
            }
            Err(StageError::TooLate { what, waited }) => {
                let what = format!("{what}; so far it wrote {:?} and {:?}", tail(&self.out(), 400), tail(&self.err(), 400));
                Err(StageError::TooLate { what, waited })
            }
            Err(error) => Err(error),
        }
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_input(mut self, within: Duration) -> Result<Finished, StageError> {
        drop(self.child.stdin.take());
        self.finish(within)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Runs a program to its end without input.
pub(crate) fn run(command: Command, within: Duration, interrupt: &Interrupt) -> Result<Finished, StageError> {
    Running::start(command, interrupt)?.finish_input(within)
}

/// Runs one of the system's tools, which has to succeed.
pub(crate) fn tool(program: &str, package: &str, args: &[&str]) -> Result<String, StageError> {
    const TOOL_TIME: Duration = Duration::from_secs(20);
    let mut command = Command::new(find_in(program, package)?);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    let shown = shown(&command);
    let finished = run(command, TOOL_TIME, &Interrupt::never())?;
    if finished.status.success() { Ok(finished.out) } else { Err(StageError::ProgramFailed { command: shown, said: finished.err }) }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    // A process that is gone already has nothing left to be told.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

pub(crate) fn shown(command: &Command) -> String {
    let name = std::path::Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    let whole = std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    // A program given as an argument has many lines; its beginning tells which it is.
    whole.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect()
}

pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}
