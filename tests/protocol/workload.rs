//! What happens to a simulated cluster: applications that call, processes that exit, and everything that can fail.
//! It knows nothing of what is right; that is the observer's part.

use crate::cluster::{Cluster, Put, uid_of};
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::world::{Event, Weather};
use paxoskv::kv::{Asker, ProcessId, bucket_prefix, register_key};
use paxoskv::node::{Answer, Mode, NoQuorum, Operation};
use paxoskv::paxos::{Ballot, RegisterKey};
use std::collections::BTreeMap;

/// How one run is shaped.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hosts: usize,
    pub registers: u64,
    /// The longest pause between two calls, in microseconds.
    pub call_pause_us: u64,
    /// The longest pause between two faults.
    pub fault_pause_us: u64,
    /// How long calls and faults go on.
    pub busy_us: u64,
    /// How many of a hundred faults are crashes beyond the usual mixture, and how many of all crashes nobody notices.
    pub crashes: u64,
}

impl Shape {
    /// A different mixture for each seed: sizes, contention, and how much time lies between things.
    pub fn of(seed: u64) -> Shape {
        let hosts = [3, 5, 3, 1, 3][(seed % 5) as usize];
        let pauses = [(60_000, 1_500_000, 10_000_000), (4_000, 300_000, 2_000_000), (500_000, 2_000_000, 40_000_000)];
        let (call_pause_us, fault_pause_us, busy_us) = pauses[(seed / 5 % 3) as usize];
        let crashes = [0, 50][(seed / 15 % 2) as usize];
        Shape { hosts, registers: 1 + seed % 3, call_pause_us, fault_pause_us, busy_us, crashes }
    }
}

const DAY_MS: i64 = 86_400_000;

struct Workload {
    shape: Shape,
    rng: Rng,
    /// Puts whose caller does not know what came of them, by host.
    unsure: Vec<(usize, Put)>,
    /// Puts under way, by call.
    puts: BTreeMap<u64, (usize, Put)>,
    /// Tokens that somebody was told.
    tokens: Vec<(usize, RegisterKey, Ballot, ProcessId)>,
}

/// Runs a cluster from a seed: busy, then at rest.
pub fn run(shape: Shape, seed: u64, sabotage: Sabotage) -> Cluster {
    let mut cluster = Cluster::new(shape.hosts, seed, sabotage, false);
    let mut w =
        Workload { shape, rng: Rng::new(seed ^ 0x5eed), unsure: Vec::new(), puts: BTreeMap::new(), tokens: Vec::new() };
    cluster.run_until(1_500_000);
    cluster.world.weather = w.weather(&cluster);
    let end_us = cluster.world.now_us + shape.busy_us;
    let (mut call_us, mut fault_us) = (0, cluster.world.now_us + shape.fault_pause_us / 4);
    while cluster.world.now_us < end_us {
        if call_us <= fault_us {
            cluster.run_until(call_us);
            w.take_answers(&mut cluster);
            w.call(&mut cluster);
            call_us = cluster.world.now_us + w.rng.spread_us(20, w.shape.call_pause_us);
        } else {
            cluster.run_until(fault_us);
            w.fault(&mut cluster);
            fault_us = cluster.world.now_us + w.rng.between(1_000, w.shape.fault_pause_us);
        }
    }
    w.heal(&mut cluster);
    w.rest(&mut cluster);
    cluster
}

impl Workload {
    fn register(&mut self) -> RegisterKey {
        register_key("b", &[0x61, b'a' + self.rng.below(self.shape.registers) as u8])
    }

    fn process(&mut self, cluster: &mut Cluster, host: usize) -> ProcessId {
        let running: Vec<ProcessId> = cluster.hosts[host].site.processes.iter().copied().collect();
        match self.rng.pick(&running) {
            Some(process) if running.len() >= 3 || self.rng.permille(600) => process,
            _ => cluster.hosts[host].site.spawn(),
        }
    }

    fn deadline_ms(&mut self) -> Option<u64> {
        [None, Some(50), Some(400), Some(3_000), Some(8_000)][self.rng.below(5) as usize]
    }

