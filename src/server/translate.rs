//! Requests of the client protocol to questions for the agent, and answers back.

use crate::agent::{Facts, Put, Question, Response};
use crate::codec::cbor::{check, to_deterministic};
use crate::codec::client::{BindingInfo, HolderInfo, NodeInfo, PidOption, Reply, Request, Status, VERSION};
use crate::config::Config;
use crate::kv::{self, Asker, Binding, Entry, Holder};
use crate::limits::{BUCKET_BYTES, DEADLINE_MAX_MS, KEY_BYTES, NESTING_LEVELS, VALUE_BYTES};
use crate::node::{Answer, Mode, Operation};
use crate::paxos::{Ballot, NodeId, RegisterKey};
use crate::process::{self, Caller, Identified, ProcessError};
use serde_bytes::ByteBuf;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A question, and what its answer is to look like.
pub(super) struct Asked {
    pub question: Question,
    pub shape: Shape,
}

/// What an answer is to look like.
pub(super) enum Shape {
    Put,
    Get { local: bool },
    Keys { empty_without_quorum: bool },
    Release,
    Now,
    Status,
    Quorum,
}

/// Why a request is refused.
pub(super) struct Refused {
    status: Status,
    message: String,
}

impl Refused {
    pub fn reply(self, id: u64) -> Reply {
        refuse(id, self.status, self.message)
    }
}

fn refused(status: Status, message: impl Into<String>) -> Refused {
    Refused { status, message: message.into() }
}

fn refuse(id: u64, status: Status, message: impl Into<String>) -> Reply {
    Reply { id, status, message: Some(message.into()), ..Reply::default() }
}

/// The answer to a connection's first request.
pub(super) fn greet(request: &Request) -> Reply {
    let id = request.id;
    match (request.op.as_str(), request.versions) {
        ("hello", Some((low, high))) if low <= VERSION && VERSION <= high => {
            let server = Some(format!("paxoskv {}", env!("CARGO_PKG_VERSION")));
            Reply { id, version: Some(VERSION), server, ..Reply::default() }
        }
        ("hello", Some((low, high))) => {
            refuse(id, Status::Unsupported, format!("this agent speaks version {VERSION}, not {low} to {high}"))
        }
        _ => refuse(id, Status::BadRequest, "the first request must be `hello` with `versions: [lowest, highest]`"),
    }
}

/// Whether a request comes with a descriptor.
pub(super) fn wants_fd(request: &Request) -> bool {
    matches!(&request.pid, Some(PidOption::Passed(_)))
}

/// What a request asks for, or why it is refused.
pub(super) fn question(
    request: Request,
    caller: &Caller,
    passed: Option<OwnedFd>,
    boot_id: [u8; 16],
) -> Result<Asked, Refused> {
    refuse_strays(&request)?;
    let waits = mode(&request)?;
    let deadline_ms = request.deadline;
    if deadline_ms.is_some_and(|ms| ms == 0 || ms > DEADLINE_MAX_MS) {
        return Err(refused(Status::BadRequest, format!("`deadline` is 1 to {DEADLINE_MAX_MS} ms")));
    }
    let operation =
        |operation, shape| Asked { question: Question::Operation { operation, mode: waits, deadline_ms }, shape };
    Ok(match request.op.as_str() {
        "put" => put(request, caller, passed, boot_id, waits)?,
        "get" if request.local => {
            operation(Operation::GetLocal { register: register(&request)? }, Shape::Get { local: true })
        }
        "get" => operation(Operation::Get { register: register(&request)? }, Shape::Get { local: false }),
        "keys" => {
            let bucket = bucket(&request)?;
            let after = request.after.as_ref().map(|key| kv::register_key(&bucket, key));
            let empty_without_quorum = !matches!(request.no_quorum.as_deref(), Some("fail" | "retry"));
            operation(
                Operation::List { prefix: kv::bucket_prefix(&bucket), after },
                Shape::Keys { empty_without_quorum },
            )
        }
        "release" => {
            let by = Asker { process: caller.process.as_ref().ok().map(|p| p.id), uid: caller.uid };
            let token = request.token.map(Ballot::from_u64);
            operation(Operation::Release { register: register(&request)?, token, by }, Shape::Release)
        }
        "now" => Asked { question: Question::Now, shape: Shape::Now },
        "status" => Asked { question: Question::Facts, shape: Shape::Status },
        "quorum" => Asked { question: Question::Facts, shape: Shape::Quorum },
        other => {
            let known = "put, get, keys, release, now, status, quorum";
            let other: String = other.chars().take(64).collect();
            return Err(refused(Status::BadRequest, format!("unknown operation {other:?}; there are {known}")));
        }
    })
}

