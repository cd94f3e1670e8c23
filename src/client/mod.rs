//! The library for applications on the host of an agent.
//!
//! A [`Client`] is one connection to the local agent over its Unix socket, shared by its clones. Requests are
//! pipelined: any number of tasks may ask at once, and 256 are under way. When the connection breaks, because the
//! agent is restarted, say, it is made again, and what waits for an answer is repeated in a way that cannot do it
//! twice. [`crate::codec::client`] describes the protocol underneath.
//!
//! Keys and values are anything that serde can write as CBOR. They are compared, kept and returned as bytes; the
//! variants with `item` in their names take them encoded.
//!
//! ```no_run
//! use paxoskv::client::{Answer, Client, PutOptions};
//!
//! # async fn example() -> Result<(), paxoskv::client::ClientError> {
//! let client = Client::connect("/run/paxoskv.sock").await?;
//! // Bound to this process: when it exits, however it exits, the key goes.
//! match client.put("leader", "alice", PutOptions::new().own_pid()).await? {
//!     Answer::Ok(entry) if entry.created => println!("I lead, with token {}", entry.token),
//!     Answer::Ok(entry) => println!("{} leads, since {}", entry.value::<String>()?, entry.holder.since),
//!     Answer::NoQuorum(outcome) => println!("nobody knows: {outcome}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Three kinds of no
//! *Absence* is an ordinary answer: `None`. *No quorum* is an ordinary answer too, [`Answer::NoQuorum`], unless
//! [`NoQuorum::Fail`] makes an error of it; [`Answer::decided`] does so where it is convenient. Everything else is a
//! [`ClientError`].
//!
//! # Tokens
//! A lock is advisory. A process that holds a key may be stopped between the moment it looks and the moment it acts;
//! only a resource that refuses tokens below the highest it has seen is safe from that.

mod answer;
pub mod blocking;
mod connection;
mod driver;
mod error;
mod options;
#[cfg(test)]
mod tests;

pub use crate::codec::client::{BindingInfo, HolderInfo, NodeInfo};
pub use answer::{Answer, Cluster, Entry, Keys, Outcome, Process, Status};
pub use error::ClientError;
pub use options::{ConnectOptions, GetOptions, KeysOptions, NoQuorum, Pid, PutOptions, ReleaseOptions};

use crate::codec::client::{self as wire, PidOption, Reply, Request};
use crate::codec::to_item;
use crate::limits::{DEADLINE_MAX_MS, OPERATION_TIMEOUT_US};
use connection::Connection;
use driver::{Link, Replied};
use options::Common;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A connection to the local agent. Clones share it; it is closed with the last of them.
///
/// It belongs to the tokio runtime in which it was made, and to the process: after a `fork` the child needs its own.
#[derive(Clone, Debug)]
pub struct Client {
    link: Arc<Link>,
}

