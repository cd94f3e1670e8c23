//! Keys that are bound to processes, and what becomes of the processes.

use super::*;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Until an agent has heard of an exit that came after everything before: a witness holds a key, dies, and is seen.
/// What an earlier event was to end would be gone by now.
fn await_news(agent: &Agent) {
    let mut caller = agent.connect();
    Actor::holding(agent, "witness").kill_and_reap();
    await_gone(&mut caller, "witness");
}

#[test]
fn the_key_of_a_killed_holder_goes_at_another_agent() {
    let cluster = Cluster::start(3);
    let mut callers = cluster.callers();
    let mut times = Vec::new();
    for round in 0..rounds(20) {
        let key = format!("round-{round}");
        let holder = Actor::holding(&cluster.agents[round % 3], &key);
        let observer = &mut callers[(round + 1) % 3];
        assert!(is_there(observer, &key));
        let killed = Instant::now();
        holder.signal(Signal::SIGKILL);
        while is_there(observer, &key) {
            assert!(killed.elapsed() < NEVER, "{key} stays");
        }
        times.push(killed.elapsed());
        callers.iter_mut().for_each(|caller| assert!(!is_there(caller, &key), "gone is gone at every agent"));
    }
    measured("from the kill of a holder to not found at another agent", times);
}

#[test]
fn a_released_key_is_free_and_its_next_holder_has_a_higher_token() {
    let cluster = Cluster::start(3);
    let mut callers = cluster.callers();
    let mut holder = Actor::holding(&cluster.agents[0], "k");
    let first = callers[1].ask(get("k"));
    assert_eq!(holder.say("release k"), "Ok ");
    assert!(!is_there(&mut callers[2], "k"));
    assert!(holder.say("release k").starts_with("NotFound"));
    let _next = Actor::holding(&cluster.agents[1], "k");
    let second = callers[2].ask(get("k"));
    assert!(second.token > first.token);
    // The first holder's death is no reason for the second's key to go.
    holder.kill_and_reap();
    await_news(&cluster.agents[0]);
    assert_eq!(callers[0].ask(get("k")).token, second.token);
}

#[test]
fn a_stopped_process_keeps_its_key() {
    let cluster = Cluster::start(3);
    let holder = Actor::holding(&cluster.agents[0], "k");
    let pid = Pid::from_raw(holder.pid() as i32);
    holder.signal(Signal::SIGSTOP);
    assert_eq!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));
    await_news(&cluster.agents[0]);
    cluster.callers().iter_mut().for_each(|caller| assert!(is_there(caller, "k")));
    holder.signal(Signal::SIGCONT);
    assert_eq!(waitpid(pid, Some(WaitPidFlag::WCONTINUED)), Ok(WaitStatus::Continued(pid)));
    await_news(&cluster.agents[0]);
    cluster.callers().iter_mut().for_each(|caller| assert!(is_there(caller, "k")));
    // Death while stopped counts.
    holder.signal(Signal::SIGSTOP);
    holder.signal(Signal::SIGKILL);
    await_gone(&mut cluster.agents[1].connect(), "k");
}

#[test]
fn a_process_that_executes_another_program_keeps_its_key_until_that_ends() {
    let cluster = Cluster::start(3);
    let mut holder = Actor::holding(&cluster.agents[0], "k");
    holder.tell("exec cat");
    let comm = format!("/proc/{}/comm", holder.pid());
    until("the other program", || (std::fs::read_to_string(&comm).unwrap() == "cat\n").then_some(()));
    await_news(&cluster.agents[0]);
    for caller in &mut cluster.callers() {
        let found = caller.ask(get("k"));
        assert_eq!(found.holder.unwrap().pid, Some(holder.pid()));
    }
    holder.kill_and_reap();
    await_gone(&mut cluster.agents[1].connect(), "k");
}

#[test]
fn a_dead_process_that_nobody_reaps_loses_its_key() {
    let cluster = Cluster::start(3);
    let holder = Actor::holding(&cluster.agents[0], "k");
    holder.kill_unreaped();
    await_gone(&mut cluster.agents[1].connect(), "k");
    let state = std::fs::read_to_string(format!("/proc/{}/stat", holder.pid())).unwrap();
    assert!(state.contains(") Z "), "still a zombie: {state}");
}

#[test]
fn a_key_outlives_the_connection_and_other_keys_of_its_holder() {
    let cluster = Cluster::start(3);
    let mut caller = cluster.agents[0].connect();
    let mut other = cluster.agents[1].connect();
    // This process is the holder of both; only one of them was to be bound.
    caller.set(Request { pid: Some(PidOption::Connector(true)), ..put("bound", "v") });
    caller.set(put("unbound", "v"));
    drop(caller);
    await_news(&cluster.agents[0]);
    assert!(is_there(&mut other, "bound") && is_there(&mut other, "unbound"));
    let bindings = |reply: Reply| reply.bindings.unwrap().into_iter().map(|b| (b.kind, b.pid)).collect::<Vec<_>>();
    assert_eq!(bindings(other.ask(get("bound"))), [("pid".to_owned(), Some(std::process::id()))]);
    assert_eq!(bindings(other.ask(get("unbound"))), []);
}

#[test]
fn an_unbound_key_outlives_its_holder() {
    let cluster = Cluster::start(3);
    let mut holder = Actor::holding(&cluster.agents[0], "bound");
    let child = Actor::start(&cluster.agents[0].socket);
    assert_eq!(holder.say(&format!("hold child {}", child.pid())), "Ok ");
    holder.kill_and_reap();
    await_gone(&mut cluster.agents[1].connect(), "bound");
    // What it bound to another process stays with that.
    assert!(is_there(&mut cluster.agents[1].connect(), "child"));
    child.kill_and_reap();
    await_gone(&mut cluster.agents[1].connect(), "child");
}

#[test]
fn a_key_with_a_time_goes_when_that_is_over_and_not_before() {
    let cluster = Cluster::start(3);
    let mut callers = cluster.callers();
    let until_ms = callers[0].ask(plain("now")).now.unwrap() + 300;
    let holder = Actor::start(&cluster.agents[0].socket);
    let pid = Some(PidOption::Number(holder.pid()));
    callers[0].set(Request { until: Some(until_ms), ..put("timed", "v") });
    callers[1].set(Request { until: Some(until_ms + 3_600_000), pid, ..put("both", "v") });
    // All agents have this host's clock, so none may be before the time.
    await_gone(&mut callers[2], "timed");
    let gone_ms = callers[2].ask(plain("now")).now.unwrap();
    assert!(gone_ms > until_ms, "{gone_ms} {until_ms}");
    measured("from the time of a key to not found", vec![Duration::from_millis(gone_ms - until_ms)]);
    // Whichever reason comes first.
    assert!(is_there(&mut callers[2], "both"));
    holder.kill_and_reap();
    await_gone(&mut callers[2], "both");
}
