//! The protocol of one register, as arithmetic: no clock, no network, no disk, no chance.
//!
//! # Glossary
//! *register*: the Paxos state of one (bucket, key). *ballot*: the number of one attempt. *promise*, *accept*,
//! *chosen*, *acceptor*, *proposer*, *quorum*: as in Lamport, *Paxos Made Simple* (2001). The register protocol is
//! CASPaxos (Rystsov, arXiv:1802.07000): a proposer applies a change to the value it finds. *bound*: the one durable
//! number of an agent. *floor*: the ballot up to which every register counts as promised.
//!
//! # Invariants
//! - **P2c** (Lamport): a proposal at ballot *b* carries the value that its change made of the highest-numbered
//!   proposal that some quorum had accepted below *b*. [`Round::view`] picks it, [`Round::propose`] sends it once.
//! - **one ballot, one value**: a ballot's counter is drawn from above everything its agent may have drawn before,
//!   because the agent's counter starts above the durable bound.
//! - **promises are kept**: the effective promise of a register never falls. A promise above the floor is in memory;
//!   after a restart the floor is the bound, and no promise was above that.
//! - **nothing is shown before it is durable**: an accepted value, or a ballot above the durable bound. This layer
//!   says what must be written first ([`Step`]); `storage` sees to it.
//!
//! # Where it differs from the papers, and why
//! - An acceptor answers a prepare that comes too late with the promise that stands in its way; the papers let it
//!   stay silent. Without a hint the proposer would wait for its timeout.
//! - A promise is not written to disk. It cannot outlive a crash *below* the bound, and above the bound none is made.
//! - A round whose change leaves the value alone ends after the prepare phase if a quorum reported the ballot of that
//!   value ([`View::settled`]). That tells what is chosen; it settles nothing: an older proposal that reached one
//!   acceptor may still be completed by somebody. What must be settled goes through an accept phase.
//! - CASPaxos deletes a value in a process of its own (§3.1 of the paper). Here an end is a value (a tombstone).

pub mod acceptor;
pub mod ballot;
pub mod message;
pub mod proposer;
pub mod quorum;

pub use acceptor::{Acceptor, Step};
pub use ballot::{Ballot, NodeId};
pub use message::{Accepted, Condition, Refusal, RegisterKey, Reply, Request, Value};
pub use proposer::{Progress, Promise, Round, View};
pub use quorum::{Membership, Voter};
