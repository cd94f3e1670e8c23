//! A whole cluster in one thread: real nodes over real acceptors, a simulated world around them.

use crate::host::{Life, Site, form, id_of, membership};
use crate::observer::{Observer, Violation};
use crate::sabotage::Sabotage;
use crate::world::{Event, World};
use paxoskv::kv::peer::StoreOf;
use paxoskv::kv::{Binding, Entry, Header, Holder, Kind, ProcessId, Reason, RequestId};
use paxoskv::node::{Answer, Call, Input, Mode, Operation};
use paxoskv::paxos::{Ballot, RegisterKey};
use paxoskv::storage::acceptor::Formed;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub struct Host {
    pub site: Site,
    /// None while the agent is down.
    pub life: Option<Life>,
}

pub struct Cluster {
    pub world: World,
    pub hosts: Vec<Host>,
    last_call: u64,
}

/// A put, as an application asks for it.
#[derive(Clone, Debug)]
pub struct Put {
    pub register: RegisterKey,
    pub request: RequestId,
    /// The caller.
    pub by: ProcessId,
    pub bind: Option<ProcessId>,
    pub until_ms: Option<u64>,
    pub retry: bool,
}

impl Cluster {
    pub fn new(size: usize, seed: u64, sabotage: Sabotage, scripted: bool) -> Cluster {
        let mut world = World::new(seed, Observer::new(size), sabotage, scripted);
        let stores = (0..size).map(|h| StoreOf { node: id_of(h), store: [h as u8; 16] }).collect();
        let membership = membership(0..size);
        let formed = Formed { cluster: "simulated".into(), cluster_id: [9; 16], membership, stores };
        let mut hosts = Vec::new();
        for host in 0..size {
            let mut site = Site::new(host, size);
            form(&mut site, &mut world, &formed);
            hosts.push(Host { site, life: None });
        }
        let mut cluster = Cluster { world, hosts, last_call: 0 };
        for host in 0..size {
            cluster.start(host);
        }
        cluster
    }

    pub fn violations(&self) -> &[Violation] {
        &self.world.observer.violations
    }

    /// Lets the agent of a host act, if it is up.
    pub fn on<R>(&mut self, host: usize, act: impl FnOnce(&mut Life, &mut Site, &mut World) -> R) -> Option<R> {
        let Host { site, life } = &mut self.hosts[host];
        self.world.observer.clock(host, site.wall_ms(&self.world));
        life.as_mut().map(|life| act(life, site, &mut self.world))
    }

    pub fn is_up(&self, host: usize) -> bool {
        self.hosts[host].life.is_some()
    }

    /// Starts the agent of a host on what its disk holds.
    pub fn start(&mut self, host: usize) {
        let Host { site, life } = &mut self.hosts[host];
        if life.is_none() {
            *life = Some(Life::start(site, &mut self.world));
        }
    }

    /// The agent of a host ends at once. What it had staged is lost, and so are the calls that it had not answered.
    pub fn crash(&mut self, host: usize) -> Vec<u64> {
        let Some(dead) = self.hosts[host].life.take() else { return Vec::new() };
        self.world.count(if dead.is_staged() { "crashes between stage and commit" } else { "crashes" });
        for peer in 0..self.hosts.len() {
            let Some(life) = &self.hosts[peer].life else { continue };
            let number = life.number;
            for connection in life.connections_with(host) {
                if !self.world.is_scripted() && self.world.rng.permille(700) {
                    let after_us = self.world.rng.between(50, 20_000);
                    self.world.schedule(after_us, Event::Broken { host: peer, life: number, connection });
                }
            }
        }
        self.world.observer.lost(host)
    }

    /// The agent of a host ends and starts at once, before anybody can notice.
    pub fn blink(&mut self, host: usize) -> Vec<u64> {
        let Some(dead) = self.hosts[host].life.take() else { return Vec::new() };
        self.world.count(if dead.is_staged() { "crashes between stage and commit" } else { "crashes" });
        let lost = self.world.observer.lost(host);
        self.start(host);
        lost
    }

    /// The host itself starts again: its processes are gone, and another boot begins.
    pub fn reboot(&mut self, host: usize) -> Vec<u64> {
        let lost = self.crash(host);
        self.world.count("reboots");
        let site = &mut self.hosts[host].site;
        for process in std::mem::take(&mut site.processes) {
            self.world.observer.exited(process);
        }
        site.boot += 1;
        lost
    }

    /// A process exits. The kernel tells the agent, if that watches it, a little later.
    pub fn exit(&mut self, host: usize, process: ProcessId) {
        if !self.hosts[host].site.processes.remove(&process) {
            return;
        }
        self.world.count("exits");
        self.world.observer.exited(process);
        let number = self.hosts[host].life.as_ref().map_or(0, |l| l.number);
        let was_watched = self.on(host, |life, _, _| life.watched.remove(&process)).unwrap_or(false);
        if !was_watched || self.world.sabotage == Sabotage::DeafToExits {
            return;
        }
        if self.world.is_scripted() {
            self.on(host, |life, site, world| {
                life.handle(site, world, Input::ProcessGone(process));
                life.end_turn(site, world);
            });
        } else {
            let after_us = self.world.rng.between(20, 3_000);
            self.world.schedule(after_us, Event::Exited { host, life: number, process });
        }
    }

