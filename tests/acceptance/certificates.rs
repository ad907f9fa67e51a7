//! Who does not get in, and who goes out again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use sulku_stage::{Daemon, Options, Person, Stage};
use sulku_tests::{SOON, closed, session_of, shared};

/// IA-05, LG-01: each refusal is an entry, on each transport, and the peer learns what to do.
pub fn each_refused_certificate_is_an_entry() -> anyhow::Result<()> {
    let stage = shared()?;
    let cases = [
        (Person::Stranger, "certificate.refused", "certificate-unknown-issuer"),
        (Person::Forged, "certificate.refused", "certificate-unknown-issuer"),
        (Person::Expired, "certificate.refused", "certificate-expired"),
        (Person::Revoked, "certificate.refused", "certificate-revoked"),
        (Person::Unlisted, "session.refused", "not-a-holder"),
    ];
    for (person, event, code) in cases {
        for transport in ["quic", "tls"] {
            let session = stage.connect(person, &["--transport", transport, "--", "echo", "inside"])?;
            ensure!(session.code() == Some(3) && session.out.is_empty() && !session.err.is_empty(), "{person:?} over {transport}: {session:?}");
            let hers = |entry: &sulku_stage::Entry| event == "session.refused" || entry.data("serial") == &*person.serial();
            let is_it = |entry: &sulku_stage::Entry| entry.data("code") == code && entry.data("transport") == transport && hers(entry);
            stage.entry(&["--event", event], SOON, is_it).with_context(|| format!("{person:?} over {transport}: no {code}"))?;
        }
    }
    let control = stage.connect(Person::Maija, &["--", "echo", "inside"])?;
    ensure!(control.code() == Some(0) && control.out.trim() == "inside", "{control:?}");
    Ok(())
}

pub fn a_holder_is_no_operator() -> anyhow::Result<()> {
    let stage = shared()?;
    let profile = |person| stage.profile(person).display().to_string();
    let as_maija = stage.run(&["sessions", "list", "--profile", &profile(Person::Maija)])?;
    ensure!(as_maija.code() == Some(3), "{as_maija:?}");
    let as_onni = stage.run(&["sessions", "list", "--profile", &profile(Person::Onni)])?;
    ensure!(as_onni.code() == Some(0), "{as_onni:?}");
    let working = stage.connect(Person::Onni, &["--", "true"])?;
    ensure!(working.code() == Some(3), "an operator is no holder either: {working:?}");
    Ok(())
}

/// SE-05, IA-07
pub fn revocation_cuts_an_open_session_within_one_second() -> anyhow::Result<()> {
    let stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let work = |transport| ["--transport", transport, "--", "sh", "-c", "while sleep 0.1; do echo at work; done"];
    let mut maijas = [stage.connected(Person::Maija, &work("quic"))?, stage.connected(Person::Maija, &work("tls"))?];
    let mut bo = stage.connected(Person::Bo, &work("auto"))?;
    for session in maijas.iter_mut().chain([&mut bo]) {
        session.shows("at work", SOON)?;
    }
    stage.authority().revoke(Person::Maija)?;
    let revoked = Instant::now();
    for maija in maijas {
        let id = session_of(&maija)?;
        let ended = maija.finish(SOON)?;
        let took = revoked.elapsed();
        ensure!(closed(&stage, &id)?.data("reason") == "revoked", "{ended:?}");
        ensure!(took < Duration::from_millis(1_500), "it took {} ms from the list to her prompt", took.as_millis());
    }
    let again = stage.connect(Person::Maija, &["--", "true"])?;
    ensure!(again.code() == Some(3), "{again:?}");
    let lines = bo.out().lines().count();
    std::thread::sleep(Duration::from_millis(400));
    ensure!(bo.out().lines().count() > lines, "the control: Bo works on");
    drop(bo);
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// IA-07: a list that nobody renews is an alarm, then ends what rests on it; a new one puts it right.
pub fn a_list_that_grows_too_old_ends_open_sessions_and_lets_nobody_in() -> anyhow::Result<()> {
    // The stage's lists are made an hour before, so this one has so long to go.
    const LASTS: Duration = Duration::from_secs(25);
    let mut stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let config = stage.folder().join("config/gateway.toml");
    let (text, crl) = (std::fs::read_to_string(&config)?, format!("crl = {:?}\n", stage.authority().revoked()));
    ensure!(text.contains(&crl), "{text}");
    let ages = format!("crl_alarm_after = \"1 h\"\ncrl_refuse_after = \"{} s\"\n", 3_600 + LASTS.as_secs());
    std::fs::write(&config, text.replace(&crl, &format!("{crl}{ages}")))?;
    stage.kill(Daemon::Gateway, Signal::TERM).context("the gateway ends in time")?;
    stage.start(Daemon::Gateway)?;
    stage.entry(&["--event", "crl.stale"], SOON, |entry| entry.data("effect") == "alarm").context("an old list is told of at the start")?;
    let mut maija = stage.connected(Person::Maija, &["--", "sh", "-c", "while sleep 0.2; do echo at work; done"])?;
    maija.shows("at work", SOON).context("the control: an alarm refuses nobody")?;
    let id = session_of(&maija)?;
    maija.finish(LASTS + SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "revocation-unknown");
    let stale = stage.entry(&["--event", "crl.stale"], SOON, |entry| entry.data("effect") == "refused")?;
    for transport in ["quic", "tls"] {
        let refused = stage.connect(Person::Maija, &["--transport", transport, "--", "true"])?;
        ensure!(refused.code() == Some(3) && refused.err.contains("revocation-unknown"), "{refused:?}");
        let is_it = |entry: &sulku_stage::Entry| entry.data("code") == "revocation-unknown" && entry.data("transport") == transport;
        stage.entry(&["--event", "certificate.refused"], SOON, is_it)?;
    }
    stage.authority().revoke(Person::Tiina)?;
    stage.entry(&["--event", "crl.loaded"], SOON, |entry| entry.index() > stale.index())?;
    let again = stage.connect(Person::Maija, &["--", "true"])?;
    ensure!(again.code() == Some(0), "a new list lets her in again: {again:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
