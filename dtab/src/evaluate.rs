//! The one evaluator of names: a pure, synchronous walk from a path through tables and namers.
//!
//! Binding and explaining are this walk with another [`Listener`]: the listener decides which children of an
//! alternative or union it wants and what to make of them. What the namers know is read through [`Lookups`]; nothing
//! waits here. Bounded in depth ([`MAX_DEPTH`], as in Finagle), in steps, in path length (attacks D1–D4).

use crate::activity::State;
use crate::dtab::{Dentry, DtabStack};
use crate::path::Path;
use crate::system;
use crate::traits::{BoundName, Name};
use crate::tree::{NameTree, Weighted};
use std::sync::Arc;

/// This many lookups are allowed along one chain (naming reference §4.2).
pub const MAX_DEPTH: u32 = 100;
/// A binding may take this many steps in all: one for every lookup and every node of a tree, and more for lookups of long
/// paths and those that match many entries, since these take longer.
pub const MAX_STEPS: usize = 10_000;
/// So many bytes of a path cost a step more.
const STEP_BYTES: usize = 1024;
/// So many matching entries cost a step more.
const STEP_MATCHES: usize = 64;
/// A path may grow to this many bytes while it is rewritten.
pub const MAX_PATH_BYTES: usize = 64 * 1024;
/// Trees inside trees along one chain, all lookups together: bounds the stack. Without optimisation a level takes 2 KiB, so
/// the deepest walk takes half of the 2 MiB of a worker thread. A chain of 100 lookups may nest four trees in each.
const MAX_NESTING: u32 = 400;

/// What the configured namers answer for a path that no dentry matches, in preference order: the first answer that is
/// not Neg (naming reference §4.1, step 2). The system namer is asked by the evaluator itself.
pub trait Lookups {
    /// One lookup; reads what is known now and does not wait.
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>>;
}

/// Why a walk has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EvalError {
    /// Something that was read is not known yet.
    Pending,
    /// A namer failed; explaining shows this in its place.
    Failed(Arc<str>),
    /// The depth was exceeded; explaining shows this at the nearest alternative or union.
    TooDeep(Arc<str>),
    /// Nothing goes on, e.g. since the budget is spent.
    Fatal(Arc<str>),
}

/// Where the walk is: the path that was looked up, and the dentry that led there.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) path: &'a Path,
    pub(crate) dentry: Option<&'a Dentry>,
    /// True for a node written in the table, false for a namer's answer.
    pub(crate) written: bool,
}

pub(crate) type Outcome<N> = Result<N, EvalError>;

/// Walks child `i` of the node at hand.
pub(crate) type Children<'a, L> = &'a mut dyn FnMut(&mut L, usize) -> Outcome<<L as Listener>::Node>;

/// What is made of the nodes of a walk.
pub(crate) trait Listener: Sized {
    type Node;
    /// True when a path whose only match is a written `~` goes on to the namers (binding) (naming reference §10.3).
    const LONE_NEG_FALLS_THROUGH: bool;
    const TOO_DEEP: &'static str;

