//! What a careful program does while agents die: it repeats the request.

use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Repeats a request until it is answered.
pub struct Asker<'a> {
    sockets: &'a [PathBuf],
    callers: Vec<Option<Caller>>,
    at: usize,
    /// How long an answer is waited for before the request is repeated.
    patience: Duration,
    /// How many puts were sent a second time.
    pub repeated: usize,
}

impl<'a> Asker<'a> {
    /// One that asks the agent of its host, as applications do, and waits for it to come back.
    pub fn of_one_agent(socket: &'a [PathBuf]) -> Asker<'a> {
        Asker { sockets: socket, callers: vec![None], at: 0, patience: NEVER, repeated: 0 }
    }

    /// One that asks all agents in turn, and the next one when there is no answer.
    ///
    /// What it gave up on may still be under way at an agent that is slow, and be done after another agent has
    /// answered. So this is for keys that nobody else sets.
    pub fn of_all(at: usize, sockets: &'a [PathBuf]) -> Asker<'a> {
        let callers = sockets.iter().map(|_| None).collect();
        Asker { sockets, callers, at, patience: Duration::from_secs(1), repeated: 0 }
    }

    pub fn ask(&mut self, request: Request) -> Reply {
        let mut sent = false;
        until(format!("an answer to {}", request.op), || {
            self.at = (self.at + 1) % self.sockets.len();
            let caller = match &mut self.callers[self.at] {
                Some(caller) => caller,
                none => none.insert(Caller::connect_within(&self.sockets[self.at], self.patience).ok()?),
            };
            let retry = sent && request.op == "put";
            self.repeated += usize::from(retry);
            match caller.try_ask(Request { retry, ..request.clone() }) {
                Ok(reply) if reply.status != Status::NoQuorum => return Some(reply),
                // Nothing of it went to anybody: the next attempt is the first one.
                Ok(reply) if reply.outcome.as_deref() == Some("not_sent") => {}
                Ok(_) => sent = true,
                Err(_) => {
                    self.callers[self.at] = None;
                    sent = true;
                }
            }
            None
        })
    }
}

/// Ends the threads of a test also when it panics: it would wait for them for ever.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
