//! The round lane: one round a register, the operations that wait for it, and what a round's end means for them.

use super::finish::{NOT_CONNECTED, Told, no_quorum};
use super::op::{Answer, Duty, Kind, Mode, Op};
use super::{Awaiting, Call, Effect, Node, Operation, Timer};
use crate::kv::peer::PeerRequest;
use crate::kv::{self, Applied, Change, Facts, MayCreate, Outcome, PutChange, Reason, State, Target, Which};
use crate::limits::{
    BOUND_STEP, CLOCKS_WAIT_US, COUNTER_STOP, OPERATIONS, OPERATIONS_PER_ROUND, RETRY_CREATES_US, RETRY_PAUSE_MAX_US,
    RETRY_PAUSE_MIN_US,
};
use crate::paxos::{Accepted, Ballot, NodeId, Progress, Promise, RegisterKey, Reply, Request, Round, Value};
use std::collections::VecDeque;

/// What a node has under way at one register. It goes when there is nothing more.
#[derive(Default)]
pub(super) struct Register {
    /// For the next round.
    pub waiting: VecDeque<Op>,
    pub round: Option<Active>,
    /// Rounds that were lost to others since the last that was not.
    pub attempt: u32,
    /// The next round starts when this is over.
    pub pause: bool,
    /// When the first deadline of its operations is looked at.
    pub deadline_us: Option<u64>,
    pub reads: super::reads::Reads,
}

/// A round under way.
pub(super) struct Active {
    pub round: Round,
    pub ops: Vec<Op>,
    /// What each operation comes to if the proposal is chosen; empty in the prepare phase.
    pub outcomes: Vec<Outcome>,
    /// The state that the outcomes rest on.
    pub state: Option<State>,
    pub nonce: u64,
    /// Whether it still waits for more clocks than a quorum's.
    pub wait_for_clocks: Clocks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    NotAsked,
    Waiting,
    Over,
}

impl Register {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.round.is_none() && self.reads.is_idle() && !self.pause
    }
}

impl Node {
    pub(super) fn handle_call(&mut self, call: Call) {
        // An earlier copy of a repeated put may have been sent, whatever becomes of this one.
        let repeated = matches!(call.operation, Operation::Put { retry: true, .. });
        if self.calls >= OPERATIONS {
            let why = "the agent has too many operations under way; try again";
            let answer = if repeated { no_quorum(true, why) } else { Answer::Overloaded(why) };
            return self.effects.push_back(Effect::Answer { call: call.id, answer });
        }
        self.calls += 1;
        if call.mode != Mode::Retry && !self.has_quorum() && !matches!(call.operation, Operation::GetLocal { .. }) {
            return self.answer(call.id, no_quorum(repeated, NOT_CONNECTED));
        }
        let now_us = self.now.mono_us;
        match &call.operation {
            Operation::Get { register } => self.submit_read(register, Op::new(Kind::Get, &call, now_us)),
            Operation::Put { register, entry, retry } => {
                let kind = Kind::Put { entry: entry.clone(), retry: *retry };
                self.submit_put(register, Op::new(kind, &call, now_us));
            }
            Operation::Release { register, token, by } => {
                let kind = Kind::Release { which: token.map_or(Which::Any, Which::Exactly), by: *by };
                self.submit_round(register, Op::new(kind, &call, now_us));
            }
            Operation::GetLocal { register } => {
                let nonce = self.draw_nonce(Awaiting::Local(call.id));
                let request = PeerRequest::Paxos(Request::Query { register: register.clone() });
                self.effects.push_back(Effect::Ask { to: vec![self.config.me], nonce, request });
            }
            Operation::List { prefix, after } => {
                let op = Op::new(Kind::Get, &call, now_us);
                self.handle_list(&op, prefix.clone(), after.clone());
            }
        }
    }

    fn submit_put(&mut self, register: &RegisterKey, mut op: Op) {
        let Kind::Put { entry, retry } = &op.kind else { return };
        let (entry, retry, request) = (entry.clone(), *retry, entry.header.request);
        if retry && self.join_waiting_put(register, &op) {
            return;
        }
        if self.puts.get(&request).is_some_and(|p| p.register == *register) {
            // A request id that was used before is a repetition, whatever the frame says.
            op.kind = Kind::Put { entry: entry.clone(), retry: true };
            op.sent = true;
        }
        if let Some(process) = entry.header.bound_process() {
            self.claims.hold(process, register);
            if !self.puts.has_room() {
                let why = "too many puts whose outcome is unknown";
                let answer = if op.sent { no_quorum(true, why) } else { Answer::Overloaded(why) };
                return self.finish_all(register, op, answer);
            }
        }
        if self.upkeep.is_live_hint(register) {
            self.submit_read(register, op);
        } else {
            self.submit_round(register, op);
        }
    }

