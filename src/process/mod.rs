//! Who is calling, and is it still alive.
//!
//! A process is held by a *pidfd*, never by its number: a number is free for the next process as soon as its owner
//! has been reaped, a pidfd stays with the process that it was opened for. Only the pidfd tells death
//! ([`has_exited`]): `kill(0)` finds zombies, `/proc` shows them, and state Z is also what a process shows whose first
//! thread has ended while others go on. A stopped process is alive, and `exec` changes nothing.
//!
//! What is true of a process beyond that (start time, command, uid) is read from `/proc` by number. The order makes
//! this free of races: **hold the pidfd, read, then poll the pidfd**. A process that has not exited at the end still
//! had its number while it was read, so what was read is its own.
//!
//! Every answer keeps two things apart: [`ProcessError::Gone`], the process has ended, and every other error, it could
//! not be found out. Only the first may ever expire a key.
//!
//! * this file: identities, of peers and of processes named by them
//! * [`watch`]: waiting for many exits
//! * [`parent`]: the command line's parent, for `--pid`
//! * [`pass`]: descriptors over a Unix socket
//! * `procfs`: what `/proc` says, parsed

pub mod parent;
pub mod pass;
mod procfs;
pub mod watch;

pub use parent::parent_pidfd;
pub use pass::{Received, recv_with_fds, send_with_fd};
pub use watch::ExitWatch;

use crate::kv::ProcessId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The file system of pidfds since Linux 6.9 (`PID_FS_MAGIC`); its inode numbers are never used twice in a boot.
const PID_FS_MAGIC: u64 = 0x5049_4446;

/// Why a process could not be identified. [`ProcessError::Gone`] alone says that it has ended; no other may be taken
/// for that.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The process has exited, or the number is not of that process any more.
    #[error("the process has exited")]
    Gone,
    /// It lives outside the agent's pid namespace and has no number here.
    #[error("the process is outside the agent's pid namespace")]
    OutsidePidNamespace,
    /// The number is that of a thread which is not its process's first, or the pidfd is that of a thread.
    #[error("that is a thread, not a process")]
    NotAProcess,
    /// The descriptor is not a pidfd.
    #[error("the descriptor is not a pidfd")]
    NotAPidfd,
    /// The parent is what adopts orphans here (pid 1 or a subreaper), so it may not be what called.
    #[error("the parent, pid {pid}, is the process that adopts orphans here: name the process to bind to")]
    AdoptsOrphans {
        /// The parent's number.
        pid: u32,
    },
    /// The agent has no descriptor or memory left for it (`EMFILE`, `ENFILE`, `ENOMEM`): this caller cannot be served.
    #[error("no resources left to identify a process: {0}")]
    Exhausted(io::Error),
    /// The system did not tell, for instance because `/proc` is hidden.
    #[error("cannot tell which process it is: {what}: {source}")]
    CannotTell {
        /// What was asked of the system.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

impl ProcessError {
    fn cannot_tell(what: &'static str, source: impl Into<io::Error>) -> ProcessError {
        let source = source.into();
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => ProcessError::Exhausted(source),
            _ => ProcessError::CannotTell { what, source },
        }
    }

    fn unexpected(what: &'static str) -> ProcessError {
        ProcessError::CannotTell { what, source: io::Error::from(io::ErrorKind::InvalidData) }
    }
}

/// A living process, held by its pidfd. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct Identified {
    /// Its identity, which lasts across restarts of the agent.
    pub id: ProcessId,
    /// The descriptor that tells its death.
    pub pidfd: Arc<OwnedFd>,
    /// Its command's name as the kernel keeps it (at most 15 bytes for a program), control characters replaced. The
    /// process chooses it: for people to read, never for a decision.
    pub comm: String,
    /// Its real uid in the agent's user namespace, when it was identified.
    pub uid: u32,
    /// Whether it lives in the agent's own pid namespace, so that the pid *numbers* it names mean the same here. One
    /// in a namespace below can be bound and watched, but must pass pidfds.
    pub in_our_pid_namespace: bool,
}

/// Why the process of a connection cannot be bound to. The connection is served otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindRefusal {
    /// The caller has no number in the agent's pid namespace.
    #[error("the caller is outside the agent's pid namespace")]
    OutsidePidNamespace,
    /// The kernel has no `SO_PEERPIDFD`, so the caller's number may already be another process's.
    #[error("this kernel (before Linux 6.5) does not tell without a race which process is calling")]
    NoPeerPidfd,
    /// The system did not tell who it is.
    #[error("the caller could not be identified: {0}")]
    Unidentified(String),
}

