//! All that is unsafe: the kernel is asked for an interface of which this process is the wire.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::ioctl::{Setter, ioctl};

/// `TUNSETIFF`, as `linux/if_tun.h` has it: `_IOW('T', 202, int)`.
const TUNSETIFF: u32 = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`: packets of IP, and nothing before them.
const FLAGS: u16 = 0x0001 | 0x1000;
const NAME_BYTES_MAX: usize = 15;

/// `struct ifreq`, of which the name and the flags are looked at.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES_MAX + 1],
    flags: u16,
    rest: [u8; 22],
}

/// Makes an interface of that name in this thread's network. It goes with what is returned, which gives what is sent through it, packet by
/// packet, and takes what is to arrive.
pub fn interface(name: &str) -> io::Result<OwnedFd> {
    if name.len() > NAME_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let tunnel = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = InterfaceRequest { name: [0; NAME_BYTES_MAX + 1], flags: FLAGS, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads one `struct ifreq`, of 40 bytes, which `InterfaceRequest` is on every architecture with 64 bits; the kernel
    // keeps no pointer to it.
    unsafe { ioctl(&tunnel, Setter::<TUNSETIFF, InterfaceRequest>::new(request)) }?;
    rustix::io::ioctl_fionbio(&tunnel, true)?;
    Ok(tunnel.into())
}
