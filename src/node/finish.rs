//! What the end of a round, or of patience, means for the operations that were in it.

use super::op::{Answer, CallId, Duty, Kind, Mode, NoQuorum, Op};
use super::rounds::Active;
use super::{Awaiting, Effect, Node};
use crate::kv::{Outcome, State};
use crate::paxos::{Ballot, RegisterKey};

pub(super) const NOT_CONNECTED: &str = "a majority of the voters cannot be reached";
const NO_ANSWER: &str = "a majority of the voters did not answer in time";
pub(super) const DEADLINE: &str = "there was no decision before the deadline";

/// What an answer rests on.
#[derive(Clone, Copy, Default)]
pub(super) struct Told {
    /// The ballot of the value that is chosen.
    pub at: Ballot,
    /// The ballot of the accept phase of this node that made it so, if there was one.
    pub settled: Option<Ballot>,
    /// The token of what is live.
    pub live: Option<Ballot>,
}

impl Node {
    /// Tells what a round came to: its value is chosen.
    pub(super) fn finish_round(&mut self, register: &RegisterKey, active: Active, told: Told) {
        self.drop_nonce(active.nonce);
        if let Some(r) = self.registers.get_mut(register) {
            r.attempt = 0;
        }
        let live = active.state.as_ref().and_then(State::live).cloned();
        self.learn(register, told.at, live.as_ref());
        let mut deferred = Vec::new();
        let told = Told { live: live.map(|e| e.header.token), ..told };
        for (op, outcome) in active.ops.into_iter().zip(active.outcomes) {
            match outcome {
                // Its callers were told at their deadline that it was not sent: so it must not be.
                Outcome::Deferred if op.callers.is_empty() && op.deadline_us != u64::MAX => {
                    self.finish_all(register, op, Answer::OutcomeUnknown);
                }
                Outcome::Deferred => deferred.push(op),
                outcome => self.finish_op(register, op, outcome, told),
            }
        }
        let waiting = &mut self.registers.entry(register.clone()).or_default().waiting;
        for op in deferred.into_iter().rev() {
            waiting.push_front(op);
        }
        self.advance(register);
    }

    pub(super) fn finish_op(&mut self, register: &RegisterKey, op: Op, outcome: Outcome, told: Told) {
        match (&op.kind, &outcome) {
            (Kind::Duty(duty), _) => return self.finish_duty(&duty.clone(), &outcome, told),
            (Kind::Listed(nonce), Outcome::State(live)) => {
                return self.finish_listed(*nonce, register, live.is_some());
            }
            _ => {}
        }
        let answer = match outcome {
            Outcome::Put { entry, created } => Answer::Put { entry, created },
            Outcome::Unknown => Answer::OutcomeUnknown,
            Outcome::Invalid(why) => Answer::Invalid(why),
            Outcome::Released(token) => Answer::Released(token),
            Outcome::NothingToRelease => Answer::NothingToRelease,
            Outcome::NotPermitted => Answer::NotPermitted,
            Outcome::State(live) => Answer::State(live),
            Outcome::Expired(_) | Outcome::Deferred => Answer::Unreadable,
        };
        self.finish_put(register, &op, &answer, told);
        self.answer_all(op, answer);
    }

    /// What a told put means for what is remembered of it.
    pub(super) fn finish_put(&mut self, register: &RegisterKey, op: &Op, answer: &Answer, told: Told) {
        let Kind::Put { entry, .. } = &op.kind else { return };
        let (request, process) = (entry.header.request, entry.header.bound_process().copied());
        // What an accept phase of this node completed, or a quorum shows above every proposal of this put, leaves
        // nothing of the put that could still be completed.
        let settled = match op.first_accept {
            None => true,
            Some((first, _)) => told.settled.is_some() || told.at > first,
        };
        match (op.first_accept, answer) {
            (Some(_), Answer::Put { .. } | Answer::Invalid(_)) if settled => {
                self.puts.remove(&request, &mut self.claims);
            }
            (Some((first, at_us)), _) => {
                let register = register.clone();
                let put = super::put::Remembered { register: register.clone(), first, at_us, process, settled };
                self.puts.insert(request, put, &mut self.claims);
                if process.is_some() && !settled {
                    self.owe(Duty::Settle(register));
                }
            }
            (None, _) => {}
        }
        if let Some(process) = process {
            // The answer to `learn` above may have replaced the hold by a live claim.
            self.claims.drop_hold(&process, register);
            if self.claims.is_dead(&process) && self.claims.has(&process, register) {
                self.owe(Duty::ExpireProcess(register.clone(), process));
            }
        }
    }

