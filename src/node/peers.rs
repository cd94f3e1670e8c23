//! Who can be reached, and what changes when that does.

use super::{Effect, Node, NodeConfig};
use crate::kv::peer::PeerRequest;
use crate::limits::BOUND_PAGE_ENTRIES;
use crate::paxos::{NodeId, RegisterKey};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The voters to which messages have a way.
#[derive(Default)]
pub(super) struct Peers {
    up: BTreeSet<NodeId>,
}

impl Peers {
    pub fn is_up(&self, voter: NodeId) -> bool {
        self.up.contains(&voter)
    }

    pub fn has_quorum(&self, config: &NodeConfig) -> bool {
        config.membership.is_quorum(|v| v == config.me || self.up.contains(&v))
    }
}

impl Node {
    pub(super) fn is_reachable(&self, voter: NodeId) -> bool {
        if voter == self.config.me { self.voting } else { self.peers.up.contains(&voter) }
    }

    pub(super) fn handle_peer_up(&mut self, peer: NodeId) {
        if !self.config.membership.is_voter(peer) || peer == self.config.me {
            return;
        }
        let had = self.has_quorum();
        self.peers.up.insert(peer);
        self.repeat_requests(peer);
        self.send_bound(peer);
        self.quorum_may_have_changed(had);
    }

    pub(super) fn handle_peer_down(&mut self, peer: NodeId) {
        let had = self.has_quorum();
        self.peers.up.remove(&peer);
        self.quorum_may_have_changed(had);
        self.poll_phases();
    }

    pub(super) fn handle_voting(&mut self, voting: bool) {
        let had = self.has_quorum();
        self.voting = voting;
        self.quorum_may_have_changed(had);
    }

    fn quorum_may_have_changed(&mut self, had: bool) {
        let has = self.has_quorum();
        if has == had {
            return;
        }
        self.effects.push_back(Effect::Quorum(has));
        let registers: Vec<RegisterKey> = self.registers.keys().cloned().collect();
        for register in registers {
            if has {
                self.advance(&register);
            } else {
                self.handle_quorum_lost(&register);
            }
        }
        if has { self.unpark_listings() } else { self.fail_listings() }
    }

    /// Tells a peer which entries of the own store are bound to processes of its host. It sees for itself which of
    /// them still live.
    pub(super) fn send_bound(&mut self, peer: NodeId) {
        let entries = self.upkeep.bound_to(peer);
        for page in entries.chunks(BOUND_PAGE_ENTRIES) {
            let request = PeerRequest::Bound(page.to_vec());
            self.effects.push_back(Effect::Ask { to: vec![peer], nonce: 0, request });
        }
    }

    /// This node's place in the order of the reachable voters for a register, by rendezvous hashing (Thaler and
    /// Ravishankar, 1998): 0 is its primary, who acts first. A matter of speed, never of safety.
    pub(super) fn rank(&self, register: &RegisterKey) -> u64 {
        let weight = |v: NodeId| (xxh3_64_with_seed(register, u64::from(v.0)), v);
        let mine = weight(self.config.me);
        self.config.membership.all().filter(|v| self.is_reachable(*v) && weight(*v) > mine).count() as u64
    }
}
