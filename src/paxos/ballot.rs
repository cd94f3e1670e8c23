//! Ballots: the numbers of attempts.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The numeric id of an agent. Never reused within a cluster; 0 and 65535 name no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of one attempt: a 48-bit counter above a 16-bit node id, in one integer.
///
/// "Different proposers choose their numbers from disjoint sets" (Lamport, *Paxos Made Simple*, 2001, §2.2):
/// the node id makes the sets disjoint, and the durable bound (see [`crate::paxos`]) makes one agent never draw the
/// same counter twice. The ballot at which a live entry was created is its fencing token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ballot(u64);

impl Ballot {
    /// Below every ballot that an agent draws.
    pub const ZERO: Ballot = Ballot(0);
    /// The number of bits of the counter.
    pub const COUNTER_BITS: u32 = 48;

    /// The ballot with this counter and node. Of a counter that needs more than 48 bits the low 48 are kept; the
    /// agent stops long before ([`crate::limits::COUNTER_STOP`]).
    pub fn new(counter: u64, node: NodeId) -> Ballot {
        Ballot((counter << 16) | u64::from(node.0))
    }

    /// The highest ballot with this counter, whoever drew it: what a floor at a durable bound means.
    pub fn last_of(counter: u64) -> Ballot {
        Ballot::new(counter, NodeId(u16::MAX))
    }

    /// The attempt's counter.
    pub fn counter(self) -> u64 {
        self.0 >> 16
    }

    /// The agent that drew it.
    pub fn node(self) -> NodeId {
        NodeId((self.0 & 0xffff) as u16)
    }

    /// The integer, as sent, stored and printed (as a token).
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// The ballot behind an integer; every integer is one.
    pub fn from_u64(n: u64) -> Ballot {
        Ballot(n)
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.counter(), self.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballot_order_is_counter_first_then_node() {
        let b = |c, n| Ballot::new(c, NodeId(n));
        assert!(b(2, 1) > b(1, 9));
        assert!(b(2, 2) > b(2, 1));
        assert!(Ballot::last_of(2) > b(2, 65534) && Ballot::last_of(2) < b(3, 0));
        assert_eq!((b(7, 3).counter(), b(7, 3).node()), (7, NodeId(3)));
    }
}
