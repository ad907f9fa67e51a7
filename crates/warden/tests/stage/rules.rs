//! The router's rules as tests look at them and change them, and what the ledger says of who changed them.

use std::process::Command;

use sulku_audit::{DriftOutcome, Event};

use super::{Stage, eventually};

/// What stands in the router: its rules, and its elements without their times, in no order.
pub fn standing(stage: &Stage) -> Vec<String> {
    let text = nft(stage, &["--stateless", "list", "ruleset"]);
    let mut words = text.split(|letter: char| letter.is_whitespace() || letter == ',').filter(|word| !word.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "timeout" | "expires" if found.last().is_some_and(|last: &String| last != "flags") => drop(words.next()),
            word => found.push(word.to_owned()),
        }
    }
    found.sort();
    found
}

pub fn nft(stage: &Stage, command: &[&str]) -> String {
    stage.in_router(&[&["/usr/sbin/nft"], command].concat())
}

/// What the entries of changes say: what was changed, by what, and what came of it.
pub fn changes(stage: &Stage) -> Vec<(String, String, DriftOutcome)> {
    stage.ledger.all(|draft| match &draft.event {
        Event::RulesetDrifted { changes, process, program, outcome, .. } => {
            assert!(program.is_some() == process.is_some_and(|process| process > 1), "{draft:?}");
            Some((changes.join(", "), program.clone().unwrap_or_default(), *outcome))
        }
        _ => None,
    })
}

pub fn await_change(stage: &Stage, what: &str, outcome: DriftOutcome) {
    eventually(what, || changes(stage).iter().any(|(said, by, came)| said.contains(what) && by == "nft" && *came == outcome).then_some(()));
}

pub fn signal(stage: &Stage, name: &str) {
    assert!(Command::new("/bin/kill").args([name, &stage.warden.id().to_string()]).status().expect("kill").success());
}
