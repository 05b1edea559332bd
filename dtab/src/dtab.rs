//! [`Dtab`]: an ordered table of `prefix => tree`, compiled to an index when it is made, and [`DtabStack`]: several
//! tables one above the other.

use crate::index::Index;
use crate::path::Path;
use crate::tree::NameTree;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One element of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// `*`: any one label.
    Wildcard,
    /// Exactly this label.
    Label(Box<[u8]>),
}

/// The left-hand side of a dentry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix {
    elements: Box<[Element]>,
}

impl Prefix {
    /// A prefix of these elements.
    pub fn new(elements: Vec<Element>) -> Prefix {
        Prefix { elements: elements.into() }
    }

    /// The elements in order.
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// True for `/`, which matches every path.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}

/// `prefix => tree`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dentry {
    /// What it matches.
    pub prefix: Prefix,
    /// What the match is replaced by.
    pub dst: NameTree<Path>,
}

/// An ordered table; later entries win (naming reference §3). Cloning is a reference count.
#[derive(Clone)]
pub struct Dtab {
    inner: Arc<Compiled>,
}

struct Compiled {
    dentries: Vec<Dentry>,
    index: Index,
    /// The canonical print, made once: tables are compared and hashed by it.
    shown: Box<str>,
}

impl Dtab {
    /// Compiles a table of these entries. Linear in their number.
    pub fn new(dentries: Vec<Dentry>) -> Dtab {
        let index = Index::new(&dentries);
        let mut dtab = Dtab { inner: Arc::new(Compiled { dentries, index, shown: "".into() }) };
        let shown = dtab.to_string().into();
        if let Some(inner) = Arc::get_mut(&mut dtab.inner) {
            inner.shown = shown;
        }
        dtab
    }

    /// The table without entries.
    pub fn empty() -> Dtab {
        Dtab::new(Vec::new())
    }

    /// Parses the text form. Error texts as naming reference §1.2.
    pub fn parse(text: &str) -> Result<Dtab, crate::ParseError> {
        crate::parse_dtab(text)
    }

    /// The entries in order.
    pub fn dentries(&self) -> &[Dentry] {
        &self.inner.dentries
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.inner.dentries.is_empty()
    }

    /// All entries of this table, then all of `other`.
    pub fn concat(&self, other: &Dtab) -> Dtab {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        Dtab::new(self.dentries().iter().chain(other.dentries()).cloned().collect())
    }

    /// Simplifies every right-hand side and drops the entries that become negative (naming reference §3.1).
    pub fn simplify(&self) -> Dtab {
        let simplified = self.dentries().iter().map(|d| Dentry { prefix: d.prefix.clone(), dst: d.dst.simplify() });
        Dtab::new(simplified.filter(|d| d.dst != NameTree::Neg).collect())
    }

    /// The positions of the entries that match `path`, last first.
    pub fn positions(&self, path: &Path) -> Vec<usize> {
        self.inner.index.matches(path)
    }

    /// The entries that match `path`, last first. Cost: the length of the path and the number of matches, not the size
    /// of the table.
    pub fn matches(&self, path: &Path) -> Vec<&Dentry> {
        self.inner.index.matches(path).into_iter().map(|at| &self.inner.dentries[at]).collect()
    }
}

impl Default for Dtab {
    fn default() -> Dtab {
        Dtab::empty()
    }
}

/// The entries, exact weights included: equal tables print alike.
impl fmt::Debug for Dtab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.inner.dentries).finish()
    }
}

impl PartialEq for Dtab {
    fn eq(&self, other: &Dtab) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
            || (self.inner.shown == other.inner.shown && self.dentries() == other.dentries())
    }
}

impl Eq for Dtab {}

impl Hash for Dtab {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.shown.hash(state);
    }
}

/// Tables one above the other: interpreter's own, router's, override. Entries of later tables win, as if the tables
/// were concatenated (naming reference §4.1); nothing is copied or compiled again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DtabStack {
    layers: Vec<Dtab>,
}

impl DtabStack {
    /// A stack of these tables; the last has the highest precedence.
    pub fn new(layers: impl IntoIterator<Item = Dtab>) -> DtabStack {
        DtabStack { layers: layers.into_iter().filter(|dtab| !dtab.is_empty()).collect() }
    }

    /// This stack with `base` below it.
    pub fn below(&self, base: Dtab) -> DtabStack {
        DtabStack::new(std::iter::once(base).chain(self.layers.iter().cloned()))
    }

    /// All entries in order.
    pub fn dentries(&self) -> impl Iterator<Item = &Dentry> {
        self.layers.iter().flat_map(|dtab| dtab.dentries())
    }

    /// The entries that match `path`, last first.
    pub fn matches(&self, path: &Path) -> Vec<&Dentry> {
        match self.layers.as_slice() {
            [only] => only.matches(path),
            layers => layers.iter().rev().flat_map(|dtab| dtab.matches(path)).collect(),
        }
    }

    /// One lookup step of the dtab alone (naming reference §3.2): the rewritten trees of the matching entries.
    pub fn lookup(&self, path: &Path) -> NameTree<Path> {
        let mut trees: Vec<_> = self.matches(path).into_iter().map(|dentry| dentry.rewrite(path)).collect();
        match trees.len() {
            0 => NameTree::Neg,
            1 => trees.remove(0),
            _ => NameTree::Alt(trees),
        }
    }
}

impl Dentry {
    /// The right-hand side with the unmatched rest of `path` appended to every leaf.
    pub fn rewrite(&self, path: &Path) -> NameTree<Path> {
        let rest = path.skip(self.prefix.len());
        self.dst.map(&mut |leaf| leaf.concat(&rest))
    }
}
