//! Descriptors over a socket.

use super::*;

#[test]
fn a_process_is_named_by_a_pidfd_passed_over_a_socket() {
    let child = Helped::waiting();
    let process = identified(child.child.id());
    let (left, right) = UnixStream::pair().unwrap();
    assert_eq!(process::send_with_fd(left.as_fd(), b"hello", process.pidfd.as_fd()).unwrap(), 5);
    let mut buf = [0; 16];
    let mut fds = Vec::new();
    let received = process::recv_with_fds(right.as_fd(), &mut buf, &mut fds, 1).unwrap();
    assert_eq!((received, &buf[..5]), (Received { bytes: 5, lost_fds: false }, &b"hello"[..]));
    let fd = fds.pop().unwrap();
    assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    assert_eq!(process::identify_pidfd(fd, boot()).unwrap().id, process.id);
}

#[test]
fn a_socket_that_does_not_block_says_so() {
    let (left, right) = UnixStream::pair().unwrap();
    right.set_nonblocking(true).unwrap();
    left.set_nonblocking(true).unwrap();
    let empty = process::recv_with_fds(right.as_fd(), &mut [0; 4], &mut Vec::new(), 1).unwrap_err();
    assert_eq!(empty.kind(), std::io::ErrorKind::WouldBlock);
    while (&left).write(&[0; 4096]).is_ok() {}
    let full = process::send_with_fd(left.as_fd(), b"x", right.as_fd()).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    let nothing = process::send_with_fd(left.as_fd(), b"", right.as_fd()).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::InvalidInput);
}

/// Sends `count` pipes' write ends in one message and keeps none: a read end then shows when the last copy is closed.
fn send_pipes(socket: &UnixStream, count: usize) -> Vec<PipeReader> {
    let (readers, writers): (Vec<_>, Vec<_>) = (0..count).map(|_| std::io::pipe().unwrap()).unzip();
    let fds: Vec<_> = writers.iter().map(AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let bytes = [std::io::IoSlice::new(b"x")];
    rustix::net::sendmsg(socket, &bytes, &mut control, rustix::net::SendFlags::empty()).unwrap();
    readers
}

#[test]
fn surplus_descriptors_are_closed() {
    let (left, right) = UnixStream::pair().unwrap();
    // From one that the buffer's alignment has room for to many that nothing has.
    for (sent, wanted) in [(2, 1), (3, 1), (4, 3), (40, 2), (1, 0), (64, 200)] {
        let readers = send_pipes(&left, sent);
        let mut fds = Vec::new();
        let received = process::recv_with_fds(right.as_fd(), &mut [0; 8], &mut fds, wanted).unwrap();
        assert_eq!(received, Received { bytes: 1, lost_fds: true });
        let kept = wanted.min(process::pass::FDS_PER_MESSAGE);
        assert_eq!(fds.len(), kept);
        for (fd, mut reader) in std::iter::zip(fds, &readers) {
            File::from(fd).write_all(b"y").unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "y", "the first are kept, in their order");
        }
        for mut reader in &readers[kept..] {
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "end of file: no copy is left");
        }
    }
}

#[test]
fn what_is_received_already_counts_against_the_most() {
    let (left, right) = UnixStream::pair().unwrap();
    let mut fds = Vec::new();
    for (now, lost) in [(1, false), (2, false), (2, true)] {
        let _readers = send_pipes(&left, 1);
        let received = process::recv_with_fds(right.as_fd(), &mut [0; 8], &mut fds, 2).unwrap();
        assert_eq!((fds.len(), received.lost_fds), (now, lost));
    }
}
