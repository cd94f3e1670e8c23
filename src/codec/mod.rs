//! Bytes to types and back. Total: every byte string gives a value or an error.
//!
//! `serde_cbor` is named in this module only. It is archived, so it is used in a way that another library
//! (`ciborium`, say) would write the same bytes for: plain arrays, maps with text keys in the order of their fields,
//! shortest integers, byte strings. Golden bytes in the tests pin them.

pub mod cbor;
pub mod client;
#[cfg(feature = "agent")]
pub mod json;
pub mod peer;
#[cfg(test)]
mod tests;

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not CBOR, or not of the expected shape.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// An application's value that CBOR cannot express, or that its own type refuses to write.
    #[error("cannot be written as CBOR: {0}")]
    Unencodable(String),
    /// A data item of another shape than the application's type.
    #[error("is not of the expected type: {0}")]
    Mismatch(String),
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    encode_into(value, &mut out);
    out
}

fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // A Vec takes every write, and the types of this crate have no map keys or lengths that CBOR cannot express.
    serde_cbor::to_writer(out, value).expect("our own types are always encodable");
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    // from_slice refuses trailing bytes and nesting above 128, and never allocates more than the input could fill.
    serde_cbor::from_slice(bytes).map_err(|e| CodecError::Malformed(e.to_string()))
}

/// A key or value of an application as one data item: structs become maps with text keys, `&[u8]` an array of numbers
/// (wrap it as `serde_bytes::Bytes` for a byte string).
pub fn to_item<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    serde_cbor::to_vec(&value).map_err(|e| CodecError::Unencodable(e.to_string()))
}

/// An application's type from one data item, whoever wrote it.
pub fn from_item<T: DeserializeOwned>(item: &[u8]) -> Result<T, CodecError> {
    serde_cbor::from_slice(item).map_err(|e| CodecError::Mismatch(e.to_string()))
}
