//! What callers are told, held against what was chosen while they waited.

use super::*;
use paxoskv::limits::{DEADLINE_MAX_MS, OPERATION_TIMEOUT_US, PHASE_TIMEOUT_US};
use paxoskv::node::{Answer, Mode, NoQuorum, Operation};
use std::sync::Arc;

/// How long after its deadline an answer may come: the phase under way may first run into its own timeout.
const SLACK_US: u64 = PHASE_TIMEOUT_US + 500_000;

fn register_of(operation: &Operation) -> Option<&RegisterKey> {
    match operation {
        Operation::Put { register, .. }
        | Operation::Get { register }
        | Operation::GetLocal { register }
        | Operation::Release { register, .. } => Some(register),
        Operation::List { .. } => None,
    }
}

fn request_of(operation: &Operation) -> Option<RequestId> {
    match operation {
        Operation::Put { entry, .. } => Some(entry.header.request),
        _ => None,
    }
}

impl Observer {
    /// An application makes a call.
    pub fn called(&mut self, now_us: u64, host: usize, call: &Call) {
        let chosen = self.histories.iter().filter_map(|(r, h)| Some((r.clone(), *h.chosen.last()?)));
        let since: BTreeMap<RegisterKey, Ballot> = match register_of(&call.operation) {
            Some(register) => chosen.filter(|(r, _)| r == register).collect(),
            None => chosen.collect(),
        };
        if let Some(request) = request_of(&call.operation) {
            self.requests.entry(request).or_default().denied = false;
        }
        if let Operation::Release { register, token, .. } = &call.operation {
            self.releases.insert((register.clone(), *token));
        }
        let asking = Asking { call: call.clone(), host, at_us: now_us, since, answered_us: None, lost: false };
        self.calls.insert(call.id, asking);
    }

    fn open_calls(&self, request: &RequestId, host: usize) -> impl Iterator<Item = &Asking> {
        let request = *request;
        self.calls.values().filter(move |a| {
            a.answered_us.is_none() && !a.lost && a.host == host && request_of(&a.call.operation) == Some(request)
        })
    }

    /// The agent of a host is gone, and with it the calls that it had not answered.
    pub fn lost(&mut self, host: usize) -> Vec<u64> {
        let open = self.calls.iter_mut().filter(|(_, a)| a.host == host && a.answered_us.is_none() && !a.lost);
        open.map(|(id, a)| {
            a.lost = true;
            *id
        })
        .collect()
    }

    /// An application is told.
    pub fn answered(&mut self, now_us: u64, id: u64, answer: &Answer) {
        let Some(asking) = self.calls.get_mut(&id) else {
            return self.object(Check::AnsweredOnce, format!("call {id} was never made"));
        };
        if asking.answered_us.replace(now_us).is_some() || asking.lost {
            return self.object(Check::AnsweredOnce, format!("call {id} is answered once more: {answer:?}"));
        }
        let (call, since, host) = (asking.call.clone(), asking.since.clone(), asking.host);
        let deadline_us = match (call.deadline_ms, call.mode) {
            (Some(ms), _) => ms * 1000,
            (None, Mode::Answer) => OPERATION_TIMEOUT_US,
            (None, Mode::Retry) => DEADLINE_MAX_MS * 1000,
        };
        let late_us = now_us.saturating_sub(asking.at_us + deadline_us);
        if late_us > SLACK_US {
            self.object(
                Check::AnsweredInTime,
                format!("{late_us} us after its deadline: {}", self.tell(&call, &since, answer)),
            );
        }
        if let Some(request) = request_of(&call.operation)
            && matches!(answer, Answer::NoQuorum(NoQuorum { unknown: false, .. }))
            && self.open_calls(&request, host).next().is_none()
        {
            let requested = self.requests.entry(request).or_default();
            requested.denied = requested.tokens.is_empty();
        }
        let is_true = match (&call.operation, answer) {
            (Operation::Put { register, entry: wanted, .. }, Answer::Put { entry, created }) => {
                if *created != (entry.header.request == wanted.header.request) {
                    let what = format!("created: {created} for {}, by {}", brief(wanted), brief(entry));
                    self.object(Check::CreatedIsFirst, what);
                }
                self.was_live(register, &since, entry)
            }
            (Operation::Put { entry, .. }, Answer::Invalid(_)) => {
                let dead = entry.header.bound_process().is_some_and(|p| self.dead.contains(p));
                dead || entry.header.until_ms().is_some_and(|ms| self.clocks[host] >= ms || self.is_past(ms))
            }
            (Operation::Put { .. }, Answer::OutcomeUnknown) => true,
            (Operation::Get { register }, Answer::State(Some(entry))) => self.was_live(register, &since, entry),
            (Operation::Get { register }, Answer::State(None)) => self.was_absent(register, &since),
            (Operation::GetLocal { .. }, Answer::State(_)) => true,
            (Operation::Release { register, token, .. }, Answer::Released(ended)) => {
                token.is_none_or(|t| t == *ended) && self.has_ended(register, &since, *ended)
            }
            (Operation::Release { register, token, .. }, Answer::NothingToRelease) => {
                !self.stayed_live(register, &since, *token)
            }
            (Operation::Release { by, .. }, Answer::NotPermitted) => by.uid != 0,
            (Operation::List { prefix, after }, Answer::Page { keys, next }) => {
                self.check_page(prefix, after.as_ref(), keys, next.as_ref(), &since)
            }
            (_, Answer::NoQuorum(_)) => true,
            _ => false,
        };
        if !is_true {
            let what = self.tell(&call, &since, answer);
            self.object(Check::AnswerWasTrue, what);
        }
    }

