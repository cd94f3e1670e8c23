//! Small histories told to an observer, each with one thing in it that must not be.

use crate::host::id_of;
use crate::observer::{Check, Observer};
use crate::script::key;
use paxoskv::kv::entry::tombstone;
use paxoskv::kv::peer::{PeerReply, PeerRequest};
use paxoskv::kv::{Binding, Entry, Header, Holder, Kind, ProcessId, Reason};
use paxoskv::node::{Answer, Call, Mode, NoQuorum, Operation};
use paxoskv::paxos::{Accepted, Ballot, Reply, Request, Value};
use std::sync::Arc;

const PROCESS: ProcessId = ProcessId { boot_id: [1; 16], pid: 7, start_ticks: 7, inode: 0 };

fn ballot(counter: u64) -> Ballot {
    Ballot::new(counter, id_of(0))
}

fn entry(request: u8, token: Ballot, bindings: Vec<Binding>) -> Entry {
    let (node, incarnation) = (id_of(0), 1);
    let header =
        Header { kind: Kind::Live, reason: Reason::None, token, request: [request; 16], node, incarnation, bindings };
    let holder = Holder { process: Some(PROCESS), uid: 1, since_ms: 1, comm: "by hand".into() };
    Entry { header, holder, value: b"\x01".as_slice().into() }
}

/// An observer of three voters, told by hand.
struct Story(Observer);

impl Story {
    fn new() -> Story {
        Story(Observer::new(3))
    }

    /// Host 0 proposes on two promises that show `found`.
    fn propose(&mut self, counter: u64, found: Option<(u64, &Value)>, value: &Value) -> Request {
        let (register, at) = (key(b'k'), ballot(counter));
        let prepare = Request::Prepare { register: register.clone(), ballot: at, condition: None };
        self.0.asked(0, counter, &PeerRequest::Paxos(prepare), counter);
        let accepted = found.map(|(at, value)| Accepted { ballot: ballot(at), value: value.clone() });
        for voter in 0..2 {
            let promised = Reply::Promised { accepted: accepted.clone(), clock_ms: 0 };
            self.0.heard(0, voter, counter, &PeerReply::Paxos(promised));
        }
        let accept = Request::Accept { register, ballot: at, value: value.clone() };
        self.0.asked(0, 1000 + counter, &PeerRequest::Paxos(accept.clone()), counter);
        accept
    }

    /// And two voters accept it.
    fn choose(&mut self, counter: u64, found: Option<(u64, &Value)>, value: &Value) {
        let accept = self.propose(counter, found, value);
        for voter in 0..2 {
            self.0.committed(voter, std::iter::once(&accept));
        }
    }

    fn call_put(&mut self, id: u64, request: u8) {
        let entry = Arc::new(entry(request, Ballot::ZERO, Vec::new()));
        let operation = Operation::Put { register: key(b'k'), entry, retry: false };
        self.0.called(0, 0, &Call { id, operation, mode: Mode::Answer, deadline_ms: Some(1000) });
    }

    #[track_caller]
    fn is_objected_to_by(&self, check: Check) {
        let found: Vec<Check> = self.0.violations.iter().map(|v| v.check).collect();
        assert_eq!(found, [check], "{:?}", self.0.violations);
    }
}

#[test]
fn history_in_which_all_is_well_is_not_objected_to() {
    let mut s = Story::new();
    s.call_put(1, 1);
    let live = entry(1, ballot(5), vec![Binding::Pid(PROCESS)]);
    let value = live.encode();
    s.choose(5, None, &value);
    s.0.answered(10, 1, &Answer::Put { entry: Arc::new(live), created: true });
    s.0.exited(PROCESS);
    s.choose(6, Some((5, &value)), &tombstone(ballot(5), Reason::Pid, id_of(0)));
    s.0.at_rest(&[0; 3]);
    assert!(s.0.violations.is_empty(), "{:?}", s.0.violations);
}

#[test]
fn second_value_under_one_ballot_is_objected_to() {
    let mut s = Story::new();
    s.propose(5, None, &entry(1, ballot(5), Vec::new()).encode());
    let value = entry(2, ballot(5), Vec::new()).encode();
    let other = Request::Accept { register: key(b'k'), ballot: ballot(5), value };
    s.0.committed(1, std::iter::once(&other));
    s.is_objected_to_by(Check::OneValuePerBallot);
}

