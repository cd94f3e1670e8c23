//! What users mean: entries and tombstones, the changes that operations make, and the reasons for which a key goes.
//!
//! The register protocol below ([`crate::paxos`]) carries opaque bytes; this layer reads and writes them.

pub mod binding;
pub mod change;
pub mod entry;
pub mod peer;

pub use binding::{Binding, ProcessId};
pub use change::{Applied, Asker, Change, Facts, MayCreate, Outcome, PutChange, Target, Which};
pub use entry::{BadEntry, Entry, Header, Holder, Kind, Reason, RequestId, State};

use crate::paxos::RegisterKey;

/// The name of a register from its parts: the bucket's length, the bucket, the key's deterministic encoding. A
/// bucket's registers so stand side by side, in the order of their keys' bytes.
pub fn register_key(bucket: &str, key: &[u8]) -> RegisterKey {
    let mut name = Vec::with_capacity(1 + bucket.len() + key.len());
    // Buckets are limited to 255 bytes before they get here.
    name.push(bucket.len().min(255) as u8);
    name.extend_from_slice(bucket.as_bytes());
    name.extend_from_slice(key);
    name.into()
}

/// The parts of a register's name, if it is one.
pub fn split_register_key(name: &[u8]) -> Option<(&str, &[u8])> {
    let (&len, rest) = name.split_first()?;
    let (bucket, key) = rest.split_at_checked(usize::from(len))?;
    Some((std::str::from_utf8(bucket).ok()?, key))
}

/// The registers of a bucket share this prefix.
pub fn bucket_prefix(bucket: &str) -> RegisterKey {
    register_key(bucket, &[])
}
