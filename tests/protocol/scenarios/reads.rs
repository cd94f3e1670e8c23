//! Reads, and answers that need no accept phase.

use crate::script::{Kind, Script, key};
use paxoskv::kv::bucket_prefix;
use paxoskv::node::{Answer, Mode, Operation};

#[test]
fn read_of_a_tombstone_beside_nothing_goes_to_a_round() {
    let mut s = Script::new(3);
    let k = key(b'k');
    s.isolate(2);
    let token = s.set(0, &k);
    let release = s.release(0, &k, token);
    s.deliver_all();
    assert_eq!(s.answer(release), Some(Answer::Released(token)));
    s.connect(2);
    s.lose_all();
    let read = s.get(2, &k);
    s.exchange(2, 0, Kind::Query, Kind::State);
    assert_eq!(s.answer(read), None, "a tombstone beside nothing is mixed");
    assert!(s.is_waiting(2, 0, Kind::Query), "it is asked once more");
    s.take(2, 1, Kind::Query);
    s.exchange(2, 0, Kind::Query, Kind::State);
    assert_eq!(s.answer(read), None);
    assert!(s.is_waiting(2, 0, Kind::Prepare), "then a round settles it: {:?}", s.waiting());
    s.deliver_all();
    assert_eq!(s.answer(read), Some(Answer::State(None)));
    s.end();
}

#[test]
fn read_that_finds_one_ballot_at_a_quorum_is_answered_without_a_round() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let token = s.set(0, &k);
    let read = s.get(1, &k);
    s.exchange(1, 2, Kind::Query, Kind::State);
    assert!(matches!(s.answer(read), Some(Answer::State(Some(e))) if e.header.token == token));
    assert!(!s.is_waiting(1, 0, Kind::Prepare));
    s.end();
}

/// Rule 3 asks for a quorum at the *highest* ballot shown. Here a quorum shows one entry at a lower ballot, and one
/// voter a newer entry that nobody has chosen; the round waits for more clocks than a quorum's, and so counts all four.
#[test]
fn quorum_that_agrees_on_a_lower_ballot_does_not_answer_for_a_higher_one() {
    let mut s = Script::new(5);
    let k = key(b'k');
    let mut old = s.new_put(0, &k);
    old.until_ms = Some(s.cluster.wall_ms(0) + 5_000);
    let call = s.put(0, &old, Mode::Answer);
    s.deliver_between(|from, to| from != 4 && to != 4);
    let (old_token, _) = s.put_answer(call);
    // Host 4 ends it and sets another in one round, which only its own acceptor accepts.
    let busy = s.release(4, &k, paxoskv::paxos::Ballot::ZERO);
    let end = s.release(4, &k, old_token);
    let mut new = s.new_put(4, &k);
    new.until_ms = Some(s.cluster.wall_ms(0) + 500_000);
    let newer = s.put(4, &new, Mode::Answer);
    s.exchange(4, 2, Kind::Prepare, Kind::Promised);
    s.exchange(4, 3, Kind::Prepare, Kind::Promised);
    s.exchange(4, 2, Kind::Accept, Kind::Accepted);
    s.exchange(4, 3, Kind::Accept, Kind::Accepted);
    s.deliver(4, 0, Kind::Accept);
    s.deliver(4, 1, Kind::Accept);
    assert_eq!(s.answer(busy), Some(Answer::NothingToRelease));
    s.exchange(4, 2, Kind::Prepare, Kind::Promised);
    s.exchange(4, 3, Kind::Prepare, Kind::Promised);
    s.lose_all();
    assert_eq!((s.answer(end), s.answer(newer), s.live(&k)), (None, None, Some(old_token)));
    // Host 0 hears of host 4's counter, so that its ballot is above.
    s.get(0, &k);
    s.exchange(0, 4, Kind::Query, Kind::State);
    s.lose_all();
    s.pass(2_500_000);
    // By its clock, and no other, the old entry is over. So it puts in a round, and asks for more clocks.
    s.cluster.hosts[0].site.wall_offset_ms = 60_000;
    let third = s.new_put(0, &k);
    let call = s.put(0, &third, Mode::Answer);
    s.exchange(0, 1, Kind::Query, Kind::State);
    s.exchange(0, 2, Kind::Query, Kind::State);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    s.exchange(0, 2, Kind::Prepare, Kind::Promised);
    assert!(!s.is_waiting(0, 1, Kind::Accept), "it waits for more clocks");
    s.exchange(0, 4, Kind::Prepare, Kind::Promised);
    assert_eq!(s.answer(call), None, "the newer entry is not chosen");
    assert!(s.is_waiting(0, 1, Kind::Accept), "{:?}", s.waiting());
    s.deliver_all();
    let (token, created) = s.put_answer(call);
    assert!(token > old_token && !created);
    assert_eq!(s.live(&k), Some(token));
    s.end();
}

#[test]
fn answer_that_was_meant_for_an_earlier_life_finds_nobody() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let put = s.new_put(0, &k);
    s.put(0, &put, Mode::Answer);
    s.deliver(0, 1, Kind::Prepare);
    let old = s.take(1, 0, Kind::Promised);
    s.lose_all();
    s.crash(0);
    s.restart(0);
    let put = s.new_put(0, &k);
    s.held_stores.insert(0);
    s.put(0, &put, Mode::Answer);
    s.exchange(0, 2, Kind::Prepare, Kind::Promised);
    s.give(&old);
    assert!(!s.is_waiting(0, 2, Kind::Accept), "one promise of this life is no quorum");
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    assert!(s.is_waiting(0, 2, Kind::Accept));
    s.end();
}

#[test]
fn local_read_is_answered_without_a_quorum() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let token = s.set(0, &k);
    s.isolate(0);
    let read = s.call(0, Operation::GetLocal { register: k.clone() }, Mode::Answer);
    assert!(matches!(s.answer(read), Some(Answer::State(Some(e))) if e.header.token == token));
    let list = s.call(0, Operation::List { prefix: bucket_prefix("b"), after: None }, Mode::Answer);
    assert_eq!(s.no_quorum(list), Some(false));
    s.end();
}
