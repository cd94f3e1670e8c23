//! Style as a test: reads the sources as text, and prints every offence before it fails.
//!
//! What is checked: that imports only point down, that the pure layers stay pure, who may read a clock, where
//! `unsafe` and `serde_cbor` may stand, sizes, and leftovers. Comments and literals do not count, except for the
//! marks of unfinished work. Test modules may be impure, read clocks and unwrap; all else holds for them too.
//!
//! It is a reader of tokens, not a compiler: macros are not expanded, and a type that is passed on under another name
//! is not followed. The controls plant one offence each, and show that it is found.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

#[path = "tidy/controls.rs"]
mod controls;
#[path = "tidy/source.rs"]
mod source;

use source::{Import, Source, Token};

/// The layers: an import goes to a lower rank, or stays in its module. The longest prefix counts; `/*` is any other
/// file of that directory, each a module of its own.
const LAYERS: &[(&str, u8)] = &[
    ("main", 10),
    ("lib", 10),
    ("cli", 9),
    ("dev", 8),
    ("server", 7),
    ("client", 7),
    ("agent", 6),
    ("transport", 5),
    ("process", 5),
    ("storage/*", 5),
    ("storage", 4),
    ("storage/acceptor", 4),
    ("storage/ledger", 4),
    ("config", 3),
    ("codec", 3),
    ("node", 3),
    ("kv", 2),
    ("paxos", 1),
    ("limits", 0),
];
/// Modules that not everyone above them may import, and who may.
const IMPORTED_ONLY_BY: &[(&str, &str)] = &[("config", "main lib cli dev server client agent transport")];

/// What must do the same on every machine and in every run; `storage` without its other files.
const PURE: &str = "paxos kv node codec limits storage storage/acceptor storage/ledger storage/memory";
/// The part of it that need not.
const IMPURE: &str = "codec/json";
/// Paths that the pure layers must not name: neither what is below them, nor a parent as a whole.
const IMPURE_PATHS: &str = "std::fs std::net std::io std::os std::time core::time std::thread std::env std::process
    std::sync::Mutex std::sync::RwLock std::sync::mpsc std::sync::atomic core::sync::atomic";
/// Words that the pure layers must not use, wherever they come from. Those of hash tables: their order is random.
const IMPURE_WORDS: &str = "tokio tokio_util tokio_serde async await Instant SystemTime Mutex RwLock HashMap HashSet
    RandomState rand getrandom tracing";
const IMPURE_MACROS: &str = "print println eprint eprintln";

/// Who may read a clock; everyone else is told the time, or a deadline.
const CLOCK_READERS: &str = "agent client cli dev";
/// Who else may wait for a time to pass, which takes no reading.
const WAITERS: &str = "server transport storage/sled";
const CLOCK_PATHS: &str = "Instant::now SystemTime::now";
const CLOCK_WORDS: &str = "clock_gettime elapsed";
const WAITING_PATHS: &str = "tokio::time thread::sleep";

/// Words that have one home.
const CONFINED_WORDS: &[(&str, &str)] = &[("unsafe", "process"), ("serde_cbor", "codec")];

const UNFINISHED_MACROS: &str = "todo unimplemented dbg";
const UNFINISHED_MARKS: &str = "FIXME XXX";

const FILE_LINES: usize = 600;
const LINE_CHARS: usize = 120;
const FUNCTION_LINES: usize = 90;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    Layers,
    Purity,
    Clocks,
    Confined,
    Size,
    Leftover,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offence {
    path: String,
    line: usize,
    rule: Rule,
    what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "src/{}:{}: {:?}: {}", self.path, self.line, self.rule, self.what)
    }
}

#[test]
fn the_sources_are_tidy() {
    let mut files = Vec::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(!files.is_empty(), "no sources found");
    let offences = offences(&files);
    offences.iter().for_each(|offence| println!("{offence}"));
    assert!(offences.is_empty(), "{} offences, listed above", offences.len());
}

