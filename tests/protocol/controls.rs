//! Clusters that are broken on purpose: each must be objected to, by the check that is there for it.

use crate::observer::Check;
use crate::sabotage::Sabotage;
use crate::workload::{Shape, run};

mod by_hand;

/// Agents crash often, and start again before anybody notices.
const CRASHING: Shape =
    Shape { hosts: 3, registers: 2, call_pause_us: 30_000, fault_pause_us: 100_000, busy_us: 10_000_000, crashes: 80 };
/// Much time passes between things.
const SLOW: Shape = Shape {
    hosts: 3,
    registers: 3,
    call_pause_us: 500_000,
    fault_pause_us: 1_000_000,
    busy_us: 40_000_000,
    crashes: 0,
};

/// Runs until the check objects, at most so many.
fn is_caught(sabotage: Sabotage, by: Check, shape: Shape, runs: u64) {
    let objects = |seed: &u64| run(shape, *seed, sabotage).violations().iter().any(|v| v.check == by);
    match (0..runs).find(objects) {
        Some(seed) => println!("{sabotage:?}: {by:?} objects after {} runs", seed + 1),
        None => panic!("{sabotage:?}: {by:?} did not object in {runs} runs"),
    }
}

#[test]
fn cluster_that_is_not_broken_is_not_objected_to() {
    for shape in [CRASHING, SLOW] {
        for seed in 0..10 {
            let cluster = run(shape, seed, Sabotage::Nothing);
            assert!(cluster.violations().is_empty(), "seed {seed}, {shape:?}: {:?}", cluster.violations());
        }
    }
}

#[test]
fn quorum_of_one_is_caught_as_a_proposal_without_a_quorum_of_promises() {
    is_caught(Sabotage::QuorumOfOne, Check::PromisedByQuorum, SLOW, 10);
}

#[test]
fn quorum_of_one_is_caught_by_its_answers() {
    is_caught(Sabotage::QuorumOfOne, Check::AnswerWasTrue, SLOW, 10);
}

#[test]
fn reply_before_its_write_is_synced_is_caught_when_it_leaves() {
    is_caught(Sabotage::ShownBeforeSynced, Check::DurableBeforeShown, CRASHING, 10);
}

#[test]
fn reply_before_its_write_is_synced_is_caught_by_what_a_crash_makes_of_it() {
    is_caught(Sabotage::ShownBeforeSynced, Check::ChosenInOneChain, CRASHING, 60);
}

#[test]
fn rolled_back_disk_is_caught_as_a_torn_history() {
    is_caught(Sabotage::RolledBackDisk, Check::ChosenInOneChain, CRASHING, 60);
}

#[test]
fn restart_without_a_floor_is_caught_as_a_torn_history() {
    is_caught(Sabotage::NoFloor, Check::ChosenInOneChain, CRASHING, 500);
}

#[test]
fn stale_counter_is_caught_as_a_ballot_drawn_twice() {
    is_caught(Sabotage::StaleCounter, Check::BallotDrawnOnce, CRASHING, 20);
}

#[test]
fn replies_to_other_requests_are_caught_as_a_torn_history() {
    is_caught(Sabotage::CrossedReplies, Check::ChosenInOneChain, SLOW, 20);
}

#[test]
fn exits_that_nobody_hears_of_are_caught_as_keys_of_the_dead() {
    is_caught(Sabotage::DeafToExits, Check::DeadHoldNothing, SLOW, 100);
}

#[test]
fn repeated_put_that_does_not_say_so_is_caught_by_its_second_life() {
    is_caught(Sabotage::UnmarkedRetries, Check::OneLifePerRequest, SLOW, 120);
}

#[test]
fn read_of_the_own_acceptor_alone_is_caught_as_untrue() {
    is_caught(Sabotage::LocalReads, Check::AnswerWasTrue, SLOW, 20);
}

#[test]
fn clocks_that_run_ahead_are_caught_as_ends_without_a_reason() {
    is_caught(Sabotage::ForwardClocks, Check::EndedForAReason, SLOW, 200);
}

#[test]
fn answer_given_twice_is_caught() {
    is_caught(Sabotage::TwiceAnswered, Check::AnsweredOnce, SLOW, 10);
}

#[test]
fn answer_never_given_is_caught() {
    is_caught(Sabotage::NeverAnswered, Check::AnsweredOnce, SLOW, 10);
}
