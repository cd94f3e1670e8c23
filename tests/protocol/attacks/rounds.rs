//! What one round may do.

use super::{get, key, process, put, put_bound, waiting};
use crate::trio::{ALL, Trio};
use paxoskv::kv::{Binding, ProcessId};
use paxoskv::node::Answer;
use paxoskv::paxos::{Ballot, NodeId, Reply};

/// Three puts that waited together for a quorum, so that one round takes them all, once this time has passed.
fn in_one_round(bindings: [&[Binding]; 3], after_us: u64) -> (Trio, [u64; 3]) {
    let mut trio = Trio::new();
    trio.cut(1, 2);
    trio.cut(1, 3);
    let (mode, deadline) = waiting(60_000);
    let mut requests = 1..;
    let calls = bindings.map(|bindings| {
        let request = requests.next().unwrap_or_default();
        trio.call_within(1, put_bound(1, request, bindings), mode, deadline)
    });
    trio.advance(after_us);
    trio.mend(1, 2);
    trio.mend(1, 3);
    trio.settle(ALL);
    (trio, calls)
}

#[test]
fn puts_of_one_round_whose_times_are_over_create_nothing_and_those_behind_them_one_entry() {
    // The first put's time was over when its round came: it was created, and ended by the second in the same round,
    // under the same token. Two callers were told that they created.
    let soon = [Binding::Until(4_000)];
    let (mut trio, [first, second, third]) = in_one_round([&soon, &soon, &[]], 4_000_000);
    for over in [first, second] {
        assert!(matches!(trio.answer(over), Some(Answer::Invalid(_))), "{:?}", trio.answer(over));
    }
    let token = trio.created(third).expect("it has no end");
    assert_eq!(trio.read(2, &key("k"), ALL).map(|e| e.header.token), Some(token));
}

#[test]
fn puts_of_one_round_whose_times_overlap_create_one_entry() {
    // Of several that could create, the first does; the others are shown its entry.
    let (trio, [first, second, third]) =
        in_one_round([&[Binding::Until(60_000)], &[Binding::Until(70_000)], &[]], 1_000_000);
    let token = trio.created(first).expect("it came first");
    for other in [second, third] {
        let answer = trio.answer(other);
        assert!(matches!(answer, Some(Answer::Put { entry, created: false }) if entry.header.token == token));
    }
}

#[test]
fn put_that_ends_an_entry_of_its_own_round_creates_under_a_token_of_its_own() {
    // Whatever the reason for which the entry that a round creates has already ended, whoever creates next in that
    // round would have the same token: it waits for the next round.
    let earlier_boot = ProcessId { boot_id: [9; 16], ..process(7) };
    let (mut trio, [first, second, third]) = in_one_round([&[Binding::Pid(earlier_boot)], &[], &[]], 1_000);
    let tokens = (trio.created(first), trio.created(second));
    assert!(tokens.1.is_some() && tokens.0 < tokens.1, "{tokens:?}");
    assert_eq!(trio.created(third), None);
    assert_eq!(trio.read(2, &key("k"), ALL).map(|e| e.header.token), tokens.1);
}

#[test]
fn rejection_with_a_promise_far_above_every_counter_is_not_followed() {
    // One voter's word was enough to raise the counter of a whole cluster by 2^40 at a time, towards where every agent
    // stops drawing ballots.
    let mut trio = Trio::new();
    let created = trio.call(1, put(1, 1));
    for packet in trio.hold(1) {
        match packet.voter {
            3 => trio.flight.push(packet.with(Reply::Rejected { promised: Ballot::new(1 << 39, NodeId(3)) })),
            _ => trio.flight.push(packet),
        }
    }
    trio.hear(1);
    assert!(trio.counter(1) < 1 << 30, "{}", trio.counter(1));
    trio.settle(ALL);
    assert!(trio.created(created).is_some_and(|token| token.counter() < 1 << 30));
    let found = trio.call(2, get());
    trio.settle(ALL);
    assert!(matches!(trio.answer(found), Some(Answer::State(Some(_)))));
}
