//! Listings and reads, among voters that saw different things.

use super::{get, key, put, release, waiting};
use crate::trio::{ALL, Trio};
use paxoskv::kv::bucket_prefix;
use paxoskv::node::{Answer, Operation};

fn list() -> Operation {
    Operation::List { prefix: bucket_prefix("b"), after: None }
}

#[test]
fn listing_beside_a_tombstone_that_nobody_chose_names_the_live_key() {
    // Tombstones were left out of what voters list: where one voter of the quorum had one that was never chosen, and
    // the other had missed the entry, nobody named a key that was live during the whole call.
    let mut trio = Trio::new();
    let created = trio.call(1, put(1, 1));
    trio.phase(1, ALL);
    trio.phase(1, &[1, 2]);
    let token = trio.created(created).expect("two voters accepted");
    trio.call(1, release(Some(token)));
    trio.phase(1, ALL);
    trio.reach(1, &[1]);
    trio.flight.clear();
    trio.advance(2_100_000);
    trio.flight.clear();
    let listing = trio.call(3, list());
    trio.phase(3, &[1, 3]);
    // What is doubtful is read, by voters that saw the entry.
    for _ in 0..10 {
        trio.phase(3, &[2, 3]);
        trio.advance(5_000);
    }
    let (page, live) = (trio.answer(listing).cloned(), trio.read(2, &key("k"), &[2, 3]));
    assert_eq!(live.map(|e| e.header.token), Some(token));
    assert_eq!(page, Some(Answer::Page { keys: vec![key("k")], next: None }));
}

#[test]
fn listing_after_a_chosen_end_leaves_the_key_out() {
    // The tombstones that voters now list must not make a key of what has ended, nor cost a read each.
    let mut trio = Trio::new();
    let created = trio.call(1, put(1, 1));
    trio.settle(ALL);
    trio.call(1, release(trio.created(created)));
    trio.settle(ALL);
    let listing = trio.call(3, list());
    trio.phase(3, ALL);
    assert_eq!(trio.answer(listing), Some(&Answer::Page { keys: vec![], next: None }));
}

#[test]
fn listing_whose_questions_were_lost_asks_again_long_before_its_deadline() {
    // A listing that may wait for a quorum was put aside until its deadline when answers failed to come, though the
    // quorum was there all the time.
    let mut trio = Trio::new();
    trio.call(1, put(1, 1));
    trio.settle(ALL);
    let (mode, deadline) = waiting(60_000);
    let listing = trio.call_within(3, list(), mode, deadline);
    trio.flight.clear();
    trio.advance(2_100_000);
    trio.settle(ALL);
    assert_eq!(trio.answer(listing), Some(&Answer::Page { keys: vec![key("k")], next: None }));
}

#[test]
fn read_behind_one_that_timed_out_is_asked_in_its_turn() {
    // When the read under way ran out of time, those that waited for the next read were told so too, however short
    // their own wait had been.
    let mut trio = Trio::new();
    let first = trio.call(1, get());
    trio.flight.clear();
    trio.advance(1_900_000);
    let second = trio.call(1, get());
    trio.advance(200_000);
    assert!(matches!(trio.answer(first), Some(Answer::NoQuorum(_))), "{:?}", trio.answer(first));
    trio.settle(ALL);
    assert_eq!(trio.answer(second), Some(&Answer::State(None)));
}
