//! Keys that are bound to processes.

use crate::script::{Kind, Script, key};
use paxoskv::node::{Answer, Mode};

/// An accept that reached one voter only, which the quorum that decides the expiry does not include. Had the expiry
/// been answered because nothing was found, whoever reads at the other voters would complete the put of a process that
/// is gone.
#[test]
fn unknown_put_accepted_by_one_voter_does_not_come_back_after_its_process_expired() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let mut put = s.new_put(0, &k);
    put.bind = Some(put.by);
    // The own store is slow: it neither promises nor accepts before the agent crashes.
    s.held_stores.insert(0);
    s.put(0, &put, Mode::Answer);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    s.exchange(0, 2, Kind::Prepare, Kind::Promised);
    s.deliver(0, 2, Kind::Accept);
    s.lose_all();
    s.crash(0);
    s.held_stores.clear();
    s.exit(0, put.by);
    // Of the next life's voters only 2 knows of the put. It tells; the expiry is decided by 0 and 1.
    s.restart(0);
    s.deliver(2, 0, Kind::Bound);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    s.exchange(0, 1, Kind::Accept, Kind::Accepted);
    s.lose_all();
    let read = s.get(1, &k);
    s.deliver_between(|from, to| from != 0 && to != 0);
    assert_eq!(s.answer(read), Some(Answer::State(None)));
    assert_eq!((s.live(&k), s.lives(&k)), (None, 0), "the put never became part of the key's history");
    s.end();
}

#[test]
fn process_that_exits_in_the_accept_phase_of_its_put_leaves_no_key() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let mut put = s.new_put(0, &k);
    put.bind = Some(put.by);
    let call = s.put(0, &put, Mode::Answer);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    s.deliver(0, 1, Kind::Accept);
    let token = s.live(&k).expect("two voters have accepted it");
    s.exit(0, put.by);
    assert_eq!(s.answer(call), None, "the agent has not heard yet that it is chosen");
    s.deliver(1, 0, Kind::Accepted);
    assert_eq!(s.put_answer(call), (token, true));
    s.deliver_all();
    assert_eq!(s.live(&k), None);
    s.end();
}

#[test]
fn late_answer_to_a_read_does_not_make_an_agent_forget_a_newer_entry() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let read = s.get(0, &k);
    s.deliver(0, 1, Kind::Query);
    let nothing = s.take(1, 0, Kind::State);
    let mut put = s.new_put(0, &k);
    put.bind = Some(put.by);
    let call = s.put(0, &put, Mode::Answer);
    s.exchange(0, 2, Kind::Prepare, Kind::Promised);
    s.exchange(0, 2, Kind::Accept, Kind::Accepted);
    assert!(s.put_answer(call).1);
    // Voters 0 and 1 have shown that there was nothing, before there was something.
    s.give(&nothing);
    assert_eq!(s.answer(read), Some(Answer::State(None)));
    assert!(s.is_watching(0, &put.by), "the process holds a key");
    s.exit(0, put.by);
    s.deliver_all();
    assert_eq!(s.live(&k), None, "its exit ends the key at once");
    s.end();
}
