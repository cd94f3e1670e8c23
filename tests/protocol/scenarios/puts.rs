//! Puts: who is first, and what a repeated one may do.

use crate::script::{Kind, Script, key};
use paxoskv::node::{Answer, Mode};

#[test]
fn first_put_wins_and_the_other_is_told_so_when_two_proposers_interleave() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let (a, b) = (s.new_put(0, &k), s.new_put(1, &k));
    let first = s.put(0, &a, Mode::Answer);
    s.exchange(0, 2, Kind::Prepare, Kind::Promised);
    let second = s.put(1, &b, Mode::Answer);
    // Its ballot is lower or the same counter: it hears so, and comes again above.
    s.deliver(1, 2, Kind::Prepare);
    s.deliver(0, 2, Kind::Accept);
    s.deliver_all();
    s.pass_delivering(1_000_000);
    let ((token_a, created_a), (token_b, created_b)) = (s.put_answer(first), s.put_answer(second));
    assert_eq!(token_a, token_b, "both are told of one entry");
    assert!(created_a != created_b, "one of them created it: {created_a} {created_b}");
    assert_eq!(s.lives(&k), 1);
    s.end();
}

#[test]
fn repeated_put_that_finds_a_tombstone_above_its_first_accept_creates_nothing() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let mut put = s.new_put(0, &k);
    let first = s.put(0, &put, Mode::Answer);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    s.lose_all();
    s.pass(2_500_000);
    assert_eq!(s.no_quorum(first), Some(true), "its outcome is unknown");
    // Somebody completes it, and somebody ends it.
    s.lose_all();
    let read = s.get(1, &k);
    s.deliver_between(|from, to| from != 2 && to != 2);
    let Some(Answer::State(Some(entry))) = s.answer(read) else { panic!("{:?}", s.answer(read)) };
    let release = s.release(1, &k, entry.header.token);
    s.deliver_all();
    assert_eq!(s.answer(release), Some(Answer::Released(entry.header.token)));
    put.retry = true;
    let again = s.put(0, &put, Mode::Answer);
    s.deliver_all();
    assert_eq!(s.answer(again), Some(Answer::OutcomeUnknown));
    assert_eq!((s.live(&k), s.lives(&k)), (None, 1), "one request, one life");
    s.end();
}

#[test]
fn repeated_put_that_finds_only_what_is_older_than_its_first_accept_creates() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let mut put = s.new_put(0, &k);
    s.held_stores.insert(0);
    let first = s.put(0, &put, Mode::Answer);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    s.exchange(0, 2, Kind::Prepare, Kind::Promised);
    s.lose_all();
    s.pass(2_500_000);
    assert_eq!(s.no_quorum(first), Some(true));
    s.lose_all();
    put.retry = true;
    let again = s.put(0, &put, Mode::Answer);
    s.deliver_between(|from, to| (from, to) != (0, 0));
    assert!(s.put_answer(again).1);
    assert_eq!(s.lives(&k), 1);
    s.end();
}

#[test]
fn repeated_put_that_a_new_life_does_not_remember_creates_nothing() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let mut put = s.new_put(0, &k);
    s.put(0, &put, Mode::Answer);
    s.lose_all();
    s.crash(0);
    s.restart(0);
    put.retry = true;
    let again = s.put(0, &put, Mode::Answer);
    s.deliver_all();
    assert_eq!(s.answer(again), Some(Answer::OutcomeUnknown));
    assert_eq!(s.lives(&k), 0);
    s.end();
}

#[test]
fn repeated_put_without_a_quorum_is_not_told_that_it_never_will_be() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let mut put = s.new_put(0, &k);
    let first = s.put(0, &put, Mode::Answer);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    let late = s.take(0, 1, Kind::Accept);
    s.lose_all();
    s.isolate(0);
    assert_eq!(s.no_quorum(first), Some(true));
    put.retry = true;
    let again = s.put(0, &put, Mode::Answer);
    assert_eq!(s.no_quorum(again), Some(true), "its accept is still under way");
    s.give(&late);
    assert!(s.live(&k).is_some());
    s.end();
}

