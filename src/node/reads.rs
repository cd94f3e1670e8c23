//! The read lane: quorum reads.

use super::finish::{Told, no_quorum};
use super::op::{Answer, CallId, Kind, Op};
use super::{Awaiting, Node};
use crate::kv::peer::PeerRequest;
use crate::kv::{Entry, Outcome, State};
use crate::paxos::{Accepted, Ballot, NodeId, RegisterKey, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The reads of one register.
#[derive(Default)]
pub(super) struct Reads {
    /// For the next read.
    waiting: Vec<Op>,
    active: Option<Active>,
}

struct Active {
    nonce: u64,
    ops: Vec<Op>,
    replies: BTreeMap<NodeId, Option<Accepted>>,
    refused: BTreeSet<NodeId>,
    /// Whether the first answer was mixed and this is the second.
    again: bool,
}

impl Reads {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active.is_none()
    }

    pub fn nonce(&self) -> Option<u64> {
        self.active.as_ref().map(|a| a.nonce)
    }

    /// The nonce of the read under way, if this voter has not answered it.
    pub fn open_nonce(&self, voter: NodeId) -> Option<u64> {
        let active = self.active.as_ref()?;
        (!active.replies.contains_key(&voter) && !active.refused.contains(&voter)).then_some(active.nonce)
    }

    pub fn ops_mut(&mut self) -> impl Iterator<Item = &mut Op> {
        self.waiting.iter_mut().chain(self.active.iter_mut().flat_map(|a| a.ops.iter_mut()))
    }

    /// The operations that wait for the next read.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Op> {
        self.waiting.iter_mut()
    }

    /// Gives up the read under way, and gives back its operations.
    pub fn abort_active(&mut self) -> Vec<Op> {
        self.active.take().map(|a| a.ops).unwrap_or_default()
    }

    /// Gives up, and gives back the operations that were waiting for the read under way or the next.
    pub fn abort(&mut self) -> Vec<Op> {
        let mut ops = std::mem::take(&mut self.waiting);
        ops.extend(self.abort_active());
        ops
    }

    pub fn take_expired(&mut self, now_us: u64) -> Vec<Op> {
        let mut over = Vec::new();
        let lanes = [Some(&mut self.waiting), self.active.as_mut().map(|a| &mut a.ops)];
        for lane in lanes.into_iter().flatten() {
            let (late, rest): (Vec<Op>, Vec<Op>) = lane.drain(..).partition(|op| op.deadline_us <= now_us);
            *lane = rest;
            over.extend(late);
        }
        over
    }
}

impl Node {
    /// Puts an operation before the next quorum read.
    pub(super) fn submit_read(&mut self, register: &RegisterKey, op: Op) {
        self.set_deadline(register, op.deadline_us);
        self.registers.entry(register.clone()).or_default().reads.waiting.push(op);
        self.advance(register);
    }

    pub(super) fn start_read(&mut self, register: &RegisterKey) {
        let Some(r) = self.registers.get_mut(register) else { return };
        if r.reads.active.is_some() || r.reads.waiting.is_empty() {
            return;
        }
        let ops = std::mem::take(&mut r.reads.waiting);
        self.begin_read(register, ops, false);
    }

    fn begin_read(&mut self, register: &RegisterKey, ops: Vec<Op>, again: bool) {
        let nonce = self.draw_nonce(Awaiting::Read(register.clone()));
        let active = Active { nonce, ops, replies: BTreeMap::new(), refused: BTreeSet::new(), again };
        self.registers.entry(register.clone()).or_default().reads.active = Some(active);
        self.ask_all(nonce, PeerRequest::Paxos(Request::Query { register: register.clone() }));
    }

    pub(super) fn handle_read_reply(&mut self, register: &RegisterKey, from: NodeId, nonce: u64, reply: Reply) {
        let Some(r) = self.registers.get_mut(register) else { return };
        let Some(active) = r.reads.active.as_mut().filter(|a| a.nonce == nonce) else { return };
        match reply {
            Reply::State { accepted } => {
                active.replies.insert(from, accepted);
            }
            Reply::Refused(_) => {
                active.refused.insert(from);
            }
            Reply::Promised { .. } | Reply::Accepted | Reply::Rejected { .. } => return,
        }
        self.poll_read(register);
    }