impl Client {
    /// Connects to the agent that listens on `path`, usually `/run/paxoskv.sock`.
    ///
    /// # Errors
    /// [`ClientError::NotReachable`] if there is no socket, nobody listens, or no answer comes within 15 s;
    /// [`ClientError::Unsupported`] if the agent speaks other versions of the protocol; whatever else the agent has
    /// against the connection.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Client, ClientError> {
        Client::connect_with(path, ConnectOptions::default()).await
    }

    /// As [`Client::connect`], with options.
    ///
    /// # Errors
    /// As [`Client::connect`]; none if `lazy`.
    pub async fn connect_with(path: impl AsRef<Path>, options: ConnectOptions) -> Result<Client, ClientError> {
        let path = path.as_ref();
        let timeout = options.timeout.min(Duration::from_millis(DEADLINE_MAX_MS));
        let connection = if options.lazy { None } else { Some(Connection::open(path, timeout).await?) };
        Ok(Client { link: Arc::new(Link::start(path.to_owned(), connection, timeout)) })
    }

    /// Sets the key unless it is set, and answers with the chosen entry, whoever set it: look at
    /// [`Entry::created`]. A key may have 1 KiB, a value 64 KiB.
    ///
    /// # Errors
    /// [`ClientError::InvalidValue`], [`ClientError::NotPermitted`], [`ClientError::TooLarge`] and
    /// [`ClientError::BadRequest`] for what cannot be put so; [`ClientError::Unknown`] if it may have been put and the
    /// connection was lost at the wrong moment; and those of all operations.
    pub async fn put(
        &self,
        key: impl Serialize,
        value: impl Serialize,
        options: PutOptions,
    ) -> Result<Answer<Entry>, ClientError> {
        self.put_item(to_item(&key)?, to_item(&value)?, options).await
    }

    /// As [`Client::put`], of an encoded key and value.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn put_item(
        &self,
        key: Vec<u8>,
        value: Vec<u8>,
        options: PutOptions,
    ) -> Result<Answer<Entry>, ClientError> {
        let (pid, fd) = match options.pid {
            None => (None, None),
            Some(Pid::Own) => (Some(PidOption::Connector(true)), None),
            Some(Pid::Number(number)) => (Some(PidOption::Number(number)), None),
            Some(Pid::Fd(fd)) => (Some(PidOption::Passed("fd".to_owned())), Some(fd)),
        };
        let request = Request {
            key: Some(ByteBuf::from(key)),
            value: Some(ByteBuf::from(value)),
            request: Some(ByteBuf::from(new_request_id()?)),
            pid,
            until: options.until,
            node: options.node,
            parent: options.parent,
            ..options.common.request("put")
        };
        let deadline = deadline_of(&options.common)?;
        let replied = self.link.ask(request, fd, Some(deadline)).await?;
        answer_of_write(replied, options.common.no_quorum)?.try_map(Entry::of)
    }

    /// The live entry of a key, as a quorum has it.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn get(&self, key: impl Serialize, options: GetOptions) -> Result<Answer<Option<Entry>>, ClientError> {
        self.get_item(to_item(&key)?, options).await
    }

    /// As [`Client::get`], of an encoded key.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_item(&self, key: Vec<u8>, options: GetOptions) -> Result<Answer<Option<Entry>>, ClientError> {
        let deadline = deadline_of(&options.common)?;
        let request = Request { key: Some(ByteBuf::from(key)), local: options.local, ..options.common.request("get") };
        let reply = self.link.ask(request, None, Some(deadline)).await?.reply;
        answer_of(reply, options.common.no_quorum)?.try_map(|reply| match reply.status {
            wire::Status::NotFound => Ok(None),
            _ => Entry::of(reply).map(Some),
        })
    }

    /// The value of a key, or `default` if the key is not set. Without a quorum it is never the default.
    ///
    /// # Errors
    /// [`ClientError::WrongType`] if what is stored is not a `T`; and those of all operations.
    pub async fn get_or<T: DeserializeOwned>(
        &self,
        key: impl Serialize,
        default: T,
        options: GetOptions,
    ) -> Result<Answer<T>, ClientError> {
        self.get(key, options).await?.try_map(|entry| entry.map_or(Ok(default), |entry| entry.value()))
    }

    /// The process that a key is bound to; `None` if the key is not set, or not bound to one.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn pid(&self, key: impl Serialize, options: GetOptions) -> Result<Answer<Option<Process>>, ClientError> {
        Ok(self.get(key, options).await?.map(|entry| entry.and_then(|entry| entry.process())))
    }

    /// The name of the node that a key is bound to; `None` if the key is not set, or not bound to one.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn node(&self, key: impl Serialize, options: GetOptions) -> Result<Answer<Option<String>>, ClientError> {
        Ok(self.get(key, options).await?.map(|entry| entry.and_then(|entry| entry.node().map(str::to_owned))))
    }

    /// Who set a key, as that host's kernel attested it; `None` if the key is not set.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn holder(
        &self,
        key: impl Serialize,
        options: GetOptions,
    ) -> Result<Answer<Option<HolderInfo>>, ClientError> {
        Ok(self.get(key, options).await?.map(|entry| entry.map(|entry| entry.holder)))
    }

    /// Ends an entry before its bindings do. Only for its holder: the same process, or the same uid on the same node;
    /// or root. Answers the token of the entry that ended; `None` if there was none to end.
    ///
    /// # Errors
    /// [`ClientError::NotPermitted`]; [`ClientError::Unknown`] if the connection was lost at the wrong moment; and
    /// those of all operations.
    pub async fn release(
        &self,
        key: impl Serialize,
        options: ReleaseOptions,
    ) -> Result<Answer<Option<u64>>, ClientError> {
        self.release_item(to_item(&key)?, options).await
    }

    /// As [`Client::release`], of an encoded key.
    ///
    /// # Errors
    /// As [`Client::release`].
    pub async fn release_item(
        &self,
        key: Vec<u8>,
        options: ReleaseOptions,
    ) -> Result<Answer<Option<u64>>, ClientError> {
        let mode = options.common.no_quorum;
        let ends = Instant::now() + deadline_of(&options.common)?;
        let request = Request { key: Some(ByteBuf::from(key)), ..options.common.request("release") };
        // Which entry is meant is settled before the release itself, which can then be repeated without ending a
        // later one. Where nothing is found the release goes out all the same, for whatever is there: a put of which
        // nobody knows the outcome may still become live, and an answered release ends that, too.
        let token = match options.token {
            Some(token) => Some(token),
            None => {
                let get = Request { op: "get".to_owned(), ..request.clone() };
                let reply = self.link.ask(get, None, Some(remaining(ends))).await?.reply;
                match answer_of(reply, mode)? {
                    Answer::Ok(reply) if reply.status == wire::Status::NotFound => None,
                    Answer::Ok(reply) => Some(reply.token.ok_or_else(|| ClientError::incomplete("token"))?),
                    Answer::NoQuorum(_) => return Ok(Answer::NoQuorum(Outcome::NotSent)),
                }
            }
        };
        let request = Request { token, ..request };
        let replied = self.link.ask(request, None, Some(remaining(ends))).await?;
        let repeated = replied.repeated;
        Ok(answer_of_write(replied, mode)?.map(|reply| match reply.status {
            // The first attempt has done it, or something else has; it is gone either way.
            wire::Status::NotFound => token.filter(|_| repeated),
            _ => reply.token.or(token),
        }))
    }

    /// The live keys of a bucket: every key that is live during the whole call, and none that is absent during the
    /// whole call; not a snapshot. Without a quorum none, and [`Keys::quorum`] says so.
    ///
    /// # Errors
    /// [`ClientError::NoQuorum`] with [`NoQuorum::Fail`]; and those of all operations.
    pub async fn keys(&self, options: KeysOptions) -> Result<Keys, ClientError> {
        let ends = Instant::now() + deadline_of(&options.common)?;
        let mut keys = Keys { items: Vec::new(), quorum: true };
        let mut after = None;
        loop {
            let request = Request { after: after.clone(), ..options.common.request("keys") };
            let reply = self.link.ask(request, None, Some(remaining(ends))).await?.reply;
            match answer_of(reply, options.common.no_quorum)? {
                Answer::Ok(reply) if reply.quorum != Some(false) => {
                    keys.items.extend(reply.keys.unwrap_or_default().into_iter().map(ByteBuf::into_vec));
                    if reply.next.is_none() {
                        return Ok(keys);
                    }
                    // An agent that does not move on would be asked for ever.
                    if reply.next <= after {
                        return Err(ClientError::Agent("its listing does not move on".to_owned()));
                    }
                    after = reply.next;
                }
                // Half a list would be taken for a whole one.
                Answer::Ok(_) | Answer::NoQuorum(_) => return Ok(Keys::default()),
            }
        }
    }

    /// The agent's wall clock, in milliseconds since 1970: the base for [`PutOptions::until`].
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn now(&self) -> Result<u64, ClientError> {
        self.ask_plainly("now").await?.now.ok_or_else(|| ClientError::incomplete("now"))
    }

    /// The voters, and whether there is a quorum, as the agent sees them now.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn cluster(&self) -> Result<Cluster, ClientError> {
        Cluster::of(&mut self.ask_plainly("quorum").await?)
    }

    /// Whether the agent can reach more than half of the voters.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn quorum(&self) -> Result<bool, ClientError> {
        Ok(self.cluster().await?.quorum)
    }

    /// The voters.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, ClientError> {
        Ok(self.cluster().await?.nodes)
    }

    /// How many voters there are, up or not.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn cluster_size(&self) -> Result<u64, ClientError> {
        Ok(self.cluster().await?.size)
    }

    /// What the agent tells about itself, for people.
    ///
    /// # Errors
    /// Those of all operations.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let mut reply = self.ask_plainly("status").await?;
        let cluster = Cluster::of(&mut reply)?;
        Ok(Status { cluster, facts: reply.status_text.unwrap_or_default() })
    }

    /// An operation without options, which the agent answers out of its head.
    async fn ask_plainly(&self, op: &str) -> Result<Reply, ClientError> {
        let request = Request { op: op.to_owned(), ..Request::default() };
        let reply = self.link.ask(request, None, None).await?.reply;
        match ClientError::of(&reply) {
            Some(error) => Err(error),
            None if reply.status == wire::Status::Ok => Ok(reply),
            None => Err(ClientError::Agent(format!("it answers `{op}` with another kind of reply"))),
        }
    }
}