    /// Answers the callers that have waited until their deadline, and drops operations for which nobody waits.
    pub(super) fn expire_waiting(&mut self, register: &RegisterKey) {
        let now_us = self.now.mono_us;
        let Some(r) = self.registers.get_mut(register) else { return };
        let in_round = r.round.iter_mut().flat_map(|a| a.ops.iter_mut());
        let all = r.waiting.iter_mut().chain(in_round).chain(r.reads.ops_mut());
        let late: Vec<_> = all.flat_map(|op| op.take_late_callers(now_us).into_iter().map(|c| (c, op.sent))).collect();

        let (mut over, rest): (Vec<Op>, Vec<Op>) = r.waiting.drain(..).partition(|op| op.deadline_us <= now_us);
        r.waiting = rest.into();
        over.extend(r.reads.take_expired(now_us));
        // What is proposed cannot be taken back: that round goes to its end.
        if let Some(active) = r.round.as_mut().filter(|a| a.round.proposal().is_none()) {
            over.extend(active.ops.extract_if(.., |op| op.deadline_us <= now_us));
        }
        for (caller, sent) in late {
            self.answer(caller.call, no_quorum(sent, DEADLINE));
        }
        for op in over {
            let answer = no_quorum(op.sent, DEADLINE);
            self.finish_all(register, op, answer);
        }
    }

    pub(super) fn handle_phase_timeout(&mut self, nonce: u64) {
        match self.awaiting(nonce) {
            Some(Awaiting::Round(register)) => {
                let Some(active) = self.registers.get_mut(&register).and_then(|r| r.round.take()) else { return };
                self.drop_nonce(nonce);
                self.fail_or_keep(&register, active.ops, NO_ANSWER);
                self.advance(&register);
            }
            Some(Awaiting::Read(register)) => {
                let ops = self.registers.get_mut(&register).map(|r| r.reads.abort_active()).unwrap_or_default();
                self.drop_nonce(nonce);
                self.fail_or_keep(&register, ops, NO_ANSWER);
                self.advance(&register);
            }
            Some(Awaiting::Local(call)) => {
                self.drop_nonce(nonce);
                self.answer(call, no_quorum(false, NO_ANSWER));
            }
            Some(Awaiting::Listing) => self.fail_listing(nonce, NO_ANSWER),
            None => {}
        }
    }

    /// Without a quorum nothing is begun, and what is under way cannot end well: those that would wait, wait.
    pub(super) fn handle_quorum_lost(&mut self, register: &RegisterKey) {
        let Some(r) = self.registers.get_mut(register) else { return };
        let (round, read) = (r.round.take(), r.reads.nonce());
        let mut ops: Vec<Op> = r.waiting.drain(..).chain(r.reads.abort()).collect();
        if let Some(nonce) = read {
            self.drop_nonce(nonce);
        }
        if let Some(active) = round {
            self.drop_nonce(active.nonce);
            ops.extend(active.ops);
        }
        self.fail_or_keep(register, ops, NOT_CONNECTED);
        self.advance(register);
    }

    fn fail_or_keep(&mut self, register: &RegisterKey, ops: Vec<Op>, why: &'static str) {
        for op in ops {
            if op.mode == Mode::Retry && op.deadline_us > self.now.mono_us {
                self.registers.entry(register.clone()).or_default().waiting.push_back(op);
            } else {
                let answer = no_quorum(op.sent, why);
                self.finish_all(register, op, answer);
            }
        }
    }

    /// Ends an operation of which nothing was decided.
    pub(super) fn finish_all(&mut self, register: &RegisterKey, op: Op, answer: Answer) {
        match &op.kind {
            Kind::Listed(nonce) => self.fail_listing(*nonce, NO_ANSWER),
            Kind::Duty(duty) => self.duty_failed(&duty.clone()),
            _ => {}
        }
        self.finish_put(register, &op, &answer, Told::default());
        self.answer_all(op, answer);
    }

    pub(super) fn answer_all(&mut self, op: Op, answer: Answer) {
        for caller in op.callers {
            self.answer(caller.call, answer.clone());
        }
    }

    pub(super) fn answer(&mut self, call: CallId, answer: Answer) {
        self.calls = self.calls.saturating_sub(1);
        self.effects.push_back(Effect::Answer { call, answer });
    }
}

pub(super) fn no_quorum(unknown: bool, why: &'static str) -> Answer {
    Answer::NoQuorum(NoQuorum { unknown, why })
}
