//! Entries and tombstones: the values of registers, as bytes behind a fixed header.
//!
//! Layout, all integers big endian:
//!
//! ```text
//! format u8 = 1 | kind u8 | reason u8 | token u64 | request [16] | node u16 | incarnation u64
//! | bindings u8, then each: kind u8, length u16, bytes
//! | only of a live entry: process u8 (0 or 1), then its 36 bytes | uid u32 | since u64 | comm length u8, comm | value
//! ```
//!
//! A round that keeps an entry sends on the very bytes it read; so an agent that does not know a binding kind cannot
//! strip it.

use super::binding::{Binding, ProcessId};
use crate::limits::BINDINGS_PER_ENTRY;
use crate::paxos::{Ballot, NodeId};
use std::sync::Arc;

/// 128 random bits that a client draws for each put, so that a repeated put finds its own write.
pub type RequestId = [u8; 16];

const FORMAT: u8 = 1;

/// Whether a value stands for something or for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something is there.
    Live,
    /// An accepted "nothing here".
    Tombstone,
}

/// Why an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has not, or nothing had been there to end.
    None,
    /// Its process exited.
    Pid,
    /// Its node's session ended.
    Node,
    /// Its parent key went.
    Key,
    /// Its time was over.
    Until,
    /// Its holder released it.
    Released,
    /// A reason of a newer version.
    Unknown(u8),
}

impl Reason {
    fn to_u8(self) -> u8 {
        match self {
            Reason::None => 0,
            Reason::Pid => 1,
            Reason::Node => 2,
            Reason::Key => 3,
            Reason::Until => 4,
            Reason::Released => 5,
            Reason::Unknown(n) => n,
        }
    }

    fn from_u8(n: u8) -> Reason {
        match n {
            0 => Reason::None,
            1 => Reason::Pid,
            2 => Reason::Node,
            3 => Reason::Key,
            4 => Reason::Until,
            5 => Reason::Released,
            n => Reason::Unknown(n),
        }
    }
}

/// What stands before the value: all that the protocol of keys needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Live or tombstone.
    pub kind: Kind,
    /// Of a tombstone: why.
    pub reason: Reason,
    /// Of a live entry: the ballot that created it. Of a tombstone: the token that it ended.
    pub token: Ballot,
    /// The put that created it.
    pub request: RequestId,
    /// The agent whose application put it.
    pub node: NodeId,
    /// That agent's incarnation at the put.
    pub incarnation: u64,
    /// The reasons for which it expires; the first that holds ends it.
    pub bindings: Vec<Binding>,
}

/// Who set a key, as that host's kernel attested it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The calling process; none if it lives outside the agent's pid namespace.
    pub process: Option<ProcessId>,
    /// Its user id on that host.
    pub uid: u32,
    /// When the put was made, by that host's clock, in milliseconds since 1970.
    pub since_ms: u64,
    /// Its command name (`proc_pid_comm(5)`), at most 255 bytes.
    pub comm: String,
}

/// A live entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its header.
    pub header: Header,
    /// Who set it.
    pub holder: Holder,
    /// What users stored: one CBOR data item.
    pub value: Arc<[u8]>,
}

/// What a register holds, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A live entry.
    Live(Arc<Entry>),
    /// A tombstone: the token it ended, and why.
    Ended {
        /// The token of the entry that was there.
        token: Ballot,
        /// Why it went.
        reason: Reason,
    },
}

/// The bytes are not an entry that this version can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry in a format that this version does not know, or damaged")]
pub struct BadEntry;

impl Header {
    /// Reads the header alone.
    pub fn decode(bytes: &[u8]) -> Result<Header, BadEntry> {
        Header::split(bytes).map(|(header, _)| header)
    }

    fn split(bytes: &[u8]) -> Result<(Header, &[u8]), BadEntry> {
        let mut r = Reader(bytes);
        if r.u8()? != FORMAT {
            return Err(BadEntry);
        }
        let kind = match r.u8()? {
            1 => Kind::Live,
            2 => Kind::Tombstone,
            _ => return Err(BadEntry),
        };
        let reason = Reason::from_u8(r.u8()?);
        let token = Ballot::from_u64(r.u64()?);
        let request = r.array()?;
        let node = NodeId(r.u16()?);
        let incarnation = r.u64()?;
        let count = usize::from(r.u8()?);
        if count > BINDINGS_PER_ENTRY {
            return Err(BadEntry);
        }
        let mut bindings = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = r.u8()?;
            let len = usize::from(r.u16()?);
            bindings.push(Binding::from_parts(kind, r.take(len)?));
        }
        Ok((Header { kind, reason, token, request, node, incarnation, bindings }, r.0))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.push(match self.kind {
            Kind::Live => 1,
            Kind::Tombstone => 2,
        });
        out.push(self.reason.to_u8());
        out.extend_from_slice(&self.token.to_u64().to_be_bytes());
        out.extend_from_slice(&self.request);
        out.extend_from_slice(&self.node.0.to_be_bytes());
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        debug_assert!(self.bindings.len() <= BINDINGS_PER_ENTRY);
        out.push(self.bindings.len() as u8);
        for b in &self.bindings {
            let (kind, bytes) = b.to_parts();
            out.push(kind);
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            out.extend_from_slice(&bytes);
        }
    }

    /// The process that the entry is bound to, if it is.
    pub fn bound_process(&self) -> Option<&ProcessId> {
        self.bindings.iter().find_map(|b| match b {
            Binding::Pid(p) => Some(p),
            _ => None,
        })
    }

    /// The time at which the entry is to go, if it has one, in milliseconds since 1970.
    pub fn until_ms(&self) -> Option<u64> {
        self.bindings.iter().find_map(|b| match b {
            Binding::Until(ms) => Some(*ms),
            _ => None,
        })
    }
}

