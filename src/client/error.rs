//! Why an operation has no answer.

use super::Outcome;
use crate::codec::CodecError;
use crate::codec::client::{Reply, Status};

/// Why an operation has no answer. Each variant is something that a caller does differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The agent could not be reached, and the operation was not begun: start the agent, or try again.
    #[error("the agent is not reachable: {0}")]
    NotReachable(String),
    /// A request was sent and not answered in time; it changes nothing, so it can simply be asked again.
    #[error("the agent did not answer in time: {0}")]
    TimedOut(String),
    /// A write was sent, and nobody can tell whether it took effect, or whether its entry has ended since: look at
    /// the key. A new put may be answered by this one's own entry.
    #[error("it is unknown whether the write took effect: {0}")]
    Unknown(String),
    /// There is no quorum. Only with [`NoQuorum::Fail`](super::NoQuorum::Fail).
    #[error("no quorum: {outcome}")]
    NoQuorum {
        /// What that means for a write.
        outcome: Outcome,
    },
    /// What the key was to be bound to is not there: the process or node is gone, the parent key is not set, or the
    /// time is not in the future. Nothing was stored.
    #[error("invalid value: {0}")]
    InvalidValue(String),
    /// Not allowed to this user or process.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// Over one of the limits of [`crate::limits`]; the message names it.
    #[error("too large: {0}")]
    TooLarge(String),
    /// Known to the protocol, and not offered by this version of the agent.
    #[error("not supported by this agent: {0}")]
    Unsupported(String),
    /// Malformed: a key or value that CBOR cannot express, a closed bucket, an option out of its range.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// The agent has too much to do and has begun nothing: try again later.
    #[error("overloaded: {0}")]
    Overloaded(String),
    /// The value that is stored is not of the type that was asked for: another program's, or another version's.
    #[error("the stored value {0}")]
    WrongType(String),
    /// The agent cannot answer; its log has more.
    #[error("the agent reports an error: {0}")]
    Agent(String),
}

impl ClientError {
    /// What a reply that brings no result means. `None` for those that are ordinary results.
    pub(super) fn of(reply: &Reply) -> Option<ClientError> {
        let message = || reply.message.clone().unwrap_or_else(|| "the agent gives no reason".to_owned());
        Some(match reply.status {
            Status::Ok | Status::NotFound | Status::NoQuorum => return None,
            Status::Unknown => ClientError::Unknown(message()),
            Status::InvalidValue => ClientError::InvalidValue(message()),
            Status::NotPermitted => ClientError::NotPermitted(message()),
            Status::TooLarge => ClientError::TooLarge(message()),
            Status::Unsupported => ClientError::Unsupported(message()),
            Status::BadRequest => ClientError::BadRequest(message()),
            Status::Overloaded => ClientError::Overloaded(message()),
            Status::Error => ClientError::Agent(message()),
        })
    }

    /// The part of a reply that must be there was not.
    pub(super) fn incomplete(field: &str) -> ClientError {
        ClientError::Agent(format!("its reply lacks `{field}`"))
    }
}

impl From<CodecError> for ClientError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Mismatch(why) => ClientError::WrongType(format!("is not of the expected type: {why}")),
            other => ClientError::BadRequest(other.to_string()),
        }
    }
}