#[test]
fn entry_that_replaces_another_under_the_other_token_is_objected_to() {
    let mut s = Story::new();
    let value = entry(1, ballot(5), Vec::new()).encode();
    s.choose(5, None, &value);
    s.propose(6, Some((5, &value)), &entry(2, ballot(5), Vec::new()).encode());
    s.is_objected_to_by(Check::LegalChange);
}

#[test]
fn end_of_a_key_whose_process_runs_is_objected_to() {
    let mut s = Story::new();
    let value = entry(1, ballot(5), vec![Binding::Pid(PROCESS)]).encode();
    s.choose(5, None, &value);
    s.propose(6, Some((5, &value)), &tombstone(ballot(5), Reason::Pid, id_of(0)));
    s.is_objected_to_by(Check::EndedForAReason);
}

#[test]
fn end_of_a_key_whose_time_is_over_by_one_clock_of_three_is_objected_to() {
    let mut s = Story::new();
    let value = entry(1, ballot(5), vec![Binding::Until(1000)]).encode();
    s.choose(5, None, &value);
    s.0.clock(0, 2000);
    s.propose(6, Some((5, &value)), &tombstone(ballot(5), Reason::Until, id_of(0)));
    s.is_objected_to_by(Check::EndedForAReason);
}

#[test]
fn created_told_to_another_request_is_objected_to() {
    let mut s = Story::new();
    let live = entry(1, ballot(5), Vec::new());
    s.call_put(1, 2);
    s.choose(5, None, &live.encode());
    s.0.answered(10, 1, &Answer::Put { entry: Arc::new(live), created: true });
    s.is_objected_to_by(Check::CreatedIsFirst);
}

#[test]
fn put_that_happens_after_it_never_would_is_objected_to() {
    let mut s = Story::new();
    s.call_put(1, 1);
    s.0.answered(10, 1, &Answer::NoQuorum(NoQuorum { unknown: false, why: "" }));
    s.choose(5, None, &entry(1, ballot(5), Vec::new()).encode());
    s.is_objected_to_by(Check::NeverMeansNever);
}

#[test]
fn answer_long_after_the_deadline_is_objected_to() {
    let mut s = Story::new();
    s.call_put(1, 1);
    s.0.answered(9_000_000, 1, &Answer::NoQuorum(NoQuorum { unknown: true, why: "" }));
    s.is_objected_to_by(Check::AnsweredInTime);
}

#[test]
fn answer_that_was_over_before_the_call_is_objected_to() {
    let mut s = Story::new();
    let live = entry(1, ballot(5), vec![Binding::Pid(PROCESS)]);
    let value = live.encode();
    s.choose(5, None, &value);
    s.0.exited(PROCESS);
    s.choose(6, Some((5, &value)), &tombstone(ballot(5), Reason::Pid, id_of(0)));
    let operation = Operation::Get { register: key(b'k') };
    s.0.called(0, 0, &Call { id: 1, operation, mode: Mode::Answer, deadline_ms: None });
    s.0.answered(10, 1, &Answer::State(Some(Arc::new(live))));
    s.is_objected_to_by(Check::AnswerWasTrue);
}

#[test]
fn absence_told_while_a_key_is_live_is_objected_to() {
    let mut s = Story::new();
    s.choose(5, None, &entry(1, ballot(5), Vec::new()).encode());
    let prefix = paxoskv::kv::bucket_prefix("b");
    let get = Operation::Get { register: key(b'k') };
    s.0.called(0, 0, &Call { id: 1, operation: get, mode: Mode::Answer, deadline_ms: None });
    s.0.answered(10, 1, &Answer::State(None));
    s.is_objected_to_by(Check::AnswerWasTrue);
    let list = Operation::List { prefix, after: None };
    s.0.violations.clear();
    s.0.called(0, 0, &Call { id: 2, operation: list, mode: Mode::Answer, deadline_ms: None });
    s.0.answered(10, 2, &Answer::Page { keys: Vec::new(), next: None });
    s.is_objected_to_by(Check::AnswerWasTrue);
}

#[test]
fn key_whose_time_is_over_by_all_clocks_is_objected_to_at_rest() {
    let mut s = Story::new();
    s.choose(5, None, &entry(1, ballot(5), vec![Binding::Until(1000)]).encode());
    s.0.at_rest(&[100_000, 100_000, 900]);
    assert!(s.0.violations.is_empty(), "not by all: {:?}", s.0.violations);
    s.0.at_rest(&[100_000; 3]);
    s.is_objected_to_by(Check::PastTimesGo);
}
