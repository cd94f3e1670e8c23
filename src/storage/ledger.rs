//! What makes a backend's records trustworthy: a checksum in each, a sum over all, numbered commits, lives.
//!
//! | key | record |
//! |---|---|
//! | `0` | head: store id, commit number, sum of all other records' hashes, bound; rewritten by every batch |
//! | `1` | the present life |
//! | `2` | the cluster, once formed: its membership and the stores of its voters |
//! | `3` | reserved for what is known of the other voters' stores |
//! | `16`, then the register's name | the ballot and value that were accepted last |
//!
//! Each record is `format u8 = 1 | hash [16] | body`, where the hash is XXH3-128 of key and body: it finds damage, not
//! malice. The sum of the hashes (mod 2^128) in the head finds records that were lost or are older than the head.

use super::{Store, StoreError, Write};
use crate::kv::peer::{Life, StoreId};
use crate::limits::BOUND_STEP;
use xxhash_rust::xxh3::Xxh3;

const FORMAT: u8 = 1;
const PREFIX_BYTES: usize = 17;
const HEAD: &[u8] = &[0];
const LIFE: &[u8] = &[1];
pub(super) const FORMED: &[u8] = &[2];
pub(super) const REGISTER: u8 = 16;
/// How many records are read at once when all are.
const SCAN_RECORDS: usize = 1024;

/// A store with the guarantees above.
pub struct Ledger<S> {
    store: S,
    head: Head,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    store_id: StoreId,
    commit: u64,
    sum: u128,
    bound: u64,
}

/// A record that was read: its hash, to be given back when it is replaced, and its body.
pub(super) struct Checked {
    pub hash: u128,
    pub body: Vec<u8>,
}

/// One change of a batch.
pub(super) struct Change {
    pub key: Vec<u8>,
    /// The hash of the record that is replaced, if there is one.
    pub old: Option<u128>,
    /// The new record's body, or none to remove it.
    pub new: Option<Vec<u8>>,
}

/// What opening needs from outside: this layer draws no random numbers.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// The id of the store, if it is a new one.
    pub store_id: StoreId,
    /// The id of this life.
    pub life_id: [u8; 16],
    /// The boot of the host.
    pub boot_id: [u8; 16],
}

