//! The reference of all config keys, made of what the readers know ([`super::known`]) and of what `keys.md` says of it.
//!
//! For: `switchyard reference`, which prints it; `docs/config.md` is that print. Keys, values, kinds and what is required
//! come from the readers; defaults and meanings from `keys.md`. Tests hold one to the other: every key that is read has
//! its line, every line its key, and every default in backticks is what a config without the key gets.

use super::known;
use super::probe::{Known, KnownKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Sections of objects, each with lines `- key = default | meaning`.
const KEYS: &str = include_str!("keys.md");

const INTRODUCTION: &str = "\
# Config keys

Every key that is read, made by `switchyard reference` from the readers themselves. Keys marked *Switchyard* are not in
Linkerd 1; all others are, and mean what they mean there but for [differences](differences.md). `[]` stands for the elements
of a list. What `check` refuses although Linkerd 1 has it is named at its object, with the reason in
[differences](differences.md#keys-that-are-refused).

";

/// The name of the outermost object.
const TOP: &str = "the file";

/// Objects that are written in two ways: what a path is called in the reference.
const SAME: &[(&str, &str)] = &[
    ("routers[](http)", "routers[]"),
    ("client(io.l5d.static).configs[]", "client"),
    ("client(io.l5d.static)", "client"),
    ("client(io.l5d.global)", "client"),
    ("service(io.l5d.static).configs[]", "service"),
    ("service(io.l5d.static)", "service"),
    ("service(io.l5d.global)", "service"),
];

/// Objects that are described once, wherever they stand: by the last part of their path.
const SHARED: &[(&str, &str)] = &[
    (".socketOptions", "socketOptions"),
    (".backoff", "backoff"),
    (".requeueBudget", "budget"),
    (".budget", "budget"),
    (".clientSession", "session"),
    (".serverSession", "session"),
    (".transformers[]", "transformers[]"),
    ("admin.tls", "server tls"),
    ("servers[].tls", "server tls"),
];

/// What the object at a path of the readers is called in the reference.
fn place(path: &str) -> String {
    let path = SAME.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to));
    let shared = SHARED.iter().filter_map(|(from, to)| {
        let at = path.rfind(from)?;
        let rest = &path[at + from.len()..];
        (rest.is_empty() || rest.starts_with(['.', '('])).then(|| (at, format!("{to}{rest}")))
    });
    shared.max_by_key(|(at, _)| *at).map_or_else(|| path.clone(), |(_, name)| name)
}

/// Object and key of a path.
fn split(path: &str) -> (String, &str) {
    path.rsplit_once('.').map_or_else(|| (TOP.to_owned(), path), |(object, key)| (place(object), key))
}

/// A key as the reference shows it: all places together.
#[derive(Debug, Default)]
struct Shown {
    values: BTreeSet<String>,
    required: bool,
    refused: bool,
}

impl Shown {
    /// What a value is, as a cell of a table.
    fn value(&self) -> String {
        let lists = self.values.iter().any(|value| value.starts_with("a list of"));
        let values = self.values.iter().filter(|value| !(lists && *value == "a list"));
        match values.map(String::as_str).collect::<Vec<_>>().join(", or ") {
            empty if empty.is_empty() => "an object".to_owned(),
            value => value.replace('|', "\\|"),
        }
    }
}

/// A section of `keys.md`.
#[derive(Debug, Default)]
struct Section {
    object: &'static str,
    prose: String,
    lines: Vec<Line>,
}

/// A line of `keys.md`.
#[derive(Debug, Clone, Copy)]
struct Line {
    key: &'static str,
    /// Empty for objects, and for what is required.
    default: &'static str,
    meaning: &'static str,
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for text in KEYS.lines() {
        if let Some(object) = text.strip_prefix("## ") {
            sections.push(Section { object, ..Section::default() });
            continue;
        }
        let Some(section) = sections.last_mut() else { continue };
        match line(text) {
            Some(line) => section.lines.push(line),
            None => {
                section.prose.push_str(text);
                section.prose.push('\n');
            }
        }
    }
    sections
}

fn line(text: &'static str) -> Option<Line> {
    let (key, rest) = text.strip_prefix("- ")?.split_once(" =")?;
    let (default, meaning) = rest.split_once("| ")?;
    Some(Line { key, default: default.trim(), meaning })
}

/// All keys, by object and key.
fn shown(known: &Known) -> BTreeMap<(String, String), Shown> {
    let mut all: BTreeMap<(String, String), Shown> = BTreeMap::new();
    for (path, KnownKey { expected, required, refused }) in &known.keys {
        let (object, key) = split(path);
        if key == "kind" {
            continue;
        }
        let element = key.strip_suffix("[]");
        let shown = all.entry((object, element.unwrap_or(key).to_owned())).or_default();
        let value = match element {
            Some(_) => expected.as_ref().map(|expected| format!("a list of: {expected}")),
            None => expected.clone(),
        };
        shown.values.extend(value);
        shown.required |= required;
        shown.refused |= refused;
    }
    all
}

type Kinds<'a> = BTreeMap<String, &'a (Vec<&'static str>, Vec<&'static str>)>;

fn kinds(known: &Known) -> Kinds<'_> {
    known.kinds.iter().map(|(path, kinds)| (place(path), kinds)).collect()
}

/// The whole reference as Markdown.
pub fn reference() -> String {
    let known = known();
    let (keys, kinds) = (shown(&known), kinds(&known));
    let mut text = INTRODUCTION.to_owned();
    for section in sections() {
        text.push_str(&heading(section.object));
        let prose = section.prose.trim();
        if !prose.is_empty() {
            text.push_str(&format!("\n{prose}\n"));
        }
        if let Some((built, later)) = kinds.get(section.object) {
            text.push_str(&kinds_line(section.object, built, later));
        }
        text.push_str(&table(&section, &keys));
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn heading(object: &str) -> String {
    match object.split_once('(') {
        _ if object.contains(' ') => format!("## {object}\n"),
        None => format!("## `{object}`\n"),
        Some((object, kind)) => format!("### `{object}`: `{}`\n", kind.trim_end_matches(')')),
    }
}

fn kinds_line(object: &str, built: &[&str], later: &[&str]) -> String {
    let list = |kinds: &[&str]| kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
    let key = if object == "routers[]" { "protocol" } else { "kind" };
    let built = if built.is_empty() { "none is built".to_owned() } else { list(built) };
    let later = if later.is_empty() { String::new() } else { format!(" Refused: {}.", list(later)) };
    format!("\n`{key}`: {built}.{later}\n")
}

/// The table of an object's keys, and those that are refused.
fn table(section: &Section, keys: &BTreeMap<(String, String), Shown>) -> String {
    let mut text = String::new();
    let rows = section.lines.iter().filter_map(|line| {
        let shown = keys.get(&(section.object.to_owned(), line.key.to_owned()))?;
        let default = if shown.required { "**required**" } else { line.default };
        Some(format!("| `{}` | {} | {default} | {} |\n", line.key, shown.value(), line.meaning))
    });
    for (i, row) in rows.enumerate() {
        if i == 0 {
            text.push_str("\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        }
        text.push_str(&row);
    }
    let refused = keys.iter().filter(|((object, _), shown)| object == section.object && shown.refused);
    let refused: Vec<String> = refused.map(|((_, key), _)| format!("`{key}`")).collect();
    if !refused.is_empty() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "\nRefused: {}.", refused.join(", "));
    }
    text
}

#[cfg(test)]
#[path = "tests/reference.rs"]
mod tests;
