//! The reading half of an application's connection, which also takes the descriptors that are passed along.

use crate::limits::PASSED_FDS;
use crate::process::recv_with_fds;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

/// Bytes for frames, descriptors for whoever asks.
pub(super) struct FdReader {
    half: OwnedReadHalf,
    fds: VecDeque<OwnedFd>,
}

impl FdReader {
    pub fn new(half: OwnedReadHalf) -> FdReader {
        FdReader { half, fds: VecDeque::new() }
    }

    /// The descriptor that was passed first and not taken yet.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}

impl AsRef<UnixStream> for FdReader {
    fn as_ref(&self) -> &UnixStream {
        self.half.as_ref()
    }
}

impl AsyncRead for FdReader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let stream: &UnixStream = this.half.as_ref();
            ready!(stream.poll_read_ready(context))?;
            let mut fds = Vec::new();
            let room = PASSED_FDS.saturating_sub(this.fds.len());
            let read = stream.try_io(Interest::READABLE, || {
                recv_with_fds(stream.as_fd(), buf.initialize_unfilled(), &mut fds, room)
            });
            this.fds.extend(fds);
            match read {
                Ok(received) => {
                    buf.advance(received.bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}