impl<S: Store> Ledger<S> {
    /// Opens a store: checks every record (showing each to `visit`), and begins a life with a durable batch, before
    /// anything is answered: what was read may only have been in the page cache. Returns the bound of the lives
    /// before.
    pub(super) fn open(
        store: S,
        birth: &Birth,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<(Ledger<S>, u64), StoreError> {
        let head = match store.get(HEAD)? {
            Some(record) => Some(Head::decode(&check(HEAD, &record)?.body)?),
            None => None,
        };
        let mut sum = 0u128;
        let mut old_life = None;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let records = store.scan(after.as_deref(), SCAN_RECORDS)?;
            for (key, record) in &records {
                if key == HEAD {
                    continue;
                }
                let checked = check(key, record)?;
                sum = sum.wrapping_add(checked.hash);
                if key == LIFE {
                    let life: Life = crate::codec::decode(&checked.body)
                        .map_err(|e| StoreError::Damaged(format!("the life record: {e}")))?;
                    old_life = Some((checked.hash, life));
                }
                visit(key, &checked.body);
            }
            match records.last() {
                Some((last, _)) if records.len() >= SCAN_RECORDS => after = Some(last.clone()),
                _ => break,
            }
        }
        let head = match head {
            Some(head) if head.sum == sum => head,
            Some(_) => {
                return Err(StoreError::Damaged("records are missing or older than the last commit".into()));
            }
            None if after.is_none() && sum == 0 => Head { store_id: birth.store_id, commit: 0, sum: 0, bound: 0 },
            None => return Err(StoreError::Damaged("there are records, but not the one that counts them".into())),
        };
        let life = Life {
            number: old_life.map_or(0, |(_, l)| l.number) + 1,
            id: birth.life_id,
            start_commit: head.commit + 1,
            boot_id: birth.boot_id,
        };
        let earlier_bound = head.bound;
        let mut ledger = Ledger { store, head, life };
        let change =
            Change { key: LIFE.to_vec(), old: old_life.map(|(hash, _)| hash), new: Some(crate::codec::encode(&life)) };
        ledger.commit(vec![change], Some(earlier_bound.saturating_add(BOUND_STEP)))?;
        Ok((ledger, earlier_bound))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Checked>, StoreError> {
        self.store.get(key)?.map(|record| check(key, &record)).transpose()
    }

    /// Records above a key, checked.
    pub(super) fn scan(&self, after: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Checked)>, StoreError> {
        let records = self.store.scan(Some(after), limit)?;
        records.into_iter().map(|(key, record)| Ok((key.clone(), check(&key, &record)?))).collect()
    }

    /// Writes a batch; it is durable when this returns.
    pub(super) fn commit(&mut self, changes: Vec<Change>, bound: Option<u64>) -> Result<(), StoreError> {
        let mut head = Head { commit: self.head.commit + 1, ..self.head };
        head.bound = head.bound.max(bound.unwrap_or(0));
        let mut batch: Vec<Write> = Vec::with_capacity(changes.len() + 1);
        for Change { key, old, new } in changes {
            head.sum = head.sum.wrapping_sub(old.unwrap_or(0));
            let record = new.map(|body| seal(&key, &body));
            if let Some((hash, _)) = &record {
                head.sum = head.sum.wrapping_add(*hash);
            }
            batch.push((key, record.map(|(_, bytes)| bytes)));
        }
        batch.push((HEAD.to_vec(), Some(seal(HEAD, &head.encode()).1)));
        self.store.commit(&batch)?;
        self.head = head;
        Ok(())
    }

    /// The random name of the store.
    pub fn store_id(&self) -> StoreId {
        self.head.store_id
    }

    /// The present life.
    pub fn life(&self) -> Life {
        self.life
    }

    /// The number of the last commit.
    pub fn last_commit(&self) -> u64 {
        self.head.commit
    }

    /// The durable bound.
    pub fn bound(&self) -> u64 {
        self.head.bound
    }

    /// The backend below.
    pub fn store(&self) -> &S {
        &self.store
    }
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.store_id.to_vec();
        out.extend_from_slice(&self.commit.to_be_bytes());
        out.extend_from_slice(&self.sum.to_be_bytes());
        out.extend_from_slice(&self.bound.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Head, StoreError> {
        let parts = || {
            let (store_id, rest) = bytes.split_first_chunk::<16>()?;
            let (commit, rest) = rest.split_first_chunk::<8>()?;
            let (sum, rest) = rest.split_first_chunk::<16>()?;
            let bound: [u8; 8] = rest.try_into().ok()?;
            Some(Head {
                store_id: *store_id,
                commit: u64::from_be_bytes(*commit),
                sum: u128::from_be_bytes(*sum),
                bound: u64::from_be_bytes(bound),
            })
        };
        parts().ok_or_else(|| StoreError::Damaged("the head record has another length".into()))
    }
}

fn hash(key: &[u8], body: &[u8]) -> u128 {
    let mut h = Xxh3::new();
    h.update(&(key.len() as u64).to_be_bytes());
    h.update(key);
    h.update(body);
    h.digest128()
}

fn seal(key: &[u8], body: &[u8]) -> (u128, Vec<u8>) {
    let hash = hash(key, body);
    let mut out = Vec::with_capacity(PREFIX_BYTES + body.len());
    out.push(FORMAT);
    out.extend_from_slice(&hash.to_be_bytes());
    out.extend_from_slice(body);
    (hash, out)
}

fn check(key: &[u8], record: &[u8]) -> Result<Checked, StoreError> {
    let Some((prefix, body)) = record.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(StoreError::Damaged(format!("a record of {} bytes", record.len())));
    };
    let (&format, stored) = prefix.split_first().unwrap_or((&0, &[]));
    if format != FORMAT {
        return Err(StoreError::Damaged(format!("a record of format {format}; this version reads {FORMAT}")));
    }
    let hash = hash(key, body);
    if stored != hash.to_be_bytes() {
        return Err(StoreError::Damaged("a record does not have its checksum".into()));
    }
    Ok(Checked { hash, body: body.to_vec() })
}