/// The process at the other end of a Unix socket connection: the one that called `connect`, whoever holds the socket
/// now.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The process, or why nothing can be bound to it.
    pub process: Result<Identified, BindRefusal>,
    /// Its effective uid at `connect`, in the agent's user namespace.
    pub uid: u32,
    /// Its effective gid at `connect`, in the agent's user namespace.
    pub gid: u32,
}

impl Caller {
    /// Whether this caller may bind a key to `target`: to itself, to a process of its own uid, or as root to any.
    pub fn may_bind(&self, target: &Identified) -> bool {
        may_bind(self.uid, self.process.as_ref().ok().map(|p| &p.id), target)
    }

    /// Whether a pid *number* from this caller means the process that it means here: only from the agent's own pid
    /// namespace. Others pass a pidfd.
    pub fn may_name_numbers(&self) -> bool {
        self.process.as_ref().is_ok_and(|p| p.in_our_pid_namespace)
    }
}

/// Whether a caller of this uid, which is the process `caller` as far as known, may bind a key to `target`.
pub fn may_bind(caller_uid: u32, caller: Option<&ProcessId>, target: &Identified) -> bool {
    caller_uid == 0 || caller_uid == target.uid || caller.is_some_and(|c| c.is_same(&target.id))
}

/// The kernel's random id of this boot, from `/proc/sys/kernel/random/boot_id`.
///
/// # Errors
/// [`ProcessError::CannotTell`] or [`ProcessError::Exhausted`] when it cannot be read.
pub fn boot_id() -> Result<[u8; 16], ProcessError> {
    let text = procfs::read("/proc/sys/kernel/random/boot_id")?;
    procfs::parse_boot_id(&text).ok_or_else(|| ProcessError::unexpected("/proc/sys/kernel/random/boot_id"))
}

/// What the kernel says when asked for a pidfd of a socket's peer.
enum PeerPidfd {
    /// Here it is; the process may have exited since.
    Held(OwnedFd),
    /// The peer has exited and was reaped (`EINVAL` from Linux 6.5 on, `ESRCH`; from 6.16 on a pidfd that is dead).
    Gone,
    /// The kernel is older than 6.5.
    Unsupported,
}

fn peer_pidfd(stream: &impl AsFd) -> Result<PeerPidfd, ProcessError> {
    match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(fd) => Ok(PeerPidfd::Held(fd)),
        Err(Errno::EINVAL | Errno::ESRCH) => Ok(PeerPidfd::Gone),
        Err(Errno::ENOPROTOOPT) => Ok(PeerPidfd::Unsupported),
        Err(e) => Err(ProcessError::cannot_tell("SO_PEERPIDFD", e)),
    }
}

/// Identifies the process that connected `stream`, a connected Unix socket.
///
/// A caller that cannot be bound to, because it lives outside the agent's pid namespace, or because the kernel or
/// `/proc` does not tell enough, is an answer, with the reason in [`Caller::process`].
///
/// # Errors
/// [`ProcessError::Gone`] when it has exited: what still arrives on the socket comes from another process.
/// [`ProcessError::Exhausted`] when the agent is out of descriptors: refuse this client.
/// [`ProcessError::CannotTell`] when the socket does not name a peer at all.
pub fn identify_peer(stream: &impl AsFd, boot_id: [u8; 16]) -> Result<Caller, ProcessError> {
    let credentials =
        getsockopt(stream, sockopt::PeerCredentials).map_err(|e| ProcessError::cannot_tell("SO_PEERCRED", e))?;
    let process = match peer_pidfd(stream)? {
        PeerPidfd::Gone => return Err(ProcessError::Gone),
        // The number alone is no identity: see `BindRefusal::NoPeerPidfd`.
        PeerPidfd::Unsupported if credentials.pid() == 0 => Err(BindRefusal::OutsidePidNamespace),
        PeerPidfd::Unsupported => Err(BindRefusal::NoPeerPidfd),
        PeerPidfd::Held(fd) => match identify_pidfd(fd, boot_id) {
            Ok(process) => Ok(process),
            Err(e @ (ProcessError::Gone | ProcessError::Exhausted(_))) => return Err(e),
            Err(ProcessError::OutsidePidNamespace) => Err(BindRefusal::OutsidePidNamespace),
            Err(e) => Err(BindRefusal::Unidentified(e.to_string())),
        },
    };
    Ok(Caller { process, uid: credentials.uid(), gid: credentials.gid() })
}

