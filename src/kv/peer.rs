//! What agents say to each other.

use super::binding::ProcessId;
use crate::paxos::{Ballot, NodeId, RegisterKey, Reply, Request};
use serde::{Deserialize, Serialize};

/// The random name that a store was given when it was made.
pub type StoreId = [u8; 16];
/// The id of a cluster: a hash of its name and its voters.
pub type ClusterId = [u8; 16];

/// Where a store stands: a life is one run of an agent on it, a commit one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    /// The number of the life.
    pub life: u64,
    /// The number of the last commit.
    pub commit: u64,
}

/// One life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Counts the openings of the store.
    pub number: u64,
    /// Random: two lives with one number are two copies of a store.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// The number of the commit that began it.
    pub start_commit: u64,
    /// The boot of the host.
    #[serde(with = "serde_bytes")]
    pub boot_id: [u8; 16],
}

/// One voter's store, as known to an agent that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoreOf {
    /// The voter.
    pub node: NodeId,
    /// Its store.
    #[serde(with = "serde_bytes")]
    pub store: StoreId,
}

/// The highest position that an agent knows of another's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The voter.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
    /// Its last known commit.
    pub commit: u64,
}

/// Whether an agent's acceptor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It counts.
    Voter,
    /// It does not.
    Observer,
}

/// The handshake: the first frame in each direction of a connection. Fields that a later version adds are ignored by
/// an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest protocol version that the sender speaks.
    pub version_min: u16,
    /// The highest.
    pub version_max: u16,
    /// Bits for what the sender can do beside that.
    pub features: u64,
    /// The cluster.
    #[serde(with = "serde_bytes")]
    pub cluster_id: ClusterId,
    /// Its name, for messages to people.
    pub cluster_name: String,
    /// The epoch of the membership.
    pub epoch: u64,
    /// A hash of the membership and of the timings that all must share.
    #[serde(with = "serde_bytes")]
    pub membership: [u8; 16],
    /// The sender.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its store.
    #[serde(with = "serde_bytes")]
    pub store: StoreId,
    /// Its life.
    pub life: Life,
    /// The last commit of its store.
    pub commit: u64,
    /// The highest ballot counter that it has seen.
    pub counter: u64,
    /// Whether its acceptor counts.
    pub role: Role,
    /// Random: an answer to a handshake repeats the nonce of the question.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// The stores of all voters, once the sender has formed the cluster; empty before.
    pub formed: Vec<StoreOf>,
    /// The stores of the voters, its own among them, as far as the sender has met them in this life.
    pub met: Vec<StoreOf>,
    /// What the sender knows of the others' stores.
    pub known: Vec<Known>,
}

/// The answer to a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// Come in: the answerer's own handshake, with the questioner's nonce.
    Accepted(Box<Hello>),
    /// Stay out, with the reason in words that go to the log of both ends.
    Refused(String),
}

/// What stands on every frame of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The epoch of the sender's membership; messages of another count for nothing.
    pub epoch: u64,
    /// The sender, checked against the connection.
    pub sender: NodeId,
    /// The highest ballot counter that the sender has seen. Receivers follow it: steady work of the others would
    /// otherwise starve a quiet or distant proposer.
    pub counter: u64,
    /// Where the sender's store stands.
    pub position: Position,
}

/// An entry that is bound to a process of the agent that is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundEntry {
    /// Its register.
    pub register: RegisterKey,
    /// Its token.
    pub token: Ballot,
    /// The process.
    pub process: ProcessId,
}

/// One register in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The register.
    pub register: RegisterKey,
    /// The ballot at which its value was accepted.
    pub ballot: Ballot,
    /// Whether that is a live entry; else a tombstone.
    pub live: bool,
}

/// What one agent asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRequest {
    /// Something about one register, of its acceptor.
    Paxos(Request),
    /// The registers with this prefix that hold anything, above `after`.
    List {
        /// The prefix of the registers' names.
        prefix: RegisterKey,
        /// Only names above this one.
        after: Option<RegisterKey>,
    },
    /// Entries bound to processes of the receiver's host. Not answered.
    Bound(Vec<BoundEntry>),
    /// I am there.
    Heartbeat {
        /// Counts the sender's heartbeats.
        sequence: u64,
        /// The incarnation of the sender's session.
        incarnation: u64,
        /// The highest positions that the sender knows.
        known: Vec<Known>,
        /// The stores of the voters, as far as the sender has met them; once it has formed the cluster, all.
        stores: Vec<StoreOf>,
        /// Whether it has.
        formed: bool,
    },
    /// A kind of a newer version.
    Unknown(u16),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerReply {
    /// About one register.
    Paxos(Reply),
    /// One page of a listing.
    Listing {
        /// In the order of their names.
        entries: Vec<Listed>,
        /// How far was looked, if there may be more above.
        next: Option<RegisterKey>,
    },
    /// To a heartbeat.
    Heartbeat {
        /// Its number.
        sequence: u64,
        /// Whether it is acknowledged; if not, the sender's session may have ended.
        acknowledged: bool,
    },
    /// A kind of a newer version.
    Unknown(u16),
}

/// One message of a frame: the nonce ties a reply to its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<B> {
    /// Drawn by the asker, never twice.
    pub nonce: u64,
    /// What is said.
    pub body: B,
}
