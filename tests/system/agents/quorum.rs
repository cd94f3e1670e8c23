//! With and without a quorum.

use super::*;
use nix::sys::signal::Signal;

/// Puts and gets at the agents that are left, from before until well after one is taken away.
fn longest_gap(cluster: &mut Cluster, prefix: &str, take_away: impl FnOnce(&mut Agent)) -> Duration {
    let mut callers: Vec<Caller> = cluster.agents[..2].iter().map(Agent::connect).collect();
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    let mut take_away = Some(take_away);
    for i in 0..400 {
        if i == 100
            && let Some(take_away) = take_away.take()
        {
            take_away(&mut cluster.agents[2]);
        }
        let caller = &mut callers[i % 2];
        let key = format!("{prefix}{i}");
        let set = caller.set(put(&key, "v"));
        assert_eq!(caller.ask(get(&key)).token, set.token);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    longest
}

#[test]
fn with_one_agent_down_puts_and_gets_go_on() {
    let mut cluster = Cluster::start(3);
    let killed = longest_gap(&mut cluster, "killed", Agent::kill);
    cluster.agents[2].start();
    cluster.await_all_up();
    let stopped = longest_gap(&mut cluster, "stopped", |agent| agent.signal(Signal::SIGSTOP));
    measured("longest put and get while one of three agents is killed", vec![killed]);
    measured("longest put and get while one of three agents is stopped (SIGSTOP)", vec![stopped]);
    cluster.agents[2].signal(Signal::SIGCONT);
    cluster.await_all_up();
    let mut back = cluster.agents[2].connect();
    assert!(is_there(&mut back, "killed399") && is_there(&mut back, "stopped399"));
}

/// The operations that need a quorum.
fn operations() -> [Request; 4] {
    [put("new", "v"), get("old"), plain("keys"), release("old")]
}

fn with(mode: Option<&str>, deadline: Option<u64>, request: Request) -> Request {
    Request { no_quorum: mode.map(str::to_owned), deadline, ..request }
}

/// Three agents of which two are down, and the third knows.
fn alone() -> (Cluster, Caller) {
    let mut cluster = Cluster::start(3);
    cluster.agents[0].connect().set(put("old", "v"));
    cluster.agents[1..].iter_mut().for_each(Agent::kill);
    let mut caller = cluster.agents[0].connect();
    until("the quorum is lost", || (caller.ask(plain("quorum")).quorum == Some(false)).then_some(()));
    (cluster, caller)
}

#[test]
fn without_a_quorum_each_operation_answers_as_it_was_asked_to() {
    let (cluster, mut caller) = alone();
    for mode in [None, Some("return"), Some("fail"), Some("retry")] {
        for request in operations() {
            let deadline_ms = 700;
            let asked = Instant::now();
            let reply = caller.ask(with(mode, Some(deadline_ms), request.clone()));
            let took = asked.elapsed();
            let what = format!("{} with {mode:?}: {reply:?}", request.op);
            report(format!("no quorum: {} with {mode:?}: {:.1} ms", request.op, took.as_secs_f64() * 1000.0));
            if request.op == "keys" && matches!(mode, None | Some("return")) {
                assert_eq!((reply.status, reply.quorum), (Status::Ok, Some(false)), "{what}");
                assert_eq!(reply.keys.map(|k| k.len()), Some(0), "{what}");
                continue;
            }
            assert_eq!(reply.status, Status::NoQuorum, "{what}");
            assert!(reply.value.is_none() && reply.message.is_some(), "{what}");
            let outcome = reply.outcome.as_deref();
            assert!(matches!(outcome, Some("unknown" | "not_sent")), "{what}");
            if matches!(request.op.as_str(), "get" | "keys") {
                assert_eq!(outcome, Some("not_sent"), "what reads writes nothing: {what}");
            }
            if mode == Some("retry") {
                assert!(took >= Duration::from_millis(deadline_ms), "it waits until its deadline: {what}");
            }
        }
    }
    // These need none.
    let quorum = caller.ask(plain("quorum"));
    assert_eq!((quorum.status, quorum.quorum, quorum.cluster_size), (Status::Ok, Some(false), Some(3)));
    let up: Vec<(String, bool, bool)> = quorum.nodes.unwrap().into_iter().map(|n| (n.name, n.up, n.me)).collect();
    assert_eq!(up, [("a".into(), true, true), ("b".into(), false, false), ("c".into(), false, false)]);
    let status = caller.ask(plain("status"));
    assert_eq!((status.status, status.quorum), (Status::Ok, Some(false)));
    assert!(caller.ask(plain("now")).now.is_some());
    let local = caller.ask(Request { local: true, ..get("old") });
    assert_eq!((local.status, local.local), (Status::Ok, true));
    // What is wrong is wrong with and without a quorum, and said at once.
    assert_eq!(caller.ask(with(Some("never"), None, get("old"))).status, Status::BadRequest);
    assert_eq!(caller.ask(with(None, Some(0), get("old"))).status, Status::BadRequest);
    assert_eq!(caller.ask(Request { until: Some(1), ..put("new", "v") }).status, Status::InvalidValue);
    assert!(!cluster.agents[0].log().contains("panicked"));
}

#[test]
fn what_waits_for_a_quorum_is_done_when_an_agent_comes_back() {
    let (mut cluster, mut caller) = alone();
    let deadline_ms = NEVER.as_millis() as u64;
    let ids = operations().map(|request| caller.send(with(Some("retry"), Some(deadline_ms), request)).unwrap());
    // Later requests are answered while those wait.
    assert_eq!(caller.ask(plain("quorum")).quorum, Some(false));
    let started = Instant::now();
    cluster.agents[1].start();
    let [set, got, keys, released] = ids.map(|id| caller.reply_to(id).unwrap());
    measured("from the start of the missing agent until what waited was done", vec![started.elapsed()]);
    assert_eq!((set.status, set.created), (Status::Ok, Some(true)), "{set:?}");
    // They were under way at once: the get may have come before the release or after it.
    assert!(matches!(got.status, Status::Ok | Status::NotFound), "{got:?}");
    assert_eq!((keys.status, keys.quorum), (Status::Ok, Some(true)), "{keys:?}");
    assert_eq!(released.status, Status::Ok, "{released:?}");
    let mut other = cluster.agents[1].connect();
    assert!(is_there(&mut other, "new") && !is_there(&mut other, "old"));
}

#[test]
fn a_put_that_was_not_sent_for_want_of_a_quorum_may_be_made_again() {
    let (mut cluster, mut caller) = alone();
    let request = put("k", "mine");
    let reply = caller.ask(request.clone());
    assert_eq!((reply.status, reply.outcome.as_deref()), (Status::NoQuorum, Some("not_sent")), "{reply:?}");
    cluster.agents[1].start();
    cluster.agents[0].await_quorum();
    // As the first attempt: nothing of the other one can be anywhere.
    let made = caller.set(request.clone());
    let again = caller.ask(Request { retry: true, ..request });
    assert_eq!((again.status, again.token), (Status::Ok, made.token), "{again:?}");
}
