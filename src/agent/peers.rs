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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const NAMES: [&str; 3] = ["a", "b", "c"];

    /// The agent of a voter (0 to 2) on a store.
    fn agent(voter: usize, store: u8, formed: Option<Formed>) -> Identity {
        let mut text = format!("node = \"{}\"\ncluster = \"t\"\n", NAMES[voter]);
        for (at, name) in NAMES.iter().enumerate() {
            let id = at + 1;
            text.push_str(&format!("[[voter]]\nname = \"{name}\"\nid = {id}\naddress = \"127.0.0.1:740{id}\"\n"));
        }
        let config = Config::parse(Path::new("t.toml"), &text).expect("a good configuration");
        let life = Life { number: 1, id: [store; 16], start_commit: 1, boot_id: [0; 16] };
        Identity::new(config, [store; 16], life, formed, 0)
    }

    /// `one` hears the handshake of `other`, if it lets it in.
    fn meets(one: &mut Identity, other: &Identity) -> Result<(), String> {
        let hello = other.hello([0; 16], 1, 5);
        one.judge(&hello)?;
        one.meet(&hello);
        Ok(())
    }

    #[test]
    fn voters_form_the_cluster_when_all_have_stated_the_same_stores() {
        let (mut a, mut b, mut c) = (agent(0, 10, None), agent(1, 11, None), agent(2, 12, None));
        meets(&mut a, &b).unwrap();
        meets(&mut a, &c).unwrap();
        assert!(a.can_form().is_none(), "b and c have not met each other yet");
        meets(&mut b, &a).unwrap();
        meets(&mut b, &c).unwrap();
        meets(&mut c, &a).unwrap();
        meets(&mut c, &b).unwrap();
        assert!(a.hear(NodeId(2), b.stores(), false) && a.hear(NodeId(3), c.stores(), false));
        let formed = a.can_form().expect("all state the same");
        assert_eq!(formed.stores, a.stores());
        assert_eq!(c.can_form().map(|f| f.stores), Some(formed.stores), "c heard what b had met by then");
    }

    /// C had met B before B formed the cluster, and meets A only after A's store was lost: by what B said first, C
    /// would form the cluster with the new store, and B and C refuse each other for ever.
    #[test]
    fn a_store_lost_while_the_cluster_is_formed_is_not_listed_in_two_ways() {
        let (mut a, mut b, mut c) = (agent(0, 10, None), agent(1, 11, None), agent(2, 12, None));
        meets(&mut c, &b).unwrap();
        meets(&mut a, &b).unwrap();
        meets(&mut a, &c).unwrap();
        meets(&mut b, &a).unwrap();
        meets(&mut b, &c).unwrap();
        b.hear(NodeId(1), a.stores(), false);
        let stores = a.stores();
        let again = agent(0, 20, None);
        meets(&mut c, &again).unwrap();
        assert!(c.can_form().is_none(), "b has not stated the new store");
        // B formed it with the old one, having heard the same from all; C takes that over.
        b.formed = Some(Formed { stores: stores.clone(), ..agent_formed(&b) });
        meets(&mut c, &b).unwrap();
        assert_eq!(c.can_form().map(|f| f.stores), Some(stores));
        assert!(meets(&mut b, &again).is_err(), "the new store is not that of the voter that formed the cluster");
    }

    fn agent_formed(of: &Identity) -> Formed {
        let config = &of.config;
        Formed {
            cluster: config.cluster.clone(),
            cluster_id: config.cluster_id(),
            membership: config.membership.clone(),
            stores: Vec::new(),
        }
    }

    #[test]
    fn handshakes_that_do_not_fit_are_refused_with_the_reason() {
        let (a, b) = (agent(0, 10, None), agent(1, 11, None));
        let good = b.hello([0; 16], 1, 5);
        assert_eq!(a.judge(&good), Ok(()));
        let cases = [
            (Hello { version_min: 2, version_max: 3, ..good.clone() }, "versions"),
            (Hello { cluster_id: [9; 16], ..good.clone() }, "another cluster"),
            (Hello { membership: [9; 16], ..good.clone() }, "another membership"),
            (Hello { epoch: 2, ..good.clone() }, "another membership"),
            (Hello { name: "z".into(), ..good.clone() }, "not a voter"),
            (Hello { store: [10; 16], ..good.clone() }, "copy"),
            (a.hello([0; 16], 1, 5), "itself"),
        ];
        for (hello, why) in cases {
            let refused = a.judge(&hello).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn one_liar_does_not_raise_the_counters_that_are_believed() {
        let (mut a, b, c) = (agent(0, 10, None), agent(1, 11, None), agent(2, 12, None));
        a.meet(&b.hello([0; 16], 1, 1 << 45));
        a.meet(&c.hello([0; 16], 1, 100));
        assert_eq!(a.counter_ceiling(), 100 + COUNTER_LEAP);
    }
}
