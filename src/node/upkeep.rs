//! Upkeep: entries go when the reason for them has gone, however late they were chosen.
//!
//! Expiry is level-triggered. What counts is not that an event was seen but what the records say: when the own
//! acceptor accepts a live entry, when a voter tells of one, at the start and every 30 s, each entry is looked at
//! again. What looks as if it should go is put to a round, which decides.

use super::claims::Change;
use super::finish::Told;
use super::op::{Duty, Kind, Op};
use super::{Effect, Node, Timer};
use crate::kv::peer::{BoundEntry, PeerRequest};
use crate::kv::{Entry, Header, Kind as EntryKind, Outcome, ProcessId};
use crate::limits::{EXPIRIES_IN_FLIGHT, LIVE_HINTS, SWEEP_RANK_US, SWEEP_US};
use crate::paxos::{Ballot, NodeId, RegisterKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What the own acceptor holds for a register.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The register.
    pub register: RegisterKey,
    /// The ballot at which it was accepted.
    pub ballot: Ballot,
    /// Its header; none if it cannot be read.
    pub header: Option<Header>,
}

#[derive(Default)]
pub(super) struct Upkeep {
    /// The bound entries of the own store.
    index: BTreeMap<RegisterKey, Indexed>,
    /// Those bound to processes, by their node.
    by_node: BTreeSet<(NodeId, RegisterKey)>,
    /// Those with a time, by when they are to be looked at (ms of the wall clock).
    by_time: BTreeSet<(u64, RegisterKey)>,
    /// Registers that probably hold a live entry.
    hints: BTreeSet<RegisterKey>,
    /// What is owed and not begun.
    backlog: VecDeque<Duty>,
    /// What is owed, begun or not.
    owed: BTreeSet<Duty>,
    in_flight: usize,
    next_sweep_us: u64,
    wakeup_us: Option<u64>,
}

struct Indexed {
    token: Ballot,
    node: NodeId,
    process: Option<ProcessId>,
    until_ms: Option<u64>,
    /// Its place in `by_time`.
    look_at_ms: u64,
}

impl Upkeep {
    pub fn is_live_hint(&self, register: &RegisterKey) -> bool {
        self.hints.contains(register)
    }

    pub fn duties(&self) -> usize {
        self.owed.len()
    }

    /// The entries of the own store that are bound to processes of this node.
    pub fn bound_to(&self, node: NodeId) -> Vec<BoundEntry> {
        let from: RegisterKey = Arc::from([].as_slice());
        let registers = self.by_node.range((node, from)..).take_while(|(n, _)| *n == node).map(|(_, r)| r);
        let entry = |register: &RegisterKey| {
            let indexed = self.index.get(register)?;
            Some(BoundEntry { register: register.clone(), token: indexed.token, process: indexed.process? })
        };
        registers.filter_map(entry).collect()
    }

    fn remove(&mut self, register: &RegisterKey) {
        if let Some(old) = self.index.remove(register) {
            self.by_node.remove(&(old.node, register.clone()));
            self.by_time.remove(&(old.look_at_ms, register.clone()));
        }
    }

    fn insert(&mut self, register: &RegisterKey, header: &Header) {
        let (process, until_ms) = (header.bound_process().copied(), header.until_ms());
        if process.is_none() && until_ms.is_none() {
            return;
        }
        let look_at_ms = until_ms.map_or(0, |ms| ms.saturating_add(1));
        if process.is_some() {
            self.by_node.insert((header.node, register.clone()));
        }
        if until_ms.is_some() {
            self.by_time.insert((look_at_ms, register.clone()));
        }
        let indexed = Indexed { token: header.token, node: header.node, process, until_ms, look_at_ms };
        self.index.insert(register.clone(), indexed);
    }

    /// What was put off by a wall clock that was ahead, and has been set right since, is looked at in its time.
    fn look_at_times_again(&mut self) {
        self.by_time.clear();
        for (register, indexed) in &mut self.index {
            if let Some(until_ms) = indexed.until_ms {
                indexed.look_at_ms = until_ms.saturating_add(1);
                self.by_time.insert((indexed.look_at_ms, register.clone()));
            }
        }
    }

