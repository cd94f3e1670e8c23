//! What is a death and what is not.

use super::*;

#[test]
fn a_zombie_that_nobody_reaps_is_dead() {
    let mut child = Helped::waiting();
    let process = identified(child.child.id());
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    child.kill_unreaped();
    assert_eq!(reported.recv_timeout(NEVER), Ok(1));

    // All that would call it alive does.
    assert_eq!(state_in_proc(process.id.pid), 'Z');
    assert!(kill(Pid::from_raw(process.id.pid as i32), None).is_ok());

    assert!(process::has_exited(&process.pidfd).unwrap());
    assert!(is_gone(process::identify_number(process.id.pid, boot())));
    assert!(is_gone(process::reopen(&process.id, boot())));
}

#[test]
fn a_stopped_process_is_alive_until_it_is_killed() {
    let child = Helped::waiting();
    let pid = Pid::from_raw(child.child.id() as i32);
    let process = identified(child.child.id());
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    child.signal(Signal::SIGSTOP);
    assert_eq!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));

    assert!(!process::has_exited(&process.pidfd).unwrap());
    assert_eq!(process::reopen(&process.id, boot()).unwrap().id, process.id);
    assert_eq!(reported.try_recv(), Err(mpsc::TryRecvError::Empty));

    child.signal(Signal::SIGKILL);
    assert_eq!(reported.recv_timeout(NEVER), Ok(1));
    assert_eq!(all_reported(watch, reported), [0u64; 0], "an exit is reported once");
}

#[test]
fn exec_keeps_identity_from_either_thread() {
    for kind in ["exec", "exec-from-thread"] {
        // What it execs is the same helper, whose first word then tells that the exec is done.
        let path = helper().to_str().unwrap();
        let mut command = Command::new(helper());
        command.args([kind, path, "wait"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let process = identified(child.id());
        let (watch, reported) = exit_watch();
        watch.watch(1, Arc::clone(&process.pidfd)).unwrap();

        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "ready", "{kind}: the new program");
        assert!(!process::has_exited(&process.pidfd).unwrap());
        assert_eq!(process::reopen(&process.id, boot()).unwrap().id, process.id, "{kind}");
        assert_eq!(reported.try_recv(), Err(mpsc::TryRecvError::Empty));

        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(reported.recv_timeout(NEVER), Ok(1));
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_is_alive() {
    let mut child = Helped::of_kind("first-thread-ends", &[]);
    assert_eq!(child.first_line, "first thread ended");
    assert_eq!(state_in_proc(child.child.id()), 'Z');
    let process = identified(child.child.id());
    assert!(!process::has_exited(&process.pidfd).unwrap());
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    drop(child.stdin.take());
    assert_eq!(reported.recv_timeout(NEVER), Ok(1));
}

#[test]
fn a_thread_is_not_a_process() {
    let child = Helped::of_kind("threads", &[]);
    let thread: u32 = child.first_line.parse().unwrap();
    assert_ne!(thread, child.child.id());
    assert!(matches!(process::identify_number(thread, boot()), Err(ProcessError::NotAProcess)));

    // For a stored identity it means that the number has passed on.
    let stored = ProcessId { pid: thread, ..identified(child.child.id()).id };
    assert!(is_gone(process::reopen(&stored, boot())));

    // The pidfd of a thread (PIDFD_THREAD has the value of O_EXCL), also of the first one.
    let flags = rustix::process::PidfdFlags::from_bits_retain(rustix::fs::OFlags::EXCL.bits());
    for tid in [thread, child.child.id()] {
        let tid = rustix::process::Pid::from_raw(tid as i32).unwrap();
        match rustix::process::pidfd_open(tid, flags) {
            Ok(fd) => assert!(matches!(process::identify_pidfd(fd, boot()), Err(ProcessError::NotAProcess))),
            Err(e) => println!("skipped: pidfds of threads need Linux 6.9: {e}"),
        }
    }
}
