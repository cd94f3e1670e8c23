//! A walk among random faults: lost, repeated and reordered messages, restarts, cuts, exits, full disks.
//!
//! Every answer and every vote is held against the rules as it comes; at the end the faults stop, and nothing may be
//! left over.

mod rules;

use super::{entry, process, repeated};
use crate::trio::{ALL, Packet, Trio};
use paxoskv::kv::{Asker, Binding, ProcessId, bucket_prefix, register_key};
use paxoskv::node::{CallId, Mode, Operation};
use paxoskv::paxos::{Ballot, RegisterKey};
use rules::Rules;

const STEPS: u64 = 3_000;
const SEEDS: u64 = 200;

#[test]
fn a_trio_under_random_faults_keeps_the_rules() {
    let mut told = rules::Counts::default();
    for seed in 1..=SEEDS {
        println!("seed {seed}");
        let mut walk = Walk::new(seed);
        for _ in 0..STEPS {
            walk.step();
            walk.rules.see(&mut walk.trio);
        }
        walk.quiesce();
        told.add(&walk.rules.counts);
    }
    // A walk on which nothing happens keeps every rule.
    let happened = [told.created, told.released, told.unknown, told.busy];
    assert!(happened.iter().all(|n| *n > 10 * SEEDS), "{told:?}");
}

/// A put that was made, to be repeated.
#[derive(Clone)]
struct Made {
    node: u16,
    put: Operation,
    process: Option<ProcessId>,
}

struct Walk {
    trio: Trio,
    rules: Rules,
    random: u64,
    keys: u64,
    made: Vec<Made>,
    alive: Vec<(u16, ProcessId)>,
    processes: u32,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        Walk {
            trio: Trio::from_seed(seed),
            rules: Rules::default(),
            random: seed,
            keys: 1 + seed % 3,
            made: Vec::new(),
            alive: Vec::new(),
            processes: 0,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end.max(1)
    }

    fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    /// One of the last few, most of the time something that is still under way.
    fn recent(&mut self, len: usize) -> usize {
        len - 1 - self.below(len.min(6) as u64) as usize
    }

    fn key(&mut self) -> RegisterKey {
        let n = self.below(self.keys);
        register_key("b", &[n as u8])
    }

    fn step(&mut self) {
        let id = 1 + self.below(3) as u16;
        let next = 1 + id % 3;
        match self.below(1000) {
            0..=39 => self.put(id),
            40..=59 => self.repeat(),
            60..=74 => self.release_created(),
            75..=84 => {
                let register = self.key();
                self.call(id, Operation::Get { register });
            }
            85..=87 => self.call(id, Operation::List { prefix: bucket_prefix("b"), after: None }),
            88..=92 => {
                let register = self.key();
                self.call(id, Operation::Release { register, token: None, by: ROOT });
            }
            93..=102 => self.exit_one(),
            103..=105 => self.restart(id),
            106..=110 => self.trio.cut(id, next),
            111..=125 => self.trio.mend(id, next),
            126..=128 => self.trio.fill_disk(id, true),
            129..=149 => self.trio.fill_disk(id, false),
            150..=219 => {
                let us = if self.percent(5) { 2_500_000 } else { self.below(3_000) };
                self.trio.advance(us);
            }
            _ => self.deliver(),
        }
    }

    fn call(&mut self, id: u16, operation: Operation) {
        let mode = if self.percent(50) { Mode::Retry } else { Mode::Answer };
        let deadline_ms = Some(1 + self.below(8_000));
        let call: CallId = self.trio.next_call();
        self.rules.called(call, id, &operation);
        self.trio.call_within(id, operation, mode, deadline_ms);
    }

