//! Who the peers are: judging handshakes, forming the cluster, believing counters.

use crate::config::Config;
use crate::kv::peer::{Hello, Known, Life, Role, StoreId, StoreOf};
use crate::limits::COUNTER_LEAP;
use crate::paxos::NodeId;
use crate::storage::acceptor::Formed;
use std::collections::BTreeMap;

/// The protocol version that this agent speaks, the only one so far.
pub(super) const PROTOCOL: u16 = 1;

/// This agent, and what it has learned of the others.
pub(super) struct Identity {
    pub config: Config,
    pub store: StoreId,
    pub life: Life,
    pub formed: Option<Formed>,
    met: BTreeMap<NodeId, Met>,
    /// The counters that voters named in their handshakes, and this one at its start: a live counter follows the
    /// others, and would let a single liar raise what is believed, step by step.
    named: BTreeMap<NodeId, u64>,
}

/// A voter that was met in this life.
struct Met {
    store: StoreId,
    life: Life,
    commit: u64,
    /// The stores of the voters, as it stated them last.
    stated: Vec<StoreOf>,
    /// Whether it has formed the cluster with them.
    formed: bool,
}

impl Identity {
    pub fn new(config: Config, store: StoreId, life: Life, formed: Option<Formed>, counter: u64) -> Identity {
        let named = BTreeMap::from([(config.me, counter)]);
        Identity { config, store, life, formed, met: BTreeMap::new(), named }
    }

    /// This agent's handshake.
    pub fn hello(&self, nonce: [u8; 16], commit: u64, counter: u64) -> Hello {
        Hello {
            version_min: PROTOCOL,
            version_max: PROTOCOL,
            features: 0,
            cluster_id: self.config.cluster_id(),
            cluster_name: self.config.cluster.clone(),
            epoch: self.config.membership.epoch,
            membership: self.config.membership_digest(),
            node: self.config.me,
            name: self.config.node.clone(),
            store: self.store,
            life: self.life,
            commit,
            counter,
            role: Role::Voter,
            nonce,
            met: self.stores(),
            formed: self.formed.as_ref().map(|f| f.stores.clone()).unwrap_or_default(),
            known: self.known(),
        }
    }

    /// The highest positions known of the others.
    pub fn known(&self) -> Vec<Known> {
        self.met.iter().map(|(&node, m)| Known { node, life: m.life, commit: m.commit }).collect()
    }

    /// Whether to talk to whoever says this; if not, why, for both ends' logs.
    pub fn judge(&self, hello: &Hello) -> Result<(), String> {
        if hello.version_min > PROTOCOL || hello.version_max < PROTOCOL {
            return Err(format!(
                "protocol versions {} to {} and {PROTOCOL} do not meet; upgrade the older agent",
                hello.version_min, hello.version_max
            ));
        }
        if hello.cluster_id != self.config.cluster_id() {
            return Err(format!(
                "another cluster: \"{}\", here it is \"{}\" (the voters' names and ids are part of its identity)",
                clip(&hello.cluster_name),
                self.config.cluster
            ));
        }
        if hello.epoch != self.config.membership.epoch || hello.membership != self.config.membership_digest() {
            return Err("another membership or other timings; compare the configuration files".into());
        }
        if self.config.membership.name(hello.node) != Some(hello.name.as_str()) {
            return Err(format!("node {} \"{}\" is not a voter of this cluster", hello.node, clip(&hello.name)));
        }
        if hello.node == self.config.me {
            return Err(format!("node {} is this agent itself; two agents run under one name", hello.node));
        }
        if hello.store == self.store {
            return Err("its store is a copy of this agent's store; give it a data_dir of its own".into());
        }
        if let Some((other, _)) = self.met.iter().find(|(n, m)| **n != hello.node && m.store == hello.store) {
            return Err(format!("its store is also that of node {other}; one of them is a copy"));
        }
        if let Some(met) = self.met.get(&hello.node)
            && met.store == hello.store
            && hello.life.number < met.life.number
        {
            return Err(format!("life {} of its store is over; life {} was met", hello.life.number, met.life.number));
        }
        self.judge_store(hello)
    }

