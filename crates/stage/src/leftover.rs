//! A look at the machine for anything that a stage left behind.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::command::tool;
use crate::ground::Ground;
use crate::instance::Instance;

/// Something that should be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its kind, such as `process`.
    pub kind: &'static str,
    /// Which one.
    pub what: String,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.what)
    }
}

impl Leftover {
    /// All that is left of the first stage that the process of this id has raised.
    #[must_use]
    pub fn of_process(pid: u32) -> Vec<Self> {
        let instance = Instance::of(pid, 0, Ground::Machine);
        let prefix = instance.folder_prefix();
        let temporary = std::env::temp_dir();
        let mut folders = fs::read_dir(&temporary).into_iter().flatten().flatten().map(|entry| entry.path());
        let folder = folders.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
        look(&instance, &folder.unwrap_or_else(|| temporary.join(prefix)))
    }
}

/// All that is left of an instance: processes, network namespaces, interfaces, control groups, mounts, loop devices, its folder.
pub(crate) fn look(instance: &Instance, folder: &Path) -> Vec<Leftover> {
    let leftover = |kind| move |what: String| Leftover { kind, what };
    let mut found: Vec<Leftover> = processes(folder, &instance.uids, instance.ground()).into_iter().map(leftover("process")).collect();
    let name = &instance.name;
    found.extend(names_in("/run/netns", name, 1).into_iter().map(leftover("network namespace")));
    found.extend(names_in("/sys/class/net", name, 1).into_iter().map(leftover("interface")));
    found.extend(names_in("/sys/fs/cgroup", name, 4).into_iter().map(leftover("control group")));
    found.extend(mounts(folder).into_iter().map(leftover("mount")));
    found.extend(crate::disk::devices(folder).into_iter().map(leftover("loop device")));
    found.extend(tables(name).into_iter().map(leftover("nftables table")));
    found.extend(folder.exists().then(|| folder.display().to_string()).map(leftover("folder")));
    found
}

/// The processes that run under one of the instance's user ids, or that name its folder on their command line. Where it has no user ids
/// of its own: those in process namespaces below this process's own user namespace, which are cells.
pub(crate) fn processes(folder: &Path, uids: &Range<u32>, ground: Ground) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let numbered =
        fs::read_dir("/proc").into_iter().flatten().flatten().filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    let found = numbered.filter_map(|entry| {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let uid: u32 = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let dead = status.lines().any(|line| line.starts_with("State:") && line.contains('Z'));
        // The kernel tells of a process's namespaces to those alone who have power over it: of other users' it tells nothing, nor of
        // this user's outside.
        let is_cell = || {
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.split_whitespace().collect::<Vec<_>>());
            let numbers = field("NSpid:").unwrap_or_default();
            let users = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
            let parent = field("PPid:").unwrap_or_default().first().and_then(|parent| users(parent));
            // A first process that still waits for its cell has its warden's users.
            let waits = numbers.last() == Some(&"1") && parent.is_some() && users(&pid) == parent;
            numbers.len() > 1 && !waits && entry.path().join("ns/net").read_link().is_ok()
        };
        let ours =
            uids.contains(&uid) || (!ground.is_machine() && is_cell()) || (command.contains(&*folder) && pid != std::process::id().to_string());
        (ours && !dead).then(|| format!("{pid} (uid {uid}): {command}"))
    });
    found.collect()
}

/// Removes the control groups that a killed warden left: the instance's own, and those of cells that died with it.
/// The kernel lets a group go only when no process is in it, so this hides nothing that still runs.
pub(crate) fn sweep(instance: &str) {
    for group in names_in("/sys/fs/cgroup", &format!("sulku-{instance}"), 3) {
        for cell in fs::read_dir(&group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
            let _ = fs::remove_dir(cell.path());
        }
        let _ = fs::remove_dir(group);
    }
}

fn names_in(folder: &str, part: &str, depth: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path().display().to_string();
        if entry.file_name().to_string_lossy().contains(part) {
            found.push(path);
        } else if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(names_in(&path, part, depth - 1));
        }
    }
    found
}

fn mounts(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter(|line| line.contains(&*folder.to_string_lossy())).map(str::to_owned).collect()
}

fn tables(instance: &str) -> Vec<String> {
    let tables = tool("nft", "nftables", &["list", "tables"]).unwrap_or_default();
    tables.lines().filter(|line| line.contains(instance)).map(str::to_owned).collect()
}
