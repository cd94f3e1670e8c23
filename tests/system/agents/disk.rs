//! A disk that fails: an `fdatasync` that answers EIO, once and for ever after.
//!
//! By a library that is loaded before the C library (`failing_sync.c`): it needs neither root nor ptrace, and fails at
//! the very moment at which the test creates a file. If it were not called at all the tests would notice: they wait for
//! the agent's end.

use super::*;
use std::path::PathBuf;
use std::process::Command;

/// The exit status of an agent whose store has failed: a supervisor does not restart it.
const STORE_FAILED: i32 = 74;

/// Compiles the library and has all agents load it. The disk of agent `x` fails once `x.fails` exists.
fn with_failing_disks() -> Cluster {
    let mut cluster = Cluster::of(3);
    let library = cluster.dir().join("failing_sync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/agents/failing_sync.c");
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).status();
    assert!(cc.unwrap().success());
    for agent in &mut cluster.agents {
        let fails = agent.data_dir.with_extension("fails");
        agent.environment.push(("LD_PRELOAD".into(), library.to_str().unwrap().into()));
        agent.environment.push(("PAXOSKV_TEST_SYNC_FAILS".into(), fails.to_str().unwrap().into()));
    }
    cluster.start_all();
    cluster
}

fn fail(agent: &Agent) -> PathBuf {
    let path = agent.data_dir.with_extension("fails");
    std::fs::write(&path, "").unwrap();
    path
}

/// Its status, and its last words: what it was doing when the disk failed.
fn assert_failed(agent: &mut Agent, doing: &str) {
    let status = agent.await_exit();
    let log = agent.log();
    assert_eq!(status.code(), Some(STORE_FAILED), "{log}");
    let last = log.lines().rev().take(3).collect::<String>();
    assert!(last.contains(doing) && last.contains("os error 5"), "it names the cause: {last}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_put_whose_vote_could_not_be_synced_is_never_acknowledged() {
    let mut cluster = with_failing_disks();
    // With the third agent down every quorum needs the one that fails.
    cluster.agents[2].kill();
    let (mut caller, mut other) = (cluster.agents[0].await_quorum(), cluster.agents[1].await_quorum());
    caller.set(put("before", "v"));
    let failed = fail(&cluster.agents[0]);
    let reply = caller.try_ask(put("k", "v"));
    assert!(reply.is_err(), "it answers nothing more: {reply:?}");
    assert_failed(&mut cluster.agents[0], "sync");
    assert!(Caller::connect(&cluster.agents[0].socket).is_err());
    assert_eq!(other.ask(put("l", "v")).status, Status::NoQuorum);

    // The others go on as soon as they are a quorum; what was acknowledged is there.
    cluster.agents[2].start();
    cluster.agents[1].await_quorum();
    other.set(put("m", "v"));
    assert!(is_there(&mut other, "before"));

    // A repaired disk, or a new start by a person.
    std::fs::remove_file(failed).unwrap();
    cluster.agents[0].start();
    let mut back = cluster.agents[0].await_quorum();
    assert!(is_there(&mut back, "before") && is_there(&mut back, "m"));
}

#[test]
fn when_the_disk_of_one_of_three_agents_fails_the_others_go_on() {
    let mut cluster = with_failing_disks();
    let mut callers = cluster.callers();
    for (i, caller) in callers.iter_mut().enumerate() {
        caller.set(put(&format!("before-{i}"), "v"));
    }
    fail(&cluster.agents[1]);
    // Its vote is asked for by the others' puts; they do not wait for it.
    let mut times = Vec::new();
    for i in 0..50 {
        let at = Instant::now();
        callers[0].set(put(&format!("during-{i}"), "v"));
        callers[2].set(put(&format!("during too-{i}"), "v"));
        times.push(at.elapsed());
    }
    measured("two puts while the third agent's disk fails", times);
    assert_failed(&mut cluster.agents[1], "sync");
    let lost = callers[1].try_ask(plain("now"));
    assert!(lost.is_err(), "{lost:?}");
    for i in 0..3 {
        assert!(is_there(&mut callers[0], &format!("before-{i}")));
    }
}

#[test]
fn an_agent_whose_disk_fails_at_its_start_does_not_serve() {
    let mut cluster = with_failing_disks();
    cluster.agents[0].kill();
    fail(&cluster.agents[0]);
    cluster.agents[0].start();
    assert_failed(&mut cluster.agents[0], "opening the store");
    assert!(Caller::connect(&cluster.agents[0].socket).is_err());
}
