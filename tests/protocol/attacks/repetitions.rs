//! Puts that are sent again: one life a request, and nothing promised that may not hold.

use super::{
    entry, get, is_not_sent, is_released, is_unknown, key, process, put, put_bound, release, repeated, waiting,
};
use crate::trio::{ALL, Trio};
use paxoskv::kv::{Binding, register_key};
use paxoskv::limits::UNSETTLED_PUTS;
use paxoskv::node::{Answer, Operation};

/// Node 1's put has reached voter 3 only, and nobody heard of it.
fn trio_with_a_put_at_voter_3(put: &Operation) -> Trio {
    let mut trio = Trio::new();
    let call = trio.call(1, put.clone());
    trio.phase(1, ALL);
    trio.reach(1, &[3]);
    trio.flight.clear();
    trio.advance(2_100_000);
    trio.flight.clear();
    assert!(is_unknown(trio.answer(call)), "{:?}", trio.answer(call));
    trio
}

fn isolate(trio: &mut Trio, id: u16) {
    for peer in ALL.iter().filter(|peer| **peer != id) {
        trio.cut(id, *peer);
    }
}

fn reconnect(trio: &mut Trio, id: u16) {
    for peer in ALL.iter().filter(|peer| **peer != id) {
        trio.mend(id, *peer);
    }
}

#[test]
fn repetition_that_meets_no_quorum_is_told_that_the_outcome_is_unknown() {
    // It was told that nothing had been sent, which was true of the second copy only: the first one's accept lay at a
    // voter, and was completed by the next who looked.
    let put = put(1, 1);
    let mut trio = trio_with_a_put_at_voter_3(&put);
    isolate(&mut trio, 1);
    let at_once = trio.call(1, repeated(&put));
    let (mode, deadline) = waiting(10_000);
    let at_deadline = trio.call_within(1, repeated(&put), mode, deadline);
    trio.advance(11_000_000);
    trio.flight.clear();
    assert!(is_unknown(trio.answer(at_once)), "{:?}", trio.answer(at_once));
    assert!(is_unknown(trio.answer(at_deadline)), "{:?}", trio.answer(at_deadline));
    let found = trio.read(2, &key("k"), &[2, 3]);
    assert_eq!(found.map(|e| e.header.request), Some([1; 16]), "and so it was");
}

#[test]
fn repetition_that_joins_a_waiting_put_is_told_that_the_outcome_is_unknown() {
    // It took over what the waiting copy knew of itself, "not sent", and that one's deadline; but whoever repeats says
    // that there was a copy before, perhaps through an earlier life of the agent.
    let mut trio = Trio::new();
    isolate(&mut trio, 1);
    let put = put(1, 1);
    let (mode, deadline) = waiting(1_000);
    trio.call_within(1, put.clone(), mode, deadline);
    let (mode, deadline) = waiting(5_000);
    let repetition = trio.call_within(1, repeated(&put), mode, deadline);
    trio.advance(1_100_000);
    assert_eq!(trio.answer(repetition), None, "it has 5 s");
    trio.advance(4_000_000);
    assert!(is_unknown(trio.answer(repetition)), "{:?}", trio.answer(repetition));
}

#[test]
fn repetition_that_may_wait_for_a_quorum_waits_though_the_put_it_joined_may_not() {
    // Who joins a put in line shared its impatience: without a quorum both were answered at once.
    let mut trio = Trio::new();
    let ahead = trio.call(1, put(1, 9));
    let put = put(1, 1);
    trio.call(1, put.clone());
    let (mode, deadline) = waiting(5_000);
    let repetition = trio.call_within(1, repeated(&put), mode, deadline);
    isolate(&mut trio, 1);
    trio.flight.clear();
    assert!(is_not_sent(trio.answer(ahead)), "{:?}", trio.answer(ahead));
    assert_eq!(trio.answer(repetition), None);
    reconnect(&mut trio, 1);
    trio.settle(ALL);
    assert!(trio.created(repetition).is_some(), "{:?}", trio.answer(repetition));
}

