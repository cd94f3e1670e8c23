//! One simulated host: its disk, clock and processes, and a life of its agent.
//!
//! A life does what `src/agent` does between node, store and peers, and as little more as possible: one input, then
//! all its effects; jobs are staged in batches by a store that gets on by itself; what is to be sent goes at the end of
//! a turn, under one stamp.

use crate::disk::{Disk, bound_of, with_bound};
use crate::sabotage::Sabotage;
use crate::world::{Event, Packet, WALL_START_MS, World};
use paxoskv::codec::peer::{Packed, decode_frame, encode_frame, pack_reply, pack_request};
use paxoskv::kv::ProcessId;
use paxoskv::kv::peer::{PeerReply, PeerRequest, Position, Stamp};
use paxoskv::limits::{BOUND_STEP, HEARTBEAT_US, PEER_SILENCE_US};
use paxoskv::node::{Effect, Input, Node, NodeConfig, Now, Stored};
use paxoskv::paxos::{Membership, NodeId, Refusal, Reply, Voter};
use paxoskv::storage::StoreError;
use paxoskv::storage::acceptor::{Done, DurableAcceptor, Job, Opened, Staged};
use paxoskv::storage::ledger::Birth;
use paxoskv::storage::memory::Memory;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod life;

/// Nonces below this are heartbeats.
const HEARTBEAT_NONCES: u64 = 1 << 40;

pub fn id_of(host: usize) -> NodeId {
    NodeId(host as u16 + 1)
}

pub fn host_of(id: NodeId) -> usize {
    usize::from(id.0) - 1
}

pub fn membership(hosts: impl Iterator<Item = usize>) -> Membership {
    Membership::new(1, hosts.map(|h| Voter { id: id_of(h), name: format!("h{h}") }).collect())
}

/// What outlives the agent.
pub struct Site {
    pub host: usize,
    pub hosts: usize,
    /// What a crash now would leave.
    pub disk: Memory,
    /// Earlier images, the latest last; kept only for sabotage.
    pub earlier: VecDeque<Memory>,
    pub full: Arc<AtomicBool>,
    pub wall_offset_ms: i64,
    pub boot: u8,
    /// The processes that run.
    pub processes: BTreeSet<ProcessId>,
    last_pid: u32,
    /// The highest bound that was ever on the disk; needed only for sabotage.
    true_bound: u64,
}

impl Site {
    pub fn new(host: usize, hosts: usize) -> Site {
        Site {
            host,
            hosts,
            disk: Memory::new(),
            earlier: VecDeque::new(),
            full: Arc::default(),
            wall_offset_ms: 0,
            boot: 1,
            processes: BTreeSet::new(),
            last_pid: 100,
            true_bound: 0,
        }
    }

    pub fn boot_id(&self) -> [u8; 16] {
        let mut id = [0xb0; 16];
        (id[0], id[1]) = (self.host as u8, self.boot);
        id
    }

    pub fn wall_ms(&self, world: &World) -> u64 {
        (WALL_START_MS + world.now_us / 1000).saturating_add_signed(self.wall_offset_ms)
    }

    /// Boot-time clocks of different hosts have nothing to do with each other.
    fn mono_offset_us(&self) -> u64 {
        self.host as u64 * 1_000_000_000
    }

    fn now(&self, world: &World) -> Now {
        Now { mono_us: world.now_us + self.mono_offset_us(), wall_ms: self.wall_ms(world) }
    }

    pub fn spawn(&mut self) -> ProcessId {
        self.last_pid += 1;
        let start_ticks = u64::from(self.last_pid) * 7;
        let process = ProcessId { boot_id: self.boot_id(), pid: self.last_pid, start_ticks, inode: 0 };
        self.processes.insert(process);
        process
    }

    fn birth(&self, world: &mut World) -> Birth {
        Birth { store_id: [self.host as u8; 16], life_id: world.rng.bytes(), boot_id: self.boot_id() }
    }