    /// What an exception inside a rewrite does: it fails the name when binding, the whole call when explaining.
    fn threw(reason: Arc<str>) -> EvalError;
    fn leaf(&mut self, at: At<'_>, name: &BoundName) -> Outcome<Self::Node>;
    fn neg(&mut self, at: At<'_>) -> Outcome<Self::Node>;
    fn fail(&mut self, at: At<'_>) -> Outcome<Self::Node>;
    fn empty(&mut self, at: At<'_>) -> Outcome<Self::Node>;
    fn failed(&mut self, at: At<'_>, reason: &Arc<str>) -> Outcome<Self::Node>;
    fn delegate(&mut self, at: At<'_>, child: Self::Node) -> Outcome<Self::Node>;
    fn alt(&mut self, at: At<'_>, count: usize, child: Children<'_, Self>) -> Outcome<Self::Node>;
    fn union(&mut self, at: At<'_>, weights: &[f64], child: Children<'_, Self>) -> Outcome<Self::Node>;
}

/// A leaf of a tree that is walked. Written trees are rewritten leaf by leaf as the walk gets there: alternatives that
/// are not wanted cost nothing, however many and however long the path.
trait Leaf {
    fn follow(&self, at: At<'_>) -> Step<'_>;
}

enum Step<'a> {
    Bound(&'a BoundName),
    Path(Path),
}

impl Leaf for Path {
    /// A leaf of a dentry: the rest of the path is appended.
    fn follow(&self, at: At<'_>) -> Step<'_> {
        let matched = at.dentry.map_or(0, |dentry| dentry.prefix.len());
        Step::Path(self.concat(&at.path.skip(matched)))
    }
}

impl Leaf for Name {
    /// A leaf of a namer's answer.
    fn follow(&self, _: At<'_>) -> Step<'_> {
        match self {
            Name::Bound(name) => Step::Bound(name),
            Name::Path(path) => Step::Path(path.clone()),
        }
    }
}

pub(crate) struct Walk<'a> {
    dtab: &'a DtabStack,
    lookups: &'a mut dyn Lookups,
    steps_left: usize,
    nesting: u32,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(dtab: &'a DtabStack, lookups: &'a mut dyn Lookups) -> Walk<'a> {
        Walk { dtab, lookups, steps_left: MAX_STEPS, nesting: 0 }
    }

    /// One lookup step for `path` (naming reference §4.1), and everything below it.
    pub(crate) fn resolve<L: Listener>(
        &mut self,
        listener: &mut L,
        path: &Path,
        parent: Option<&Dentry>,
        depth: u32,
    ) -> Outcome<L::Node> {
        if path.byte_len() > MAX_PATH_BYTES {
            return Err(EvalError::Fatal("Name too long: rewriting made a path of more than 65536 bytes".into()));
        }
        let dtab = self.dtab;
        let matches = dtab.matches(path);
        self.spend(1 + path.byte_len() / STEP_BYTES + matches.len() / STEP_MATCHES)?;
        let at = At { path, dentry: parent, written: true };
        match matches.as_slice() {
            [] => self.ask_namers(listener, at, depth),
            [only] if L::LONE_NEG_FALLS_THROUGH && only.dst == NameTree::Neg => self.ask_namers(listener, at, depth),
            [only] => {
                let child = self.dentry(listener, path, only, depth)?;
                listener.delegate(at, child)
            }
            many => listener.alt(at, many.len(), &mut |listener, i| self.dentry(listener, path, many[i], depth)),
        }
    }

    fn dentry<L: Listener>(&mut self, listener: &mut L, path: &Path, dentry: &Dentry, depth: u32) -> Outcome<L::Node> {
        self.tree(listener, &dentry.dst, At { path, dentry: Some(dentry), written: true }, depth + 1)
    }

    fn ask_namers<L: Listener>(&mut self, listener: &mut L, at: At<'_>, depth: u32) -> Outcome<L::Node> {
        let answer = match self.lookups.lookup(at.path) {
            State::Ok(NameTree::Neg) => match system::lookup(at.path) {
                Ok(tree) => tree,
                Err(system::SystemError::Unknown(reason)) => return listener.failed(at, &reason),
                Err(system::SystemError::Threw(reason)) => return Err(L::threw(reason)),
            },
            State::Ok(tree) => tree,
            State::Pending => return Err(EvalError::Pending),
            State::Failed(reason) => return listener.failed(at, &reason),
        };
        self.tree(listener, &answer, At { written: false, ..at }, depth + 1)
    }

    fn tree<L: Listener, T: Leaf>(
        &mut self,
        listener: &mut L,
        tree: &NameTree<T>,
        at: At<'_>,
        depth: u32,
    ) -> Outcome<L::Node> {
        if depth > MAX_DEPTH {
            return Err(EvalError::TooDeep(L::TOO_DEEP.into()));
        }
        if self.nesting >= MAX_NESTING {
            let text = format!("Name too complex: more than {MAX_NESTING} nested trees in Namer lookup");
            return Err(EvalError::TooDeep(text.into()));
        }
        self.spend(1)?;
        self.nesting += 1;
        let outcome = self.node(listener, tree, at, depth);
        self.nesting -= 1;
        outcome
    }

    fn node<L: Listener, T: Leaf>(
        &mut self,
        listener: &mut L,
        tree: &NameTree<T>,
        at: At<'_>,
        depth: u32,
    ) -> Outcome<L::Node> {
        match tree {
            NameTree::Neg => listener.neg(at),
            NameTree::Fail => listener.fail(at),
            NameTree::Empty => listener.empty(at),
            NameTree::Leaf(leaf) => match leaf.follow(at) {
                Step::Bound(name) => listener.leaf(at, name),
                Step::Path(path) => self.resolve(listener, &path, at.dentry, depth),
            },
            NameTree::Alt(trees) => {
                listener.alt(at, trees.len(), &mut |listener, i| self.tree(listener, &trees[i], at, depth))
            }
            NameTree::Union(branches) => {
                let weights: Vec<f64> = branches.iter().map(|branch| branch.weight).collect();
                listener.union(at, &weights, &mut |listener, i| self.tree(listener, &branches[i].tree, at, depth))
            }
        }
    }

    fn spend(&mut self, steps: usize) -> Result<(), EvalError> {
        match self.steps_left.checked_sub(steps) {
            Some(left) => self.steps_left = left,
            None => {
                let text = format!("Name too complex: more than {MAX_STEPS} steps in Namer lookup");
                return Err(EvalError::Fatal(text.into()));
            }
        }
        Ok(())
    }
}

/// Binds `path` (naming reference §4.2): what the tables and the namers make of it now. The result holds no Alt.
pub fn bind(dtab: &DtabStack, path: &Path, lookups: &mut dyn Lookups) -> State<NameTree<BoundName>> {
    bind_with_gaps(dtab, path, lookups).0
}

/// As [`bind`]. The flag is true when a branch of a union was left out because nothing is known of it yet: all traffic
/// would go to the others, and a caller may want to wait a little.
pub fn bind_with_gaps(dtab: &DtabStack, path: &Path, lookups: &mut dyn Lookups) -> (State<NameTree<BoundName>>, bool) {
    let mut binding = Binding { gaps: false };
    let tree = match Walk::new(dtab, lookups).resolve(&mut binding, path, None, 0) {
        Ok(tree) => State::Ok(tree),
        Err(EvalError::Pending) => State::Pending,
        Err(EvalError::Failed(reason) | EvalError::TooDeep(reason) | EvalError::Fatal(reason)) => State::Failed(reason),
    };
    (tree, binding.gaps)
}

/// Builds the bound tree; pulls alternatives only until one is not negative.
struct Binding {
    /// A branch of a union is not known yet, and others are.
    gaps: bool,
}

impl Listener for Binding {
    type Node = NameTree<BoundName>;
    const LONE_NEG_FALLS_THROUGH: bool = true;
    const TOO_DEEP: &'static str = "Max recursion level: 100 reached in Namer lookup";

    fn threw(reason: Arc<str>) -> EvalError {
        EvalError::Failed(reason)
    }

    fn leaf(&mut self, _: At<'_>, name: &BoundName) -> Outcome<Self::Node> {
        Ok(NameTree::Leaf(name.clone()))
    }

    fn neg(&mut self, _: At<'_>) -> Outcome<Self::Node> {
        Ok(NameTree::Neg)
    }

    fn fail(&mut self, _: At<'_>) -> Outcome<Self::Node> {
        Ok(NameTree::Fail)
    }

    fn empty(&mut self, _: At<'_>) -> Outcome<Self::Node> {
        Ok(NameTree::Empty)
    }

    fn failed(&mut self, _: At<'_>, reason: &Arc<str>) -> Outcome<Self::Node> {
        Err(EvalError::Failed(reason.clone()))
    }

    fn delegate(&mut self, _: At<'_>, child: Self::Node) -> Outcome<Self::Node> {
        Ok(child)
    }

    fn alt(&mut self, _: At<'_>, count: usize, child: Children<'_, Self>) -> Outcome<Self::Node> {
        for i in 0..count {
            match child(self, i)? {
                NameTree::Neg => {}
                decided => return Ok(decided),
            }
        }
        Ok(NameTree::Neg)
    }

    fn union(&mut self, _: At<'_>, weights: &[f64], child: Children<'_, Self>) -> Outcome<Self::Node> {
        if weights.len() == 1 {
            return child(self, 0);
        }
        let mut bound = Vec::new();
        let mut failure = None;
        let mut pending = false;
        for (i, &weight) in weights.iter().enumerate() {
            match child(self, i) {
                Ok(tree) => bound.push(Weighted { weight, tree }),
                Err(EvalError::Pending) => pending = true,
                Err(stop @ EvalError::Fatal(_)) => return Err(stop),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match (bound.is_empty(), failure, pending) {
            (false, _, _) => match union_of(bound) {
                // Nothing is bound yet and something may be: to say Neg now would fail requests for no reason.
                NameTree::Neg if pending => Err(EvalError::Pending),
                tree => {
                    self.gaps |= pending;
                    Ok(tree)
                }
            },
            (true, Some(error), _) => Err(error),
            (true, None, true) => Err(EvalError::Pending),
            (true, None, false) => Ok(NameTree::Neg),
        }
    }
}

/// The simplified union of branches that are simplified themselves: simplifying them again at every level would cost the
/// square of the nesting.
fn union_of(mut branches: Vec<Weighted<BoundName>>) -> NameTree<BoundName> {
    branches.retain(|branch| !matches!(branch.tree, NameTree::Neg | NameTree::Fail));
    match branches.len() {
        0 => NameTree::Neg,
        1 => branches.remove(0).tree,
        _ => NameTree::Union(branches),
    }
}
