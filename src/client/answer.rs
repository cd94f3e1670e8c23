//! What operations answer.

use super::ClientError;
use crate::codec::client::{BindingInfo, HolderInfo, NodeInfo, Reply};
use crate::codec::from_item;
use serde::de::DeserializeOwned;
use std::fmt;

/// The answer of an operation that needs a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "there may have been no quorum"]
pub enum Answer<T> {
    /// What the cluster has decided.
    Ok(T),
    /// There was no quorum, or no decision before the deadline.
    NoQuorum(Outcome),
}

impl<T> Answer<T> {
    /// The decision; its absence as an error.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`].
    pub fn decided(self) -> Result<T, ClientError> {
        match self {
            Answer::Ok(value) => Ok(value),
            Answer::NoQuorum(outcome) => Err(ClientError::NoQuorum { outcome }),
        }
    }

    /// The answer with another decision.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Answer::Ok(value) => Answer::Ok(change(value)),
            Answer::NoQuorum(outcome) => Answer::NoQuorum(outcome),
        }
    }

    pub(super) fn try_map<U>(self, change: impl FnOnce(T) -> Result<U, ClientError>) -> Result<Answer<U>, ClientError> {
        match self {
            Answer::Ok(value) => change(value).map(Answer::Ok),
            Answer::NoQuorum(outcome) => Ok(Answer::NoQuorum(outcome)),
        }
    }
}

/// What the absence of a quorum means for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The write may still happen, or have happened. Of a read: nothing was decided.
    Unknown,
    /// The write was never sent and never will be.
    NotSent,
}

impl Outcome {
    /// The word of the protocol: `unknown` or `not_sent`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Unknown => "unknown",
            Outcome::NotSent => "not_sent",
        }
    }

    pub(super) fn of(reply: &Reply) -> Outcome {
        // Whatever else a later version may say, the careful reading is that the write may happen.
        match reply.outcome.as_deref() {
            Some("not_sent") => Outcome::NotSent,
            _ => Outcome::Unknown,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Unknown => "the outcome is unknown, a write may still happen",
            Outcome::NotSent => "nothing was sent, and nothing will happen",
        })
    }
}

/// A live entry: what is chosen for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value, as one encoded CBOR data item. [`Entry::value`] reads it.
    pub item: Vec<u8>,
    /// Whether the put that answers with this entry is the one that set it. Of a get: false.
    pub created: bool,
    /// The fencing token: it grows along the lives of a key, and is not comparable between keys.
    pub token: u64,
    /// Who set it.
    pub holder: HolderInfo,
    /// The reasons for which it will go, beside a release.
    pub bindings: Vec<BindingInfo>,
    /// Whether it is from the agent's own store only.
    pub local: bool,
}

impl Entry {
    /// The value.
    ///
    /// # Errors
    /// [`ClientError::WrongType`] if it is not a `T`: whoever was first decides what is stored.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        Ok(from_item(&self.item)?)
    }

    /// The process that the entry is bound to, if it is.
    pub fn process(&self) -> Option<Process> {
        let binding = self.bindings.iter().find(|binding| binding.kind == "pid")?;
        Some(Process {
            node: binding.node.clone().unwrap_or_else(|| self.holder.node.clone()),
            pid: binding.pid?,
            start: binding.start,
        })
    }

    /// The node that the entry is bound to by name, if it is.
    pub fn node(&self) -> Option<&str> {
        self.bindings.iter().find(|binding| binding.kind == "node")?.node.as_deref()
    }

    pub(super) fn of(reply: Reply) -> Result<Entry, ClientError> {
        Ok(Entry {
            item: reply.value.ok_or_else(|| ClientError::incomplete("value"))?.into_vec(),
            created: reply.created.unwrap_or(false),
            token: reply.token.ok_or_else(|| ClientError::incomplete("token"))?,
            holder: reply.holder.ok_or_else(|| ClientError::incomplete("holder"))?,
            bindings: reply.bindings.unwrap_or_default(),
            local: reply.local,
        })
    }
}

/// A process of some host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The name of that host's agent.
    pub node: String,
    /// The process id there.
    pub pid: u32,
    /// When it started, in clock ticks since that host's boot: number and start time together name a process.
    pub start: Option<u64>,
}

/// The live keys of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Each as one encoded CBOR data item, in the order of their bytes. Empty without a quorum.
    pub items: Vec<Vec<u8>>,
    /// Whether there was a quorum: if not, nothing is known.
    pub quorum: bool,
}

impl Keys {
    /// The keys as values of a type.
    ///
    /// # Errors
    /// [`ClientError::WrongType`] if one of them is not a `T`.
    pub fn keys<T: DeserializeOwned>(&self) -> Result<Vec<T>, ClientError> {
        self.items.iter().map(|item| Ok(from_item(item)?)).collect()
    }
}

/// The cluster as the agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Whether more than half of the voters can be reached.
    pub quorum: bool,
    /// How many voters there are.
    pub size: u64,
    /// The voters.
    pub nodes: Vec<NodeInfo>,
}

impl Cluster {
    /// How many voters must agree.
    pub fn majority(&self) -> u64 {
        self.size / 2 + 1
    }

    /// How many can be reached.
    pub fn up(&self) -> usize {
        self.nodes.iter().filter(|node| node.up).count()
    }

    pub(super) fn of(reply: &mut Reply) -> Result<Cluster, ClientError> {
        let nodes = reply.nodes.take().ok_or_else(|| ClientError::incomplete("nodes"))?;
        Ok(Cluster {
            quorum: reply.quorum.ok_or_else(|| ClientError::incomplete("quorum"))?,
            size: reply.cluster_size.unwrap_or(nodes.len() as u64),
            nodes,
        })
    }
}

/// What the agent tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The cluster.
    pub cluster: Cluster,
    /// Further facts, name and value, for people: which there are may change with any version.
    pub facts: Vec<(String, String)>,
}
