//! A cluster in which nothing moves by itself: each message waits until the script delivers or drops it. Stores get on
//! at once, unless the script holds one back.

use crate::cluster::{Cluster, Put};
use crate::sabotage::Sabotage;
use crate::world::Packet;
use paxoskv::codec::peer::decode_frame;
use paxoskv::kv::peer::{PeerReply, PeerRequest};
use paxoskv::kv::{ProcessId, register_key};
use paxoskv::node::{Answer, Mode, NoQuorum, Operation};
use paxoskv::paxos::{Ballot, RegisterKey, Reply, Request};
use std::collections::BTreeSet;

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Prepare,
    Accept,
    Query,
    List,
    Bound,
    Heartbeat,
    Promised,
    Accepted,
    Rejected,
    State,
    Listing,
    Refused,
}

pub struct Script {
    pub cluster: Cluster,
    /// Hosts whose stores do not get on.
    pub held_stores: BTreeSet<usize>,
    requests: u8,
}

pub fn key(name: u8) -> RegisterKey {
    register_key("b", &[0x61, name])
}

impl Script {
    /// A cluster whose hosts are all connected.
    pub fn new(size: usize) -> Script {
        let cluster = Cluster::new(size, 7, Sabotage::Nothing, true);
        let mut script = Script { cluster, held_stores: BTreeSet::new(), requests: 0 };
        for host in 0..size {
            script.connect(host);
        }
        script
    }

    /// Connects a host with all others that are up, in both directions.
    pub fn connect(&mut self, host: usize) {
        for peer in (0..self.cluster.hosts.len()).filter(|p| *p != host) {
            self.connect_pair(host, peer);
        }
    }

