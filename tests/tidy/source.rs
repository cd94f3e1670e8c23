//! Reads a source: its words and signs, the paths that it names, its functions and its test modules.

use super::LAYERS;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// One file, read.
pub(super) struct Source {
    pub(super) path: String,
    /// Its module as a path: `storage/acceptor`, and `storage` for `storage/mod.rs`.
    pub(super) module: String,
    pub(super) lines: Vec<String>,
    pub(super) tokens: Vec<Token>,
    pub(super) imports: Vec<Import>,
    /// The lines of its inline test modules.
    pub(super) test_lines: Vec<RangeInclusive<usize>>,
    /// Its test modules that have a file of their own.
    pub(super) test_modules: Vec<String>,
}

/// A word or sign outside comments and literals. A literal is one token, without its content.
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// A path as the source has it, taken out of its group.
pub(super) struct Import {
    pub(super) path: String,
    pub(super) line: usize,
    /// The inline modules around it.
    inline: Vec<String>,
}

impl Import {
    /// The module of this crate that it leads to, if it leads to one.
    pub(super) fn target(&self, module: &str, modules: &BTreeSet<String>) -> Option<String> {
        let mut base: Vec<&str> = module.split('/').chain(self.inline.iter().map(String::as_str)).collect();
        let mut names = self.path.split("::").peekable();
        match *names.peek()? {
            "crate" | "paxoskv" => {
                base.clear();
                names.next();
            }
            "self" | "super" => {
                while let Some(step) = names.next_if(|name| matches!(*name, "self" | "super")) {
                    if step == "super" {
                        base.pop();
                    }
                }
            }
            child if modules.contains(&format!("{module}/{child}")) => {}
            _ => return None,
        }
        base.extend(names);
        let is_known = |path: &String| modules.contains(path) || LAYERS.iter().any(|(name, _)| name == path);
        let longest = (1..=base.len()).rev().map(|length| base[..length].join("/")).find(is_known);
        Some(longest.unwrap_or_else(|| base.first().copied().unwrap_or_default().to_owned()))
    }
}

impl Source {
    pub(super) fn read(path: &str, text: &str) -> Source {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
        let mut source = Source {
            path: path.to_owned(),
            module,
            lines: text.lines().map(str::to_owned).collect(),
            tokens: tokens(text),
            imports: Vec::new(),
            test_lines: Vec::new(),
            test_modules: Vec::new(),
        };
        source.read_imports();
        source.read_test_modules();
        source
    }

    /// The text of a token, or nothing beyond the end.
    pub(super) fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn is_word(&self, at: usize) -> bool {
        self.text(at).starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    /// The place of the brace that closes the one at `open`, or the last token.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0;
        for at in open..self.tokens.len() {
            match self.text(at) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len() - 1
    }

    /// The first of two signs from a place on, outside round and square brackets.
    fn find_outside(&self, from: usize, signs: [&str; 2]) -> Option<usize> {
        let mut depth = 0;
        (from..self.tokens.len()).find(|at| {
            match self.text(*at) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                _ => {}
            }
            depth == 0 && signs.contains(&self.text(*at))
        })
    }

    /// The name and the lines of a function with a body, if its `fn` is at this place.
    pub(super) fn function(&self, at: usize) -> Option<(&str, usize)> {
        if self.text(at) != "fn" || !self.is_word(at + 1) {
            return None;
        }
        let open = self.find_outside(at, ["{", ";"]).filter(|open| self.text(*open) == "{")?;
        Some((self.text(at + 1), self.tokens[self.closing(open)].line - self.tokens[at].line + 1))
    }

    fn read_test_modules(&mut self) {
        let words = |at: usize| (at..at + 7).map(|at| self.text(at)).collect::<String>();
        let starts: Vec<_> = (0..self.tokens.len()).filter(|at| words(*at) == "#[cfg(test)]").collect();
        for start in starts {
            let Some(end) = self.find_outside(start, ["{", ";"]) else { continue };
            if end < start + 9 || self.text(end - 2) != "mod" {
                continue;
            }
            if self.text(end) == ";" {
                self.test_modules.push(format!("{}/{}", self.module, self.text(end - 1)));
            } else {
                self.test_lines.push(self.tokens[start].line..=self.tokens[self.closing(end)].line);
            }
        }
    }