    fn call(&mut self, cluster: &mut Cluster) {
        let host = self.rng.below(self.shape.hosts as u64) as usize;
        let mode = if self.rng.permille(500) { Mode::Retry } else { Mode::Answer };
        let (register, deadline_ms) = (self.register(), self.deadline_ms());
        match self.rng.below(100) {
            0..=34 => self.put(cluster, host, register, mode, deadline_ms),
            35..=49 => self.retry(cluster, mode, deadline_ms),
            50..=66 => {
                cluster.world.count("gets");
                cluster.call(host, Operation::Get { register }, mode, deadline_ms);
            }
            67..=69 => {
                cluster.call(host, Operation::GetLocal { register }, mode, deadline_ms);
            }
            70..=73 => {
                cluster.world.count("lists");
                let after = self.rng.permille(300).then_some(register);
                cluster.call(host, Operation::List { prefix: bucket_prefix("b"), after }, mode, deadline_ms);
            }
            _ => self.release(cluster, host, mode, deadline_ms),
        }
    }

    fn put(&mut self, cluster: &mut Cluster, host: usize, register: RegisterKey, mode: Mode, deadline_ms: Option<u64>) {
        let by = self.process(cluster, host);
        let bind = self.rng.permille(600).then_some(by);
        let ahead_ms = self.rng.between(1, 15_000);
        let until_ms = self.rng.permille(300).then_some(cluster.wall_ms(host) + ahead_ms);
        let put = Put { register, request: self.rng.bytes(), by, bind, until_ms, retry: false };
        cluster.world.count("puts");
        if let Some(id) = cluster.put(host, &put, mode, deadline_ms) {
            self.puts.insert(id, (host, put));
        }
    }

    /// A put whose outcome its caller does not know, or that is still under way, is asked for again.
    fn retry(&mut self, cluster: &mut Cluster, mode: Mode, deadline_ms: Option<u64>) {
        let under_way: Vec<(usize, Put)> = self.puts.values().rev().take(2).cloned().collect();
        let from = if self.rng.permille(800) { &self.unsure } else { &under_way };
        let Some((host, mut put)) = self.rng.pick(from) else { return };
        if !cluster.hosts[host].site.processes.contains(&put.by) {
            return;
        }
        put.retry = true;
        cluster.world.count("repeated puts");
        if let Some(id) = cluster.put(host, &put, mode, deadline_ms) {
            self.unsure.retain(|(_, p)| p.request != put.request);
            self.puts.insert(id, (host, put));
        }
    }

    fn release(&mut self, cluster: &mut Cluster, host: usize, mode: Mode, deadline_ms: Option<u64>) {
        let known = self.rng.pick(&self.tokens);
        let (host, register, token, process) = match known {
            Some((host, register, token, process)) if self.rng.permille(800) => (host, register, Some(token), process),
            _ => (host, self.register(), None, self.process(cluster, host)),
        };
        let uid = [uid_of(host), 0, 7][self.rng.below(3) as usize];
        let by = Asker { process: self.rng.permille(700).then_some(process), uid };
        cluster.world.count("releases");
        cluster.call(host, Operation::Release { register, token, by }, mode, deadline_ms);
    }

    fn take_answers(&mut self, cluster: &mut Cluster) {
        for (id, answer) in std::mem::take(&mut cluster.world.answers) {
            cluster.world.count(kind_of(&answer));
            let Some((host, put)) = self.puts.remove(&id) else { continue };
            match answer {
                Answer::Put { entry, .. } => {
                    self.tokens.push((host, put.register, entry.header.token, put.by));
                    if self.tokens.len() > 8 {
                        self.tokens.remove(0);
                    }
                }
                Answer::NoQuorum(NoQuorum { unknown: true, .. }) | Answer::OutcomeUnknown => self.doubt(host, put),
                _ => {}
            }
        }
    }

    fn doubt(&mut self, host: usize, put: Put) {
        self.unsure.push((host, put));
        if self.unsure.len() > 12 {
            self.unsure.remove(0);
        }
    }

    fn lose(&mut self, lost: Vec<u64>) {
        for id in lost {
            if let Some((host, put)) = self.puts.remove(&id) {
                self.doubt(host, put);
            }
        }
    }

