//! The changes that operations make of what a round finds.

use super::binding::{Binding, ProcessId};
use super::entry::{Entry, Reason, RequestId, State, tombstone};
use crate::paxos::{Ballot, NodeId, Value};
use std::sync::Arc;

/// One operation's change.
#[derive(Clone, Debug)]
pub enum Change {
    /// Set it unless it is set.
    Put(PutChange),
    /// End it for this reason, if it is the target. Always settled by an accept phase.
    Expire {
        /// What is to end.
        target: Target,
        /// Why.
        reason: Reason,
    },
    /// End an entry, if its holder asks for it. Always settled by an
    /// accept phase.
    Release {
        /// Which entry.
        which: Which,
        /// Who asks.
        by: Asker,
    },
    /// Leave it as it is.
    Read,
    /// Leave it as it is, at a ballot of this round's own: what was proposed before can then no longer be completed
    /// unless it is what is found.
    Settle,
}

/// A put, as the round applies it.
#[derive(Clone, Debug)]
pub struct PutChange {
    /// What it would create; the token is filled in.
    pub entry: Arc<Entry>,
    /// Whether it may create at all.
    pub may_create: MayCreate,
}

/// Whether a put may create. A put that may already have created once must not do so again after its entry has
/// ended: two lives of one request would be two holders who both believe they are first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayCreate {
    /// No accept phase of it was ever begun.
    Always,
    /// Only if what it finds is older than its own first accept phase.
    Below {
        /// The ballot of that phase.
        first: Ballot,
        /// Whether it may also create where it finds nothing: that is, within 30 s of that phase.
        if_nothing: bool,
    },
    /// It is a retry of a put that this agent does not remember.
    Never,
}

/// What an expiry is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The entry of this round's own node with this token.
    Token(Ballot),
    /// Whatever entry is bound to this process of this round's own node.
    Process(ProcessId),
    /// Whatever entry has ended by the facts of this round.
    Ended,
}

/// Which entry a release is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Whichever is live.
    Any,
    /// The one with this token.
    Exactly(Ballot),
    /// Any with at most this token: an earlier round met an entry with it, which may never have been chosen. Tokens
    /// only grow, so what has a lower one was there when the release was asked for.
    UpTo(Ballot),
}

impl Which {
    fn is_meant(self, token: Ballot) -> bool {
        match self {
            Which::Any => true,
            Which::Exactly(t) => token == t,
            Which::UpTo(t) => token <= t,
        }
    }
}

/// Who asks for a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The process, if it is known.
    pub process: Option<ProcessId>,
    /// Its user.
    pub uid: u32,
}

/// What a round knows beside the register.
pub struct Facts<'a> {
    /// This round's own node.
    pub me: NodeId,
    /// The boot of this host.
    pub boot_id: [u8; 16],
    /// Whether the clocks of a majority of the voters are past this time (ms).
    pub is_past: &'a dyn Fn(u64) -> bool,
    /// Whether this process of this node has exited.
    pub is_dead: &'a dyn Fn(&ProcessId) -> bool,
}

/// What an operation comes to, provided that the round's value is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A put: the chosen entry.
    Put {
        /// The entry, live.
        entry: Arc<Entry>,
        /// Whether this request set it.
        created: bool,
    },
    /// A put that may have created an entry which has ended since, or may not: nobody can tell.
    Unknown,
    /// A put bound to something that is not there (any more).
    Invalid(&'static str),
    /// An expiry: whether there was something to end.
    Expired(bool),
    /// A release: the entry with this token has ended.
    Released(Ballot),
    /// A release: there is no live entry with that token.
    NothingToRelease,
    /// A release by somebody who is not the holder.
    NotPermitted,
    /// A read: what is there.
    State(Option<Arc<Entry>>),
    /// It would change what this round already creates: the next round takes it.
    Deferred,
}

/// What a round's changes come to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The next value, if it must be proposed even where the current value is already settled: because it differs, or
    /// because a change asks for settling.
    pub next: Option<Value>,
    /// One for each change.
    pub outcomes: Vec<Outcome>,
    /// The state that the outcomes rest on.
    pub state: Option<State>,
}

/// Why an entry has ended by facts that stay true, if it has. Any proposer may act on them inside its own round.
pub fn ended(entry: &Entry, facts: &Facts<'_>) -> Option<Reason> {
    entry.header.bindings.iter().find_map(|binding| match binding {
        Binding::Pid(process) if entry.header.node == facts.me => {
            (process.boot_id != facts.boot_id || (facts.is_dead)(process)).then_some(Reason::Pid)
        }
        Binding::Until(ms) => (facts.is_past)(*ms).then_some(Reason::Until),
        // Of other hosts' processes, and of sessions and parents, this layer has no facts (yet).
        Binding::Pid(_) | Binding::Node { .. } | Binding::Key { .. } | Binding::Unknown { .. } => None,
    })
}

