//! Three real nodes over real durable acceptors, in one thread, and between them what a test lets through.
//!
//! Nothing moves by itself: requests and replies stay in [`Trio::flight`] until a test delivers, holds or loses them,
//! and time stands still until it is advanced. Agents are named as in the cluster: 1, 2 and 3.

mod agent;

pub use agent::BOOT;

use agent::Agent;
use paxoskv::kv::peer::{PeerReply, PeerRequest};
use paxoskv::kv::{Entry, ProcessId};
use paxoskv::node::{Answer, Call, CallId, Effect, Input, Load, Mode, Now, Operation};
use paxoskv::paxos::{Accepted, Ballot, NodeId, Refusal, RegisterKey, Reply, Request, Value};
use paxoskv::storage::StoreError;
use paxoskv::storage::acceptor::{Done, Job};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub const ALL: &[u16] = &[1, 2, 3];

/// A request on its way to a voter, or the reply on its way back.
#[derive(Clone, Debug)]
pub struct Packet {
    pub asker: u16,
    pub voter: u16,
    pub nonce: u64,
    /// The stamp of its sender.
    counter: u64,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Ask(PeerRequest),
    Reply(PeerReply),
}

impl Packet {
    pub fn is_ask(&self) -> bool {
        matches!(self.body, Body::Ask(_))
    }

    pub fn with(self, reply: Reply) -> Packet {
        Packet { body: Body::Reply(PeerReply::Paxos(reply)), ..self }
    }
}

/// A voter accepted a value, durably.
pub struct Vote {
    pub voter: u16,
    pub register: RegisterKey,
    pub ballot: Ballot,
    pub value: Value,
}

pub struct Trio {
    agents: Vec<Agent>,
    pub now: Now,
    pub flight: Vec<Packet>,
    /// In the order in which they were cast; for who wants to look.
    pub votes: Vec<Vote>,
    answers: BTreeMap<CallId, Answer>,
    /// The calls in the order in which they were answered; for who wants to look.
    pub answered: Vec<CallId>,
    pub dead: BTreeSet<ProcessId>,
    cut: BTreeSet<(u16, u16)>,
    last_call: CallId,
    /// How many requests were sent.
    pub asks: usize,
    /// How many batches found no space.
    pub refused_batches: u64,
}

impl Trio {
    pub fn new() -> Trio {
        Trio::from_seed(0)
    }

    pub fn from_seed(seed: u64) -> Trio {
        let agents = ALL.iter().map(|id| Agent::new(*id, seed)).collect();
        let mut trio = Trio {
            agents,
            now: Now { mono_us: 1_000_000, wall_ms: 1_000 },
            flight: Vec::new(),
            votes: Vec::new(),
            answers: BTreeMap::new(),
            answered: Vec::new(),
            dead: BTreeSet::new(),
            cut: BTreeSet::new(),
            last_call: 0,
            asks: 0,
            refused_batches: 0,
        };
        for id in ALL {
            trio.input(*id, Input::Voting(true));
            for peer in ALL.iter().filter(|peer| *peer != id) {
                trio.input(*id, Input::PeerUp(NodeId(*peer)));
            }
        }
        trio
    }

    fn agent(&mut self, id: u16) -> &mut Agent {
        &mut self.agents[usize::from(id) - 1]
    }

