//! Releases and expiries: what has ended stays so, what must end does, and neither takes for ever.

use super::{entry, get, is_not_sent, is_released, key, process, put, put_bound, release, waiting};
use crate::trio::{ALL, Trio};
use paxoskv::kv::peer::BoundEntry;
use paxoskv::kv::{Binding, Header, Kind, Reason};
use paxoskv::node::{Answer, Input, Stored};
use paxoskv::paxos::{Ballot, NodeId, Reply, Request};

#[test]
fn release_without_a_token_leaves_nothing_of_an_unknown_put_to_be_completed() {
    // It was answered from a read that showed nothing; but reads settle nothing, and the entry of the put before, which
    // lay at the third voter, came to life after its release had been confirmed.
    let mut trio = Trio::new();
    trio.call(1, put(1, 1));
    trio.phase(1, ALL);
    trio.reach(1, &[3]);
    trio.flight.clear();
    trio.advance(2_100_000);
    trio.flight.clear();
    let released = trio.call(1, release(None));
    trio.settle(&[1, 2]);
    assert_eq!(trio.answer(released), Some(&Answer::NothingToRelease));
    assert_eq!(trio.read(2, &key("k"), &[2, 3]), None);
}

#[test]
fn release_without_a_token_ends_what_is_live_and_names_its_token() {
    // Resolved in its round, not by a read before: whatever is live then is ended, and the caller learns what that was.
    let mut trio = Trio::new();
    let created = trio.call(1, put(1, 1));
    trio.settle(ALL);
    let released = trio.call(2, release(None));
    trio.settle(ALL);
    assert!(is_released(trio.answer(released)), "{:?}", trio.answer(released));
    let token = trio.created(created).expect("nobody else puts");
    assert_eq!(trio.answer(released), Some(&Answer::Released(token)));
    assert_eq!(trio.read(3, &key("k"), ALL), None);
}

#[test]
fn release_without_a_token_that_is_tried_again_does_not_end_the_next_entry() {
    // Its first accept phase decides which entry is meant. Tried again, it met the next holder's entry, and must not
    // take it for the one that it was called for.
    let mut trio = Trio::new();
    let first = trio.call(1, put(1, 1));
    trio.settle(ALL);
    let released = trio.call(1, release(None));
    trio.phase(1, ALL);
    trio.reach(1, &[1]);
    let late = trio.hold(1);
    let ended = trio.call(2, release(trio.created(first)));
    trio.settle(&[2, 3]);
    assert!(is_released(trio.answer(ended)), "{:?}", trio.answer(ended));
    let next = trio.call(2, put(2, 2));
    trio.settle(&[2, 3]);
    assert!(trio.created(next).is_some(), "{:?}", trio.answer(next));
    trio.flight.extend(late);
    trio.hear(1);
    // Its accept is refused by the two that have promised more since, and it tries again.
    ask_again(&mut trio, 1);
    trio.settle(ALL);
    assert!(trio.answer(released).is_some());
    assert_eq!(trio.read(3, &key("k"), ALL).map(|e| e.header.token), trio.created(next));
}

/// This node's connections break and are back: what is under way is asked again of those who have not answered.
fn ask_again(trio: &mut Trio, id: u16) {
    for peer in ALL.iter().filter(|peer| **peer != id) {
        trio.cut(id, *peer);
        trio.mend(id, *peer);
    }
}

#[test]
fn release_of_token_zero_ends_nothing() {
    // Zero is below every token: it names no entry, and must not be read as "no token", which means any.
    let mut trio = Trio::new();
    let created = trio.call(1, put(1, 1));
    trio.settle(ALL);
    let released = trio.call(1, release(Some(Ballot::ZERO)));
    trio.settle(ALL);
    assert_eq!(trio.answer(released), Some(&Answer::NothingToRelease));
    assert_eq!(trio.read(2, &key("k"), ALL).map(|e| e.header.token), trio.created(created));
}

#[test]
fn settling_nothing_writes_a_tombstone_of_token_zero_above_which_puts_create() {
    // Where there is nothing, settling writes that there is nothing: it ended no entry, and names none.
    let mut trio = Trio::new();
    let released = trio.call(1, release(None));
    trio.settle(ALL);
    assert_eq!(trio.answer(released), Some(&Answer::NothingToRelease));
    let record = trio.record(2, &key("k")).expect("settled by an accept phase");
    let header = Header::decode(&record.value).expect("a tombstone can be read");
    assert_eq!((header.kind, header.reason, header.token), (Kind::Tombstone, Reason::None, Ballot::ZERO));
    let created = trio.call(3, put(3, 1));
    trio.settle(ALL);
    assert!(trio.created(created).is_some_and(|token| token > record.ballot), "{:?}", trio.answer(created));
}

