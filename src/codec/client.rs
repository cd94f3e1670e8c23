//! The client protocol: everything needed to write a client, in any language.
//!
//! # Transport
//! A Unix stream socket, by default `/run/paxoskv.sock`. Each frame is a length (u32, big endian, without itself) and
//! one CBOR map with text keys. A frame has at most 256 KiB. The kernel tells the agent who connected (pid, uid, gid):
//! the *connector* owns the connection, whichever process writes to it later. When the connector exits, its bound keys
//! expire and the connection is closed.
//!
//! # Requests
//! A client may send any number of requests without waiting; replies carry the request's `id` and come in any order.
//! At most 256 requests of a connection are under way; the agent reads no further until some are answered. The first
//! request must be `hello`. Fields that a request does not know are an error, so that a misspelled option is not
//! silently ignored.
//!
//! | field | type | in | meaning |
//! |---|---|---|---|
//! | `id` | unsigned | all | chosen by the client, repeated in the reply |
//! | `op` | text | all | `hello`, `put`, `get`, `keys`, `release`, `now`, `status`, `quorum` |
//! | `versions` | array of 2 unsigned | `hello` | lowest and highest protocol version that the client speaks; this is 1 |
//! | `bucket` | text | `put` `get` `keys` `release` | at most 255 bytes; `default` if absent; names that begin with `$` are closed |
//! | `key` | bytes | `put` `get` `release` | one CBOR data item, encoded; compared by its deterministic encoding (RFC 8949 §4.2.1), at most 1 KiB |
//! | `value` | bytes | `put` | one CBOR data item, encoded; at most 64 KiB; kept byte for byte |
//! | `request` | bytes | `put` | 16 random bytes, new for each put and the same when it is repeated |
//! | `retry` | bool | `put` | whether this very request was sent to this agent before and may have been carried out: not after `not_sent` |
//! | `pid` | true, unsigned or `"fd"` | `put` | bind to the connector, to the process with this number (of the same uid; any for root), or to the process of the pidfd passed along (`SCM_RIGHTS`, with the first byte of the frame) |
//! | `until` | unsigned | `put` | expires when the clocks of a majority of the voters are past this (ms since 1970) |
//! | `node` | text | `put` | reserved: answered `unsupported` |
//! | `parent` | map `{bucket?, key}` | `put` | reserved: answered `unsupported` |
//! | `token` | unsigned | `release` | which entry; without it the one that is live |
//! | `after` | bytes | `keys` | list keys above this one (as given by `next`) |
//! | `local` | bool | `get` | answer from this agent's own store: perhaps outdated, perhaps never chosen |
//! | `no_quorum` | text | `put` `get` `keys` `release` | `return` (the default), `fail` or `retry`: what to do without a quorum. `return` and `fail` are answered alike (a library makes an error of `fail`), except that `keys` answers an empty list to `return` |
//! | `deadline` | unsigned | `put` `get` `keys` `release` | how long it may take, in ms, at most a day; if absent 10 s, and a day with `retry` |
//!
//! # Repeating
//!
//! A put whose answer did not come (the connection broke) or was `no_quorum` with `unknown` can be repeated at the
//! *same* agent, with the same `request` and `retry: true`; it never sets the key twice. Another agent does not know
//! the request: it answers with whatever it finds, while the first may still be carried out.
//!
//! # Replies
//! A map with `id` and `status`; a reply with `id` 0 that answers no request says why the agent closes the connection.
//!
//! | status | meaning |
//! |---|---|
//! | `ok` | done; see the fields below |
//! | `not_found` | no live entry |
//! | `no_quorum` | no decision. `outcome` is `unknown` (the write may still happen) or `not_sent` (it never will) |
//! | `unknown` | a repeated put that may have had an entry which has ended since |
//! | `invalid_value` | what the key was to be bound to is not there; `message` tells |
//! | `not_permitted` | by the rules of who may do what |
//! | `too_large` | over a limit; `message` names it |
//! | `unsupported` | known, but not in this version |
//! | `bad_request` | malformed; `message` tells what is expected |
//! | `overloaded` | nothing was begun; try again |
//! | `error` | the agent cannot answer; `message` tells why |
//!
//! | field | type | in the reply to |
//! |---|---|---|
//! | `version`, `server` | unsigned, text | `hello`: the version to speak, the agent's name and version |
//! | `value` | bytes | `put`, `get`: the chosen value |
//! | `created` | bool | `put`: whether this request set it |
//! | `token` | unsigned | `put`, `get`, `release`: the live entry's fencing token: it only grows along a key's history |
//! | `holder` | map | `put`, `get`: who set it: `node` (text), `node_id`, `incarnation`, `boot` (bytes), `pid` and `start` if known, `uid`, `comm`, `since` (ms) |
//! | `bindings` | array of maps | `put`, `get`: `kind` (`pid`, `until`, `node`, `key` or a number), and `pid`, `start`, `node`, `until` |
//! | `local` | bool | `get`: the answer is of this agent's own store |
//! | `keys` | array of bytes | `keys`: encoded keys, in the order of their bytes |
//! | `next` | bytes | `keys`: ask again with this as `after`; absent at the end |
//! | `quorum` | bool | `keys`, `quorum`, `status`: whether there is one |
//! | `now` | unsigned | `now`: ms since 1970 |
//! | `nodes` | array of maps | `quorum`, `status`: the voters: `name`, `id`, `up`, `me` |
//! | `cluster_size` | unsigned | `quorum`, `status` |
//! | `status_text` | array of 2 texts each | `status`: further facts, name and value, for people |