fn read_sources(directory: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).expect("the directory of the sources is readable") {
        let path = entry.expect("its entries are readable").path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            read_sources(&path, &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.push((name, std::fs::read_to_string(&path).expect("a source is UTF-8")));
        }
    }
}

/// All offences of all files, in the order of their places. A path is relative to `src`.
fn offences(files: &[(String, String)]) -> Vec<Offence> {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::read(path, text)).collect();
    let modules: BTreeSet<_> = sources.iter().map(|source| source.module.clone()).collect();
    let tests: BTreeSet<_> = sources.iter().flat_map(|source| source.test_modules.clone()).collect();
    let found = RefCell::default();
    for source in &sources {
        let all_test = tests.iter().any(|test| is_within(&source.module, test));
        let check = Check { source, modules: &modules, all_test, found: &found };
        check.layers();
        check.purity();
        check.clocks();
        check.confined_words();
        check.sizes();
        check.leftovers();
    }
    let mut found = found.into_inner();
    found.sort();
    found.dedup();
    found
}

/// Whether a module is this one or below it.
fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The entry of [`LAYERS`] for a module: its name and rank.
fn layer_of(module: &str) -> Option<(&'static str, u8)> {
    let longest = LAYERS.iter().filter(|(name, _)| is_within(module, name)).max_by_key(|(name, _)| name.len());
    let any = LAYERS.iter().find(|(name, _)| {
        let directory = name.strip_suffix("/*").and_then(|directory| module.strip_prefix(directory));
        directory.is_some_and(|rest| rest.starts_with('/'))
    });
    match (longest, any) {
        // The entry of the directory itself does not speak for its files, if there is one for those.
        (Some((name, _)), Some(any)) if any.0.strip_suffix("/*") == Some(name) => Some(*any),
        (longest, _) => longest.copied(),
    }
}

/// What may import one another freely: the files below one top-level name, but of a `/*` layer each file by itself.
fn unit_of(module: &str) -> String {
    let names = if layer_of(module).is_some_and(|(name, _)| name.ends_with("/*")) { 2 } else { 1 };
    module.split('/').take(names).collect::<Vec<_>>().join("/")
}

/// Whether a word is one of a list.
fn is_listed(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word)
}

/// Whether one path (`a::b`) is the other, or below it.
fn is_below(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

struct Check<'a> {
    source: &'a Source,
    modules: &'a BTreeSet<String>,
    all_test: bool,
    found: &'a RefCell<Vec<Offence>>,
}

