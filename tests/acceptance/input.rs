//! Files that people write, with mistakes in them: each is named with its place, and nothing starts.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use sulku_stage::{Daemon, Finished, Stage};
use sulku_tests::shared;

fn start(stage: &Stage, daemon: Daemon, config: &Path) -> anyhow::Result<Finished> {
    let (program, role) = match daemon {
        Daemon::Ledger => ("sulkud", "ledger"),
        Daemon::Gateway => ("sulkud", "gateway"),
        Daemon::Warden => ("sulku-warden", "run"),
        Daemon::Courier => ("sulkud", "courier"),
    };
    let mut command = Command::new(stage.programs().join(program));
    command.args([role, "--config"]).arg(config);
    Ok(stage.run_command(command)?)
}

/// A typo in a daemon's settings never means a default.
pub fn an_unknown_key_in_a_daemons_settings_is_an_error_with_its_place() -> anyhow::Result<()> {
    let stage = shared()?;
    for daemon in Daemon::ALL {
        let good = std::fs::read_to_string(stage.folder().join(format!("config/{}.toml", daemon.name())))?;
        let bad = stage.folder().join(format!("config/bad-{}.toml", daemon.name()));
        std::fs::write(&bad, format!("\nlissten = 1\n{good}"))?;
        let refused = start(&stage, *daemon, &bad)?;
        let said = format!("{}{}", refused.out, refused.err);
        ensure!(refused.code() == Some(1), "{refused:?}");
        ensure!(said.contains(&format!("bad-{}.toml:2:1", daemon.name())) && said.contains("lissten"), "{said}");
    }
    Ok(())
}

pub fn a_mistake_in_a_permit_is_named_before_it_is_in_force() -> anyhow::Result<()> {
    let stage = shared()?;
    let policies = stage.folder().join("policies-to-check");
    let folder = policies.join("permits");
    std::fs::create_dir_all(&folder)?;
    let good = std::fs::read_to_string(stage.folder().join("policies/permits/statins-and-dementia.toml"))?;
    let path = policies.display().to_string();
    std::fs::write(folder.join("one.toml"), &good)?;
    let checked = stage.run(&["policy", "check", "--policies", &path])?;
    ensure!(checked.code() == Some(0), "the control: {checked:?}");
    std::fs::write(folder.join("one.toml"), good.replace("idle_disconnect = \"30 min\"", "idle_disconnect = \"never\""))?;
    let line = good.lines().position(|line| line.starts_with("idle_disconnect")).context("the permit has the line")? + 1;
    let checked = stage.run(&["policy", "check", "--policies", &path])?;
    let said = format!("{}{}", checked.out, checked.err);
    ensure!(checked.code() == Some(1) && said.contains(&format!("one.toml:{line}:")), "{said}");
    Ok(())
}

/// The samples in config/ and policies/ are what people start from: they parse, and they fit together.
pub fn the_samples_parse_and_fit_together() -> anyhow::Result<()> {
    let stage = shared()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let checked = stage.run(&["policy", "check", "--policies", &root.join("policies").display().to_string()])?;
    ensure!(checked.code() == Some(0), "{checked:?}");
    let value = |daemon: &str, key: &str| -> anyhow::Result<String> {
        let text = std::fs::read_to_string(root.join(format!("config/{daemon}.toml")))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
        let line = line.with_context(|| format!("config/{daemon}.toml has no {key}"))?;
        Ok(line.split('#').next().unwrap_or_default().trim().trim_matches('"').to_owned())
    };
    ensure!(value("gateway", "ledger_socket")? == value("ledger", "socket")?, "the gateway looks for the ledger elsewhere");
    ensure!(value("warden", "ledger_socket")? == value("ledger", "socket")?, "the warden looks for the ledger elsewhere");
    ensure!(value("gateway", "warden_socket")? == value("warden", "socket")?, "the gateway looks for the warden elsewhere");
    ensure!(value("gateway", "policy")? == value("warden", "policy")?, "two stores of the policy");
    ensure!(value("warden", "ledger_origin")? == value("ledger", "origin")?, "two origins");
    ensure!(value("warden", "gateway_uid")? == value("ledger", "gateway_uid")?, "two gateways");
    Ok(())
}
