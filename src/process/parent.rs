//! The parent of the command line, for `--pid` without a number.

use super::{ProcessError, exited, open_pidfd};
use nix::errno::Errno;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// Makes an orphan and has it print its new parent: the inner shell waits until the outer one is gone (our closing of
/// its standard input says so), then prints field 4 of its own `/proc/self/stat`. It uses only what is built into
/// the shell, whose name has no space. A background command's standard input is /dev/null, hence descriptor 3.
const ORPHAN: &str = "exec 3<&0; { read -r _ <&3; read -r _ _ _ parent _ </proc/self/stat; echo \"$parent\"; } &";

/// Opens a pidfd of this process's parent, the shell or program that called it, with its number.
///
/// When the caller has ended, the kernel gives its children to the nearest subreaper above (`prctl(2)`,
/// `PR_SET_CHILD_SUBREAPER`; a user's systemd is one), else to pid 1: a parent that would never end, and never called.
/// Therefore a parent is refused that would adopt our own orphans. Who that is, is tried: the kernel tells of no other
/// process whether it is a subreaper, but where one orphan goes, all go that have the same ancestors. The trial runs
/// `/bin/sh`, and takes a few milliseconds.
///
/// It errs on the safe side: a subreaper or pid 1 that did call, for instance a program that is the first process of
/// its container, is refused too, and so is every parent when the trial cannot be made. Such a caller names its
/// number. An intermediate program, such as `sudo` or `timeout`, is the parent, and is not refused.
///
/// # Errors
/// [`ProcessError::AdoptsOrphans`] as above; [`ProcessError::OutsidePidNamespace`] when the parent has no number here;
/// [`ProcessError::Gone`] when it ended meanwhile; the others say that it could not be found out.
pub fn parent_pidfd() -> Result<(OwnedFd, u32), ProcessError> {
    let parent = std::os::unix::process::parent_id();
    match parent {
        0 => return Err(ProcessError::OutsidePidNamespace),
        1 => return Err(ProcessError::AdoptsOrphans { pid: 1 }),
        _ => {}
    }
    let pidfd = open_pidfd(parent)?;
    let adopter = adopter_of_orphans().map_err(|e| ProcessError::cannot_tell("where orphans go", e))?;
    if adopter == parent {
        return Err(ProcessError::AdoptsOrphans { pid: parent });
    }
    if adopter == std::process::id() {
        // We are a subreaper ourselves (it outlives `exec`), so the trial did not look above us.
        return Err(ProcessError::unexpected("this process adopts orphans itself"));
    }
    // Last: had the parent ended before it was opened or since, we would have another one now.
    if std::os::unix::process::parent_id() != parent || exited(&pidfd)? {
        return Err(ProcessError::Gone);
    }
    Ok((pidfd, parent))
}

/// The process that the kernel gives an orphan of ours to.
fn adopter_of_orphans() -> io::Result<u32> {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", ORPHAN])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (stdin, stdout) = (shell.stdin.take(), shell.stdout.take());
    match shell.wait() {
        Ok(_) => {}
        // SIGCHLD is ignored, so the kernel has reaped it: it has ended all the same.
        Err(e) if e.raw_os_error() == Some(Errno::ECHILD as i32) => {}
        Err(e) => return Err(e),
    }
    drop(stdin);
    let mut text = String::new();
    if let Some(stdout) = stdout {
        // A number and a newline; the bound is against a shell that is none.
        stdout.take(64).read_to_string(&mut text)?;
    }
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "/bin/sh did not say"))
}