/// Applies the changes, in order, to what a round at `ballot` found: `found` is the value with the ballot at which it
/// was accepted. At most one entry is created: put, release, put in one round would give two holders one token.
pub fn apply<'c>(
    ballot: Ballot,
    found: Option<(Ballot, State, Value)>,
    changes: impl Iterator<Item = &'c Change>,
    facts: &Facts<'_>,
) -> Applied {
    let (at, state, bytes) = match found {
        Some((at, state, bytes)) => (Some(at), Some(state), Some(bytes)),
        None => (None, None, None),
    };
    let mut round = Applying { ballot, at, state, next: None, created: false, settle: false, facts };
    let outcomes = changes.map(|change| round.apply_one(change)).collect();
    let next = match (round.next, round.settle) {
        (Some(next), _) => Some(next),
        // Nothing is settled only by writing that there is nothing.
        (None, true) => Some(bytes.unwrap_or_else(|| tombstone(Ballot::ZERO, Reason::None, facts.me))),
        (None, false) => None,
    };
    Applied { next, outcomes, state: round.state }
}

struct Applying<'a> {
    ballot: Ballot,
    at: Option<Ballot>,
    state: Option<State>,
    next: Option<Value>,
    created: bool,
    settle: bool,
    facts: &'a Facts<'a>,
}

impl Applying<'_> {
    fn apply_one(&mut self, change: &Change) -> Outcome {
        match change {
            Change::Put(put) => self.put(put),
            Change::Expire { target, reason } => self.expire(target, *reason),
            Change::Release { which, by } => self.release(*which, by),
            Change::Read => Outcome::State(self.live().cloned()),
            Change::Settle => {
                self.settle = true;
                Outcome::State(self.live().cloned())
            }
        }
    }

    fn live(&self) -> Option<&Arc<Entry>> {
        self.state.as_ref().and_then(State::live)
    }

    fn put(&mut self, put: &PutChange) -> Outcome {
        if let Some((token, reason)) = self.live().and_then(|e| Some((e.header.token, ended(e, self.facts)?))) {
            if self.created {
                // It would end this round's own entry and create another, under one token.
                return Outcome::Deferred;
            }
            self.end(token, reason);
        }
        if let Some(entry) = self.live() {
            let created = entry.is_of(&put.entry.header.request, self.facts.me, put.entry.holder.process.as_ref());
            return Outcome::Put { entry: entry.clone(), created };
        }
        if let Some(why) = self.why_invalid(&put.entry) {
            // An earlier copy of a repeated put may have been carried out.
            return if put.may_create == MayCreate::Always { Outcome::Invalid(why) } else { Outcome::Unknown };
        }
        let may = match (put.may_create, self.at) {
            (MayCreate::Always, _) => true,
            (MayCreate::Below { first, .. }, Some(at)) => at < first,
            (MayCreate::Below { if_nothing, .. }, None) => if_nothing,
            (MayCreate::Never, _) => false,
        };
        if !may {
            return Outcome::Unknown;
        }
        let mut entry = (*put.entry).clone();
        entry.header.token = self.ballot;
        self.next = Some(entry.encode());
        self.created = true;
        let entry = Arc::new(entry);
        self.state = Some(State::Live(entry.clone()));
        Outcome::Put { entry, created: true }
    }

    /// What a put is to be bound to that is not there any more.
    fn why_invalid(&self, entry: &Entry) -> Option<&'static str> {
        if entry.header.bound_process().is_some_and(|p| (self.facts.is_dead)(p)) {
            return Some("the process that the key was to be bound to has exited");
        }
        let is_past = entry.header.until_ms().is_some_and(|until_ms| (self.facts.is_past)(until_ms));
        is_past.then_some("`until` is not in the future any more")
    }

    fn expire(&mut self, target: &Target, reason: Reason) -> Outcome {
        let Some(entry) = self.live() else {
            self.settle = true;
            return Outcome::Expired(false);
        };
        let token = entry.header.token;
        let because = match target {
            Target::Token(t) => (*t == token && entry.header.node == self.facts.me).then_some(reason),
            Target::Process(p) => {
                let bound = entry.header.bound_process().is_some_and(|b| b.is_same(p));
                (bound && entry.header.node == self.facts.me).then_some(reason)
            }
            Target::Ended => ended(entry, self.facts),
        };
        match because {
            Some(_) if self.created => Outcome::Deferred,
            Some(reason) => {
                self.settle = true;
                self.end(token, reason);
                Outcome::Expired(true)
            }
            // What it leaves alone it need not settle when only the clocks were asked.
            None => {
                self.settle |= *target != Target::Ended;
                Outcome::Expired(false)
            }
        }
    }

    fn release(&mut self, which: Which, by: &Asker) -> Outcome {
        let Some(entry) = self.live().filter(|e| which.is_meant(e.header.token)) else {
            self.settle = true;
            return Outcome::NothingToRelease;
        };
        let token = entry.header.token;
        let same_process = match (&entry.holder.process, &by.process) {
            (Some(a), Some(b)) => a.is_same(b),
            _ => false,
        };
        let is_holder = entry.header.node == self.facts.me && (same_process || entry.holder.uid == by.uid);
        if !is_holder && by.uid != 0 {
            return Outcome::NotPermitted;
        }
        if self.created {
            return Outcome::Deferred;
        }
        self.settle = true;
        self.end(token, Reason::Released);
        Outcome::Released(token)
    }

    fn end(&mut self, token: Ballot, reason: Reason) {
        self.next = Some(tombstone(token, reason, self.facts.me));
        self.state = Some(State::Ended { token, reason });
    }
}

/// The request id of a put change, for finding duplicates.
impl PutChange {
    /// Its request id.
    pub fn request(&self) -> &RequestId {
        &self.entry.header.request
    }
}
