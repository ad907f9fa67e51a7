//! What the warden and a cell's first process say to each other, over a packet socket that only these two have.
//!
//! The first process is the warden's own code, but it becomes the cell's: what it says is parsed, bounded, and gives it nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use sulku_plan::order::PACKET_BYTES_MAX;

use super::blueprint::Blueprint;
use crate::cgroup::Motion;
use crate::packet;

/// The longest message; the longest are errors with a path in them.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// The longest blueprint: a command is as long as the gateway's order lets it be, and a permit's mounts and made files take a few KiB.
const BLUEPRINT_BYTES_MAX: usize = PACKET_BYTES_MAX + 32 * 1024;

/// What the cell's first process says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// All walls stand; nothing of the holder's has run. Carries the terminal's master, and where the word is to be written that lets the shell run.
    Ready {
        /// How Landlock is enforced, in words.
        landlock: String,
    },
    /// The shell or the command runs.
    Running,
    /// A step failed; nothing of the holder's has run.
    Failed {
        /// Which step.
        step: String,
        /// Why.
        error: String,
    },
}

/// What the warden says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// Which cell it becomes. Carries a detached mount of the workspace's folder, the cell's network namespace, a detached mount of its image where
    /// its system is one, and the user namespace that knows the workspace's owner alone, where there is one.
    Become(Box<Blueprint>),
    /// Send this signal to the terminal's foreground processes.
    Signal(i32),
    /// Hold all other processes of the cell, or let them go on.
    Move(Motion),
}

/// The word that lets the shell run, once the record is durable.
pub const GO: [u8; 1] = [1];

/// Says something, with descriptors if any are given.
pub fn say<T: Serialize>(socket: impl AsFd, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    packet::send(socket, &serde_json::to_vec(message)?, descriptors)
}

/// Tells a waiting process all at once: each packet would wake it, and have it wait again.
pub fn tell_blueprint(socket: impl AsFd, blueprint: Blueprint, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    say(socket, &Told::Become(Box::new(blueprint)), descriptors)
}

/// Hears one message, waiting for it if the socket waits. The end of the connection is an error.
pub fn hear<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<(T, Vec<OwnedFd>)> {
    hear_at_most(socket, MESSAGE_BYTES_MAX)
}

/// As [`hear`], of a process that waits for its blueprint, which is longer than other messages and carries more.
pub fn hear_blueprint(socket: impl AsFd) -> io::Result<(Told, Vec<OwnedFd>)> {
    hear_at_most(socket, BLUEPRINT_BYTES_MAX)
}

fn hear_at_most<T: DeserializeOwned>(socket: impl AsFd, bytes_max: usize) -> io::Result<(T, Vec<OwnedFd>)> {
    let (packet, descriptors) = packet::receive(socket, bytes_max)?;
    if packet.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((serde_json::from_slice(&packet)?, descriptors)) }
}
