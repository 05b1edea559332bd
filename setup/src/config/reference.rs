//! The reference of all config keys, made of what the readers know ([`super::probe::known`]) and of what is written of it.
//!
//! For: `switchyard reference` and `namerd reference`, which print it. Keys, values, kinds and what is required
//! come from the readers; defaults and meanings from the `keys.md` of each. Tests hold one to the other: every key that is read has
//! its line, every line its key, and every default in backticks is what a config without the key gets.

use super::probe::{Known, KnownKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The name of the outermost object.
pub const TOP: &str = "the file";

/// A reference: what is written beside what the readers know.
pub struct Document {
    /// Sections of objects, each with lines `- key = default | meaning`.
    pub keys: &'static str,
    /// What comes first.
    pub introduction: &'static str,
    /// Objects that are written in two ways: what a path is called in the reference.
    pub same: &'static [(&'static str, &'static str)],
    /// Objects that are described once, wherever they stand: by the last part of their path.
    pub shared: &'static [(&'static str, &'static str)],
}

impl Document {
    /// What the object at a path of the readers is called in the reference.
    fn place(&self, path: &str) -> String {
        let path = self.same.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to));
        let shared = self.shared.iter().filter_map(|(from, to)| {
            let at = path.rfind(from)?;
            let rest = &path[at + from.len()..];
            (rest.is_empty() || rest.starts_with(['.', '('])).then(|| (at, format!("{to}{rest}")))
        });
        shared.max_by_key(|(at, _)| *at).map_or_else(|| path.clone(), |(_, name)| name)
    }

    /// Object and key of a path.
    pub fn split<'p>(&self, path: &'p str) -> (String, &'p str) {
        path.rsplit_once('.').map_or_else(|| (TOP.to_owned(), path), |(object, key)| (self.place(object), key))
    }

    /// What is written, in its order.
    pub fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = Vec::new();
        for text in self.keys.lines() {
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

    /// All keys, by object and key.
    pub fn shown(&self, known: &Known) -> BTreeMap<(String, String), Shown> {
        let mut all: BTreeMap<(String, String), Shown> = BTreeMap::new();
        for (path, KnownKey { expected, required, refused }) in &known.keys {
            let (object, key) = self.split(path);
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

    /// The kinds of all objects that have one, by object.
    pub fn kinds<'k>(&self, known: &'k Known) -> Kinds<'k> {
        known.kinds.iter().map(|(path, kinds)| (self.place(path), kinds)).collect()
    }

    /// The whole reference as Markdown.
    pub fn text(&self, known: &Known) -> String {
        let (keys, kinds) = (self.shown(known), self.kinds(known));
        let mut text = self.introduction.to_owned();
        for section in self.sections() {
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

    /// What is read and not written, written and not read, written twice, or has a default although it is required; for tests.
    pub fn mistakes(&self, known: &Known) -> Vec<String> {
        let keys = self.shown(known);
        let sections = self.sections();
        let objects: BTreeSet<&str> = sections.iter().map(|section| section.object).collect();
        let mut mistakes = Vec::new();
        if objects.len() != sections.len() {
            mistakes.push("a section stands twice".to_owned());
        }
        let written: BTreeSet<(String, String)> = sections
            .iter()
            .flat_map(|section| section.lines.iter().map(|line| (section.object.to_owned(), line.key.to_owned())))
            .collect();
        for ((object, key), shown) in &keys {
            if !shown.refused && !written.contains(&(object.clone(), key.clone())) {
                mistakes.push(format!("{object}: {key} is missing"));
            }
        }
        for section in &sections {
            for line in &section.lines {
                match keys.get(&(section.object.to_owned(), line.key.to_owned())) {
                    None => mistakes.push(format!("{}: {} is invented", section.object, line.key)),
                    Some(shown) if shown.refused => {
                        mistakes.push(format!("{}: {} is refused", section.object, line.key))
                    }
                    Some(shown) if shown.required && !line.default.is_empty() => {
                        mistakes.push(format!("{}: {} is required and has a default", section.object, line.key));
                    }
                    Some(_) if line.meaning.trim().is_empty() || line.meaning.contains(" | ") => {
                        mistakes.push(format!("{}: {} has no meaning, or two", section.object, line.key));
                    }
                    Some(_) => {}
                }
            }
        }
        let kinds = self.kinds(known);
        mistakes.extend(
            kinds
                .keys()
                .filter(|object| !objects.contains(object.as_str()))
                .map(|object| format!("no section {object}")),
        );
        mistakes
    }

    /// Everything of Linkerd 1 that is refused: keys and kinds.
    pub fn refused(&self, known: &Known) -> BTreeSet<String> {
        let keys = self.shown(known).into_iter().filter(|(_, shown)| shown.refused).map(|((_, key), _)| key);
        keys.chain(known.kinds.values().flat_map(|(_, later)| later.iter().map(|kind| (*kind).to_owned()))).collect()
    }
}

/// A key as the reference shows it: all places together.
#[derive(Debug, Default)]
pub struct Shown {
    /// What a value may be.
    pub values: BTreeSet<String>,
    /// The object is not complete without it.
    pub required: bool,
    /// A key of Linkerd 1 that is refused.
    pub refused: bool,
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

/// A section of what is written.
#[derive(Debug, Default)]
pub struct Section {
    /// The object.
    pub object: &'static str,
    /// What is said of all of it.
    pub prose: String,
    /// Its keys.
    pub lines: Vec<Line>,
}

/// A line of a section.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The key.
    pub key: &'static str,
    /// Empty for objects, and for what is required.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// `- key = default | meaning`; None for prose.
fn line(text: &'static str) -> Option<Line> {
    let (key, rest) = text.strip_prefix("- ")?.split_once(" =")?;
    let (default, meaning) = rest.split_once("| ")?;
    Some(Line { key, default: default.trim(), meaning })
}

/// Kinds by object: those that are read, and those that are refused.
pub type Kinds<'a> = BTreeMap<String, &'a (Vec<&'static str>, Vec<&'static str>)>;

fn heading(object: &str) -> String {
    let name = |object: &str| if object.contains(' ') { object.to_owned() } else { format!("`{object}`") };
    match object.split_once('(') {
        None => format!("## {}\n", name(object)),
        Some((object, kind)) => format!("### {}: `{}`\n", name(object), kind.trim_end_matches(')')),
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
