//! The load client, small: what many sessions were shown is what an auditor replays. No time is asserted.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use sulku_client::{Profile, Transport};
use sulku_load::course::{Course, Seen, walk};
use sulku_load::recorded::{check, replay};
use sulku_permit::PermitId;
use sulku_stage::{Options, PermitFile, Person, Stage};
use tokio::task::{JoinSet, LocalSet};

/// Sessions over each transport, in two permits: one shows what is durable, the other at once within its window.
const SESSIONS_EACH: u32 = 8;
const STRICT: &str = "TEST/strict/2026";
const WINDOWED: &str = "TEST/windowed/2026";

fn permits() -> Vec<PermitFile> {
    let session = "[session]\nfrom_networks = [\"127.0.0.0/8\"]\nmax_per_person = 16\nmax_detached = \"10 min\"\n\n[recording]\n\
                   terminal = \"output-and-input-timing\"\nretention = \"5 y\"\n";
    let own = |id, workspace, durability| PermitFile::bare(id, workspace, Person::Tiina, &format!("{session}durability = \"{durability}\"\n"));
    vec![own(STRICT, "strict", "strict"), own(WINDOWED, "windowed", "windowed")]
}

async fn walk_all(stage: &Stage, course: Course) -> anyhow::Result<Vec<Seen>> {
    let profile = Arc::new(Profile::load(&stage.profile(Person::Tiina))?);
    let mut walks = JoinSet::new();
    for number in 0..2 * SESSIONS_EACH {
        let transport = if number % 2 == 0 { Transport::Quic } else { Transport::Tls };
        let permit: PermitId = if number % 4 < 2 { STRICT } else { WINDOWED }.parse().map_err(|_| anyhow::anyhow!("an id"))?;
        let profile = Arc::clone(&profile);
        walks.spawn_local(async move { walk(&profile, transport, &permit, course, number).await.with_context(|| format!("session {number}")) });
    }
    let mut all = Vec::new();
    while let Some(walked) = walks.join_next().await {
        all.push(walked??);
    }
    Ok(all)
}

/// LG-02: also when connections are lost in the middle of a flood, over either transport.
#[test]
fn what_many_sessions_were_shown_is_what_an_auditor_replays() -> anyhow::Result<()> {
    let stage = Stage::raise(&Options { rows: 10, permits: permits(), ..Options::default() })?;
    let course = Course { commands: 5, flood_lines: 10_000, losses: 2 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = LocalSet::new().block_on(&runtime, walk_all(&stage, course))?;
    ensure!(seen.len() == usize::try_from(2 * SESSIONS_EACH)?);
    for seen in &seen {
        ensure!(seen.parts.len() == 3 && seen.bytes() > 200_000, "{}: {} bytes over {} connections", seen.session, seen.bytes(), seen.parts.len());
        let recorded = replay(&stage, &seen.session)?;
        check(seen, &recorded)?;
        // The control: of another session's recording it is not.
        ensure!(check(seen, &recorded.replacen("answer-", "answer+", 1)).is_err(), "a recording that differs passes");
    }
    let left = stage.close();
    ensure!(left.is_empty(), "something is left: {left:?}");
    Ok(())
}
