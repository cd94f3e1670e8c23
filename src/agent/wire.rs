//! Peers, as connections: handshakes, heartbeats, what arrives and what is to be sent.

use super::peers::Identity;
use super::store::Origin;
use super::{Agent, HelloAnswer, random};
use crate::codec::peer::{Frame, Packed, pack_reply, pack_request};
use crate::kv::peer::{Hello, Message, PeerReply, PeerRequest, Position, Stamp, Welcome};
use crate::node::Input;
use crate::paxos::{NodeId, Refusal, Reply};
use crate::storage::acceptor::Job;
use crate::transport::{self, ConnectionId, Outbox};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Nonces below this are heartbeats; a node's own are above, as lives count from 1.
const HEARTBEAT_NONCES: u64 = 1 << 40;

/// The shortest time between two complaints about a peer.
const COMPLAINT_PAUSE_US: u64 = 1_000_000;

/// What was last said about a peer.
pub(super) struct Complaint {
    pub why: String,
    at_us: u64,
}

/// One connection to or from a peer.
pub(super) struct Connection {
    peer: NodeId,
    /// Whether this agent dialled it, and asks on it.
    asks: bool,
    /// Whether the peer has acknowledged a heartbeat on it: it votes.
    up: bool,
    outbox: Outbox,
    /// To be sent at the end of this turn.
    pub pending: Vec<Packed>,
}

impl Agent {
    pub(super) fn take_transport(&mut self, event: transport::Event) {
        match event {
            transport::Event::HelloWanted(answer) => self.say_hello(answer),
            transport::Event::Knocked { hello, connection, outbox, answer } => {
                self.take_knock(&hello, connection, outbox, answer);
            }
            transport::Event::Connected { peer, nonce, hello, connection, outbox } => {
                self.take_connected(peer, nonce, &hello, connection, outbox);
            }
            transport::Event::Received { connection, frame } => self.take_frame(connection, *frame),
            transport::Event::Closed { connection, why } => self.close(connection, &why),
            transport::Event::NotConnected { peer, why } => self.complain(peer, why),
        }
    }

    /// Says why a peer cannot be reached, once for each reason in a row, and at most once a second.
    fn complain(&mut self, peer: NodeId, why: String) {
        // Strangers share one place, whatever they call themselves.
        let peer = if self.identity.config.membership.is_voter(peer) { peer } else { NodeId(0) };
        let now_us = super::clock::mono_us();
        let last = self.complaints.get(&peer);
        if last.is_some_and(|c| c.why == why || now_us < c.at_us + COMPLAINT_PAUSE_US) {
            return;
        }
        warn!("peer {}: {why}", self.name(peer));
        self.complaints.insert(peer, Complaint { why, at_us: now_us });
    }

    pub(super) fn name(&self, peer: NodeId) -> String {
        self.identity.config.membership.name(peer).unwrap_or("unknown").to_owned()
    }

    fn hello(&self, nonce: [u8; 16]) -> Hello {
        self.identity.hello(nonce, self.commit, self.node.counter())
    }

    fn say_hello(&mut self, answer: HelloAnswer) {
        match random() {
            // A dialler that has gone meanwhile dials again.
            Ok(nonce) => drop(answer.send(self.hello(nonce))),
            Err(e) => warn!("cannot dial: {e}"),
        }
    }

