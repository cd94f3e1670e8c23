//! Asks the agent, and makes of its answer what is printed.

use super::exit::{Exit, Failure};
use super::print::{Shown, cluster_json, cluster_lines, entry_json, holder_json, holder_lines, key_line, status_lines};
use super::values::Question;
use crate::client::{Answer, Client, ClientError, Entry, GetOptions, KeysOptions, Outcome, PutOptions};
use crate::codec::json::cbor_to_json;
use serde_json::{Value, json};
use std::time::Duration;

type Asked = Result<Answer<Shown>, ClientError>;

/// Asks, and gives what is to be printed.
pub(super) async fn ask(client: &Client, question: Question, json: bool) -> Result<Shown, Failure> {
    let writes = matches!(question, Question::Put { .. } | Question::Release { .. });
    let quiet = matches!(question, Question::Get { quiet: true, .. });
    let lists = matches!(question, Question::Keys { .. });
    let shown = match answer(client, question, json).await {
        Ok(Answer::Ok(shown)) => shown,
        Ok(Answer::NoQuorum(outcome)) => {
            let mut object = json!({ "status": "no_quorum", "outcome": outcome.as_str() });
            if lists {
                object["keys"] = json!([]);
                object["quorum"] = false.into();
            }
            let note = Some(explain_no_quorum(outcome, writes).to_owned());
            Shown { exit: Exit::NoQuorum, note, ..Shown::of(json, object, "") }
        }
        Err(ClientError::NoQuorum { outcome }) => {
            return Err(Failure::new(Exit::NoQuorumFailed, explain_no_quorum(outcome, writes)));
        }
        Err(other) => return Err(other.into()),
    };
    Ok(if quiet { Shown { exit: shown.exit, ..Shown::default() } } else { shown })
}

fn explain_no_quorum(outcome: Outcome, writes: bool) -> &'static str {
    match (writes, outcome) {
        (false, _) => "no quorum: the cluster cannot answer now; see `paxoskv cluster`",
        (true, Outcome::NotSent) => "no quorum: nothing was written, and nothing will be; see `paxoskv cluster`",
        (true, Outcome::Unknown) => {
            "no quorum: it may have been written, or may still be; see `paxoskv cluster`, and look at the key before \
             you try again"
        }
    }
}

async fn answer(client: &Client, question: Question, json: bool) -> Asked {
    match question {
        Question::Put { key, value, options, until_in } => put(client, (key, value), *options, until_in, json).await,
        Question::Get { key, default, options, .. } => get(client, key, default, options, json).await,
        Question::Keys { options } => keys(client, options, json).await,
        Question::Node { key, options } => read(client, key, options, json, node).await,
        Question::Pid { key, options } => read(client, key, options, json, process).await,
        Question::Holder { key, options } => read(client, key, options, json, holder).await,
        Question::Release { key, options } => Ok(client.release_item(key, options).await?.map(|ended| match ended {
            Some(token) => Shown::of(json, json!({ "status": "ok", "token": token.to_string() }), ""),
            None => not_found(json, "there is nothing to release"),
        })),
        Question::Now => {
            let now = client.now().await?;
            Ok(Answer::Ok(Shown::of(json, json!({ "status": "ok", "now": now }), now.to_string())))
        }
        Question::Status => {
            let status = client.status().await?;
            let mut object = cluster_json(&status.cluster);
            object["facts"] = status.facts.iter().map(|(name, value)| (name.clone(), Value::from(&**value))).collect();
            Ok(Answer::Ok(by_quorum(status.cluster.quorum, Shown::of(json, object, status_lines(&status)))))
        }
        Question::Cluster => {
            let cluster = client.cluster().await?;
            let shown = Shown::of(json, cluster_json(&cluster), cluster_lines(&cluster));
            Ok(Answer::Ok(by_quorum(cluster.quorum, shown)))
        }
    }
}

/// Of a command whose exit status tells whether there is a quorum.
fn by_quorum(quorum: bool, shown: Shown) -> Shown {
    Shown { exit: if quorum { Exit::Ok } else { Exit::NoQuorum }, ..shown }
}

async fn put(
    client: &Client,
    (key, value): (Vec<u8>, Vec<u8>),
    mut options: PutOptions,
    until_in: Option<Duration>,
    json: bool,
) -> Asked {
    if let Some(duration) = until_in {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        options = options.until(client.now().await?.saturating_add(ms));
    }
    Ok(client.put_item(key, value, options).await?.map(|entry| {
        let mut object = entry_json(&entry);
        object["created"] = entry.created.into();
        Shown::of_item(json, object, &entry.item)
    }))
}

async fn get(client: &Client, key: Vec<u8>, default: Option<Vec<u8>>, options: GetOptions, json: bool) -> Asked {
    Ok(client.get_item(key, options).await?.map(|entry| match (entry, default) {
        (Some(entry), _) => {
            let mut object = entry_json(&entry);
            if entry.local {
                object["local"] = true.into();
            }
            Shown::of_item(json, object, &entry.item)
        }
        (None, Some(default)) => {
            let object = json!({ "status": "ok", "value": cbor_to_json(&default), "default": true });
            Shown::of_item(json, object, &default)
        }
        (None, None) => not_found(json, "the key is not set"),
    }))
}

async fn keys(client: &Client, options: KeysOptions, json: bool) -> Asked {
    let keys = client.keys(options).await?;
    if !keys.quorum {
        return Ok(Answer::NoQuorum(Outcome::NotSent));
    }
    let list: Value = keys.items.iter().map(|key| cbor_to_json(key)).collect();
    let lines: String = keys.items.iter().map(|key| key_line(key) + "\n").collect();
    Ok(Answer::Ok(Shown::of(json, json!({ "status": "ok", "keys": list, "quorum": true }), lines)))
}

/// A command that reads a key and shows a part of its entry, which may lack it.
async fn read(
    client: &Client,
    key: Vec<u8>,
    options: GetOptions,
    json: bool,
    part: impl FnOnce(Entry) -> Option<(Value, String)>,
) -> Asked {
    Ok(client.get_item(key, options).await?.map(|entry| match entry.map(part) {
        Some(Some((object, text))) => Shown::of(json, object, text),
        Some(None) => not_found(json, "the key is set, but not bound so"),
        None => not_found(json, "the key is not set"),
    }))
}

fn node(entry: Entry) -> Option<(Value, String)> {
    let node = entry.node()?.to_owned();
    Some((json!({ "status": "ok", "node": node }), node))
}

fn process(entry: Entry) -> Option<(Value, String)> {
    let process = entry.process()?;
    let line = format!("{} {}", process.node, process.pid);
    Some((json!({ "status": "ok", "node": process.node, "pid": process.pid, "start": process.start }), line))
}

fn holder(entry: Entry) -> Option<(Value, String)> {
    let object = json!({
        "status": "ok",
        "token": entry.token.to_string(),
        "holder": holder_json(&entry.holder),
        "bindings": entry.bindings,
    });
    Some((object, holder_lines(&entry)))
}

fn not_found(json: bool, message: &str) -> Shown {
    let shown = Shown::of(json, json!({ "status": "not_found" }), "");
    Shown { exit: Exit::NotFound, note: Some(message.to_owned()), ..shown }
}
