//! What is printed.

use super::exit::{Exit, Failure};
use crate::client::{BindingInfo, Cluster, Entry, HolderInfo, Status};
use crate::codec::json::{cbor_to_json, cbor_to_text};
use serde_json::{Value, json};
use std::io::{self, Write};

/// What a command prints, and its exit status.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub exit: Exit,
    /// To standard output.
    pub out: Vec<u8>,
    /// To standard error.
    pub note: Option<String>,
}

impl Shown {
    /// One JSON object on a line, or lines for people; nothing if these are empty.
    pub fn of(json: bool, object: Value, text: impl Into<String>) -> Shown {
        let mut out = if json { object.to_string() } else { text.into() };
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        Shown { out: out.into_bytes(), ..Shown::default() }
    }

    /// One JSON object on a line, or a value: bytes as they are, anything else with a newline.
    pub fn of_item(json: bool, object: Value, item: &[u8]) -> Shown {
        if json {
            return Shown::of(true, object, "");
        }
        let mut out = cbor_to_text(item);
        if !is_byte_string(item) {
            out.push(b'\n');
        }
        Shown { out, ..Shown::default() }
    }

    /// Prints it. A reader that has gone away, such as `head`, has what it wanted.
    pub fn print(self) -> Result<Exit, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&self.out).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            Err(e) => return Err(Failure::new(Exit::Other, format!("cannot write the answer: {e}"))),
        }
        if let Some(note) = self.note {
            // Nobody may be listening, and there is nobody else to tell.
            let _ = writeln!(io::stderr(), "paxoskv: {note}");
        }
        Ok(self.exit)
    }
}

/// Major type 2 of RFC 8949 §3.1.
fn is_byte_string(item: &[u8]) -> bool {
    item.first().is_some_and(|head| head >> 5 == 2)
}

/// A key on a line of its own: one that could break the line, or act on a terminal, as a JSON string.
pub(super) fn key_line(key: &[u8]) -> String {
    let text = String::from_utf8(cbor_to_text(key)).ok().filter(|text| !is_byte_string(key) && !text.is_empty());
    match text {
        Some(text) if !text.contains(char::is_control) => text,
        _ => cbor_to_json(key).to_string(),
    }
}

pub(super) fn entry_json(entry: &Entry) -> Value {
    json!({
        "status": "ok",
        "value": cbor_to_json(&entry.item),
        "token": entry.token.to_string(),
        "holder": holder_json(&entry.holder),
        "bindings": entry.bindings,
    })
}

pub(super) fn holder_json(holder: &HolderInfo) -> Value {
    json!({
        "node": holder.node,
        "node_id": holder.node_id,
        "incarnation": holder.incarnation,
        "boot": holder.boot.as_ref().map(|boot| hexadecimal(boot)),
        "pid": holder.pid,
        "start": holder.start,
        "uid": holder.uid,
        "comm": holder.comm,
        "since": holder.since,
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn holder_lines(entry: &Entry) -> String {
    let holder = &entry.holder;
    let process = holder.pid.map_or("unknown".to_owned(), |pid| format!("{pid} ({})", holder.comm));
    let mut rows = vec![
        ("node", format!("{} (id {}, incarnation {})", holder.node, holder.node_id, holder.incarnation)),
        ("process", process),
        ("uid", holder.uid.to_string()),
        ("since", time(holder.since)),
        ("token", entry.token.to_string()),
    ];
    rows.extend(entry.bindings.iter().map(|binding| ("bound to", binding_text(binding))));
    aligned(rows.iter().map(|(name, value)| (*name, value.as_str())))
}

fn binding_text(binding: &BindingInfo) -> String {
    let unnamed = "another node".to_owned();
    match (binding.kind.as_str(), binding.pid, binding.until) {
        ("pid", Some(pid), _) => format!("process {pid} on {}", binding.node.as_ref().unwrap_or(&unnamed)),
        ("until", _, Some(until)) => format!("the time until {}", time(until)),
        ("node", ..) => format!("node {}", binding.node.as_ref().unwrap_or(&unnamed)),
        ("key", ..) => "another key".to_owned(),
        (kind, ..) => format!("something that this version does not know (kind {kind})"),
    }
}

pub(super) fn cluster_json(cluster: &Cluster) -> Value {
    json!({
        "status": "ok",
        "quorum": cluster.quorum,
        "cluster_size": cluster.size,
        "majority": cluster.majority(),
        "nodes": cluster.nodes,
    })
}

pub(super) fn cluster_lines(cluster: &Cluster) -> String {
    let width = cluster.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max(4);
    let mut lines = format!("{:width$}  {:>5}  STATE\n", "NODE", "ID");
    for node in &cluster.nodes {
        let state = if node.up { "up" } else { "down" };
        let me = if node.me { "  this host" } else { "" };
        lines += &format!("{:width$}  {:>5}  {state}{me}\n", node.name, node.id);
    }
    lines + "quorum: " + &quorum_text(cluster) + "\n"
}

fn quorum_text(cluster: &Cluster) -> String {
    let word = if cluster.quorum { "yes" } else { "no" };
    format!("{word}, {} of {} voters up, {} needed", cluster.up(), cluster.size, cluster.majority())
}

pub(super) fn status_lines(status: &Status) -> String {
    let quorum = quorum_text(&status.cluster);
    let facts = status.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    aligned(std::iter::once(("quorum", quorum.as_str())).chain(facts))
}

/// One row a line, the values below one another; the further lines of a value below its first.
fn aligned<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
    let indented = |value: &str| value.trim_end().replace('\n', &format!("\n{:width$}", ""));
    rows.iter().map(|(name, value)| format!("{name:width$}{}\n", indented(value))).collect()
}

/// Milliseconds since 1970 as a date and time, UTC.
pub(super) fn time(ms: u64) -> String {
    let (seconds, days) = (ms / 1000 % 86_400, ms / 86_400_000);
    // Years that begin in March: the leap day is then the last, and 400 of them always have 146,097 days.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02} UTC ({ms})")
}
