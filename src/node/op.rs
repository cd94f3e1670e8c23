//! Operations: what applications ask for and are answered, and how they travel inside a node.

use crate::kv::{Asker, Entry, ProcessId, Which};
use crate::limits::{DEADLINE_MAX_MS, OPERATION_TIMEOUT_US};
use crate::paxos::{Ballot, RegisterKey};
use std::sync::Arc;

/// The agent's name for one operation of one application; never used twice in a life.
pub type CallId = u64;

/// What an operation does when there is no quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answer so (the caller tells an ordinary result from an error; to a node they are one).
    Answer,
    /// Wait for one until the deadline.
    Retry,
}

/// One operation of an application.
#[derive(Clone, Debug)]
pub struct Call {
    /// For the answer.
    pub id: CallId,
    /// What.
    pub operation: Operation,
    /// Without a quorum.
    pub mode: Mode,
    /// How long it may take, in milliseconds.
    pub deadline_ms: Option<u64>,
}

/// What an application asks for.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Put if absent.
    Put {
        /// Where.
        register: RegisterKey,
        /// What; its token is drawn when it is created.
        entry: Arc<Entry>,
        /// Whether the same request was sent before.
        retry: bool,
    },
    /// Read what is chosen.
    Get {
        /// Where.
        register: RegisterKey,
    },
    /// Read what this agent's own acceptor accepted last: perhaps outdated, perhaps never chosen.
    GetLocal {
        /// Where.
        register: RegisterKey,
    },
    /// End an entry before its bindings do.
    Release {
        /// Where.
        register: RegisterKey,
        /// Which entry; without one, the one that is live.
        token: Option<Ballot>,
        /// Who asks.
        by: Asker,
    },
    /// List live keys.
    List {
        /// Those whose registers' names begin so.
        prefix: RegisterKey,
        /// Above this one.
        after: Option<RegisterKey>,
    },
}

/// Why there was no quorum, and what that means for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoQuorum {
    /// Whether the write may still happen. If not, it never will.
    pub unknown: bool,
    /// In words.
    pub why: &'static str,
}

/// What an application is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a put: what is chosen.
    Put {
        /// The live entry, whoever set it.
        entry: Arc<Entry>,
        /// Whether this request did.
        created: bool,
    },
    /// To a get: what is there.
    State(Option<Arc<Entry>>),
    /// To a release: the entry with this token has ended.
    Released(Ballot),
    /// To a release: no live entry with that token.
    NothingToRelease,
    /// To a release: only its holder, or root.
    NotPermitted,
    /// To a put: what it is to be bound to is not there.
    Invalid(&'static str),
    /// To a put: this request may have had an entry that has ended since.
    OutcomeUnknown,
    /// To a list: live keys in order, and whether there are more above the last.
    Page {
        /// The registers.
        keys: Vec<RegisterKey>,
        /// Ask again above this one, if there may be more.
        next: Option<RegisterKey>,
    },
    /// There was no quorum, or no decision before the deadline.
    NoQuorum(NoQuorum),
    /// The agent has too much to do; nothing was begun.
    Overloaded(&'static str),
    /// The record cannot be read by this version.
    Unreadable,
}

/// Upkeep that a node owes for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// End what is bound to this process, which has exited.
    ExpireProcess(RegisterKey, ProcessId),
    /// End the entry with this token, whose process belonged to an earlier boot.
    ExpireToken(RegisterKey, Ballot),
    /// End the entry if its time is over.
    Sweep(RegisterKey),
    /// Make sure that no older proposal can be completed any more.
    Settle(RegisterKey),
    /// Read what is chosen, to see whether a claim still stands.
    Verify(RegisterKey),
}

impl Duty {
    pub(super) fn register(&self) -> &RegisterKey {
        match self {
            Duty::ExpireProcess(r, _)
            | Duty::ExpireToken(r, _)
            | Duty::Sweep(r)
            | Duty::Settle(r)
            | Duty::Verify(r) => r,
        }
    }
}

/// What an operation is, inside a node.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Get,
    Put {
        entry: Arc<Entry>,
        retry: bool,
    },
    Release {
        /// The first accept phase of a release of whatever is live decides which entry is meant: a later one must not
        /// end one that was set meanwhile.
        which: Which,
        by: Asker,
    },
    Duty(Duty),
    /// A read on behalf of the listing with this nonce.
    Listed(u64),
}

/// Who waits for an answer, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub call: CallId,
    pub deadline_us: u64,
}

/// An operation under way.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub kind: Kind,
    /// Who waits for the answer: several if a put was repeated while it waited for its turn; none once all were told
    /// that it took too long.
    pub callers: Vec<Caller>,
    pub mode: Mode,
    /// The latest deadline of its callers; none if it is the node's own.
    pub deadline_us: u64,
    /// Whether an accept phase was begun that would have carried out this operation.
    pub sent: bool,
    /// The first such phase of a put: its ballot, and when.
    pub first_accept: Option<(Ballot, u64)>,
}

impl Op {
    pub fn new(kind: Kind, call: &Call, now_us: u64) -> Op {
        let after_us = match (call.deadline_ms, call.mode) {
            (Some(ms), _) => ms.min(DEADLINE_MAX_MS) * 1000,
            (None, Mode::Answer) => OPERATION_TIMEOUT_US,
            (None, Mode::Retry) => DEADLINE_MAX_MS * 1000,
        };
        Op {
            callers: vec![Caller { call: call.id, deadline_us: now_us.saturating_add(after_us) }],
            mode: call.mode,
            deadline_us: now_us.saturating_add(after_us),
            // Of a put that is repeated, an earlier accept phase may still be completed.
            sent: matches!(kind, Kind::Put { retry: true, .. }),
            kind,
            first_accept: None,
        }
    }

    /// The callers whose time is over; they wait no longer.
    pub fn take_late_callers(&mut self, now_us: u64) -> Vec<Caller> {
        let (late, rest) = self.callers.iter().partition(|c| c.deadline_us <= now_us);
        self.callers = rest;
        late
    }

    /// When the first of its callers, or the operation itself, has waited long enough.
    pub fn next_deadline_us(&self) -> u64 {
        self.callers.iter().map(|c| c.deadline_us).min().unwrap_or(self.deadline_us)
    }

    /// An operation of the node's own. It has no deadline: what it owes, it owes.
    pub fn of_node(kind: Kind) -> Op {
        Op { kind, callers: Vec::new(), mode: Mode::Retry, deadline_us: u64::MAX, sent: false, first_accept: None }
    }
}
