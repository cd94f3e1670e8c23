//! Releases.

use crate::script::{Kind, Script, key};
use paxoskv::kv::Asker;
use paxoskv::node::{Answer, Mode, Operation};
use paxoskv::paxos::Ballot;

/// The first round of the release met an entry that nobody had chosen, and meant to end that. The round was lost, the
/// entry with it; the next round found the one that had been live all the time, and left it alone.
#[test]
fn release_without_a_token_ends_what_is_live_although_its_lost_round_met_another_entry() {
    let mut s = Script::new(3);
    let k = key(b'k');
    // Set without host 1, which so does not expect to find anything.
    s.isolate(1);
    let live = s.set(0, &k);
    s.connect(1);
    s.lose_all();
    // Host 1 ends it and sets another in one round, which only its own acceptor accepts.
    s.release(1, &k, Ballot::ZERO);
    s.release(1, &k, live);
    let other = s.new_put(1, &k);
    let other = s.put(1, &other, Mode::Answer);
    s.exchange(1, 2, Kind::Prepare, Kind::Promised);
    s.exchange(1, 2, Kind::Accept, Kind::Accepted);
    s.deliver(1, 0, Kind::Accept);
    s.exchange(1, 2, Kind::Prepare, Kind::Promised);
    s.lose_all();
    assert_eq!(s.live(&k), Some(live), "{:?}", s.answer(other));
    let by = Asker { process: None, uid: 0 };
    let release = s.call(0, Operation::Release { register: k.clone(), token: None, by }, Mode::Retry);
    s.deliver(0, 1, Kind::Prepare);
    if s.is_waiting(1, 0, Kind::Rejected) {
        s.lose_all();
        s.pass(3_000_000);
        s.deliver(0, 1, Kind::Prepare);
    }
    s.cluster.fill_disk(0, true);
    s.deliver(1, 0, Kind::Promised);
    s.cluster.fill_disk(0, false);
    s.isolate(0);
    s.lose_all();
    s.isolate(1);
    s.connect_pair(0, 2);
    for _ in 0..20 {
        s.deliver_all();
        s.pass_delivering(500_000);
    }
    assert_eq!(s.answer(release), Some(Answer::Released(live)), "what was live is still: {:?}", s.live(&k));
    s.end();
}
