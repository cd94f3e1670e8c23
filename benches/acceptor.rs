//! What the acceptor itself costs: the pure one, and the durable one over a store in memory. Nanoseconds a step; no
//! disk, no network.

use paxoskv::kv::peer::StoreOf;
use paxoskv::paxos::{Accepted, Acceptor, Ballot, Membership, NodeId, RegisterKey, Request, Value, Voter};
use paxoskv::storage::acceptor::{DurableAcceptor, Formed, Job};
use paxoskv::storage::ledger::Birth;
use paxoskv::storage::memory::Memory;
use std::hint::black_box;
use std::time::Instant;

const STEPS: u64 = 200_000;
const BATCH: u64 = 64;

fn key(n: u64) -> RegisterKey {
    paxoskv::kv::register_key("default", format!("benchmark/key/{n:020}").as_bytes())
}

fn value() -> Value {
    vec![0x58; 150].into()
}

fn report(what: &str, steps: u64, began: Instant) -> f64 {
    let ns = began.elapsed().as_nanos() as f64 / steps as f64;
    println!("{what:<58} {ns:>9.0} ns");
    ns
}

fn pure() -> f64 {
    let mut acceptor = Acceptor::recover(0);
    acceptor.raise_to(u64::MAX >> 20);
    let registers: Vec<RegisterKey> = (0..1000).map(key).collect();
    let began = Instant::now();
    for n in 0..STEPS {
        let register = registers[n as usize % registers.len()].clone();
        let ballot = Ballot::new(n + 1, NodeId(1));
        let request = Request::Prepare { register: register.clone(), ballot, condition: None };
        black_box(acceptor.step(&request, None, n));
        let request = Request::Accept { register, ballot, value: value() };
        black_box(acceptor.step(&request, None, n));
    }
    let write = report("pure: prepare and accept", STEPS, began);
    let record = Accepted { ballot: Ballot::new(1, NodeId(1)), value: value() };
    let began = Instant::now();
    for n in 0..STEPS {
        let request = Request::Query { register: registers[n as usize % registers.len()].clone() };
        black_box(acceptor.step(&request, Some(&record), n));
    }
    report("pure: query", STEPS, began);
    write
}

fn durable() -> f64 {
    let birth = Birth { store_id: [1; 16], life_id: [2; 16], boot_id: [3; 16] };
    let opened = DurableAcceptor::open(Memory::new(), &birth);
    let mut acceptor = opened.unwrap_or_else(|e| panic!("a store in memory opens: {e}")).acceptor;
    let voter = Voter { id: NodeId(1), name: "a".into() };
    let formed = Formed {
        cluster: "bench".into(),
        cluster_id: [0; 16],
        membership: Membership::new(1, vec![voter]),
        stores: vec![StoreOf { node: NodeId(1), store: [1; 16] }],
    };
    let mut run = |jobs: &[Job]| {
        let staged = acceptor.stage(jobs, 0).unwrap_or_else(|e| panic!("a store in memory reads: {e}"));
        black_box(acceptor.commit(staged).unwrap_or_else(|e| panic!("a store in memory writes: {e}")));
    };
    run(&[Job::Form(Box::new(formed))]);
    let batches = STEPS / BATCH / 4;
    let began = Instant::now();
    for batch in 0..batches {
        let step = |n| (key(batch * BATCH + n), Ballot::new(batch * BATCH + n + 1, NodeId(1)));
        let prepares: Vec<Job> = (0..BATCH)
            .map(step)
            .map(|(register, ballot)| Job::Paxos(Request::Prepare { register, ballot, condition: None }))
            .collect();
        run(&prepares);
        let accepts: Vec<Job> = (0..BATCH)
            .map(step)
            .map(|(register, ballot)| Job::Paxos(Request::Accept { register, ballot, value: value() }))
            .collect();
        run(&accepts);
    }
    report("durable over memory: prepare and accept, batches of 64", batches * BATCH, began)
}

fn main() {
    println!("The acceptor alone, {} byte values:", value().len());
    let (pure, durable) = (pure(), durable());
    println!("{:<58} {:>9.1} x", "what durability costs without a disk", durable / pure);
}
