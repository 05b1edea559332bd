//! Reading a tree key by key, collecting every problem on the way.
//!
//! For: the modules that know the keys of one object each. Not for: the meaning of a single value (`scalar`) or of a
//! kind (`kinds`). A reader never stops at a problem: it notes it in [`Context`] and answers as if the key were absent.

use super::moved::{Place, moved};
use super::probe::Probe;
use super::problem::{MAX_PROBLEMS, Problem, Problems, nearest, quote};
use super::source::{Pos, Source};
use super::tree::{Key, Node, Value};
use std::cell::{Cell, RefCell};

/// Keys whose values are secrets: neither shown in a report nor in `/config.json`.
pub const SECRETS: [&str; 5] = ["token", "auth", "authInfo", "password", "secret"];

/// Characters of a source line that are shown.
const SHOWN: u32 = 140;

/// Why a value is not accepted.
pub struct Bad {
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// The valid word nearest to what was written.
    pub nearest: Option<String>,
    /// A place within the value.
    pub at: Option<Pos>,
}

impl Bad {
    /// Wrong for this reason.
    pub fn new(message: impl Into<String>) -> Bad {
        Bad { message: message.into(), expected: None, nearest: None, at: None }
    }

    /// With what was expected.
    pub fn expected(mut self, expected: impl Into<String>) -> Bad {
        self.expected = Some(expected.into());
        self
    }

    /// With the valid word nearest to what was written.
    pub fn nearest(mut self, nearest: Option<String>) -> Bad {
        self.nearest = nearest;
        self
    }
}

/// What is common to one load.
pub struct Context<'a> {
    /// Its name, for problems.
    pub file: &'a str,
    /// Its text.
    pub source: &'a Source<'a>,
    problems: RefCell<Vec<Problem>>,
    more: Cell<usize>,
    warnings: RefCell<Vec<String>>,
    /// What is learnt of the readers, when that is what they run for.
    pub probe: Option<&'a Probe>,
}

impl<'a> Context<'a> {
    /// No problems yet.
    pub fn new(file: &'a str, source: &'a Source<'a>) -> Context<'a> {
        let (problems, warnings) = (RefCell::default(), RefCell::default());
        Context { file, source, problems, more: Cell::new(0), warnings, probe: None }
    }

    /// A context in which the readers tell `probe` which keys they know.
    pub fn probing(source: &'a Source<'a>, probe: &'a Probe) -> Context<'a> {
        Context { probe: Some(probe), ..Context::new("", source) }
    }

    /// Notes a problem.
    pub fn bad(&self, pos: Pos, key_path: &str, bad: Bad) {
        if let Some(probe) = self.probe {
            // Of a list, what its elements must be; of all else the reader has told it.
            if key_path.ends_with("[]") {
                probe.key(key_path, bad.expected.as_deref());
            }
            return;
        }
        if self.is_full() {
            return self.more.set(self.more.get() + 1);
        }
        let pos = if pos.is_known() { pos } else { Pos::START };
        let last = key_path.rsplit('.').next().unwrap_or("");
        let (source_line, source_column) = match SECRETS.contains(&last) {
            true => (String::new(), 1),
            false => self.source.excerpt(pos, SHOWN),
        };
        self.problems.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line: pos.line,
            column: pos.column,
            key_path: key_path.to_owned(),
            message: bad.message,
            expected: bad.expected,
            nearest: bad.nearest,
            source_line,
            source_column,
        });
    }

    /// Notes something that works but is probably not meant.
    pub fn warn(&self, item: &Item<'_>, message: impl AsRef<str>) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_PROBLEMS {
            let (path, pos) = (&item.path, item.pos);
            let between = if path.is_empty() { "" } else { ": " };
            warnings.push(format!("{}:{}:{}: {path}{between}{}", self.file, pos.line, pos.column, message.as_ref()));
        }
    }

    /// Whether further problems are only counted.
    fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MAX_PROBLEMS
    }

    /// The candidate nearest to a word; not looked for once problems are only counted.
    pub fn nearest(&self, word: &str, candidates: impl IntoIterator<Item = &'static str>) -> Option<String> {
        if self.is_full() { None } else { nearest(word, candidates) }
    }

    /// Whether no problem was noted so far.
    pub fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// The warnings, or the problems if there are any.
    pub fn end(self) -> Result<Vec<String>, Problems> {
        match self.is_clean() {
            true => Ok(self.warnings.into_inner()),
            false => Err(Problems::new(self.problems.take(), self.more.get())),
        }
    }
}

