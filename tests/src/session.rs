//! A session as its client told of it, and its end as the ledger did.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sulku_stage::{Entry, Running, Stage, poll};

/// The most that an entry may take to be found.
pub const SOON: Duration = Duration::from_secs(12);

/// The session's id in the client's words.
///
/// # Errors
/// There is none.
pub fn session_id(words: &str) -> anyhow::Result<String> {
    let is_id = |word: &&str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    let id = words.lines().filter_map(|line| line.split_once("session ")).filter_map(|(_, rest)| rest.split_whitespace().next()).find(is_id);
    id.map(str::to_owned).with_context(|| format!("the client names no session: {words:?}"))
}

/// The session's id in the words of a client that has shown something: it names the session before, but on another pipe.
///
/// # Errors
/// There is none.
pub fn session_of(client: &Running) -> anyhow::Result<String> {
    poll(SOON, || session_id(&client.err()).ok()).map_or_else(|| session_id(&client.err()), Ok)
}

/// The session's closing entry; and its cell is gone, with nothing left over.
///
/// # Errors
/// One of the two is missing, or something is left.
pub fn closed(stage: &Stage, session: &str) -> anyhow::Result<Entry> {
    let closed = stage.entry(&["--event", "session.closed", "--session", session], SOON, |_| true)?;
    let reaped = stage.entry(&["--event", "cell.reaped", "--session", session], SOON, |_| true)?;
    let left = reaped.data("leftovers").as_array().context("cell.reaped says what is left")?;
    ensure!(left.is_empty(), "the cell left {left:?}");
    Ok(closed)
}
