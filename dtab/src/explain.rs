//! How a name resolves, step by step: the delegation tree (naming reference §10).
//!
//! The same walk as binding with a listener that wants every alternative and every branch.

use crate::activity::State;
use crate::addr::Addr;
use crate::dtab::{Dentry, DtabStack};
use crate::evaluate::{At, Children, EvalError, Listener, Lookups, Outcome, Walk};
use crate::path::Path;
use crate::traits::BoundName;
use std::sync::Arc;

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
}

/// Explores `path` (naming reference §10.3). Pending while anything read is Pending; Failed when the exploration fails
/// as a whole, e.g. by the depth limit outside any alternative.
pub fn explain(dtab: &DtabStack, path: &Path, lookups: &mut dyn Lookups) -> State<DelegateTree> {
    match Walk::new(dtab, lookups).resolve(&mut Explaining, path, None, 0) {
        Ok(tree) => State::Ok(simplify(tree)),
        Err(EvalError::Pending) => State::Pending,
        Err(EvalError::Failed(reason) | EvalError::TooDeep(reason) | EvalError::Fatal(reason)) => State::Failed(reason),
    }
}

impl DelegateTree {
    /// Calls `visit` with the name and the address of every leaf.
    pub fn for_each_leaf(&mut self, visit: &mut dyn FnMut(&BoundName, &mut Addr)) {
        match &mut self.node {
            Delegation::Leaf(name, addr) => visit(name, addr),
            Delegation::Delegate(child) => child.for_each_leaf(visit),
            Delegation::Alt(children) => children.iter_mut().for_each(|child| child.for_each_leaf(visit)),
            Delegation::Union(branches) => branches.iter_mut().for_each(|(_, child)| child.for_each_leaf(visit)),
            Delegation::Neg | Delegation::Fail | Delegation::Empty | Delegation::Exception(_) => {}
        }
    }
}

struct Explaining;

impl Explaining {
    /// One child of an alternative or union: errors become nodes at the parent's place.
    fn shown(&mut self, at: At<'_>, i: usize, child: &mut Children<'_, Self>) -> Outcome<DelegateTree> {
        match child(self, i) {
            Err(EvalError::Failed(reason) | EvalError::TooDeep(reason)) => {
                Ok(tree(at, Delegation::Exception(reason.to_string())))
            }
            other => other,
        }
    }
}

fn tree(at: At<'_>, node: Delegation) -> DelegateTree {
    DelegateTree { path: at.path.to_string(), dentry: at.dentry.cloned(), node }
}

impl Listener for Explaining {
    type Node = DelegateTree;
    const LONE_NEG_FALLS_THROUGH: bool = false;
    const TOO_DEEP: &'static str = "Max recursion level reached.";

    fn threw(reason: Arc<str>) -> EvalError {
        EvalError::Fatal(reason)
    }

    fn leaf(&mut self, at: At<'_>, name: &BoundName) -> Outcome<DelegateTree> {
        Ok(tree(at, Delegation::Leaf(name.clone(), Addr::Pending)))
    }

    fn neg(&mut self, at: At<'_>) -> Outcome<DelegateTree> {
        let path = if at.written || at.path.is_empty() { "~".to_owned() } else { at.path.to_string() };
        Ok(DelegateTree { path, ..tree(at, Delegation::Neg) })
    }

    fn fail(&mut self, at: At<'_>) -> Outcome<DelegateTree> {
        let system = at.path.get(0) == Some(b"$") && at.path.get(1) == Some(b"fail");
        let path = if system && !at.written { at.path.to_string() } else { "!".to_owned() };
        Ok(DelegateTree { path, ..tree(at, Delegation::Fail) })
    }

    fn empty(&mut self, at: At<'_>) -> Outcome<DelegateTree> {
        Ok(tree(at, Delegation::Empty))
    }

    fn failed(&mut self, at: At<'_>, reason: &Arc<str>) -> Outcome<DelegateTree> {
        Ok(tree(at, Delegation::Exception(reason.to_string())))
    }

    fn delegate(&mut self, at: At<'_>, child: DelegateTree) -> Outcome<DelegateTree> {
        Ok(tree(at, Delegation::Delegate(Box::new(child))))
    }

    fn alt(&mut self, at: At<'_>, count: usize, mut child: Children<'_, Self>) -> Outcome<DelegateTree> {
        let children = (0..count).map(|i| self.shown(at, i, &mut child)).collect::<Result<_, _>>()?;
        Ok(tree(at, Delegation::Alt(children)))
    }

    fn union(&mut self, at: At<'_>, weights: &[f64], mut child: Children<'_, Self>) -> Outcome<DelegateTree> {
        let branches = weights.iter().enumerate().map(|(i, &weight)| Ok((weight, self.shown(at, i, &mut child)?)));
        Ok(tree(at, Delegation::Union(branches.collect::<Result<_, _>>()?)))
    }
}

/// The tree as it is shown (naming reference §10.3, last item).
fn simplify(tree: DelegateTree) -> DelegateTree {
    let DelegateTree { path, dentry, node } = tree;
    match node {
        Delegation::Delegate(child) => simplify_delegate(path, dentry, simplify(*child)),
        Delegation::Alt(children) => {
            let mut flat = Vec::new();
            for child in children.into_iter().map(simplify) {
                match child.node {
                    Delegation::Alt(inner) if child.path == path => flat.extend(inner),
                    node => flat.push(DelegateTree { node, ..child }),
                }
            }
            match flat.len() {
                0 => DelegateTree { path, dentry, node: Delegation::Neg },
                1 => simplify_delegate(path, dentry, flat.remove(0)),
                _ => DelegateTree { path, dentry, node: Delegation::Alt(flat) },
            }
        }
        Delegation::Union(mut branches) => match branches.len() {
            0 => DelegateTree { path, dentry, node: Delegation::Neg },
            1 => simplify_delegate(path, dentry, simplify(branches.remove(0).1)),
            _ => {
                let branches = branches.into_iter().map(|(weight, child)| (weight, simplify(child))).collect();
                DelegateTree { path, dentry, node: Delegation::Union(branches) }
            }
        },
        node => DelegateTree { path, dentry, node },
    }
}

fn simplify_delegate(path: String, dentry: Option<Dentry>, child: DelegateTree) -> DelegateTree {
    let constant = matches!(child.node, Delegation::Neg | Delegation::Fail | Delegation::Empty);
    if child.path == path && !constant {
        return DelegateTree { path, dentry, node: child.node };
    }
    DelegateTree { path, dentry, node: Delegation::Delegate(Box::new(child)) }
}
