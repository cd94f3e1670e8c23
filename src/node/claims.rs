//! Which keys depend on which processes of this host.
//!
//! A claim stands while a put bound to the process is under way or unsettled (a *hold*), or while an entry is believed
//! to be live. It is a reason to watch the process, nothing more: whether there is something to expire is decided by
//! a round.

use crate::kv::ProcessId;
use crate::paxos::{Ballot, RegisterKey};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Claims {
    processes: BTreeMap<ProcessId, Process>,
    by_register: BTreeSet<(RegisterKey, ProcessId)>,
    /// Newly tracked or no longer tracked since last asked.
    changes: Vec<Change>,
}

/// What the watcher of processes is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Track(ProcessId),
    Untrack(ProcessId),
}

#[derive(Default)]
struct Process {
    dead: bool,
    registers: BTreeMap<RegisterKey, Claim>,
}

#[derive(Clone, Copy, Default)]
struct Claim {
    /// Puts under way or unsettled.
    holds: u32,
    /// The entry believed to be live.
    live: Option<Ballot>,
}

impl Claims {
    pub fn is_tracking(&self, process: &ProcessId) -> bool {
        self.processes.contains_key(process)
    }

    pub fn is_dead(&self, process: &ProcessId) -> bool {
        self.processes.get(process).is_some_and(|p| p.dead)
    }

    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    pub fn len(&self) -> usize {
        self.by_register.len()
    }

    /// The registers claimed for a process.
    pub fn registers_of(&self, process: &ProcessId) -> Vec<RegisterKey> {
        self.processes.get(process).map(|p| p.registers.keys().cloned().collect()).unwrap_or_default()
    }

    /// The processes with a claim on a register.
    pub fn processes_of(&self, register: &RegisterKey) -> Vec<ProcessId> {
        let from = (register.clone(), FIRST);
        self.by_register.range(from..).take_while(|(r, _)| r == register).map(|(_, p)| *p).collect()
    }

    /// Whether the process has this claim.
    pub fn has(&self, process: &ProcessId, register: &RegisterKey) -> bool {
        self.processes.get(process).is_some_and(|p| p.registers.contains_key(register))
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// A put bound to the process is under way.
    pub fn hold(&mut self, process: &ProcessId, register: &RegisterKey) {
        self.claim(process, register).holds += 1;
    }

    /// It no longer is.
    pub fn drop_hold(&mut self, process: &ProcessId, register: &RegisterKey) {
        if self.has(process, register) {
            let claim = self.claim(process, register);
            claim.holds = claim.holds.saturating_sub(1);
            self.drop_if_void(process, register);
        }
    }

    /// An entry bound to the process is live, or may be.
    pub fn set_live(&mut self, process: &ProcessId, register: &RegisterKey, token: Ballot) {
        let claim = self.claim(process, register);
        claim.live = claim.live.max(Some(token));
    }

    /// No entry bound to the process is live at this register, as was chosen at this ballot.
    pub fn set_not_live(&mut self, process: &ProcessId, register: &RegisterKey, at: Ballot) {
        if self.has(process, register) {
            let claim = self.claim(process, register);
            claim.live = claim.live.filter(|token| *token >= at);
            self.drop_if_void(process, register);
        }
    }

    /// The process has exited. Whether any key depends on it.
    pub fn set_dead(&mut self, process: &ProcessId) -> bool {
        match self.processes.get_mut(process) {
            Some(p) => {
                p.dead = true;
                true
            }
            None => false,
        }
    }

    fn claim(&mut self, process: &ProcessId, register: &RegisterKey) -> &mut Claim {
        if !self.processes.contains_key(process) {
            self.changes.push(Change::Track(*process));
        }
        self.by_register.insert((register.clone(), *process));
        self.processes.entry(*process).or_default().registers.entry(register.clone()).or_default()
    }

    fn drop_if_void(&mut self, process: &ProcessId, register: &RegisterKey) {
        let Some(p) = self.processes.get_mut(process) else { return };
        if p.registers.get(register).is_some_and(|c| c.holds == 0 && c.live.is_none()) {
            p.registers.remove(register);
            self.by_register.remove(&(register.clone(), *process));
        }
        if p.registers.is_empty() {
            self.processes.remove(process);
            self.changes.push(Change::Untrack(*process));
        }
    }
}

const FIRST: ProcessId = ProcessId { boot_id: [0; 16], pid: 0, start_ticks: 0, inode: 0 };