impl Check<'_> {
    fn offend(&self, line: usize, rule: Rule, what: String) {
        self.found.borrow_mut().push(Offence { path: self.source.path.clone(), line, rule, what });
    }

    fn is_within_any(&self, modules: &str) -> bool {
        modules.split_whitespace().any(|module| is_within(&self.source.module, module))
    }

    /// Whether a line is code of the program, rather than of its tests.
    fn is_program(&self, line: usize) -> bool {
        !self.all_test && !self.source.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// The words of the program with their places among the tokens.
    fn words(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.source.tokens.iter().enumerate().filter(|(_, token)| self.is_program(token.line))
    }

    fn layers(&self) {
        let module = self.source.module.as_str();
        let Some((_, own_rank)) = layer_of(module) else {
            return self.offend(1, Rule::Layers, format!("{module} is in no layer: add it to LAYERS"));
        };
        // Nothing is above the top.
        if own_rank == LAYERS[0].1 {
            return;
        }
        for import in &self.source.imports {
            let Some(target) = import.target(module, self.modules) else { continue };
            let users = IMPORTED_ONLY_BY.iter().find(|(name, _)| is_within(&target, name) && !is_within(module, name));
            let what = match (layer_of(&target), users) {
                (None, _) => format!("{} is in no layer", import.path),
                (Some((_, rank)), _) if rank > own_rank => format!("{module} imports {target}, which is above it"),
                (Some((_, rank)), _) if rank == own_rank && unit_of(&target) != unit_of(module) => {
                    format!("{module} imports {target}, which is beside it")
                }
                (_, Some((_, users))) if !self.is_within_any(users) => {
                    format!("{module} imports {target}, which is only for {users}")
                }
                _ => continue,
            };
            self.offend(import.line, Rule::Layers, what);
        }
    }

    fn purity(&self) {
        let module = self.source.module.as_str();
        let is_named = is_listed(PURE, module) || layer_of(module).is_some_and(|(name, _)| is_listed(PURE, name));
        if !is_named || self.is_within_any(IMPURE) {
            return;
        }
        for (at, token) in self.words() {
            let is_macro = self.source.text(at + 1) == "!" && is_listed(IMPURE_MACROS, &token.text);
            if is_macro || is_listed(IMPURE_WORDS, &token.text) {
                self.offend(token.line, Rule::Purity, format!("{} in a pure layer", token.text));
            }
        }
        for Import { path, line, .. } in &self.source.imports {
            let mut impure = IMPURE_PATHS.split_whitespace();
            if self.is_program(*line) && impure.any(|impure| is_below(path, impure) || is_below(impure, path)) {
                self.offend(*line, Rule::Purity, format!("{path} in a pure layer"));
            }
        }
    }

    fn clocks(&self) {
        if self.is_within_any(CLOCK_READERS) {
            return;
        }
        for (at, token) in self.words() {
            // As a method or function that is called, not as the name of something else.
            if is_listed(CLOCK_WORDS, &token.text) && self.source.text(at + 1) == "(" {
                self.offend(token.line, Rule::Clocks, format!("{} reads a clock", token.text));
            }
        }
        let may_wait = self.is_within_any(WAITERS);
        for Import { path, line, .. } in self.source.imports.iter().filter(|import| self.is_program(import.line)) {
            let holds =
                |list: &str| list.split_whitespace().any(|part| format!("::{path}::").contains(&format!("::{part}::")));
            if holds(CLOCK_PATHS) {
                self.offend(*line, Rule::Clocks, format!("{path} reads a clock"));
            } else if holds(WAITING_PATHS) && !may_wait {
                self.offend(*line, Rule::Clocks, format!("{path} waits for a clock"));
            }
        }
    }

    /// In tests as well: a word with one home can be replaced, or looked after, in one place.
    fn confined_words(&self) {
        for token in &self.source.tokens {
            for (word, home) in CONFINED_WORDS {
                if token.text == *word && !self.is_within_any(home) {
                    self.offend(token.line, Rule::Confined, format!("{word} belongs into {home} only"));
                }
            }
        }
    }

    fn sizes(&self) {
        let lines = self.source.lines.len();
        if lines > FILE_LINES {
            self.offend(FILE_LINES + 1, Rule::Size, format!("a file of {lines} lines"));
        }
        for (number, line) in (1..).zip(&self.source.lines) {
            let chars = line.chars().count();
            // A row of a table in documentation cannot be broken.
            let is_row = line.trim_start().starts_with("//! |") || line.trim_start().starts_with("/// |");
            if chars > LINE_CHARS && !is_row {
                self.offend(number, Rule::Size, format!("a line of {chars} characters"));
            }
        }
        for at in 0..self.source.tokens.len() {
            if let Some((name, lines)) = self.source.function(at).filter(|(_, lines)| *lines > FUNCTION_LINES) {
                self.offend(self.source.tokens[at].line, Rule::Size, format!("fn {name} of {lines} lines"));
            }
        }
    }

    fn leftovers(&self) {
        for (at, token) in self.words() {
            if self.source.text(at + 1) == "!" && is_listed(UNFINISHED_MACROS, &token.text) {
                self.offend(token.line, Rule::Leftover, format!("{}!", token.text));
            }
            if token.text == "unwrap" && self.source.text(at.wrapping_sub(1)) == "." {
                self.offend(token.line, Rule::Leftover, ".unwrap()".into());
            }
        }
        for (number, line) in (1..).zip(&self.source.lines).filter(|(number, _)| self.is_program(*number)) {
            for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| is_listed(UNFINISHED_MARKS, word)) {
                self.offend(number, Rule::Leftover, word.into());
            }
        }
    }
}
