//! What a sink is. Everything that follows the log goes through this one trait; a new kind of sink is a new implementation of it.
//!
//! A sink hands on what it is given, in order, and says when the receiver has it. It keeps no cursor, decides on no repetition and
//! waits for nothing longer than a deadline of its own: that is [`crate::runner`]'s part.

use std::future::Future;
use std::time::Duration;

/// An entry on its way out.
pub use sulku_audit::ocsf::Exported as Record;

/// A delivery that failed. The same entries are handed over again after a while.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The receiver, or the way to it.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The receiver took longer than it may.
    #[error("{what} took longer than {within:?}")]
    TooSlow {
        /// What was tried.
        what: &'static str,
        /// How long it may take.
        within: Duration,
    },
    /// What is there is not what this sink left.
    #[error("{0}")]
    Foreign(String),
}

impl SinkError {
    /// An error of the operating system's, with what was tried.
    pub(crate) fn io<W: Into<String>>(what: W) -> impl FnOnce(std::io::Error) -> Self + use<W> {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Somewhere that entries are sent on to.
pub trait Sink: Send {
    /// Opens the way to the receiver, again after a failure. `next` is the first entry that the receiver may not have; gives the
    /// first that it does not have, where the sink knows better.
    fn open(&mut self, next: u64) -> impl Future<Output = Result<u64, SinkError>> + Send;

    /// Hands entries over, in order. They are not there for certain before [`Sink::confirm`].
    fn deliver(&mut self, records: &[Record]) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Makes certain that the receiver has all that was handed over.
    fn confirm(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// How long entries may stay unconfirmed.
    fn confirm_every(&self) -> Duration;
}