/// Identifies the process of a pidfd, which may come from anybody: it is checked to be one.
///
/// A pidfd of a single thread (`PIDFD_THREAD`) is refused: it tells the end of the thread, not of the process.
///
/// # Errors
/// [`ProcessError::Gone`] when the process has exited; [`ProcessError::OutsidePidNamespace`],
/// [`ProcessError::NotAPidfd`] and [`ProcessError::NotAProcess`] for what cannot be bound to; otherwise it could not be
/// found out.
pub fn identify_pidfd(fd: OwnedFd, boot_id: [u8; 16]) -> Result<Identified, ProcessError> {
    procfs::check_own_namespace()?;
    let info = procfs::fdinfo(fd.as_fd())?;
    match info.pid {
        None => return Err(ProcessError::NotAPidfd),
        Some(_) if info.of_thread => return Err(ProcessError::NotAProcess),
        Some(_) => {}
    }
    // From here on `fd` is known to be a pidfd: polling another kind of file could block.
    let pid = match info.pid.and_then(|pid| u32::try_from(pid).ok()) {
        Some(0) if exited(&fd)? => return Err(ProcessError::Gone),
        Some(0) => return Err(ProcessError::OutsidePidNamespace),
        Some(pid) => pid,
        // -1: reaped.
        None => return Err(ProcessError::Gone),
    };
    let read = procfs::stat(pid).and_then(|stat| Ok((stat, procfs::real_uid(pid)?, inode(&fd)?)));
    // The poll comes last, and its answer stands above what the reading said: see the head of this file.
    if exited(&fd)? {
        return Err(ProcessError::Gone);
    }
    let (stat, uid, inode) = read?;
    Ok(Identified {
        id: ProcessId { boot_id, pid, start_ticks: stat.start_ticks, inode },
        pidfd: Arc::new(fd),
        comm: stat.comm,
        uid,
        in_our_pid_namespace: info.namespaces == 1,
    })
}

/// Identifies the process that has this number now, in the agent's pid namespace.
///
/// # Errors
/// As [`identify_pidfd`]. [`ProcessError::Gone`] also when no process has the number, [`ProcessError::NotAProcess`]
/// when it is a thread's.
pub fn identify_number(pid: u32, boot_id: [u8; 16]) -> Result<Identified, ProcessError> {
    identify_pidfd(open_pidfd(pid)?, boot_id)
}

/// Finds a process again that was identified in an earlier life of the agent.
///
/// # Errors
/// [`ProcessError::Gone`] when it has exited: another boot, no such number, a number with another start time or pidfd
/// inode, an exited process that nobody has reaped. Any other error says that it could not be found out: ask again.
pub fn reopen(id: &ProcessId, boot_id: [u8; 16]) -> Result<Identified, ProcessError> {
    if id.boot_id != boot_id {
        return Err(ProcessError::Gone);
    }
    match identify_number(id.pid, boot_id) {
        Ok(found) if found.id.is_same(id) => Ok(found),
        // The number is another process's or thread's by now.
        Ok(_) | Err(ProcessError::NotAProcess) => Err(ProcessError::Gone),
        Err(e) => Err(e),
    }
}

/// Whether the process of this pidfd has exited, be it reaped or not. Meaningless for other descriptors.
///
/// # Errors
/// When the descriptor cannot be polled; that says nothing about the process.
pub fn has_exited(pidfd: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match nix::poll::poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    match fds[0].revents() {
        Some(events) if events.is_empty() => Ok(false),
        Some(events) if events.contains(PollFlags::POLLIN) => Ok(true),
        Some(_) | None => Err(io::Error::other("a pidfd polled as neither readable nor quiet")),
    }
}

fn exited(pidfd: &OwnedFd) -> Result<bool, ProcessError> {
    has_exited(pidfd).map_err(|e| ProcessError::cannot_tell("poll of a pidfd", e))
}

fn open_pidfd(pid: u32) -> Result<OwnedFd, ProcessError> {
    // Numbers that no process can have.
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(ProcessError::Gone)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| match e {
        rustix::io::Errno::SRCH => ProcessError::Gone,
        // Which of the two a thread's number gives depends on the kernel.
        rustix::io::Errno::NOENT | rustix::io::Errno::INVAL => ProcessError::NotAProcess,
        e => ProcessError::cannot_tell("pidfd_open", e),
    })
}

/// The inode of a pidfd where it is the process's own, else 0: older kernels have one inode for all of them.
fn inode(pidfd: &OwnedFd) -> Result<u64, ProcessError> {
    let fs = rustix::fs::fstatfs(pidfd).map_err(|e| ProcessError::cannot_tell("fstatfs of a pidfd", e))?;
    if fs.f_type as u64 != PID_FS_MAGIC {
        return Ok(0);
    }
    let stat = rustix::fs::fstat(pidfd).map_err(|e| ProcessError::cannot_tell("fstat of a pidfd", e))?;
    Ok(stat.st_ino)
}

impl fmt::Display for Identified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, uid {})", self.id, self.comm, self.uid)
    }
}
