//! Frames between agents.
//!
//! The first frame of a connection is a [`Hello`], answered by a [`Welcome`]; both are CBOR maps with text keys, so
//! that fields can be added. Every later frame is one CBOR array:
//!
//! ```text
//! [epoch, sender, counter, life, commit, [[kind, nonce, body], ...]]
//! ```
//!
//! A body is a byte string that holds the CBOR array of its kind, so that a receiver can step over kinds that it does
//! not know. Requests have kinds below 128, replies from 128 on:
//!
//! | kind | body |
//! |---|---|
//! | 1 prepare | `[register, ballot, null or [kind, bytes]]` |
//! | 2 accept | `[register, ballot, value]` |
//! | 3 query | `[register]` |
//! | 4 forget | reserved |
//! | 5 list | `[prefix, after or null]` |
//! | 6 bound | `[[register, token, process], ...]` |
//! | 7 heartbeat | `[sequence, incarnation, [known, ...], [store, ...], formed]` |
//! | 16 to 31 | reserved for the transfer of ranges: records, floor, bound, epoch |
//! | 129 promised | `[null or [ballot, value], clock in ms]` |
//! | 130 accepted | `[]` |
//! | 131 rejected | `[promised]` |
//! | 132 state | `[null or [ballot, value]]` |
//! | 133 listing | `[[[register, ballot, live], ...], next or null]` |
//! | 135 heartbeat | `[sequence, acknowledged]` |
//! | 255 refused | `[reason]` |

use super::{CodecError, decode, encode};
use crate::kv::ProcessId;
use crate::kv::peer::{
    BoundEntry, Hello, Known, Listed, Message, PeerReply, PeerRequest, Position, Stamp, StoreOf, Welcome,
};
use crate::limits::{ENTRY_BYTES, PEER_FRAME_MESSAGES, VOTERS};
use crate::paxos::{Accepted, Ballot, Condition, NodeId, Refusal, RegisterKey, Reply, Request};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

/// The first bit of a kind tells replies from requests.
const REPLY: u16 = 128;
const PREPARE: u16 = 1;
const ACCEPT: u16 = 2;
const QUERY: u16 = 3;
const LIST: u16 = 5;
const BOUND: u16 = 6;
const HEARTBEAT: u16 = 7;
const PROMISED: u16 = 129;
const ACCEPTED: u16 = 130;
const REJECTED: u16 = 131;
const STATE: u16 = 132;
const LISTING: u16 = 133;
const HEARTBEAT_REPLY: u16 = 135;
const REFUSED: u16 = 255;

/// A message as it stands in a frame: encoded once, whoever it goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed(u16, u64, #[serde(with = "serde_bytes")] Vec<u8>);

impl Packed {
    /// About how many bytes it takes in a frame.
    pub fn len(&self) -> usize {
        self.2.len() + 16
    }

    /// Never: there is always a kind and a nonce.
    pub fn is_empty(&self) -> bool {
        false
    }
}

#[derive(Serialize)]
struct FrameOut<'a>(u64, u16, u64, u64, u64, &'a [Packed]);
#[derive(Deserialize)]
struct FrameIn(u64, u16, u64, u64, u64, Vec<Packed>);

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The sender's stamp, for each message.
    pub stamp: Stamp,
    /// The requests.
    pub requests: Vec<Message<PeerRequest>>,
    /// The replies.
    pub replies: Vec<Message<PeerReply>>,
}

/// The bytes of a handshake.
pub fn encode_hello(hello: &Hello) -> Vec<u8> {
    encode(hello)
}

/// Reads a handshake.
pub fn decode_hello(bytes: &[u8]) -> Result<Hello, CodecError> {
    decode(bytes)
}

/// The bytes of an answer to a handshake.
pub fn encode_welcome(welcome: &Welcome) -> Vec<u8> {
    encode(welcome)
}

/// Reads an answer to a handshake.
pub fn decode_welcome(bytes: &[u8]) -> Result<Welcome, CodecError> {
    decode(bytes)
}

/// The bytes of a frame of at most [`PEER_FRAME_MESSAGES`] messages.
pub fn encode_frame(stamp: &Stamp, messages: &[Packed]) -> Vec<u8> {
    encode(&FrameOut(stamp.epoch, stamp.sender.0, stamp.counter, stamp.position.life, stamp.position.commit, messages))
}

