//! Agents that are killed in the middle of puts that are bound to a process, which then dies too.
//!
//! An accept that reached one voter before its agent was killed can be completed by anybody, at any later time: also
//! after the process has gone and its agent has started again, knowing nothing of the put. Such an entry must go all
//! the same.

use super::*;

const KEYS: usize = 1000;

fn key(round: usize, i: usize) -> String {
    format!("{round}-{i}")
}

#[test]
fn no_key_of_a_dead_holder_stays_whichever_agents_are_killed_in_the_middle_of_its_puts() {
    let mut dice = Dice::new("floods");
    let mut cluster = Cluster::start(3);
    let mut holder_of_all = Actor::start(&cluster.agents[0].socket);
    let (mut found, mut times) = (0, Vec::new());
    for round in 0..rounds(4) {
        let at = dice.below(3);
        let alive = key(round, KEYS);
        assert_eq!(holder_of_all.say(&format!("hold {alive}")), "Ok ");
        let mut holder = Actor::start(&cluster.agents[at].socket);
        holder.tell(&format!("flood {round}- {KEYS}"));
        // Some of them are chosen, some are on their way.
        let mut observer = cluster.agents[(at + 1) % 3].connect();
        let seen = key(round, dice.below(KEYS / 2));
        until("the flood has come so far", || is_there(&mut observer, &seen).then_some(()));
        // The agent that was asked, some of the others, or all; and the holder before or after them.
        let before = dice.below(2) == 0;
        let mut doomed = Some(holder);
        if before {
            doomed.take().into_iter().for_each(Actor::kill_and_reap);
        }
        let killed: Vec<usize> = (0..3).filter(|i| *i == at || dice.below(2) == 0).collect();
        killed.iter().for_each(|i| cluster.agents[*i].kill());
        doomed.into_iter().for_each(Actor::kill_and_reap);
        // To read is to complete what was left half done: then it is live, until the agent of its process is back.
        let keys: Vec<String> = (0..KEYS).map(|i| key(round, i)).collect();
        if killed == [at] {
            let reads = observer.ask_all(keys.iter().map(|key| get(key)));
            found += reads.iter().filter(|reply| reply.status == Status::Ok).count();
        }
        let started = Instant::now();
        killed.iter().for_each(|i| cluster.agents[*i].start());
        cluster.await_all_up();

        let mut callers = cluster.callers();
        for caller in &mut callers {
            let mut left = keys.clone();
            until("all keys of the flood are gone", || {
                let reads = caller.ask_all(left.iter().map(|key| get(key)));
                let gone = reads.into_iter().map(|reply| reply.status == Status::NotFound);
                left = left.drain(..).zip(gone).filter(|(_, gone)| !gone).map(|(key, _)| key).collect();
                left.is_empty().then_some(())
            });
        }
        times.push(started.elapsed());
        // Free for the living, and nobody else's key is touched.
        callers[at].set(put(&key(round, 0), "another"));
        assert!(is_there(&mut callers[at], &alive));
        if killed.contains(&0) {
            // It lost its connection, and not its keys.
            holder_of_all = Actor::start(&cluster.agents[0].socket);
        }
    }
    report(format!(
        "{} floods of {KEYS} bound puts cut off; {found} keys found before their agent was back",
        times.len()
    ));
    measured("from the start of the killed agents until no key of the flood is left", times);
}
