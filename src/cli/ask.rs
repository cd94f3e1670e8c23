//! Asks the agent, and makes of its answer what is printed.

use super::exit::{Exit, Failure, advice_without_quorum};
use super::print::{Shown, cluster_json, cluster_lines, entry_json, holder_json, holder_lines, key_line, status_lines};
use super::values::Question;
use crate::client::{Answer, Client, ClientError, Entry, GetOptions, KeysOptions, Outcome, PutOptions};
use crate::codec::json::cbor_to_json;
use serde_json::{Value, json};
use std::time::Duration;

/// Asks, and gives what is to be printed.
pub(super) async fn ask(client: &Client, question: Question, json: bool) -> Result<Shown, Failure> {
    match question {
        Question::Put { key, value, options, until_in } => put(client, (key, value), *options, until_in, json).await,
        Question::Get { key, default, quiet, options } => get(client, key, default, quiet, options, json).await,
        Question::Keys { options } => keys(client, options, json).await,
        Question::Node { key, options } => {
            read(client, key, options, json, |entry| {
                let node = entry.node()?.to_owned();
                Some((json!({ "status": "ok", "node": node }), node))
            })
            .await
        }
        Question::Pid { key, options } => {
            read(client, key, options, json, |entry| {
                let process = entry.process()?;
                let line = format!("{} {}", process.node, process.pid);
                let (node, pid, start) = (process.node, process.pid, process.start);
                Some((json!({ "status": "ok", "node": node, "pid": pid, "start": start }), line))
            })
            .await
        }
        Question::Holder { key, options } => {
            read(client, key, options, json, |entry| {
                let object = json!({
                    "status": "ok",
                    "token": entry.token.to_string(),
                    "holder": holder_json(&entry.holder),
                    "bindings": entry.bindings,
                });
                Some((object, holder_lines(&entry)))
            })
            .await
        }
        Question::Release { key, options } => Ok(match client.release_item(key, options).await? {
            Answer::Ok(Some(token)) => done(json, json!({ "status": "ok", "token": token.to_string() })),
            Answer::Ok(None) => not_found(json, "there is nothing to release"),
            Answer::NoQuorum(outcome) => no_quorum(json, outcome),
        }),
        Question::Now => {
            let now = client.now().await?;
            Ok(Shown::of(json, json!({ "status": "ok", "now": now }), now.to_string()))
        }
        Question::Status => {
            let status = client.status().await?;
            let mut object = cluster_json(&status.cluster);
            object["facts"] = status.facts.iter().map(|(name, value)| (name.clone(), Value::from(&**value))).collect();
            let exit = if status.cluster.quorum { Exit::Ok } else { Exit::NoQuorum };
            Ok(Shown { exit, ..Shown::of(json, object, status_lines(&status)) })
        }
        Question::Cluster => {
            let cluster = client.cluster().await?;
            let exit = if cluster.quorum { Exit::Ok } else { Exit::NoQuorum };
            Ok(Shown { exit, ..Shown::of(json, cluster_json(&cluster), cluster_lines(&cluster)) })
        }
    }
}

async fn put(
    client: &Client,
    (key, value): (Vec<u8>, Vec<u8>),
    mut options: PutOptions,
    until_in: Option<Duration>,
    json: bool,
) -> Result<Shown, Failure> {
    if let Some(duration) = until_in {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        options = options.until(client.now().await?.saturating_add(ms));
    }
    Ok(match client.put_item(key, value, options).await? {
        Answer::Ok(entry) => {
            let mut object = entry_json(&entry);
            object["created"] = entry.created.into();
            Shown::of_item(json, object, &entry.item)
        }
        Answer::NoQuorum(outcome) => no_quorum(json, outcome),
    })
}

async fn get(
    client: &Client,
    key: Vec<u8>,
    default: Option<Vec<u8>>,
    quiet: bool,
    options: GetOptions,
    json: bool,
) -> Result<Shown, Failure> {
    let shown = match (client.get_item(key, options).await?, default) {
        (Answer::Ok(Some(entry)), _) => {
            let mut object = entry_json(&entry);
            if entry.local {
                object["local"] = true.into();
            }
            Shown::of_item(json, object, &entry.item)
        }
        (Answer::Ok(None), Some(default)) => {
            let object = json!({ "status": "ok", "value": cbor_to_json(&default), "default": true });
            Shown::of_item(json, object, &default)
        }
        (Answer::Ok(None), None) => not_found(json, "the key is not set"),
        (Answer::NoQuorum(outcome), _) => no_quorum(json, outcome),
    };
    Ok(if quiet { Shown { exit: shown.exit, ..Shown::default() } } else { shown })
}

async fn keys(client: &Client, options: KeysOptions, json: bool) -> Result<Shown, Failure> {
    let keys = client.keys(options).await?;
    if !keys.quorum {
        let shown = no_quorum(false, Outcome::NotSent);
        let object = json!({ "status": "no_quorum", "keys": [], "quorum": false });
        return Ok(Shown { out: Shown::of(json, object, "").out, ..shown });
    }
    let list: Value = keys.items.iter().map(|key| cbor_to_json(key)).collect();
    let lines: String = keys.items.iter().map(|key| key_line(key) + "\n").collect();
    Ok(Shown::of(json, json!({ "status": "ok", "keys": list, "quorum": true }), lines))
}

/// A command that reads a key and shows a part of its entry, which may lack it.
async fn read(
    client: &Client,
    key: Vec<u8>,
    options: GetOptions,
    json: bool,
    part: impl FnOnce(Entry) -> Option<(Value, String)>,
) -> Result<Shown, Failure> {
    Ok(match client.get_item(key, options).await? {
        Answer::Ok(Some(entry)) => match part(entry) {
            Some((object, text)) => Shown::of(json, object, text),
            None => not_found(json, "the key is set, but not bound so"),
        },
        Answer::Ok(None) => not_found(json, "the key is not set"),
        Answer::NoQuorum(outcome) => no_quorum(json, outcome),
    })
}

/// Of a command that has nothing to print for people.
fn done(json: bool, object: Value) -> Shown {
    Shown::of(json, object, "")
}

fn not_found(json: bool, message: &str) -> Shown {
    let shown = Shown::of(json, json!({ "status": "not_found" }), "");
    Shown { exit: Exit::NotFound, note: Some(message.to_owned()), ..shown }
}

fn no_quorum(json: bool, outcome: Outcome) -> Shown {
    let shown = Shown::of(json, json!({ "status": "no_quorum", "outcome": outcome.as_str() }), "");
    let error = ClientError::NoQuorum { outcome };
    let note = Some(format!("{error}; {}", advice_without_quorum(outcome)));
    Shown { exit: Exit::NoQuorum, note, ..shown }
}
