//! What the readers know: every key with its place and what it accepts, learnt by running them over a value that stands
//! for anything.
//!
//! For: `switchyard reference`, and the tests that hold the written reference to what is really read. Not for: configs.
//! An object with a kind is read once per kind; see [`Probe::kind`].

use super::kinds::Kinds;
use super::reader::{Context, Item};
use super::source::{Pos, Source};
use super::tree::{Node, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// A key: its path is that of a problem, with `[]` for the elements of lists and `(kind)` after objects that have one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownKey {
    /// What a value must be, in the words of a problem; None for an object.
    pub expected: Option<String>,
    /// The object is not complete without it.
    pub required: bool,
    /// A key of Linkerd 1 that is refused.
    pub refused: bool,
}

/// Everything that is read.
#[derive(Debug, Default)]
pub struct Known {
    /// By path.
    pub keys: BTreeMap<String, KnownKey>,
    /// Kinds of each object that has one: those that are read, and those that are refused.
    pub kinds: BTreeMap<String, (Vec<&'static str>, Vec<&'static str>)>,
}

/// Collects while the readers run.
#[derive(Debug, Default)]
pub struct Probe {
    known: RefCell<Known>,
    /// Objects with a kind that were read: path and kind.
    visited: RefCell<BTreeSet<String>>,
}

/// Runs the readers below `top` until every kind of every object was read.
pub fn known(top: for<'a> fn(Context<'a>, Item<'a>)) -> Known {
    let probe = Probe::default();
    let root = Node { pos: Pos::START, value: Value::Probe };
    let source = Source::new("");
    let mut before = usize::MAX;
    while before != probe.visited.borrow().len() {
        before = probe.visited.borrow().len();
        top(Context::probing(&source, &probe), Item::root(&root));
    }
    probe.known.into_inner()
}

impl Probe {
    /// Notes a key and what it accepts.
    pub fn key(&self, path: &str, expected: Option<&str>) {
        let mut known = self.known.borrow_mut();
        let key = known.keys.entry(path.to_owned()).or_default();
        key.expected = expected.map(str::to_owned).or(key.expected.take());
    }

    /// Notes that a key must be there.
    pub fn required(&self, path: &str) {
        self.known.borrow_mut().keys.entry(path.to_owned()).or_default().required = true;
    }

    /// Notes a key that is refused.
    pub fn refused(&self, path: &str) {
        self.known.borrow_mut().keys.entry(path.to_owned()).or_default().refused = true;
    }

    /// The kind to read the object at `path` as, which is added to the path: the first one of which not everything below
    /// was read. None when there is none that is built.
    pub fn kind(&self, kinds: &Kinds, path: &mut String) -> Option<&'static str> {
        let mut known = self.known.borrow_mut();
        known.kinds.insert(path.clone(), (kinds.built.to_vec(), kinds.later.to_vec()));
        let mut visited = self.visited.borrow_mut();
        let open = |kind: &&&'static str| {
            let below = format!("{path}({kind})");
            !visited.contains(&below) || is_open(&known, &visited, &below)
        };
        let kind = kinds.built.iter().find(open).or(kinds.built.last()).copied()?;
        path.push_str(&format!("({kind})"));
        visited.insert(path.clone());
        Some(kind)
    }
}

/// Whether an object below `path` has a kind that was not read yet.
fn is_open(known: &Known, visited: &BTreeSet<String>, path: &str) -> bool {
    let below = known.kinds.iter().filter(|(at, _)| at.starts_with(path));
    below.into_iter().any(|(at, (built, _))| built.iter().any(|kind| !visited.contains(&format!("{at}({kind})"))))
}
