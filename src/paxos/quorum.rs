//! Who counts: the membership and its quorums.

use super::ballot::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A voter: an agent whose acceptor counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Voter {
    /// Its numeric id, in every ballot that it draws.
    pub id: NodeId,
    /// Its name, as in the configuration.
    pub name: String,
}

/// The voters of one epoch. While a change of membership is under way there are an old and a new set, and a quorum
/// needs a majority of each (joint consensus; Ongaro, *Consensus: Bridging Theory and Practice*, 2014, §4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Counts the changes of the membership. Messages count only within one epoch.
    pub epoch: u64,
    /// The voters, by id.
    pub voters: Vec<Voter>,
    /// The voters that are to follow, while both sets must agree.
    pub next: Option<Vec<Voter>>,
}

impl Membership {
    /// A settled membership.
    pub fn new(epoch: u64, mut voters: Vec<Voter>) -> Membership {
        voters.sort();
        Membership { epoch, voters, next: None }
    }

    /// Every voter, old and new, each once, by id.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        let ids: BTreeSet<NodeId> = self.voters.iter().chain(self.next.iter().flatten()).map(|v| v.id).collect();
        ids.into_iter()
    }

    /// Whether this agent's acceptor counts.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.all().any(|v| v == id)
    }

    /// The name of a voter.
    pub fn name(&self, id: NodeId) -> Option<&str> {
        self.voters.iter().chain(self.next.iter().flatten()).find(|v| v.id == id).map(|v| v.name.as_str())
    }

    /// Whether the voters among those for which `has` is true form a quorum: more than half of the voters, and of
    /// the next voters where there are some. The only place in which a majority is computed.
    pub fn is_quorum(&self, has: impl Fn(NodeId) -> bool) -> bool {
        let majority = |set: &[Voter]| 2 * set.iter().filter(|v| has(v.id)).count() > set.len();
        majority(&self.voters) && self.next.as_deref().is_none_or(majority)
    }

    /// Whether a quorum can still come together when those for which `lost` is true will not help.
    pub fn can_reach(&self, lost: impl Fn(NodeId) -> bool) -> bool {
        self.is_quorum(|v| !lost(v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u16]) -> Vec<Voter> {
        ids.iter().map(|&i| Voter { id: NodeId(i), name: format!("n{i}") }).collect()
    }

    #[test]
    fn quorum_is_more_than_half_of_the_voters() {
        for n in 1..=9u16 {
            let m = Membership::new(1, voters(&(1..=n).collect::<Vec<_>>()));
            for have in 0..=n {
                assert_eq!(m.is_quorum(|v| v.0 <= have), u32::from(have) > u32::from(n) / 2, "{have} of {n}");
            }
            assert!(!m.is_quorum(|v| v.0 > n), "strangers never count");
        }
    }

    #[test]
    fn quorum_of_a_joint_membership_needs_both_majorities() {
        let mut m = Membership::new(2, voters(&[1, 2, 3]));
        m.next = Some(voters(&[3, 4, 5]));
        assert!(!m.is_quorum(|v| v.0 <= 2), "only the old");
        assert!(!m.is_quorum(|v| v.0 >= 4), "only the new");
        assert!(m.is_quorum(|v| [1, 3, 4].contains(&v.0)));
        assert_eq!(m.all().count(), 5);
    }
}