    /// Ends the read under way if a quorum has answered, or can no longer.
    pub(super) fn poll_read(&mut self, register: &RegisterKey) {
        let members = &self.config.membership;
        let gone = |v| !self.peers.is_up(v) && v != self.config.me;
        let Some(r) = self.registers.get_mut(register) else { return };
        let Some(active) = r.reads.active.as_ref() else { return };
        let answered = members.is_quorum(|v| active.replies.contains_key(&v));
        let lost = |v| !active.replies.contains_key(&v) && (active.refused.contains(&v) || gone(v));
        if !answered && members.can_reach(lost) {
            return;
        }
        let Some(active) = r.reads.active.take() else { return };
        self.drop_nonce(active.nonce);
        if !answered {
            // Whoever refuses says why in its own log; the round lane retries with pauses.
            return self.take_to_rounds(register, active.ops);
        }
        match unanimous(&active.replies) {
            Some(accepted) => self.finish_read(register, active.ops, accepted),
            // A mixed answer may be a write under way: it is asked once more, then a round settles it. A tombstone
            // beside nothing is mixed, too.
            None if !active.again => self.begin_read(register, active.ops, true),
            None => self.take_to_rounds(register, active.ops),
        }
    }

    fn take_to_rounds(&mut self, register: &RegisterKey, ops: Vec<Op>) {
        for op in ops {
            self.submit_round(register, op);
        }
        self.advance(register);
    }

    /// All voters of a quorum show the same: it is chosen.
    fn finish_read(&mut self, register: &RegisterKey, ops: Vec<Op>, accepted: Option<Accepted>) {
        let state = match accepted.as_ref().map(|a| State::decode(&a.value)).transpose() {
            Ok(state) => state,
            Err(_) => {
                for op in ops {
                    self.finish_all(register, op, Answer::Unreadable);
                }
                return self.advance(register);
            }
        };
        let at = accepted.map_or(Ballot::ZERO, |a| a.ballot);
        let live = state.as_ref().and_then(State::live).cloned();
        self.learn(register, at, live.as_ref());
        for op in ops {
            self.finish_reader(register, op, live.clone(), at);
        }
        self.advance(register);
    }

    fn finish_reader(&mut self, register: &RegisterKey, op: Op, live: Option<Arc<Entry>>, at: Ballot) {
        let told = Told { at, ..Told::default() };
        match (&op.kind, live) {
            (Kind::Put { entry, .. }, Some(found)) if !self.may_have_ended(&found) => {
                let created = found.is_of(&entry.header.request, self.config.me, entry.holder.process.as_ref());
                let answer = Answer::Put { entry: found, created };
                self.finish_put(register, &op, &answer, told);
                self.answer_all(op, answer);
            }
            (Kind::Put { .. }, _) => self.submit_round(register, op),
            (_, live) => self.finish_op(register, op, Outcome::State(live), told),
        }
    }

    /// Whether a round would perhaps find that the entry has ended.
    fn may_have_ended(&self, entry: &Entry) -> bool {
        let dead = |p| entry.header.node == self.config.me && self.claims.is_dead(p);
        entry.header.until_ms().is_some_and(|until_ms| until_ms <= self.now.wall_ms)
            || entry.header.bound_process().is_some_and(dead)
    }

    pub(super) fn handle_local_reply(&mut self, nonce: u64, call: CallId, reply: Reply) {
        self.drop_nonce(nonce);
        let answer = match reply {
            Reply::State { accepted } => match accepted.map(|a| State::decode(&a.value)).transpose() {
                Ok(state) => Answer::State(state.as_ref().and_then(State::live).cloned()),
                Err(_) => Answer::Unreadable,
            },
            _ => no_quorum(false, "this agent does not vote; see its status"),
        };
        self.answer(call, answer);
    }
}

/// What all replies show, if they show the same.
fn unanimous(replies: &BTreeMap<NodeId, Option<Accepted>>) -> Option<Option<Accepted>> {
    let mut all = replies.values();
    let first = all.next()?;
    let ballot = |a: &Option<Accepted>| a.as_ref().map(|a| a.ballot);
    all.all(|other| ballot(other) == ballot(first)).then(|| first.clone())
}