    fn look_again_at(&mut self, register: &RegisterKey, at_ms: u64) {
        if let Some(indexed) = self.index.get_mut(register).filter(|i| i.until_ms.is_some()) {
            self.by_time.remove(&(indexed.look_at_ms, register.clone()));
            indexed.look_at_ms = at_ms;
            self.by_time.insert((at_ms, register.clone()));
        }
    }
}

impl Node {
    pub(super) fn handle_stored(&mut self, records: Vec<Stored>) {
        for Stored { register, ballot, header } in records {
            self.upkeep.remove(&register);
            let live = header.filter(|h| h.kind == EntryKind::Live);
            let Some(header) = live else {
                self.upkeep.hints.remove(&register);
                self.verify_claims(&register, ballot);
                continue;
            };
            self.upkeep.hints.insert(register.clone());
            if self.upkeep.hints.len() > LIVE_HINTS {
                self.upkeep.hints.pop_first();
            }
            self.upkeep.insert(&register, &header);
            self.tell_holder(&register, ballot, &header);
        }
        self.schedule_upkeep();
    }

    /// A live entry was accepted here: its holder's agent must know, unless it proposed it itself.
    fn tell_holder(&mut self, register: &RegisterKey, ballot: Ballot, header: &Header) {
        let me = self.config.me;
        let Some(process) = header.bound_process().copied() else { return self.verify_claims(register, ballot) };
        let entry = BoundEntry { register: register.clone(), token: header.token, process };
        if header.node == me {
            self.look_after(entry);
        } else {
            if ballot.node() != header.node && self.is_reachable(header.node) {
                let request = PeerRequest::Bound(vec![entry]);
                self.effects.push_back(Effect::Ask { to: vec![header.node], nonce: 0, request });
            }
            self.verify_claims(register, ballot);
        }
    }

    pub(super) fn handle_bound(&mut self, entries: Vec<BoundEntry>) {
        for entry in entries {
            self.look_after(entry);
        }
    }

    /// An entry bound to a process of this host is live somewhere, or may become so.
    fn look_after(&mut self, entry: BoundEntry) {
        let BoundEntry { register, token, process } = entry;
        if process.boot_id != self.config.boot_id {
            self.owe(Duty::ExpireToken(register, token));
        } else if self.claims.is_dead(&process) {
            self.claims.set_live(&process, &register, token);
            self.owe(Duty::ExpireProcess(register, process));
        } else {
            self.claims.set_live(&process, &register, token);
        }
    }

    /// Somebody else's proposal replaced what was held here: a claim on the register may be void.
    fn verify_claims(&mut self, register: &RegisterKey, ballot: Ballot) {
        if ballot.node() != self.config.me && !self.claims.processes_of(register).is_empty() {
            self.owe(Duty::Verify(register.clone()));
        }
    }

    /// What is chosen at a register became known.
    ///
    /// An entry ends at a ballot above its token: what is older is late news, and voids no claim.
    pub(super) fn learn(&mut self, register: &RegisterKey, at: Ballot, live: Option<&Arc<Entry>>) {
        let bound =
            live.filter(|e| e.header.node == self.config.me).and_then(|e| Some((e, *e.header.bound_process()?)));
        for process in self.claims.processes_of(register) {
            if bound.as_ref().is_none_or(|(_, p)| *p != process) {
                self.claims.set_not_live(&process, register, at);
            }
        }
        if let Some((entry, process)) = bound {
            self.look_after(BoundEntry { register: register.clone(), token: entry.header.token, process });
        }
    }

    pub(super) fn handle_process_gone(&mut self, process: ProcessId) {
        if self.claims.set_dead(&process) {
            for register in self.claims.registers_of(&process) {
                self.owe(Duty::ExpireProcess(register, process));
            }
        }
    }

    /// Takes up a duty, once, however often it is seen to be owed.
    pub(super) fn owe(&mut self, duty: Duty) {
        if self.upkeep.owed.insert(duty.clone()) {
            self.upkeep.backlog.push_back(duty);
        }
    }