    pub fn connect_pair(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let life = self.cluster.hosts[from].life.as_ref().map_or(0, |l| l.number);
            self.cluster.dial(from, life, to);
        }
        self.settle();
    }

    /// Breaks the connections of a host with all others, in both directions.
    pub fn isolate(&mut self, host: usize) {
        for peer in (0..self.cluster.hosts.len()).filter(|p| *p != host) {
            for (from, to) in [(host, peer), (peer, host)] {
                self.cluster.on(from, |life, site, world| life.hang_up(site, world, to));
            }
        }
        self.settle();
    }

    /// Crashes a host; the others see their connections break.
    pub fn crash(&mut self, host: usize) {
        self.cluster.crash(host);
        self.isolate(host);
    }

    /// Starts a host again and connects it.
    pub fn restart(&mut self, host: usize) {
        self.cluster.start(host);
        self.connect(host);
    }

    /// Lets the stores that are not held do all that they have been given.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let busy = (0..self.cluster.hosts.len()).find(|h| {
                !self.held_stores.contains(h) && self.cluster.hosts[*h].life.as_ref().is_some_and(|l| l.is_busy())
            });
            let Some(host) = busy else { return };
            self.cluster.on(host, |life, site, world| {
                life.run_store(site, world);
                life.take_told(site, world);
            });
        }
        panic!("the stores never come to rest");
    }

    pub fn spawn(&mut self, host: usize) -> ProcessId {
        self.cluster.hosts[host].site.spawn()
    }

    pub fn exit(&mut self, host: usize, process: ProcessId) {
        self.cluster.exit(host, process);
        self.settle();
    }

    /// A put that has not been sent: with a request id of its own, bound to nothing.
    pub fn new_put(&mut self, host: usize, register: &RegisterKey) -> Put {
        let by = self.spawn(host);
        self.requests += 1;
        let request = [self.requests; 16];
        Put { register: register.clone(), request, by, bind: None, until_ms: None, retry: false }
    }

    pub fn put(&mut self, host: usize, put: &Put, mode: Mode) -> u64 {
        let id = self.cluster.put(host, put, mode, None).expect("the agent is up");
        self.settle();
        id
    }

    pub fn call(&mut self, host: usize, operation: Operation, mode: Mode) -> u64 {
        let id = self.cluster.call(host, operation, mode, None).expect("the agent is up");
        self.settle();
        id
    }

    pub fn get(&mut self, host: usize, register: &RegisterKey) -> u64 {
        self.call(host, Operation::Get { register: register.clone() }, Mode::Answer)
    }

    pub fn release(&mut self, host: usize, register: &RegisterKey, token: Ballot) -> u64 {
        let by = paxoskv::kv::Asker { process: None, uid: 0 };
        self.call(host, Operation::Release { register: register.clone(), token: Some(token), by }, Mode::Answer)
    }

    /// What a call was answered, if it was.
    pub fn answer(&self, call: u64) -> Option<Answer> {
        self.cluster.world.answers.iter().find(|(id, _)| *id == call).map(|(_, answer)| answer.clone())
    }

    /// The token and whether the put created it.
    pub fn put_answer(&self, call: u64) -> (Ballot, bool) {
        match self.answer(call) {
            Some(Answer::Put { entry, created }) => (entry.header.token, created),
            other => panic!("the put was answered {other:?}"),
        }
    }

    /// Whether the call was answered that there was no quorum, and whether the write may still happen.
    pub fn no_quorum(&self, call: u64) -> Option<bool> {
        match self.answer(call) {
            Some(Answer::NoQuorum(NoQuorum { unknown, .. })) => Some(unknown),
            None => None,
            other => panic!("call {call} was answered {other:?}"),
        }
    }

    /// A key that is set, and known to all voters.
    pub fn set(&mut self, host: usize, register: &RegisterKey) -> Ballot {
        let put = self.new_put(host, register);
        let call = self.put(host, &put, Mode::Answer);
        self.deliver_all();
        self.put_answer(call).0
    }

    fn held(&mut self) -> &mut Vec<Packet> {
        self.cluster.world.held.as_mut().expect("a script holds its messages")
    }

    /// The messages that wait: from, to, kind.
    pub fn waiting(&mut self) -> Vec<(usize, usize, Kind)> {
        self.held().iter().map(|p| (p.from, p.to, kind_of(p))).collect()
    }

    pub fn is_waiting(&mut self, from: usize, to: usize, kind: Kind) -> bool {
        self.waiting().contains(&(from, to, kind))
    }

    /// Takes the first message of a kind from one host to another out of the network.
    pub fn take(&mut self, from: usize, to: usize, kind: Kind) -> Packet {
        let waiting = self.waiting();
        let Some(at) = waiting.iter().position(|w| *w == (from, to, kind)) else {
            panic!("no {kind:?} from {from} to {to} waits, but {waiting:?}");
        };
        self.held().remove(at)
    }

    /// Delivers the first message of a kind from one host to another.
    pub fn deliver(&mut self, from: usize, to: usize, kind: Kind) {
        let packet = self.take(from, to, kind);
        self.give(&packet);
    }

    /// Delivers a message that was taken out.
    pub fn give(&mut self, packet: &Packet) {
        self.cluster.on(packet.to, |life, site, world| life.receive(site, world, packet));
        self.settle();
    }

    /// A request and the answer to it.
    pub fn exchange(&mut self, from: usize, to: usize, request: Kind, reply: Kind) {
        self.deliver(from, to, request);
        self.deliver(to, from, reply);
    }

    /// Loses all that waits.
    pub fn lose_all(&mut self) {
        self.held().clear();
    }

    /// Delivers what waits, and what that leads to, until nothing waits.
    pub fn deliver_all(&mut self) {
        self.deliver_between(|_, _| true);
    }

    /// Delivers only between these hosts, and loses the rest.
    pub fn deliver_between(&mut self, may: impl Fn(usize, usize) -> bool) {
        for _ in 0..10_000 {
            if self.held().is_empty() {
                return;
            }
            let packet = self.held().remove(0);
            if may(packet.from, packet.to) {
                self.give(&packet);
            }
        }
        panic!("the messages never come to an end");
    }

    /// Time passes; timers are run when they are due, and nothing is delivered.
    pub fn pass(&mut self, us: u64) {
        self.pass_with(us, |_| {});
    }

    /// Time passes, and whatever is said meanwhile is heard.
    pub fn pass_delivering(&mut self, us: u64) {
        self.pass_with(us, Script::deliver_all);
    }

    fn pass_with(&mut self, us: u64, mut then: impl FnMut(&mut Script)) {
        let end_us = self.cluster.world.now_us + us;
        for _ in 0..100_000 {
            let due = |h: &crate::cluster::Host| h.life.as_ref().and_then(|l| l.next_wakeup(&h.site));
            let hosts = self.cluster.hosts.iter().enumerate();
            let next = hosts.filter_map(|(i, h)| Some((due(h)?, i))).min();
            match next {
                Some((at, host)) if at <= end_us => {
                    self.cluster.world.now_us = at.max(self.cluster.world.now_us);
                    self.cluster.on(host, |life, site, world| life.wake(site, world));
                    self.settle();
                    then(self);
                }
                _ => {
                    self.cluster.world.now_us = end_us;
                    return;
                }
            }
        }
        panic!("the timers never come to rest");
    }

    pub fn is_watching(&self, host: usize, process: &ProcessId) -> bool {
        self.cluster.hosts[host].life.as_ref().is_some_and(|l| l.watched.contains(process))
    }

    /// The token of what is chosen to be live.
    pub fn live(&self, register: &RegisterKey) -> Option<Ballot> {
        self.cluster.world.observer.live(register).map(|e| e.header.token)
    }

    /// How many entries the register's history has.
    pub fn lives(&self, register: &RegisterKey) -> usize {
        self.cluster.world.observer.tokens(register).len()
    }

    /// The observer saw nothing to object to.
    pub fn end(self) {
        let found: Vec<String> = self.cluster.violations().iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

fn kind_of(packet: &Packet) -> Kind {
    let frame = decode_frame(&packet.bytes).expect("agents write frames that agents can read");
    if let Some(message) = frame.requests.first() {
        return match &message.body {
            PeerRequest::Paxos(Request::Prepare { .. }) => Kind::Prepare,
            PeerRequest::Paxos(Request::Accept { .. }) => Kind::Accept,
            PeerRequest::Paxos(Request::Query { .. }) => Kind::Query,
            PeerRequest::List { .. } => Kind::List,
            PeerRequest::Bound(_) => Kind::Bound,
            PeerRequest::Heartbeat { .. } => Kind::Heartbeat,
            PeerRequest::Unknown(kind) => panic!("a request of kind {kind}"),
        };
    }
    match frame.replies.first().map(|m| &m.body) {
        Some(PeerReply::Paxos(Reply::Promised { .. })) => Kind::Promised,
        Some(PeerReply::Paxos(Reply::Accepted)) => Kind::Accepted,
        Some(PeerReply::Paxos(Reply::Rejected { .. })) => Kind::Rejected,
        Some(PeerReply::Paxos(Reply::State { .. })) => Kind::State,
        Some(PeerReply::Paxos(Reply::Refused(_))) => Kind::Refused,
        Some(PeerReply::Listing { .. }) => Kind::Listing,
        Some(PeerReply::Heartbeat { .. }) => Kind::Heartbeat,
        Some(PeerReply::Unknown(_)) | None => panic!("a frame that says nothing"),
    }
}
