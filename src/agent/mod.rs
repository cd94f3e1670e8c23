//! The agent: starts everything, runs the loop, stops.
//!
//! One loop takes one input at a time, has the node handle it, and carries out all its effects before the next. It is
//! the only reader of clocks. The thread that owns the store (`store`), the thread that waits for exits
//! (`process::watch`) and the thread that serves applications (`server`) talk to it by channels.

mod actions;
mod clock;
mod exits;
mod peers;
mod store;
mod wire;

use crate::config::{Backend, Config};
use crate::kv::peer::{Life, StoreId};
use crate::kv::{Binding, Holder, ProcessId, RequestId};
use crate::limits::{HEARTBEAT_US, INPUTS};
use crate::node::{Answer, Input, Load, Mode, Node, NodeConfig, Stored};
use crate::paxos::{NodeId, RegisterKey};
use crate::process::{self, Identified, ProcessError};
use crate::storage::acceptor::{DurableAcceptor, Formed, Opened};
use crate::storage::ledger::Birth;
use crate::storage::memory::Memory;
use crate::storage::sled::Sled;
use crate::storage::{Store, StoreError};
use crate::transport::{self, ConnectionId, Transport};
pub(crate) use exits::{ConnectorWatch, Exits};
use peers::Identity;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use store::{StoreEvent, StoreThread};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

/// How many inputs are handled before what they want sent is sent.
const INPUTS_PER_TURN: usize = 512;

/// Why an agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The store: nothing may be answered any more. The exit status is one that a supervisor does not restart.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The configuration and the store disagree, or a field cannot be used.
    #[error("{0}")]
    Config(String),
    /// The system refused something that the agent cannot do without.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Processes cannot be told apart on this system.
    #[error("this system does not tell processes apart: {0}")]
    Process(#[from] ProcessError),
}

/// What the loop is told.
#[derive(Debug)]
pub(crate) enum Event {
    Transport(transport::Event),
    Store(StoreEvent),
    Exited(ProcessId),
    Ask(Ask),
    /// Answer what is under way, begin nothing new, then end.
    Stop,
}

/// A question of an application.
#[derive(Debug)]
pub(crate) struct Ask {
    pub question: Question,
    pub reply: Box<dyn Replier>,
}

/// Takes the one reply to a question. Must not block.
pub(crate) trait Replier: Send + std::fmt::Debug {
    fn reply(self: Box<Self>, reply: Response);
}

#[derive(Debug)]
pub(crate) enum Question {
    Put(Box<Put>),
    Operation { operation: crate::node::Operation, mode: Mode, deadline_ms: Option<u64> },
    Now,
    Facts,
}

/// A put, before the loop has stamped it.
#[derive(Debug)]
pub(crate) struct Put {
    pub register: RegisterKey,
    pub value: Arc<[u8]>,
    pub request: RequestId,
    pub retry: bool,
    /// Whom to bind to, held by its pidfd.
    pub bind: Option<Identified>,
    pub until_ms: Option<u64>,
    /// The caller; its time is set by the loop.
    pub holder: Holder,
    pub mode: Mode,
    pub deadline_ms: Option<u64>,
}

/// What an application is told.
#[derive(Debug)]
pub(crate) enum Response {
    Answer(Answer),
    Now(u64),
    Facts(Box<Facts>),
}

/// What `status` tells.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub quorum: bool,
    pub nodes: Vec<(NodeId, String, bool)>,
    pub me: NodeId,
    pub not_voting: Option<String>,
    /// What is wrong with peers, by name.
    pub complaints: Vec<(String, String)>,
    pub life: Life,
    pub commit: u64,
    pub bound: u64,
    pub counter: u64,
    pub load: Load,
    pub backend: &'static str,
    pub store: StoreId,
    pub insecure: bool,
    pub trying_out: bool,
    pub data_dir: String,
    pub cluster: String,
    pub up_ms: u64,
}

/// A running agent, seen from the server's side.
#[derive(Clone)]
pub(crate) struct AgentHandle {
    pub events: mpsc::Sender<Event>,
    pub exits: Exits,
    pub boot_id: [u8; 16],
    pub config: Arc<Config>,
}