    /// A put that is repeated while it waits for its turn waits for the same answer. One that has had its turn would
    /// answer with what was asked before the repetition came.
    fn join_waiting_put(&mut self, register: &RegisterKey, op: &Op) -> bool {
        let Kind::Put { entry, .. } = &op.kind else { return false };
        let Some(r) = self.registers.get_mut(register) else { return false };
        let twin = r.waiting.iter_mut().chain(r.reads.waiting_mut()).find(|other| match &other.kind {
            Kind::Put { entry: theirs, .. } => {
                theirs.is_of(&entry.header.request, self.config.me, entry.holder.process.as_ref())
            }
            _ => false,
        });
        match twin {
            Some(twin) => {
                twin.callers.extend_from_slice(&op.callers);
                twin.sent = true;
                twin.deadline_us = twin.deadline_us.max(op.deadline_us);
                if op.mode == Mode::Retry {
                    twin.mode = Mode::Retry;
                }
                self.set_deadline(register, op.deadline_us);
                true
            }
            None => false,
        }
    }

    /// Puts an operation before the next round.
    pub(super) fn submit_round(&mut self, register: &RegisterKey, op: Op) {
        self.set_deadline(register, op.deadline_us);
        self.registers.entry(register.clone()).or_default().waiting.push_back(op);
        self.advance(register);
    }

    /// Starts what can be started at a register, and lets it go when nothing is left.
    pub(super) fn advance(&mut self, register: &RegisterKey) {
        if self.has_quorum() {
            self.start_round(register);
            self.start_read(register);
        }
        if self.registers.get(register).is_some_and(Register::is_idle)
            && let Some(Register { deadline_us: Some(at), .. }) = self.registers.remove(register)
        {
            self.timers.remove(&(at, Timer::Deadline(register.clone())));
        }
    }

    /// Each register with operations has one timer, for the earliest of their deadlines.
    pub(super) fn set_deadline(&mut self, register: &RegisterKey, deadline_us: u64) {
        let r = self.registers.entry(register.clone()).or_default();
        if deadline_us == u64::MAX || r.deadline_us.is_some_and(|at| at <= deadline_us) {
            return;
        }
        if let Some(at) = r.deadline_us.replace(deadline_us) {
            self.timers.remove(&(at, Timer::Deadline(register.clone())));
        }
        self.timers.insert((deadline_us, Timer::Deadline(register.clone())));
    }

    fn start_round(&mut self, register: &RegisterKey) {
        let Some(r) = self.registers.get_mut(register) else { return };
        if r.round.is_some() || r.pause || r.waiting.is_empty() {
            return;
        }
        let Some(ballot) = draw_ballot(&mut self.counter, self.bound, self.config.me) else {
            self.wait_for_bound.insert(register.clone());
            return self.raise_bound();
        };
        let Some(r) = self.registers.get_mut(register) else { return };
        let many = r.waiting.len().min(OPERATIONS_PER_ROUND);
        let ops: Vec<Op> = r.waiting.drain(..many).collect();
        let nonce = self.draw_nonce(Awaiting::Round(register.clone()));
        let active = Active {
            round: Round::new(ballot),
            ops,
            outcomes: Vec::new(),
            state: None,
            nonce,
            wait_for_clocks: Clocks::NotAsked,
        };
        self.registers.entry(register.clone()).or_default().round = Some(active);
        let request = Request::Prepare { register: register.clone(), ballot, condition: None };
        self.ask_all(nonce, PeerRequest::Paxos(request));
        if self.counter + crate::limits::BOUND_STEP / 2 > self.bound {
            self.raise_bound();
        }
    }

    /// A voter is gone: a round or read that needs its answer will not get it.
    pub(super) fn poll_phases(&mut self) {
        let registers: Vec<RegisterKey> = self.registers.keys().cloned().collect();
        for register in registers {
            let Some(r) = self.registers.get(&register) else { continue };
            match r.round.as_ref().map(|a| a.round.proposal().is_some()) {
                Some(false) => self.poll_prepare(&register),
                Some(true) => self.poll_accept(&register),
                None => {}
            }
            self.poll_read(&register);
        }
    }