    /// After the cluster was formed, an empty or exchanged store under a known name is not that voter: it has
    /// forgotten what it promised.
    fn judge_store(&self, hello: &Hello) -> Result<(), String> {
        let Some(formed) = &self.formed else { return Ok(()) };
        let listed = formed.stores.iter().find(|s| s.node == hello.node).map(|s| s.store);
        if listed != Some(hello.store) {
            return Err(format!(
                "its store is not the one with which \"{}\" formed this cluster: it was lost or exchanged, and may not \
                 vote; put the old data_dir back",
                hello.name
            ));
        }
        if !hello.formed.is_empty() && hello.formed != formed.stores {
            return Err("it formed a cluster with other stores".into());
        }
        Ok(())
    }

    /// Remembers what a judged handshake told.
    pub fn meet(&mut self, hello: &Hello) {
        let formed = !hello.formed.is_empty();
        let stated = if formed { hello.formed.clone() } else { hello.met.clone() };
        let met = Met { store: hello.store, life: hello.life, commit: hello.commit, stated, formed };
        self.met.insert(hello.node, met);
        self.named.insert(hello.node, hello.counter);
    }

    /// Remembers what a voter says of the stores later. Whether that is news.
    pub fn hear(&mut self, node: NodeId, stores: Vec<StoreOf>, formed: bool) -> bool {
        let Some(met) = self.met.get_mut(&node).filter(|m| m.stated != stores || m.formed != formed) else {
            return false;
        };
        (met.stated, met.formed) = (stores, formed);
        true
    }

    /// The stores of the voters, this agent's among them, as far as they were met; once the cluster is formed, all.
    pub fn stores(&self) -> Vec<StoreOf> {
        if let Some(formed) = &self.formed {
            return formed.stores.clone();
        }
        let store = |node: NodeId| {
            let store = if node == self.config.me { self.store } else { self.met.get(&node)?.store };
            Some(StoreOf { node, store })
        };
        self.config.membership.all().filter_map(store).collect()
    }

    /// What is to be written when all voters agree on the stores.
    ///
    /// Each must have been met, and must itself have stated the very same complete list: a voter whose store was lost
    /// while the cluster was being set up could otherwise be listed with the old one here and with the new one there.
    /// A voter that has already formed the cluster settles it, if its list names this agent's store.
    pub fn can_form(&self) -> Option<Formed> {
        if self.formed.is_some() {
            return None;
        }
        let membership = &self.config.membership;
        let mine = StoreOf { node: self.config.me, store: self.store };
        let settled = self.met.values().find(|m| m.formed && m.stated.contains(&mine)).map(|m| m.stated.clone());
        let stores = settled.or_else(|| {
            let all = self.stores();
            let states = |node| self.met.get(&node).is_some_and(|m| m.stated == all);
            let agreed = membership.all().all(|node| node == self.config.me || states(node));
            (all.len() == membership.all().count() && agreed).then_some(all)
        })?;
        Some(Formed {
            cluster: self.config.cluster.clone(),
            cluster_id: self.config.cluster_id(),
            membership: membership.clone(),
            stores,
        })
    }

    /// Why this agent does not vote, if it does not.
    pub fn why_not_voting(&self) -> Option<String> {
        if self.formed.is_some() {
            return None;
        }
        let names = |id: NodeId| self.config.membership.name(id).unwrap_or("?").to_owned();
        let missing: Vec<String> = self
            .config
            .membership
            .all()
            .filter(|id| *id != self.config.me && !self.met.contains_key(id))
            .map(names)
            .collect();
        Some(if missing.is_empty() {
            "its store is new, and the others have formed the cluster with another one: put the old data_dir back"
                .into()
        } else {
            format!("the cluster is not formed yet: every voter must be met once, and {} was not", missing.join(", "))
        })
    }

    /// The highest counter that can be believed: not more than 2^40 above what a majority named.
    pub fn counter_ceiling(&self) -> u64 {
        let membership = &self.config.membership;
        let named = |v: NodeId| self.named.get(&v).copied().unwrap_or(0);
        let mut all: Vec<u64> = membership.all().map(named).collect();
        all.sort_unstable();
        let by_majority = all.iter().rev().copied().find(|c| membership.is_quorum(|v| named(v) >= *c));
        by_majority.unwrap_or(0).saturating_add(COUNTER_LEAP)
    }
}

fn clip(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}
