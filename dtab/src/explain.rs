//! How a name resolves, step by step: the delegation tree (naming reference §10).
//!
//! The same walk as binding with a listener that wants every alternative and every branch. Every node repeats the dentry
//! that led to it, so besides the steps of the walk the size of the whole is bounded ([`MAX_EXPLAIN_BYTES`]).

use crate::activity::State;
use crate::addr::Addr;
use crate::dtab::{Dentry, DtabStack};
use crate::evaluate::{At, Children, EvalError, Listener, Lookups, Outcome, Walk};
use crate::path::Path;
use crate::traits::BoundName;
use std::sync::Arc;

/// A delegation tree may hold this many bytes of paths and dentries.
pub const MAX_EXPLAIN_BYTES: usize = 16 * 1024 * 1024;

/// A node of the delegation tree: where, by which dentry, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DelegateTree {
    /// The path that was looked up; `~` and `!` constants have a text of their own.
    pub path: String,
    /// The dentry that led here.
    pub dentry: Option<Dentry>,
    /// What came of it.
    pub node: Delegation,
}

/// What came of a lookup.
#[derive(Debug, Clone, PartialEq)]
pub enum Delegation {
    /// One dentry matched.
    Delegate(Box<DelegateTree>),
    /// Alternatives in preference order.
    Alt(Vec<DelegateTree>),
    /// Weighted branches.
    Union(Vec<(f64, DelegateTree)>),
    /// A concrete name. The address is Pending until somebody fills it in.
    Leaf(BoundName, Addr),
    /// No such name.
    Neg,
    /// No such name, and no alternatives.
    Fail,
    /// A name without addresses.
    Empty,
    /// The lookup failed with this text.
    Exception(String),
    /// A transformer changed a concrete name (naming reference §10.2).
    Transformation {
        /// What the transformer is called here.
        name: &'static str,
        /// The name before.
        bound: BoundName,
        /// Its address before.
        addr: Addr,
        /// The leaf after.
        tree: Box<DelegateTree>,
    },
}

/// Explores `path` (naming reference §10.3). Pending while anything read is Pending; Failed when the exploration fails
/// as a whole, e.g. by the depth limit outside any alternative.
pub fn explain(dtab: &DtabStack, path: &Path, lookups: &mut dyn Lookups) -> State<DelegateTree> {
    explain_within(dtab, path, lookups, MAX_EXPLAIN_BYTES)
}

/// As [`explain`], with a limit of its own for the bytes of paths and dentries.
pub fn explain_within(dtab: &DtabStack, path: &Path, lookups: &mut dyn Lookups, bytes: usize) -> State<DelegateTree> {
    let mut explaining = Explaining { bytes_left: bytes, bytes };
    match Walk::new(dtab, lookups).resolve(&mut explaining, path, None, 0) {
        Ok(mut tree) => {
            simplify(&mut tree);
            State::Ok(*tree)
        }
        Err(EvalError::Pending) => State::Pending,
        Err(EvalError::Failed(reason) | EvalError::TooDeep(reason) | EvalError::Fatal(reason)) => State::Failed(reason),
    }
}

impl DelegateTree {
    /// Calls `visit` with the name and the address of every leaf.
    pub fn for_each_leaf(&mut self, visit: &mut dyn FnMut(&BoundName, &mut Addr)) {
        self.change_leaves(&mut |leaf| {
            if let Delegation::Leaf(name, addr) = &mut leaf.node {
                visit(name, addr);
            }
        });
    }

    /// Calls `change` with every node that is a leaf.
    pub fn change_leaves(&mut self, change: &mut dyn FnMut(&mut DelegateTree)) {
        match &mut self.node {
            Delegation::Leaf(..) => change(self),
            Delegation::Delegate(child) | Delegation::Transformation { tree: child, .. } => child.change_leaves(change),
            Delegation::Alt(children) => children.iter_mut().for_each(|child| child.change_leaves(change)),
            Delegation::Union(branches) => branches.iter_mut().for_each(|(_, child)| child.change_leaves(change)),
            Delegation::Neg | Delegation::Fail | Delegation::Empty | Delegation::Exception(_) => {}
        }
    }
}

struct Explaining {
    bytes_left: usize,
    /// What it may hold in all.
    bytes: usize,
}

/// What a node costs besides its texts.
const NODE_BYTES: usize = 64;

impl Explaining {
    fn node(&mut self, at: At<'_>, node: Delegation) -> Outcome<Box<DelegateTree>> {
        self.node_at(at, at.path.to_string(), node)
    }

