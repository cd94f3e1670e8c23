//! What is typed, as what it means: keys, values, times, processes.

use super::args::{AskCommand, GetArgs, Globals, KeysArgs, NoQuorumArg, PutArgs, QuorumArgs, ReadArgs, ReleaseArgs};
use super::exit::{Exit, Failure};
use crate::client::{GetOptions, KeysOptions, NoQuorum, Pid, PutOptions, ReleaseOptions};
use crate::codec::json::json_to_cbor;
use crate::codec::{cbor, to_item};
use crate::limits::{DEADLINE_MAX_MS, NESTING_LEVELS, VALUE_BYTES};
use crate::process::{ProcessError, parent_pidfd};
use serde_bytes::Bytes;
use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A command whose arguments have been understood.
pub(super) enum Question {
    Put { key: Vec<u8>, value: Vec<u8>, options: Box<PutOptions>, until_in: Option<Duration> },
    Get { key: Vec<u8>, default: Option<Vec<u8>>, quiet: bool, options: GetOptions },
    Keys { options: KeysOptions },
    Node { key: Vec<u8>, options: GetOptions },
    Pid { key: Vec<u8>, options: GetOptions },
    Holder { key: Vec<u8>, options: GetOptions },
    Release { key: Vec<u8>, options: ReleaseOptions },
    Now,
    Status,
    Cluster,
}

/// Sets the options that all commands on keys share.
macro_rules! with_common {
    ($options:expr, $bucket:expr, $quorum:expr) => {{
        let mut options = $options.no_quorum(mode($quorum));
        if let Some(bucket) = $bucket {
            options = options.bucket(bucket);
        }
        if let Some(Deadline(deadline)) = $quorum.deadline {
            options = options.deadline(deadline);
        }
        options
    }};
}

impl Question {
    pub fn read(globals: &Globals, command: AskCommand) -> Result<Question, Failure> {
        let key = |args: &ReadArgs| read_key(&args.key, globals.json);
        let read = |args: &ReadArgs| with_common!(GetOptions::new(), globals.bucket(), &args.quorum);
        Ok(match command {
            AskCommand::Put(args) => read_put(globals, args)?,
            AskCommand::Get(args) => read_get(globals, args)?,
            AskCommand::Keys(KeysArgs { bucket, quorum }) => {
                Question::Keys { options: with_common!(KeysOptions::new(), bucket.or(globals.bucket()), &quorum) }
            }
            AskCommand::Node(args) => Question::Node { key: key(&args)?, options: read(&args) },
            AskCommand::Pid(args) => Question::Pid { key: key(&args)?, options: read(&args) },
            AskCommand::Holder(args) => Question::Holder { key: key(&args)?, options: read(&args) },
            AskCommand::Release(ReleaseArgs { key, token, quorum }) => {
                let mut options = with_common!(ReleaseOptions::new(), globals.bucket(), &quorum);
                if let Some(token) = token {
                    options = options.token(token);
                }
                Question::Release { key: read_key(&key, globals.json)?, options }
            }
            AskCommand::Now => Question::Now,
            AskCommand::Status => Question::Status,
            AskCommand::Cluster => Question::Cluster,
        })
    }
}

fn read_put(globals: &Globals, args: PutArgs) -> Result<Question, Failure> {
    let key = read_key(&args.key, globals.json)?;
    let mut options = with_common!(PutOptions::new(), globals.bucket(), &args.quorum);
    if let Some(node) = args.node {
        options = options.node(node);
    }
    if let Some(parent) = args.parent {
        let (bucket, key) = read_parent(&parent, globals.json)?;
        options = options.parent_item(bucket, key);
    }
    let mut until_in = None;
    match args.until {
        None => {}
        Some(Until::At(ms)) => options = options.until(ms),
        Some(Until::In(duration)) => until_in = Some(duration),
    }
    match args.pid {
        None => {}
        Some(PidArg::Number(number)) => options = options.pid(Pid::Number(number)),
        Some(PidArg::Caller) => options = options.pid(caller()?),
    }
    // Last, since standard input may take its time.
    let value = read_value(&args.value, globals.json)?;
    Ok(Question::Put { key, value, options: Box::new(options), until_in })
}

fn read_get(globals: &Globals, args: GetArgs) -> Result<Question, Failure> {
    let mut options = with_common!(GetOptions::new(), globals.bucket(), &args.quorum);
    if args.local {
        options = options.local();
    }
    let default = args.default.map(|text| read_literal("--default", &text, globals.json)).transpose()?;
    Ok(Question::Get { key: read_key(&args.key, globals.json)?, default, quiet: args.quiet, options })
}

