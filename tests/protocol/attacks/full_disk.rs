//! A voter whose disk is full refuses, and forgets nothing.

use super::{get, is_released, key, put, release, waiting};
use crate::trio::{ALL, Trio};
use paxoskv::node::Answer;
use paxoskv::paxos::{Ballot, NodeId, Refusal, Reply, Request};

fn prepare(counter: u64, node: u16) -> Request {
    Request::Prepare { register: key("k"), ballot: Ballot::new(counter, NodeId(node)), condition: None }
}

fn accept(counter: u64, node: u16) -> Request {
    let value = counter.to_be_bytes().as_slice().into();
    Request::Accept { register: key("k"), ballot: Ballot::new(counter, NodeId(node)), value }
}

fn is_rejected(reply: &Reply) -> bool {
    matches!(reply, Reply::Rejected { .. })
}

#[test]
fn voter_whose_accept_found_no_space_keeps_the_promise_before_it() {
    // The promise was let go when the accept was stepped in memory: the record was to carry it from there on. The
    // record was never written, and an older ballot was accepted after the promise had been shown.
    let mut trio = Trio::new();
    assert!(matches!(trio.vote(1, prepare(4, 1)), Reply::Promised { .. }));
    assert!(matches!(trio.vote(1, prepare(5, 2)), Reply::Promised { .. }));
    trio.fill_disk(1, true);
    assert_eq!(trio.vote(1, accept(5, 2)), Reply::Refused(Refusal::Busy));
    trio.fill_disk(1, false);
    let reply = trio.vote(1, accept(4, 1));
    assert!(is_rejected(&reply), "promised 5.2, then {reply:?} to 4.1");
}

#[test]
fn voter_whose_raise_found_no_space_keeps_the_promise_that_it_replaced() {
    // A prepare above the bound took the place of an earlier promise in memory, was not told for want of space, and was
    // taken back: with it the earlier promise, which had been told, was gone.
    let mut trio = Trio::new();
    assert!(matches!(trio.vote(1, prepare(4, 1)), Reply::Promised { .. }));
    assert!(matches!(trio.vote(1, prepare(5, 2)), Reply::Promised { .. }));
    trio.fill_disk(1, true);
    assert_eq!(trio.vote(1, prepare(1 << 30, 3)), Reply::Refused(Refusal::Busy));
    trio.fill_disk(1, false);
    let reply = trio.vote(1, accept(4, 1));
    assert!(is_rejected(&reply), "promised 5.2, then {reply:?} to 4.1");
}

#[test]
fn voter_that_had_no_space_for_a_batch_serves_again_once_there_is_some() {
    // Beginning anew puts every register's promise at the bound: proposers must be able to follow, above their own
    // bound, or the voter would be lost to them for good.
    let mut trio = Trio::new();
    for voter in ALL {
        trio.fill_disk(*voter, true);
    }
    let refused = trio.call(1, put(1, 1));
    trio.settle(ALL);
    for voter in ALL {
        trio.fill_disk(*voter, false);
    }
    trio.settle(ALL);
    let created = trio.created(refused).expect("a quorum has space again");
    assert_eq!(trio.read(2, &key("k"), &[2, 3]).map(|e| e.header.token), Some(created));
}

#[test]
fn voter_that_began_anew_accepts_again_though_the_others_always_answer_first() {
    // Counting as promised up to its bound, far above all counters, it refused every ballot of those that had their
    // quorum without it and never heard its refusals: what it missed, it missed for good.
    let mut trio = Trio::new();
    trio.fill_disk(3, true);
    let created = trio.call(1, put(1, 1));
    trio.settle(ALL);
    trio.fill_disk(3, false);
    let released = trio.call(1, release(trio.created(created)));
    for _ in 0..2 {
        // The voters 1 and 2 are heard first, and are enough.
        trio.reach(1, ALL);
        trio.flight.sort_by_key(|packet| packet.voter);
        trio.hear(1);
    }
    assert!(is_released(trio.answer(released)), "{:?}", trio.answer(released));
    assert_eq!(trio.record(3, &key("k")), trio.record(1, &key("k")));
}

#[test]
fn puts_of_two_nodes_over_a_full_disk_are_not_both_told_that_they_created() {
    // The forgotten promise made two holders: node 1's accepts, prepared first, arrived after node 3 had been promised
    // more by the voter whose disk was full for a moment, and were accepted there.
    let mut trio = Trio::new();
    let (mode, deadline) = waiting(60_000);
    let first = trio.call_within(1, put(1, 1), mode, deadline);
    trio.phase(1, &[1, 3]);
    let accepts = trio.hold(1);
    let second = trio.call_within(3, put(3, 2), mode, deadline);
    trio.phase(3, &[1, 2]);
    trio.fill_disk(1, true);
    trio.phase(3, &[1, 2]);
    trio.fill_disk(1, false);
    trio.flight.extend(accepts);
    trio.phase(1, &[1, 3]);
    trio.advance(2_100_000);
    trio.settle(ALL);
    let created: Vec<_> = [first, second].iter().filter_map(|call| trio.created(*call)).collect();
    assert_eq!(created.len(), 1, "created: {created:?}");
    let get = trio.call(2, get());
    trio.settle(ALL);
    let found = trio.answer(get);
    assert!(matches!(found, Some(Answer::State(Some(e))) if e.header.token == created[0]), "{found:?}");
}