/// A field that an operation does not know is a mistake of the caller, which silence would hide.
fn refuse_strays(request: &Request) -> Result<(), Refused> {
    let is = |ops: &[&str]| ops.contains(&request.op.as_str());
    let strays = [
        ("versions", request.versions.is_some(), false),
        ("bucket", request.bucket.is_some(), is(&["put", "get", "keys", "release"])),
        ("key", request.key.is_some(), is(&["put", "get", "release"])),
        ("value", request.value.is_some(), is(&["put"])),
        ("request", request.request.is_some(), is(&["put"])),
        ("retry", request.retry, is(&["put"])),
        ("pid", request.pid.is_some(), is(&["put"])),
        ("until", request.until.is_some(), is(&["put"])),
        ("node", request.node.is_some(), is(&["put"])),
        ("parent", request.parent.is_some(), is(&["put"])),
        ("token", request.token.is_some(), is(&["release"])),
        ("after", request.after.is_some(), is(&["keys"])),
        ("local", request.local, is(&["get"])),
        ("no_quorum", request.no_quorum.is_some(), is(&["put", "get", "keys", "release"])),
        ("deadline", request.deadline.is_some(), is(&["put", "get", "keys", "release"])),
    ];
    let known = ["put", "get", "keys", "release", "now", "status", "quorum"].contains(&request.op.as_str());
    match strays.iter().find(|(_, given, fits)| *given && !fits) {
        Some((field, ..)) if known => {
            Err(refused(Status::BadRequest, format!("`{field}` does not go with `{}`", request.op)))
        }
        _ => Ok(()),
    }
}

fn mode(request: &Request) -> Result<Mode, Refused> {
    match request.no_quorum.as_deref() {
        None | Some("return" | "fail") => Ok(Mode::Answer),
        Some("retry") => Ok(Mode::Retry),
        Some(_) => Err(refused(Status::BadRequest, "`no_quorum` is return, fail or retry")),
    }
}

fn bucket(request: &Request) -> Result<String, Refused> {
    let bucket = request.bucket.as_deref().unwrap_or("default");
    if bucket.is_empty() {
        return Err(refused(Status::BadRequest, "a bucket's name is not empty"));
    }
    if bucket.len() > BUCKET_BYTES {
        let message = format!("a bucket's name has at most {BUCKET_BYTES} bytes, this one {}", bucket.len());
        return Err(refused(Status::TooLarge, message));
    }
    if bucket.starts_with('$') {
        return Err(refused(Status::NotPermitted, "buckets that begin with `$` are the agents' own"));
    }
    Ok(bucket.to_owned())
}

fn register(request: &Request) -> Result<RegisterKey, Refused> {
    let bucket = bucket(request)?;
    let Some(key) = &request.key else {
        return Err(refused(Status::BadRequest, format!("`{}` needs a `key`", request.op)));
    };
    // Longer encodings of a short key exist, but not twice as long ones that anybody writes.
    if key.len() > 2 * KEY_BYTES {
        return Err(refused(Status::TooLarge, format!("a key has at most {KEY_BYTES} bytes, this one {}", key.len())));
    }
    let key = to_deterministic(key, NESTING_LEVELS)
        .map_err(|e| refused(Status::BadRequest, format!("`key` is not one CBOR data item: {e}")))?;
    if key.len() > KEY_BYTES {
        return Err(refused(Status::TooLarge, format!("a key has at most {KEY_BYTES} bytes, this one {}", key.len())));
    }
    Ok(kv::register_key(&bucket, &key))
}

