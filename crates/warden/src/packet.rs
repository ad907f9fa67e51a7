//! Whole packets over `SOCK_SEQPACKET` unix sockets, with a few file descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};

/// The most descriptors of one packet: a cell is made with four.
const DESCRIPTORS_MAX: usize = 4;

/// Sends a packet, with descriptors if any are given. Never waits, never signals.
pub fn send(socket: impl AsFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One packet of at most `bytes_max`, and the descriptors that came with it. An empty packet is the end of the connection.
pub fn receive(socket: impl AsFd, bytes_max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // The room that it takes, and no more: most packets are short, and what is longest may be long.
    let (_, length) = recv(&socket, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::TRUNC)?;
    let mut buffer = vec![0; length.min(bytes_max)];
    let result = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    if result.flags.contains(ReturnFlags::TRUNC) || result.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet longer than any may be"));
    }
    buffer.truncate(result.bytes);
    Ok((buffer, descriptors))
}

/// One packet without a descriptor, if one waits.
pub fn receive_now(socket: impl AsFd, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(bytes_max);
    let (_, length) = recv(socket, spare_capacity(&mut buffer), RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet longer than any may be"));
    }
    Ok(buffer)
}
