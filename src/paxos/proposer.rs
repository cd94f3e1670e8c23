//! The proposer's side of one round: a prepare phase, the choice of a value, an accept phase.
//!
//! The value is not the proposer's wish but a *change* of what it finds (CASPaxos, Rystsov, arXiv:1802.07000, §2.2);
//! the change itself is applied by the caller between [`Round::poll_promises`] and [`Round::propose`].

use super::ballot::{Ballot, NodeId};
use super::message::{Accepted, Value};
use super::quorum::Membership;
use std::collections::{BTreeMap, BTreeSet};

/// One attempt at one register.
#[derive(Clone, Debug)]
pub struct Round {
    ballot: Ballot,
    promises: BTreeMap<NodeId, Promise>,
    rejected: BTreeSet<NodeId>,
    proposal: Option<Value>,
    accepted: BTreeSet<NodeId>,
    highest_promise: Ballot,
}

/// One acceptor's promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// What it had accepted, last.
    pub accepted: Option<Accepted>,
    /// Its wall clock, in milliseconds since 1970.
    pub clock_ms: u64,
}

/// Where a phase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet.
    Open,
    /// A quorum agreed.
    Quorum,
    /// A quorum can no longer be reached.
    Lost,
}

/// What a quorum of promises shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// "The value of the highest-numbered proposal among the responses" (Lamport 2001, §2.2, phase 2a), or nothing.
    pub current: Option<Accepted>,
    /// Whether a quorum reported the very ballot of `current`, or every promise counted reported none: then it is
    /// chosen, and needs no accept phase to be told. A quorum that agrees on some *lower* ballot proves nothing.
    pub settled: bool,
}

impl Round {
    /// A round at a ballot that was never used before.
    pub fn new(ballot: Ballot) -> Round {
        Round {
            ballot,
            promises: BTreeMap::new(),
            rejected: BTreeSet::new(),
            proposal: None,
            accepted: BTreeSet::new(),
            highest_promise: ballot,
        }
    }

    /// Its ballot.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Its proposal, once the accept phase has begun.
    pub fn proposal(&self) -> Option<&Value> {
        self.proposal.as_ref()
    }

    /// The highest promise that stood in the way, to try above.
    pub fn highest_promise(&self) -> Ballot {
        self.highest_promise
    }

    /// The promises so far.
    pub fn promises(&self) -> &BTreeMap<NodeId, Promise> {
        &self.promises
    }

    /// Whether this acceptor has already answered the phase under way.
    pub fn has_answered(&self, voter: NodeId) -> bool {
        let answered =
            if self.proposal.is_some() { self.accepted.contains(&voter) } else { self.promises.contains_key(&voter) };
        answered || self.rejected.contains(&voter)
    }

    /// Whether an acceptor has refused the phase under way.
    pub fn was_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// Takes a promise. One that arrives after the accept phase has begun changes nothing.
    pub fn handle_promise(&mut self, from: NodeId, promise: Promise) {
        if self.proposal.is_none() && !self.rejected.contains(&from) {
            self.promises.insert(from, promise);
        }
    }

    /// Takes a refusal of the phase under way.
    pub fn handle_reject(&mut self, from: NodeId, promised: Option<Ballot>) {
        self.highest_promise = self.highest_promise.max(promised.unwrap_or_default());
        let counted = match self.proposal {
            None => self.promises.contains_key(&from),
            Some(_) => self.accepted.contains(&from),
        };
        if !counted {
            self.rejected.insert(from);
        }
    }

    /// Takes an acknowledgement of the accept phase.
    pub fn handle_accepted(&mut self, from: NodeId) {
        if self.proposal.is_some() {
            self.accepted.insert(from);
            self.rejected.remove(&from);
        }
    }

    /// Where the prepare phase stands. A reject ends it only when a quorum can no longer be reached; `gone` are the
    /// voters to which there is no way, so that no answer of theirs will come.
    pub fn poll_promises(&self, members: &Membership, gone: impl Fn(NodeId) -> bool) -> Progress {
        self.progress(members, |v| self.promises.contains_key(&v), gone)
    }

    /// Where the accept phase stands.
    pub fn poll_accepts(&self, members: &Membership, gone: impl Fn(NodeId) -> bool) -> Progress {
        self.progress(members, |v| self.accepted.contains(&v), gone)
    }