use super::{CodecError, decode, encode};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The protocol version described here.
pub const VERSION: u16 = 1;
/// How many requests of one connection may be under way.
pub const PIPELINE: usize = 256;

/// A request frame. See the module's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Repeated in the reply.
    pub id: u64,
    /// The operation.
    pub op: String,
    /// `hello`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<(u16, u16)>,
    /// The bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The key, encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ByteBuf>,
    /// The value, encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ByteBuf>,
    /// The put's random id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ByteBuf>,
    /// A repeated put.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    /// Bind to a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<PidOption>,
    /// Bind to a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Bind to a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Bind to another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The entry to release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Where a listing goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ByteBuf>,
    /// Read the own store only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// What to do without a quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_quorum: Option<String>,
    /// How long it may take, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
}

/// Which process to bind to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PidOption {
    /// `true`: the connector.
    Connector(bool),
    /// The process with this number.
    Number(u32),
    /// `"fd"`: the process of the pidfd that comes with the frame.
    Passed(String),
}

/// Another key, in the same bucket unless named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The key, encoded.
    pub key: ByteBuf,
}

/// What a reply says first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Done.
    #[default]
    Ok,
    /// No live entry.
    NotFound,
    /// No decision.
    NoQuorum,
    /// A repeated put that may have had an entry which has ended since.
    Unknown,
    /// What the key was to be bound to is not there.
    InvalidValue,
    /// Not allowed to the caller.
    NotPermitted,
    /// Over a limit.
    TooLarge,
    /// Not in this version.
    Unsupported,
    /// Malformed.
    BadRequest,
    /// Nothing was begun.
    Overloaded,
    /// The agent cannot answer. Also what a client makes of a status that it does not know.
    #[serde(other)]
    Error,
}

/// A reply frame. See the module's tables. Fields that a later version adds are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// What it came to.
    pub status: Status,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of `no_quorum`: `unknown` or `not_sent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `hello`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
    /// `hello`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The chosen value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ByteBuf>,
    /// Whether this request set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// The fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Who set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderInfo>,
    /// Why it will go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<Vec<BindingInfo>>,
    /// Read from the own store only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// Encoded keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<ByteBuf>>,
    /// Where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ByteBuf>,
    /// Whether there is a quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<bool>,
    /// The agent's clock, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
    /// The voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<NodeInfo>>,
    /// How many voters there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<u64>,
    /// Further facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<Vec<(String, String)>>,
}

/// Who set a key, as that host's kernel attested it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderInfo {
    /// The agent's name.
    pub node: String,
    /// The agent's numeric id.
    pub node_id: u16,
    /// The agent's incarnation at the put.
    pub incarnation: u64,
    /// The boot of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<ByteBuf>,
    /// The process, on that host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its start time in clock ticks since boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// Its user.
    pub uid: u32,
    /// Its command name.
    pub comm: String,
    /// When the put was made, by that host's clock, in ms since 1970.
    pub since: u64,
}

/// A reason for which a key will go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingInfo {
    /// `pid`, `until`, `node`, `key`, or the number of a kind that the agent does not know.
    pub kind: String,
    /// The node of the process, or the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The process, on that node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its start time in clock ticks since boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// The time, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// One voter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its numeric id.
    pub id: u16,
    /// Whether the agent that answers can reach it.
    pub up: bool,
    /// Whether it is the agent that answers.
    pub me: bool,
}

/// The bytes of a request, without the length.
pub fn encode_request(request: &Request) -> Vec<u8> {
    encode(request)
}

/// Reads a request.
pub fn decode_request(bytes: &[u8]) -> Result<Request, CodecError> {
    decode(bytes)
}

/// The bytes of a reply, without the length.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    encode(reply)
}

/// Reads a reply.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, CodecError> {
    decode(bytes)
}
