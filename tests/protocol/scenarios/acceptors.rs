//! What acceptors must not forget.

use crate::disk::Disk;
use crate::rng::Rng;
use crate::script::{Kind, Script, key};
use paxoskv::kv::{Reason, entry::tombstone};
use paxoskv::limits::BOUND_STEP;
use paxoskv::node::Mode;
use paxoskv::paxos::{Accepted, Acceptor, Ballot, Membership, NodeId, RegisterKey, Reply, Request, Voter};
use paxoskv::storage::acceptor::{Done, DurableAcceptor, Formed, Job};
use paxoskv::storage::ledger::Birth;
use paxoskv::storage::memory::Memory;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn prepare(register: &RegisterKey, ballot: Ballot) -> Request {
    Request::Prepare { register: register.clone(), ballot, condition: None }
}

fn accept(register: &RegisterKey, ballot: Ballot) -> Request {
    Request::Accept { register: register.clone(), ballot, value: tombstone(ballot, Reason::None, NodeId(1)) }
}

#[test]
fn acceptor_whose_promises_overflow_keeps_each_of_them() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut acceptor = Acceptor::with_capacity(0, 2 + rng.below(6) as usize);
        let mut records: BTreeMap<RegisterKey, Accepted> = BTreeMap::new();
        let mut promised: BTreeMap<RegisterKey, Ballot> = BTreeMap::new();
        for _ in 0..200 {
            let register = key(b'a' + rng.below(20) as u8);
            let ballot = Ballot::new(1 + rng.below(60), NodeId(1 + rng.below(3) as u16));
            let request = if rng.permille(700) { prepare(&register, ballot) } else { accept(&register, ballot) };
            let step = acceptor.step(&request, records.get(&register), 0);
            let before = promised.get(&register).copied().unwrap_or_default();
            match (&request, &step.reply) {
                (Request::Prepare { .. }, Reply::Promised { .. }) => {
                    assert!(ballot > before, "seed {seed}: {ballot:?} is promised after {before:?}");
                    promised.insert(register.clone(), ballot);
                }
                (Request::Accept { .. }, Reply::Accepted) => {
                    assert!(ballot >= before, "seed {seed}: {ballot:?} is accepted after {before:?} was promised");
                    promised.insert(register.clone(), ballot);
                }
                _ => {}
            }
            if let Some((ballot, value)) = step.write {
                records.insert(register.clone(), Accepted { ballot, value });
            }
            for (register, promise) in &promised {
                let effective = acceptor.effective_promise(register, records.get(register).map(|a| a.ballot));
                assert!(effective >= *promise, "seed {seed}: {promise:?} was promised, {effective:?} is kept");
            }
        }
    }
}

#[test]
fn acceptor_that_restarted_refuses_an_accept_below_what_it_had_promised() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let old = s.new_put(0, &k);
    s.put(0, &old, Mode::Answer);
    s.exchange(0, 1, Kind::Prepare, Kind::Promised);
    let late = s.take(0, 2, Kind::Accept);
    s.lose_all();
    // Voter 2 promises a later ballot, of which only its memory knows.
    let put = s.new_put(1, &k);
    s.put(1, &put, Mode::Answer);
    s.exchange(1, 2, Kind::Prepare, Kind::Promised);
    s.lose_all();
    s.crash(2);
    s.restart(2);
    s.lose_all();
    s.give(&late);
    assert!(s.is_waiting(2, 0, Kind::Rejected), "{:?}", s.waiting());
    s.end();
}

/// One voter's store, and a request at a time, each in a batch of its own.
struct Voting {
    acceptor: DurableAcceptor<Disk>,
    full: Arc<AtomicBool>,
}

impl Voting {
    fn new() -> Voting {
        let full: Arc<AtomicBool> = Arc::default();
        let disk = Disk { image: Memory::new(), full: full.clone() };
        let birth = Birth { store_id: [1; 16], life_id: [2; 16], boot_id: [3; 16] };
        let mut acceptor = DurableAcceptor::open(disk, &birth).expect("an empty store opens").acceptor;
        let membership = Membership::new(1, vec![Voter { id: NodeId(1), name: "one".into() }]);
        let formed = Formed { cluster: "c".into(), cluster_id: [0; 16], membership, stores: Vec::new() };
        let staged = acceptor.stage(&[Job::Form(Box::new(formed))], 0).expect("memory does not fail");
        acceptor.commit(staged).expect("there is room");
        Voting { acceptor, full }
    }

    /// What is answered; none if there was no room.
    fn ask(&mut self, request: Request) -> Option<Reply> {
        let staged = self.acceptor.stage(&[Job::Paxos(request)], 0).expect("memory does not fail");
        let committed = self.acceptor.commit(staged).ok()?;
        match committed.done.into_iter().next() {
            Some(Done::Reply(paxoskv::kv::peer::PeerReply::Paxos(reply))) => Some(reply),
            other => panic!("a request came to {other:?}"),
        }
    }

    fn fill(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }
}

/// The accept that found no room had taken the promise's place in memory, and then was not written either: the
/// acceptor accepted what it had promised not to.
#[test]
fn acceptor_without_room_for_an_accept_keeps_the_promise_behind_it() {
    let mut voting = Voting::new();
    let k = key(b'k');
    let (low, high) = (Ballot::new(5, NodeId(1)), Ballot::new(6, NodeId(2)));
    assert!(matches!(voting.ask(prepare(&k, low)), Some(Reply::Promised { .. })));
    assert!(matches!(voting.ask(prepare(&k, high)), Some(Reply::Promised { .. })));
    voting.fill(true);
    assert_eq!(voting.ask(accept(&k, high)), None);
    voting.fill(false);
    let reply = voting.ask(accept(&k, low));
    assert!(matches!(reply, Some(Reply::Rejected { promised }) if promised >= high), "{reply:?}");
}

#[test]
fn acceptor_without_room_to_raise_its_bound_keeps_the_promises_below_it() {
    let mut voting = Voting::new();
    let k = key(b'k');
    let (low, high) = (Ballot::new(5, NodeId(1)), Ballot::new(6, NodeId(2)));
    assert!(matches!(voting.ask(prepare(&k, high)), Some(Reply::Promised { .. })));
    voting.fill(true);
    assert_eq!(voting.ask(prepare(&k, Ballot::new(9 * BOUND_STEP, NodeId(3)))), None);
    voting.fill(false);
    let reply = voting.ask(accept(&k, low));
    assert!(matches!(reply, Some(Reply::Rejected { promised }) if promised >= high), "{reply:?}");
}

#[test]
fn acceptor_shows_nothing_of_a_batch_that_it_has_not_written() {
    let mut voting = Voting::new();
    let k = key(b'k');
    let ballot = Ballot::new(5, NodeId(1));
    voting.fill(true);
    assert_eq!(voting.ask(accept(&k, ballot)), None);
    voting.fill(false);
    assert_eq!(voting.ask(Request::Query { register: k.clone() }), Some(Reply::State { accepted: None }));
}
