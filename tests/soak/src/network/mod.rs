//! A network of the run's own, so that nothing of it touches the machine's: one in which the daemons are, and one for those who connect, with a
//! wire between that this process is.

mod sys;
mod wire;

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use sulku_stage::find_in;

use crate::dice::Dice;
pub use wire::{Weather, Wire};

/// Where the gateway is.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Where those are who are up to no good.
pub const HOSTILE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 66);
/// The holders' addresses, one after the other.
const HOLDERS: [u8; 3] = [10, 11, 12];
const OF_ALL: &str = "10.99.0.0/24";
const NEAR: &str = "wire-near";
const FAR: &str = "wire-far";

/// The network of those who connect, and the wire to it.
pub struct Network {
    /// The wire.
    pub wire: Wire,
    far: PathBuf,
    /// Keeps the far network.
    inside: File,
    moves: usize,
}

impl Network {
    /// Leaves the machine's network with this thread and those that it starts from now on, and lays the wire.
    ///
    /// # Errors
    /// Who runs this is not root, or the kernel has no TUN interfaces.
    pub fn lay(dice: Dice) -> anyhow::Result<Self> {
        leave()?;
        ip(&["link", "set", "lo", "up"])?;
        let near = sys::interface(NEAR).context("making an interface (is /dev/net/tun there?)")?;
        ip(&["address", "add", &format!("{GATEWAY}/32"), "dev", NEAR])?;
        ip(&["link", "set", NEAR, "up"])?;
        ip(&["route", "add", OF_ALL, "dev", NEAR, "src", &GATEWAY.to_string()])?;
        let (tell, made) = mpsc::channel();
        // The far network is kept by its file; the thread that makes it ends.
        std::thread::spawn(move || drop(tell.send(far_end())));
        let (far, inside) = made.recv().context("the thread that makes the far network")??;
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&inside)));
        Ok(Self { wire: Wire::between([near, far], dice), far: path, inside, moves: 0 })
    }

    /// Takes this thread, and those that it starts from now on, to those who connect.
    ///
    /// # Errors
    /// The kernel does not let it.
    pub fn enter(&self) -> anyhow::Result<impl FnOnce() -> anyhow::Result<()> + Send + 'static> {
        let inside = self.inside.try_clone()?;
        Ok(move || Ok(move_into_link_name_space(std::os::fd::AsFd::as_fd(&inside), Some(LinkNameSpaceType::Network))?))
    }

    /// The holders' address is gone, and they have another.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn move_holders(&mut self) -> anyhow::Result<()> {
        let address = |number: usize| Ipv4Addr::new(10, 99, 0, HOLDERS[number % HOLDERS.len()]);
        let (old, new) = (address(self.moves), address(self.moves + 1));
        self.moves += 1;
        let far = |args: &[&str]| {
            let file = format!("--net={}", self.far.display());
            run(Command::new(find_in("nsenter", "util-linux")?).arg(file).arg(find_in("ip", "iproute2")?).args(args))
        };
        far(&["address", "add", &format!("{new}/32"), "dev", FAR])?;
        far(&["route", "replace", &format!("{GATEWAY}/32"), "dev", FAR, "src", &new.to_string()])?;
        far(&["address", "del", &format!("{old}/32"), "dev", FAR])
    }
}

fn far_end() -> anyhow::Result<(std::os::fd::OwnedFd, File)> {
    leave()?;
    ip(&["link", "set", "lo", "up"])?;
    let far = sys::interface(FAR).context("making an interface")?;
    let holders = Ipv4Addr::new(10, 99, 0, HOLDERS[0]);
    for address in [holders, HOSTILE] {
        ip(&["address", "add", &format!("{address}/32"), "dev", FAR])?;
    }
    ip(&["link", "set", FAR, "up"])?;
    ip(&["route", "add", &format!("{GATEWAY}/32"), "dev", FAR, "src", &holders.to_string()])?;
    Ok((far, File::open("/proc/thread-self/ns/net")?))
}

fn leave() -> anyhow::Result<()> {
    #[expect(deprecated, reason = "the safe form is enough: it never splits the descriptors of threads")]
    rustix::thread::unshare(UnshareFlags::NEWNET).context("a network of one's own (run this as root)")
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    run(Command::new(find_in("ip", "iproute2")?).args(args))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