#[test]
fn release_that_was_told_not_sent_ends_nothing_afterwards() {
    // In one round with the put whose entry it names, it has to wait for the next; its deadline came before, and it was
    // told that it had not been sent. Then it was.
    let mut trio = Trio::new();
    trio.cut(1, 2);
    trio.cut(1, 3);
    let (mode, long) = waiting(60_000);
    let created = trio.call_within(1, put(1, 1), mode, long);
    let first_ballot = Ballot::new(1, NodeId(1));
    let released = trio.call_within(1, release(Some(first_ballot)), mode, Some(1_000));
    trio.mend(1, 2);
    trio.mend(1, 3);
    trio.phase(1, ALL);
    trio.advance(1_100_000);
    assert!(is_not_sent(trio.answer(released)), "{:?}", trio.answer(released));
    trio.phase(1, ALL);
    assert_eq!(trio.created(created), Some(first_ballot));
    trio.settle(ALL);
    assert_eq!(trio.read(2, &key("k"), ALL).map(|e| e.header.token), Some(first_ballot));
}

#[test]
fn late_read_that_shows_nothing_does_not_end_the_watch_of_an_entry_created_since() {
    // What a read had asked before the put came was heard after it: the claim on the process was dropped, the exit went
    // unseen, and the key stayed for ever.
    let mut trio = Trio::new();
    let before = trio.call(1, get());
    trio.reach(1, &[2, 3]);
    let late = trio.hold(1);
    let created = trio.call(1, put_bound(1, 1, &[Binding::Pid(process(7))]));
    trio.phase(1, ALL);
    trio.phase(1, ALL);
    assert!(trio.created(created).is_some(), "{:?}", trio.answer(created));
    trio.flight.extend(late);
    trio.hear(1);
    assert_eq!(trio.answer(before), Some(&Answer::State(None)), "it was called before the put");
    assert!(trio.is_watching(1, &process(7)));
    trio.exit(process(7));
    trio.settle(ALL);
    assert_eq!(trio.read(2, &key("k"), ALL), None);
}

#[test]
fn duty_on_a_record_that_cannot_be_read_does_not_spin() {
    // It failed at once, was owed again at once, and so asked all voters as fast as they answered, for as long as the
    // record stayed.
    let mut trio = Trio::new();
    let unreadable = |trio: &mut Trio, voter| {
        let (ballot, value) = (Ballot::new(3, NodeId(2)), b"\x09of a later version".as_slice().into());
        trio.vote(voter, Request::Accept { register: key("k"), ballot, value })
    };
    assert!(ALL.iter().all(|voter| unreadable(&mut trio, *voter) == Reply::Accepted));
    let told = BoundEntry { register: key("k"), token: Ballot::new(1, NodeId(1)), process: process(7) };
    trio.input(1, Input::Bound(vec![told]));
    let before = trio.asks;
    trio.exit(process(7));
    for _ in 0..300 {
        trio.phase(1, ALL);
        trio.advance(100);
    }
    let asks = trio.asks - before;
    assert!((3..=12).contains(&asks), "{asks} requests in 30 ms");
    assert_eq!(trio.load(1).duties, 0);
}

#[test]
fn timers_of_upkeep_do_not_pile_up_with_entries_that_come_and_go() {
    // Each earlier time for upkeep left the later timer behind, and each timer set the next: after a busy hour the node
    // woke thousands of times a second, with nothing to do.
    let mut trio = Trio::new();
    let stored = |name: &str, until_ms: u64, kind: Kind| {
        let mut header = entry(2, [1; 16], &[Binding::Until(until_ms)]).header.clone();
        header.kind = kind;
        Input::Stored(vec![Stored { register: key(name), ballot: Ballot::new(1, NodeId(2)), header: Some(header) }])
    };
    trio.input(1, stored("tomorrow", 86_400_000, Kind::Live));
    for n in 0..500 {
        let until_ms = trio.now.wall_ms + 300;
        trio.input(1, stored("k", until_ms, Kind::Live));
        trio.input(1, stored("k", until_ms, Kind::Tombstone));
        trio.advance(7_013 + n % 900);
        trio.flight.clear();
    }
    let (mut wakeups, end) = (0, trio.now.mono_us + 60_000_000);
    while let Some(at) = trio.next_wakeup(1).filter(|at| *at < end) {
        trio.advance(at.saturating_sub(trio.now.mono_us));
        trio.flight.clear();
        wakeups += 1;
    }
    // One a second, since the wall clock may jump, and the sweeps.
    assert!((50..=70).contains(&wakeups), "{wakeups} wakeups in a minute of quiet");
}