    fn node_at(&mut self, at: At<'_>, path: String, node: Delegation) -> Outcome<Box<DelegateTree>> {
        let mut bytes = NODE_BYTES + path.len();
        if let Some(dentry) = at.dentry {
            dentry.dst.for_each(&mut |leaf| bytes += NODE_BYTES + leaf.byte_len());
        }
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => {
                let text = format!("Explanation too large: more than {} bytes", self.bytes);
                return Err(EvalError::Fatal(text.into()));
            }
        }
        Ok(Box::new(DelegateTree { path, dentry: at.dentry.cloned(), node }))
    }

    /// One child of an alternative or union: errors become nodes at the parent's place.
    fn shown(&mut self, at: At<'_>, i: usize, child: &mut Children<'_, Self>) -> Outcome<Box<DelegateTree>> {
        match child(self, i) {
            Err(EvalError::Failed(reason) | EvalError::TooDeep(reason)) => {
                self.node(at, Delegation::Exception(reason.to_string()))
            }
            other => other,
        }
    }
}

impl Listener for Explaining {
    /// Boxed, so that the frames of the walk stay small.
    type Node = Box<DelegateTree>;
    const LONE_NEG_FALLS_THROUGH: bool = false;
    const TOO_DEEP: &'static str = "Max recursion level reached.";

    fn threw(reason: Arc<str>) -> EvalError {
        EvalError::Fatal(reason)
    }

    fn leaf(&mut self, at: At<'_>, name: &BoundName) -> Outcome<Self::Node> {
        self.node(at, Delegation::Leaf(name.clone(), Addr::Pending))
    }

    fn neg(&mut self, at: At<'_>) -> Outcome<Self::Node> {
        let path = if at.written || at.path.is_empty() { "~".to_owned() } else { at.path.to_string() };
        self.node_at(at, path, Delegation::Neg)
    }

    fn fail(&mut self, at: At<'_>) -> Outcome<Self::Node> {
        let system = at.path.get(0) == Some(b"$") && at.path.get(1) == Some(b"fail");
        let path = if system && !at.written { at.path.to_string() } else { "!".to_owned() };
        self.node_at(at, path, Delegation::Fail)
    }

    fn empty(&mut self, at: At<'_>) -> Outcome<Self::Node> {
        self.node(at, Delegation::Empty)
    }

    fn failed(&mut self, at: At<'_>, reason: &Arc<str>) -> Outcome<Self::Node> {
        self.node(at, Delegation::Exception(reason.to_string()))
    }

    fn delegate(&mut self, at: At<'_>, child: Self::Node) -> Outcome<Self::Node> {
        self.node(at, Delegation::Delegate(child))
    }

    fn alt(&mut self, at: At<'_>, count: usize, mut child: Children<'_, Self>) -> Outcome<Self::Node> {
        let mut children = Vec::new();
        for i in 0..count {
            children.push(*self.shown(at, i, &mut child)?);
        }
        self.node(at, Delegation::Alt(children))
    }

    fn union(&mut self, at: At<'_>, weights: &[f64], mut child: Children<'_, Self>) -> Outcome<Self::Node> {
        let mut branches = Vec::new();
        for (i, &weight) in weights.iter().enumerate() {
            branches.push((weight, *self.shown(at, i, &mut child)?));
        }
        self.node(at, Delegation::Union(branches))
    }
}

/// Makes the tree what is shown (naming reference §10.3, last item).
fn simplify(tree: &mut DelegateTree) {
    match &mut tree.node {
        Delegation::Delegate(child) => simplify(child),
        Delegation::Alt(children) => children.iter_mut().for_each(simplify),
        Delegation::Union(branches) => branches.iter_mut().for_each(|(_, child)| simplify(child)),
        _ => return,
    }
    let node = std::mem::replace(&mut tree.node, Delegation::Neg);
    tree.node = match node {
        Delegation::Delegate(child) => delegate_to(&tree.path, child),
        Delegation::Alt(children) => simplify_alt(&tree.path, children),
        Delegation::Union(branches) => simplify_union(&tree.path, branches),
        other => other,
    };
}

fn simplify_alt(path: &str, children: Vec<DelegateTree>) -> Delegation {
    let mut flat = Vec::new();
    for child in children {
        match child.node {
            Delegation::Alt(inner) if child.path == path => flat.extend(inner),
            node => flat.push(DelegateTree { node, ..child }),
        }
    }
    match flat.len() {
        0 => Delegation::Neg,
        1 => delegate_to(path, Box::new(flat.remove(0))),
        _ => Delegation::Alt(flat),
    }
}

fn simplify_union(path: &str, mut branches: Vec<(f64, DelegateTree)>) -> Delegation {
    match branches.len() {
        0 => Delegation::Neg,
        1 => delegate_to(path, Box::new(branches.remove(0).1)),
        _ => Delegation::Union(branches),
    }
}

/// What a node at `path` shows for its only child.
fn delegate_to(path: &str, child: Box<DelegateTree>) -> Delegation {
    let constant = matches!(child.node, Delegation::Neg | Delegation::Fail | Delegation::Empty);
    if child.path == path && !constant { child.node } else { Delegation::Delegate(child) }
}
