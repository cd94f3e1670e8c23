//! What no run may show.

use crate::trio::{ALL, Trio, Vote};
use paxoskv::kv::{Entry, RequestId, State};
use paxoskv::node::{Answer, CallId, NoQuorum, Operation};
use paxoskv::paxos::{Ballot, RegisterKey, Value};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Rules {
    calls: CallId,
    /// What was asked where, and is not answered.
    open: BTreeMap<CallId, (u16, Operation)>,
    /// Proposals that were accepted anywhere, and where.
    accepted: BTreeMap<(RegisterKey, Ballot), (Value, BTreeSet<u16>)>,
    /// Entries that were chosen, by register and token.
    chosen: BTreeSet<(RegisterKey, Ballot)>,
    /// What callers were told that they created, in that order.
    pub created: Vec<(RegisterKey, Ballot)>,
    life_of: BTreeMap<RequestId, Ballot>,
    /// Entries of which somebody was told that they have ended: above which ballot, and before which call.
    ended: BTreeMap<(RegisterKey, Ballot), (Ballot, CallId)>,
    requests: BTreeMap<RequestId, Fate>,
    pub counts: Counts,
}

/// Whether an entry of a request may be proposed.
#[derive(Default)]
struct Fate {
    /// Calls that are under way.
    open: u32,
    /// Some call of it was not told "not sent".
    may_be: bool,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub created: u64,
    pub released: u64,
    pub unknown: u64,
    pub busy: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.created += other.created;
        self.released += other.released;
        self.unknown += other.unknown;
        self.busy += other.busy;
    }
}

impl Rules {
    pub fn calls(&self) -> CallId {
        self.calls
    }

    pub fn called(&mut self, call: CallId, id: u16, operation: &Operation) {
        self.calls = call;
        self.open.insert(call, (id, operation.clone()));
        if let Operation::Put { entry, .. } = operation {
            self.requests.entry(entry.header.request).or_default().open += 1;
        }
    }

    /// The agent is gone, and its calls with it.
    pub fn lost(&mut self, id: u16) {
        let lost: Vec<CallId> = self.open.iter().filter(|(_, (at, _))| *at == id).map(|(call, _)| *call).collect();
        for call in lost {
            if let Some((_, Operation::Put { entry, .. })) = self.open.remove(&call) {
                self.call_over(&entry.header.request, true);
            }
        }
    }

    fn call_over(&mut self, request: &RequestId, may_be: bool) {
        let fate = self.requests.entry(*request).or_default();
        fate.open -= 1;
        fate.may_be |= may_be;
    }

    /// What has happened since last seen.
    pub fn see(&mut self, trio: &mut Trio) {
        for vote in std::mem::take(&mut trio.votes) {
            self.voted(vote);
        }
        self.counts.busy += std::mem::take(&mut trio.refused_batches);
        for call in std::mem::take(&mut trio.answered) {
            let (_, operation) = self.open.remove(&call).unwrap_or_else(|| panic!("{call} is not open"));
            let answer = trio.answer(call).cloned().expect("it was answered");
            self.answered(call, &operation, &answer);
        }
    }

    fn voted(&mut self, Vote { voter, register, ballot, value }: Vote) {
        let at = (register.clone(), ballot);
        let (first, voters) = self.accepted.entry(at).or_insert_with(|| (value.clone(), BTreeSet::new()));
        assert_eq!(*first, value, "one ballot, one value: {ballot:?}");
        let is_new = voters.insert(voter) && voters.len() == 2;
        let Ok(State::Live(entry)) = State::decode(&value) else { return };
        let token = entry.header.token;
        if token == ballot {
            let fate = self.requests.entry(entry.header.request).or_default();
            assert!(fate.may_be || fate.open > 0, "{ballot:?} is of a put that was told not sent");
        }
        if is_new {
            let over = self.ended.get(&(register.clone(), token)).is_some_and(|(above, _)| ballot > *above);
            assert!(!over, "{token:?} is chosen again at {ballot:?} after its end was told");
            self.chosen.insert((register, token));
        }
    }

