//! Scenarios that once broke a rule, each driven message by message, and a walk among random faults.
//!
//! A scenario says which voters each phase reaches, what is lost and what comes late; then it asserts what the callers
//! were told, and what a quorum that saw something else finds afterwards.

mod endings;
mod full_disk;
mod listings;
mod random;
mod repetitions;
mod rounds;

use crate::trio::BOOT;
use paxoskv::kv::{Asker, Binding, Entry, Header, Holder, Kind, ProcessId, Reason, RequestId, register_key};
use paxoskv::node::{Answer, Mode, NoQuorum, Operation};
use paxoskv::paxos::{Ballot, NodeId, RegisterKey};
use std::sync::Arc;

fn key(name: &str) -> RegisterKey {
    register_key("b", name.as_bytes())
}

fn process(pid: u32) -> ProcessId {
    ProcessId { boot_id: BOOT, pid, start_ticks: 1, inode: u64::from(pid) }
}

/// A put of key `k` by an application of this node, with nothing to end it.
fn put(node: u16, request: u8) -> Operation {
    put_bound(node, request, &[])
}

fn put_bound(node: u16, request: u8, bindings: &[Binding]) -> Operation {
    Operation::Put { register: key("k"), entry: entry(node, [request; 16], bindings), retry: false }
}

/// The same put, sent again.
fn repeated(put: &Operation) -> Operation {
    match put {
        Operation::Put { register, entry, .. } => {
            Operation::Put { register: register.clone(), entry: entry.clone(), retry: true }
        }
        other => other.clone(),
    }
}

fn entry(node: u16, request: RequestId, bindings: &[Binding]) -> Arc<Entry> {
    let process = bindings.iter().find_map(|b| if let Binding::Pid(p) = b { Some(*p) } else { None });
    let header = Header {
        kind: Kind::Live,
        reason: Reason::None,
        token: Ballot::ZERO,
        request,
        node: NodeId(node),
        incarnation: 1,
        bindings: bindings.to_vec(),
    };
    let holder = Holder { process, uid: 1000, since_ms: 0, comm: "x".into() };
    Arc::new(Entry { header, holder, value: request.as_slice().into() })
}

fn get() -> Operation {
    Operation::Get { register: key("k") }
}

/// A release of key `k` by root.
fn release(token: Option<Ballot>) -> Operation {
    Operation::Release { register: key("k"), token, by: Asker { process: None, uid: 0 } }
}

/// Waits for a quorum for so long.
const fn waiting(ms: u64) -> (Mode, Option<u64>) {
    (Mode::Retry, Some(ms))
}

fn is_unknown(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::NoQuorum(NoQuorum { unknown: true, .. })))
}

fn is_not_sent(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::NoQuorum(NoQuorum { unknown: false, .. })))
}

fn is_released(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::Released(_)))
}