fn put(
    request: Request,
    caller: &Caller,
    passed: Option<OwnedFd>,
    boot_id: [u8; 16],
    mode: Mode,
) -> Result<Asked, Refused> {
    let register = register(&request)?;
    if request.node.is_some() || request.parent.is_some() {
        let message = "this version binds keys to processes (`pid`) and times (`until`) only";
        return Err(refused(Status::Unsupported, message));
    }
    let Some(value) = &request.value else {
        return Err(refused(Status::BadRequest, "`put` needs a `value`"));
    };
    if value.len() > VALUE_BYTES {
        let message = format!("a value has at most {VALUE_BYTES} bytes, this one {}", value.len());
        return Err(refused(Status::TooLarge, message));
    }
    check(value, NESTING_LEVELS)
        .map_err(|e| refused(Status::BadRequest, format!("`value` is not one CBOR data item: {e}")))?;
    let request_id = request.request.as_ref().and_then(|r| <[u8; 16]>::try_from(r.as_slice()).ok());
    let Some(request_id) = request_id else {
        return Err(refused(Status::BadRequest, "`put` needs a `request` of 16 random bytes"));
    };
    let bind = bind(&request, caller, passed, boot_id)?;
    let process = caller.process.as_ref().ok();
    let holder = Holder {
        process: process.map(|p| p.id),
        uid: caller.uid,
        since_ms: 0,
        comm: process.map(|p| p.comm.clone()).unwrap_or_default(),
    };
    let put = Put {
        register,
        value: Arc::from(value.as_slice()),
        request: request_id,
        retry: request.retry,
        bind,
        until_ms: request.until,
        holder,
        mode,
        deadline_ms: request.deadline,
    };
    Ok(Asked { question: Question::Put(Box::new(put)), shape: Shape::Put })
}

/// The process to bind to, held by its pidfd.
fn bind(
    request: &Request,
    caller: &Caller,
    passed: Option<OwnedFd>,
    boot_id: [u8; 16],
) -> Result<Option<Identified>, Refused> {
    let target = match &request.pid {
        None | Some(PidOption::Connector(false)) => return Ok(None),
        Some(PidOption::Connector(true)) => {
            let process = caller.process.clone();
            return process.map(Some).map_err(|why| refused(Status::InvalidValue, why.to_string()));
        }
        Some(PidOption::Number(_)) if !caller.may_name_numbers() => {
            let message = "a pid number means something else outside the agent's pid namespace; pass a pidfd";
            return Err(refused(Status::InvalidValue, message));
        }
        Some(PidOption::Number(pid)) => process::identify_number(*pid, boot_id),
        Some(PidOption::Passed(word)) => match passed {
            Some(fd) if word == "fd" => process::identify_pidfd(fd, boot_id),
            _ => {
                let message = "`pid` is true, a number, or \"fd\" with a pidfd passed along";
                return Err(refused(Status::BadRequest, message));
            }
        },
    };
    let target = target.map_err(|e| match e {
        ProcessError::Exhausted(_) => refused(Status::Overloaded, e.to_string()),
        e => refused(Status::InvalidValue, format!("`pid`: {e}")),
    })?;
    if !caller.may_bind(&target) {
        let message = format!("process {} is another user's: only root may bind to it", target.id.pid);
        return Err(refused(Status::NotPermitted, message));
    }
    Ok(Some(target))
}

/// The reply to a question.
pub(super) fn reply(id: u64, shape: &Shape, response: Response, config: &Config) -> Reply {
    match response {
        Response::Now(now) => Reply { id, now: Some(now), ..Reply::default() },
        Response::Facts(facts) => facts_reply(id, shape, &facts),
        Response::Answer(answer) => answer_reply(id, shape, answer, config),
    }
}

fn answer_reply(id: u64, shape: &Shape, answer: Answer, config: &Config) -> Reply {
    let plain = |status| Reply { id, status, ..Reply::default() };
    match answer {
        Answer::Put { entry, created } => Reply { created: Some(created), ..entry_reply(id, &entry, config) },
        Answer::State(found) => {
            let local = matches!(shape, Shape::Get { local: true });
            match found {
                Some(entry) => Reply { local, ..entry_reply(id, &entry, config) },
                None => Reply { local, ..plain(Status::NotFound) },
            }
        }
        Answer::Released(token) => Reply { token: Some(token.to_u64()), ..plain(Status::Ok) },
        Answer::NothingToRelease => plain(Status::NotFound),
        Answer::NotPermitted => {
            refuse(id, Status::NotPermitted, "only its holder (the same process, or the same user on its host) or root")
        }
        Answer::Invalid(why) => refuse(id, Status::InvalidValue, why),
        Answer::OutcomeUnknown => {
            refuse(id, Status::Unknown, "this request may have set the key, and what it set has ended since")
        }
        Answer::Page { keys, next } => {
            let key = |register: &RegisterKey| {
                kv::split_register_key(register).map(|(_, key)| ByteBuf::from(key)).unwrap_or_default()
            };
            Reply {
                keys: Some(keys.iter().map(key).collect()),
                next: next.as_ref().map(key),
                quorum: Some(true),
                ..plain(Status::Ok)
            }
        }
        Answer::NoQuorum(no) => {
            if matches!(shape, Shape::Keys { empty_without_quorum: true }) {
                return Reply { keys: Some(Vec::new()), quorum: Some(false), ..plain(Status::Ok) };
            }
            let outcome = Some(if no.unknown { "unknown" } else { "not_sent" }.to_owned());
            Reply { outcome, ..refuse(id, Status::NoQuorum, no.why) }
        }
        Answer::Overloaded(why) => refuse(id, Status::Overloaded, why),
        Answer::Unreadable => {
            refuse(id, Status::Error, "the entry was written by a newer version; upgrade this agent to read it")
        }
    }
}

