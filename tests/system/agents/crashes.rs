//! Agents that are killed at random moments, under load: what was acknowledged stays, as it was.

use super::*;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const WRITERS: usize = 8;
/// Acknowledged puts between a kill and the start, and between the start and the next kill.
const PUTS_BETWEEN: usize = 100;

/// What the writers have done.
#[derive(Default)]
struct Tally {
    acknowledged: Mutex<Vec<(String, Reply)>>,
    /// Keys of which nobody could tell what became of them.
    unknown: Mutex<Vec<String>>,
    count: AtomicUsize,
    repeated: AtomicUsize,
    stop: AtomicBool,
}

#[test]
fn no_acknowledged_put_is_lost_or_changed_when_agents_are_killed_under_load() {
    let mut dice = Dice::new("crashes");
    let mut cluster = Cluster::start(3);
    let sockets: Vec<PathBuf> = cluster.agents.iter().map(|a| a.socket.clone()).collect();
    let tally = Tally::default();
    let mut longest_gap = Duration::ZERO;
    let mut restarts = Vec::new();
    let start = Instant::now();
    std::thread::scope(|scope| {
        // The writers end also when this thread panics; the scope would wait for them for ever.
        let _stop = StopOnDrop(&tally.stop);
        for writer in 0..WRITERS {
            let (sockets, tally) = (&sockets, &tally);
            scope.spawn(move || write(writer, sockets, tally));
        }
        for _ in 0..rounds(6) {
            await_puts(&tally, &mut longest_gap);
            let victim = &mut cluster.agents[dice.below(3)];
            victim.kill();
            await_puts(&tally, &mut longest_gap);
            let started = Instant::now();
            victim.start();
            victim.await_quorum();
            restarts.push(started.elapsed());
        }
        await_puts(&tally, &mut longest_gap);
    });
    let took = start.elapsed();

    cluster.await_all_up();
    let acknowledged = tally.acknowledged.into_inner().unwrap();
    for (agent, mut caller) in cluster.agents.iter().zip(cluster.callers()) {
        let reads = caller.ask_all(acknowledged.iter().map(|(key, _)| get(key)));
        for (read, (key, set)) in reads.iter().zip(&acknowledged) {
            let found = (read.status, &read.value, read.token);
            assert_eq!(found, (Status::Ok, &set.value, set.token), "{key} at {}: lost or changed", agent.name);
        }
        assert!(!agent.log().contains("panicked"));
    }
    let (count, unknown) = (acknowledged.len(), tally.unknown.into_inner().unwrap().len());
    println!(
        "measured: {} kills: {count} puts acknowledged ({:.0} a second), {} repeated, {unknown} unknown, none lost or \
         changed; longest time without an acknowledged put {:.0} ms",
        restarts.len(),
        count as f64 / took.as_secs_f64(),
        tally.repeated.load(Ordering::Relaxed),
        longest_gap.as_secs_f64() * 1000.0,
    );
    measured("from the start of a killed agent to its quorum, under load", restarts);
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Until there are so many more acknowledged puts.
fn await_puts(tally: &Tally, longest_gap: &mut Duration) {
    let count = || tally.count.load(Ordering::Relaxed);
    let enough = count() + PUTS_BETWEEN;
    let (mut seen, mut at) = (count(), Instant::now());
    until("the load goes on", || {
        if count() != seen {
            *longest_gap = (*longest_gap).max(at.elapsed());
            (seen, at) = (count(), Instant::now());
        }
        (seen >= enough).then_some(())
    });
}

/// Sets fresh keys, one after the other, at one agent after the other.
fn write(writer: usize, sockets: &[PathBuf], tally: &Tally) {
    let mut callers: Vec<Option<Caller>> = sockets.iter().map(|_| None).collect();
    let mut at = writer;
    for n in 0.. {
        if tally.stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{writer}/{n}");
        let request = put(&key, &format!("value of {key}"));
        let mut retry = false;
        // The same request, until somebody answers it; at the next agent if this one does not.
        let reply = until(format!("an answer about {key}"), || {
            at += 1;
            let agent = at % sockets.len();
            let caller = match &mut callers[agent] {
                Some(caller) => caller,
                none => none.insert(Caller::connect(&sockets[agent]).ok()?),
            };
            tally.repeated.fetch_add(usize::from(retry), Ordering::Relaxed);
            let reply = caller.try_ask(Request { retry, ..request.clone() });
            match reply {
                Ok(reply) if reply.status != Status::NoQuorum => return Some(reply),
                // Nothing of it went to anybody.
                Ok(reply) if reply.outcome.as_deref() == Some("not_sent") => {}
                Ok(_) => retry = true,
                Err(_) => {
                    callers[agent] = None;
                    retry = true;
                }
            }
            None
        });
        match reply.status {
            Status::Ok => {
                assert_eq!(reply.value, request.value, "nobody else sets {key}");
                tally.acknowledged.lock().unwrap().push((key, reply));
                tally.count.fetch_add(1, Ordering::Relaxed);
            }
            Status::Unknown => tally.unknown.lock().unwrap().push(key),
            _ => panic!("{key}: {reply:?}"),
        }
    }
}
