//! The demo is what newcomers see first, so it is a test.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use sulku_stage::{Interrupt, Leftover, Running, Stage};
use sulku_tests::shared;

const DEMO_TIME: Duration = Duration::from_secs(150);

pub fn the_demo_meets_every_expectation() -> anyhow::Result<()> {
    let stage = shared()?;
    let demo = Running::start(stage.sulku(&["demo", "--json"]), &Interrupt::never())?;
    let pid = demo.pid();
    let demo = demo.finish_input(DEMO_TIME)?;
    let report: Value = serde_json::from_str(&demo.out).with_context(|| format!("one JSON object: {demo:?}"))?;
    let expectations = report["expectations"].as_array().context("an array of expectations")?;
    let missed: Vec<_> = expectations.iter().filter(|expectation| expectation["met"] != true).collect();
    ensure!(missed.is_empty() && demo.code() == Some(0), "{missed:#?} {}", demo.err);
    ensure!(expectations.len() >= 20 && report["elapsed_s"].is_number(), "{report}");
    ensure!(Leftover::of_process(pid).is_empty(), "{:?}", Leftover::of_process(pid));
    Ok(())
}

/// Without root, without groups, without a capability that could be had back: the same demo, on the rung below.
pub fn the_demo_of_an_ordinary_user_meets_every_expectation() -> anyhow::Result<()> {
    const USER: &str = "64999";
    let stage = shared()?;
    let sulku = stage.programs().join("sulku");
    let mut demo = Command::new("/usr/bin/setpriv");
    demo.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--bounding-set", "-all", "--inh-caps", "-all"]).arg(sulku);
    demo.args(["demo", "--json"]).env("HOME", "/nonexistent").current_dir("/");
    let demo = Running::start(demo, &Interrupt::never())?;
    let pid = demo.pid();
    let demo = demo.finish_input(DEMO_TIME)?;
    let report: Value = serde_json::from_str(&demo.out).with_context(|| format!("one JSON object: {demo:?}"))?;
    let expectations = report["expectations"].as_array().context("an array of expectations")?;
    let missed: Vec<_> = expectations.iter().filter(|expectation| expectation["met"] != true).collect();
    ensure!(missed.is_empty() && demo.code() == Some(0), "{missed:#?} {}", demo.err);
    let on_the_rung = |expectation: &Value| expectation["detail"].as_str().is_some_and(|detail| detail.starts_with("rung rootless,"));
    ensure!(expectations.len() >= 20 && expectations.iter().any(on_the_rung), "{report}");
    ensure!(expectations.iter().any(|expectation| expectation["name"] == "she reaches it by that name"), "{report}");
    ensure!(Leftover::of_process(pid).is_empty(), "{:?}", Leftover::of_process(pid));
    Ok(())
}

pub fn ctrl_c_ends_the_demo_and_leaves_nothing() -> anyhow::Result<()> {
    let stage: std::sync::Arc<Stage> = shared()?;
    let mut demo = Running::start(stage.sulku(&["demo"]), &Interrupt::never())?;
    let pid = demo.pid();
    demo.shows("over QUIC", Duration::from_secs(60))?;
    ensure!(!Leftover::of_process(pid).is_empty(), "the control: there is something to leave");
    demo.signal(Signal::INT);
    let demo = demo.finish(Duration::from_secs(45))?;
    ensure!(demo.code() == Some(1), "{demo:?}");
    ensure!(Leftover::of_process(pid).is_empty(), "{:?}", Leftover::of_process(pid));
    Ok(())
}
