//! Exits of processes: what is waited for, and who is told.

use super::Event;
use crate::kv::ProcessId;
use crate::process::ExitWatch;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// The watched processes of this agent: those that keys depend on, and those that own connections.
#[derive(Clone)]
pub(crate) struct Exits(Arc<Inner>);

struct Inner {
    watch: ExitWatch,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    last_key: u64,
    by_key: BTreeMap<u64, Waiter>,
    keys_of: BTreeMap<ProcessId, u64>,
}

enum Waiter {
    Keys(ProcessId),
    Connection(oneshot::Sender<()>),
}

/// A connection's wait for the exit of its connector; dropping it ends the wait.
pub(crate) struct ConnectorWatch {
    exits: Exits,
    key: u64,
    /// Becomes ready when the connector has exited.
    pub exited: oneshot::Receiver<()>,
}

impl Drop for ConnectorWatch {
    fn drop(&mut self) {
        lock(&self.exits.0.waiting).by_key.remove(&self.key);
        self.exits.0.watch.unwatch(self.key);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Nothing that holds the lock can panic half way through a change.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exits {
    pub fn start(events: mpsc::Sender<Event>) -> io::Result<Exits> {
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let theirs = waiting.clone();
        let watch = ExitWatch::start(move |key| {
            let waiter = lock(&theirs).by_key.remove(&key);
            match waiter {
                Some(Waiter::Keys(process)) => {
                    lock(&theirs).keys_of.remove(&process);
                    // Fails only when the agent is stopping.
                    let _ = events.blocking_send(Event::Exited(process));
                }
                Some(Waiter::Connection(tell)) => drop(tell.send(())),
                None => {}
            }
        })?;
        Ok(Exits(Arc::new(Inner { watch, waiting })))
    }

    /// Watches a process on which keys depend, once however often it is asked for.
    pub fn watch_process(&self, process: ProcessId, pidfd: Arc<OwnedFd>) -> io::Result<()> {
        let key = {
            let mut waiting = lock(&self.0.waiting);
            if waiting.keys_of.contains_key(&process) {
                return Ok(());
            }
            waiting.last_key += 1;
            let key = waiting.last_key;
            waiting.by_key.insert(key, Waiter::Keys(process));
            waiting.keys_of.insert(process, key);
            key
        };
        self.0.watch.watch(key, pidfd).inspect_err(|_| {
            self.forget(&process);
        })
    }

    pub fn unwatch_process(&self, process: &ProcessId) {
        if let Some(key) = self.forget(process) {
            self.0.watch.unwatch(key);
        }
    }

    fn forget(&self, process: &ProcessId) -> Option<u64> {
        let mut waiting = lock(&self.0.waiting);
        let key = waiting.keys_of.remove(process)?;
        waiting.by_key.remove(&key);
        Some(key)
    }

    /// Watches the process that owns a connection.
    pub fn watch_connector(&self, pidfd: Arc<OwnedFd>) -> io::Result<ConnectorWatch> {
        let (tx, exited) = oneshot::channel();
        let key = {
            let mut waiting = lock(&self.0.waiting);
            waiting.last_key += 1;
            let key = waiting.last_key;
            waiting.by_key.insert(key, Waiter::Connection(tx));
            key
        };
        let watch = ConnectorWatch { exits: self.clone(), key, exited };
        self.0.watch.watch(key, pidfd)?;
        Ok(watch)
    }
}
