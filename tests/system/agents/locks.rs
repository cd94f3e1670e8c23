//! One holder at a time: threads that take turns at one key, while agents are killed.

use super::asker::Asker;
use super::*;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const CONTENDERS: usize = 6;

#[derive(Default)]
struct Turns {
    taken: AtomicUsize,
    /// The value of whoever holds the lock, by its own account; and the token of the last turn.
    inside: Mutex<(Option<String>, u64)>,
    /// Values of puts of which nobody could tell what became of them. What they set, if it shows, is nobody's.
    abandoned: Mutex<BTreeSet<String>>,
    violations: Mutex<Vec<String>>,
    stop: AtomicBool,
}

#[test]
fn a_lock_has_one_holder_at_a_time_and_growing_tokens_while_agents_are_killed() {
    let mut dice = Dice::new("locks");
    let mut cluster = Cluster::start(3);
    let sockets: Vec<PathBuf> = cluster.agents.iter().map(|a| a.socket.clone()).collect();
    let turns = Turns::default();
    let (wanted, mut kills) = (rounds(150), 0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let _stop = asker::StopOnDrop(&turns.stop);
        for contender in 0..CONTENDERS {
            let (sockets, turns) = (&sockets, &turns);
            scope.spawn(move || contend(contender, sockets, turns));
        }
        let await_turns = |count: usize| {
            let enough = turns.taken.load(Ordering::Relaxed) + count;
            until("the lock goes round", || (turns.taken.load(Ordering::Relaxed) >= enough).then_some(()));
        };
        while turns.taken.load(Ordering::Relaxed) < wanted {
            let victim = &mut cluster.agents[dice.below(3)];
            // Whoever has the lock by way of this agent gives it back only when the agent is there again.
            victim.kill();
            victim.start();
            victim.await_quorum();
            await_turns(20);
            kills += 1;
        }
    });
    let violations = turns.violations.into_inner().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
    let (taken, abandoned) = (turns.taken.into_inner(), turns.abandoned.into_inner().unwrap().len());
    let rate = taken as f64 / start.elapsed().as_secs_f64();
    report(format!(
        "{taken} turns at one lock by {CONTENDERS} contenders ({rate:.0} a second), {kills} agents killed, \
         {abandoned} puts unknown, never two holders"
    ));
}

impl Turns {
    /// Between this and [`Turns::leave`] nobody else may come in.
    fn enter(&self, mine: &str, token: u64) {
        let (holder, last) = &mut *self.inside.lock().unwrap();
        if let Some(other) = holder {
            self.violations.lock().unwrap().push(format!("{mine} and {other} both hold the lock"));
        }
        if token <= *last {
            self.violations.lock().unwrap().push(format!("{mine} has token {token}, after {last}"));
        }
        (*holder, *last) = (Some(mine.to_owned()), token);
    }

    fn leave(&self) {
        self.inside.lock().unwrap().0 = None;
        self.taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes the lock, looks whether it is alone, and gives it back; again and again, always at the same agent.
fn contend(contender: usize, sockets: &[PathBuf], turns: &Turns) {
    let mut asker = Asker::of_one_agent(&sockets[contender % sockets.len()..][..1]);
    for n in 0.. {
        if turns.stop.load(Ordering::Relaxed) {
            return;
        }
        let mine = format!("{contender}/{n}");
        let pid = Some(PidOption::Connector(true));
        let reply = asker.ask(Request { pid, ..put("lock", &mine) });
        let value = reply.value.clone();
        match reply.status {
            Status::Ok if value == bytes(&mine) => {
                turns.enter(&mine, reply.token.unwrap());
                // Time for others to come in, if they can.
                std::thread::yield_now();
                turns.leave();
                asker.ask(Request { token: reply.token, ..release("lock") });
            }
            Status::Ok => {
                let nobodys = turns.abandoned.lock().unwrap().iter().any(|v| bytes(v) == value);
                if nobodys {
                    asker.ask(Request { token: reply.token, ..release("lock") });
                }
            }
            Status::Unknown => _ = turns.abandoned.lock().unwrap().insert(mine),
            _ => turns.violations.lock().unwrap().push(format!("{mine}: {reply:?}")),
        }
    }
}