/// The loop's state.
struct Agent {
    node: Node,
    identity: Identity,
    store: StoreThread,
    backend: &'static str,
    exits: Exits,
    boot_id: [u8; 16],
    connections: BTreeMap<ConnectionId, wire::Connection>,
    /// The connection on which a peer is asked.
    outgoing: BTreeMap<NodeId, ConnectionId>,
    /// What was last said about a peer that cannot be reached.
    complaints: BTreeMap<NodeId, wire::Complaint>,
    replies: BTreeMap<u64, Box<dyn Replier>>,
    last_call: u64,
    /// Processes that could be neither watched nor found dead.
    unsure: BTreeSet<ProcessId>,
    /// Those of which that was said.
    unsure_said: BTreeSet<ProcessId>,
    /// Held for the put under way, until the node wants it watched.
    offered: Option<Identified>,
    /// Effects that are inputs again.
    inputs: VecDeque<Input>,
    commit: u64,
    bound: u64,
    forming: Option<Formed>,
    /// A loop over inputs is under way; what it meets is queued.
    handling: bool,
    /// The store has no room; said once.
    no_space: bool,
    /// A raise of the bound found no room.
    retry_raise: bool,
    heartbeats: u64,
    next_heartbeat_us: u64,
    started_us: u64,
}

/// Runs an agent until `stop` resolves. `serve` is called once the agent is ready, with a handle on it, and gives the
/// task of the server, which ends when it is told to.
pub(crate) async fn run<F>(config: Config, stop: impl Future<Output = ()>, serve: F) -> Result<(), AgentError>
where
    F: FnOnce(AgentHandle) -> Result<Box<dyn FnOnce() + Send>, AgentError>,
{
    let boot_id = process::boot_id()?;
    let (events, inputs) = mpsc::channel(INPUTS);
    let store: Box<dyn Store> = match config.backend {
        Backend::Sled => Box::new(Sled::open(&config.data_dir)?),
        Backend::Memory => Box::new(Memory::new()),
    };
    let backend = store.name();
    let birth = Birth { store_id: random()?, life_id: random()?, boot_id };
    let Opened { acceptor, earlier_bound, stored, registers } = DurableAcceptor::open(store, &birth)?;
    check_formed(&config, &acceptor)?;
    let (life, commit, bound) = (acceptor.life(), acceptor.last_commit(), acceptor.bound());
    let identity = Identity::new(config.clone(), acceptor.store_id(), life, acceptor.formed().cloned(), earlier_bound);
    info!(
        "store: {backend} in {}, {registers} registers, life {}, commit {commit}",
        config.data_dir.display(),
        life.number
    );
    let system = |what: &str| {
        let what = what.to_owned();
        move |cause| AgentError::System { what, cause }
    };
    let exits = Exits::start(events.clone()).map_err(system("cannot start the watch for exits"))?;
    let store = StoreThread::start(acceptor, events.clone()).map_err(system("cannot start the store's thread"))?;
    let transport = start_transport(&config, &events).await?;
    let node = Node::new(NodeConfig {
        me: config.me,
        membership: config.membership.clone(),
        boot_id,
        life: life.number,
        counter: earlier_bound,
        bound,
        seed: u64::from_be_bytes(random()?),
    });
    let mut agent = Agent::new(node, identity, store, backend, exits.clone(), boot_id, (commit, bound));
    agent.begin(stored);
    let handle = AgentHandle { events: events.clone(), exits, boot_id, config: Arc::new(config) };
    let stop_serving = serve(handle)?;
    let outcome = agent.run(inputs, events, stop, stop_serving).await;
    transport.stop().await;
    // The store's thread may wait for room in the inputs, which nobody reads any more: they are closed by now.
    let Agent { store, .. } = agent;
    store.stop();
    outcome
}

fn random<const N: usize>() -> Result<[u8; N], AgentError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| AgentError::System { what: "no random numbers".into(), cause: io::Error::other(e) })?;
    Ok(bytes)
}

/// The file is read for the membership only until the cluster is formed. Editing it on one host after another would
/// let two minorities decide.
fn check_formed<S: Store>(config: &Config, acceptor: &DurableAcceptor<S>) -> Result<(), AgentError> {
    let Some(formed) = acceptor.formed() else { return Ok(()) };
    if formed.cluster_id == config.cluster_id() && formed.membership == config.membership {
        return Ok(());
    }
    let voters = |m: &crate::paxos::Membership| {
        m.voters.iter().map(|v| format!("{} (id {})", v.name, v.id)).collect::<Vec<_>>().join(", ")
    };
    Err(AgentError::Config(format!(
        "the configuration disagrees with the cluster that the store in {} belongs to\n  \
         store: cluster \"{}\", voters {}\n  file:  cluster \"{}\", voters {}\n\
         Put the file back as it was, or use another data_dir for another cluster. \
         Changing the voters of a formed cluster is not possible in this version.",
        config.data_dir.display(),
        formed.cluster,
        voters(&formed.membership),
        config.cluster,
        voters(&config.membership),
    )))
}