    /// Asks a voter again whose connection was lost and is back.
    pub(super) fn repeat_requests(&mut self, voter: NodeId) {
        let mut again = Vec::new();
        for (register, r) in &self.registers {
            if let Some(active) = r.round.as_ref().filter(|a| !a.round.has_answered(voter)) {
                let (register, ballot) = (register.clone(), active.round.ballot());
                let request = match active.round.proposal() {
                    None => Request::Prepare { register, ballot, condition: None },
                    Some(value) => Request::Accept { register, ballot, value: value.clone() },
                };
                again.push((active.nonce, request));
            }
            if let Some(nonce) = r.reads.open_nonce(voter) {
                again.push((nonce, Request::Query { register: register.clone() }));
            }
        }
        for (nonce, request) in again {
            let request = PeerRequest::Paxos(request);
            self.effects.push_back(Effect::Ask { to: vec![voter], nonce, request });
        }
    }

    pub(super) fn handle_round_reply(&mut self, register: &RegisterKey, from: NodeId, nonce: u64, reply: Reply) {
        let Some(active) = self.registers.get_mut(register).and_then(|r| r.round.as_mut()) else { return };
        if active.nonce != nonce {
            return;
        }
        let preparing = active.round.proposal().is_none();
        match reply {
            Reply::Promised { accepted, clock_ms } if preparing => {
                active.round.handle_promise(from, Promise { accepted, clock_ms });
            }
            Reply::Accepted if !preparing => active.round.handle_accepted(from),
            Reply::Rejected { promised } => {
                // Stamps lead the counter; a promise can be above them only by what a bound was raised ahead.
                let believable = promised.counter() < self.counter.saturating_add(4 * BOUND_STEP).min(COUNTER_STOP);
                let promised = believable.then_some(promised);
                active.round.handle_reject(from, promised);
                self.counter = self.counter.max(active.round.highest_promise().counter());
            }
            Reply::Refused(_) => active.round.handle_reject(from, None),
            // Not an answer to this phase.
            Reply::Promised { .. } | Reply::Accepted | Reply::State { .. } => return,
        }
        // One voter refused, and the rest that could still make a quorum may be there and not answer.
        let wait = active.round.was_rejected().then_some(active.nonce);
        if preparing {
            self.poll_prepare(register)
        } else {
            self.poll_accept(register)
        }
        if let Some(nonce) = wait.filter(|nonce| self.nonces.contains_key(nonce)) {
            self.set_timer(RETRY_PAUSE_MAX_US, Timer::Refused(nonce));
        }
    }

    /// A round that was refused waits for the other voters no longer than for a pause: trying above what stands in
    /// the way needs only those that answer.
    pub(super) fn handle_refused_too_long(&mut self, nonce: u64) {
        let Some(Awaiting::Round(register)) = self.awaiting(nonce) else { return };
        let active = self.registers.get(&register).and_then(|r| r.round.as_ref());
        if active.is_some_and(|a| a.nonce == nonce && a.round.was_rejected() && a.wait_for_clocks == Clocks::NotAsked) {
            self.retry_round(&register);
        }
    }

    fn poll_prepare(&mut self, register: &RegisterKey) {
        let members = &self.config.membership;
        let gone = |v| !self.peers.is_up(v) && v != self.config.me;
        let Some(active) = self.registers.get_mut(register).and_then(|r| r.round.as_mut()) else { return };
        match active.round.poll_promises(members, gone) {
            Progress::Open => {}
            Progress::Lost => self.retry_round(register),
            Progress::Quorum => {
                if active.must_wait_for_clocks(members, self.now.wall_ms) {
                    if active.wait_for_clocks == Clocks::NotAsked {
                        active.wait_for_clocks = Clocks::Waiting;
                        let nonce = active.nonce;
                        self.set_timer(CLOCKS_WAIT_US, Timer::Clocks(nonce));
                    }
                } else {
                    self.decide(register);
                }
            }
        }
    }

    pub(super) fn handle_clocks_timeout(&mut self, nonce: u64) {
        let Some(Awaiting::Round(register)) = self.awaiting(nonce) else { return };
        let Some(active) = self.registers.get_mut(&register).and_then(|r| r.round.as_mut()) else { return };
        if active.nonce == nonce && active.wait_for_clocks == Clocks::Waiting {
            active.wait_for_clocks = Clocks::Over;
            self.poll_prepare(&register);
        }
    }

