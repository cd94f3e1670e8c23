//! The watch that reports exits.

use super::*;

#[test]
fn a_process_that_is_dead_already_is_reported_too() {
    let mut child = Helped::waiting();
    let process = identified(child.child.id());
    child.kill_and_reap();
    let (watch, reported) = exit_watch();
    watch.watch(7, process.pidfd).unwrap();
    assert_eq!(reported.recv_timeout(NEVER), Ok(7));
    assert!(watch.is_empty());
    assert_eq!(all_reported(watch, reported), [0u64; 0]);
}

#[test]
fn one_pidfd_may_be_watched_under_two_keys_and_not_twice_under_one() {
    let mut child = Helped::waiting();
    let process = identified(child.child.id());
    let (watch, reported) = exit_watch();
    for key in [1, 2, 3] {
        watch.watch(key, Arc::clone(&process.pidfd)).unwrap();
    }
    let twice = watch.watch(2, Arc::clone(&process.pidfd)).unwrap_err();
    assert_eq!(twice.kind(), std::io::ErrorKind::AlreadyExists);
    assert!(watch.unwatch(1) && !watch.unwatch(1));
    assert_eq!(watch.len(), 2);
    child.kill_and_reap();
    let seen: BTreeSet<u64> = (0..2).map(|_| reported.recv_timeout(NEVER).unwrap()).collect();
    assert_eq!(seen, BTreeSet::from([2, 3]));
    assert_eq!(all_reported(watch, reported), [0u64; 0]);
}

#[test]
fn a_watch_taken_back_reports_nothing_and_lets_go_of_its_descriptor() {
    let mut child = Helped::waiting();
    let mut other = Helped::waiting();
    let process = identified(child.child.id());
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    assert_eq!(Arc::strong_count(&process.pidfd), 2);
    assert!(watch.unwatch(1));
    assert_eq!(Arc::strong_count(&process.pidfd), 1);
    // It is out of the epoll too, where it would wake the thread for ever: it can be entered again without a duplicate.
    watch.watch(2, Arc::clone(&process.pidfd)).unwrap();
    assert_eq!(Arc::strong_count(&process.pidfd), 2);
    assert!(watch.unwatch(2));
    // A registration is of the open file, which this copy keeps open.
    let _copy = process.pidfd.try_clone().unwrap();
    drop(process);
    // The key is free for another process, whose exit alone is reported.
    watch.watch(1, identified(other.child.id()).pidfd).unwrap();
    child.kill_and_reap();
    assert_eq!(reported.try_recv(), Err(mpsc::TryRecvError::Empty));
    other.kill_and_reap();
    assert_eq!(reported.recv_timeout(NEVER), Ok(1));
    assert_eq!(all_reported(watch, reported), [0u64; 0]);
}

#[test]
fn a_watch_whose_callback_panicked_says_so() {
    let mut child = Helped::waiting();
    let process = identified(child.child.id());
    let (ended, has_ended) = mpsc::channel::<()>();
    let watch = ExitWatch::start(move |_| {
        let _dropped_by_the_panic = &ended;
        panic!("on purpose");
    })
    .unwrap();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    child.kill_and_reap();
    assert_eq!(has_ended.recv_timeout(NEVER), Err(mpsc::RecvTimeoutError::Disconnected));
    // The thread is about to end: its last steps are not ours to wait for.
    let error = loop {
        match watch.watch(2, Arc::clone(&process.pidfd)) {
            Ok(()) => assert!(watch.unwatch(2)),
            Err(e) => break e,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn dropping_the_watch_ends_its_thread() {
    let child = Helped::waiting();
    let process = identified(child.child.id());
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    drop(watch);
    assert_eq!(reported.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    assert_eq!(Arc::strong_count(&process.pidfd), 1);
}

#[test]
fn every_kill_of_two_hundred_is_reported_and_how_fast_is_printed() {
    let (report, reported) = mpsc::channel();
    let watch = ExitWatch::start(move |key| _ = report.send((key, Instant::now()))).unwrap();
    let mut latencies: Vec<Duration> = (0..200)
        .map(|key| {
            let child = Helped::waiting();
            watch.watch(key, identified(child.child.id()).pidfd).unwrap();
            let killed = Instant::now();
            child.signal(Signal::SIGKILL);
            let (seen, at) = reported.recv_timeout(NEVER).unwrap();
            assert_eq!(seen, key);
            at - killed
        })
        .collect();
    latencies.sort();
    let (p50, p99) = (latencies[100], latencies[198]);
    println!("SIGKILL to on_exit, 200 small processes: p50 {p50:?}, p99 {p99:?}, max {:?}", latencies[199]);
}
