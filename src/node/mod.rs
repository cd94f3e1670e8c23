//! One agent's mind: operations, rounds in flight, retries, and the upkeep of bindings. Inputs become effects; nothing
//! here reads a clock, a socket or a disk, so that whole clusters can run in one thread from one seed.
//!
//! An input is handled to its end by [`Node::handle`], then its effects are taken one by one from
//! [`Node::poll_effect`], then comes the next input. Time is part of the input. [`Node::next_wakeup`] tells when an
//! [`Input::Tick`] is due if nothing else happens before.
//!
//! Each register has two lanes. In the *round lane* one round at a time is under way; operations that arrive meanwhile
//! wait and are combined into the next. In the *read lane* one quorum read at a time is under way; a read that arrives
//! meanwhile waits for the next, since the one under way may have asked before it came. A quorum of voters that show
//! the same ballot answers a read; anything mixed is asked once more and then goes to the round lane.

mod claims;
mod finish;
mod listing;
mod op;
mod peers;
mod put;
mod reads;
mod rounds;
mod upkeep;

pub use op::{Answer, Call, CallId, Mode, NoQuorum, Operation};
pub use upkeep::Stored;

use crate::kv::ProcessId;
use crate::kv::peer::{BoundEntry, PeerReply, PeerRequest};
use crate::limits::PHASE_TIMEOUT_US;
use crate::paxos::{Membership, NodeId, RegisterKey};
use claims::Claims;
use listing::{Asked, Listing};
use peers::Peers;
use put::PutMemory;
use rounds::Register;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use upkeep::Upkeep;

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its own id.
    pub me: NodeId,
    /// The voters.
    pub membership: Membership,
    /// The boot of this host.
    pub boot_id: [u8; 16],
    /// The life of the store: nonces of different lives differ.
    pub life: u64,
    /// The counter above which ballots may be drawn: the bound of the earlier life.
    pub counter: u64,
    /// The durable bound: the counter up to which they may be drawn.
    pub bound: u64,
    /// For the jitter of retries.
    pub seed: u64,
}

/// The clocks at an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`, in microseconds.
    pub mono_us: u64,
    /// The wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// An application asks for something.
    Call(Call),
    /// A voter (perhaps this agent's own acceptor) answers.
    Reply {
        /// Who: the name of the connection, not of the message.
        from: NodeId,
        /// Which request.
        nonce: u64,
        /// The answer.
        reply: PeerReply,
    },
    /// Messages to this voter have a way.
    PeerUp(NodeId),
    /// They have none.
    PeerDown(NodeId),
    /// Another agent's highest counter, already found believable.
    Counter(u64),
    /// A voter holds these entries, which are bound to processes of this host.
    Bound(Vec<BoundEntry>),
    /// What this agent's own acceptor holds on disk: at the start all of it, later each change.
    Stored(Vec<Stored>),
    /// Ballots up to this counter may now be drawn.
    Raised(u64),
    /// This process of this host has exited (or is gone since before).
    ProcessGone(ProcessId),
    /// Whether this agent votes and proposes.
    Voting(bool),
    /// Time has passed.
    Tick,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask these voters; `to` may name this node itself, meaning its own acceptor.
    Ask {
        /// Whom.
        to: Vec<NodeId>,
        /// Ties the replies to the request.
        nonce: u64,
        /// What.
        request: PeerRequest,
    },
    /// Answer an application.
    Answer {
        /// Which call.
        call: CallId,
        /// What.
        answer: Answer,
    },
    /// Make the bound durable so that this counter can be used.
    Raise(u64),
    /// Watch this process of this host; tell by [`Input::ProcessGone`] when it has exited, at once if it is gone.
    Watch(ProcessId),
    /// No key depends on it any more.
    Unwatch(ProcessId),
    /// Whether a quorum can be reached has changed.
    Quorum(bool),
}

