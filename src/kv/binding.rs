//! Bindings: the reasons for which an entry expires.

use crate::paxos::{Ballot, RegisterKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// One process of one boot of one host, told apart from every other that ever had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The kernel's random id of the boot (`/proc/sys/kernel/random/boot_id`), its 16 bytes.
    pub boot_id: [u8; 16],
    /// The process id in the agent's pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub start_ticks: u64,
    /// The inode of its pidfd where the kernel's are unique (6.9 and later), else 0.
    pub inode: u64,
}

impl ProcessId {
    /// Whether both name the same process: inodes decide where both are known, otherwise number and start time.
    pub fn is_same(&self, other: &ProcessId) -> bool {
        self.boot_id == other.boot_id
            && self.pid == other.pid
            && self.start_ticks == other.start_ticks
            && (self.inode == 0 || other.inode == 0 || self.inode == other.inode)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (started at tick {})", self.pid, self.start_ticks)
    }
}

/// A reason for which an entry expires. The kinds `Node` and `Key` are stored and kept; who acts on them comes with
/// the sessions of nodes. Kinds that this version does not know are kept, byte for byte, and not acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Expires when this process of the entry's node has exited.
    Pid(ProcessId),
    /// Expires when the session of this node is no longer at this incarnation.
    Node {
        /// The node's numeric id.
        node: u16,
        /// Its incarnation at the put.
        incarnation: u64,
    },
    /// Expires when the entry of another register is no longer the one with this token.
    Key {
        /// The parent's register.
        register: RegisterKey,
        /// The parent's token at the put.
        token: Ballot,
        /// How many parents stand above, this one included.
        depth: u8,
    },
    /// Expires when the clocks of a majority of the voters are past this time, in milliseconds since 1970.
    Until(u64),
    /// A kind of a newer version.
    Unknown {
        /// Its number.
        kind: u8,
        /// Its bytes.
        bytes: Arc<[u8]>,
    },
}

const PID: u8 = 1;
const NODE: u8 = 2;
const KEY: u8 = 3;
const UNTIL: u8 = 4;

impl Binding {
    /// The number of its kind and its bytes, as stored.
    pub(crate) fn to_parts(&self) -> (u8, Vec<u8>) {
        match self {
            Binding::Pid(p) => {
                let mut b = p.boot_id.to_vec();
                b.extend_from_slice(&p.pid.to_be_bytes());
                b.extend_from_slice(&p.start_ticks.to_be_bytes());
                b.extend_from_slice(&p.inode.to_be_bytes());
                (PID, b)
            }
            Binding::Node { node, incarnation } => {
                let mut b = node.to_be_bytes().to_vec();
                b.extend_from_slice(&incarnation.to_be_bytes());
                (NODE, b)
            }
            Binding::Key { register, token, depth } => {
                let mut b = token.to_u64().to_be_bytes().to_vec();
                b.push(*depth);
                b.extend_from_slice(register);
                (KEY, b)
            }
            Binding::Until(ms) => (UNTIL, ms.to_be_bytes().to_vec()),
            Binding::Unknown { kind, bytes } => (*kind, bytes.to_vec()),
        }
    }

    /// The binding behind its stored parts. Bytes that do not have the form of their kind are kept as unknown.
    pub(crate) fn from_parts(kind: u8, bytes: &[u8]) -> Binding {
        let known = match kind {
            PID => pid_from(bytes),
            NODE => node_from(bytes),
            KEY => key_from(bytes),
            UNTIL => bytes.try_into().ok().map(|b| Binding::Until(u64::from_be_bytes(b))),
            _ => None,
        };
        known.unwrap_or_else(|| Binding::Unknown { kind, bytes: bytes.into() })
    }
}

fn pid_from(bytes: &[u8]) -> Option<Binding> {
    let (boot_id, rest) = bytes.split_first_chunk::<16>()?;
    let (pid, rest) = rest.split_first_chunk::<4>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let inode: [u8; 8] = rest.try_into().ok()?;
    Some(Binding::Pid(ProcessId {
        boot_id: *boot_id,
        pid: u32::from_be_bytes(*pid),
        start_ticks: u64::from_be_bytes(*start),
        inode: u64::from_be_bytes(inode),
    }))
}

fn node_from(bytes: &[u8]) -> Option<Binding> {
    let (node, rest) = bytes.split_first_chunk::<2>()?;
    let incarnation = u64::from_be_bytes(rest.try_into().ok()?);
    Some(Binding::Node { node: u16::from_be_bytes(*node), incarnation })
}

fn key_from(bytes: &[u8]) -> Option<Binding> {
    let (token, rest) = bytes.split_first_chunk::<8>()?;
    let (&depth, register) = rest.split_first()?;
    Some(Binding::Key { register: register.into(), token: Ballot::from_u64(u64::from_be_bytes(*token)), depth })
}
