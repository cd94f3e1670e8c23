//! The durable acceptor: the pure one of [`crate::paxos`] over a store.
//!
//! The rule that never bends: nothing accepted, and no ballot above the durable bound, is shown to anyone before it is
//! durable. The types say so: [`DurableAcceptor::stage`] steps what has queued up, in order, and gives [`Staged`],
//! whose replies nobody can reach; only [`DurableAcceptor::commit`], which writes one batch and syncs once, gives them
//! out.

use super::ledger::{Birth, Change, FORMED, Ledger, REGISTER};
use super::{Store, StoreError};
use crate::kv::peer::{Life, Listed, PeerReply, StoreId, StoreOf};
use crate::kv::{Header, Kind, split_register_key};
use crate::limits::{LIVE_HINTS, PAGE_BYTES, PAGE_KEYS};
use crate::node::Stored;
use crate::paxos::{Accepted, Acceptor, Ballot, Membership, Refusal, RegisterKey, Reply, Request};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many records a listing reads at once.
const LIST_STEP: usize = 64;

/// The cluster, as written into the store when it was formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formed {
    /// The cluster's name.
    pub cluster: String,
    /// Its id.
    #[serde(with = "serde_bytes")]
    pub cluster_id: [u8; 16],
    /// The voters.
    pub membership: Membership,
    /// Their stores.
    pub stores: Vec<StoreOf>,
}

/// What the owner of the store is asked to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// Step the acceptor.
    Paxos(Request),
    /// List live entries.
    List {
        /// Of registers whose names begin so.
        prefix: RegisterKey,
        /// Above this one.
        after: Option<RegisterKey>,
    },
    /// Raise the bound so that this counter may be used.
    Raise(u64),
    /// The cluster is formed: from now on, vote.
    Form(Box<Formed>),
}

/// What comes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// An answer.
    Reply(PeerReply),
    /// The bound is at least where it was asked to be.
    Raised,
    /// The cluster is on record.
    Formed,
}

/// An acceptor whose promises and records outlive it.
pub struct DurableAcceptor<S> {
    ledger: Ledger<S>,
    acceptor: Acceptor,
    formed: Option<Formed>,
}

/// What was found when the store was opened.
pub struct Opened<S> {
    /// The acceptor.
    pub acceptor: DurableAcceptor<S>,
    /// The bound of the lives before: this agent's ballots start above it.
    pub earlier_bound: u64,
    /// The entries that upkeep must know: all that are bound, and some others that are live.
    pub stored: Vec<Stored>,
    /// How many registers have a record.
    pub registers: u64,
}

/// Jobs that were stepped in memory. What they answer is sealed in here until it is durable.
pub struct Staged {
    done: Vec<Done>,
    writes: BTreeMap<RegisterKey, Pending>,
    stored: Vec<Stored>,
    form: Option<Formed>,
    bound: Option<u64>,
}

struct Pending {
    /// The hash of the record on disk.
    old: Option<u128>,
    accepted: Option<Accepted>,
    changed: bool,
}

/// What may now be shown.
pub struct Committed {
    /// One for each job, in order.
    pub done: Vec<Done>,
    /// What the acceptor accepted anew.
    pub stored: Vec<Stored>,
    /// The durable bound.
    pub bound: u64,
    /// The number of the last commit.
    pub commit: u64,
}

