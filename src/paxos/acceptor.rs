//! The acceptor: "it can respond to any request, at any time, without compromising safety" (Lamport 2001, §2.2), as
//! long as it remembers. What it must remember on disk is one number for all registers, the bound, and one record a
//! register, what it last accepted; promises live in memory under the floor.

use super::ballot::Ballot;
use super::message::{Accepted, Refusal, RegisterKey, Reply, Request, Value};
use crate::limits::{BOUND_STEP, COUNTER_STOP, PROMISES};
use std::collections::BTreeMap;

/// The acceptor's own state for all registers, without their records.
///
/// Invariants, asserted when a write is decided:
/// - *bounded*: no ballot with a counter above `bound` was ever promised or accepted;
/// - *remembered*: for every register the effective promise never falls, in a life and from one life to the next.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// The counter up to which ballots may be promised, once what [`Step::raise`] asks for is durable.
    bound: u64,
    /// Every register counts as promised up to here.
    floor: Ballot,
    /// Promises above the floor.
    promises: BTreeMap<RegisterKey, Ballot>,
    /// How many promises are kept.
    capacity: usize,
}

/// What one request comes to. The reply may leave only when the writes are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The answer.
    pub reply: Reply,
    /// The register's new record, if it changes.
    pub write: Option<(Ballot, Value)>,
    /// The new bound, if it rises.
    pub raise: Option<u64>,
}

impl Acceptor {
    /// The acceptor of a new life: all that an earlier one may have promised is covered by the durable bound.
    pub fn recover(durable_bound: u64) -> Acceptor {
        Acceptor {
            bound: durable_bound,
            floor: Ballot::last_of(durable_bound),
            promises: BTreeMap::new(),
            capacity: PROMISES,
        }
    }

    /// The same with room for `capacity` promises (at least 2).
    pub fn with_capacity(durable_bound: u64, capacity: usize) -> Acceptor {
        Acceptor { capacity: capacity.max(2), ..Acceptor::recover(durable_bound) }
    }

    /// The bound.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Every register counts as promised up to this ballot.
    pub fn floor(&self) -> Ballot {
        self.floor
    }

    /// How many promises are held in memory.
    pub fn promises(&self) -> usize {
        self.promises.len()
    }

    /// The effective promise: the highest of the volatile promise, the accepted ballot and the floor.
    pub fn effective_promise(&self, register: &RegisterKey, accepted: Option<Ballot>) -> Ballot {
        let volatile = self.promises.get(register).copied().unwrap_or_default();
        volatile.max(accepted.unwrap_or_default()).max(self.floor)
    }

    /// Raises the bound so that `counter` may be used, if it does not cover it yet. The caller makes the returned
    /// bound durable before anything that relies on it is shown.
    pub fn raise(&mut self, counter: u64) -> Option<u64> {
        if counter <= self.bound {
            return None;
        }
        self.bound = self.bound.max(counter).saturating_add(BOUND_STEP);
        Some(self.bound)
    }

    /// Takes note that a higher bound is durable.
    pub fn raise_to(&mut self, durable_bound: u64) {
        self.bound = self.bound.max(durable_bound);
    }

    /// Takes note that a record at this ballot is durable: it carries the promises up to there itself.
    pub fn accepted_is_durable(&mut self, register: &RegisterKey, ballot: Ballot) {
        if self.promises.get(register).is_some_and(|promised| *promised <= ballot) {
            self.promises.remove(register);
        }
    }

    /// A batch was not written, and nothing of it was shown: begins anew, as after a restart. What was promised and
    /// shown is covered by the durable bound; what was promised above it, nobody was told.
    pub fn begin_anew(&mut self, durable_bound: u64) {
        *self = Acceptor::with_capacity(durable_bound, self.capacity);
    }

    /// Steps one request over the register's record as it will be on disk once all earlier writes are.
    pub fn step(&mut self, request: &Request, record: Option<&Accepted>, clock_ms: u64) -> Step {
        match request {
            Request::Prepare { condition: Some(_), .. } => Step::answer(Reply::Refused(Refusal::Condition)),
            Request::Prepare { ballot, .. } | Request::Accept { ballot, .. } if ballot.counter() >= COUNTER_STOP => {
                Step::answer(Reply::Refused(Refusal::Counter))
            }
            Request::Prepare { register, ballot, condition: None } => {
                self.handle_prepare(register, *ballot, record, clock_ms)
            }
            Request::Accept { register, ballot, value } => self.handle_accept(register, *ballot, value, record),
            Request::Query { .. } => Step::answer(Reply::State { accepted: record.cloned() }),
        }
    }

    /// "If an acceptor receives a prepare request with number n greater than that of any prepare request to which it
    /// has already responded, then it responds to the request with a promise not to accept any more proposals
    /// numbered less than n and with the highest-numbered proposal (if any) that it has accepted." (§2.2, phase 1b)
    fn handle_prepare(
        &mut self,
        register: &RegisterKey,
        ballot: Ballot,
        record: Option<&Accepted>,
        clock_ms: u64,
    ) -> Step {
        let promised = self.effective_promise(register, record.map(|a| a.ballot));
        if ballot <= promised {
            // The paper lets it stay silent; naming the promise lets the proposer try above it at once.
            return Step::answer(Reply::Rejected { promised });
        }
        let raise = self.raise(ballot.counter());
        self.promise(register.clone(), ballot);
        Step { reply: Reply::Promised { accepted: record.cloned(), clock_ms }, write: None, raise }
    }

    /// "If an acceptor receives an accept request for a proposal numbered n, it accepts the proposal unless it has
    /// already responded to a prepare request having a number greater than n." (§2.2, phase 2b)
    fn handle_accept(
        &mut self,
        register: &RegisterKey,
        ballot: Ballot,
        value: &Value,
        record: Option<&Accepted>,
    ) -> Step {
        let volatile = self.promises.get(register).copied().unwrap_or_default();
        let accepted = record.map_or(Ballot::ZERO, |a| a.ballot);
        // The floor stands for promises that nobody remembers one by one, this very ballot's perhaps among them, and
        // for forgotten tombstones: what is not above it is refused, an equal ballot too.
        if ballot <= self.floor || ballot < volatile || ballot < accepted {
            let promised = volatile.max(accepted).max(self.floor);
            return Step::answer(Reply::Rejected { promised });
        }
        if ballot == accepted {
            // A repeated request: already on disk, or about to be, under this ballot. One ballot has one value.
            return Step::answer(Reply::Accepted);
        }
        let raise = self.raise(ballot.counter());
        assert!(ballot.counter() <= self.bound, "bounded: {ballot:?} is above the bound {}", self.bound);
        Step { reply: Reply::Accepted, write: Some((ballot, value.clone())), raise }
    }

    /// Keeps a promise. When the map is full, the older half (by ballot) goes and the floor rises to the highest of
    /// those, so that each of them still counts as promised.
    fn promise(&mut self, register: RegisterKey, ballot: Ballot) {
        self.promises.insert(register, ballot);
        if self.promises.len() <= self.capacity {
            return;
        }
        let mut ballots: Vec<Ballot> = self.promises.values().copied().collect();
        let middle = (ballots.len() - 1) / 2;
        let (_, &mut highest_of_older, _) = ballots.select_nth_unstable(middle);
        self.floor = self.floor.max(highest_of_older);
        self.promises.retain(|_, b| *b > highest_of_older);
    }
}

impl Step {
    fn answer(reply: Reply) -> Step {
        Step { reply, write: None, raise: None }
    }
}
