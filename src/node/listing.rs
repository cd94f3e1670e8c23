//! Listing the live keys of a bucket, a page at a time.
//!
//! Each voter of a quorum lists what it holds, tombstones too. What a quorum lists with the same ballot is chosen; any
//! other that somebody lists is read. A key that is live during the whole call was accepted by a quorum before it, so
//! one of those asked lists it, or a tombstone that nobody may have chosen. The result is not a snapshot: keys are
//! looked at one after another.

use super::finish::{DEADLINE, NOT_CONNECTED, no_quorum};
use super::op::{Answer, CallId, Kind, Mode, Op};
use super::{Awaiting, Node, Timer};
use crate::kv::peer::{Listed, PeerRequest};
use crate::limits::{LISTINGS, RETRY_PAUSE_MAX_US};
use crate::paxos::{Ballot, NodeId, RegisterKey};
use std::collections::{BTreeMap, BTreeSet};

/// A listing under way.
pub(super) struct Listing {
    asked: Asked,
    replies: BTreeMap<NodeId, (Vec<Listed>, Option<RegisterKey>)>,
    /// Being read.
    doubtful: BTreeSet<RegisterKey>,
    live: BTreeSet<RegisterKey>,
    /// The page ends here, if there may be more.
    next: Option<RegisterKey>,
}

/// What was asked for.
#[derive(Clone)]
pub(super) struct Asked {
    call: CallId,
    waits: bool,
    deadline_us: u64,
    /// While it waits: until when.
    parked_until_us: u64,
    prefix: RegisterKey,
    after: Option<RegisterKey>,
}

impl Node {
    pub(super) fn handle_list(&mut self, op: &Op, prefix: RegisterKey, after: Option<RegisterKey>) {
        let Some(call) = op.callers.first().map(|c| c.call) else { return };
        let asked = Asked {
            call,
            waits: op.mode == Mode::Retry,
            deadline_us: op.deadline_us,
            parked_until_us: 0,
            prefix,
            after,
        };
        self.start_listing(asked);
    }

    fn start_listing(&mut self, asked: Asked) {
        if !self.has_quorum() {
            return self.park_or_fail(asked, NOT_CONNECTED);
        }
        if self.listings.len() >= LISTINGS {
            // A listing keeps every voter's store busy, and the votes behind it wait.
            let at_us = asked.deadline_us;
            self.timers.insert((at_us, Timer::Parked(asked.call)));
            self.listing_queue.push_back(asked.call);
            self.parked.insert(asked.call, Asked { parked_until_us: at_us, ..asked });
            return;
        }
        let nonce = self.draw_nonce(Awaiting::Listing);
        let (prefix, after) = (asked.prefix.clone(), asked.after.clone());
        let listing =
            Listing { asked, replies: BTreeMap::new(), doubtful: BTreeSet::new(), live: BTreeSet::new(), next: None };
        self.listings.insert(nonce, listing);
        self.ask_all(nonce, PeerRequest::List { prefix, after });
    }

    /// A listing that may wait for a quorum waits, until its deadline.
    fn park_or_fail(&mut self, asked: Asked, why: &'static str) {
        if asked.waits && asked.deadline_us > self.now.mono_us {
            // With a quorum there it failed for want of an answer: it is begun again soon.
            let again_us = self.now.mono_us.saturating_add(RETRY_PAUSE_MAX_US);
            let at_us = if self.has_quorum() { again_us.min(asked.deadline_us) } else { asked.deadline_us };
            self.timers.insert((at_us, Timer::Parked(asked.call)));
            self.parked.insert(asked.call, Asked { parked_until_us: at_us, ..asked });
        } else {
            self.answer(asked.call, no_quorum(false, why));
        }
    }