impl Entry {
    /// The bytes to store and send.
    pub fn encode(&self) -> Arc<[u8]> {
        let mut out = Vec::with_capacity(128 + self.value.len());
        self.header.encode(&mut out);
        match &self.holder.process {
            None => out.push(0),
            Some(p) => {
                out.push(1);
                out.extend_from_slice(&Binding::Pid(*p).to_parts().1);
            }
        }
        out.extend_from_slice(&self.holder.uid.to_be_bytes());
        out.extend_from_slice(&self.holder.since_ms.to_be_bytes());
        let comm = &self.holder.comm.as_bytes()[..self.holder.comm.len().min(255)];
        out.push(comm.len() as u8);
        out.extend_from_slice(comm);
        out.extend_from_slice(&self.value);
        out.into()
    }

    /// Whether it was put by this very request of this very process.
    pub fn is_of(&self, request: &RequestId, node: NodeId, process: Option<&ProcessId>) -> bool {
        let same_process = match (self.holder.process.as_ref(), process) {
            (Some(a), Some(b)) => a.is_same(b),
            (None, None) => true,
            _ => false,
        };
        self.header.request == *request && self.header.node == node && same_process
    }
}

impl State {
    /// Reads a register's value.
    pub fn decode(bytes: &[u8]) -> Result<State, BadEntry> {
        let (header, rest) = Header::split(bytes)?;
        if header.kind == Kind::Tombstone {
            return Ok(State::Ended { token: header.token, reason: header.reason });
        }
        let mut r = Reader(rest);
        let process = match r.u8()? {
            0 => None,
            1 => match Binding::from_parts(1, r.take(36)?) {
                Binding::Pid(p) => Some(p),
                _ => return Err(BadEntry),
            },
            _ => return Err(BadEntry),
        };
        let uid = r.u32()?;
        let since_ms = r.u64()?;
        let len = usize::from(r.u8()?);
        let comm = String::from_utf8_lossy(r.take(len)?).into_owned();
        let holder = Holder { process, uid, since_ms, comm };
        Ok(State::Live(Arc::new(Entry { header, holder, value: r.0.into() })))
    }

    /// The live entry, if it is one.
    pub fn live(&self) -> Option<&Arc<Entry>> {
        match self {
            State::Live(e) => Some(e),
            State::Ended { .. } => None,
        }
    }
}

/// The bytes of a tombstone.
pub fn tombstone(token: Ballot, reason: Reason, node: NodeId) -> Arc<[u8]> {
    let mut out = Vec::with_capacity(64);
    let header =
        Header { kind: Kind::Tombstone, reason, token, request: [0; 16], node, incarnation: 0, bindings: Vec::new() };
    header.encode(&mut out);
    out.into()
}

/// Takes parts from the front, as far as there are any.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], BadEntry> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(BadEntry)?;
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadEntry> {
        self.take(N)?.try_into().map_err(|_| BadEntry)
    }
    fn u8(&mut self) -> Result<u8, BadEntry> {
        self.array::<1>().map(|[b]| b)
    }
    fn u16(&mut self) -> Result<u16, BadEntry> {
        self.array().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Result<u32, BadEntry> {
        self.array().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Result<u64, BadEntry> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::register_key;

    fn sample() -> Entry {
        let process = ProcessId { boot_id: *b"0123456789abcdef", pid: 77, start_ticks: 1 << 40, inode: 9 };
        Entry {
            header: Header {
                kind: Kind::Live,
                reason: Reason::None,
                token: Ballot::new(5, NodeId(2)),
                request: [7; 16],
                node: NodeId(2),
                incarnation: 1,
                bindings: vec![
                    Binding::Pid(process),
                    Binding::Until(12345),
                    Binding::Node { node: 3, incarnation: 4 },
                    Binding::Key { register: register_key("b", b"\x61k"), token: Ballot::new(1, NodeId(1)), depth: 2 },
                    Binding::Unknown { kind: 200, bytes: b"future".as_slice().into() },
                ],
            },
            holder: Holder { process: Some(process), uid: 1000, since_ms: 42, comm: "sleep".into() },
            value: b"\x65alice".as_slice().into(),
        }
    }

    #[test]
    fn entry_survives_its_bytes_with_bindings_of_unknown_kinds() {
        let e = sample();
        let bytes = e.encode();
        assert_eq!(State::decode(&bytes), Ok(State::Live(Arc::new(e.clone()))));
        assert_eq!(Header::decode(&bytes).as_ref(), Ok(&e.header));
    }

    #[test]
    fn tombstone_tells_the_token_it_ended_and_why() {
        let t = Ballot::new(9, NodeId(3));
        let bytes = tombstone(t, Reason::Until, NodeId(1));
        assert_eq!(State::decode(&bytes), Ok(State::Ended { token: t, reason: Reason::Until }));
    }

    #[test]
    fn entry_cut_anywhere_before_its_value_is_refused() {
        let bytes = sample().encode();
        for n in 0..bytes.len() - sample().value.len() {
            assert_eq!(State::decode(&bytes[..n]), Err(BadEntry), "{n} bytes");
        }
    }

    #[test]
    fn entry_bytes_stay_as_they_are() {
        // Golden: the format is final; older agents must be able to read it.
        let bytes = tombstone(Ballot::new(1, NodeId(2)), Reason::Pid, NodeId(3));
        let mut golden = vec![1, 2, 1, 0, 0, 0, 0, 0, 1, 0, 2];
        golden.extend_from_slice(&[0; 16]);
        golden.extend_from_slice(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[..], &golden[..]);
    }
}
