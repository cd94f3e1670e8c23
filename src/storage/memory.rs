//! A store in memory, for tests and simulation: what a disk would hold, without the disk.
//!
//! There is no clock, no IO and no hash order in it, so a simulation that uses it replays exactly. A crash is played
//! by dropping everything that a node holds *above* its store and giving its next life a [`Clone`] of the store:
//! a commit is durable when it returns, so the image at any moment between two commits is what a crash there leaves.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Record, Store, StoreError, Write};

type Bytes = Arc<[u8]>;

/// An ordered map behind the [`Store`] trait.
///
/// A clone is an image: it shares everything with its original until one of the two commits, and then neither sees
/// what the other writes. Taking one costs a reference count; the first commit afterwards copies the map, but not the
/// bytes of its keys and records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    records: Arc<BTreeMap<Bytes, Bytes>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Store for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.records.get(key).map(|record| record.to_vec()))
    }

    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let records = Arc::make_mut(&mut self.records);
        for (key, record) in batch {
            match record {
                Some(record) => records.insert(Arc::from(key.as_slice()), Arc::from(record.as_slice())),
                None => records.remove(key.as_slice()),
            };
        }
        Ok(())
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = self.records.range::<[u8], _>((from, Bound::Unbounded));
        Ok(records.take(limit).map(|(key, record)| (key.to_vec(), record.to_vec())).collect())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}
