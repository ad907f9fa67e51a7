//! The master side of a cell's terminal, as the warden hands it over.

use std::io;
use std::os::fd::OwnedFd;

use crate::descriptor::Descriptor;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// A terminal that can be read, typed into and resized.
#[derive(Debug)]
pub struct Terminal {
    master: Descriptor,
}

/// What reading a terminal gave.
#[derive(Debug)]
pub enum Shown {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Everything that used the terminal is gone.
    Ended,
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// The descriptor is no terminal that can be waited for.
    pub fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = fcntl_getfl(&master)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        Ok(Self { master: Descriptor::new(master)? })
    }

    /// Waits for output and takes at most `room` bytes of it. Cancelled, it has taken none.
    ///
    /// # Errors
    /// The terminal broke.
    pub async fn read(&self, room: usize) -> io::Result<Shown> {
        loop {
            let mut ready = self.master.readable().await?;
            match ready.try_io(|master| Ok(take(master.get_ref(), room))) {
                Ok(Ok(Err(Errno::AGAIN))) => ready.clear_ready(),
                Ok(Ok(result)) => return shown(result),
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Types at the start of `bytes`; says how many were taken. Cancelled, it has typed none.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.writable().await?;
            match rustix::io::write(self.master.get_ref(), bytes) {
                Ok(written) => return Ok(written),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Its columns and rows.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let Winsize { ws_col, ws_row, .. } = tcgetwinsize(self.master.get_ref())?;
        Ok((ws_col, ws_row))
    }

    /// Gives the terminal a size; what runs in it gets SIGWINCH from the kernel.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        Ok(tcsetwinsize(self.master.get_ref(), Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })?)
    }
}

fn take(master: &OwnedFd, room: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::with_capacity(room);
    let read = rustix::io::retry_on_intr(|| {
        bytes.clear();
        rustix::io::read(master, rustix::buffer::spare_capacity(&mut bytes))
    })?;
    bytes.truncate(read);
    Ok(bytes)
}

/// pty(7): once the last slave is closed, the master reads EIO.
fn shown(result: Result<Vec<u8>, Errno>) -> io::Result<Shown> {
    match result {
        Ok(bytes) if bytes.is_empty() => Ok(Shown::Ended),
        Ok(bytes) => Ok(Shown::Bytes(bytes)),
        Err(Errno::IO) => Ok(Shown::Ended),
        Err(error) => Err(error.into()),
    }
}
