//! Which process sent a packet: noted by the kernel as the packet leaves, in the warden's control group, and asked for when the
//! packet was denied or its flow has ended.
//!
//! The kernel keeps the most recent [`NOTED_MAX`]; one that is gone from there is unknown.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::instructions::{KEY_BYTES, VALUE_BYTES, packet_leaves, tcp_begins};
use crate::sys;

/// Beginnings of flows that are remembered, of all cells together: 2 MiB or so.
const NOTED_MAX: u32 = 16_384;

/// What a packet is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The IP protocol's number.
    pub protocol: u8,
    /// Whose address it bears.
    pub source: Ipv4Addr,
    /// The port there; 0 for protocols without.
    pub source_port: u16,
    /// Where to.
    pub destination: Ipv4Addr,
    /// The port there.
    pub port: u16,
}

/// The process that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Its id on the host.
    pub pid: u32,
    /// When, since boot.
    pub at: Duration,
}

/// The kernel's notes.
#[derive(Debug)]
pub struct Senders {
    map: OwnedFd,
    _links: [OwnedFd; 2],
    /// The warden's control group before it moved, if it did.
    home: Option<PathBuf>,
    group: PathBuf,
}

/// Whether the cells' groups are of version 2, below the warden's; else cells stay in the group in which the warden itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// They are.
    Version2,
    /// They are not.
    Version1,
}

impl Senders {
    /// Has the kernel note who sends, in the cells of this warden and nowhere else.
    ///
    /// # Errors
    /// The host has no control groups of version 2, or its kernel takes no such programme.
    pub fn watch(instance: &str, groups: Groups) -> io::Result<Self> {
        let root = mounted().ok_or(io::ErrorKind::NotFound)?;
        let group = root.join(format!("sulku-{instance}"));
        std::fs::create_dir_all(&group)?;
        let home = match groups {
            Groups::Version2 => None,
            // Cells are this process's children, and stay where they began.
            Groups::Version1 => Some(enter(&root, &group)?),
        };
        let folder = std::fs::File::open(&group)?;
        let map = sys::lru_map(KEY_BYTES, VALUE_BYTES, NOTED_MAX)?;
        let number = map.as_raw_fd();
        let links = [
            sys::attach(sys::Hook::TcpBegins, &tcp_begins(number), folder.as_fd())?,
            sys::attach(sys::Hook::PacketLeaves, &packet_leaves(number), folder.as_fd())?,
        ];
        Ok(Self { map, _links: links, home, group })
    }

    /// Who sent it, if that is noted.
    #[must_use]
    pub fn of(&self, packet: &Packet) -> Option<Sender> {
        let Packet { protocol, source, source_port, destination, port } = *packet;
        let mut key = [0; KEY_BYTES];
        key[..4].copy_from_slice(&source.octets());
        key[4..8].copy_from_slice(&destination.octets());
        key[8..12].copy_from_slice(&u32::from(source_port).to_ne_bytes());
        key[12..16].copy_from_slice(&u32::from(port).to_ne_bytes());
        key[16..].copy_from_slice(&u32::from(protocol).to_ne_bytes());
        let value: [u8; VALUE_BYTES] = sys::map_value(&self.map, &key)?;
        let (ids, at) = value.split_at(8);
        let ids = u64::from_ne_bytes(ids.try_into().ok()?);
        let at = Duration::from_nanos(u64::from_ne_bytes(at.try_into().ok()?));
        Some(Sender { pid: u32::try_from(ids >> 32).ok()?, at })
    }
}

impl Drop for Senders {
    /// The programmes go with their links. An empty group is left to nobody.
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let _stays = std::fs::write(home.join("cgroup.procs"), std::process::id().to_string());
        }
        let _has_others = std::fs::remove_dir(&self.group);
    }
}

/// Where the host has its control groups of version 2.
fn mounted() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line.get(2) == Some(&"cgroup2")).map(|line| PathBuf::from(line[1]))
}

/// Moves this process into the group; where it was before.
fn enter(root: &Path, group: &Path) -> io::Result<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    let before = groups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(io::ErrorKind::NotFound)?;
    std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
    Ok(root.join(before))
}