/// Tells errors, the lack of a quorum, and answers apart.
fn answer_of(reply: Reply, mode: NoQuorum) -> Result<Answer<Reply>, ClientError> {
    if let Some(error) = ClientError::of(&reply) {
        return Err(error);
    }
    match (reply.status, mode) {
        (wire::Status::NoQuorum, NoQuorum::Fail) => Err(ClientError::NoQuorum { outcome: Outcome::of(&reply) }),
        (wire::Status::NoQuorum, _) => Ok(Answer::NoQuorum(Outcome::of(&reply))),
        _ => Ok(Answer::Ok(reply)),
    }
}

/// As [`answer_of`], of a write. What the agent says against a repetition, *overloaded* or *not sent*, say, is true of
/// that only: the first request may have been carried out.
fn answer_of_write(replied: Replied, mode: NoQuorum) -> Result<Answer<Reply>, ClientError> {
    match (answer_of(replied.reply, mode), replied.repeated) {
        (Ok(Answer::NoQuorum(_)), true) => Ok(Answer::NoQuorum(Outcome::Unknown)),
        (Err(ClientError::NoQuorum { .. }), true) => Err(ClientError::NoQuorum { outcome: Outcome::Unknown }),
        (Err(ClientError::Unknown(why)), true) => Err(ClientError::Unknown(why)),
        (Err(error), true) => {
            Err(ClientError::Unknown(format!("the connection was lost, and asked again the agent says: {error}")))
        }
        (answer, _) => answer,
    }
}

fn deadline_of(common: &Common) -> Result<Duration, ClientError> {
    let unless_named = match common.no_quorum {
        NoQuorum::Return | NoQuorum::Fail => Duration::from_micros(OPERATION_TIMEOUT_US),
        NoQuorum::Retry => Duration::from_millis(DEADLINE_MAX_MS),
    };
    let deadline = common.deadline.unwrap_or(unless_named);
    if deadline.as_millis() > u128::from(DEADLINE_MAX_MS) {
        return Err(ClientError::BadRequest(format!("a deadline is at most a day ({DEADLINE_MAX_MS} ms)")));
    }
    Ok(deadline)
}

fn remaining(ends: Instant) -> Duration {
    ends.saturating_duration_since(Instant::now())
}

/// 128 random bits, by which the agent knows a put again.
fn new_request_id() -> Result<[u8; 16], ClientError> {
    let mut id = [0; 16];
    match getrandom::fill(&mut id) {
        Ok(()) => Ok(id),
        Err(e) => Err(ClientError::NotReachable(format!("the system gives no random bytes for a request: {e}"))),
    }
}