async fn start_transport(config: &Config, events: &mpsc::Sender<Event>) -> Result<Transport, AgentError> {
    let Some(listen) = config.address(config.me) else { return Ok(Transport::none()) };
    let peers = config.addresses.iter().copied().filter(|(id, _)| *id != config.me).collect();
    let (tx, mut rx) = mpsc::channel(INPUTS);
    let transport = Transport::start(listen, peers, tx).await.map_err(|cause| AgentError::System {
        what: format!("cannot listen for peers on {listen} (the address of voter \"{}\")", config.node),
        cause,
    })?;
    let events = events.clone();
    tokio::spawn(async move {
        while let Some(event) = rx.recv().await {
            if events.send(Event::Transport(event)).await.is_err() {
                return;
            }
        }
    });
    if config.insecure_peers {
        warn!("insecure_peers is set: whoever can reach {listen} can take part in the cluster");
    } else {
        warn!("peers do not authenticate each other (no certificates): only loopback addresses are used");
    }
    Ok(transport)
}

impl Agent {
    fn new(
        node: Node,
        identity: Identity,
        store: StoreThread,
        backend: &'static str,
        exits: Exits,
        boot_id: [u8; 16],
        (commit, bound): (u64, u64),
    ) -> Agent {
        Agent {
            node,
            identity,
            store,
            backend,
            exits,
            boot_id,
            connections: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            complaints: BTreeMap::new(),
            replies: BTreeMap::new(),
            last_call: 0,
            unsure: BTreeSet::new(),
            unsure_said: BTreeSet::new(),
            offered: None,
            inputs: VecDeque::new(),
            commit,
            bound,
            forming: None,
            handling: false,
            no_space: false,
            retry_raise: false,
            heartbeats: 0,
            next_heartbeat_us: 0,
            started_us: clock::mono_us(),
        }
    }

    /// What is known at the start.
    fn begin(&mut self, stored: Vec<Stored>) {
        let size = self.identity.config.membership.all().count();
        info!("cluster \"{}\", {size} voters, this is {}", self.identity.config.cluster, self.identity.config.node);
        if self.identity.config.trying_out {
            warn!("a cluster of one, without a configuration: for trying out; nothing survives the loss of this host");
        }
        self.handle(Input::Stored(stored));
        if self.identity.formed.is_some() {
            self.handle(Input::Voting(true));
        } else {
            self.form_if_possible();
        }
    }

    async fn run(
        &mut self,
        mut inputs: mpsc::Receiver<Event>,
        events: mpsc::Sender<Event>,
        stop: impl Future<Output = ()>,
        stop_serving: Box<dyn FnOnce() + Send>,
    ) -> Result<(), AgentError> {
        let mut stop = std::pin::pin!(stop);
        let mut stop_serving = Some(stop_serving);
        let mut drain_until = None;
        loop {
            let event = tokio::select! {
                biased;
                event = inputs.recv() => event,
                () = &mut stop, if stop_serving.is_some() => {
                    info!("stopping: {} operations under way", self.replies.len());
                    if let Some(stop_serving) = stop_serving.take() {
                        // It joins a thread that waits for replies from here.
                        std::thread::spawn({
                            let events = events.clone();
                            move || { stop_serving(); let _ = events.blocking_send(Event::Stop); }
                        });
                    }
                    drain_until = Some(clock::mono_us() + crate::limits::DRAIN_MS * 1000 * 2);
                    None
                }
                () = sleep_until(self.next_wakeup(drain_until)) => None,
            };
            let mut next = event;
            for _ in 0..INPUTS_PER_TURN {
                match next {
                    None => break,
                    Some(Event::Stop) => return Ok(()),
                    Some(Event::Store(StoreEvent::Failed(e))) => {
                        error!("the store failed, nothing more is answered: {e}");
                        return Err(AgentError::Store(e));
                    }
                    Some(event) => self.take(event),
                }
                next = inputs.try_recv().ok();
            }
            if let Some(event) = next {
                self.take_last(event)?;
            }
            self.tick();
            self.flush();
            if drain_until.is_some_and(|t| clock::mono_us() >= t) {
                warn!("stopping with {} operations unanswered", self.replies.len());
                return Ok(());
            }
        }
    }

    /// The input that was taken when the turn was over.
    fn take_last(&mut self, event: Event) -> Result<(), AgentError> {
        match event {
            Event::Store(StoreEvent::Failed(e)) => Err(AgentError::Store(e)),
            event => {
                self.take(event);
                Ok(())
            }
        }
    }

    fn next_wakeup(&self, drain_until: Option<u64>) -> u64 {
        let node = self.node.next_wakeup().unwrap_or(u64::MAX);
        node.min(self.next_heartbeat_us).min(drain_until.unwrap_or(u64::MAX))
    }