/// See the module's documentation.
pub struct Node {
    config: NodeConfig,
    now: Now,
    /// The highest ballot counter seen; the next own ballot is drawn above it.
    counter: u64,
    /// Counters up to here are durable.
    bound: u64,
    /// A raise is under way.
    raising: bool,
    voting: bool,
    peers: Peers,
    registers: BTreeMap<RegisterKey, Register>,
    /// Registers whose next round waits for the bound.
    wait_for_bound: BTreeSet<RegisterKey>,
    /// What a reply with this nonce is about.
    nonces: BTreeMap<u64, Awaited>,
    last_nonce: u64,
    listings: BTreeMap<u64, Listing>,
    /// Listings that wait: for a quorum, or for their turn.
    parked: BTreeMap<CallId, Asked>,
    /// Those that wait for their turn, in order.
    listing_queue: VecDeque<CallId>,
    timers: BTreeSet<(u64, Timer)>,
    /// Operations of applications under way.
    calls: usize,
    puts: PutMemory,
    claims: Claims,
    upkeep: Upkeep,
    effects: VecDeque<Effect>,
    random: u64,
}

struct Awaited {
    what: Awaiting,
    /// When it has waited long enough.
    until_us: u64,
}

#[derive(Clone, Debug)]
enum Awaiting {
    Round(RegisterKey),
    Read(RegisterKey),
    Local(CallId),
    Listing,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The phase with this nonce has waited long enough for a quorum.
    Phase(u64),
    /// The round with this nonce has waited long enough for more clocks.
    Clocks(u64),
    /// The round with this nonce was refused by one voter, and has waited long enough for the others.
    Refused(u64),
    /// The register may try again.
    Pause(RegisterKey),
    /// An operation that waits on this register has reached its deadline.
    Deadline(RegisterKey),
    /// A listing has waited for a quorum until its deadline.
    Parked(CallId),
    /// Upkeep has something to do.
    Upkeep,
}

impl Node {
    /// A node that does not vote yet and reaches nobody.
    pub fn new(config: NodeConfig) -> Node {
        let random = config.seed;
        Node {
            now: Now { mono_us: 0, wall_ms: 0 },
            counter: config.counter,
            bound: config.bound,
            raising: false,
            voting: false,
            peers: Peers::default(),
            registers: BTreeMap::new(),
            wait_for_bound: BTreeSet::new(),
            nonces: BTreeMap::new(),
            // A reply that was meant for an earlier life finds nobody.
            last_nonce: config.life << 40,
            listings: BTreeMap::new(),
            parked: BTreeMap::new(),
            listing_queue: VecDeque::new(),
            timers: BTreeSet::new(),
            calls: 0,
            puts: PutMemory::default(),
            claims: Claims::default(),
            upkeep: Upkeep::default(),
            effects: VecDeque::new(),
            random,
            config,
        }
    }

