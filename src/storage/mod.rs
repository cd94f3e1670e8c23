//! Storage: the only door through which a promise leaves.
//!
//! A backend is small: read a record, write a batch, scan. What makes its records trustworthy (checksums, the sum
//! over all of them, commit numbers, the life record) is added above it, once, by [`ledger`]; what the acceptor's
//! answers may say and when is decided by [`acceptor`].

pub mod acceptor;
pub mod ledger;
pub mod memory;
#[cfg(feature = "agent")]
pub mod sled;

/// One change of a batch: a key, and its new record or none.
pub type Write = (Vec<u8>, Option<Vec<u8>>);
/// A key and its record.
pub type Record = (Vec<u8>, Vec<u8>);

/// What a backend gives. One conformance suite (`tests/system/storage.rs`) decides whether it may hold promises.
pub trait Store: Send {
    /// The backend's name, as in the configuration.
    fn name(&self) -> &'static str;

    /// The record under a key of at most 2 KiB, as the last commit left it.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes a batch: all of it or nothing, whatever happens, and **on the disk when the call returns**. Keys within
    /// a batch are distinct. After an error other than [`StoreError::NoSpace`] the store must not be used again:
    /// what is on the disk is unknown until it is opened anew.
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError>;

    /// Up to `limit` records with keys above `after` (all, if `None`), in the order of their keys' bytes.
    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// Bytes on the disk, as near as the backend can tell; 0 for one without a disk.
    fn disk_bytes(&self) -> u64;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).get(key)
    }
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        (**self).commit(batch)
    }
    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        (**self).scan(after, limit)
    }
    fn disk_bytes(&self) -> u64 {
        (**self).disk_bytes()
    }
}

/// What can go wrong with a store. Each is something that the agent does differently.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open: wait or stop that one.
    #[error("the store in {0} is in use by another process; stop that agent first, or use another data_dir")]
    Locked(String),
    /// Nothing was written, because there is no room: votes are refused until there is.
    #[error("no space left for the store: {0}")]
    NoSpace(String),
    /// The bytes are not what was written: the agent must not vote with them.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// A read, write or sync failed: the agent stops, since nobody knows what is on the disk.
    #[error("{operation} failed: {cause}")]
    Failed {
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        cause: String,
    },
}