    /// A listing is over: the next has its turn.
    fn next_listing(&mut self) {
        while self.listings.len() < LISTINGS
            && let Some(call) = self.listing_queue.pop_front()
        {
            // Those whose time was over are no longer there.
            if let Some(asked) = self.parked.remove(&call) {
                self.timers.remove(&(asked.parked_until_us, Timer::Parked(call)));
                self.start_listing(asked);
            }
        }
    }

    /// There is a quorum again.
    pub(super) fn unpark_listings(&mut self) {
        for (call, asked) in std::mem::take(&mut self.parked) {
            self.timers.remove(&(asked.parked_until_us, Timer::Parked(call)));
            self.start_listing(asked);
        }
    }

    pub(super) fn handle_parked_too_long(&mut self, call: CallId) {
        match self.parked.remove(&call) {
            Some(asked) if asked.deadline_us > self.now.mono_us => self.start_listing(asked),
            Some(asked) => self.answer(asked.call, no_quorum(false, DEADLINE)),
            None => {}
        }
    }

    pub(super) fn handle_listing(&mut self, from: NodeId, nonce: u64, entries: Vec<Listed>, next: Option<RegisterKey>) {
        let members = &self.config.membership;
        let Some(listing) = self.listings.get_mut(&nonce) else { return };
        if members.is_quorum(|v| listing.replies.contains_key(&v)) {
            // Already being evaluated.
            return;
        }
        listing.replies.insert(from, (entries, next));
        if !members.is_quorum(|v| listing.replies.contains_key(&v)) {
            return;
        }
        // Who has more has told nothing of what is above the point it reached.
        listing.next = listing.replies.values().filter_map(|(_, next)| next.clone()).min();
        let mut seen: BTreeMap<RegisterKey, BTreeMap<NodeId, (Ballot, bool)>> = BTreeMap::new();
        for (voter, (entries, _)) in &listing.replies {
            for e in entries.iter().filter(|e| listing.next.as_ref().is_none_or(|end| e.register <= *end)) {
                seen.entry(e.register.clone()).or_default().insert(*voter, (e.ballot, e.live));
            }
        }
        for (register, by) in seen {
            let highest = by.values().max().copied();
            let chosen = members.is_quorum(|v| by.get(&v).map(|(b, _)| *b) == highest.map(|(b, _)| b));
            match highest {
                Some((_, true)) if chosen => listing.live.insert(register),
                Some((_, false)) if chosen => continue,
                _ => listing.doubtful.insert(register),
            };
        }
        for register in listing.doubtful.clone() {
            self.submit_read(&register, Op::of_node(Kind::Listed(nonce)));
        }
        self.finish_listing_if_done(nonce);
    }

    pub(super) fn finish_listed(&mut self, nonce: u64, register: &RegisterKey, is_live: bool) {
        let Some(listing) = self.listings.get_mut(&nonce) else { return };
        if listing.doubtful.remove(register) && is_live {
            listing.live.insert(register.clone());
        }
        self.finish_listing_if_done(nonce);
    }

    fn finish_listing_if_done(&mut self, nonce: u64) {
        let members = &self.config.membership;
        let done = |l: &Listing| members.is_quorum(|v| l.replies.contains_key(&v)) && l.doubtful.is_empty();
        if self.listings.get(&nonce).is_some_and(done)
            && let Some(listing) = self.listings.remove(&nonce)
        {
            self.drop_nonce(nonce);
            let keys = listing.live.into_iter().collect();
            self.answer(listing.asked.call, Answer::Page { keys, next: listing.next });
            self.next_listing();
        }
    }

    pub(super) fn fail_listing(&mut self, nonce: u64, why: &'static str) {
        self.drop_nonce(nonce);
        if let Some(listing) = self.listings.remove(&nonce) {
            self.park_or_fail(listing.asked, why);
            self.next_listing();
        }
    }

    pub(super) fn fail_listings(&mut self) {
        let all: Vec<u64> = self.listings.keys().copied().collect();
        for nonce in all {
            self.fail_listing(nonce, NOT_CONNECTED);
        }
    }
}