impl<S: Store> DurableAcceptor<S> {
    /// Opens a store and begins a life on it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if any record is not what was written; whatever the backend says.
    pub fn open(store: S, birth: &Birth) -> Result<Opened<S>, StoreError> {
        let mut stored = Vec::new();
        let (mut registers, mut hints) = (0, 0);
        let mut formed: Option<Result<Formed, StoreError>> = None;
        let visit = |key: &[u8], body: &[u8]| match key.split_first() {
            Some((&REGISTER, name)) => {
                registers += 1;
                let Some(accepted) = decode_record(body) else { return };
                let header = Header::decode(&accepted.value).ok();
                let bound = header.as_ref().is_some_and(|h| h.kind == Kind::Live && !h.bindings.is_empty());
                let live = header.as_ref().is_some_and(|h| h.kind == Kind::Live);
                if bound || (live && hints < LIVE_HINTS) {
                    hints += 1;
                    stored.push(Stored { register: name.into(), ballot: accepted.ballot, header });
                }
            }
            _ if key == FORMED => {
                let damaged = |e| StoreError::Damaged(format!("the record of the cluster: {e}"));
                formed = Some(crate::codec::decode(body).map_err(damaged));
            }
            _ => {}
        };
        let (ledger, earlier_bound) = Ledger::open(store, birth, visit)?;
        let mut acceptor = Acceptor::recover(earlier_bound);
        // The life record came with a raised bound; the floor stays where the lives before may have promised.
        acceptor.raise_to(ledger.bound());
        let acceptor = DurableAcceptor { ledger, acceptor, formed: formed.transpose()? };
        Ok(Opened { acceptor, earlier_bound, stored, registers })
    }

    /// Steps the jobs in memory. `clock_ms` is this host's wall clock.
    pub fn stage(&mut self, jobs: &[Job], clock_ms: u64) -> Result<Staged, StoreError> {
        let mut staged = Staged {
            done: Vec::with_capacity(jobs.len()),
            writes: BTreeMap::new(),
            stored: Vec::new(),
            form: None,
            bound: None,
        };
        for job in jobs {
            let done = match job {
                Job::Paxos(request) => Done::Reply(PeerReply::Paxos(self.step(request, clock_ms, &mut staged)?)),
                Job::List { .. } if self.formed.is_none() => {
                    Done::Reply(PeerReply::Paxos(Reply::Refused(Refusal::NotVoting)))
                }
                Job::List { prefix, after } => Done::Reply(self.list(prefix, after.as_ref())?),
                Job::Raise(counter) => {
                    staged.bound = staged.bound.max(self.acceptor.raise(*counter));
                    Done::Raised
                }
                Job::Form(formed) => {
                    self.formed = Some((**formed).clone());
                    staged.form = Some((**formed).clone());
                    Done::Formed
                }
            };
            staged.done.push(done);
        }
        Ok(staged)
    }

    fn step(&mut self, request: &Request, clock_ms: u64, staged: &mut Staged) -> Result<Reply, StoreError> {
        if self.formed.is_none() {
            return Ok(Reply::Refused(Refusal::NotVoting));
        }
        let register = request.register();
        if !staged.writes.contains_key(register) {
            let found = self.ledger.get(&record_key(register))?;
            let pending = match found {
                None => Pending { old: None, accepted: None, changed: false },
                Some(checked) => {
                    let accepted = decode_record(&checked.body)
                        .ok_or_else(|| StoreError::Damaged("a register's record is too short".into()))?;
                    Pending { old: Some(checked.hash), accepted: Some(accepted), changed: false }
                }
            };
            staged.writes.insert(register.clone(), pending);
        }
        let Some(pending) = staged.writes.get_mut(register) else { return Ok(Reply::Refused(Refusal::Busy)) };
        let step = self.acceptor.step(request, pending.accepted.as_ref(), clock_ms);
        staged.bound = staged.bound.max(step.raise);
        if let Some((ballot, value)) = step.write {
            staged.stored.push(Stored { register: register.clone(), ballot, header: Header::decode(&value).ok() });
            pending.accepted = Some(Accepted { ballot, value });
            pending.changed = true;
        }
        Ok(step.reply)
    }

