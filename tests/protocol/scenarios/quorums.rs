//! Without a quorum.

use crate::script::{Kind, Script, key};
use paxoskv::kv::{Asker, bucket_prefix};
use paxoskv::node::{Answer, Mode, Operation};

fn operations(s: &Script) -> Vec<Operation> {
    let k = key(b'k');
    let token = s.live(&k);
    let by = Asker { process: None, uid: 0 };
    vec![
        Operation::Get { register: k.clone() },
        Operation::Release { register: k.clone(), token, by },
        Operation::Release { register: k.clone(), token: None, by },
        Operation::List { prefix: bucket_prefix("b"), after: None },
    ]
}

#[test]
fn operations_without_a_quorum_are_told_at_once_that_nothing_will_happen() {
    let mut s = Script::new(3);
    s.set(0, &key(b'k'));
    s.isolate(0);
    for operation in operations(&s) {
        let call = s.call(0, operation.clone(), Mode::Answer);
        assert_eq!(s.no_quorum(call), Some(false), "{operation:?}");
    }
    let put = s.new_put(0, &key(b'k'));
    let call = s.put(0, &put, Mode::Answer);
    assert_eq!(s.no_quorum(call), Some(false));
    s.end();
}

#[test]
fn operations_that_may_wait_for_a_quorum_wait_until_their_deadline() {
    let mut s = Script::new(3);
    s.set(0, &key(b'k'));
    s.isolate(0);
    for operation in operations(&s) {
        let call = s.cluster.call(0, operation.clone(), Mode::Retry, Some(700)).expect("the agent is up");
        s.pass(650_000);
        assert_eq!(s.no_quorum(call), None, "{operation:?}");
        s.pass(100_000);
        assert_eq!(s.no_quorum(call), Some(false), "{operation:?}");
    }
    s.end();
}

#[test]
fn operations_that_may_wait_for_a_quorum_are_done_when_there_is_one() {
    let mut s = Script::new(3);
    s.set(0, &key(b'k'));
    s.isolate(0);
    let operations = operations(&s);
    let get = s.call(0, operations[0].clone(), Mode::Retry);
    let put = s.new_put(0, &key(b'o'));
    let put = s.put(0, &put, Mode::Retry);
    s.pass(3_000_000);
    s.connect(0);
    s.deliver_all();
    assert!(matches!(s.answer(get), Some(Answer::State(Some(_)))));
    assert!(s.put_answer(put).1);
    s.end();
}

#[test]
fn put_that_loses_its_quorum_in_the_accept_phase_is_told_that_it_may_still_happen() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let put = s.new_put(0, &k);
    let call = s.put(0, &put, Mode::Answer);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    s.deliver(0, 1, Kind::Accept);
    s.isolate(0);
    assert_eq!(s.no_quorum(call), Some(true));
    assert!(s.live(&k).is_some(), "and it did");
    s.end();
}

#[test]
fn put_that_loses_its_quorum_in_the_prepare_phase_never_happens() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let put = s.new_put(0, &k);
    let call = s.put(0, &put, Mode::Answer);
    s.deliver(0, 1, Kind::Prepare);
    let late = s.take(1, 0, Kind::Promised);
    s.isolate(0);
    assert_eq!(s.no_quorum(call), Some(false));
    s.connect(0);
    s.give(&late);
    s.deliver_all();
    assert_eq!(s.lives(&k), 0);
    s.end();
}

#[test]
fn single_voter_is_its_own_quorum() {
    let mut s = Script::new(1);
    let k = key(b'k');
    let token = s.set(0, &k);
    let read = s.get(0, &k);
    assert!(matches!(s.answer(read), Some(Answer::State(Some(e))) if e.header.token == token));
    s.end();
}
