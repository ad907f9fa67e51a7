//! What there is of an environment in which nobody works: processes, control groups, mounts, namespaces, elements and descriptors. Counted before
//! and after.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sulku_stage::{Daemon, Stage, find_in, poll};

use crate::keeper::all;
use crate::verdict::Check;
use crate::vitals::descriptors;

/// What is being taken down is gone within this: a router keeps a flow for some seconds, a gateway a connection that vanished for 45.
const PATIENCE: Duration = Duration::from_secs(90);
/// What does not change for so long is at rest.
const SETTLED: Duration = Duration::from_secs(2);
/// Of these there are more while somebody works.
const SEEN: [&str; 2] = ["processes in cells", ELEMENTS];
const ELEMENTS: &str = "elements with a time-out in the router";
/// Descriptors that come and go in a daemon that does nothing.
const DESCRIPTORS_SLACK: u64 = 8;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rest(BTreeMap<String, u64>);

impl Rest {
    /// Counts now.
    pub fn of(stage: &Stage) -> Self {
        let mut counts = BTreeMap::new();
        let mut count = |what: &str, number: u64| counts.insert(what.to_owned(), number);
        count("processes in cells", stage.cell_processes().len() as u64);
        count("control groups", groups(Path::new("/sys/fs/cgroup"), stage.instance(), 5));
        count("mounts", mounts(stage.folder()));
        if let Some(warden) = stage.pid(Daemon::Warden) {
            let namespaces: Vec<_> = links(warden).into_iter().filter(|(_, to)| to.starts_with("net:[")).map(|(file, _)| file).collect();
            count("network namespaces that the warden holds", namespaces.len() as u64);
            count(ELEMENTS, namespaces.iter().filter_map(|file| elements(file)).max().unwrap_or_default());
        }
        for daemon in all() {
            let open = stage.pid(daemon).and_then(descriptors);
            count(&format!("descriptors of the {}", daemon.name()), open.unwrap_or_default());
        }
        Self(counts)
    }

    /// The most of each, of these and those.
    fn or_more(&mut self, other: &Self) {
        for (what, number) in &other.0 {
            let most = self.0.entry(what.clone()).or_default();
            *most = (*most).max(*number);
        }
    }

    /// Waits until what is made in the background is there, and counts.
    pub fn settled(stage: &Stage) -> Self {
        let mut last = Self::of(stage);
        poll(PATIENCE, || {
            std::thread::sleep(SETTLED);
            let now = Self::of(stage);
            (std::mem::replace(&mut last, now.clone()) == now).then_some(())
        });
        last
    }

    /// Waits until there is no more than there was at first. Gives what there is now, and what is too much of it.
    pub fn again(&self, stage: &Stage) -> (Self, Vec<String>) {
        let mut now = Self::of(stage);
        poll(PATIENCE, || {
            now = Self::of(stage);
            let is_rest = self.surplus(&now).is_empty();
            if !is_rest {
                std::thread::sleep(Duration::from_secs(1));
            }
            is_rest.then_some(())
        });
        let surplus = self.surplus(&now);
        (now, surplus)
    }

    fn surplus(&self, now: &Self) -> Vec<String> {
        let slack = |what: &str| if what.starts_with("descriptors") { DESCRIPTORS_SLACK } else { 0 };
        let more = now.0.iter().filter_map(|(what, now)| {
            let before = self.0.get(what).copied().unwrap_or_default();
            (*now > before + slack(what)).then(|| format!("{what}: {now}, and {before} before"))
        });
        more.collect()
    }
}

/// The most that there ever was, counted now and then while holders work: what was never there could not be missed.
#[derive(Debug, Default)]
pub struct Most(Rest);

impl Most {
    /// Counts now.
    pub fn look(&mut self, stage: &Stage) {
        self.0.or_more(&Rest::of(stage));
    }

    /// Nothing is left, and there was something.
    pub fn check(&self, before: &Rest, after: &Rest, surplus: Vec<String>) -> Check {
        let of = |rest: &Rest, what: &str| rest.0.get(what).copied().unwrap_or_default();
        let line = |(what, now): (&String, &u64)| format!("{what}: {} before, {} at most, {now} after", of(before, what), of(&self.0, what));
        let mut wrong = surplus;
        wrong.extend(SEEN.iter().filter(|what| of(&self.0, what) <= of(before, what)).map(|what| format!("of {what} there never were any more")));
        Check { what: "nothing is left of any session", figures: after.0.iter().map(line).collect::<Vec<_>>().join("; "), wrong }
    }
}

fn groups(folder: &Path, instance: &str, depth: u32) -> u64 {
    let mut found = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_string_lossy().contains(instance) {
            found += below(&entry.path());
        } else if depth > 1 {
            found += groups(&entry.path(), instance, depth - 1);
        }
    }
    found
}

fn below(folder: &Path) -> u64 {
    let folders = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    1 + folders.map(|entry| below(&entry.path())).sum::<u64>()
}

fn mounts(folder: &Path) -> u64 {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter(|line| line.contains(&*folder.to_string_lossy())).count() as u64
}

/// The process's descriptors, and what each is.
fn links(pid: u32) -> Vec<(PathBuf, String)> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter_map(|file| fs::read_link(&file).ok().map(|to| (file, to.to_string_lossy().into_owned()))).collect()
}

/// The elements of a network's rules that end by themselves: what sessions may reach.
fn elements(namespace: &Path) -> Option<u64> {
    let mut command = Command::new(find_in("nsenter", "util-linux").ok()?);
    command.arg(format!("--net={}", namespace.display())).arg(find_in("nft", "nftables").ok()?).args(["list", "ruleset"]);
    let listed = command.output().ok()?;
    Some(String::from_utf8_lossy(&listed.stdout).matches(" expires ").count() as u64)
}
