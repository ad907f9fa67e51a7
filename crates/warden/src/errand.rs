//! Errands: what may take longer than the warden's loop can wait, done by a process of its own.
//!
//! It is a copy of the warden with nothing open but what it is given, and with all the warden's powers. It says once what came of it, and ends.
//! It outlives a warden that is killed, so that nothing is left half done: whoever comes next waits for the lock that it holds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{packet, sys};

/// The longest message; the longest are what a tool says of a broken disk.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// A process that does something, and will say what came of it.
#[derive(Debug)]
pub struct Errand {
    pidfd: OwnedFd,
    channel: OwnedFd,
}

/// Whether what errands bring can be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It is on its way.
    Underway,
    /// It can't, in words for the operator.
    Failed(String),
}

impl Errand {
    /// Sends a process that has these descriptors, and no others of the warden's, to do something.
    ///
    /// # Errors
    /// The kernel starts no process.
    pub fn send<T: Serialize>(keep: &[BorrowedFd<'_>], task: impl FnOnce() -> Result<(T, Vec<OwnedFd>), String>) -> io::Result<Self> {
        let (ours, theirs) = sys::packet_pair()?;
        match sys::clone_into_namespaces(0)? {
            sys::Side::Parent { pidfd, .. } => Ok(Self { pidfd, channel: ours }),
            sys::Side::Child => {
                sys::reset_signals();
                let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
                let own = [input.as_fd(), output.as_fd(), errors.as_fd(), theirs.as_fd()];
                let result = sys::close_all_but(&[&own, keep].concat()).map_err(|error| error.to_string()).and_then(|()| task());
                let (said, descriptors) = match result {
                    Ok((brought, descriptors)) => (serde_json::to_vec(&Ok::<_, String>(brought)), descriptors),
                    Err(words) => (serde_json::to_vec(&Err::<T, _>(words.chars().take(MESSAGE_BYTES_MAX / 8).collect::<String>())), Vec::new()),
                };
                // Nobody hears it whose warden is gone.
                let _unheard = said.map(|said| packet::send(&theirs, &said, &descriptors.iter().map(AsFd::as_fd).collect::<Vec<_>>()));
                sys::exit_now(0)
            }
        }
    }

    /// Readable when it has ended.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What came of it, once it has ended; before that, the errand itself.
    ///
    /// # Errors
    /// It has not ended.
    pub fn end<T: DeserializeOwned>(self) -> Result<Result<(T, Vec<OwnedFd>), String>, Self> {
        if !matches!(sys::end_of(self.pidfd.as_fd()), Ok(Some(_)) | Err(_)) {
            return Err(self);
        }
        let heard = if sys::readable_within(&self.channel, 0).unwrap_or(false) {
            packet::receive(&self.channel, MESSAGE_BYTES_MAX)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        let result = heard.and_then(|(said, descriptors)| {
            let said: Result<T, String> = serde_json::from_slice(&said)?;
            Ok(said.map(|brought| (brought, descriptors)))
        });
        Ok(result.unwrap_or_else(|_| Err("the process that was to do it ended without a word".to_owned())))
    }
}