    /// One page: what is on the disk, tombstones too, since they may be unchosen.
    fn list(&self, prefix: &RegisterKey, after: Option<&RegisterKey>) -> Result<PeerReply, StoreError> {
        let mut reached = after.filter(|a| ***a > **prefix).unwrap_or(prefix).clone();
        let (mut entries, mut bytes): (Vec<Listed>, usize) = (Vec::new(), 0);
        let page = |entries, next| Ok(PeerReply::Listing { entries, next });
        loop {
            // In small steps: every vote waits for this thread.
            let records = self.ledger.scan(&record_key(&reached), LIST_STEP)?;
            let last = records.len() < LIST_STEP;
            for (key, checked) in records {
                let name = match key.split_first() {
                    Some((&REGISTER, name)) if name.starts_with(prefix) => name,
                    _ => return page(entries, None),
                };
                let accepted = decode_record(&checked.body)
                    .ok_or_else(|| StoreError::Damaged("a register's record is too short".into()))?;
                // What cannot be read counts as live: whoever asked will read it, and be told.
                let live = Header::decode(&accepted.value).map_or(true, |h| h.kind == Kind::Live);
                bytes += name.len() + 16;
                reached = name.into();
                entries.push(Listed { register: reached.clone(), ballot: accepted.ballot, live });
                if entries.len() >= PAGE_KEYS || bytes >= PAGE_BYTES {
                    return page(entries, Some(reached));
                }
            }
            if last {
                return page(entries, None);
            }
        }
    }

    /// Writes what was staged and syncs it, if there is anything to write; then the replies may leave.
    ///
    /// # Errors
    /// Whatever the backend says. Nothing of the batch may then be shown; after anything but
    /// [`StoreError::NoSpace`] the acceptor must not be used again.
    pub fn commit(&mut self, staged: Staged) -> Result<Committed, StoreError> {
        let mut changes: Vec<Change> = Vec::new();
        let mut accepted_now: Vec<(RegisterKey, Ballot)> = Vec::new();
        for (register, pending) in staged.writes {
            if let (true, Some(accepted)) = (pending.changed, pending.accepted) {
                accepted_now.push((register.clone(), accepted.ballot));
                let (key, new) = (record_key(&register), Some(encode_record(&accepted)));
                changes.push(Change { key, old: pending.old, new });
            }
        }
        if let Some(formed) = &staged.form {
            let old = self.ledger.get(FORMED)?.map(|checked| checked.hash);
            changes.push(Change { key: FORMED.to_vec(), old, new: Some(crate::codec::encode(formed)) });
        }
        if !changes.is_empty() || staged.bound.is_some() {
            let committed = self.ledger.commit(changes, staged.bound);
            if let Err(StoreError::NoSpace(_)) = committed {
                // Nothing was written. The acceptor in memory has stepped past what is on the disk, and may have let
                // go of promises for records that do not exist.
                self.acceptor.begin_anew(self.ledger.bound());
                if staged.form.is_some() {
                    self.formed = None;
                }
            }
            committed?;
        }
        for (register, ballot) in accepted_now {
            self.acceptor.accepted_is_durable(&register, ballot);
        }
        assert!(self.acceptor.bound() <= self.ledger.bound(), "bounded: the bound in use is durable");
        Ok(Committed {
            done: staged.done,
            stored: staged.stored,
            bound: self.ledger.bound(),
            commit: self.ledger.last_commit(),
        })
    }

    /// The cluster, if it was formed.
    pub fn formed(&self) -> Option<&Formed> {
        self.formed.as_ref()
    }

    /// The present life.
    pub fn life(&self) -> Life {
        self.ledger.life()
    }

    /// The store's random name.
    pub fn store_id(&self) -> StoreId {
        self.ledger.store_id()
    }

    /// The number of the last commit.
    pub fn last_commit(&self) -> u64 {
        self.ledger.last_commit()
    }

    /// The durable bound.
    pub fn bound(&self) -> u64 {
        self.ledger.bound()
    }

    /// The backend.
    pub fn store(&self) -> &S {
        self.ledger.store()
    }
}

fn record_key(register: &[u8]) -> Vec<u8> {
    debug_assert!(register.is_empty() || split_register_key(register).is_some());
    let mut key = Vec::with_capacity(1 + register.len());
    key.push(REGISTER);
    key.extend_from_slice(register);
    key
}

fn encode_record(accepted: &Accepted) -> Vec<u8> {
    let mut body = accepted.ballot.to_u64().to_be_bytes().to_vec();
    body.extend_from_slice(&accepted.value);
    body
}

fn decode_record(body: &[u8]) -> Option<Accepted> {
    let (ballot, value) = body.split_first_chunk::<8>()?;
    Some(Accepted { ballot: Ballot::from_u64(u64::from_be_bytes(*ballot)), value: value.into() })
}