    fn tell(&self, call: &Call, since: &BTreeMap<RegisterKey, Ballot>, answer: &Answer) -> String {
        let operation = match &call.operation {
            Operation::Put { entry, retry, .. } => format!("put {} retry: {retry}", brief(entry)),
            other => format!("{other:?}"),
        };
        let answer = match answer {
            Answer::Put { entry, created } => format!("{} created: {created}", brief(entry)),
            Answer::State(Some(entry)) => format!("live {}", brief(entry)),
            other => format!("{other:?}"),
        };
        let mut text = format!("{operation} ({:?}, {:?} ms)\n  was answered {answer}", call.mode, call.deadline_ms);
        for register in self.histories.keys().filter(|r| register_of(&call.operation).is_none_or(|own| own == *r)) {
            text += &format!("\n  {register:?} since {:?}:", since.get(register));
            for (ballot, proposal, _) in self.states(register, since) {
                text += &format!("\n    {ballot:?} {}", brief_state(proposal.state.as_ref()));
            }
        }
        text
    }

    /// What the register's history holds from the moment of the call on: ballots, proposals, and whether each is
    /// later than the call.
    fn states<'a>(
        &'a self,
        register: &RegisterKey,
        since: &BTreeMap<RegisterKey, Ballot>,
    ) -> impl Iterator<Item = (Ballot, &'a Proposal, bool)> {
        let from = since.get(register).copied();
        let history = self
            .histories
            .get(register)
            .into_iter()
            .flat_map(move |h| h.proposals.range(from.unwrap_or_default()..).filter(|(_, p)| p.in_chain));
        history.map(move |(b, p)| (*b, p, from.is_none_or(|f| *b > f)))
    }

    fn was_live(&self, at: &RegisterKey, since: &BTreeMap<RegisterKey, Ballot>, entry: &Arc<Entry>) -> bool {
        self.states(at, since).any(|(_, p, _)| p.state.as_ref().and_then(State::live) == Some(entry))
    }

    fn was_absent(&self, at: &RegisterKey, since: &BTreeMap<RegisterKey, Ballot>) -> bool {
        // Within a round that ends one entry and creates the next there is a moment without either.
        let between = |b: Ballot, p: &Proposal| self.ends(at, b, p).is_some();
        !since.contains_key(at) || self.states(at, since).any(|(b, p, later)| !is_live(p) || (later && between(b, p)))
    }

    /// The token of the entry that a proposal ends, if it does.
    fn ends(&self, at: &RegisterKey, ballot: Ballot, proposal: &Proposal) -> Option<Ballot> {
        let base = self.histories.get(at)?.proposals.get(&proposal.base?)?;
        let before = base.state.as_ref().and_then(State::live)?.header.token;
        match proposal.state.as_ref()? {
            State::Ended { .. } => Some(before),
            State::Live(e) => (e.header.token == ballot && ballot != before).then_some(before),
        }
    }

    fn has_ended(&self, at: &RegisterKey, since: &BTreeMap<RegisterKey, Ballot>, token: Ballot) -> bool {
        let ended = self.states(at, since).filter_map(|(b, p, later)| if later { self.ends(at, b, p) } else { None });
        ended.into_iter().any(|t| t == token)
    }

    fn stayed_live(&self, at: &RegisterKey, since: &BTreeMap<RegisterKey, Ballot>, token: Option<Ballot>) -> bool {
        let token_of = |p: &Proposal| p.state.as_ref().and_then(State::live).map(|e| e.header.token);
        let mut states = self.states(at, since).map(|(_, p, _)| token_of(p));
        if !since.contains_key(at) {
            return false;
        }
        match states.next() {
            Some(Some(first)) if token.is_none_or(|t| t == first) => states.all(|t| t == Some(first)),
            _ => false,
        }
    }

    fn check_page(
        &self,
        prefix: &RegisterKey,
        after: Option<&RegisterKey>,
        keys: &[RegisterKey],
        next: Option<&RegisterKey>,
        since: &BTreeMap<RegisterKey, Ballot>,
    ) -> bool {
        let asked =
            |r: &RegisterKey| r.starts_with(prefix) && after.is_none_or(|a| r > a) && next.is_none_or(|n| r <= n);
        keys.is_sorted()
            && keys.iter().all(asked)
            && self.histories.keys().filter(|r| asked(r)).all(|r| {
                let live = self.states(r, since).any(|(_, p, _)| is_live(p));
                if keys.contains(r) { live } else { self.was_absent(r, since) }
            })
    }
}

fn is_live(proposal: &Proposal) -> bool {
    proposal.state.as_ref().and_then(State::live).is_some()
}