fn mode(quorum: &QuorumArgs) -> NoQuorum {
    match quorum.no_quorum {
        NoQuorumArg::Return => NoQuorum::Return,
        NoQuorumArg::Fail => NoQuorum::Fail,
        NoQuorumArg::Retry => NoQuorum::Retry,
    }
}

/// The shell or program that called, held by its pidfd.
fn caller() -> Result<Pid, Failure> {
    match parent_pidfd() {
        Ok((pidfd, _)) => Ok(Pid::Fd(Arc::new(pidfd))),
        Err(e @ ProcessError::Gone) => Err(Failure::new(Exit::InvalidValue, format!("--pid: the caller: {e}"))),
        Err(e) => {
            let message = format!("--pid: {e}; name the process to bind to: --pid=PID");
            Err(Failure::new(Exit::InvalidValue, message))
        }
    }
}

fn read_key(text: &str, json: bool) -> Result<Vec<u8>, Failure> {
    read_literal("KEY", text, json)
}

/// A text, or with `json` what the JSON says.
fn read_literal(what: &str, text: &str, json: bool) -> Result<Vec<u8>, Failure> {
    if !json {
        return Ok(cbor::text(text));
    }
    read_json(text.as_bytes()).map_err(|why| {
        let quoted = serde_json::Value::from(text).to_string();
        Failure::usage(format!(
            "with --json, {what} is JSON, and {text:?} is not ({why}); for the text write '{quoted}'"
        ))
    })
}

fn read_json(text: &[u8]) -> Result<Vec<u8>, String> {
    let value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let item = json_to_cbor(&value);
    cbor::check(&item, NESTING_LEVELS).map_err(|e| e.to_string())?;
    Ok(item)
}

/// `KEY`, or `BUCKET/KEY`. A key that begins with `/` is in the same bucket.
fn read_parent(text: &str, json: bool) -> Result<(Option<&str>, Vec<u8>), Failure> {
    let whole = read_literal("--key", text, json);
    match text.split_once('/') {
        // What is JSON as a whole has its slashes in a text.
        Some((bucket, key)) if !(bucket.is_empty() || json && whole.is_ok()) => {
            Ok((Some(bucket), read_literal("--key", key, json)?))
        }
        _ => Ok((None, whole?)),
    }
}

fn read_value(text: &str, json: bool) -> Result<Vec<u8>, Failure> {
    let (name, bytes) = match text.strip_prefix('@') {
        Some(path) => (path, File::open(path).and_then(read_bounded)),
        None if text == "-" => ("standard input", read_bounded(io::stdin().lock())),
        None => return read_literal("VALUE", text, json),
    };
    let bytes = bytes.map_err(|e| Failure::usage(format!("cannot read {name}: {e}")))?;
    if bytes.len() > VALUE_BYTES {
        let message = format!("{name} has more than the {VALUE_BYTES} bytes that a value may have");
        return Err(Failure::new(Exit::TooLarge, message));
    }
    if json {
        return read_json(&bytes).map_err(|why| Failure::usage(format!("{name} is not JSON: {why}")));
    }
    Ok(to_item(Bytes::new(&bytes)).map_err(crate::client::ClientError::from)?)
}

/// One byte more than a value may have at most, so that an endless input ends.
fn read_bounded(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(VALUE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `500ms`, `5s`, `2m`, `1h`, `1d`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a duration such as 500ms, 5s, 2m, 1h or 1d");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let ms_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms_per_unit)).ok_or_else(expected)?;
    Ok(Duration::from_millis(ms))
}

/// `--deadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub(super) Duration);

impl FromStr for Deadline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = parse_duration(text)?;
        if duration.is_zero() || duration.as_millis() > u128::from(DEADLINE_MAX_MS) {
            return Err("a deadline is 1ms to 1d".to_owned());
        }
        Ok(Deadline(duration))
    }
}

/// `--until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// In milliseconds since 1970.
    At(u64),
    /// From the agent's present on.
    In(Duration),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(relative) = text.strip_prefix('+') {
            return parse_duration(relative).map(Until::In);
        }
        if let Ok(ms) = text.parse() {
            return Ok(Until::At(ms));
        }
        let hint = if parse_duration(text).is_ok() { format!("; from now on: +{text}") } else { String::new() };
        Err(format!("{text:?} is neither a time in ms since 1970 nor a duration such as +30s{hint}"))
    }
}

/// `--pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidArg {
    /// The parent of the command.
    Caller,
    /// The process with this number.
    Number(u32),
}

impl FromStr for PidArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("no process has the number 0".to_owned()),
            Ok(number) => Ok(PidArg::Number(number)),
            // What clap fills in for `--pid` alone.
            Err(_) if text == "caller" => Ok(PidArg::Caller),
            Err(_) => Err(format!("{text:?} is not the number of a process")),
        }
    }
}
