//! A disk of a simulated host: what is on it, read without the code under test.

use paxoskv::paxos::{Accepted, Ballot};
use paxoskv::storage::memory::Memory;
use paxoskv::storage::{Record, Store, StoreError, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xxhash_rust::xxh3::Xxh3;

/// The store of one life: an image that the life writes to, on a disk that may be full.
pub struct Disk {
    pub image: Memory,
    /// Shared with the host, since the acceptor owns its store.
    pub full: Arc<AtomicBool>,
}

impl Store for Disk {
    fn name(&self) -> &'static str {
        "simulated"
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.image.get(key)
    }
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::NoSpace("the simulated disk is full".into()));
        }
        self.image.commit(batch)
    }
    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.image.scan(after, limit)
    }
    fn disk_bytes(&self) -> u64 {
        0
    }
}

/// Before each record's body: its format and its checksum.
const PREFIX_BYTES: usize = 17;
const HEAD: &[u8] = &[0];
const REGISTER: u8 = 16;

/// The durable bound in an image; 0 of an empty one.
pub fn bound_of(image: &Memory) -> u64 {
    let head = image.get(HEAD).expect("memory does not fail");
    let bound = head.and_then(|record| record.last_chunk::<8>().copied());
    bound.map_or(0, u64::from_be_bytes)
}

/// What an image holds as accepted for a register.
pub fn record_of(image: &Memory, register: &[u8]) -> Option<Accepted> {
    let key = [&[REGISTER], register].concat();
    let record = image.get(&key).expect("memory does not fail")?;
    let (ballot, value) = record.get(PREFIX_BYTES..)?.split_first_chunk::<8>()?;
    Some(Accepted { ballot: Ballot::from_u64(u64::from_be_bytes(*ballot)), value: value.into() })
}

/// An image in which the bound says something else, with a checksum that holds.
pub fn with_bound(image: &Memory, bound: u64) -> Memory {
    let mut image = image.clone();
    let Some(mut record) = image.get(HEAD).expect("memory does not fail") else { return image };
    let end = record.len() - 8;
    record[end..].copy_from_slice(&bound.to_be_bytes());
    let mut hash = Xxh3::new();
    hash.update(&(HEAD.len() as u64).to_be_bytes());
    hash.update(HEAD);
    hash.update(&record[PREFIX_BYTES..]);
    record[1..PREFIX_BYTES].copy_from_slice(&hash.digest128().to_be_bytes());
    image.commit(&[(HEAD.to_vec(), Some(record))]).expect("memory does not fail");
    image
}