    /// Handles one input. Take the effects with [`Node::poll_effect`] before the next.
    pub fn handle(&mut self, now: Now, input: Input) {
        // The boot-time clock does not go back; should it, time stands still here.
        self.now = Now { mono_us: now.mono_us.max(self.now.mono_us), wall_ms: now.wall_ms };
        match input {
            Input::Call(call) => self.handle_call(call),
            Input::Reply { from, nonce, reply } => self.handle_reply(from, nonce, reply),
            Input::PeerUp(peer) => self.handle_peer_up(peer),
            Input::PeerDown(peer) => self.handle_peer_down(peer),
            Input::Counter(counter) => self.counter = self.counter.max(counter),
            Input::Bound(entries) => self.handle_bound(entries),
            Input::Stored(records) => self.handle_stored(records),
            Input::Raised(bound) => self.handle_raised(bound),
            Input::ProcessGone(process) => self.handle_process_gone(process),
            Input::Voting(voting) => self.handle_voting(voting),
            Input::Tick => {}
        }
        self.run_timers();
        self.run_duties();
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When an [`Input::Tick`] is due, by the clock of [`Now::mono_us`].
    pub fn next_wakeup(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The highest ballot counter seen, for the stamp of every frame.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Whether a majority of the voters can be reached.
    pub fn has_quorum(&self) -> bool {
        self.voting && self.peers.has_quorum(&self.config)
    }

    /// The voters that can be reached, this node included while it votes.
    pub fn reachable(&self) -> Vec<NodeId> {
        self.config.membership.all().filter(|v| self.is_reachable(*v)).collect()
    }

    /// Whether keys depend on this process.
    pub fn is_tracking(&self, process: &ProcessId) -> bool {
        self.claims.is_tracking(process)
    }

    /// How much is under way, for `status`.
    pub fn load(&self) -> Load {
        Load {
            calls: self.calls,
            registers: self.registers.len(),
            processes: self.claims.processes(),
            claims: self.claims.len(),
            unsettled_puts: self.puts.unsettled(),
            duties: self.upkeep.duties(),
        }
    }

    fn run_timers(&mut self) {
        while let Some((at, timer)) = self.timers.first().cloned() {
            if at > self.now.mono_us {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Phase(nonce) => self.handle_phase_timeout(nonce),
                Timer::Clocks(nonce) => self.handle_clocks_timeout(nonce),
                Timer::Refused(nonce) => self.handle_refused_too_long(nonce),
                Timer::Pause(register) => self.handle_pause_over(&register),
                Timer::Deadline(register) => self.handle_deadline(&register),
                Timer::Parked(call) => self.handle_parked_too_long(call),
                Timer::Upkeep => self.handle_upkeep_due(),
            }
        }
    }

    fn handle_reply(&mut self, from: NodeId, nonce: u64, reply: PeerReply) {
        match (self.awaiting(nonce), reply) {
            (Some(Awaiting::Round(register)), PeerReply::Paxos(reply)) => {
                self.handle_round_reply(&register, from, nonce, reply);
            }
            (Some(Awaiting::Read(register)), PeerReply::Paxos(reply)) => {
                self.handle_read_reply(&register, from, nonce, reply);
            }
            (Some(Awaiting::Local(call)), PeerReply::Paxos(reply)) => self.handle_local_reply(nonce, call, reply),
            (Some(Awaiting::Listing), PeerReply::Listing { entries, next }) => {
                self.handle_listing(from, nonce, entries, next);
            }
            // Late, repeated, meant for another life, or of a kind that was not asked for.
            _ => {}
        }
    }

    /// A new nonce, for a phase that waits for its replies no longer than [`PHASE_TIMEOUT_US`].
    fn draw_nonce(&mut self, what: Awaiting) -> u64 {
        self.last_nonce += 1;
        let until_us = self.now.mono_us.saturating_add(PHASE_TIMEOUT_US);
        self.nonces.insert(self.last_nonce, Awaited { what, until_us });
        self.timers.insert((until_us, Timer::Phase(self.last_nonce)));
        self.last_nonce
    }

    fn awaiting(&self, nonce: u64) -> Option<Awaiting> {
        self.nonces.get(&nonce).map(|a| a.what.clone())
    }

    /// What still comes under this nonce is ignored.
    fn drop_nonce(&mut self, nonce: u64) {
        if let Some(awaited) = self.nonces.remove(&nonce) {
            self.timers.remove(&(awaited.until_us, Timer::Phase(nonce)));
        }
    }

    /// A number below `end`, by SplitMix64 (Steele, Lea, Flood, *Fast splittable pseudorandom number generators*,
    /// 2014). The bias of the remainder does not matter for jitter.
    fn draw_below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end.max(1)
    }

    fn set_timer(&mut self, after_us: u64, timer: Timer) {
        self.timers.insert((self.now.mono_us.saturating_add(after_us), timer));
    }

    fn ask_all(&mut self, nonce: u64, request: PeerRequest) {
        let to = self.config.membership.all().filter(|v| self.is_reachable(*v)).collect();
        self.effects.push_back(Effect::Ask { to, nonce, request });
    }
}

/// How much a node has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Operations of applications.
    pub calls: usize,
    /// Registers with operations.
    pub registers: usize,
    /// Processes that keys depend on.
    pub processes: usize,
    /// Keys that depend on them.
    pub claims: usize,
    /// Puts that ended unknown and are not settled.
    pub unsettled_puts: usize,
    /// Expiries and other upkeep that waits or is under way.
    pub duties: usize,
}
