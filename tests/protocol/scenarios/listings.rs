//! Listing live keys.

use crate::script::{Kind, Script, key};
use paxoskv::kv::bucket_prefix;
use paxoskv::node::{Answer, Mode, Operation};
use paxoskv::paxos::RegisterKey;

fn list(s: &mut Script, host: usize, mode: Mode) -> u64 {
    s.call(host, Operation::List { prefix: bucket_prefix("b"), after: None }, mode)
}

fn page(s: &Script, call: u64) -> Option<Vec<RegisterKey>> {
    match s.answer(call) {
        Some(Answer::Page { keys, next: None }) => Some(keys),
        None => None,
        other => panic!("the list was answered {other:?}"),
    }
}

#[test]
fn keys_that_one_voter_has_not_heard_of_are_listed() {
    let mut s = Script::new(3);
    s.isolate(2);
    s.set(0, &key(b'a'));
    s.set(1, &key(b'b'));
    let gone = s.set(0, &key(b'c'));
    s.release(0, &key(b'c'), gone);
    s.deliver_all();
    s.connect(2);
    s.lose_all();
    let call = list(&mut s, 2, Mode::Answer);
    s.exchange(2, 0, Kind::List, Kind::Listing);
    s.deliver_between(|from, to| from != 1 && to != 1);
    assert_eq!(page(&s, call), Some(vec![key(b'a'), key(b'b')]));
    s.end();
}

/// The voters of a listing held a tombstone that nobody had chosen, or nothing. The key, chosen and live, was not
/// listed, and was live in the next read.
#[test]
fn live_key_is_listed_although_a_voter_holds_a_tombstone_that_was_not_chosen() {
    let mut s = Script::new(3);
    let k = key(b'k');
    s.isolate(2);
    let token = s.set(0, &k);
    // Voter 1 alone accepts the end of it.
    s.release(1, &k, token);
    s.exchange(1, 0, Kind::Prepare, Kind::Promised);
    s.lose_all();
    s.connect(2);
    s.lose_all();
    let call = list(&mut s, 2, Mode::Answer);
    s.exchange(2, 1, Kind::List, Kind::Listing);
    let early = page(&s, call);
    // Before anything of it can be chosen by the list itself, the key is read at the two others.
    if early.is_some() {
        s.lose_all();
        s.isolate(1);
        let read = s.get(0, &k);
        s.deliver_all();
        assert_eq!(early, Some(vec![k]), "the key was live before the list, and after it: {:?}", s.answer(read));
    }
    s.end();
}

#[test]
fn list_that_may_wait_asks_again_when_an_answer_was_lost() {
    let mut s = Script::new(3);
    let k = key(b'k');
    s.set(0, &k);
    let call = list(&mut s, 0, Mode::Retry);
    s.lose_all();
    s.pass(2_500_000);
    s.deliver_all();
    s.pass_delivering(1_000_000);
    assert_eq!(page(&s, call), Some(vec![k]), "there is a quorum, and six seconds are left");
    s.end();
}

#[test]
fn list_without_a_quorum_waits_for_one_if_it_may() {
    let mut s = Script::new(3);
    let k = key(b'k');
    s.set(0, &k);
    s.isolate(0);
    let call = list(&mut s, 0, Mode::Retry);
    s.pass(3_000_000);
    assert_eq!(page(&s, call), None);
    s.connect(0);
    s.deliver_all();
    assert_eq!(page(&s, call), Some(vec![k]));
    s.end();
}
