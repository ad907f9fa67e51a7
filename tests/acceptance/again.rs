//! Sessions whose connections come and go, at real terminals.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use sulku_stage::{Options, PermitFile, Person, Stage, poll};
use sulku_tests::{ABANDONED, AGAIN, AtTerminal, Datagrams, HERE_ALONE, SILENCE, SINGLE, SOON, Wire, closed, session_id, shared};

fn client(stage: &Stage, profile: &Path, args: &[&str]) -> Command {
    let mut command = stage.sulku(&["connect", "--profile"]);
    command.arg(profile).args(args);
    command
}

fn at_terminal(stage: &Stage, profile: &Path, args: &[&str]) -> anyhow::Result<AtTerminal> {
    AtTerminal::start(client(stage, profile, args))
}

/// How many of these events there are of the session.
fn count(stage: &Stage, session: &str, event: &str) -> anyhow::Result<usize> {
    Ok(stage.entries(&["--event", event, "--session", session])?.len())
}

/// SE-02: over a connection that breaks, what runs goes on, and its holder is back by herself.
pub fn a_lost_connection_is_found_again_with_what_ran_in_it() -> anyhow::Result<()> {
    let stage = shared()?;
    let wire = Wire::to(stage.port())?;
    let mut terminal = at_terminal(&stage, &wire.profile(&stage, Person::Tiina)?, &[AGAIN, "--new", "--transport", "tls"])?;
    terminal.shows("with ~d it goes on without you", SOON)?;
    let id = session_id(&terminal.shown())?;
    terminal.types("n=0; while sleep 0.1; do n=$((n+1)); echo tick-$n-; done\r")?;
    terminal.shows("tick-3-", SOON)?;
    wire.cut();
    terminal.shows("connection lost, trying again for 60 s", SOON)?;
    let detached = stage.entry(&["--event", "session.detached", "--session", &id], SOON, |_| true)?;
    ensure!(detached.data("reason") == "connection-lost" && detached.field("person") == "tiina", "{detached:?}");
    let before = terminal.shown().len();
    wire.mend();
    terminal.shows_after(before, "back after", SOON)?;
    // From its beginning, as if nobody had ever been away.
    for tick in ["tick-3-", "tick-10-", "tick-30-"] {
        terminal.shows_after(before, tick, SOON)?;
    }
    let reattached = stage.entry(&["--event", "session.reattached", "--session", &id], SOON, |_| true)?;
    ensure!(reattached.data("transport") == "tls", "{reattached:?}");
    terminal.types("\u{3}")?;
    terminal.types("echo the answer is $((6 * 7)); exit 5\r")?;
    let (status, shown) = terminal.finish(SOON)?;
    ensure!(status.code() == Some(5) && shown.contains("the answer is 42"), "{status}: {shown}");
    ensure!(count(&stage, &id, "session.opened")? == 1 && closed(&stage, &id)?.data("reason") == "shell-exited");
    Ok(())
}

