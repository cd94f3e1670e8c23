//! Exit statuses.

use crate::client::ClientError;
use std::fmt;
use std::process::ExitCode;

/// What the command's exit status says. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or found.
    #[default]
    Ok = 0,
    /// The key is not set, or has no such binding.
    NotFound = 1,
    /// The command line, or a value on it, is not understood.
    Usage = 2,
    /// There is no quorum, also after waiting for one until the deadline.
    NoQuorum = 3,
    /// What the key was to be bound to is not there.
    InvalidValue = 4,
    /// Not allowed to this user or process.
    NotPermitted = 5,
    /// No agent answers.
    NotReachable = 6,
    /// There is no quorum, and `--no-quorum fail` was given.
    NoQuorumFailed = 7,
    /// Over a limit.
    TooLarge = 8,
    /// Nobody can tell whether the write took effect.
    Unknown = 9,
    /// Any other error.
    Other = 10,
    /// The agent: the system refused something that it cannot do without (`EX_OSERR` of `sysexits(3)`).
    System = 71,
    /// The agent: its store failed (`EX_IOERR`).
    StorageFailed = 74,
    /// The agent: its configuration cannot be used (`EX_CONFIG`).
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command has no answer: its exit status, and what to tell the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// What happened, and what to do.
    pub message: String,
}

impl Failure {
    /// With a status and a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    pub(super) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, what_to_do) = match &error {
            ClientError::NotReachable(_) => (
                Exit::NotReachable,
                "is it running (`systemctl status paxoskv`), and is --socket or PAXOSKV_SOCKET its?",
            ),
            ClientError::TimedOut(_) => (Exit::NotReachable, "try again, or look at its log"),
            ClientError::Unknown(_) => (Exit::Unknown, "look with `paxoskv holder KEY` before you try again"),
            ClientError::NoQuorum { .. } => (Exit::NoQuorumFailed, "see `paxoskv cluster`"),
            ClientError::InvalidValue(_) => (Exit::InvalidValue, ""),
            ClientError::NotPermitted(_) => (Exit::NotPermitted, ""),
            ClientError::TooLarge(_) => (Exit::TooLarge, ""),
            ClientError::Overloaded(_) => (Exit::Other, "nothing was begun: try again later"),
            ClientError::Unsupported(_)
            | ClientError::BadRequest(_)
            | ClientError::WrongType(_)
            | ClientError::Agent(_) => (Exit::Other, ""),
        };
        let separator = if what_to_do.is_empty() { "" } else { "; " };
        Failure::new(exit, format!("{error}{separator}{what_to_do}"))
    }
}