    /// A quorum has promised: applies the operations to what it showed.
    fn decide(&mut self, register: &RegisterKey) {
        let Some(mut active) = self.registers.get_mut(register).and_then(|r| r.round.take()) else { return };
        let view = active.round.view(&self.config.membership);
        let found = match decode_found(&view.current) {
            Ok(found) => found,
            Err(_) => {
                self.drop_nonce(active.nonce);
                for op in active.ops {
                    self.finish_all(register, op, Answer::Unreadable);
                }
                return self.advance(register);
            }
        };
        let Applied { next, outcomes, state } = self.apply(&active, found);
        active.outcomes = outcomes;
        active.state = state;
        let value = match (next, view.settled, view.current) {
            (None, true, current) => {
                let at = current.map_or(Ballot::ZERO, |a| a.ballot);
                return self.finish_round(register, active, Told { at, ..Told::default() });
            }
            (Some(next), _, _) => next,
            (None, false, Some(current)) => current.value,
            // Nothing is always settled: a view is unsettled only with a current value.
            (None, false, None) => return self.advance(register),
        };
        self.propose(register, active, value);
    }

    fn apply(&self, active: &Active, found: Option<(Ballot, State, Value)>) -> Applied {
        let members = &self.config.membership;
        let is_past = |until_ms| active.round.clocks_past(members, until_ms);
        let is_dead = |process: &kv::ProcessId| self.claims.is_dead(process);
        let facts = Facts { me: self.config.me, boot_id: self.config.boot_id, is_past: &is_past, is_dead: &is_dead };
        let changes: Vec<Change> = active.ops.iter().map(|op| self.change_of(op)).collect();
        kv::change::apply(active.round.ballot(), found, changes.iter(), &facts)
    }

    fn change_of(&self, op: &Op) -> Change {
        match &op.kind {
            Kind::Get | Kind::Listed(_) | Kind::Duty(Duty::Verify(_)) => Change::Read,
            Kind::Put { entry, retry } => {
                let remembered = || self.puts.get(&entry.header.request).map(|p| (p.first, p.at_us));
                let may_create = match op.first_accept.or_else(remembered) {
                    Some((first, at_us)) => MayCreate::Below {
                        first,
                        if_nothing: self.now.mono_us.saturating_sub(at_us) < RETRY_CREATES_US,
                    },
                    None if *retry => MayCreate::Never,
                    None => MayCreate::Always,
                };
                Change::Put(PutChange { entry: entry.clone(), may_create })
            }
            Kind::Release { which, by } => Change::Release { which: *which, by: *by },
            Kind::Duty(Duty::ExpireProcess(_, process)) => {
                Change::Expire { target: Target::Process(*process), reason: Reason::Pid }
            }
            Kind::Duty(Duty::ExpireToken(_, token)) => {
                Change::Expire { target: Target::Token(*token), reason: Reason::Pid }
            }
            Kind::Duty(Duty::Sweep(_)) => Change::Expire { target: Target::Ended, reason: Reason::Until },
            Kind::Duty(Duty::Settle(_)) => Change::Settle,
        }
    }

    fn propose(&mut self, register: &RegisterKey, mut active: Active, value: Value) {
        let (ballot, now_us) = (active.round.ballot(), self.now.mono_us);
        for (op, outcome) in active.ops.iter_mut().zip(&active.outcomes) {
            match outcome {
                Outcome::Released(ended) => {
                    op.sent = true;
                    if let Kind::Release { which: which @ Which::Any, .. } = &mut op.kind {
                        *which = Which::UpTo(*ended);
                    }
                }
                // An entry of this put is proposed: from here on a second one could be a second life.
                Outcome::Put { created: true, entry } if entry.header.token == ballot => {
                    op.sent = true;
                    // Its own first phase may have been that of an earlier copy.
                    let earlier = self.puts.get(&entry.header.request).map(|p| (p.first, p.at_us));
                    op.first_accept = op.first_accept.or(earlier).or(Some((ballot, now_us)));
                }
                _ => {}
            }
        }
        self.drop_nonce(active.nonce);
        active.nonce = self.draw_nonce(Awaiting::Round(register.clone()));
        active.round.propose(value.clone());
        let nonce = active.nonce;
        self.registers.entry(register.clone()).or_default().round = Some(active);
        let request = Request::Accept { register: register.clone(), ballot, value };
        self.ask_all(nonce, PeerRequest::Paxos(request));
    }