    fn read_imports(&mut self) {
        let mut imports = Vec::new();
        // The inline modules that are open, each with the place where it ends.
        let mut inline: Vec<(String, usize)> = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            inline.retain(|(_, end)| *end > at);
            let names = || inline.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            let goes_on = at >= 2 && self.text(at - 1) == "::" && (self.is_word(at - 2) || self.text(at - 2) == ">");
            if self.text(at) == "mod" && self.text(at + 2) == "{" {
                inline.push((self.text(at + 1).to_owned(), self.closing(at + 2)));
                at += 3;
            } else if self.text(at) == "use" && self.text(at + 1) != "<" {
                at = self.read_paths(at + 1, "", &names(), &mut imports).max(at + 1);
            } else if self.is_word(at) && self.text(at + 1) == "::" && !goes_on {
                at = self.read_paths(at, "", &names(), &mut imports).max(at + 1);
            } else {
                at += 1;
            }
        }
        self.imports = imports;
    }

    /// Reads a path, or all paths of a group, below `prefix`; returns the place behind.
    fn read_paths(&self, mut at: usize, prefix: &str, inline: &[String], found: &mut Vec<Import>) -> usize {
        let mut path = prefix.to_owned();
        let mut line = self.tokens.get(at).map_or(0, |token| token.line);
        loop {
            if self.text(at) == "::" {
                at += 1;
            } else if self.text(at) == "{" {
                let end = self.closing(at);
                at += 1;
                while at < end {
                    at = match self.text(at) {
                        "," => at + 1,
                        _ => self.read_paths(at, &path, inline, found).max(at + 1),
                    };
                }
                return end + 1;
            } else if self.is_word(at) || self.text(at) == "*" {
                line = self.tokens[at].line;
                // `a::{self}` and `a::*` are imports of `a`.
                let names_parent = !path.is_empty() && matches!(self.text(at), "self" | "*");
                if !names_parent {
                    path += if path.is_empty() { "" } else { "::" };
                    path += self.text(at);
                }
                at += 1;
                if self.text(at) != "::" {
                    break;
                }
            } else {
                break;
            }
        }
        found.push(Import { path, line, inline: inline.to_vec() });
        // The new name is no path.
        if self.text(at) == "as" { at + 2 } else { at }
    }
}

/// The words and signs of a source, without comments and without the contents of literals.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, shown) = token_length(rest, first);
        let (token, behind) = rest.split_at(length);
        if let Some(shown) = shown {
            tokens.push(Token { text: shown.unwrap_or(token).trim_start_matches("r#").to_owned(), line });
        }
        line += token.matches('\n').count();
        rest = behind;
    }
    tokens
}

/// The length of what begins here, and how it is shown: not at all, as itself, or as something else.
fn token_length(rest: &str, first: char) -> (usize, Option<Option<&'static str>>) {
    let word =
        |from: usize| rest[from..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |n| n + from);
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (comment_length(rest), None);
    }
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    // A literal may have a prefix: of its kind, and of being raw.
    let kind = usize::from(matches!(first, 'b' | 'c'));
    let raw = usize::from(rest[kind..].starts_with('r'));
    let hashes = if raw == 1 { rest[kind + 1..].len() - rest[kind + 1..].trim_start_matches('#').len() } else { 0 };
    let quote = kind + raw + hashes;
    if rest[quote..].starts_with('"') {
        return (string_length(rest, quote, raw == 1, hashes), Some(Some("\"\"")));
    }
    if raw == 0 && rest[kind..].starts_with('\'') && (kind == 0 || first == 'b') {
        return match char_length(&rest[kind..]) {
            Some(length) => (kind + length, Some(Some("''"))),
            None => (word(1), Some(Some("'_"))),
        };
    }
    if first.is_alphanumeric() || first == '_' {
        return (word(if rest.starts_with("r#") { 2 } else { 0 }), Some(None));
    }
    (if rest.starts_with("::") { 2 } else { first.len_utf8() }, Some(None))
}

/// Block comments nest.
fn comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let step = match rest.as_bytes()[at..] {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at.min(rest.len())
}

fn string_length(rest: &str, quote: usize, is_raw: bool, hashes: usize) -> usize {
    if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return rest[quote + 1..].find(&end).map_or(rest.len(), |found| quote + 1 + found + end.len());
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip_while(|(at, _)| *at <= quote) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

/// The length of a character literal; `None` if the quote begins a lifetime.
fn char_length(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    match chars.next()?.1 {
        // Behind the backslash is at least one more character, which may be a quote.
        '\\' => chars.skip(1).find(|(_, c)| *c == '\'').map(|(at, _)| at + 1),
        _ => chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1),
    }
}