/// A value and where it is.
#[derive(Clone)]
pub struct Item<'a> {
    /// The value.
    pub node: &'a Node,
    /// Where it stands.
    pub pos: Pos,
    /// How it is reached from the top, e.g. `routers[0].servers[1].port`.
    pub path: String,
}

impl<'a> Item<'a> {
    /// The whole file.
    pub fn root(node: &'a Node) -> Item<'a> {
        Item { node, pos: if node.pos.is_known() { node.pos } else { Pos::START }, path: String::new() }
    }

    fn child(&self, node: &'a Node, path: String) -> Item<'a> {
        Item { node, pos: if node.pos.is_known() { node.pos } else { self.pos }, path }
    }

    fn entry(&self, key: &str, node: &'a Node) -> Item<'a> {
        self.child(node, key_path(&self.path, key))
    }

    /// True for null, and for a key without value.
    pub fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// What kind of value this is, for messages.
    pub fn shape(&self) -> &'static str {
        match &self.node.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Probe => "any value",
        }
    }

    /// The elements of a list; a problem when it is none.
    pub fn elements(&self, context: &Context<'_>) -> Vec<Item<'a>> {
        match &self.node.value {
            Value::Null => Vec::new(),
            Value::Probe => {
                context.probe.inspect(|probe| probe.key(&self.path, Some("a list")));
                vec![self.child(self.node, format!("{}[]", self.path))]
            }
            Value::List(nodes) => {
                let item = |(i, node)| self.child(node, format!("{}[{i}]", self.path));
                nodes.iter().enumerate().map(item).collect()
            }
            _ => {
                let message = format!("{} where a list belongs", self.shape());
                context.bad(self.pos, &self.path, Bad::new(message).expected("a list"));
                Vec::new()
            }
        }
    }
}

/// The key path of a key in the map at `path`.
pub fn key_path(path: &str, key: &str) -> String {
    let key: String = key.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Reads the keys of one map. [`Reader::finish`] reports those nobody asked for.
pub struct Reader<'a> {
    /// Where problems go.
    pub context: &'a Context<'a>,
    /// The object.
    pub item: Item<'a>,
    entries: &'a [(Key, Node)],
    place: Place,
    known: Vec<&'static str>,
    absent: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// A reader of a map; a problem and nothing when it is none.
    pub fn open(context: &'a Context<'a>, item: Item<'a>, place: Place) -> Option<Reader<'a>> {
        match &item.node.value {
            Value::Map(entries) => {
                Some(Reader { context, entries, place, item, known: Vec::new(), absent: Vec::new() })
            }
            Value::Probe => Some(Reader { context, entries: &[], place, item, known: Vec::new(), absent: Vec::new() }),
            _ => {
                let message = format!("{} where a map belongs", item.shape());
                context.bad(item.pos, &item.path, Bad::new(message).expected("a map"));
                None
            }
        }
    }

    fn find(&self, key: &str) -> Option<&'a (Key, Node)> {
        self.entries.iter().find(|(k, _)| k.text == key)
    }

    /// The value of a key; none when absent or null.
    pub fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let node = match self.item.node.value {
            Value::Probe => self.item.node,
            _ => &self.find(key)?.1,
        };
        let item = self.item.entry(key, node);
        self.context.probe.inspect(|probe| probe.key(&item.path, None));
        (!item.is_null()).then_some(item)
    }

    /// The place of a key, or of the map when it is not there.
    pub fn pos(&self, key: &str) -> Pos {
        self.find(key).map_or(self.item.pos, |(key, _)| key.pos)
    }

    /// The value of an optional key as read by `read`.
    pub fn get<T>(&mut self, key: &'static str, read: impl FnOnce(&Item<'a>) -> Result<T, Bad>) -> Option<T> {
        let item = self.take(key)?;
        self.read(&item, read)
    }

