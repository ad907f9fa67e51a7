//! A holder gets in and works.

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use sulku_stage::{Person, STATINS};
use sulku_tests::{IDLE, LONGEST, SINGLE, SOON, closed, session_id, session_of, shared};

/// IA-01, SE-04
pub fn a_holder_works_over_quic_and_over_tls() -> anyhow::Result<()> {
    let stage = shared()?;
    for transport in ["quic", "tls"] {
        let session = stage.connect(Person::Maija, &["--transport", transport, "--", "id", "-un"])?;
        ensure!(session.code() == Some(0) && session.out.trim() == "maija", "{transport}: {session:?}");
        let id = session_id(&session.err)?;
        let opened = stage.entry(&["--event", "session.opened", "--session", &id], SOON, |_| true)?;
        ensure!(opened.data("transport") == transport && opened.field("person") == "maija" && opened.field("permit") == STATINS, "{opened:?}");
        ensure!(opened.data("command")[0] == "id", "the command is in the entry: {opened:?}");
        ensure!(closed(&stage, &id)?.data("reason") == "shell-exited");
    }
    Ok(())
}

pub fn the_client_ends_with_the_commands_status() -> anyhow::Result<()> {
    let stage = shared()?;
    for (command, status) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let session = stage.connect(Person::Maija, &["--", "sh", "-c", command])?;
        ensure!(session.code() == Some(status), "{command}: {session:?}");
    }
    Ok(())
}

pub fn what_is_typed_reaches_the_shell() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut session = stage.connected(Person::Maija, &[])?;
    session.type_line("echo the answer is $((6 * 7))")?;
    session.shows("the answer is 42", SOON)?;
    session.type_line("exit 5")?;
    let session = session.finish(SOON)?;
    ensure!(session.code() == Some(5), "{session:?}");
    Ok(())
}

pub fn text_in_any_script_passes_unharmed() -> anyhow::Result<()> {
    let stage = shared()?;
    let text = "äö Åsa €5 漢字 🦭";
    let session = stage.connect(Person::Maija, &["--", "printf", "%s", text])?;
    ensure!(session.out == text, "{session:?}");
    Ok(())
}

pub fn a_holder_of_several_permits_names_one() -> anyhow::Result<()> {
    let stage = shared()?;
    let unnamed = stage.connect(Person::Tiina, &["--", "true"])?;
    ensure!(unnamed.code() == Some(3) && unnamed.out.is_empty(), "{unnamed:?}");
    ensure!([IDLE, LONGEST, SINGLE].iter().all(|permit| unnamed.err.contains(permit)), "she is told which there are: {unnamed:?}");
    let named = stage.connect(Person::Tiina, &[IDLE, "--", "true"])?;
    ensure!(named.code() == Some(0), "{named:?}");
    let others = stage.connect(Person::Tiina, &[STATINS, "--", "true"])?;
    ensure!(others.code() == Some(3), "somebody else's permit: {others:?}");
    Ok(())
}

/// SE-06
pub fn a_second_session_waits_where_the_permit_allows_one() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut first = stage.connected(Person::Tiina, &[SINGLE, "--", "sh", "-c", "echo here; sleep 60"])?;
    first.shows("here", SOON)?;
    let second = stage.connect(Person::Tiina, &[SINGLE, "--", "true"])?;
    ensure!(second.code() == Some(3), "{second:?}");
    stage.entry(&["--event", "session.refused"], SOON, |entry| entry.data("code") == "too-many-sessions")?;
    let id = session_of(&first)?;
    first.signal(Signal::TERM);
    first.finish(SOON)?;
    closed(&stage, &id)?;
    let after = stage.connect(Person::Tiina, &[SINGLE, "--", "true"])?;
    ensure!(after.code() == Some(0), "the place is free again: {after:?}");
    Ok(())
}

pub fn the_banner_tells_permit_recording_and_end() -> anyhow::Result<()> {
    let stage = shared()?;
    let session = stage.connect(Person::Maija, &["--", "true"])?;
    for words in [STATINS, "recorded", "statins-and-dementia", "until"] {
        ensure!(session.err.contains(words), "{words:?} is missing in {:?}", session.err);
    }
    session_id(&session.err).context("the banner names the session")?;
    Ok(())
}