/// Reads a frame. A message whose body is not of its kind's shape makes the whole frame malformed.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame, CodecError> {
    let FrameIn(epoch, sender, counter, life, commit, messages) = decode(bytes)?;
    if messages.len() > PEER_FRAME_MESSAGES {
        return Err(CodecError::Malformed(format!("{} messages in one frame", messages.len())));
    }
    let stamp = Stamp { epoch, sender: NodeId(sender), counter, position: Position { life, commit } };
    let mut frame = Frame { stamp, requests: Vec::new(), replies: Vec::new() };
    for Packed(kind, nonce, body) in messages {
        if kind < REPLY {
            frame.requests.push(Message { nonce, body: decode_request(kind, &body)? });
        } else {
            frame.replies.push(Message { nonce, body: decode_reply(kind, &body)? });
        }
    }
    Ok(frame)
}

type Pair<'a> = (u64, &'a Bytes);
type PairIn = (u64, ByteBuf);

fn pair(a: &Accepted) -> Pair<'_> {
    (a.ballot.to_u64(), Bytes::new(&a.value))
}

fn unpair((ballot, value): PairIn) -> Result<Accepted, CodecError> {
    if value.len() > ENTRY_BYTES {
        return Err(CodecError::Malformed(format!("a value of {} bytes", value.len())));
    }
    Ok(Accepted { ballot: Ballot::from_u64(ballot), value: value.into_vec().into() })
}

fn name(bytes: ByteBuf) -> Result<RegisterKey, CodecError> {
    match crate::kv::split_register_key(&bytes) {
        Some((_, key)) if key.len() <= crate::limits::KEY_BYTES => Ok(bytes.into_vec().into()),
        _ => Err(CodecError::Malformed("a register name that is none".into())),
    }
}

/// A request, packed.
pub fn pack_request(nonce: u64, request: &PeerRequest) -> Packed {
    let (kind, body) = match request {
        PeerRequest::Paxos(Request::Prepare { register, ballot, condition }) => {
            let condition = condition.as_ref().map(|c| (c.kind, Bytes::new(&c.body)));
            (PREPARE, encode(&(Bytes::new(register), ballot, condition)))
        }
        PeerRequest::Paxos(Request::Accept { register, ballot, value }) => {
            (ACCEPT, encode(&(Bytes::new(register), ballot, Bytes::new(value))))
        }
        PeerRequest::Paxos(Request::Query { register }) => (QUERY, encode(&(Bytes::new(register),))),
        PeerRequest::List { prefix, after } => (LIST, encode(&(Bytes::new(prefix), after.as_deref().map(Bytes::new)))),
        PeerRequest::Bound(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|e| (Bytes::new(&e.register), e.token, process(&e.process))).collect();
            (BOUND, encode(&entries))
        }
        PeerRequest::Heartbeat { sequence, incarnation, known, stores, formed } => {
            (HEARTBEAT, encode(&(sequence, incarnation, known, stores, formed)))
        }
        PeerRequest::Unknown(kind) => (*kind, encode(&())),
    };
    Packed(kind, nonce, body)
}

type ProcessOut<'a> = (&'a Bytes, u32, u64, u64);
fn process(p: &ProcessId) -> ProcessOut<'_> {
    (Bytes::new(&p.boot_id), p.pid, p.start_ticks, p.inode)
}

type BoundIn = (ByteBuf, Ballot, (ByteBuf, u32, u64, u64));

fn bound((register, token, (boot_id, pid, start_ticks, inode)): BoundIn) -> Result<BoundEntry, CodecError> {
    let boot_id = boot_id.as_slice().try_into().map_err(|_| CodecError::Malformed("a boot id".into()))?;
    let process = ProcessId { boot_id, pid, start_ticks, inode };
    Ok(BoundEntry { register: name(register)?, token, process })
}

fn decode_request(kind: u16, body: &[u8]) -> Result<PeerRequest, CodecError> {
    Ok(match kind {
        PREPARE => {
            let (register, ballot, condition): (ByteBuf, Ballot, Option<(u16, ByteBuf)>) = decode(body)?;
            let condition = condition.map(|(kind, body)| Condition { kind, body: body.into_vec().into() });
            PeerRequest::Paxos(Request::Prepare { register: name(register)?, ballot, condition })
        }
        ACCEPT => {
            let (register, ballot, value): (ByteBuf, u64, ByteBuf) = decode(body)?;
            let Accepted { ballot, value } = unpair((ballot, value))?;
            PeerRequest::Paxos(Request::Accept { register: name(register)?, ballot, value })
        }
        QUERY => {
            let (register,): (ByteBuf,) = decode(body)?;
            PeerRequest::Paxos(Request::Query { register: name(register)? })
        }
        LIST => {
            let (prefix, after): (ByteBuf, Option<ByteBuf>) = decode(body)?;
            PeerRequest::List { prefix: name(prefix)?, after: after.map(name).transpose()? }
        }
        BOUND => {
            let entries: Vec<BoundIn> = decode(body)?;
            PeerRequest::Bound(entries.into_iter().map(bound).collect::<Result<_, CodecError>>()?)
        }
        HEARTBEAT => {
            let (sequence, incarnation, known, stores, formed): (u64, u64, Vec<Known>, Vec<StoreOf>, bool) =
                decode(body)?;
            if known.len() > VOTERS || stores.len() > VOTERS {
                return Err(CodecError::Malformed("a heartbeat that names more voters than there can be".into()));
            }
            PeerRequest::Heartbeat { sequence, incarnation, known, stores, formed }
        }
        kind => PeerRequest::Unknown(kind),
    })
}