    /// One input, then all its effects, then the inputs that they lead to.
    pub fn input(&mut self, id: u16, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let (now, agent) = (self.now, &mut self.agents[usize::from(id) - 1]);
            agent.node.handle(now, input);
            while let Some(effect) = agent.node.poll_effect() {
                match effect {
                    Effect::Ask { to, nonce, request } => {
                        self.asks += to.len();
                        let counter = agent.node.counter();
                        let body = Body::Ask(request);
                        let to = to.into_iter().map(|voter| voter.0);
                        self.flight.extend(to.map(|voter| Packet {
                            asker: id,
                            voter,
                            nonce,
                            counter,
                            body: body.clone(),
                        }));
                    }
                    Effect::Answer { call, answer } => {
                        assert!(!self.answers.contains_key(&call), "answered twice: {call}");
                        self.answers.insert(call, answer);
                        self.answered.push(call);
                    }
                    Effect::Raise(counter) => inputs.push_back(agent.raise(counter)),
                    Effect::Watch(process) if self.dead.contains(&process) => {
                        inputs.push_back(Input::ProcessGone(process));
                    }
                    Effect::Watch(process) => _ = agent.watched.insert(process),
                    Effect::Unwatch(process) => _ = agent.watched.remove(&process),
                    Effect::Quorum(_) => {}
                }
            }
        }
    }

    /// The name that the next call will have.
    pub fn next_call(&self) -> CallId {
        self.last_call + 1
    }

    pub fn call_within(&mut self, id: u16, operation: Operation, mode: Mode, deadline_ms: Option<u64>) -> CallId {
        self.last_call += 1;
        let call = self.last_call;
        self.input(id, Input::Call(Call { id: call, operation, mode, deadline_ms }));
        call
    }

    pub fn call(&mut self, id: u16, operation: Operation) -> CallId {
        self.call_within(id, operation, Mode::Answer, None)
    }

    pub fn answer(&self, call: CallId) -> Option<&Answer> {
        self.answers.get(&call)
    }

    /// The token of what this put was told to have created.
    pub fn created(&self, call: CallId) -> Option<Ballot> {
        match self.answer(call) {
            Some(Answer::Put { entry, created: true }) => Some(entry.header.token),
            _ => None,
        }
    }

    /// A packet arrives.
    pub fn arrive(&mut self, packet: Packet) {
        match packet.body {
            Body::Ask(_) => self.arrive_together(packet.voter, vec![packet]),
            Body::Reply(reply) => {
                self.follow(packet.voter, packet.asker, packet.counter);
                let from = NodeId(packet.voter);
                self.input(packet.asker, Input::Reply { from, nonce: packet.nonce, reply });
            }
        }
    }

    /// Requests arrive at a voter, and share one batch and one sync.
    pub fn arrive_together(&mut self, voter: u16, asks: Vec<Packet>) {
        let mut jobs = Vec::new();
        let mut askers = Vec::new();
        for packet in asks {
            self.follow(packet.asker, voter, packet.counter);
            match packet.body {
                Body::Ask(PeerRequest::Paxos(request)) => jobs.push(Job::Paxos(request)),
                Body::Ask(PeerRequest::List { prefix, after }) => jobs.push(Job::List { prefix, after }),
                Body::Ask(PeerRequest::Bound(entries)) => {
                    self.input(voter, Input::Bound(entries));
                    continue;
                }
                _ => continue,
            }
            askers.push((packet.asker, packet.nonce));
        }
        let replies = self.store(voter, &jobs);
        let counter = self.counter(voter);
        for ((asker, nonce), reply) in askers.into_iter().zip(replies) {
            self.flight.push(Packet { asker, voter, nonce, counter, body: Body::Reply(reply) });
        }
    }

    /// The voter's store carries out a batch, or refuses all of it for want of space.
    fn store(&mut self, voter: u16, jobs: &[Job]) -> Vec<PeerReply> {
        let wall_ms = self.now.wall_ms;
        let acceptor = &mut self.agent(voter).acceptor;
        let staged = acceptor.stage(jobs, wall_ms).expect("memory can be read");
        let committed = match acceptor.commit(staged) {
            Ok(committed) => committed,
            Err(StoreError::NoSpace(_)) => {
                self.refused_batches += 1;
                let began_anew = self.agent(voter).began_anew();
                self.input(voter, began_anew);
                return jobs.iter().map(|_| PeerReply::Paxos(Reply::Refused(Refusal::Busy))).collect();
            }
            Err(e) => panic!("memory can be written: {e}"),
        };
        for (job, done) in jobs.iter().zip(&committed.done) {
            if let (Job::Paxos(Request::Accept { register, ballot, value }), Done::Reply(reply)) = (job, done)
                && *reply == PeerReply::Paxos(Reply::Accepted)
            {
                let (register, ballot, value) = (register.clone(), *ballot, value.clone());
                self.votes.push(Vote { voter, register, ballot, value });
            }
        }
        if !committed.stored.is_empty() {
            self.input(voter, Input::Stored(committed.stored));
        }
        let reply = |done| if let Done::Reply(reply) = done { Some(reply) } else { None };
        committed.done.into_iter().filter_map(reply).collect()
    }

    /// A message carries its sender's highest counter, and the receiver follows it.
    fn follow(&mut self, from: u16, to: u16, counter: u64) {
        if from != to {
            self.input(to, Input::Counter(counter));
        }
    }

    /// A request that no node sends.
    pub fn vote(&mut self, voter: u16, request: Request) -> Reply {
        match self.store(voter, &[Job::Paxos(request)]).pop() {
            Some(PeerReply::Paxos(reply)) => reply,
            other => panic!("a request about a register has a reply of its kind, not {other:?}"),
        }
    }

    pub fn record(&mut self, voter: u16, register: &RegisterKey) -> Option<Accepted> {
        match self.vote(voter, Request::Query { register: register.clone() }) {
            Reply::State { accepted } => accepted,
            other => panic!("not the reply to a query: {other:?}"),
        }
    }

    /// Everything under way that this agent asked, or is answered.
    pub fn hold(&mut self, asker: u16) -> Vec<Packet> {
        let (held, rest) = std::mem::take(&mut self.flight).into_iter().partition(|p| p.asker == asker);
        self.flight = rest;
        held
    }

    /// What this agent has asked reaches these voters; what it asked the others is lost.
    pub fn reach(&mut self, asker: u16, voters: &[u16]) {
        for packet in self.hold(asker) {
            match packet.is_ask() {
                true if voters.contains(&packet.voter) => self.arrive(packet),
                true => {}
                false => self.flight.push(packet),
            }
        }
    }

    /// This agent hears the replies that are under way to it.
    pub fn hear(&mut self, asker: u16) {
        for packet in self.hold(asker) {
            if packet.is_ask() { self.flight.push(packet) } else { self.arrive(packet) }
        }
    }

    /// One phase of a round or read, with these voters.
    pub fn phase(&mut self, asker: u16, voters: &[u16]) {
        self.reach(asker, voters);
        self.hear(asker);
    }

    /// Time passes, and with it whatever is owed, among these voters; what is sent to the others is lost.
    pub fn settle(&mut self, voters: &[u16]) {
        for _ in 0..60 {
            for _ in 0..2 {
                for packet in std::mem::take(&mut self.flight) {
                    if voters.contains(&packet.voter) {
                        self.arrive(packet);
                    }
                }
            }
            self.advance(5_000);
        }
    }

    pub fn advance(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.wall_ms = self.now.mono_us / 1_000;
        for id in ALL {
            self.input(*id, Input::Tick);
        }
    }

    /// What an agent finds by a quorum of these voters.
    pub fn read(&mut self, id: u16, register: &RegisterKey, voters: &[u16]) -> Option<Arc<Entry>> {
        let call = self.call(id, Operation::Get { register: register.clone() });
        self.settle(voters);
        match self.answer(call) {
            Some(Answer::State(state)) => state.clone(),
            other => panic!("read, but answered {other:?}"),
        }
    }

    pub fn is_cut(&self, a: u16, b: u16) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    pub fn cut(&mut self, a: u16, b: u16) {
        if self.cut.insert((a.min(b), a.max(b))) {
            self.input(a, Input::PeerDown(NodeId(b)));
            self.input(b, Input::PeerDown(NodeId(a)));
        }
    }

    pub fn mend(&mut self, a: u16, b: u16) {
        if self.cut.remove(&(a.min(b), a.max(b))) {
            self.input(a, Input::PeerUp(NodeId(b)));
            self.input(b, Input::PeerUp(NodeId(a)));
        }
    }

    pub fn fill_disk(&mut self, id: u16, full: bool) {
        if let Some(raised) = self.agent(id).fill_disk(full) {
            self.input(id, raised);
        }
    }

    pub fn exit(&mut self, process: ProcessId) {
        self.dead.insert(process);
        for id in ALL {
            if self.agent(*id).watched.remove(&process) {
                self.input(*id, Input::ProcessGone(process));
            }
        }
    }

    /// An agent ends at once and starts on what its disk holds, with no connection yet.
    pub fn restart(&mut self, id: u16, seed: u64) {
        for peer in ALL.iter().filter(|peer| **peer != id) {
            if self.cut.insert((id.min(*peer), id.max(*peer))) {
                self.input(*peer, Input::PeerDown(NodeId(id)));
            }
        }
        self.flight.retain(|p| p.asker != id || p.voter != id);
        let stored = self.agent(id).restart(seed);
        self.input(id, Input::Stored(stored));
        self.input(id, Input::Voting(true));
    }

    pub fn is_watching(&self, id: u16, process: &ProcessId) -> bool {
        self.agents[usize::from(id) - 1].watched.contains(process)
    }

    pub fn is_tracking(&self, id: u16, process: &ProcessId) -> bool {
        self.agents[usize::from(id) - 1].node.is_tracking(process)
    }

    pub fn counter(&self, id: u16) -> u64 {
        self.agents[usize::from(id) - 1].node.counter()
    }

    pub fn load(&self, id: u16) -> Load {
        self.agents[usize::from(id) - 1].node.load()
    }

    pub fn next_wakeup(&self, id: u16) -> Option<u64> {
        self.agents[usize::from(id) - 1].node.next_wakeup()
    }
}
