//! One process told apart from every other that had its number; and not knowing, which is not death.

use super::*;

#[test]
fn a_process_is_found_again_by_every_part_of_its_identity() {
    let mut child = Helped::waiting();
    let process = identified(child.child.id());
    let id = process.id;
    assert_eq!((id.pid, id.boot_id, process.comm.as_str()), (child.child.id(), boot(), "helper"));
    assert_eq!(process.uid, nix::unistd::getuid().as_raw());
    assert!(process.in_our_pid_namespace && id.start_ticks > 0);

    assert_eq!(process::reopen(&id, boot()).unwrap().id, id);
    assert_eq!(process::reopen(&ProcessId { inode: 0, ..id }, boot()).unwrap().id, id, "stored by an older kernel");
    let mut other_boot = boot();
    other_boot[0] ^= 1;
    let start_ticks = id.start_ticks;
    for other in [
        ProcessId { boot_id: other_boot, ..id },
        ProcessId { start_ticks: start_ticks - 1, ..id },
        ProcessId { start_ticks: start_ticks + 1, ..id },
        ProcessId { inode: id.inode + u64::from(id.inode != 0), start_ticks: start_ticks + 1, ..id },
        ProcessId { pid: 0, ..id },
        ProcessId { pid: u32::MAX, ..id },
    ] {
        assert!(is_gone(process::reopen(&other, boot())));
    }
    if id.inode != 0 {
        assert!(is_gone(process::reopen(&ProcessId { inode: id.inode + 1, ..id }, boot())));
    }
    assert!(is_gone(process::reopen(&id, other_boot)));

    child.kill_and_reap();
    assert!(is_gone(process::reopen(&id, boot())));
    assert!(is_gone(process::identify_pidfd(process.pidfd.try_clone().unwrap(), boot())));
}

#[test]
fn a_number_that_was_used_again_is_another_process() {
    if may_unshare() {
        run_alone(&NEW_PID_NAMESPACE, "identity::alone_a_pid_is_used_again", "");
    }
}

#[test]
fn alone_a_pid_is_used_again() {
    if alone_argument().is_none() {
        return;
    }
    let mut first = Helped::waiting();
    let old = identified(first.child.id());
    first.kill_and_reap();
    // Nobody else takes numbers in this namespace. Within one clock tick the start times could be equal, which the
    // kernel's own handing out of numbers never is: hence again, until they differ.
    let new = loop {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (old.id.pid - 1).to_string()).unwrap();
        let second = Helped::waiting();
        let new = identified(second.child.id());
        assert_eq!(new.id.pid, old.id.pid);
        if new.id.start_ticks != old.id.start_ticks {
            // The number is alive, and the old process is not.
            assert!(is_gone(process::reopen(&old.id, boot())));
            assert!(is_gone(process::reopen(&ProcessId { inode: 0, ..old.id }, boot())));
            assert_eq!(process::reopen(&new.id, boot()).unwrap().id, new.id);
            break new;
        }
    };
    assert!(!new.id.is_same(&old.id));
    assert!(process::has_exited(&old.pidfd).unwrap());
}

#[test]
fn what_is_not_a_pidfd_is_refused() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let file = File::open("/proc/self/stat").unwrap();
    let socket = UnixStream::pair().unwrap().0;
    for fd in [OwnedFd::from(reader), file.into(), socket.into()] {
        assert!(matches!(process::identify_pidfd(fd, boot()), Err(ProcessError::NotAPidfd)));
    }
}

#[test]
fn running_out_of_descriptors_is_an_error_and_not_a_death() {
    run_alone(&["sh", "-c", "ulimit -n 32; exec \"$@\"", "sh"], "identity::alone_without_descriptors", "");
}

#[test]
fn alone_without_descriptors() {
    if alone_argument().is_none() {
        return;
    }
    let child = Helped::waiting();
    let process = identified(child.child.id());
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let _client = UnixStream::connect(dir.path().join("s")).unwrap();
    let accepted = listener.accept().unwrap().0;
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    let (left, right) = UnixStream::pair().unwrap();
    process::send_with_fd(left.as_fd(), b"x", process.pidfd.as_fd()).unwrap();

    let mut filler: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(matches!(process::boot_id(), Err(ProcessError::Exhausted(_))));
    // From no free descriptor to two, so that each of the steps inside is the one that finds none.
    for free in 0..3 {
        let boot_id = process.id.boot_id;
        let answers = [
            process::reopen(&process.id, boot_id).map(drop),
            process::identify_number(process.id.pid, boot_id).map(drop),
            process::identify_peer(&accepted, boot_id).map(drop),
        ];
        for answer in answers {
            match answer {
                Err(ProcessError::Exhausted(_)) if free < 2 => {}
                Ok(()) if free == 2 => {}
                other => panic!("with {free} free descriptors: {other:?}"),
            }
        }
        if free == 0 {
            // The same descriptor under a second key needs a duplicate.
            let error = watch.watch(2, Arc::clone(&process.pidfd)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EMFILE as i32));
            assert_eq!(watch.len(), 1);
            let mut fds = Vec::new();
            let received = process::recv_with_fds(right.as_fd(), &mut [0; 8], &mut fds, 1).unwrap();
            assert_eq!((received, fds.len()), (Received { bytes: 1, lost_fds: true }, 0));
        }
        drop(filler.pop());
    }
    assert_eq!(reported.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(child);
    assert_eq!(reported.recv_timeout(NEVER), Ok(1), "the watch that was there goes on");
}

#[test]
fn a_hidden_proc_is_an_error_and_not_a_death() {
    if may_unshare() {
        run_alone(&["unshare", "--mount"], "identity::alone_proc_is_hidden", "");
    }
}

#[test]
fn alone_proc_is_hidden() {
    if alone_argument().is_none() {
        return;
    }
    let mut child = Helped::waiting();
    let process = identified(child.child.id());
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let caller = Helped::of_kind("connect", &[socket.to_str().unwrap()]);
    let accepted = listener.accept().unwrap().0;

    // What hidepid= does to a file in /proc, for two processes alone.
    let empty = tempfile::tempdir().unwrap();
    for pid in [process.id.pid, caller.child.id()] {
        let mount = Command::new("mount").arg("--bind").arg(empty.path()).arg(format!("/proc/{pid}")).status();
        assert!(mount.unwrap().success());
    }
    assert!(matches!(process::reopen(&process.id, boot()), Err(ProcessError::CannotTell { .. })));
    let caller = process::identify_peer(&accepted, boot()).unwrap();
    assert!(matches!(caller.process, Err(BindRefusal::Unidentified(_))), "served, and not bound");
    assert!(!caller.may_name_numbers());

    // The pidfd tells death all the same.
    child.kill_unreaped();
    assert!(is_gone(process::reopen(&process.id, boot())));
}

#[test]
fn a_proc_of_another_pid_namespace_is_not_believed() {
    if may_unshare() {
        run_alone(&["unshare", "--fork", "--pid"], "identity::alone_proc_of_another_namespace", "");
    }
}

#[test]
fn alone_proc_of_another_namespace() {
    if alone_argument().is_none() {
        return;
    }
    let child = Helped::waiting();
    assert!(matches!(process::identify_number(child.child.id(), boot()), Err(ProcessError::CannotTell { .. })));
}
