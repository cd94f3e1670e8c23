//! What a node remembers of puts whose outcome it does not know.
//!
//! Two things depend on it. A put that is repeated must not create a second life of its entry: it may create only if
//! what it finds is older than its first accept phase. And a put that is bound to a process must go when the process
//! has gone, even if somebody completes it only then: until its register has been settled it stays here.

use super::claims::Claims;
use crate::kv::{ProcessId, RequestId};
use crate::limits::{UNSETTLED_KEEP_US, UNSETTLED_PUTS};
use crate::paxos::{Ballot, RegisterKey};
use std::collections::{BTreeMap, BTreeSet};

/// One put of which an accept phase was begun, and whose outcome was not told.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub register: RegisterKey,
    /// The ballot of its first accept phase.
    pub first: Ballot,
    /// When that was, in microseconds.
    pub at_us: u64,
    /// What its key was to be bound to.
    pub process: Option<ProcessId>,
    /// Nothing of it can be completed any more; only its repetition is still of interest.
    pub settled: bool,
}

#[derive(Default)]
pub(super) struct PutMemory {
    puts: BTreeMap<RequestId, Remembered>,
    by_register: BTreeSet<(RegisterKey, RequestId)>,
    /// Those that may be forgotten, oldest first.
    settled: BTreeSet<(u64, RequestId)>,
}

impl PutMemory {
    pub fn get(&self, request: &RequestId) -> Option<&Remembered> {
        self.puts.get(request)
    }

    pub fn unsettled(&self) -> usize {
        self.puts.len() - self.settled.len()
    }

    /// Whether a further bound put could still be remembered if it came to that.
    pub fn has_room(&self) -> bool {
        self.unsettled() < UNSETTLED_PUTS
    }

    /// Remembers a put. If it is bound to a process, its claim on the register stays until it is settled.
    pub fn insert(&mut self, request: RequestId, mut put: Remembered, claims: &mut Claims) {
        if put.process.is_none() {
            // Nothing ever has to end it because of this node.
            put.settled = true;
        }
        if let Some(old) = self.puts.get(&request) {
            put.first = put.first.min(old.first);
            put.at_us = put.at_us.min(old.at_us);
        }
        self.remove(&request, claims);
        if put.settled {
            self.settled.insert((put.at_us, request));
        } else if let Some(process) = &put.process {
            claims.hold(process, &put.register);
        }
        self.by_register.insert((put.register.clone(), request));
        self.puts.insert(request, put);
        while self.settled.len() > UNSETTLED_PUTS {
            let Some((_, oldest)) = self.settled.first().copied() else { break };
            self.remove(&oldest, claims);
        }
    }

    /// Forgets a put, because its outcome was told after all.
    pub fn remove(&mut self, request: &RequestId, claims: &mut Claims) {
        let Some(put) = self.puts.remove(request) else { return };
        self.by_register.remove(&(put.register.clone(), *request));
        if !self.settled.remove(&(put.at_us, *request))
            && let Some(process) = &put.process
        {
            claims.drop_hold(process, &put.register);
        }
    }

    /// An accept phase of this node at `ballot` was completed: nothing older can be any more.
    pub fn settle(&mut self, register: &RegisterKey, ballot: Ballot, claims: &mut Claims) {
        let from = (register.clone(), [0; 16]);
        let here: Vec<RequestId> =
            self.by_register.range(from..).take_while(|(r, _)| r == register).map(|(_, q)| *q).collect();
        for request in here {
            let Some(put) = self.puts.get_mut(&request) else { continue };
            if put.first <= ballot && !put.settled {
                put.settled = true;
                self.settled.insert((put.at_us, request));
                if let Some(process) = &put.process {
                    claims.drop_hold(process, register);
                }
            }
        }
    }

    /// Forgets settled puts that nobody has asked about for long.
    pub fn forget_old(&mut self, now_us: u64, claims: &mut Claims) {
        while let Some((at, oldest)) = self.settled.first().copied() {
            if at.saturating_add(UNSETTLED_KEEP_US) > now_us {
                break;
            }
            self.remove(&oldest, claims);
        }
    }
}