    fn fault(&mut self, cluster: &mut Cluster) {
        let host = self.rng.below(self.shape.hosts as u64) as usize;
        let other = self.rng.below(self.shape.hosts as u64) as usize;
        if self.rng.below(100) < self.shape.crashes {
            return self.crash(cluster, host);
        }
        match self.rng.below(100) {
            0..=24 => self.exit(cluster, host),
            25..=39 => self.crash(cluster, host),
            40..=47 => {
                cluster.world.count("cuts of one direction");
                cluster.world.weather.cut.insert((host, other));
            }
            48..=55 => {
                cluster.world.count("hosts cut off");
                for peer in 0..self.shape.hosts {
                    cluster.world.weather.cut.extend([(host, peer), (peer, host)]);
                }
            }
            56..=70 => cluster.world.weather.cut.clear(),
            71..=78 => {
                cluster.world.count("connections broken");
                cluster.on(host, |life, site, world| life.hang_up(site, world, other));
            }
            79..=84 => self.clock(cluster, host),
            85..=88 => {
                cluster.world.count("disks full");
                cluster.fill_disk(host, true);
            }
            89..=92 => (0..self.shape.hosts).for_each(|h| cluster.fill_disk(h, false)),
            _ => cluster.world.weather = self.weather(cluster),
        }
    }

    fn exit(&mut self, cluster: &mut Cluster, host: usize) {
        let running: Vec<ProcessId> = cluster.hosts[host].site.processes.iter().copied().collect();
        if let Some(process) = self.rng.pick(&running) {
            cluster.exit(host, process);
        }
    }

    fn crash(&mut self, cluster: &mut Cluster, host: usize) {
        if self.rng.below(100) < self.shape.crashes {
            let lost = cluster.blink(host);
            return self.lose(lost);
        }
        let lost = if self.rng.permille(200) { cluster.reboot(host) } else { cluster.crash(host) };
        self.lose(lost);
        let after_us = self.rng.spread_us(1_000, 6_000_000);
        cluster.world.schedule(after_us, Event::Restart { host });
    }

    fn clock(&mut self, cluster: &mut Cluster, host: usize) {
        cluster.world.count("clock jumps");
        let offsets = [0, 0, 20_000, -20_000, 3_000, DAY_MS, -DAY_MS];
        cluster.hosts[host].site.wall_offset_ms = offsets[self.rng.below(offsets.len() as u64) as usize];
    }

    fn weather(&mut self, cluster: &Cluster) -> Weather {
        let harsh = self.rng.below(4);
        Weather {
            loss_permille: self.rng.below(1 + 60 * harsh),
            repeat_permille: self.rng.below(1 + 50 * harsh),
            straggle_permille: self.rng.below(1 + 100 * harsh),
            slow_disk_permille: self.rng.below(1 + 60 * harsh),
            delay_us: [1_500, 1_500, 20_000, 100_000][harsh as usize],
            cut: cluster.world.weather.cut.clone(),
        }
    }

    /// Everything works again; clocks may stay wrong on a minority.
    fn heal(&mut self, cluster: &mut Cluster) {
        cluster.world.weather = Weather::fine();
        for host in 0..self.shape.hosts {
            cluster.fill_disk(host, false);
            cluster.start(host);
            if 2 * host >= self.shape.hosts - 1 {
                cluster.hosts[host].site.wall_offset_ms = 0;
            }
        }
    }

    /// Time passes; then everything is read, which may complete what was left over; then time passes again.
    fn rest(&mut self, cluster: &mut Cluster) {
        let rest_us = 45_000_000;
        cluster.run_until(cluster.world.now_us + rest_us);
        for host in 0..self.shape.hosts {
            for register in cluster.world.observer.registers() {
                cluster.call(host, Operation::Get { register }, Mode::Retry, None);
            }
        }
        cluster.run_until(cluster.world.now_us + rest_us);
        let clocks: Vec<u64> = (0..self.shape.hosts).map(|h| cluster.wall_ms(h)).collect();
        cluster.world.observer.at_rest(&clocks);
    }
}

fn kind_of(answer: &Answer) -> &'static str {
    match answer {
        Answer::Put { created: true, .. } => "answer: created",
        Answer::Put { .. } => "answer: already set",
        Answer::State(Some(_)) => "answer: live",
        Answer::State(None) => "answer: absent",
        Answer::Released(_) => "answer: released",
        Answer::NothingToRelease => "answer: nothing to release",
        Answer::NotPermitted => "answer: not permitted",
        Answer::Invalid(_) => "answer: invalid",
        Answer::OutcomeUnknown => "answer: outcome unknown",
        Answer::Page { .. } => "answer: page",
        Answer::NoQuorum(NoQuorum { unknown: true, .. }) => "answer: no quorum, unknown",
        Answer::NoQuorum(_) => "answer: no quorum, never",
        Answer::Overloaded(_) => "answer: overloaded",
        Answer::Unreadable => "answer: unreadable",
    }
}