    /// Begins what is owed, and tells the watcher of processes what has changed. The last step of every input.
    pub(super) fn run_duties(&mut self) {
        while self.upkeep.in_flight < EXPIRIES_IN_FLIGHT && self.has_quorum() {
            let Some(duty) = self.upkeep.backlog.pop_front() else { break };
            self.upkeep.in_flight += 1;
            let register = duty.register().clone();
            let verify = matches!(duty, Duty::Verify(_));
            let op = Op::of_node(Kind::Duty(duty));
            if verify { self.submit_read(&register, op) } else { self.submit_round(&register, op) }
        }
        for change in self.claims.take_changes() {
            self.effects.push_back(match change {
                Change::Track(process) => Effect::Watch(process),
                Change::Untrack(process) => Effect::Unwatch(process),
            });
        }
    }

    pub(super) fn finish_duty(&mut self, duty: &Duty, outcome: &Outcome, told: Told) {
        self.upkeep.in_flight = self.upkeep.in_flight.saturating_sub(1);
        self.upkeep.owed.remove(duty);
        if let (Duty::Sweep(register), Outcome::Expired(false)) = (duty, outcome) {
            if self.upkeep.index.get(register).is_some_and(|i| told.live != Some(i.token)) {
                // It has ended already, and this store has not heard: an accept phase tells it.
                self.owe(Duty::Settle(register.clone()));
            } else {
                // Not yet, by the clocks of a majority.
                self.upkeep.look_again_at(register, self.now.wall_ms.saturating_add(SWEEP_RANK_US / 1000));
            }
        }
    }

    /// A duty could not be done, because the entry cannot be read: it is left to agents that can.
    pub(super) fn duty_failed(&mut self, duty: &Duty) {
        self.upkeep.in_flight = self.upkeep.in_flight.saturating_sub(1);
        self.upkeep.owed.remove(duty);
    }

    pub(super) fn handle_upkeep_due(&mut self) {
        self.upkeep.wakeup_us = None;
        self.sweep_times();
        if self.now.mono_us >= self.upkeep.next_sweep_us {
            self.upkeep.next_sweep_us = self.now.mono_us.saturating_add(SWEEP_US);
            self.puts.forget_old(self.now.mono_us, &mut self.claims);
            self.upkeep.look_at_times_again();
            let all: Vec<NodeId> = self.config.membership.all().collect();
            for node in all {
                if node == self.config.me {
                    let own = self.upkeep.bound_to(node);
                    self.handle_bound(own);
                } else if self.is_reachable(node) {
                    self.send_bound(node);
                }
            }
        }
        self.schedule_upkeep();
    }

    /// Looks at the entries whose time is over: the primary at once, the others each a second later.
    fn sweep_times(&mut self) {
        let wall_ms = self.now.wall_ms;
        while let Some((at, register)) = self.upkeep.by_time.first().cloned() {
            if at > wall_ms {
                break;
            }
            let until_ms = self.upkeep.index.get(&register).and_then(|i| i.until_ms).unwrap_or(at);
            let turn_ms = until_ms.saturating_add(1 + self.rank(&register) * SWEEP_RANK_US / 1000);
            if turn_ms > wall_ms {
                self.upkeep.look_again_at(&register, turn_ms);
            } else {
                self.upkeep.look_again_at(&register, wall_ms.saturating_add(SWEEP_US / 1000));
                self.owe(Duty::Sweep(register));
            }
        }
    }

    /// Sets the timer of upkeep: when the next time is over, by a wall clock that may jump meanwhile, so that a long
    /// wait is cut into seconds.
    fn schedule_upkeep(&mut self) {
        let sweep_us = self.upkeep.next_sweep_us.saturating_sub(self.now.mono_us);
        let time_us =
            self.upkeep.by_time.first().map(|(at, _)| at.saturating_sub(self.now.wall_ms).saturating_mul(1000));
        let wait_us = time_us.map_or(sweep_us, |t| sweep_us.min(t.clamp(1_000, 1_000_000)));
        let at = self.now.mono_us.saturating_add(wait_us);
        if self.upkeep.wakeup_us.is_none_or(|w| w > at) {
            if let Some(later) = self.upkeep.wakeup_us.replace(at) {
                self.timers.remove(&(later, Timer::Upkeep));
            }
            self.timers.insert((at, Timer::Upkeep));
        }
    }
}
