//! A plan as text: what an auditor reads and what the digest is taken of. One fact a line, in a fixed order.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use sulku_permit::{Budget, Place};

use crate::filesystem::{Access, LandlockRule, Mount, Programmes, Sockets, SystemImage};
use crate::naming::Listed;
use crate::plan::{Allowed, Limits, NamedHosts, Plan};
use crate::syscalls::{Answer, DENIED, Denied, Test};

/// The version of this rendering; another version gives other digests, so gateway and warden must agree.
const RENDERING: u32 = 3;

impl Plan {
    /// The plan as text, the same for the same permit everywhere.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        self.write(&mut text).expect("writing to a String does not fail");
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "plan {RENDERING}\npermit {}\nworkspace {}\n", self.permit(), self.workspace())?;
        match self.image() {
            Some(SystemImage { name, digest }) => writeln!(text, "system {name} {digest}")?,
            None => text.push_str("system of the host\n"),
        }
        self.mounts().iter().try_for_each(|mount| write_mount(text, mount))?;
        text.push('\n');
        for LandlockRule { path, access } in self.landlock() {
            writeln!(text, "landlock {} {path}{}", access_name(*access), but_for(*access))?;
        }
        text.push_str("landlock nothing else; no signals and no abstract sockets beyond the cell\n\n");
        text.push_str(match self.programmes() {
            Programmes::Run => "programmes anywhere\n\n",
            Programmes::Refused => "programmes of the system alone; none from memory that has no file\n\n",
        });
        for Allowed { to, port, until, budget, at } in self.destinations() {
            write!(text, "egress {to} {port}")?;
            write_terms(text, *until, budget, at)?;
        }
        for NamedHosts { listed: Listed { names, ports, check, within }, until, budget, at } in self.named() {
            write!(text, "egress {names}")?;
            ports.iter().try_for_each(|port| write!(text, " {}/{}", port.number, port.protocol))?;
            write!(text, " {}", check.name())?;
            for (index, network) in within.iter().enumerate() {
                write!(text, "{} {network}", if index == 0 { " within" } else { "," })?;
            }
            write_terms(text, *until, budget, at)?;
        }
        text.push_str("egress nothing else\n\n");
        DENIED.iter().try_for_each(|denied| write_denied(text, denied))?;
        text.push_str("call of a foreign architecture: killed\n\n");
        let Limits { memory_bytes, processes, cpu_percent, open_files, locked_bytes, core_bytes } = self.limits();
        writeln!(text, "limit memory {memory_bytes} bytes\nlimit processes {processes}\nlimit cpu {cpu_percent} hundredths of a processor")?;
        writeln!(
            text,
            "limit open files {open_files} a process\nlimit locked memory {locked_bytes} bytes a process\nlimit core dump {core_bytes} bytes"
        )?;
        match self.disk_bytes() {
            Some(bytes) => writeln!(text, "limit disk {bytes} bytes of the workspace, set aside"),
            None => text.write_str("limit disk none: the workspace shares the host's\n"),
        }
    }
}

/// What is said of every destination. What its ports may use they may use together.
fn write_terms(text: &mut String, until: Option<Timestamp>, budget: &Budget, at: &Place) -> fmt::Result {
    if let Some(until) = until {
        write!(text, " until {until}")?;
    }
    let Budget { bytes, connections } = budget;
    if let Some(bytes) = bytes {
        write!(text, " at most {bytes} bytes out")?;
    }
    if let Some(rate) = connections {
        write!(text, " at most {rate} new connections")?;
    }
    // Gateway and warden keep their copies in different folders; the plan is the same.
    let file = at.file.rsplit('/').next().unwrap_or_default();
    writeln!(text, " by {file}:{}", at.line)
}

fn write_mount(text: &mut String, mount: &Mount) -> fmt::Result {
    match mount {
        Mount::Memory { path, bytes, programmes } => {
            writeln!(text, "mount memory {path} {bytes} bytes{}", no_programmes(*programmes))
        }
        Mount::Host { path } => writeln!(text, "mount host {path} read-only"),
        Mount::Image { path } => writeln!(text, "mount image {path} read-only"),
        Mount::Made { path, text: content } => writeln!(text, "mount made {path} {content:?}"),
        Mount::Dataset { source, path } => {
            writeln!(text, "mount data {:?} from {:?} read-only, no programmes", path.display().to_string(), source.display().to_string())
        }
        Mount::Workspace { programmes } => {
            writeln!(text, "mount workspace {}, what others own unchangeable{}", crate::filesystem::WORKSPACE, no_programmes(*programmes))
        }
        Mount::Processes => writeln!(text, "mount processes /proc of the cell alone"),
        Mount::Terminals => writeln!(text, "mount terminals /dev/pts of the cell alone"),
        Mount::Device { path, number: (major, minor) } => writeln!(text, "mount device {path} {major}:{minor}"),
        Mount::Link { path, target } => writeln!(text, "mount link {path} to {target}"),
    }
}

const fn no_programmes(programmes: Programmes) -> &'static str {
    match programmes {
        Programmes::Run => "",
        Programmes::Refused => ", no programmes",
    }
}

const fn but_for(access: Access) -> &'static str {
    match access {
        Access::Write { programmes: Programmes::Run, sockets: Sockets::Refused } => ", no sockets",
        Access::Write { programmes: Programmes::Refused, sockets: Sockets::Made } => ", no programmes",
        Access::Write { programmes: Programmes::Refused, sockets: Sockets::Refused } => ", no programmes, no sockets",
        _ => "",
    }
}

const fn access_name(access: Access) -> &'static str {
    match access {
        Access::List => "list",
        Access::Read => "read",
        Access::Run => "run",
        Access::Write { .. } => "write",
        Access::Device => "device",
    }
}

fn write_denied(text: &mut String, denied: &Denied) -> fmt::Result {
    let Denied { calls, when, answer, why } = denied;
    let answer = match answer {
        Answer::Eperm => "EPERM",
        Answer::Enosys => "ENOSYS",
    };
    write!(text, "call {}", calls.join(" "))?;
    for (index, all) in when.iter().enumerate() {
        text.push_str(if index == 0 { " when " } else { " or " });
        for (index, test) in all.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { " and " });
            match test {
                Test::Is(argument, value) => write!(text, "arg{argument} = {value:#x}")?,
                Test::IsNot(argument, value) => write!(text, "arg{argument} != {value:#x}")?,
                Test::Bits(argument, mask, value) => write!(text, "arg{argument} & {mask:#x} = {value:#x}")?,
            }
        }
    }
    writeln!(text, ": {answer}; {why}")
}
