//! The thread that owns the store.
//!
//! It takes the jobs that have queued up, steps them in order, writes one batch, syncs once, then lets all the replies
//! go. One thread, because the check of a promise and the write that rests on it are one step; and because sled does
//! not bear more than one thread in its flush.

use super::Event;
use crate::limits::{JOBS, JOBS_PER_BATCH};
use crate::node::Stored;
use crate::paxos::Request;
use crate::storage::acceptor::{Done, DurableAcceptor, Job};
use crate::storage::{Store, StoreError};
use crate::transport::ConnectionId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// A batch takes no more jobs once their values have this many bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Who is to have what comes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This agent's own node.
    Node { nonce: u64 },
    /// A peer.
    Peer { connection: ConnectionId, nonce: u64 },
    /// Nobody.
    None,
}

/// What the store's thread tells the loop.
#[derive(Debug)]
pub(crate) enum StoreEvent {
    /// These may now be shown.
    Committed { done: Vec<(Origin, Done)>, stored: Vec<Stored>, bound: u64, commit: u64 },
    /// There was no room, and nothing was written: these are refused.
    NoSpace { origins: Vec<Origin>, why: String },
    /// The agent must stop: nothing of this batch, and nothing after it, may be shown.
    Failed(StoreError),
}

/// The loop's end of the thread.
pub(super) struct StoreThread {
    jobs: SyncSender<(Origin, Job)>,
    thread: JoinHandle<()>,
}

/// There are too many jobs already.
#[derive(Debug)]
pub(super) struct Full;

impl StoreThread {
    pub fn start<S: Store + 'static>(
        acceptor: DurableAcceptor<S>,
        events: mpsc::Sender<Event>,
    ) -> std::io::Result<StoreThread> {
        let (jobs, rx) = sync_channel(JOBS);
        let work = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| run(acceptor, &rx, &events)));
            if ended.is_err() {
                let cause = "its thread panicked; the log has the place".into();
                let event = StoreEvent::Failed(StoreError::Failed { operation: "the store", cause });
                // Fails only when the agent is stopping.
                let _ = events.blocking_send(Event::Store(event));
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(work)?;
        Ok(StoreThread { jobs, thread })
    }

    /// Queues a job.
    pub fn submit(&self, origin: Origin, job: Job) -> Result<(), Full> {
        match self.jobs.try_send((origin, job)) {
            Ok(()) => Ok(()),
            // A thread that has ended has said why, or the agent is stopping.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Full),
        }
    }

    /// Lets the thread finish what is queued, and closes the store.
    pub fn stop(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

fn run<S: Store>(mut acceptor: DurableAcceptor<S>, jobs: &Receiver<(Origin, Job)>, events: &mpsc::Sender<Event>) {
    while let Ok(first) = jobs.recv() {
        let mut bytes = weight(&first.1);
        let (mut origins, mut batch) = (vec![first.0], vec![first.1]);
        while batch.len() < JOBS_PER_BATCH && bytes < BATCH_BYTES {
            let Ok((origin, job)) = jobs.try_recv() else { break };
            bytes += weight(&job);
            origins.push(origin);
            batch.push(job);
        }
        let staged = acceptor.stage(&batch, super::clock::wall_ms());
        let event = match staged.and_then(|staged| acceptor.commit(staged)) {
            Ok(c) => {
                let done = origins.into_iter().zip(c.done).collect();
                StoreEvent::Committed { done, stored: c.stored, bound: c.bound, commit: c.commit }
            }
            Err(StoreError::NoSpace(why)) => StoreEvent::NoSpace { origins, why },
            Err(e) => StoreEvent::Failed(e),
        };
        let failed = matches!(event, StoreEvent::Failed(_));
        if events.blocking_send(Event::Store(event)).is_err() || failed {
            return;
        }
    }
}

fn weight(job: &Job) -> usize {
    match job {
        Job::Paxos(Request::Accept { value, .. }) => value.len(),
        _ => 0,
    }
}