    fn tick(&mut self) {
        self.handle(Input::Tick);
        if clock::mono_us() >= self.next_heartbeat_us {
            self.next_heartbeat_us = clock::mono_us() + HEARTBEAT_US;
            self.send_heartbeats();
            self.form_if_possible();
            if std::mem::take(&mut self.retry_raise) {
                self.handle(Input::Raised(self.bound));
            }
            for process in std::mem::take(&mut self.unsure) {
                self.watch(process);
            }
            self.handle_inputs();
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Transport(event) => self.take_transport(event),
            Event::Store(StoreEvent::Committed { done, stored, bound, commit }) => {
                if commit != self.commit && self.no_space {
                    self.no_space = false;
                    info!("there is space for the store again");
                }
                (self.bound, self.commit) = (bound, commit);
                if !stored.is_empty() {
                    self.handle(Input::Stored(stored));
                }
                for (origin, done) in done {
                    self.take_done(origin, done);
                }
            }
            Event::Store(StoreEvent::NoSpace { origins, why }) => self.take_no_space(origins, &why),
            Event::Exited(process) => self.handle(Input::ProcessGone(process)),
            Event::Ask(ask) => self.take_ask(ask),
            // Handled by the loop itself.
            Event::Store(StoreEvent::Failed(_)) | Event::Stop => {}
        }
    }

    fn take_ask(&mut self, Ask { question, reply }: Ask) {
        match question {
            Question::Now => reply.reply(Response::Now(clock::wall_ms())),
            Question::Facts => reply.reply(Response::Facts(Box::new(self.facts()))),
            Question::Put(put) => self.take_put(*put, reply),
            Question::Operation { operation, mode, deadline_ms } => {
                let id = self.expect_answer(reply);
                self.handle(Input::Call(crate::node::Call { id, operation, mode, deadline_ms }));
            }
        }
    }

    fn expect_answer(&mut self, reply: Box<dyn Replier>) -> u64 {
        self.last_call += 1;
        self.replies.insert(self.last_call, reply);
        self.last_call
    }

    fn take_put(&mut self, put: Put, reply: Box<dyn Replier>) {
        let now_ms = clock::wall_ms();
        // A repeated put may have been carried out: its entry has to be looked for.
        if !put.retry && put.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            return reply.reply(Response::Answer(Answer::Invalid("`until` is not in the future")));
        }
        // Asked last, of the pidfd itself; should it exit right afterwards, its exit expires the key.
        if !put.retry && put.bind.as_ref().is_some_and(|p| process::has_exited(&p.pidfd).unwrap_or(true)) {
            return reply.reply(Response::Answer(Answer::Invalid("the process to bind to has exited")));
        }
        let pid = put.bind.as_ref().map(|p| Binding::Pid(p.id));
        let until = put.until_ms.map(Binding::Until);
        let header = crate::kv::Header {
            kind: crate::kv::Kind::Live,
            reason: crate::kv::Reason::None,
            token: crate::paxos::Ballot::ZERO,
            request: put.request,
            node: self.identity.config.me,
            incarnation: 1,
            bindings: pid.into_iter().chain(until).collect(),
        };
        let holder = Holder { since_ms: now_ms, ..put.holder };
        let entry = Arc::new(crate::kv::Entry { header, holder, value: put.value });
        let operation = crate::node::Operation::Put { register: put.register, entry, retry: put.retry };
        let id = self.expect_answer(reply);
        self.offered = put.bind;
        self.handle(Input::Call(crate::node::Call { id, operation, mode: put.mode, deadline_ms: put.deadline_ms }));
        self.offered = None;
    }

    fn why_not_voting(&self) -> Option<String> {
        let full = || self.no_space.then(|| "there is no space for the store; make some".to_owned());
        self.identity.why_not_voting().or_else(full)
    }

    fn facts(&self) -> Facts {
        let reachable = self.node.reachable();
        let config = &self.identity.config;
        let nodes = config.membership.voters.iter().map(|v| (v.id, v.name.clone(), reachable.contains(&v.id)));
        Facts {
            quorum: self.node.has_quorum(),
            nodes: nodes.collect(),
            me: config.me,
            not_voting: self.why_not_voting(),
            complaints: self.complaints.iter().map(|(peer, c)| (self.name(*peer), c.why.clone())).collect(),
            life: self.identity.life,
            commit: self.commit,
            bound: self.bound,
            counter: self.node.counter(),
            load: self.node.load(),
            backend: self.backend,
            store: self.identity.store,
            insecure: config.insecure_peers,
            trying_out: config.trying_out,
            data_dir: config.data_dir.display().to_string(),
            cluster: config.cluster.clone(),
            up_ms: (clock::mono_us() - self.started_us) / 1000,
        }
    }
}

async fn sleep_until(mono_us: u64) {
    let wait_us = mono_us.saturating_sub(clock::mono_us());
    tokio::time::sleep(Duration::from_micros(wait_us.min(HEARTBEAT_US))).await;
}

/// The answer to a handshake that is wanted.
type HelloAnswer = oneshot::Sender<crate::kv::peer::Hello>;