    fn progress(&self, members: &Membership, has: impl Fn(NodeId) -> bool, gone: impl Fn(NodeId) -> bool) -> Progress {
        if members.is_quorum(&has) {
            Progress::Quorum
        } else if !members.can_reach(|v| (self.rejected.contains(&v) || gone(v)) && !has(v)) {
            Progress::Lost
        } else {
            Progress::Open
        }
    }

    /// What the promises show; meaningful once they are a quorum.
    pub fn view(&self, members: &Membership) -> View {
        debug_assert!(members.is_quorum(|v| self.promises.contains_key(&v)));
        let current = self.promises.values().filter_map(|p| p.accepted.as_ref()).max_by_key(|a| a.ballot).cloned();
        let ballot = current.as_ref().map(|a| a.ballot);
        let reports =
            |v: NodeId| self.promises.get(&v).is_some_and(|p| p.accepted.as_ref().map(|a| a.ballot) == ballot);
        let settled = match ballot {
            Some(_) => members.is_quorum(reports),
            None => true,
        };
        View { current, settled }
    }

    /// How many voters' clocks, as told with their promises, are past `until_ms`, is a majority of the voters?
    pub fn clocks_past(&self, members: &Membership, until_ms: u64) -> bool {
        members.is_quorum(|v| self.promises.get(&v).is_some_and(|p| p.clock_ms > until_ms))
    }

    /// Whether every voter has promised or refused, so that waiting longer tells nothing more.
    pub fn all_answered(&self, members: &Membership) -> bool {
        members.all().all(|v| self.has_answered(v))
    }

    /// Begins the accept phase. "A proposer issues a proposal with number n and value v": one value, once.
    pub fn propose(&mut self, value: Value) {
        assert!(self.proposal.is_none(), "one ballot, one proposal: {:?} already has one", self.ballot);
        self.proposal = Some(value);
        self.rejected.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::Voter;

    fn members(n: u16) -> Membership {
        Membership::new(1, (1..=n).map(|i| Voter { id: NodeId(i), name: format!("n{i}") }).collect())
    }
    fn accepted(counter: u64, text: &str) -> Option<Accepted> {
        Some(Accepted { ballot: Ballot::new(counter, NodeId(1)), value: text.as_bytes().into() })
    }
    fn round(reports: &[Option<Accepted>]) -> Round {
        let mut r = Round::new(Ballot::new(100, NodeId(1)));
        for (i, a) in reports.iter().enumerate() {
            r.handle_promise(NodeId(i as u16 + 1), Promise { accepted: a.clone(), clock_ms: 0 });
        }
        r
    }

    #[test]
    fn view_takes_the_highest_ballot_and_not_the_most_frequent() {
        let v = round(&[accepted(5, "old"), accepted(5, "old"), accepted(9, "new")]).view(&members(3));
        assert_eq!(v.current, accepted(9, "new"));
        assert!(!v.settled, "the quorum that agrees on the lower ballot proves nothing");
    }

    #[test]
    fn view_is_settled_when_a_quorum_shows_the_same_ballot_or_none_shows_any() {
        assert!(round(&[accepted(5, "a"), accepted(5, "a"), accepted(4, "b")]).view(&members(3)).settled);
        assert!(round(&[None, None]).view(&members(3)).settled);
        assert!(!round(&[None, accepted(5, "a")]).view(&members(3)).settled);
        assert!(!round(&[accepted(5, "a"), accepted(5, "a"), None]).view(&members(5)).settled);
    }

    #[test]
    fn round_is_lost_only_when_a_quorum_is_out_of_reach() {
        let mut r = Round::new(Ballot::new(1, NodeId(1)));
        r.handle_reject(NodeId(1), Some(Ballot::new(7, NodeId(2))));
        assert_eq!(r.poll_promises(&members(3), |_| false), Progress::Open);
        assert_eq!(r.poll_promises(&members(3), |v| v == NodeId(3)), Progress::Lost, "voter 3 will not answer");
        r.handle_reject(NodeId(2), None);
        assert_eq!(r.poll_promises(&members(3), |_| false), Progress::Lost);
        assert_eq!(r.highest_promise(), Ballot::new(7, NodeId(2)));
    }

    #[test]
    fn round_counts_each_acceptor_once() {
        let mut r = round(&[None, None]);
        r.propose(b"x".as_slice().into());
        r.handle_accepted(NodeId(1));
        r.handle_accepted(NodeId(1));
        assert_eq!(r.poll_accepts(&members(3), |_| false), Progress::Open);
        r.handle_accepted(NodeId(2));
        assert_eq!(r.poll_accepts(&members(3), |_| true), Progress::Quorum);
    }
}
