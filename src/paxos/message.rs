//! What acceptors are asked and what they answer.

use super::ballot::Ballot;
use std::sync::Arc;

/// The name of a register: opaque bytes to this layer.
pub type RegisterKey = Arc<[u8]>;
/// The value of a register: opaque bytes to this layer. A round that keeps a value sends the very bytes it read.
pub type Value = Arc<[u8]>;

/// What an acceptor has accepted for a register, last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The ballot of the proposal.
    pub ballot: Ballot,
    /// Its value.
    pub value: Value,
}

/// A condition under which a prepare is to be promised. Its kinds come with the sessions of nodes; an acceptor that
/// does not understand one refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is asked.
    pub kind: u16,
    /// About whom.
    pub body: Arc<[u8]>,
}

/// What a proposer asks of an acceptor about one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Phase 1: promise to take part in nothing older than `ballot`, and tell what was accepted.
    Prepare {
        /// The register.
        register: RegisterKey,
        /// The attempt.
        ballot: Ballot,
        /// Only if this holds.
        condition: Option<Condition>,
    },
    /// Phase 2: accept `value` at `ballot`.
    Accept {
        /// The register.
        register: RegisterKey,
        /// The attempt.
        ballot: Ballot,
        /// The proposal.
        value: Value,
    },
    /// Tell what was accepted; promises nothing.
    Query {
        /// The register.
        register: RegisterKey,
    },
}

impl Request {
    /// The register that it is about.
    pub fn register(&self) -> &RegisterKey {
        match self {
            Request::Prepare { register, .. } | Request::Accept { register, .. } | Request::Query { register } => {
                register
            }
        }
    }

    /// Its ballot, where it has one.
    pub fn ballot(&self) -> Option<Ballot> {
        match self {
            Request::Prepare { ballot, .. } | Request::Accept { ballot, .. } => Some(*ballot),
            Request::Query { .. } => None,
        }
    }
}

/// What an acceptor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a prepare: promised.
    Promised {
        /// What was accepted, last.
        accepted: Option<Accepted>,
        /// The acceptor's wall clock, in milliseconds since 1970.
        clock_ms: u64,
    },
    /// To an accept: accepted, and on the disk.
    Accepted,
    /// To a prepare or an accept: something newer was promised.
    Rejected {
        /// The effective promise.
        promised: Ballot,
    },
    /// To a query.
    State {
        /// What was accepted, last.
        accepted: Option<Accepted>,
    },
    /// The acceptor will not take part.
    Refused(Refusal),
}

/// Why an acceptor does not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not understand the condition of the prepare.
    Condition,
    /// It does not vote (yet, or no more); its `status` tells why.
    NotVoting,
    /// It works in another epoch of the membership.
    Epoch,
    /// The ballot is beyond belief.
    Counter,
    /// It has more to do than it can hold.
    Busy,
    /// It does not know this kind of message.
    Unsupported,
}