    /// The value of a required key.
    pub fn need<T>(&mut self, key: &'static str, read: impl FnOnce(&Item<'a>) -> Result<T, Bad>) -> Option<T> {
        match self.take(key) {
            Some(item) => {
                self.context.probe.inspect(|probe| probe.required(&item.path));
                self.read(&item, read)
            }
            None => {
                self.missing(key);
                None
            }
        }
    }

    /// Reports that a required key is not there.
    pub fn missing(&self, key: &str) {
        let path = key_path(&self.item.path, key);
        self.context.bad(self.pos(key), &path, Bad::new(format!("required key `{key}` is missing")));
    }

    fn read<T>(&self, item: &Item<'a>, read: impl FnOnce(&Item<'a>) -> Result<T, Bad>) -> Option<T> {
        match read(item) {
            Ok(value) => Some(value),
            Err(bad) if self.context.probe.is_some() => {
                self.context.probe.inspect(|probe| probe.key(&item.path, bad.expected.as_deref()));
                None
            }
            Err(bad) => {
                self.context.bad(bad.at.unwrap_or(item.pos), &item.path, bad);
                None
            }
        }
    }

    /// A reader of the map under an optional key.
    pub fn sub(&mut self, key: &'static str, place: Place) -> Option<Reader<'a>> {
        let item = self.take(key)?;
        Reader::open(self.context, item, place)
    }

    /// The elements of the list under an optional key.
    pub fn list(&mut self, key: &'static str) -> Vec<Item<'a>> {
        self.take(key).map_or_else(Vec::new, |item| item.elements(self.context))
    }

    /// A key that Linkerd 1 has and this release has not: a problem unless null or an empty list.
    pub fn not_yet(&mut self, key: &'static str) {
        let empty = |item: &Item<'_>| matches!(&item.node.value, Value::List(list) if list.is_empty());
        if let Some(probe) = self.context.probe {
            probe.refused(&key_path(&self.item.path, key));
        } else if self.take(key).is_some_and(|item| !empty(&item)) {
            self.refuse(key, format!("`{key}` is a key of Linkerd 1 that Switchyard does not have yet"));
        }
        self.known.retain(|known| *known != key);
        self.absent.push(key);
    }

    /// Whether a key is there and not null. Not for finding out what is known: ask for the key as well.
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some_and(|(_, node)| !matches!(node.value, Value::Null))
    }

    /// Reports a problem at a key.
    pub fn refuse(&self, key: &str, message: String) {
        self.context.bad(self.pos(key), &key_path(&self.item.path, key), Bad::new(message));
    }

    /// Reports every key that was not asked for.
    pub fn finish(self) {
        for (key, node) in self.entries {
            let text = key.text.as_str();
            if self.known.contains(&text) || self.absent.contains(&text) {
                continue;
            }
            let bad = match moved(self.place, text) {
                Some(hint) => Bad::new(format!("unknown key {}: {hint}", quote(text))),
                None => self.unknown(text),
            };
            self.context.bad(key.pos, &self.item.entry(text, node).path, bad);
        }
    }

    fn unknown(&self, key: &str) -> Bad {
        let all = self.known.iter().chain(&self.absent).copied();
        let bad = Bad::new(format!("unknown key {}", quote(key))).nearest(self.context.nearest(key, all));
        match self.known.is_empty() {
            true => bad.expected("no keys here"),
            false => bad.expected(format!("one of: {}", self.known.join(", "))),
        }
    }
}

/// Reports every key that stands twice in a map, anywhere in the tree.
pub fn duplicates(context: &Context<'_>, item: &Item<'_>) {
    match &item.node.value {
        Value::List(_) => item.elements(context).iter().for_each(|inner| duplicates(context, inner)),
        Value::Map(entries) => {
            let mut first = std::collections::HashMap::new();
            for (key, node) in entries {
                let inner = item.entry(&key.text, node);
                if let Some(line) = first.insert(key.text.as_str(), key.pos.line) {
                    let message = format!("key {} is already there in line {line}", quote(&key.text));
                    context.bad(key.pos, &inner.path, Bad::new(message));
                }
                duplicates(context, &inner);
            }
        }
        Value::Null | Value::Scalar { .. } | Value::Probe => {}
    }
}
