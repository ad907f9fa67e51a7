//! What can keep a stage from standing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the stage can't be raised or used. None of these says anything about the product's walls.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// An ordinary user can't have namespaces of her own here.
    #[error("this user can't make namespaces here, which the stage takes; sulku-warden doctor says why, or run it with sudo")]
    NoNamespaces(#[source] io::Error),
    /// A program is not there.
    #[error("{program} is missing; {install}")]
    ProgramMissing {
        /// Which.
        program: String,
        /// How to get it.
        install: String,
    },
    /// A program said no.
    #[error("{command} failed: {said}")]
    ProgramFailed {
        /// The command line.
        command: String,
        /// What it wrote.
        said: String,
    },
    /// A file or a socket.
    #[error("{what}: {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system refused something that has no file.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A daemon did not get ready.
    #[error("the {daemon} was not ready within {} s; its log:\n{log}", waited.as_secs())]
    NotReady {
        /// Which.
        daemon: &'static str,
        /// How long it had.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// A daemon ended before its time.
    #[error("the {daemon} ended with {status}; its log:\n{log}")]
    Ended {
        /// Which.
        daemon: &'static str,
        /// How.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A permit's file is not what the stage fills in.
    #[error("{file} has no line {line:?} to fill in")]
    PermitLine {
        /// Which file.
        file: &'static str,
        /// What was looked for.
        line: String,
    },
    /// Something that the stage expected did not come in time.
    #[error("nothing within {} s: {what}", waited.as_secs())]
    TooLate {
        /// What was awaited.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The output of one of our own programs is not what it should be.
    #[error("{what}")]
    Unexpected {
        /// What it was.
        what: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl StageError {
    /// Adds what the other daemons said: the cause is often with a neighbour.
    pub(crate) fn with_logs(mut self, others: impl Iterator<Item = (&'static str, String)>) -> Self {
        if let Self::NotReady { log, .. } | Self::Ended { log, .. } = &mut self {
            for (name, other) in others {
                log.push_str(&format!("the {name}'s log:\n{other}"));
            }
        }
        self
    }

    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
