//! The end of a workspace: not before its permit's, and never without an entry before and after.

mod stage;

use std::fs;
use std::os::unix::fs::symlink;

use jiff::{SignedDuration, Timestamp};
use stage::{Stage, eventually};
use sulku_audit::Event;
use sulku_plan::order::{Order, Report, WorkspaceState};

fn delete(stage: &Stage, named: &str) -> Report {
    stage.gateway.order(&Order::DeleteWorkspace { named: named.to_owned() });
    stage.gateway.report().0
}

fn kept(stage: &Stage, named: &str) -> String {
    let before = stage.ledger.count("warden.order-refused");
    let Report::Kept { order, reason } = delete(stage, named) else { panic!("{named} was not kept") };
    assert_eq!(order, "delete-workspace");
    eventually("the refusal's entry", || (stage.ledger.count("warden.order-refused") > before).then_some(()));
    reason
}

fn state(stage: &Stage, workspace: &str) -> Option<WorkspaceState> {
    stage.gateway.order(&Order::ListWorkspaces);
    let Report::Workspaces { rows, all } = stage.gateway.report().0 else { panic!("no list") };
    assert_eq!(rows.len() as u64, all);
    rows.iter().find(|row| row.workspace == workspace).map(|row| row.state)
}

/// So that the permit of that file ended so many days ago, and keeps its workspace for one day.
fn end_permit(stage: &Stage, file: &str, days_ago: i64) {
    let ended = (Timestamp::now() - SignedDuration::from_hours(24 * days_ago)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    stage.change_permit(file, "2099-12-31", &ended);
}

/// LC-04: until its permit's end and retention a workspace stays, whoever asks; then it goes, with all that is in it and nothing else.
#[test]
fn a_workspace_outlives_its_permit_by_the_retention_and_goes_with_a_certificate() {
    let mut stage = Stage::new();
    stage.shell("one.toml", "mkdir -p a/b; echo 12345 > a/b/c; ln -s /etc d; ln -s ../../.. a/up; echo x > e");
    stage.shell("two.toml", "echo kept > theirs");
    let (one, two) = (stage.path("workspaces/ws-one"), stage.path("workspaces/ws-two"));
    symlink(&two, one.join("out")).expect("linked");
    assert_eq!((state(&stage, "ws-one"), state(&stage, "ws-none")), (Some(WorkspaceState::Open), None));
    assert!(kept(&stage, "THL/1/2026").contains("in force"));
    assert!(kept(&stage, "ws-none").contains("no permit here"));
    let original = stage.change_permit("one.toml", "[resources]", "[retention]\nworkspace = \"2 d\"\n\n[resources]");
    stage.change_permit("one.toml", "[permit]\n", "[permit]\nsuspended = \"a complaint\"\n");
    assert!(kept(&stage, "ws-one").contains("in force"), "a suspended permit may go on");
    stage.put_permit("one.toml", &original.replace("[resources]", "[retention]\nworkspace = \"2 d\"\n\n[resources]"));
    end_permit(&stage, "one.toml", 1);
    assert_eq!(state(&stage, "ws-one"), Some(WorkspaceState::Sealed));
    assert!(kept(&stage, "ws-one").contains("keeps its workspace until"));
    assert!(one.join("a/b/c").exists(), "control: nothing of it is gone");
    stage.put_permit("one.toml", &original.replace("[resources]", "[retention]\nworkspace = \"2 d\"\n\n[resources]"));
    end_permit(&stage, "one.toml", 3);
    assert_eq!(state(&stage, "ws-one"), Some(WorkspaceState::Due));
    match delete(&stage, "THL/1/2026") {
        Report::Deleted { workspace, files, bytes } => assert_eq!((workspace.as_str(), files, bytes), ("ws-one", 5, 8)),
        other => panic!("not deleted: {other:?}"),
    }
    assert!(!one.exists());
    assert_eq!(fs::read_to_string(two.join("theirs")).expect("another permit's"), "kept\n");
    let of = |name: &str| stage.ledger.entries().iter().position(|draft| draft.event.name() == name).expect("an entry");
    assert!(of("workspace.deletion-begun") < of("workspace.deleted"));
    let (begun, deleted) = (stage.ledger.entries()[of("workspace.deletion-begun")].clone(), stage.ledger.entries()[of("workspace.deleted")].clone());
    assert_eq!((begun.permit.as_ref(), deleted.permit.as_ref().map(ToString::to_string).as_deref()), (deleted.permit.as_ref(), Some("THL/1/2026")));
    match (begun.event, deleted.event) {
        (
            Event::WorkspaceDeletionBegun { sha256: listed, folders: 2, files: 5, bytes: 8, .. },
            Event::WorkspaceDeleted { sha256, folders: 2, .. },
        ) => {
            assert_eq!(listed, sha256);
        }
        other => panic!("{other:?}"),
    }
    assert!(kept(&stage, "ws-one").contains("there is no workspace"));
    assert_eq!((state(&stage, "ws-one"), state(&stage, "ws-two")), (None, Some(WorkspaceState::Open)));
}

/// A warden that dies in between leaves an entry that says so, and the order repeated finishes.
#[test]
fn a_deletion_that_was_interrupted_is_seen_and_finished_by_repeating_it() {
    const FILES: usize = 30_000;
    let mut stage = Stage::new();
    stage.shell("one.toml", "true");
    let folder = stage.path("workspaces/ws-one");
    for number in 0..FILES {
        fs::write(folder.join(format!("{number}")), "x").expect("written");
    }
    end_permit(&stage, "one.toml", 400);
    stage.gateway.order(&Order::DeleteWorkspace { named: "ws-one".to_owned() });
    let files = stage.ledger.entry("its beginning", |draft| match draft.event {
        Event::WorkspaceDeletionBegun { files, .. } => Some(files),
        _ => None,
    });
    stage.warden.kill().expect("killed");
    stage.warden.wait().expect("its end");
    assert_eq!((files, stage.ledger.count("workspace.deleted")), (FILES as u64, 0));
    let left = fs::read_dir(&folder).expect("what is left").count();
    assert!(left > 0, "it was not done");
    stage.await_uplinks_end();
    stage.restart();
    assert_eq!(state(&stage, "ws-one"), Some(WorkspaceState::Due));
    assert!(matches!(delete(&stage, "ws-one"), Report::Deleted { files, .. } if files == left as u64));
    assert_eq!((stage.ledger.count("workspace.deletion-begun"), stage.ledger.count("workspace.deleted"), folder.exists()), (2, 1, false));
}

/// LG-05: what could not be recorded is not destroyed.
#[test]
fn without_a_ledger_nothing_is_destroyed() {
    let mut stage = Stage::new();
    stage.shell("one.toml", "echo here > file");
    end_permit(&stage, "one.toml", 400);
    stage.ledger.be(stage::ledger::Manner::Away);
    eventually("it is refused", || match delete(&stage, "ws-one") {
        Report::Kept { reason, .. } => reason.contains("ledger").then_some(()),
        other => panic!("{other:?}"),
    });
    assert!(stage.path("workspaces/ws-one/file").exists());
    stage.ledger.be(stage::ledger::Manner::Keeping);
    eventually("it is destroyed", || matches!(delete(&stage, "ws-one"), Report::Deleted { .. }).then_some(()));
}