    fn remember(&mut self, sabotage: Sabotage) {
        if sabotage == Sabotage::RolledBackDisk {
            self.earlier.push_back(self.disk.clone());
            if self.earlier.len() > 12 {
                self.earlier.pop_front();
            }
        }
    }
}

/// Who is to have what comes of a job.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Node { nonce: u64 },
    Peer { peer: usize, connection: u64, nonce: u64 },
    None,
}

struct Connection {
    peer: usize,
    /// Whether this end dialled it, and asks on it.
    asks: bool,
    up: bool,
    heard_us: u64,
}

/// What the store's thread tells the loop.
struct Told {
    done: Vec<(Origin, Job, Done)>,
    stored: Vec<Stored>,
    bound: Option<u64>,
}

pub struct Life {
    pub number: u64,
    pub node: Node,
    acceptor: DurableAcceptor<Disk>,
    queue: VecDeque<(Origin, Job)>,
    staged: Option<(Vec<(Origin, Job)>, Staged)>,
    store_runs: bool,
    told: VecDeque<Told>,
    bound: u64,
    commit: u64,
    pub watched: BTreeSet<ProcessId>,
    connections: BTreeMap<u64, Connection>,
    outgoing: BTreeMap<usize, u64>,
    pending: BTreeMap<(usize, u64), Vec<Packed>>,
    inputs: VecDeque<Input>,
    heartbeats: u64,
    next_heartbeat_us: u64,
    wake_us: Option<u64>,
    retry_raise: bool,
}

/// Makes a host's store, and writes the cluster into it.
pub fn form(site: &mut Site, world: &mut World, formed: &paxoskv::storage::acceptor::Formed) {
    let store = Disk { image: Memory::new(), full: site.full.clone() };
    let opened = DurableAcceptor::open(store, &site.birth(world)).expect("an empty store opens");
    let mut acceptor = opened.acceptor;
    let staged = acceptor.stage(&[Job::Form(Box::new(formed.clone()))], 0).expect("memory does not fail");
    acceptor.commit(staged).expect("memory does not fail");
    site.disk = acceptor.store().image.clone();
}

impl Life {
    /// Starts an agent on what the host's disk holds.
    pub fn start(site: &mut Site, world: &mut World) -> Life {
        site.full.store(false, Ordering::Relaxed);
        site.true_bound = site.true_bound.max(bound_of(&site.disk));
        let image = match world.sabotage {
            Sabotage::RolledBackDisk => site.earlier.pop_front().unwrap_or(site.disk.clone()),
            Sabotage::NoFloor => with_bound(&site.disk, 0),
            _ => site.disk.clone(),
        };
        site.earlier.clear();
        let store = Disk { image, full: site.full.clone() };
        let opened = DurableAcceptor::open(store, &site.birth(world)).expect("the store of a crashed host opens");
        let Opened { acceptor, mut earlier_bound, stored, .. } = opened;
        assert!(acceptor.formed().is_some(), "a formed cluster stays formed");
        site.disk = acceptor.store().image.clone();
        let mut bound = acceptor.bound();
        match world.sabotage {
            Sabotage::NoFloor => {
                // The node alone keeps to the true bound.
                site.true_bound += BOUND_STEP;
                (earlier_bound, bound) = (site.true_bound - BOUND_STEP, site.true_bound);
            }
            Sabotage::StaleCounter => earlier_bound = 0,
            _ => {}
        }
        let voters = match world.sabotage {
            Sabotage::QuorumOfOne => membership(std::iter::once(site.host)),
            _ => membership(0..site.hosts),
        };
        let number = acceptor.life().number;
        let node = Node::new(NodeConfig {
            me: id_of(site.host),
            membership: voters,
            boot_id: site.boot_id(),
            life: number,
            counter: earlier_bound,
            bound,
            seed: world.rng.draw(),
        });
        let commit = acceptor.last_commit();
        let mut life = Life {
            number,
            node,
            acceptor,
            queue: VecDeque::new(),
            staged: None,
            store_runs: false,
            told: VecDeque::new(),
            bound,
            commit,
            watched: BTreeSet::new(),
            connections: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            pending: BTreeMap::new(),
            inputs: VecDeque::new(),
            heartbeats: 0,
            next_heartbeat_us: world.now_us,
            wake_us: None,
            retry_raise: false,
        };
        life.handle(site, world, Input::Stored(stored));
        life.handle(site, world, Input::Voting(true));
        life.end_turn(site, world);
        life
    }