#[test]
fn repetition_is_not_answered_with_what_was_asked_before_it_came() {
    // It joined the first copy, whose quorum read had asked already: it was shown an entry that had ended before it was
    // called.
    let mut trio = Trio::new();
    let other = trio.call(2, put(2, 9));
    trio.settle(ALL);
    let token = trio.created(other).expect("nobody else puts");
    let put = put(1, 1);
    let first = trio.call(1, put.clone());
    trio.reach(1, &[1, 2]);
    let ended = trio.call(2, release(Some(token)));
    trio.phase(2, ALL);
    trio.phase(2, ALL);
    assert!(is_released(trio.answer(ended)), "{:?}", trio.answer(ended));
    let repetition = trio.call(1, repeated(&put));
    trio.hear(1);
    trio.settle(ALL);
    assert!(matches!(trio.answer(first), Some(Answer::Put { entry, .. }) if entry.header.token == token));
    // The node does not remember an accept phase of the request, and must not create for a repetition.
    assert_eq!(trio.answer(repetition), Some(&Answer::OutcomeUnknown));
}

#[test]
fn put_with_a_request_id_that_was_used_before_makes_no_second_life_whatever_its_frame_says() {
    // A client that did not mark its repetition created twice under one request id: its first entry had been completed
    // by another node, and had ended.
    let put = put(1, 1);
    let mut trio = trio_with_a_put_at_voter_3(&put);
    let first = trio.read(2, &key("k"), &[2, 3]).expect("completed by whoever looks");
    let ended = trio.call(2, release(Some(first.header.token)));
    trio.settle(ALL);
    assert!(is_released(trio.answer(ended)), "{:?}", trio.answer(ended));
    let unmarked = trio.call(1, put.clone());
    trio.settle(ALL);
    assert_eq!(trio.answer(unmarked), Some(&Answer::OutcomeUnknown));
    assert_eq!(trio.read(3, &key("k"), ALL), None);
}

#[test]
fn put_refused_for_too_many_unknown_ones_keeps_the_watch_of_another_put_on_its_process() {
    // The refused put gave back a hold on its process that it had not taken: it was the unsettled put's, whose process
    // was then no longer watched, so that its entry, once completed, would never end.
    let mut trio = Trio::new();
    let bound = |request: u64, register: &[u8]| {
        let request = u128::from(request).to_be_bytes();
        let entry = entry(1, request, &[Binding::Pid(process(7))]);
        Operation::Put { register: register_key("b", register), entry, retry: false }
    };
    let calls: Vec<_> = (1..=UNSETTLED_PUTS as u64).map(|n| trio.call(1, bound(n, &n.to_be_bytes()))).collect();
    trio.phase(1, &[1, 2]);
    isolate(&mut trio, 1);
    trio.flight.clear();
    assert!(calls.iter().all(|call| is_unknown(trio.answer(*call))));
    assert_eq!(trio.load(1).unsettled_puts, UNSETTLED_PUTS);
    let (claims, (mode, deadline)) = (trio.load(1).claims, waiting(5_000));
    let one_more = trio.call_within(1, bound(1 << 32, &1u64.to_be_bytes()), mode, deadline);
    assert!(matches!(trio.answer(one_more), Some(Answer::Overloaded(_))), "{:?}", trio.answer(one_more));
    assert_eq!(trio.load(1).claims, claims);
    assert!(trio.is_watching(1, &process(7)));
}

#[test]
fn put_bound_to_a_process_ends_with_it_though_it_was_completed_after_the_exit() {
    // An unsettled put is a reason to watch: somebody completes it when its process is gone, and only its own agent
    // knows that it is.
    let put = put_bound(1, 1, &[Binding::Pid(process(7))]);
    let mut trio = trio_with_a_put_at_voter_3(&put);
    assert!(trio.is_watching(1, &process(7)));
    trio.exit(process(7));
    trio.flight.clear();
    let completed = trio.call(2, get());
    trio.settle(&[2, 3]);
    assert!(trio.answer(completed).is_some());
    trio.advance(2_100_000);
    trio.settle(ALL);
    assert_eq!(trio.read(3, &key("k"), ALL), None);
    assert!(!trio.is_tracking(1, &process(7)));
}