    fn take_knock(
        &mut self,
        hello: &Hello,
        connection: ConnectionId,
        outbox: Outbox,
        answer: oneshot::Sender<Welcome>,
    ) {
        if let Err(why) = self.identity.judge(hello) {
            self.complain(hello.node, format!("refused: {why}"));
            return drop(answer.send(Welcome::Refused(why)));
        }
        self.meet(hello);
        if answer.send(Welcome::Accepted(Box::new(self.hello(hello.nonce)))).is_err() {
            return;
        }
        // A peer dials one connection at a time: an older one is dead, or of an older life.
        let old: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, c)| c.peer == hello.node && !c.asks).map(|(id, _)| *id).collect();
        for id in old {
            self.connections.remove(&id);
        }
        self.add(connection, hello.node, false, outbox);
    }

    fn take_connected(
        &mut self,
        peer: NodeId,
        nonce: [u8; 16],
        hello: &Hello,
        connection: ConnectionId,
        outbox: Outbox,
    ) {
        let judged = if hello.nonce != nonce {
            Err("its answer is not to this handshake".to_owned())
        } else if hello.node != peer {
            Err(format!("node {} answers at its address", hello.node))
        } else {
            self.identity.judge(hello)
        };
        if let Err(why) = judged {
            return self.complain(peer, why);
        }
        self.meet(hello);
        self.add(connection, peer, true, outbox);
        if let Some(old) = self.outgoing.insert(peer, connection) {
            self.close(old, "replaced by a newer connection");
            self.outgoing.insert(peer, connection);
        }
        self.send_heartbeat(peer);
    }

    fn add(&mut self, id: ConnectionId, peer: NodeId, asks: bool, outbox: Outbox) {
        self.connections.insert(id, Connection { peer, asks, up: false, outbox, pending: Vec::new() });
    }

    fn meet(&mut self, hello: &Hello) {
        self.identity.meet(hello);
        self.node_follows(hello.counter);
        self.form_if_possible();
        if self.identity.formed.is_none() {
            // The others wait to hear whom this one has met.
            self.send_heartbeats();
        }
    }

    pub(super) fn form_if_possible(&mut self) {
        if self.forming.is_some() {
            return;
        }
        if let Some(formed) = self.identity.can_form() {
            self.forming = Some(formed.clone());
            self.submit(Origin::None, Job::Form(Box::new(formed)));
        }
    }

    fn node_follows(&mut self, counter: u64) -> bool {
        let believable = counter <= self.identity.counter_ceiling();
        if believable && counter > self.node.counter() {
            if counter >= crate::limits::COUNTER_WARN {
                warn!("ballot counters have reached {counter}; at {} agents stop", crate::limits::COUNTER_STOP);
            }
            self.handle(Input::Counter(counter));
        }
        believable
    }

    pub(super) fn close(&mut self, id: ConnectionId, why: &str) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if !connection.asks {
            return;
        }
        let peer = connection.peer;
        if self.outgoing.get(&peer) == Some(&id) {
            self.outgoing.remove(&peer);
        }
        if connection.up {
            warn!("peer {} is down: {why}", self.name(peer));
            self.complaints.remove(&peer);
            self.handle(Input::PeerDown(peer));
        }
    }

    fn take_frame(&mut self, id: ConnectionId, frame: Frame) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (peer, asks) = (connection.peer, connection.asks);
        let stamp = frame.stamp;
        if stamp.sender != peer {
            return self.break_off(id, "its frames name another sender");
        }
        if stamp.epoch != self.identity.config.membership.epoch {
            // Of another membership: counts for nothing.
            return;
        }
        if !self.node_follows(stamp.counter) {
            return self.break_off(id, "its ballot counter is beyond belief");
        }
        for Message { nonce, body } in frame.requests {
            if asks {
                return self.break_off(id, "it asks on a connection that is not its own");
            }
            self.take_request(id, nonce, body);
        }
        for Message { nonce, body } in frame.replies {
            if !asks {
                return self.break_off(id, "it answers on a connection on which nothing was asked");
            }
            if nonce < HEARTBEAT_NONCES {
                self.take_heartbeat_reply(id, &body);
            } else {
                self.handle(Input::Reply { from: peer, nonce, reply: body });
            }
        }
    }

    fn break_off(&mut self, id: ConnectionId, why: &str) {
        if let Some(connection) = self.connections.get(&id) {
            self.complain(connection.peer, why.to_owned());
        }
        self.close(id, why);
    }

    fn take_request(&mut self, id: ConnectionId, nonce: u64, request: PeerRequest) {
        let refuse = |refusal| PeerReply::Paxos(Reply::Refused(refusal));
        // An agent that does not vote takes part in nothing.
        let voting = self.identity.formed.is_some();
        if let (PeerRequest::Heartbeat { stores, formed, .. }, false) = (&request, voting)
            && let Some(peer) = self.connections.get(&id).map(|c| c.peer)
            && self.identity.hear(peer, stores.clone(), *formed)
        {
            self.form_if_possible();
        }
        let reply = match request {
            PeerRequest::Unknown(_) => refuse(Refusal::Unsupported),
            _ if !voting => refuse(Refusal::NotVoting),
            PeerRequest::Paxos(request) => {
                let ceiling = self.identity.counter_ceiling();
                if request.ballot().is_none_or(|b| b.counter() <= ceiling) {
                    return self.submit(Origin::Peer { connection: id, nonce }, Job::Paxos(request));
                }
                refuse(Refusal::Counter)
            }
            PeerRequest::List { prefix, after } => {
                return self.submit(Origin::Peer { connection: id, nonce }, Job::List { prefix, after });
            }
            PeerRequest::Bound(entries) => return self.handle(Input::Bound(entries)),
            PeerRequest::Heartbeat { sequence, .. } => {
                self.answer_heartbeat_with_ours(id);
                PeerReply::Heartbeat { sequence, acknowledged: true }
            }
        };
        self.reply(id, nonce, &reply);
    }

    /// A peer that has just begun to vote says so by its heartbeat; asking it at once saves half a second.
    fn answer_heartbeat_with_ours(&mut self, id: ConnectionId) {
        let Some(peer) = self.connections.get(&id).map(|c| c.peer) else { return };
        let asked = self.outgoing.get(&peer).and_then(|id| self.connections.get(id));
        if asked.is_some_and(|c| !c.up) {
            self.send_heartbeat(peer);
        }
    }

    fn take_heartbeat_reply(&mut self, id: ConnectionId, reply: &PeerReply) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let votes = matches!(reply, PeerReply::Heartbeat { acknowledged: true, .. });
        if connection.up == votes {
            return;
        }
        connection.up = votes;
        let peer = connection.peer;
        self.complaints.remove(&peer);
        if votes {
            info!("peer {} is up", self.name(peer));
            self.handle(Input::PeerUp(peer));
        } else {
            warn!("peer {} does not vote any more", self.name(peer));
            self.handle(Input::PeerDown(peer));
        }
    }

    pub(super) fn send_heartbeats(&mut self) {
        let peers: Vec<NodeId> = self.outgoing.keys().copied().collect();
        for peer in peers {
            self.send_heartbeat(peer);
        }
    }

    fn send_heartbeat(&mut self, peer: NodeId) {
        self.heartbeats += 1;
        let sequence = self.heartbeats;
        let (known, stores) = (self.identity.known(), self.identity.stores());
        let formed = self.identity.formed.is_some();
        let request = PeerRequest::Heartbeat { sequence, incarnation: 1, known, stores, formed };
        let packed = pack_request(sequence, &request);
        if let Some(connection) = self.outgoing.get(&peer).and_then(|id| self.connections.get_mut(id)) {
            connection.pending.push(packed);
        }
    }

    pub(super) fn reply(&mut self, connection: ConnectionId, nonce: u64, reply: &PeerReply) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.pending.push(pack_reply(nonce, reply));
        }
    }

    /// Sends what this turn has to say, with the stamp of its end.
    pub(super) fn flush(&mut self) {
        let stamp = stamp(&self.identity, self.node.counter(), self.commit);
        let mut stuck = Vec::new();
        for (id, connection) in &mut self.connections {
            if !connection.pending.is_empty() {
                let pending = std::mem::take(&mut connection.pending);
                if connection.outbox.send(&stamp, &pending).is_err() {
                    stuck.push(*id);
                }
            }
        }
        for id in stuck {
            self.close(id, "it does not read what it is sent");
        }
    }
}

fn stamp(identity: &Identity, counter: u64, commit: u64) -> Stamp {
    let position = Position { life: identity.life.number, commit };
    Stamp { epoch: identity.config.membership.epoch, sender: identity.config.me, counter, position }
}