/// However often the connection is lost under a paste: each byte arrives once, in order, or its loss is said.
pub fn what_is_typed_is_applied_once_however_often_the_connection_is_lost() -> anyhow::Result<()> {
    let stage = shared()?;
    let wire = Wire::to(stage.port())?;
    let mut terminal = at_terminal(&stage, &wire.profile(&stage, Person::Tiina)?, &[AGAIN, "--new", "--transport", "tls"])?;
    terminal.shows("with ~d", SOON)?;
    terminal.types("echo rea''dy; cat > /tmp/typed; wc -c < /tmp/typed; uniq -c /tmp/typed | sort -rn | head -1\r")?;
    terminal.shows("ready", SOON)?;
    let mut typed = 0;
    for round in 0..4 {
        let before = terminal.shown().len();
        let lines = |range: std::ops::Range<u32>| range.map(|line| format!("{round}-{line}\r")).collect::<String>();
        let (first, then) = (lines(0..200), lines(200..300));
        typed += first.len() + then.len();
        // In the middle of it, with some of it on its way.
        terminal.types(&first)?;
        terminal.shows_after(before, &format!("{round}-20"), SOON)?;
        wire.cut();
        terminal.types(&then)?;
        terminal.shows_after(before, "connection lost", SOON)?;
        wire.mend();
        terminal.shows_after(before, "back after", SOON)?;
    }
    terminal.types("\r\u{4}")?;
    let heard = |shown: &str| shown.lines().rev().find_map(|line| line.trim().parse::<usize>().ok());
    let arrived = poll(SOON, || heard(&terminal.shown())).with_context(|| terminal.shown())?;
    let lost =
        |line: &str| line.split_once(" bytes that you typed meanwhile").and_then(|(before, _)| before.rsplit(' ').next()?.parse::<usize>().ok());
    let dropped: usize = terminal.shown().lines().filter_map(lost).sum();
    ensure!(arrived + dropped == typed + 1, "{arrived} arrived and {dropped} went nowhere of {typed}");
    ensure!(arrived > 200, "what was typed while there was a connection arrived: {arrived} of {typed}");
    terminal.types("exit\r")?;
    let (_, shown) = terminal.finish(SOON)?;
    let most: Vec<_> = shown.lines().filter(|line| line.contains('-') && line.trim_start().starts_with("1 ")).collect();
    ensure!(!most.is_empty(), "no line came twice: {shown}");
    Ok(())
}

pub fn what_is_left_running_is_there_again_and_the_screen_too() -> anyhow::Result<()> {
    let stage = shared()?;
    let profile = stage.profile(Person::Tiina);
    let mut first = at_terminal(&stage, &profile, &[AGAIN, "--new"])?;
    first.shows("with ~d", SOON)?;
    let id = session_id(&first.shown())?;
    first.types("PS1='> '; (sleep 1; echo from the backg''round) & echo before I we''nt\r")?;
    first.shows("before I went", SOON)?;
    first.types("\r~d")?;
    let (status, shown) = first.finish(SOON)?;
    ensure!(status.success() && shown.contains("your session goes on without you"), "{status}: {shown}");
    let own = stage.run(&["sessions", "--json", "--profile", &profile.display().to_string()])?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&own.out).with_context(|| format!("{own:?}"))?;
    let row = rows.iter().find(|row| row["session"] == id.as_str()).with_context(|| format!("{rows:?}"))?;
    ensure!(row["detached_s"].is_number(), "{row:?}");
    let detached = stage.entry(&["--event", "session.detached", "--session", &id], SOON, |_| true)?;
    ensure!(detached.data("reason") == "holder-detached", "{detached:?}");

    let mut second = at_terminal(&stage, &profile, &["--session", &id])?;
    second.shows("taken up again after", SOON)?;
    second.shows("before I went", SOON)?;
    second.shows("from the background", SOON)?;
    second.types("echo and here I am a''gain\r")?;
    second.shows("and here I am again", SOON)?;
    second.types("\r~.")?;
    let (_, shown) = second.finish(SOON)?;
    ensure!(shown.contains("holder-left") && closed(&stage, &id)?.data("reason") == "holder-left", "{shown}");
    // What she saw again was recorded once: the recording plays, and knows of her absence.
    ensure!(count(&stage, &id, "session.reattached")? == 1);
    Ok(())
}

pub fn a_session_is_taken_over_from_a_connection_that_still_stands() -> anyhow::Result<()> {
    let stage = shared()?;
    let profile = stage.profile(Person::Tiina);
    let mut first = at_terminal(&stage, &profile, &[AGAIN, "--new"])?;
    first.shows("with ~d", SOON)?;
    let id = session_id(&first.shown())?;
    first.types("echo I am h''ere\r")?;
    first.shows("I am here", SOON)?;
    let mut second = at_terminal(&stage, &profile, &["--session", &id, "--transport", "tls"])?;
    second.shows("I am here", SOON)?;
    let (status, shown) = first.finish(SOON)?;
    ensure!(status.success() && shown.contains("taken up from elsewhere"), "{status}: {shown}");
    second.types("exit\r")?;
    second.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "shell-exited");
    let detached = stage.entry(&["--event", "session.detached", "--session", &id], SOON, |_| true)?;
    ensure!(detached.data("reason") == "taken-over", "{detached:?}");
    Ok(())
}

