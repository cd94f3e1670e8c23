//! Effects, carried out.

use super::store::Origin;
use super::{Agent, Response, clock};
use crate::codec::peer::pack_request;
use crate::kv::ProcessId;
use crate::kv::peer::{PeerReply, PeerRequest};
use crate::node::{Effect, Input};
use crate::paxos::{NodeId, Refusal, Reply};
use crate::process::{self, ProcessError};
use crate::storage::acceptor::{Done, Job};
use tracing::{info, warn};

impl Agent {
    /// One input, then all its effects, then what those lead to.
    pub(super) fn handle(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.handle_inputs();
    }

    pub(super) fn handle_inputs(&mut self) {
        if self.handling {
            return;
        }
        self.handling = true;
        while let Some(input) = self.inputs.pop_front() {
            self.node.handle(clock::now(), input);
            while let Some(effect) = self.node.poll_effect() {
                self.carry_out(effect);
            }
        }
        self.handling = false;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Ask { to, nonce, request } => self.ask(&to, nonce, request),
            Effect::Answer { call, answer } => {
                if let Some(reply) = self.replies.remove(&call) {
                    reply.reply(Response::Answer(answer));
                }
            }
            Effect::Raise(counter) => self.submit(Origin::None, Job::Raise(counter)),
            Effect::Watch(process) => self.watch(process),
            Effect::Unwatch(process) => {
                self.unsure.remove(&process);
                self.unsure_said.remove(&process);
                self.exits.unwatch_process(&process);
            }
            Effect::Quorum(true) => info!("quorum reached: {}", self.reachable_names()),
            Effect::Quorum(false) => warn!("quorum lost: only {} can be reached", self.reachable_names()),
        }
    }

    fn reachable_names(&self) -> String {
        let membership = &self.identity.config.membership;
        let names: Vec<&str> = self.node.reachable().into_iter().filter_map(|id| membership.name(id)).collect();
        if names.is_empty() { "nobody".into() } else { names.join(", ") }
    }

    fn ask(&mut self, to: &[NodeId], nonce: u64, request: PeerRequest) {
        let me = self.identity.config.me;
        if to.iter().any(|voter| *voter != me) {
            // Packed once, whoever it goes to.
            let packed = pack_request(nonce, &request);
            for voter in to.iter().filter(|voter| **voter != me) {
                let connection = self.outgoing.get(voter).and_then(|id| self.connections.get_mut(id));
                // Without a connection it is lost, like any message may be; the node asks again when there is one.
                if let Some(connection) = connection {
                    connection.pending.push(packed.clone());
                }
            }
        }
        if to.contains(&me) {
            let job = match request {
                PeerRequest::Paxos(request) => Job::Paxos(request),
                PeerRequest::List { prefix, after } => Job::List { prefix, after },
                // A node says these to others only.
                PeerRequest::Bound(_) | PeerRequest::Heartbeat { .. } | PeerRequest::Unknown(_) => return,
            };
            self.submit(Origin::Node { nonce }, job);
        }
    }

    /// Gives a job to the store's thread; if that has too many, the asker is told.
    pub(super) fn submit(&mut self, origin: Origin, job: Job) {
        let forms = matches!(job, Job::Form(_));
        if self.store.submit(origin, job).is_err() {
            if forms {
                self.forming = None;
            }
            let busy = Done::Reply(PeerReply::Paxos(Reply::Refused(Refusal::Busy)));
            self.take_done(origin, busy);
        }
    }

    pub(super) fn take_done(&mut self, origin: Origin, done: Done) {
        match (origin, done) {
            (Origin::Node { nonce }, Done::Reply(reply)) => {
                self.handle(Input::Reply { from: self.identity.config.me, nonce, reply });
            }
            (Origin::Peer { connection, nonce }, Done::Reply(reply)) => self.reply(connection, nonce, &reply),
            (_, Done::Raised) => self.handle(Input::Raised(self.bound)),
            (_, Done::Formed) => {
                self.identity.formed = self.forming.take().or(self.identity.formed.take());
                info!("the cluster is formed: this agent votes");
                self.handle(Input::Voting(true));
                self.send_heartbeats();
            }
            // A raise or a forming that found no room: tried again with the next heartbeat.
            (Origin::None, Done::Reply(_)) => self.retry_raise = true,
        }
    }

    /// The store has no room: votes are refused until it has.
    pub(super) fn take_no_space(&mut self, origins: Vec<Origin>, why: &str) {
        if !self.no_space {
            warn!("no votes until there is space for the store: {why}");
        }
        self.no_space = true;
        // What was to be formed is not on the disk; the next heartbeat tries again.
        self.forming = None;
        // The acceptor began anew, with its floor at the bound. Unless this agent's counter says so, proposers that do
        // without this voter never come to try above its floor, and it would stay behind for good.
        self.handle(Input::Counter(self.bound));
        for origin in origins {
            let busy = Done::Reply(PeerReply::Paxos(Reply::Refused(Refusal::Busy)));
            self.take_done(origin, busy);
        }
    }

    /// Watches a process on which keys depend. What was put just now has its pidfd at hand; what was found in a store
    /// is looked for.
    pub(super) fn watch(&mut self, process: ProcessId) {
        let offered = self.offered.as_ref().filter(|p| p.id == process).cloned();
        let found = match offered {
            Some(identified) => Ok(identified),
            None => process::reopen(&process, self.boot_id),
        };
        let watched = match found {
            Ok(identified) => self.exits.watch_process(process, identified.pidfd).map_err(|e| e.to_string()),
            Err(ProcessError::Gone) => return self.inputs.push_back(Input::ProcessGone(process)),
            Err(e) => Err(e.to_string()),
        };
        if let Err(why) = watched {
            // Not knowing is not death: it is tried again.
            if self.unsure_said.insert(process) {
                warn!("{process} cannot be watched, trying again: {why}");
            }
            self.unsure.insert(process);
        }
    }
}
