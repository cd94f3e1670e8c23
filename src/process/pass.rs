//! Descriptors over a Unix socket (`unix(7)`, `SCM_RIGHTS`): how a caller names a process by pidfd.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The most descriptors that one message is given room for.
pub const FDS_PER_MESSAGE: usize = 8;

/// What [`recv_with_fds`] received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes; 0 at the end of the stream.
    pub bytes: usize,
    /// Whether descriptors came that are lost: more than were asked for, or this process has no more free.
    pub lost_fds: bool,
}

/// Sends the first bytes of `bytes` together with `fd`. Returns how many bytes went; the descriptor went with the
/// first of them, so what remains is to be written without it.
///
/// # Errors
/// `WouldBlock` from a socket that does not block: nothing was sent. `InvalidInput` for no bytes, as a stream carries
/// descriptors only on bytes.
pub fn send_with_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    if bytes.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a descriptor needs a byte to travel on"));
    }
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let pushed = control.push(SendAncillaryMessage::ScmRights(&fds));
    debug_assert!(pushed, "the buffer has room for one descriptor");
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives bytes into `buf`, and the descriptors that came with them onto the end of `fds`, close-on-exec, until
/// there are `max_fds` in it (and at most [`FDS_PER_MESSAGE`] of one call). Any more are closed.
///
/// The kernel ends a read after the bytes that descriptors came with, so they belong to what this call returned, or to
/// a frame that starts in it.
///
/// Closing what a stranger passed may take as long as the stranger likes (a TCP socket that lingers, a file of a hung
/// file system), and the kernel does it inside *any* read from a Unix socket that leaves descriptors behind. A thread
/// that must not be held up must not read from applications at all.
///
/// # Errors
/// `WouldBlock` from a socket that does not block and has nothing.
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    max_fds: usize,
) -> io::Result<Received> {
    let room = max_fds.saturating_sub(fds.len()).min(FDS_PER_MESSAGE);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let space = if room == 0 { &mut [][..] } else { &mut space[..rustix::cmsg_space!(ScmRights(room))] };
    let mut control = RecvAncillaryBuffer::new(space);
    let mut bufs = [IoSliceMut::new(buf)];
    let message = loop {
        match rustix::net::recvmsg(socket, &mut bufs, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut lost_fds = message.flags.contains(ReturnFlags::CTRUNC);
    let mut left = room;
    for part in control.drain() {
        // Nothing else is asked for on our sockets; what a caller of this turned on it does not get from here.
        let RecvAncillaryMessage::ScmRights(received) = part else { continue };
        for fd in received {
            // The buffer's alignment leaves room for one or two more than were asked for.
            if left > 0 {
                left -= 1;
                fds.push(fd);
            } else {
                lost_fds = true;
            }
        }
    }
    Ok(Received { bytes: message.bytes, lost_fds })
}