    fn put(&mut self, id: u16) {
        let request = u128::from(self.rules.calls() + 1).to_be_bytes();
        let process = if self.percent(70) { Some(self.process_of(id)) } else { None };
        let lasts_ms = if self.percent(50) { 3_000 } else { 60_000 };
        let until = process.is_none() || self.percent(10);
        let until = until.then(|| Binding::Until(self.trio.now.wall_ms + lasts_ms));
        let bindings: Vec<Binding> = process.map(Binding::Pid).into_iter().chain(until).collect();
        let put = Operation::Put { register: self.key(), entry: entry(id, request, &bindings), retry: false };
        self.made.push(Made { node: id, put: put.clone(), process });
        self.call(id, put);
    }

    /// One of at most two processes of this node.
    fn process_of(&mut self, id: u16) -> ProcessId {
        let mine: Vec<ProcessId> = self.alive.iter().filter(|(node, _)| *node == id).map(|(_, p)| *p).collect();
        if mine.len() == 2 {
            return mine[self.below(2) as usize];
        }
        self.processes += 1;
        let new = process(self.processes);
        self.alive.push((id, new));
        new
    }

    fn repeat(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let at = self.recent(self.made.len());
        let Made { node, put, process } = self.made[at].clone();
        // The agent answers for a process that is gone without asking its node.
        if process.is_none_or(|p| !self.trio.dead.contains(&p)) {
            self.call(node, repeated(&put));
        }
    }

    fn release_created(&mut self) {
        if let Some((register, token)) = self.pick_created() {
            self.call(token.node().0, Operation::Release { register, token: Some(token), by: ROOT });
        }
    }

    fn pick_created(&mut self) -> Option<(RegisterKey, Ballot)> {
        let len = self.rules.created.len();
        let at = (len > 0).then(|| self.recent(len))?;
        self.rules.created.get(at).cloned()
    }

    fn exit_one(&mut self) {
        if !self.alive.is_empty() {
            let at = self.below(self.alive.len() as u64) as usize;
            let (_, process) = self.alive.swap_remove(at);
            self.trio.exit(process);
        }
    }

    fn restart(&mut self, id: u16) {
        self.trio.fill_disk(id, false);
        self.rules.see(&mut self.trio);
        self.rules.lost(id);
        let seed = self.below(u64::MAX);
        self.trio.restart(id, seed);
    }

    /// Some packet arrives: most often the oldest; now and then it is lost, or will arrive again.
    fn deliver(&mut self) {
        if self.trio.flight.is_empty() {
            return;
        }
        let at = if self.percent(60) { 0 } else { self.below(self.trio.flight.len() as u64) as usize };
        let packet = self.trio.flight.remove(at);
        let (a, b) = (packet.asker, packet.voter);
        if a != b && (self.trio.is_cut(a, b) || self.percent(3)) {
            return;
        }
        if a != b && self.percent(3) {
            self.trio.flight.push(packet.clone());
        }
        if !packet.is_ask() || self.percent(70) {
            return self.trio.arrive(packet);
        }
        // With it whatever else has come to this voter.
        let with = |p: &Packet| p.is_ask() && p.voter == b && (p.asker == b || !self.trio.is_cut(p.asker, b));
        let (mut batch, rest): (Vec<_>, Vec<_>) = self.trio.flight.clone().into_iter().partition(with);
        self.trio.flight = rest;
        batch.insert(0, packet);
        self.trio.arrive_together(b, batch);
    }

    /// The faults stop: everything is answered, what must end has ended, and nothing is left over.
    fn quiesce(&mut self) {
        for id in ALL {
            self.trio.fill_disk(*id, false);
            self.trio.mend(*id, 1 + *id % 3);
        }
        // Longer than any `until`, deadline and sweep.
        for _ in 0..2_000 {
            for _ in 0..20 {
                for packet in std::mem::take(&mut self.trio.flight) {
                    self.trio.arrive(packet);
                }
            }
            self.trio.advance(50_000);
            self.rules.see(&mut self.trio);
        }
        self.rules.at_rest(&mut self.trio);
    }
}

const ROOT: Asker = Asker { process: None, uid: 0 };