/// A reply, packed.
pub fn pack_reply(nonce: u64, reply: &PeerReply) -> Packed {
    let (kind, body) = match reply {
        PeerReply::Paxos(Reply::Promised { accepted, clock_ms }) => {
            (PROMISED, encode(&(accepted.as_ref().map(pair), clock_ms)))
        }
        PeerReply::Paxos(Reply::Accepted) => (ACCEPTED, encode::<[u8; 0]>(&[])),
        PeerReply::Paxos(Reply::Rejected { promised }) => (REJECTED, encode(&(promised,))),
        PeerReply::Paxos(Reply::State { accepted }) => (STATE, encode(&(accepted.as_ref().map(pair),))),
        PeerReply::Paxos(Reply::Refused(refusal)) => (REFUSED, encode(&(refusal_code(*refusal),))),
        PeerReply::Listing { entries, next } => {
            let entries: Vec<_> = entries.iter().map(|e| (Bytes::new(&e.register), e.ballot, e.live)).collect();
            (LISTING, encode(&(entries, next.as_deref().map(Bytes::new))))
        }
        PeerReply::Heartbeat { sequence, acknowledged } => (HEARTBEAT_REPLY, encode(&(sequence, acknowledged))),
        PeerReply::Unknown(kind) => (*kind, encode::<[u8; 0]>(&[])),
    };
    Packed(kind, nonce, body)
}

fn decode_reply(kind: u16, body: &[u8]) -> Result<PeerReply, CodecError> {
    Ok(match kind {
        PROMISED => {
            let (accepted, clock_ms): (Option<PairIn>, u64) = decode(body)?;
            PeerReply::Paxos(Reply::Promised { accepted: accepted.map(unpair).transpose()?, clock_ms })
        }
        ACCEPTED => {
            let [] = decode::<[u8; 0]>(body)?;
            PeerReply::Paxos(Reply::Accepted)
        }
        REJECTED => {
            let (promised,) = decode(body)?;
            PeerReply::Paxos(Reply::Rejected { promised })
        }
        STATE => {
            let (accepted,): (Option<PairIn>,) = decode(body)?;
            PeerReply::Paxos(Reply::State { accepted: accepted.map(unpair).transpose()? })
        }
        LISTING => {
            let (entries, next): (Vec<(ByteBuf, Ballot, bool)>, Option<ByteBuf>) = decode(body)?;
            let listed = |(register, ballot, live)| Ok(Listed { register: name(register)?, ballot, live });
            let entries = entries.into_iter().map(listed).collect::<Result<_, CodecError>>()?;
            PeerReply::Listing { entries, next: next.map(name).transpose()? }
        }
        HEARTBEAT_REPLY => {
            let (sequence, acknowledged) = decode(body)?;
            PeerReply::Heartbeat { sequence, acknowledged }
        }
        REFUSED => {
            let (code,): (u16,) = decode(body)?;
            PeerReply::Paxos(Reply::Refused(refusal_of(code)))
        }
        kind => PeerReply::Unknown(kind),
    })
}

fn refusal_code(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::Condition => 1,
        Refusal::NotVoting => 2,
        Refusal::Epoch => 3,
        Refusal::Counter => 4,
        Refusal::Busy => 5,
        Refusal::Unsupported => 6,
    }
}

/// A reason of a newer version is a refusal all the same.
fn refusal_of(code: u16) -> Refusal {
    match code {
        1 => Refusal::Condition,
        2 => Refusal::NotVoting,
        3 => Refusal::Epoch,
        4 => Refusal::Counter,
        5 => Refusal::Busy,
        _ => Refusal::Unsupported,
    }
}
