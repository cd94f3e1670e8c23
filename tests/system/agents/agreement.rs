//! One key, one value, whoever asks whom.

use super::*;
use nix::sys::signal::Signal;
use std::sync::Barrier;

const CLIENTS_PER_AGENT: usize = 50;

/// All clients of all these agents set one key after the other, each to a value of its own, at the same moments. One
/// creates it, and all are told its value. How long each key took.
fn contend(agents: &[Agent], keys: &[String]) -> Vec<Duration> {
    let (start, end) = (Barrier::new(agents.len()), Barrier::new(agents.len()));
    // Each agent has a thread that speaks for all its clients; each client has a connection of its own.
    let by_agent: Vec<Vec<(Vec<Option<Reply>>, Duration)>> = std::thread::scope(|scope| {
        let (start, end) = (&start, &end);
        let one = |agent: &Agent| {
            let name = agent.name.clone();
            let mut callers: Vec<Caller> = (0..CLIENTS_PER_AGENT).map(|_| agent.connect()).collect();
            scope.spawn(move || {
                let contend = |key: &String| {
                    start.wait();
                    let at = Instant::now();
                    // Nobody may panic between the barriers: the others would wait for ever.
                    let ids: Vec<Option<u64>> = (callers.iter_mut().enumerate())
                        .map(|(i, c)| c.send(put(key, &format!("{name}{i} for {key}"))).ok())
                        .collect();
                    let replies = callers.iter_mut().zip(ids).map(|(c, id)| c.reply_to(id?).ok()).collect();
                    let took = at.elapsed();
                    end.wait();
                    (replies, took)
                };
                keys.iter().map(contend).collect()
            })
        };
        let threads: Vec<_> = agents.iter().map(one).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });

    let mut readers: Vec<Caller> = agents.iter().map(Agent::connect).collect();
    let mut times = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let replies: Vec<&Reply> = by_agent.iter().flat_map(|keys| keys[i].0.iter().flatten()).collect();
        assert_eq!(replies.len(), agents.len() * CLIENTS_PER_AGENT);
        let first = replies[0];
        for reply in &replies {
            assert_eq!(reply.status, Status::Ok, "{reply:?}");
            assert_eq!((&reply.value, reply.token), (&first.value, first.token), "{key}");
        }
        assert_eq!(replies.iter().filter(|r| r.created == Some(true)).count(), 1, "{key}: created once");
        for reader in &mut readers {
            let read = reader.ask(get(key));
            assert_eq!((&read.value, read.token), (&first.value, first.token), "{key}");
        }
        times.push(by_agent.iter().map(|keys| keys[i].1).max().unwrap());
    }
    times
}

fn keys() -> Vec<String> {
    (0..rounds(10)).map(|i| format!("key {i}")).collect()
}

#[test]
fn of_150_clients_that_set_a_key_at_once_one_creates_it_and_all_are_told_its_value() {
    let cluster = Cluster::start(3);
    let times = contend(&cluster.agents, &keys());
    measured("150 clients of 3 agents set one key, until all are answered", times);
}

#[test]
fn clients_that_set_a_key_at_once_are_all_answered_while_one_of_three_agents_is_down() {
    let mut cluster = Cluster::start(3);
    cluster.agents[2].kill();
    let mut caller = cluster.agents[0].connect();
    until("a notices", || caller.ask(plain("quorum")).nodes.unwrap().iter().any(|n| !n.up).then_some(()));
    // Each of two contenders has its own vote and may be refused by the other: neither may wait for the third.
    let times = contend(&cluster.agents[..2], &keys());
    measured("100 clients of 2 of 3 agents set one key, until all are answered", times);
}

/// A refused round waited for the third voter, which was connected and did not answer, until its phase timed out: no
/// quorum, although there was one.
#[test]
fn clients_that_set_a_key_at_once_are_all_answered_while_one_of_three_agents_is_stopped() {
    let cluster = Cluster::start(3);
    cluster.agents[2].signal(Signal::SIGSTOP);
    let times = contend(&cluster.agents[..2], &keys());
    measured("100 clients of 2 of 3 agents set one key beside a stopped one, until all are answered", times);
}

#[test]
fn a_cluster_of_one_decides_alone() {
    let mut cluster = Cluster::start(1);
    let mut caller = cluster.agents[0].connect();
    let set = caller.set(put("k", "v"));
    cluster.agents[0].kill();
    cluster.agents[0].start();
    let again = cluster.agents[0].await_quorum().ask(put("k", "another"));
    assert_eq!(
        (again.status, again.created, again.value, again.token),
        (Status::Ok, Some(false), set.value, set.token)
    );
}

#[test]
fn a_cluster_of_nine_serves_with_four_down() {
    let mut cluster = Cluster::start(9);
    let mut callers = cluster.callers();
    let token = callers[8].set(put("k", "v")).token;
    cluster.agents[..4].iter_mut().for_each(Agent::kill);
    for caller in &mut callers[4..] {
        assert_eq!(caller.ask(get("k")).token, token);
    }
    callers[4].set(put("l", "w"));
    cluster.agents[4].kill();
    let mut left = cluster.agents[8].connect();
    until("the quorum is lost", || (left.ask(plain("quorum")).quorum == Some(false)).then_some(()));
    assert_eq!(left.ask(get("l")).status, Status::NoQuorum);
}