/// SE-06: where the permit allows one session, its holder is not shut out by a connection of hers that is gone and not missed yet.
pub fn whoever_may_open_no_more_takes_over_what_she_has() -> anyhow::Result<()> {
    let stage = shared()?;
    let profile = stage.profile(Person::Tiina);
    let mut first = at_terminal(&stage, &profile, &[SINGLE, "--transport", "quic"])?;
    first.shows("with ~d", SOON)?;
    let id = session_id(&first.shown())?;
    first.types("echo I am h''ere\r")?;
    first.shows("I am here", SOON)?;
    first.signal(Signal::KILL);
    first.finish(SOON)?;
    let mut second = at_terminal(&stage, &profile, &[SINGLE])?;
    second.shows("take up which (1-1)?", SOON)?;
    second.types("1\r")?;
    second.shows("I am here", SOON)?;
    ensure!(session_id(second.shown().split("take up which").nth(1).unwrap_or_default())? == id, "{}", second.shown());
    second.types("exit\r")?;
    second.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "shell-exited");
    Ok(())
}

/// IA-01: to another key there is no such session, though it be her own second one; and revocation ends what nobody looks at.
pub fn nobody_but_the_key_that_opened_it_finds_a_session_and_its_revocation_ends_it() -> anyhow::Result<()> {
    let permit = PermitFile::bare(AGAIN, "again", Person::Tiina, "[session]\nfrom_networks = [\"127.0.0.0/8\"]\nmax_per_person = 4\n");
    let stage = Stage::raise(&Options { rows: 100, permits: vec![permit], ..Options::default() })?;
    let profile = stage.profile(Person::Tiina);
    let leave = |profile: &Path, args: &[&str]| -> anyhow::Result<String> {
        // Over TCP, where the kernel says at once that the client is gone.
        let mut terminal = at_terminal(&stage, profile, &[args, &["--transport", "tls"]].concat())?;
        terminal.shows("with ~d", SOON)?;
        let id = session_id(&terminal.shown())?;
        terminal.types("echo he''re\r")?;
        terminal.shows("here", SOON)?;
        terminal.signal(Signal::KILL);
        terminal.finish(SOON)?;
        stage.entry(&["--event", "session.detached", "--session", &id], SOON, |_| true)?;
        Ok(id)
    };
    let id = leave(&profile, &[AGAIN])?;
    // The same person, by another key.
    let name = stage.authority().certify_again(Person::Tiina)?;
    let again = profile.with_file_name("tiina-again.toml");
    let (old, new) = (stage.authority().files_of("tiina"), stage.authority().files_of(&name));
    let text = std::fs::read_to_string(&profile)?;
    let text = text.replace(&old.0.display().to_string(), &new.0.display().to_string());
    std::fs::write(&again, text.replace(&old.1.display().to_string(), &new.1.display().to_string()))?;
    for other in [&again, &stage.profile(Person::Bo)] {
        let refused = stage.run_command(client(&stage, other, &["--session", &id]))?;
        ensure!(refused.code() == Some(3) && refused.err.contains("no-such-session"), "{refused:?}");
        let own = stage.run(&["sessions", "--json", "--profile", &other.display().to_string()])?;
        ensure!(own.code() == Some(0) && own.out.trim() == "[]", "{own:?}");
    }
    let another = leave(&again, &[AGAIN])?;
    ensure!(another != id, "her second key opens a session of its own");
    ensure!(leave(&profile, &[AGAIN])? == id, "the control: by its own key it is found without being named");
    stage.authority().revoke(Person::Tiina)?;
    ensure!(closed(&stage, &id)?.data("reason") == "revoked");
    let rows = stage.run(&["sessions", "--json", "--profile", &again.display().to_string()])?;
    ensure!(rows.out.contains(&another), "the control: what her other key opened goes on: {rows:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// SE-01
pub fn a_session_that_nobody_takes_up_ends() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut terminal = at_terminal(&stage, &stage.profile(Person::Tiina), &[ABANDONED])?;
    terminal.shows("with ~d it goes on without you, for 3 s at most", SOON)?;
    let id = session_id(&terminal.shown())?;
    terminal.types("\r~d")?;
    terminal.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "abandoned");
    let none = poll(Duration::from_secs(5), || stage.cell_processes().is_empty().then_some(()));
    ensure!(none.is_some() || count(&stage, &id, "cell.reaped")? == 1, "its cell runs on");
    Ok(())
}

