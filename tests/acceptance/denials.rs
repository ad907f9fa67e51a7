//! What a researcher learns of what she was denied: at once in her terminal, and again when she asks why.

use anyhow::ensure;
use rustix::process::Signal;
use sulku_stage::{Interrupt, MIRROR_NAME, Person, Running, poll};
use sulku_tests::{BY_NAME, SOON, closed, session_id, session_of, shared};

const TRY: &str = "exec 2>/dev/null; exec 3<>/dev/tcp/$0/4711; echo tried; sleep 60";

/// NW-04: the words name what was denied, why, and whom to ask; her own alone, and not as output of her terminal.
pub fn a_researcher_is_told_at_once_what_was_denied_and_why() -> anyhow::Result<()> {
    let stage = shared()?;
    let (mirror, forbidden) = (stage.mirror().address().to_string(), stage.forbidden().address().to_string());
    let session = stage.connected(Person::Maija, &["--", "bash", "-c", TRY, &forbidden])?;
    let told = format!("sulku: {forbidden}:4711 is not on this permit's list (egress-not-listed); ask privacy@demo.sulku.example");
    let notice = poll(SOON, || session.err().contains(&told).then_some(()));
    ensure!(notice.is_some(), "she is not told: {:?}", session.err());
    let id = session_of(&session)?;
    ensure!(!session.out().contains("egress-not-listed"), "it is no output of her terminal: {:?}", session.out());
    let entry = stage.entry(&["--event", "egress.denied", "--session", &id], SOON, |entry| entry.data("destination") == &*forbidden)?;
    ensure!(entry.data("reason") == "egress-not-listed" && entry.data("program").as_str().is_some_and(|path| path.ends_with("bash")), "{entry:?}");
    let asked = |person: Person| {
        let profile = stage.profile(person).display().to_string();
        stage.run(&["why", "--profile", &profile])
    };
    let (hers, his) = (asked(Person::Maija)?, asked(Person::Bo)?);
    ensure!(hers.code() == Some(0) && hers.out.contains(&told["sulku: ".len()..]) && hers.out.contains(&id), "{hers:?}");
    ensure!(his.code() == Some(0) && !his.out.contains(&id), "another holder learns nothing of it: {his:?}");
    session.signal(Signal::TERM);
    session.finish(SOON)?;
    closed(&stage, &id)?;
    let listed = stage.connect(Person::Maija, &["--", "bash", "-c", &format!("exec 3<>/dev/tcp/{mirror}/8080; echo reached")])?;
    ensure!(
        listed.out.contains("reached") && !listed.err.contains("permit's list"),
        "the control: of what is listed she is told nothing: {listed:?}"
    );
    Ok(())
}

/// Who wants no notices has none, and can still ask.
pub fn notices_of_denials_can_be_off() -> anyhow::Result<()> {
    let stage = shared()?;
    let forbidden = stage.forbidden().address().to_string();
    let given = stage.profile(Person::Maija);
    let quiet = given.with_file_name("maija-quiet.toml");
    let text = std::fs::read_to_string(&given)?;
    std::fs::write(&quiet, format!("notices = false\n{text}"))?;
    let script = "exec 3<>/dev/tcp/$0/4712; echo tried";
    let profile = quiet.display().to_string();
    let finished = stage.run(&["connect", sulku_stage::STATINS, "--profile", &profile, "--", "bash", "-c", script, &forbidden])?;
    let id = session_id(&finished.err)?;
    ensure!(finished.out.contains("tried") && !finished.err.contains("permit's list"), "{finished:?}");
    let asked = poll(SOON, || {
        let asked = stage.run(&["why", "--profile", &profile]).ok()?;
        (asked.out.contains(&id) && asked.out.contains(&format!("{forbidden}:4712"))).then_some(())
    });
    ensure!(asked.is_some(), "she can still ask");
    Ok(())
}

/// NW-04: a listed name leads to its host; another is asked of nobody, its holder reads why, and the entry has it.
pub fn a_name_that_is_not_listed_is_asked_of_nobody_and_its_holder_reads_why() -> anyhow::Result<()> {
    const LEAK: &str = "pseudonym-4711.leak.example";
    let stage = shared()?;
    let reach = |name: &str| {
        let script = format!("exec 2>/dev/null; (exec 3<>/dev/tcp/{name}/8080) && echo reached; echo tried; sleep 60");
        let mut command = stage.client(Person::Tiina, Some(BY_NAME));
        command.args(["--", "bash", "-c", &script]);
        let mut session = Running::start(command, &Interrupt::never())?;
        session.shows("tried", SOON)?;
        anyhow::Ok(session)
    };
    let leave = |session: Running| -> anyhow::Result<()> {
        let id = session_of(&session)?;
        session.signal(Signal::TERM);
        session.finish(SOON)?;
        closed(&stage, &id).map(drop)
    };
    let listed = reach(MIRROR_NAME)?;
    ensure!(listed.out().contains("reached"), "the control: the listed name is reached: {:?}", listed.err());
    ensure!(stage.mirror().asked().iter().any(|name| name == MIRROR_NAME), "the control: its server is asked: {:?}", stage.mirror().asked());
    leave(listed)?;
    let leak = reach(LEAK)?;
    let told = poll(SOON, || (leak.err().contains(LEAK) && leak.err().contains("name-not-listed")).then_some(()));
    ensure!(told.is_some() && !leak.out().contains("reached"), "she is not told: {:?} {:?}", leak.out(), leak.err());
    ensure!(!stage.mirror().asked().iter().any(|name| name == LEAK), "it was asked for");
    let entry = stage.entry(&["--event", "name.denied", "--session", &session_of(&leak)?], SOON, |entry| entry.data("name") == LEAK)?;
    ensure!(entry.data("reason") == "not-listed", "{entry:?}");
    leave(leak)
}
