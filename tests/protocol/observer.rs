//! Sees all that happens in a cluster and objects to what must not be. It knows the protocol's claims, not how the
//! code keeps them: from what nodes ask, what acceptors have on disk, and what callers are told, it works out what is
//! chosen.

use crate::host::{host_of, id_of};
use paxoskv::kv::peer::{PeerReply, PeerRequest};
use paxoskv::kv::{Entry, ProcessId, Reason, RequestId, State};
use paxoskv::node::Call;
use paxoskv::paxos::{Accepted, Ballot, RegisterKey, Reply, Request, Value};
use paxoskv::storage::memory::Memory;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod answers;
mod rest;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// No ballot is drawn twice.
    BallotDrawnOnce,
    /// Nothing accepted, and no ballot above the durable bound, is shown before it is durable.
    DurableBeforeShown,
    /// A proposal rests on the promises of a quorum.
    PromisedByQuorum,
    /// A proposal keeps what the promises showed, or changes it as a change may.
    LegalChange,
    /// One ballot, one value.
    OneValuePerBallot,
    /// Each chosen value descends from every value that is chosen at a lower ballot.
    ChosenInOneChain,
    /// An entry ends because its process has exited, its time is over, or a release was asked for.
    EndedForAReason,
    /// One request creates at most one life.
    OneLifePerRequest,
    /// What a caller is told was so at some moment of its call.
    AnswerWasTrue,
    /// `created` is told to the request that created the entry, and to no other.
    CreatedIsFirst,
    /// "It never will" is true.
    NeverMeansNever,
    /// Each call is answered exactly once.
    AnsweredOnce,
    /// A call is answered soon after its deadline at the latest.
    AnsweredInTime,
    /// At rest, no entry is live whose process has exited.
    DeadHoldNothing,
    /// At rest, no entry is live whose time is over by all clocks.
    PastTimesGo,
}

/// An entry in few words.
pub fn brief(entry: &Entry) -> String {
    let h = &entry.header;
    let pid = h.bound_process().map(|p| format!(" pid {} of boot {}", p.pid, p.boot_id[1])).unwrap_or_default();
    let until = h.until_ms().map(|ms| format!(" until {ms}")).unwrap_or_default();
    let request = u16::from_be_bytes([h.request[0], h.request[1]]);
    format!("{:?} by request {request:04x} of node {}{pid}{until}", h.token, h.node)
}

