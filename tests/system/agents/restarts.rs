//! Agents that are killed and started again: what was acknowledged is there, and what its holder holds stays held.

use super::*;

/// Until an agent has heard of an exit that came after everything before.
fn await_news(agent: &Agent, other: &mut Caller) {
    agent.await_quorum();
    Actor::holding(agent, "witness").kill_and_reap();
    await_gone(other, "witness");
}

#[test]
fn a_key_stays_when_the_agent_of_its_living_holder_is_killed_and_goes_with_the_holder_afterwards() {
    let mut cluster = Cluster::start(3);
    let holder = Actor::holding(&cluster.agents[0], "k");
    let mut other = cluster.agents[1].connect();
    let token = other.ask(get("k")).token;
    cluster.agents[0].kill();
    assert_eq!(other.ask(get("k")).token, token, "while it is down");
    cluster.agents[0].start();
    await_news(&cluster.agents[0], &mut other);
    for mut caller in cluster.callers() {
        assert_eq!(caller.ask(get("k")).token, token, "afterwards");
    }
    let killed = Instant::now();
    holder.kill_and_reap();
    await_gone(&mut other, "k");
    measured("from the kill of a holder to not found, its agent having been killed before", vec![killed.elapsed()]);
}

#[test]
fn a_key_stays_when_the_agent_of_its_living_holder_is_stopped_and_started() {
    let mut cluster = Cluster::start(3);
    let holder = Actor::holding(&cluster.agents[0], "k");
    let mut other = cluster.agents[1].connect();
    let token = other.ask(get("k")).token;
    let stopped = Instant::now();
    let status = cluster.agents[0].terminate();
    measured("from SIGTERM to the end of an agent", vec![stopped.elapsed()]);
    assert!(status.success(), "{status}");
    assert!(!cluster.agents[0].socket.exists(), "it removes its socket");
    cluster.agents[0].start();
    await_news(&cluster.agents[0], &mut other);
    assert_eq!(other.ask(get("k")).token, token);
    holder.kill_and_reap();
    await_gone(&mut other, "k");
}

#[test]
fn the_key_of_a_holder_that_dies_while_its_agent_is_down_goes_when_the_agent_comes_back() {
    let mut cluster = Cluster::start(3);
    let mut other = cluster.agents[1].connect();
    let mut times = Vec::new();
    for round in 0..rounds(30).div_ceil(10) {
        let key = format!("round-{round}");
        let holder = Actor::holding(&cluster.agents[0], &key);
        cluster.agents[0].kill();
        holder.kill_and_reap();
        let started = Instant::now();
        cluster.agents[0].start();
        await_gone(&mut other, &key);
        times.push(started.elapsed());
        cluster.agents[0].await_quorum();
    }
    measured("from the start of an agent to not found, the holder having died before", times);
}

#[test]
fn everything_acknowledged_is_there_after_all_agents_were_killed() {
    let mut cluster = Cluster::start(3);
    let keys: Vec<String> = (0..rounds(30)).map(|i| format!("key-{i}")).collect();
    let mut callers = cluster.callers();
    let set: Vec<Reply> = keys.iter().enumerate().map(|(i, k)| callers[i % 3].set(put(k, &format!("v{i}")))).collect();
    let holder = Actor::holding(&cluster.agents[0], "held");
    let mut gone = Actor::holding(&cluster.agents[1], "released");
    assert_eq!(gone.say("release released"), "Ok ");

    cluster.agents.iter_mut().for_each(Agent::kill);
    let started = Instant::now();
    cluster.agents.iter_mut().for_each(Agent::start);
    let mut times = Vec::new();
    for agent in &cluster.agents {
        let mut caller = agent.connect();
        let served = until("it serves", || {
            let reply = caller.ask(get(&keys[0]));
            (reply.status != Status::NoQuorum).then_some(reply)
        });
        times.push(started.elapsed());
        assert_eq!(served.token, set[0].token);
    }
    measured("from the start of all agents to the first read by quorum, at each", times);

    for mut caller in cluster.callers() {
        for (read, set) in caller.ask_all(keys.iter().map(|k| get(k))).into_iter().zip(&set) {
            assert_eq!(read.status, Status::Ok, "{read:?}");
            assert_eq!((&read.value, read.token, &read.holder), (&set.value, set.token, &set.holder));
        }
        assert!(is_there(&mut caller, "held") && !is_there(&mut caller, "released"));
    }
    // It is still bound.
    holder.kill_and_reap();
    await_gone(&mut cluster.agents[2].connect(), "held");
}