fn node_name(config: &Config, node: NodeId) -> String {
    config.membership.name(node).map_or_else(|| node.to_string(), str::to_owned)
}

fn entry_reply(id: u64, entry: &Entry, config: &Config) -> Reply {
    let (header, holder) = (&entry.header, &entry.holder);
    let process = holder.process.as_ref();
    Reply {
        id,
        value: Some(ByteBuf::from(entry.value.to_vec())),
        token: Some(header.token.to_u64()),
        holder: Some(HolderInfo {
            node: node_name(config, header.node),
            node_id: header.node.0,
            incarnation: header.incarnation,
            boot: process.map(|p| ByteBuf::from(p.boot_id)),
            pid: process.map(|p| p.pid),
            start: process.map(|p| p.start_ticks),
            uid: holder.uid,
            comm: holder.comm.clone(),
            since: holder.since_ms,
        }),
        bindings: Some(header.bindings.iter().map(|b| binding(b, entry, config)).collect()),
        ..Reply::default()
    }
}

fn binding(binding: &Binding, entry: &Entry, config: &Config) -> BindingInfo {
    let of = |kind: &str| BindingInfo { kind: kind.to_owned(), ..BindingInfo::default() };
    match binding {
        Binding::Pid(p) => BindingInfo {
            node: Some(node_name(config, entry.header.node)),
            pid: Some(p.pid),
            start: Some(p.start_ticks),
            ..of("pid")
        },
        Binding::Until(ms) => BindingInfo { until: Some(*ms), ..of("until") },
        Binding::Node { node, .. } => BindingInfo { node: Some(node_name(config, NodeId(*node))), ..of("node") },
        Binding::Key { .. } => of("key"),
        Binding::Unknown { kind, .. } => of(&kind.to_string()),
    }
}

fn facts_reply(id: u64, shape: &Shape, facts: &Facts) -> Reply {
    let node = |(node, name, up): &(NodeId, String, bool)| NodeInfo {
        name: name.clone(),
        id: node.0,
        up: *up,
        me: *node == facts.me,
    };
    let status_text = matches!(shape, Shape::Status).then(|| status_lines(facts));
    Reply {
        id,
        quorum: Some(facts.quorum),
        nodes: Some(facts.nodes.iter().map(node).collect()),
        cluster_size: Some(facts.nodes.len() as u64),
        status_text,
        ..Reply::default()
    }
}

fn status_lines(facts: &Facts) -> Vec<(String, String)> {
    let mut lines = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("cluster", facts.cluster.clone()),
        ("votes", facts.not_voting.clone().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"))),
        ("store", format!("{} in {}", facts.backend, facts.data_dir)),
        ("store id", facts.store.iter().map(|b| format!("{b:02x}")).collect()),
        ("life", format!("{} (began with commit {})", facts.life.number, facts.life.start_commit)),
        ("commits", facts.commit.to_string()),
        ("ballot counter", format!("{} (durable bound {})", facts.counter, facts.bound)),
        ("operations", facts.load.calls.to_string()),
        ("bound processes", format!("{} with {} keys", facts.load.processes, facts.load.claims)),
        ("unsettled puts", facts.load.unsettled_puts.to_string()),
        ("expiries owed", facts.load.duties.to_string()),
        ("running since", format!("{} s", facts.up_ms / 1000)),
    ];
    for (peer, why) in &facts.complaints {
        lines.push(("peer trouble", format!("{peer}: {why}")));
    }
    if facts.trying_out {
        lines.push(("note", "a cluster of one, without a configuration: for trying out".into()));
    }
    let peers = if facts.insecure { "NOT authenticated (insecure_peers)" } else { "loopback only (no certificates)" };
    lines.push(("peers", peers.into()));
    lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