fn brief_state(state: Option<&State>) -> String {
    match state {
        Some(State::Live(entry)) => format!("live {}", brief(entry)),
        Some(State::Ended { token, reason }) => format!("ended {token:?} ({reason:?})"),
        None => "unreadable".into(),
    }
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub check: Check,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

/// A round's prepare phase, as its node has seen it.
struct Preparing {
    register: RegisterKey,
    promises: BTreeMap<usize, Option<Accepted>>,
    /// Those that refused before they promised; a node need not count what they say later.
    refused: BTreeSet<usize>,
}

struct Proposal {
    value: Value,
    state: Option<State>,
    /// The highest ballot that the promises showed.
    base: Option<Ballot>,
    votes: BTreeSet<usize>,
    /// It is chosen, or what is chosen descends from it.
    in_chain: bool,
}

/// What happened at one register.
#[derive(Default)]
struct History {
    proposals: BTreeMap<Ballot, Proposal>,
    chosen: BTreeSet<Ballot>,
}

struct Asking {
    call: Call,
    host: usize,
    at_us: u64,
    /// For each register, the highest ballot that was chosen when the call was made.
    since: BTreeMap<RegisterKey, Ballot>,
    answered_us: Option<u64>,
    lost: bool,
}

#[derive(Default)]
struct Requested {
    tokens: BTreeSet<Ballot>,
    /// Its caller was told that it never will be.
    denied: bool,
}

#[derive(Default)]
pub struct Observer {
    voters: usize,
    ballots: BTreeMap<Ballot, (usize, u64)>,
    rounds: BTreeMap<Ballot, Preparing>,
    asks: BTreeMap<(usize, u64), Request>,
    histories: BTreeMap<RegisterKey, History>,
    calls: BTreeMap<u64, Asking>,
    requests: BTreeMap<RequestId, Requested>,
    releases: BTreeSet<(RegisterKey, Option<Ballot>)>,
    dead: BTreeSet<ProcessId>,
    /// The highest time that each host's clock has shown.
    clocks: Vec<u64>,
    pub violations: Vec<Violation>,
}

impl Observer {
    pub fn new(voters: usize) -> Observer {
        Observer { voters, clocks: vec![0; voters], ..Observer::default() }
    }

    fn object(&mut self, check: Check, what: String) {
        self.violations.push(Violation { check, what });
    }

    fn is_quorum(&self, n: usize) -> bool {
        2 * n > self.voters
    }

    /// Whether a majority of the clocks has shown a later time.
    fn is_past(&self, ms: u64) -> bool {
        self.is_quorum(self.clocks.iter().filter(|c| **c > ms).count())
    }

    pub fn clock(&mut self, host: usize, wall_ms: u64) {
        self.clocks[host] = self.clocks[host].max(wall_ms);
    }

    pub fn exited(&mut self, process: ProcessId) {
        self.dead.insert(process);
    }

    /// How many ballots were chosen.
    pub fn chosen(&self) -> usize {
        self.histories.values().map(|h| h.chosen.len()).sum()
    }

    /// How many entries have lived.
    pub fn lives(&self) -> usize {
        self.requests.values().map(|r| r.tokens.len()).sum()
    }

    /// What is chosen at a register, and at which ballot.
    pub fn current(&self, register: &RegisterKey) -> Option<(Ballot, State)> {
        let history = self.histories.get(register)?;
        let ballot = *history.chosen.last()?;
        Some((ballot, history.proposals.get(&ballot)?.state.clone()?))
    }

    /// The live entry that is chosen at a register.
    pub fn live(&self, register: &RegisterKey) -> Option<Entry> {
        self.current(register).and_then(|(_, state)| state.live().map(|e| (**e).clone()))
    }

    /// All that was proposed, in the order of ballots.
    pub fn history(&self) -> Vec<(RegisterKey, Ballot, Value)> {
        let all = self.histories.iter().flat_map(|(r, h)| h.proposals.iter().map(move |(b, p)| (r, b, p)));
        all.map(|(register, ballot, proposal)| (register.clone(), *ballot, proposal.value.clone())).collect()
    }

    pub fn registers(&self) -> Vec<RegisterKey> {
        self.histories.keys().cloned().collect()
    }

    /// The entries that were ever chosen at a register or led to what was.
    pub fn tokens(&self, register: &RegisterKey) -> Vec<Ballot> {
        let chain = self.histories.get(register).into_iter().flat_map(|h| &h.proposals).filter(|(_, p)| p.in_chain);
        let live = chain.filter_map(|(_, p)| p.state.as_ref()?.live().map(|e| e.header.token));
        live.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A node asks voters for something.
    pub fn asked(&mut self, host: usize, nonce: u64, request: &PeerRequest, durable_bound: u64) {
        let PeerRequest::Paxos(request) = request else { return };
        self.asks.insert((host, nonce), request.clone());
        match request {
            Request::Query { .. } => {}
            Request::Prepare { register, ballot, .. } => {
                let first = *self.ballots.entry(*ballot).or_insert((host, nonce));
                if first != (host, nonce) || host_of(ballot.node()) != host {
                    self.object(Check::BallotDrawnOnce, format!("{ballot:?} is drawn by host {host} once more"));
                }
                if ballot.counter() > durable_bound {
                    let what = format!("host {host} draws {ballot:?} above its durable bound {durable_bound}");
                    self.object(Check::DurableBeforeShown, what);
                }
                let round =
                    Preparing { register: register.clone(), promises: BTreeMap::new(), refused: BTreeSet::new() };
                self.rounds.entry(*ballot).or_insert(round);
            }
            Request::Accept { register, ballot, value } => self.proposed(host, register, *ballot, value),
        }
    }

    fn proposed(&mut self, host: usize, register: &RegisterKey, ballot: Ballot, value: &Value) {
        let history = self.histories.entry(register.clone()).or_default();
        if let Some(earlier) = history.proposals.get(&ballot) {
            if earlier.value != *value {
                self.object(Check::OneValuePerBallot, format!("{ballot:?} is proposed with two values"));
            }
            return;
        }
        let promises = self.rounds.get(&ballot).filter(|r| r.register == *register).map(|r| &r.promises);
        let count = promises.map_or(0, BTreeMap::len);
        let found = promises.into_iter().flat_map(|p| p.values().flatten()).max_by_key(|a| a.ballot).cloned();
        let state = State::decode(value).ok();
        let base = found.as_ref().map(|a| a.ballot);
        let proposal = Proposal { value: value.clone(), state, base, votes: BTreeSet::new(), in_chain: false };
        history.proposals.insert(ballot, proposal);
        if !self.is_quorum(count) {
            self.object(Check::PromisedByQuorum, format!("{ballot:?} is proposed on {count} promises"));
        }
        self.check_change(host, register, ballot, value, found);
    }

    fn check_change(&mut self, host: usize, at: &RegisterKey, ballot: Ballot, value: &Value, found: Option<Accepted>) {
        let creates = |e: &Entry| e.header.token == ballot && e.header.node == id_of(host);
        let before = found.as_ref().map(|a| State::decode(&a.value));
        let fault = match (before, State::decode(value)) {
            _ if found.as_ref().is_some_and(|a| a.value == *value) => None,
            (None, Ok(State::Live(new))) if creates(&new) => None,
            (None, Ok(State::Ended { token: Ballot::ZERO, reason: Reason::None })) => None,
            (Some(Ok(State::Ended { .. })), Ok(State::Live(new))) if creates(&new) => None,
            (Some(Ok(State::Live(old))), Ok(State::Ended { token, reason })) if token == old.header.token => {
                let may = self.may_end(host, at, &old, reason);
                (!may).then_some(Check::EndedForAReason)
            }
            (Some(Ok(State::Live(old))), Ok(State::Live(new))) if creates(&new) => {
                let reasons = [Reason::Pid, Reason::Until, Reason::Released];
                let may = reasons.into_iter().any(|r| self.may_end(host, at, &old, r));
                (!may).then_some(Check::EndedForAReason)
            }
            _ => Some(Check::LegalChange),
        };
        if let Some(check) = fault {
            let before = found.map_or("nothing".into(), |a| {
                format!("{:?} {}", a.ballot, brief_state(State::decode(&a.value).ok().as_ref()))
            });
            let after = brief_state(State::decode(value).ok().as_ref());
            self.object(check, format!("host {host} proposes at {ballot:?} {after} after {before}"));
        }
    }

    fn may_end(&self, host: usize, register: &RegisterKey, entry: &Entry, reason: Reason) -> bool {
        match reason {
            Reason::Pid => {
                let dead = entry.header.bound_process().is_some_and(|p| self.dead.contains(p));
                dead && host_of(entry.header.node) == host
            }
            Reason::Until => entry.header.until_ms().is_some_and(|until_ms| self.is_past(until_ms)),
            Reason::Released => {
                let asked = |token| self.releases.contains(&(register.clone(), token));
                asked(None) || asked(Some(entry.header.token))
            }
            _ => false,
        }
    }

    /// A node hears a reply.
    pub fn heard(&mut self, host: usize, from: usize, nonce: u64, reply: &PeerReply) {
        let Some(Request::Prepare { ballot, .. }) = self.asks.get(&(host, nonce)) else { return };
        let Some(round) = self.rounds.get_mut(ballot) else { return };
        if self.histories.get(&round.register).is_some_and(|h| h.proposals.contains_key(ballot)) {
            return;
        }
        match reply {
            PeerReply::Paxos(Reply::Promised { accepted, .. }) if !round.refused.contains(&from) => {
                round.promises.insert(from, accepted.clone());
            }
            PeerReply::Paxos(Reply::Rejected { .. } | Reply::Refused(_)) if !round.promises.contains_key(&from) => {
                round.refused.insert(from);
            }
            _ => {}
        }
    }

    /// The nonce of another request of the same kind, for a network that mixes replies up.
    pub fn crossed(&self, host: usize, nonce: u64) -> u64 {
        let Some(asked) = self.asks.get(&(host, nonce)) else { return nonce };
        let kind = std::mem::discriminant(asked);
        let all = self.asks.range((host, nonce.saturating_sub(20))..=(host, u64::MAX));
        let mut other = all.filter(|(_, r)| std::mem::discriminant(*r) == kind && r.register() != asked.register());
        other.next().map_or(nonce, |((_, nonce), _)| *nonce)
    }

    /// These requests were accepted, and are on the disk of the host.
    pub fn committed<'r>(&mut self, host: usize, accepted: impl Iterator<Item = &'r Request>) {
        for request in accepted {
            let Request::Accept { register, ballot, value } = request else { continue };
            let history = self.histories.entry(register.clone()).or_default();
            let Some(proposal) = history.proposals.get_mut(ballot).filter(|p| p.value == *value) else {
                self.object(Check::OneValuePerBallot, format!("host {host} accepted another value at {ballot:?}"));
                continue;
            };
            proposal.votes.insert(host);
            let votes = proposal.votes.len();
            if self.is_quorum(votes) {
                self.choose(register, *ballot);
            }
        }
    }

    fn choose(&mut self, register: &RegisterKey, ballot: Ballot) {
        let Some(history) = self.histories.get_mut(register) else { return };
        if !history.chosen.insert(ballot) {
            return;
        }
        let below = history.chosen.range(..ballot).next_back().copied();
        let above = history.chosen.range(Ballot::from_u64(ballot.to_u64() + 1)..).next().copied();
        let mut created = Vec::new();
        let mut torn = false;
        for (from, to) in [(Some(ballot), below), (above, Some(ballot))] {
            let mut at = from;
            while let Some(b) = at.filter(|b| Some(*b) != to) {
                let Some(proposal) = history.proposals.get_mut(&b) else { break };
                proposal.in_chain = true;
                created.extend(proposal.state.as_ref().and_then(State::live).cloned());
                // Lower ballots only, so that this ends.
                at = proposal.base.filter(|base| *base < b);
            }
            torn |= from.is_some() && at != to;
        }
        if torn {
            let what = format!("{ballot:?} and its neighbours {below:?} and {above:?} are chosen, and not one history");
            self.object(Check::ChosenInOneChain, what);
        }
        for entry in created {
            self.lived(&entry);
        }
    }

    /// An entry is part of a register's history.
    fn lived(&mut self, entry: &Entry) {
        let (request, token) = (entry.header.request, entry.header.token);
        let seen = self.requests.entry(request).or_default();
        let (is_new, denied) = (seen.tokens.insert(token), seen.denied);
        let tokens = seen.tokens.clone();
        if is_new && tokens.len() > 1 {
            self.object(Check::OneLifePerRequest, format!("one request created {tokens:?}"));
        }
        if is_new && denied {
            let what = format!("the put that created {token:?} was answered: it never will");
            self.object(Check::NeverMeansNever, what);
        }
    }

    /// An acceptor's answer leaves for whoever asked; `disk` is what a crash now would leave.
    pub fn shown(&mut self, host: usize, request: &Request, reply: &Reply, disk: &Memory) {
        let record = crate::disk::record_of(disk, request.register());
        let at_least = |b: Ballot| record.as_ref().is_some_and(|r| r.ballot >= b);
        let durable = match (request, reply) {
            (Request::Accept { ballot, value, .. }, Reply::Accepted) => {
                at_least(*ballot) && record.as_ref().is_some_and(|r| r.ballot > *ballot || r.value == *value)
            }
            (Request::Prepare { ballot, .. }, Reply::Promised { accepted, .. }) => {
                let told = accepted.as_ref().is_none_or(|a| at_least(a.ballot));
                told && ballot.counter() <= crate::disk::bound_of(disk)
            }
            (_, Reply::State { accepted }) => accepted.as_ref().is_none_or(|a| at_least(a.ballot)),
            _ => true,
        };
        if !durable {
            let what = format!("host {host} shows {reply:?} to {request:?}, with {record:?} on disk");
            self.object(Check::DurableBeforeShown, what);
        }
    }
}