#[test]
fn repeated_put_that_joins_the_first_keeps_its_own_deadline() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let mut put = s.new_put(0, &k);
    let first = s.put(0, &put, Mode::Retry);
    put.retry = true;
    let again = s.cluster.put(0, &put, Mode::Retry, Some(300)).expect("the agent is up");
    s.pass(1_000_000);
    assert_eq!(s.no_quorum(again), Some(true), "it was to wait for 300 ms");
    assert_eq!(s.answer(first), None, "the first may wait for longer");
    s.deliver_all();
    assert!(s.put_answer(first).1);
    s.end();
}

#[test]
fn put_and_release_and_put_in_one_round_create_one_entry_a_round() {
    let mut s = Script::new(3);
    let k = key(b'k');
    // Set without voter 0, which so does not expect to find anything.
    s.isolate(0);
    let token = s.set(1, &k);
    s.connect(0);
    s.lose_all();
    // A round is under way; what comes now is combined into the next.
    let busy = s.release(0, &k, paxoskv::paxos::Ballot::ZERO);
    let end = s.release(0, &k, token);
    let (a, b) = (s.new_put(0, &k), s.new_put(0, &k));
    let puts = [s.put(0, &a, Mode::Answer), s.put(0, &b, Mode::Answer)];
    s.deliver_all();
    assert_eq!(s.answer(busy), Some(Answer::NothingToRelease));
    assert_eq!(s.answer(end), Some(Answer::Released(token)));
    let told = puts.map(|p| s.put_answer(p));
    assert_eq!(told[0].0, told[1].0, "both are told of one entry");
    assert_eq!(told.iter().filter(|(_, created)| *created).count(), 1, "one of them created it: {told:?}");
    assert_eq!(s.lives(&k), 2);
    s.end();
}

#[test]
fn release_of_what_its_own_round_creates_waits_for_the_next_round() {
    let mut s = Script::new(1);
    let k = key(b'k');
    s.held_stores.insert(0);
    s.release(0, &k, paxoskv::paxos::Ballot::ZERO);
    let counter = s.cluster.hosts[0].life.as_ref().map_or(0, |l| l.node.counter());
    let next = paxoskv::paxos::Ballot::new(counter + 1, crate::host::id_of(0));
    let (a, b) = (s.new_put(0, &k), s.new_put(0, &k));
    let first = s.put(0, &a, Mode::Answer);
    let release = s.release(0, &k, next);
    let second = s.put(0, &b, Mode::Answer);
    s.held_stores.clear();
    s.settle();
    assert_eq!(s.put_answer(first), (next, true));
    assert_eq!(s.put_answer(second), (next, false));
    assert_eq!(s.answer(release), Some(Answer::Released(next)));
    assert_eq!((s.live(&k), s.lives(&k)), (None, 1));
    s.end();
}

/// The second put of the round found that the first one's entry was over already, ended it, and created its own under
/// the same token: two holders, one token, both told that they were first.
#[test]
fn puts_of_one_round_do_not_share_a_token_although_the_first_is_over_already() {
    let mut s = Script::new(1);
    let k = key(b'k');
    s.held_stores.insert(0);
    s.release(0, &k, paxoskv::paxos::Ballot::ZERO);
    let (mut a, b) = (s.new_put(0, &k), s.new_put(0, &k));
    a.until_ms = Some(s.cluster.wall_ms(0) + 500);
    let puts = [s.put(0, &a, Mode::Retry), s.put(0, &b, Mode::Retry)];
    s.pass(1_000_000);
    s.held_stores.clear();
    s.settle();
    s.pass_delivering(5_000_000);
    let told = puts.map(|p| s.answer(p));
    let created = told.iter().flatten().filter_map(|answer| match answer {
        Answer::Put { entry, created: true } => Some(entry.header.token),
        _ => None,
    });
    let mut tokens: Vec<_> = created.collect();
    let many = tokens.len();
    tokens.dedup();
    assert_eq!(tokens.len(), many, "one token was given to two: {told:?}");
    s.end();
}
