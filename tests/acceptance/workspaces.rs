//! The end of a workspace, by an operator.

use anyhow::{Context as _, ensure};
use sulku_stage::{Options, PermitFile, Person, STATINS, Stage};
use sulku_tests::SOON;

/// LC-04: a workspace whose permit and retention are over goes, by an operator's act, with a certificate; no other does.
pub fn an_ended_permits_workspace_is_destroyed_with_a_certificate() -> anyhow::Result<()> {
    const OLD: &str = "TEST/old/2020";
    let old = PermitFile::bare(
        OLD,
        "old",
        Person::Tiina,
        "[session]\nmax_per_person = 1\nfrom_networks = [\"127.0.0.0/8\"]\n\n[retention]\nworkspace = \"30 d\"",
    )
    .with("valid_from = 2026-01-01", "valid_from = 2020-01-01")?
    .with("valid_until = 2090-12-31", "valid_until = 2021-12-31")?;
    let stage = Stage::raise(&Options { rows: 100, permits: vec![old], ..Options::default() })?;
    let left = stage.folder().join("workspaces/old");
    std::fs::create_dir_all(left.join("results"))?;
    std::fs::write(left.join("results/table.csv"), "1,2,3\n")?;
    let worked = stage.connect(Person::Maija, &["--", "sh", "-c", "echo mine > /workspace/mine"])?;
    ensure!(worked.code() == Some(0), "{worked:?}");
    let profile = |person| stage.profile(person).display().to_string();
    let onni = |args: &[&str]| stage.run(&[args, &["--profile", &profile(Person::Onni)]].concat());

    let listed = onni(&["workspace", "list"])?;
    ensure!(listed.out.lines().any(|line| line.contains(OLD) && line.contains("due")), "{listed:?}");
    ensure!(listed.out.lines().any(|line| line.contains(STATINS) && line.contains("open")), "{listed:?}");
    let as_maija = stage.run(&["workspace", "delete", OLD, "--profile", &profile(Person::Maija)])?;
    ensure!(as_maija.code() == Some(3) && left.exists(), "{as_maija:?}");
    let in_force = onni(&["workspace", "delete", STATINS])?;
    ensure!(in_force.code() == Some(3) && in_force.err.contains("in force"), "{in_force:?}");
    let again = stage.connect(Person::Maija, &["--", "cat", "/workspace/mine"])?;
    ensure!(again.out.trim() == "mine", "the control: a permit in force keeps its workspace: {again:?}");

    let deleted = onni(&["workspace", "delete", OLD])?;
    ensure!(deleted.code() == Some(0) && deleted.out.contains("old is destroyed: 1 files"), "{deleted:?}");
    ensure!(!left.exists());
    let acted = stage.entry(&["--event", "operator.acted", "--permit", OLD], SOON, |entry| entry.data("action") == "workspace-deletion-ordered")?;
    ensure!(acted.field("person") == "onni", "{acted:?}");
    let begun = stage.entry(&["--event", "workspace.deletion-begun", "--permit", OLD], SOON, |_| true).context("its beginning")?;
    let certificate = stage.entry(&["--event", "workspace.deleted", "--permit", OLD], SOON, |_| true).context("its certificate")?;
    ensure!(certificate.data("files") == 1 && *certificate.data("sha256") == *begun.data("sha256"), "{certificate:?}");
    let twice = onni(&["workspace", "delete", OLD])?;
    ensure!(twice.code() == Some(3) && twice.err.contains("no workspace"), "{twice:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