    /// One input, then all its effects, then what those lead to.
    pub fn handle(&mut self, site: &mut Site, world: &mut World, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            if let Input::Reply { from, nonce, reply } = &input {
                world.observer.heard(site.host, host_of(*from), *nonce, reply);
            }
            self.node.handle(site.now(world), input);
            while let Some(effect) = self.node.poll_effect() {
                self.carry_out(site, world, effect);
            }
        }
    }

    fn carry_out(&mut self, site: &mut Site, world: &mut World, effect: Effect) {
        match effect {
            Effect::Ask { to, nonce, request } => self.ask(site, world, &to, nonce, request),
            Effect::Answer { call, answer } => {
                let times = match world.sabotage {
                    Sabotage::TwiceAnswered if call % 50 == 0 => 2,
                    Sabotage::NeverAnswered if call % 50 == 0 => 0,
                    _ => 1,
                };
                for _ in 0..times {
                    world.observer.answered(world.now_us, call, &answer);
                }
                world.answers.push((call, answer));
            }
            Effect::Raise(counter) => self.submit(site, world, Origin::None, Job::Raise(counter)),
            Effect::Watch(process) => {
                if !site.processes.contains(&process) {
                    if world.sabotage != Sabotage::DeafToExits {
                        self.inputs.push_back(Input::ProcessGone(process));
                    }
                } else {
                    self.watched.insert(process);
                }
            }
            Effect::Unwatch(process) => {
                self.watched.remove(&process);
            }
            Effect::Quorum(_) => world.count("quorums lost or found"),
        }
    }

    fn ask(&mut self, site: &Site, world: &mut World, to: &[NodeId], nonce: u64, request: PeerRequest) {
        world.observer.asked(site.host, nonce, &request, bound_of(&site.disk));
        let mut packed = None;
        for voter in to.iter().filter(|v| host_of(**v) != site.host) {
            let peer = host_of(*voter);
            if let Some(connection) = self.outgoing.get(&peer) {
                let packed = packed.get_or_insert_with(|| pack_request(nonce, &request)).clone();
                self.pending.entry((peer, *connection)).or_default().push(packed);
            }
        }
        if to.contains(&id_of(site.host)) {
            let job = match request {
                PeerRequest::Paxos(request) => Job::Paxos(request),
                PeerRequest::List { prefix, after } => Job::List { prefix, after },
                other => panic!("a node asks its own acceptor {other:?}"),
            };
            self.submit(site, world, Origin::Node { nonce }, job);
        }
    }

    fn submit(&mut self, site: &Site, world: &mut World, origin: Origin, job: Job) {
        self.queue.push_back((origin, job));
        self.run_store_soon(site, world);
    }

    fn run_store_soon(&mut self, site: &Site, world: &mut World) {
        if !self.store_runs && !world.is_scripted() && (self.staged.is_some() || !self.queue.is_empty()) {
            self.store_runs = true;
            let slow = world.rng.permille(world.weather.slow_disk_permille);
            let after_us = if slow { world.rng.spread_us(10_000, 1_000_000) } else { world.rng.between(20, 400) };
            world.schedule(after_us, Event::Store { host: site.host, life: self.number });
        }
    }

    /// The store's thread takes one step: what is staged is committed, else what is queued is staged.
    pub fn run_store(&mut self, site: &mut Site, world: &mut World) {
        self.store_runs = false;
        match self.staged.take() {
            Some((jobs, staged)) => self.commit(site, world, jobs, staged),
            None if self.queue.is_empty() => {}
            None => {
                let many = world.rng.between(1, 64).min(self.queue.len() as u64) as usize;
                let batch: Vec<(Origin, Job)> = self.queue.drain(..many).collect();
                let jobs: Vec<Job> = batch.iter().map(|(_, job)| job.clone()).collect();
                let ahead_ms = if world.sabotage == Sabotage::ForwardClocks { 86_400_000 } else { 0 };
                let clock_ms = site.wall_ms(world) + ahead_ms;
                self.staged = Some((batch, self.acceptor.stage(&jobs, clock_ms).expect("memory does not fail")));
            }
        }
        self.run_store_soon(site, world);
    }

    fn commit(&mut self, site: &mut Site, world: &mut World, jobs: Vec<(Origin, Job)>, staged: Staged) {
        let told = match self.acceptor.commit(staged) {
            Ok(committed) => {
                site.remember(world.sabotage);
                if world.sabotage != Sabotage::ShownBeforeSynced || world.rng.permille(700) {
                    site.disk = self.acceptor.store().image.clone();
                }
                self.commit = committed.commit;
                let done: Vec<_> = jobs.into_iter().zip(committed.done).map(|((o, job), d)| (o, job, d)).collect();
                let facts = done.iter().filter_map(|(_, job, done)| match (job, done) {
                    (Job::Paxos(request), Done::Reply(PeerReply::Paxos(Reply::Accepted))) => Some(request),
                    _ => None,
                });
                world.observer.committed(site.host, facts);
                Told { done, stored: committed.stored, bound: Some(committed.bound) }
            }
            Err(StoreError::NoSpace(_)) => {
                world.count("batches without space");
                let busy = || Done::Reply(PeerReply::Paxos(Reply::Refused(Refusal::Busy)));
                let done = jobs.into_iter().map(|(origin, job)| (origin, job, busy())).collect();
                Told { done, stored: Vec::new(), bound: None }
            }
            Err(e) => panic!("memory does not fail: {e}"),
        };
        self.told.push_back(told);
        if !world.is_scripted() {
            let after_us = world.rng.between(10, 300);
            world.schedule(after_us, Event::Told { host: site.host, life: self.number });
        }
    }

    /// What was committed reaches the loop.
    pub fn take_told(&mut self, site: &mut Site, world: &mut World) {
        let Some(told) = self.told.pop_front() else { return };
        if let Some(bound) = told.bound {
            self.bound = bound;
        }
        if !told.stored.is_empty() {
            self.handle(site, world, Input::Stored(told.stored));
        }
        for (origin, job, done) in told.done {
            if let (Job::Paxos(request), Done::Reply(PeerReply::Paxos(reply)), false) =
                (&job, &done, matches!(origin, Origin::None))
            {
                world.observer.shown(site.host, request, reply, &site.disk);
            }
            match (origin, done) {
                (Origin::Node { nonce }, Done::Reply(reply)) => {
                    self.handle(site, world, Input::Reply { from: id_of(site.host), nonce, reply });
                }
                (Origin::Peer { peer, connection, nonce }, Done::Reply(reply)) => {
                    self.reply(peer, connection, nonce, &reply);
                }
                (_, Done::Raised) => self.handle(site, world, Input::Raised(self.bound)),
                (Origin::None, Done::Reply(_)) => self.retry_raise = true,
                (_, Done::Formed) => {}
            }
        }
        self.end_turn(site, world);
    }

    fn reply(&mut self, peer: usize, connection: u64, nonce: u64, reply: &PeerReply) {
        self.pending.entry((peer, connection)).or_default().push(pack_reply(nonce, reply));
    }

    /// Whether the store's thread has something to do, or the loop something to be told.
    pub fn is_busy(&self) -> bool {
        self.staged.is_some() || !self.queue.is_empty() || !self.told.is_empty()
    }

    /// Whether a batch is stepped and not yet written.
    pub fn is_staged(&self) -> bool {
        self.staged.is_some()
    }
}