    fn poll_accept(&mut self, register: &RegisterKey) {
        let gone = |v| !self.peers.is_up(v) && v != self.config.me;
        let Some(r) = self.registers.get_mut(register) else { return };
        let Some(active) = r.round.as_mut() else { return };
        match active.round.poll_accepts(&self.config.membership, gone) {
            Progress::Open => {}
            Progress::Lost => self.retry_round(register),
            Progress::Quorum => {
                let Some(active) = r.round.take() else { return };
                let ballot = active.round.ballot();
                self.puts.settle(register, ballot, &mut self.claims);
                self.finish_round(register, active, Told { at: ballot, settled: Some(ballot), live: None });
            }
        }
    }

    /// A round that cannot win: its operations try again, above what stood in the way, after a pause.
    fn retry_round(&mut self, register: &RegisterKey) {
        // "The primary goes first": others draw their pause from a longer span.
        let rank = self.rank(register).min(2);
        let Some(active) = self.registers.get_mut(register).and_then(|r| r.round.take()) else { return };
        self.drop_nonce(active.nonce);
        let Some(r) = self.registers.get_mut(register) else { return };
        for op in active.ops.into_iter().rev() {
            r.waiting.push_front(op);
        }
        r.attempt = r.attempt.saturating_add(1);
        r.pause = true;
        let span = RETRY_PAUSE_MIN_US.saturating_mul(1 << r.attempt.min(20)).min(RETRY_PAUSE_MAX_US);
        let pause = self.draw_below(span * (1 + rank));
        self.set_timer(pause, Timer::Pause(register.clone()));
    }

    pub(super) fn handle_pause_over(&mut self, register: &RegisterKey) {
        if let Some(r) = self.registers.get_mut(register) {
            r.pause = false;
            self.expire_waiting(register);
            self.advance(register);
        }
    }

    pub(super) fn handle_deadline(&mut self, register: &RegisterKey) {
        if let Some(r) = self.registers.get_mut(register) {
            r.deadline_us = None;
        }
        self.expire_waiting(register);
        let Some(r) = self.registers.get_mut(register) else { return };
        let in_round = r.round.iter_mut().flat_map(|a| a.ops.iter_mut()).filter(|op| !op.callers.is_empty());
        let all = r.waiting.iter_mut().chain(in_round).chain(r.reads.ops_mut());
        let next = all.map(|op| op.next_deadline_us()).min();
        self.set_deadline(register, next.unwrap_or(u64::MAX));
        self.advance(register);
    }

    pub(super) fn handle_raised(&mut self, bound: u64) {
        self.bound = self.bound.max(bound);
        self.raising = false;
        for register in std::mem::take(&mut self.wait_for_bound) {
            self.advance(&register);
        }
    }

    fn raise_bound(&mut self) {
        if !self.raising && self.counter + 1 < COUNTER_STOP {
            self.raising = true;
            self.effects.push_back(Effect::Raise(self.counter + 1 + crate::limits::BOUND_STEP / 2));
        }
    }
}

impl Active {
    /// Whether the round turns on a time that may be over, and more clocks could tell.
    fn must_wait_for_clocks(&self, members: &crate::paxos::Membership, wall_ms: u64) -> bool {
        if self.wait_for_clocks == Clocks::Over || self.round.all_answered(members) {
            return false;
        }
        let asks = |op: &Op| matches!(op.kind, Kind::Put { .. } | Kind::Duty(Duty::Sweep(_)));
        if !self.ops.iter().any(asks) {
            return false;
        }
        let view = self.round.view(members);
        let header = view.current.and_then(|a| kv::Header::decode(&a.value).ok());
        let Some(until_ms) = header.filter(|h| h.kind == kv::Kind::Live).and_then(|h| h.until_ms()) else {
            return false;
        };
        let anybody = wall_ms > until_ms || self.round.promises().values().any(|p| p.clock_ms > until_ms);
        anybody && !self.round.clocks_past(members, until_ms)
    }
}

/// The next ballot of a node, if the durable bound covers it: above every counter seen, and never drawn before.
fn draw_ballot(counter: &mut u64, bound: u64, me: NodeId) -> Option<Ballot> {
    if *counter >= bound || *counter + 1 >= COUNTER_STOP {
        return None;
    }
    *counter += 1;
    Some(Ballot::new(*counter, me))
}

fn decode_found(current: &Option<Accepted>) -> Result<Option<(Ballot, State, Value)>, kv::BadEntry> {
    current.as_ref().map(|a| Ok((a.ballot, State::decode(&a.value)?, a.value.clone()))).transpose()
}