    pub fn fill_disk(&mut self, host: usize, full: bool) {
        self.hosts[host].site.full.store(full, Ordering::Relaxed);
    }

    pub fn wall_ms(&self, host: usize) -> u64 {
        self.hosts[host].site.wall_ms(&self.world)
    }

    /// An application makes a call. None if the agent is down.
    pub fn call(&mut self, host: usize, operation: Operation, mode: Mode, deadline_ms: Option<u64>) -> Option<u64> {
        self.last_call += 1;
        let id = self.last_call;
        self.on(host, |life, site, world| {
            let mut call = Call { id, operation, mode, deadline_ms };
            world.observer.called(world.now_us, host, &call);
            if let (Sabotage::LocalReads, Operation::Get { register }) = (world.sabotage, &call.operation) {
                call.operation = Operation::GetLocal { register: register.clone() };
            }
            life.handle(site, world, Input::Call(call));
            life.end_turn(site, world);
            id
        })
    }

    /// A put, which the agent looks at before its node does. None if the agent is down.
    pub fn put(&mut self, host: usize, put: &Put, mode: Mode, deadline_ms: Option<u64>) -> Option<u64> {
        if !self.is_up(host) {
            return None;
        }
        let wall_ms = self.wall_ms(host);
        let entry = entry_of(host, put, wall_ms);
        let gone = put.bind.is_some_and(|p| !self.hosts[host].site.processes.contains(&p));
        let past = put.until_ms.is_some_and(|until_ms| until_ms <= wall_ms);
        let retry = put.retry && self.world.sabotage != Sabotage::UnmarkedRetries;
        let operation = Operation::Put { register: put.register.clone(), entry, retry };
        // A repeated put may have been carried out: its entry has to be looked for.
        if put.retry || (!gone && !past) {
            return self.call(host, operation, mode, deadline_ms);
        }
        self.last_call += 1;
        let id = self.last_call;
        self.on(host, |_, _, world| {
            let answer = Answer::Invalid("the process is gone, or the time is past");
            world.observer.called(world.now_us, host, &Call { id, operation, mode, deadline_ms });
            world.observer.answered(world.now_us, id, &answer);
            world.answers.push((id, answer));
            id
        })
    }

    /// The next event happens. False if there is none.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.world.next_event() else { return false };
        self.world.count("steps");
        let (host, life) = match &event {
            Event::Packet(packet) => (packet.to, None),
            Event::Store { host, life }
            | Event::Told { host, life }
            | Event::Wake { host, life }
            | Event::Exited { host, life, .. }
            | Event::Broken { host, life, .. } => (*host, Some(*life)),
            Event::Dial { host, life, to } => {
                self.dial(*host, *life, *to);
                return true;
            }
            Event::Restart { host } => {
                self.start(*host);
                return true;
            }
        };
        self.on(host, |agent, site, world| {
            if life.is_some_and(|life| life != agent.number) {
                return;
            }
            match event {
                Event::Packet(packet) => agent.receive(site, world, &packet),
                Event::Store { .. } => agent.run_store(site, world),
                Event::Told { .. } => agent.take_told(site, world),
                Event::Wake { .. } => agent.wake(site, world),
                Event::Exited { process, .. } => {
                    agent.handle(site, world, Input::ProcessGone(process));
                    agent.end_turn(site, world);
                }
                Event::Broken { connection, .. } => {
                    agent.close(site, world, connection);
                    agent.end_turn(site, world);
                }
                Event::Dial { .. } | Event::Restart { .. } => {}
            }
        });
        true
    }

    /// Connects two hosts, if both are up and the network lets them.
    pub fn dial(&mut self, host: usize, life: u64, to: usize) {
        let counter_of = |h: &Host| h.life.as_ref().map(|l| l.node.counter());
        let (Some(mine), Some(theirs)) = (counter_of(&self.hosts[host]), counter_of(&self.hosts[to])) else { return };
        let dials = |l: &Life| l.number == life && !l.is_dialling(to);
        if !self.hosts[host].life.as_ref().is_some_and(dials) || !self.world.is_open(host, to) {
            return;
        }
        let id = self.world.draw_connection();
        self.on(to, |life, site, world| life.connect(site, world, id, host, false, mine));
        self.on(host, |life, site, world| life.connect(site, world, id, to, true, theirs));
    }

    /// Lets everything happen that is due before then.
    pub fn run_until(&mut self, at_us: u64) {
        while self.world.next_due().is_some_and(|due| due < at_us) {
            self.step();
        }
        self.world.now_us = self.world.now_us.max(at_us);
    }
}

pub fn uid_of(host: usize) -> u32 {
    1000 + host as u32
}

fn entry_of(host: usize, put: &Put, now_ms: u64) -> Arc<Entry> {
    let bindings = put.bind.map(Binding::Pid).into_iter().chain(put.until_ms.map(Binding::Until));
    let header = Header {
        kind: Kind::Live,
        reason: Reason::None,
        token: Ballot::ZERO,
        request: put.request,
        node: id_of(host),
        incarnation: 1,
        bindings: bindings.collect(),
    };
    let holder = Holder { process: Some(put.by), uid: uid_of(host), since_ms: now_ms, comm: "sim".into() };
    Arc::new(Entry { header, holder, value: put.request.as_slice().into() })
}
