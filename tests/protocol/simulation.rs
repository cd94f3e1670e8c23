//! Whole clusters from seeds, with everything that can fail failing.

use crate::cluster::Cluster;
use crate::sabotage::Sabotage;
use crate::workload::{Shape, run};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

/// What many runs came to.
#[derive(Default)]
struct Total(BTreeMap<&'static str, u64>);

impl Total {
    fn add(&mut self, cluster: &Cluster) {
        let observer = &cluster.world.observer;
        let own = [("runs", 1), ("ballots chosen", observer.chosen()), ("entries created", observer.lives())];
        let own = own.map(|(what, many)| (what, many as u64));
        for (what, many) in cluster.world.counts.iter().map(|(k, v)| (*k, *v)).chain(own) {
            *self.0.entry(what).or_default() += many;
        }
    }
}

/// Runs clusters from these seeds, and fails with the first seed after which the observer objects.
fn run_all(seeds: impl Iterator<Item = u64>) -> Total {
    let mut total = Total::default();
    for seed in seeds {
        let shape = Shape::of(seed);
        let cluster = run(shape, seed, Sabotage::Nothing);
        let found: Vec<String> = cluster.violations().iter().take(5).map(ToString::to_string).collect();
        assert!(found.is_empty(), "PAXOSKV_SEED={seed} PAXOSKV_RUNS=1, {shape:?}:\n{}", found.join("\n"));
        total.add(&cluster);
    }
    total
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

#[test]
fn clusters_from_fixed_seeds_keep_their_claims() {
    let total = run_all(0..120);
    println!("{:#?}", total.0);
    let kinds = [
        "crashes",
        "crashes between stage and commit",
        "reboots",
        "exits",
        "hosts cut off",
        "cuts of one direction",
        "connections broken",
        "frames lost",
        "frames repeated",
        "frames late",
        "clock jumps",
        "batches without space",
        "repeated puts",
        "answer: created",
        "answer: already set",
        "answer: live",
        "answer: absent",
        "answer: released",
        "answer: nothing to release",
        "answer: not permitted",
        "answer: invalid",
        "answer: outcome unknown",
        "answer: page",
        "answer: no quorum, unknown",
        "answer: no quorum, never",
    ];
    for kind in kinds {
        assert!(total.0.get(kind).is_some_and(|n| *n >= 10), "the runs hardly saw: {kind}");
    }
}

#[test]
fn clusters_from_a_fresh_seed_keep_their_claims() {
    let seed = number_from("PAXOSKV_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed") >> 16);
    let runs = number_from("PAXOSKV_RUNS").unwrap_or(60);
    println!("PAXOSKV_SEED={seed} PAXOSKV_RUNS={runs}");
    let total = run_all(seed..seed + runs);
    println!("{:#?}", total.0);
}

#[test]
fn seed_replays_exactly() {
    for seed in [2, 5, 11] {
        let [a, b] = [0, 1].map(|_| run(Shape::of(seed), seed, Sabotage::Nothing));
        assert_eq!(a.world.counts, b.world.counts, "seed {seed}");
        assert_eq!(a.world.observer.history(), b.world.observer.history(), "seed {seed}");
    }
}
