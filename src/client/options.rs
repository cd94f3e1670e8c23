//! What an operation can be asked to do differently.

use crate::codec::client::{Parent, Request};
use crate::codec::{CodecError, to_item};
use serde::Serialize;
use serde_bytes::ByteBuf;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How long an operation may take beyond its own deadline, and a handshake in all, before the agent counts as not
    /// answering. 15 s.
    pub timeout: Duration,
    /// Succeed at once, whether or not an agent answers: for programs that may start before their agent. Otherwise
    /// connecting ends with the agent's answer, or an error.
    pub lazy: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { timeout: Duration::from_secs(15), lazy: false }
    }
}

/// What to do when there is no quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoQuorum {
    /// An ordinary result: [`Answer::NoQuorum`](super::Answer::NoQuorum).
    #[default]
    Return,
    /// An error: [`ClientError::NoQuorum`](super::ClientError::NoQuorum).
    Fail,
    /// Wait for one until the deadline; then as with `Return`.
    Retry,
}

impl NoQuorum {
    fn to_wire(self) -> Option<String> {
        match self {
            NoQuorum::Return => None,
            NoQuorum::Fail => Some("fail".to_owned()),
            NoQuorum::Retry => Some("retry".to_owned()),
        }
    }
}

/// The process that a key is bound to: when it exits, the key goes.
#[derive(Clone, Debug)]
pub enum Pid {
    /// This process: the one that connected. Not a child that it forks later.
    Own,
    /// The process with this number, of the same user (any, for root). Only for callers in the agent's own pid
    /// namespace; the number may be reused before it is looked at, so a pidfd is better.
    Number(u32),
    /// The process of this pidfd.
    Fd(Arc<OwnedFd>),
}

/// What every operation on keys can be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    pub bucket: Option<String>,
    pub no_quorum: NoQuorum,
    pub deadline: Option<Duration>,
}

impl Common {
    /// The request of this operation, as far as it is common to all. The deadline is filled in when it is sent.
    pub fn request(&self, op: &str) -> Request {
        Request {
            op: op.to_owned(),
            bucket: self.bucket.clone(),
            no_quorum: self.no_quorum.to_wire(),
            ..Request::default()
        }
    }
}

/// The options that all operations on keys share, as methods of each.
macro_rules! common_options {
    ($options:ident) => {
        impl $options {
            /// No option set.
            pub fn new() -> Self {
                Self::default()
            }

            /// The bucket; `default` if not set. At most 255 bytes, and names that begin with `$` are closed.
            pub fn bucket(mut self, bucket: impl Into<String>) -> Self {
                self.common.bucket = Some(bucket.into());
                self
            }

            /// What to do without a quorum.
            pub fn no_quorum(mut self, mode: NoQuorum) -> Self {
                self.common.no_quorum = mode;
                self
            }

            /// How long the agent may try, in milliseconds at its finest and a day at most. If not set 10 s, and a
            /// day with [`NoQuorum::Retry`].
            pub fn deadline(mut self, deadline: Duration) -> Self {
                self.common.deadline = Some(deadline);
                self
            }
        }
    };
}

/// Options of [`put`](super::Client::put). An entry has the bindings that are set here; the first that ends takes the
/// key with it.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    pub(super) common: Common,
    pub(super) pid: Option<Pid>,
    pub(super) until: Option<u64>,
    pub(super) node: Option<String>,
    pub(super) parent: Option<Parent>,
}

common_options!(PutOptions);

impl PutOptions {
    /// Bind to a process.
    pub fn pid(mut self, pid: Pid) -> Self {
        self.pid = Some(pid);
        self
    }

    /// Bind to this process.
    pub fn own_pid(self) -> Self {
        self.pid(Pid::Own)
    }

    /// Expire when the clocks of a majority of the voters are past this, in milliseconds since 1970. Take
    /// [`now`](super::Client::now) as the base.
    pub fn until(mut self, ms: u64) -> Self {
        self.until = Some(ms);
        self
    }

    /// Bind to a node by its name. Agents of protocol version 1 answer `Unsupported`.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Bind to another key, in the same bucket unless `bucket` names one. Agents of protocol version 1 answer
    /// `Unsupported`.
    ///
    /// # Errors
    /// If the key cannot be written as CBOR.
    pub fn parent(self, bucket: Option<&str>, key: impl Serialize) -> Result<Self, CodecError> {
        Ok(self.parent_item(bucket, to_item(&key)?))
    }

    /// As [`PutOptions::parent`], of an encoded key.
    pub fn parent_item(mut self, bucket: Option<&str>, key: Vec<u8>) -> Self {
        self.parent = Some(Parent { bucket: bucket.map(str::to_owned), key: ByteBuf::from(key) });
        self
    }
}

/// Options of the operations that read one key.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    pub(super) common: Common,
    pub(super) local: bool,
}

common_options!(GetOptions);

impl GetOptions {
    /// Ask the agent's own store only: fast, works without a quorum, and perhaps outdated or never chosen.
    pub fn local(mut self) -> Self {
        self.local = true;
        self
    }
}

/// Options of [`keys`](super::Client::keys).
#[derive(Clone, Debug, Default)]
pub struct KeysOptions {
    pub(super) common: Common,
}

common_options!(KeysOptions);

/// Options of [`release`](super::Client::release).
#[derive(Clone, Debug, Default)]
pub struct ReleaseOptions {
    pub(super) common: Common,
    pub(super) token: Option<u64>,
}

common_options!(ReleaseOptions);

impl ReleaseOptions {
    /// End the entry with this token, and no later one. Without it, the one that is live at the call.
    pub fn token(mut self, token: u64) -> Self {
        self.token = Some(token);
        self
    }
}