    fn answered(&mut self, call: CallId, operation: &Operation, answer: &Answer) {
        match operation {
            Operation::Put { register, entry, retry } => {
                let not_sent = matches!(answer, Answer::NoQuorum(NoQuorum { unknown: false, .. }));
                assert!(!(not_sent && *retry), "a repetition is told that it was not sent");
                self.call_over(&entry.header.request, !not_sent);
                self.answered_put(call, register, entry, answer);
            }
            Operation::Get { register } => match answer {
                Answer::State(Some(entry)) => self.shown(call, register, entry),
                Answer::State(None) | Answer::NoQuorum(_) => {}
                other => panic!("get, but answered {other:?}"),
            },
            Operation::Release { register, token, .. } => match (token, answer) {
                (Some(token), Answer::Released(_) | Answer::NothingToRelease) => self.ended(register, *token),
                (None, Answer::Released(token)) => self.ended(register, *token),
                (_, Answer::NothingToRelease | Answer::NoQuorum(_)) => {}
                other => panic!("release, but answered {other:?}"),
            },
            Operation::List { .. } => {
                assert!(matches!(answer, Answer::Page { .. } | Answer::NoQuorum(_)), "{answer:?}")
            }
            Operation::GetLocal { .. } => {}
        }
    }

    fn answered_put(&mut self, call: CallId, register: &RegisterKey, put: &Entry, answer: &Answer) {
        match answer {
            Answer::Put { entry, created } => {
                self.shown(call, register, entry);
                let (request, token) = (entry.header.request, entry.header.token);
                assert_eq!(*created, request == put.header.request);
                if *created {
                    let life = *self.life_of.entry(request).or_insert(token);
                    assert_eq!(life, token, "one life a request");
                    let other = self.life_of.iter().find(|(r, t)| **t == token && **r != request);
                    assert_eq!(other, None, "one token, one request");
                    self.created.push((register.clone(), token));
                    self.counts.created += 1;
                }
            }
            Answer::OutcomeUnknown => self.counts.unknown += 1,
            Answer::NoQuorum(no_quorum) => self.counts.unknown += u64::from(no_quorum.unknown),
            Answer::Invalid(_) => {}
            other => panic!("put, but answered {other:?}"),
        }
    }

    /// An entry was shown as live to this call.
    fn shown(&self, call: CallId, register: &RegisterKey, entry: &Entry) {
        let at = (register.clone(), entry.header.token);
        // What a round shows to one operation the next one of the same round may end: then what is chosen is its end.
        let was_there = self.chosen.contains(&at) || self.last_chosen(register) > Some(at.1);
        assert!(was_there, "{:?} was shown and never chosen", at.1);
        let ended = self.ended.get(&at).map(|(_, before)| *before);
        assert!(ended.is_none_or(|before| call <= before), "call {call} was shown {:?}, which had ended", at.1);
    }

    /// Somebody was told that this entry has ended.
    fn ended(&mut self, register: &RegisterKey, token: Ballot) {
        let above = self.last_chosen(register).expect("an end is chosen");
        self.ended.entry((register.clone(), token)).or_insert((above, self.calls));
        self.counts.released += 1;
    }

    fn last_chosen(&self, register: &RegisterKey) -> Option<Ballot> {
        let chosen = self.accepted.iter().filter(|((r, _), (_, voters))| r == register && voters.len() >= 2);
        chosen.map(|((_, ballot), _)| *ballot).max()
    }

    /// Long after the last fault.
    pub fn at_rest(&mut self, trio: &mut Trio) {
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        let registers: BTreeSet<RegisterKey> = self.accepted.keys().map(|(register, _)| register.clone()).collect();
        for register in registers {
            let mut held: BTreeMap<(Ballot, Value), usize> = BTreeMap::new();
            for record in ALL.iter().filter_map(|voter| trio.record(*voter, &register)) {
                *held.entry((record.ballot, record.value)).or_default() += 1;
            }
            for ((ballot, value), voters) in held {
                if let Ok(State::Live(entry)) = State::decode(&value) {
                    assert_may_live(trio, &entry, ballot, voters);
                }
            }
        }
        for id in ALL {
            let load = trio.load(*id);
            let left = (load.calls, load.registers, load.unsettled_puts, load.duties);
            assert_eq!(left, (0, 0, 0, 0), "left over at {id}: {load:?}");
            let dead = trio.dead.iter().find(|process| trio.is_tracking(*id, process));
            assert_eq!(dead, None, "still tracked at {id}");
        }
    }
}

/// A live entry that so many voters hold long after the last fault.
fn assert_may_live(trio: &Trio, entry: &Entry, ballot: Ballot, voters: usize) {
    let header = &entry.header;
    if let Some(process) = header.bound_process() {
        assert!(!trio.dead.contains(process), "{ballot:?} of dead {process} at {voters} voters");
        let watched = voters < 2 || trio.is_watching(header.node.0, process);
        assert!(watched, "{ballot:?}: {process} is not watched");
    }
    let over = header.until_ms().is_some_and(|until_ms| until_ms + 10_000 < trio.now.wall_ms);
    assert!(!over, "{ballot:?} is over for long at {voters} voters");
}
