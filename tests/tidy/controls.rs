//! The controls: what the checker must object to, one planted offence each, and what it must let pass.

use super::{Offence, Rule, offences};
use std::collections::BTreeSet;

fn check(files: &[(&str, &str)]) -> Vec<Offence> {
    offences(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
}

/// The one offence of a file must be this.
#[track_caller]
fn assert_offends(path: &str, text: &str, rule: Rule, line: usize, part: &str) {
    let found = check(&[(path, text)]);
    let is_it = |offence: &Offence| offence.rule == rule && offence.line == line && offence.what.contains(part);
    assert!(found.iter().any(is_it), "expected {rule:?} at line {line} with {part:?}, found {found:?}");
    assert!(found.iter().all(|offence| offence.rule == rule), "expected only {rule:?}, found {found:?}");
}

#[track_caller]
fn assert_clean(path: &str, text: &str) {
    assert_eq!(check(&[(path, text)]), [], "{path}");
}

#[test]
fn an_upward_import_is_found_in_each_form_that_it_can_take() {
    let above = |path: &str, text: &str, line| assert_offends(path, text, Rule::Layers, line, "above it");
    above("paxos/mod.rs", "use crate::agent::Agent;", 1);
    above("paxos/acceptor.rs", "fn f() {\n    crate::kv::g();\n}", 2);
    above("paxos/acceptor.rs", "fn f(n: Vec<crate::node::N>) {}", 1);
    above(
        "kv/mod.rs",
        "pub(crate) use crate::{\n    limits::KEY_BYTES,\n    paxos::{Ballot, quorum},\n    node::{self, N},\n};",
        4,
    );
    above("kv/mod.rs", "use crate::agent as other;", 1);
    above("kv/mod.rs", "use {std::fmt, crate::agent::*};", 1);
    above("agent.rs", "use super::server::Server;", 1);
    above("paxos/ballot.rs", "use super::super::kv::Entry;", 1);
    above("transport/mod.rs", "mod tests {\n    use super::super::agent::A;\n}", 2);
    above("limits.rs", "use crate::paxos::Ballot;", 1);
}

#[test]
fn an_import_from_a_test_module_keeps_to_the_layers_too() {
    assert_offends("kv/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::node::N;\n}", Rule::Layers, 3, "above it");
}

#[test]
fn an_import_of_a_file_in_the_same_directory_and_a_higher_layer_is_found() {
    for (path, text) in [
        ("storage/mod.rs", "mod redb;\npub use redb::Redb;"),
        ("storage/mod.rs", "mod redb;\npub use self::redb::Redb;"),
        ("storage/acceptor.rs", "\nuse super::redb::Redb;"),
        ("storage/acceptor.rs", "\nuse crate::storage::{Store, redb::Redb};"),
    ] {
        let found = check(&[(path, text), ("storage/redb.rs", "")]);
        assert_eq!(found.iter().map(|offence| (offence.line, offence.rule)).collect::<Vec<_>>(), [(2, Rule::Layers)]);
    }
}

#[test]
fn siblings_that_import_one_another_are_found() {
    let beside = |path: &str, text: &str| assert_offends(path, text, Rule::Layers, 1, "beside it");
    beside("codec/mod.rs", "use crate::node::Node;");
    beside("node.rs", "use crate::codec::encode;");
    beside("server/mod.rs", "use crate::client::Client;");
    beside("transport/mod.rs", "use crate::process::Pid;");
    let files = [("storage/sled.rs", "use super::redb::R;"), ("storage/redb.rs", "")];
    assert!(check(&files)[0].what.contains("beside it"));
}

#[test]
fn a_use_of_the_configuration_by_who_should_not_know_it_is_found() {
    assert_offends("process.rs", "use crate::config::Config;", Rule::Layers, 1, "only for");
    assert_offends("storage/sled.rs", "use crate::config::Config;", Rule::Layers, 1, "only for");
    assert_offends("config.rs", "use crate::codec::cbor;", Rule::Layers, 1, "beside it");
}

#[test]
fn a_file_or_an_import_without_a_layer_is_found() {
    assert_offends("helpers.rs", "", Rule::Layers, 1, "add it to LAYERS");
    assert_offends("kv/mod.rs", "use crate::helpers::h;", Rule::Layers, 1, "in no layer");
    assert_offends("kv.rs", "use super::*;", Rule::Layers, 1, "in no layer");
}

#[test]
fn what_is_not_the_same_in_every_run_is_found_in_a_pure_layer() {
    let impure = |path: &str, text: &str, part: &str| assert_offends(path, text, Rule::Purity, 1, part);
    impure("kv/entry.rs", "use std::collections::{BTreeMap, HashMap};", "HashMap");
    impure("kv/entry.rs", "use std::collections::HashSet as Set;", "HashSet");
    impure("node/rounds.rs", "use std::{fmt, sync::{Arc, Mutex}};", "std::sync::Mutex");
    impure("node.rs", "use std::sync::{self, Arc};", "std::sync");
    impure("node.rs", "use std::sync::*;", "std::sync");
    impure("node.rs", "fn f() { ::std::env::var(\"X\"); }", "std::env::var");
    impure("codec/mod.rs", "fn f(w: &mut dyn std::io::Write) {}", "std::io::Write");
    impure("codec/peer.rs", "async fn f() {}", "async");
    impure("paxos/mod.rs", "fn f() { println!(\"x\"); }", "println");
    impure("paxos/mod.rs", "use std::time::Duration;", "std::time::Duration");
    impure("storage/mod.rs", "use std::fs::File;", "std::fs");
    impure("storage/ledger.rs", "use std::sync::atomic::AtomicU64;", "std::sync::atomic");
    impure("storage/memory.rs", "use tokio::sync::mpsc;", "tokio");
    impure("limits.rs", "use tracing::info;", "tracing");
}

#[test]
fn a_clock_that_is_read_outside_the_agent_is_found() {
    let reads = |path: &str, text: &str| assert_offends(path, text, Rule::Clocks, 1, "reads a clock");
    reads("transport/peer.rs", "fn f() { tokio::time::Instant::now(); }");
    reads("server/mod.rs", "fn f() { SystemTime::now(); }");
    reads("process.rs", "fn f() { nix::time::clock_gettime(id); }");
    reads("storage/sled.rs", "fn f(start: Instant) { start.elapsed(); }");
    reads("storage/sled.rs", "fn f() { std::thread::spawn(std::time::Instant::now); }");
    assert_offends("process.rs", "use tokio::time::sleep;", Rule::Clocks, 1, "waits");
}

#[test]
fn a_clock_in_the_pure_node_offends_twice() {
    let found = check(&[("node.rs", "fn f() {\n    std::time::Instant::now();\n}")]);
    let rules: BTreeSet<_> = found.iter().map(|offence| (offence.line, offence.rule)).collect();
    assert_eq!(rules, BTreeSet::from([(2, Rule::Purity), (2, Rule::Clocks)]));
}

#[test]
fn unsafe_code_and_the_cbor_library_are_found_outside_their_homes() {
    assert_offends("transport/tls.rs", "fn f() { unsafe { g() } }", Rule::Confined, 1, "unsafe");
    assert_offends("server/mod.rs", "use serde_cbor::Value;", Rule::Confined, 1, "serde_cbor");
    assert_clean("process.rs", "fn f() { unsafe { g() } }");
    assert_clean("codec/peer.rs", "use serde_cbor::Value;");
}

#[test]
fn files_lines_and_functions_that_are_too_long_are_found() {
    assert_offends("kv/mod.rs", &"\n".repeat(700), Rule::Size, 601, "700 lines");
    assert_clean("kv/mod.rs", &"\n".repeat(600));
    assert_offends("kv/mod.rs", &format!("\n// {}", "ü".repeat(118)), Rule::Size, 2, "121 characters");
    assert_clean("kv/mod.rs", &format!("// {}", "ü".repeat(117)));
    let function =
        |lines: usize| format!("\nfn long(x: [u8; 3]) -> bool\n{{{}}}\nfn short() {{}}", "\n".repeat(lines - 2));
    assert_offends("kv/mod.rs", &function(91), Rule::Size, 2, "fn long of 91 lines");
    assert_clean("kv/mod.rs", &function(90));
}

#[test]
fn unfinished_work_is_found() {
    let left = |text: &str, line, part: &str| assert_offends("agent.rs", text, Rule::Leftover, line, part);
    left("fn f() { todo!() }", 1, "todo!");
    left("fn f() {\n    dbg!(1);\n}", 2, "dbg!");
    left("fn f() { unimplemented!(\"later\") }", 1, "unimplemented!");
    left("fn f() {\n    g()\n        .unwrap();\n}", 3, ".unwrap()");
    left("// FIXME: later", 1, "FIXME");
    left("/* XXX */", 1, "XXX");
}

#[test]
fn code_behind_a_test_module_is_not_test_code() {
    let text = "#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}\nfn h() { g().unwrap(); }";
    assert_offends("agent.rs", text, Rule::Leftover, 5, ".unwrap()");
    assert_offends("agent.rs", "#[cfg(test)]\nuse a::b;\nfn h() { g().unwrap(); }", Rule::Leftover, 3, ".unwrap()");
    assert_offends("agent.rs", "#[cfg(test)]\nmod tests;\nfn h() { g().unwrap(); }", Rule::Leftover, 3, ".unwrap()");
}

#[test]
fn test_modules_may_use_what_the_program_must_not() {
    let test = "use std::collections::HashMap;\nfn f() { std::time::Instant::now(); g().unwrap(); }";
    assert_clean("kv/mod.rs", &format!("#[cfg(test)]\n#[rustfmt::skip]\npub(crate) mod tests {{\n{test}\n}}"));
    assert_eq!(check(&[("kv/mod.rs", "#[cfg(test)]\nmod tests;"), ("kv/tests.rs", test)]), []);
}

#[test]
fn words_in_comments_and_literals_are_no_code() {
    assert_clean(
        "kv/mod.rs",
        r##"
//! [`crate::agent`] reads std::time::Instant::now().
/* HashMap /* async */ unsafe */
fn f<'a>(x: &'a str) -> char {
    g("crate::agent \" tokio", b"unsafe", r#"std::fs " async"#, '"', '\'', b'\\', "
        println!() .unwrap() HashMap");
    'x'
}
"##,
    );
}

#[test]
fn sources_that_keep_to_the_rules_are_clean() {
    let found = check(&[
        ("lib.rs", "pub mod kv;\npub use crate::client::Client;"),
        ("main.rs", "use paxoskv::{cli, config::Config};\nfn main() {}"),
        ("cli.rs", "use crate::client::Client;\nuse crate::config::Config;\nfn f() { std::time::Instant::now(); }"),
        ("server/mod.rs", "mod connection;\nuse crate::agent::Handle;\nuse connection::C;\nuse tokio::time::timeout;"),
        ("server/connection.rs", "use super::Listener;\nuse crate::codec::client::Request;"),
        ("agent.rs", "use crate::{config::Config, node::Node, storage::sled::Sled, transport};"),
        ("transport/mod.rs", "use crate::config::Peer;\nuse crate::codec::peer;"),
        ("storage/sled.rs", "use super::{Store, StoreError};\nuse std::sync::Mutex;"),
        ("storage/mod.rs", "pub mod acceptor;\npub mod sled;\nuse acceptor::A;\nuse crate::paxos::Ballot;"),
        ("storage/acceptor.rs", "use super::ledger::Ledger;\nuse std::sync::Arc;"),
        ("storage/ledger.rs", "use crate::codec::encode;"),
        ("node/mod.rs", "use crate::kv::{self, change::Change};\nuse std::{fmt, collections::BTreeMap};"),
        ("codec/mod.rs", "pub mod cbor;\npub mod json;"),
        ("codec/json.rs", "use super::cbor::Reader;\nuse std::io::Write;"),
        ("kv/mod.rs", "use crate::limits::KEY_BYTES;\nfn f(x: u8) -> u8 { x.checked_add(1).unwrap_or(0) }"),
        ("config.rs", "use crate::{kv::Bucket, limits, paxos::NodeId};\nuse std::fs;"),
    ]);
    assert_eq!(found, []);
}