/// IA-10: a connection over QUIC goes on while its client goes to another network (RFC 9000 section 9), and the ledger knows where it is.
pub fn a_connection_goes_on_from_another_address_that_the_permit_allows() -> anyhow::Result<()> {
    let stage = shared()?;
    let way = Datagrams::to(stage.port())?;
    let mut terminal = at_terminal(&stage, &way.profile(&stage, Person::Tiina)?, &[AGAIN, "--new", "--transport", "quic"])?;
    terminal.shows("with ~d it goes on without you", SOON)?;
    let id = session_id(&terminal.shown())?;
    terminal.types("echo here-$((6 * 7))\r")?;
    terminal.shows("here-42", SOON)?;
    ensure!(count(&stage, &id, "session.moved")? == 0, "control: it has not moved");
    for (number, address) in [(1, "127.0.0.2"), (2, "127.0.0.1")] {
        if number == 1 {
            way.move_away()
        } else {
            way.move_back()
        }
        terminal.types(&format!("echo moved-{number}-$((6 * 7))\r"))?;
        terminal.shows(&format!("moved-{number}-42"), SOON)?;
        let moved = stage.entry(&["--event", "session.moved", "--session", &id], SOON, |entry| entry.data("from") == address)?;
        ensure!(moved.field("person") == "tiina" && moved.field("permit") == AGAIN, "{moved:?}");
    }
    terminal.types("exit\r")?;
    terminal.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "shell-exited");
    ensure!(count(&stage, &id, "session.detached")? == 0, "it was one connection all the time");
    Ok(())
}

/// IA-10: nothing is heard or shown at an address that the permit does not allow; the session waits for its holder elsewhere.
pub fn a_connection_goes_on_from_no_address_that_the_permit_does_not_allow() -> anyhow::Result<()> {
    let stage = shared()?;
    let way = Datagrams::to(stage.port())?;
    let mut terminal = at_terminal(&stage, &way.profile(&stage, Person::Tiina)?, &[HERE_ALONE, "--new", "--transport", "quic"])?;
    terminal.shows("with ~d it goes on without you", SOON)?;
    let id = session_id(&terminal.shown())?;
    terminal.types("echo here-$((6 * 7))\r")?;
    terminal.shows("here-42", SOON)?;
    way.move_away();
    terminal.types("echo moved-$((6 * 7))\r")?;
    let elsewhere = |entry: &sulku_stage::Entry| entry.data("code") == "source-not-allowed" && entry.data("from") == "127.0.0.2";
    let refused = stage.entry(&["--event", "session.refused", "--permit", HERE_ALONE], SOON, elsewhere)?;
    let detached = stage.entry(&["--event", "session.detached", "--session", &id], SOON, |_| true)?;
    ensure!(refused.index() < detached.index() && detached.data("reason") == "connection-lost", "{refused:?} {detached:?}");
    ensure!(poll(SILENCE, || terminal.shown().contains("moved-42").then_some(())).is_none(), "it goes on from another address");
    ensure!(count(&stage, &id, "session.moved")? == 0);
    drop(terminal);
    // The control: it was the address alone. What she typed elsewhere was not done.
    let mut back = at_terminal(&stage, &stage.profile(Person::Tiina), &["--session", &id])?;
    back.shows("here-42", SOON)?;
    back.types("echo back-$((6 * 7)); exit\r")?;
    back.shows("back-42", SOON)?;
    let (_, shown) = back.finish(SOON)?;
    ensure!(!shown.contains("moved-42"), "{shown}");
    ensure!(closed(&stage, &id)?.data("reason") == "shell-exited");
    Ok(())
}
