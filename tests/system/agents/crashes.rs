//! Agents that are killed or stopped at random moments, under load: what was acknowledged stays, as it was.

use super::asker::Asker;
use super::*;
use nix::sys::signal::Signal;
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
    /// When the last one was acknowledged, and the longest time between two.
    gap: Mutex<(Option<Instant>, Duration)>,
    repeated: AtomicUsize,
    stop: AtomicBool,
}

#[test]
fn no_acknowledged_put_is_lost_or_changed_when_agents_are_killed_or_stopped_under_load() {
    let mut dice = Dice::new("crashes");
    let mut cluster = Cluster::start(3);
    let sockets: Vec<PathBuf> = cluster.agents.iter().map(|a| a.socket.clone()).collect();
    let tally = Tally::default();
    let (mut restarts, mut stops) = (Vec::new(), 0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        // The writers end also when this thread panics; the scope would wait for them for ever.
        let _stop = asker::StopOnDrop(&tally.stop);
        for writer in 0..WRITERS {
            let (sockets, tally) = (&sockets, &tally);
            scope.spawn(move || write(writer, sockets, tally));
        }
        for _ in 0..rounds(6) {
            await_puts(&tally);
            let victim = &mut cluster.agents[dice.below(3)];
            if dice.below(4) == 0 {
                // Alive, and not there: its writers give up on it, and it carries on with what it was asked.
                victim.signal(Signal::SIGSTOP);
                await_puts(&tally);
                victim.signal(Signal::SIGCONT);
                stops += 1;
            } else {
                victim.kill();
                await_puts(&tally);
                let started = Instant::now();
                victim.start();
                victim.await_quorum();
                restarts.push(started.elapsed());
            }
        }
        await_puts(&tally);
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
    report(format!(
        "{} kills and {stops} stops: {count} puts acknowledged ({:.0} a second), {} repeated, {unknown} unknown, none lost or \
         changed; longest time without an acknowledged put {:.0} ms",
        restarts.len(),
        count as f64 / took.as_secs_f64(),
        tally.repeated.load(Ordering::Relaxed),
        tally.gap.lock().unwrap().1.as_secs_f64() * 1000.0,
    ));
    measured("from the start of a killed agent to its quorum, under load", restarts);
}

/// Until there are so many more acknowledged puts.
fn await_puts(tally: &Tally) {
    let enough = tally.count.load(Ordering::Relaxed) + PUTS_BETWEEN;
    until("the load goes on", || (tally.count.load(Ordering::Relaxed) >= enough).then_some(()));
}

impl Tally {
    fn acknowledge(&self, key: String, reply: Reply) {
        self.acknowledged.lock().unwrap().push((key, reply));
        self.count.fetch_add(1, Ordering::Relaxed);
        let (last, longest) = &mut *self.gap.lock().unwrap();
        *longest = last.map_or(*longest, |last| last.elapsed().max(*longest));
        *last = Some(Instant::now());
    }
}

/// Sets fresh keys, one after the other, at one agent after the other.
fn write(writer: usize, sockets: &[PathBuf], tally: &Tally) {
    let mut asker = Asker::of_all(writer, sockets);
    for n in 0.. {
        if tally.stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{writer}/{n}");
        let request = put(&key, &format!("value of {key}"));
        let reply = asker.ask(request.clone());
        match reply.status {
            Status::Ok => {
                assert_eq!(reply.value, request.value, "nobody else sets {key}");
                tally.acknowledge(key, reply);
            }
            Status::Unknown => tally.unknown.lock().unwrap().push(key),
            _ => panic!("{key}: {reply:?}"),
        }
    }
    tally.repeated.fetch_add(asker.repeated, Ordering::Relaxed);
}
