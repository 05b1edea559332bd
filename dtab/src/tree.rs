//! [`NameTree`]: alternatives, weighted unions and the three constants over some kind of leaf (naming reference §2).

/// A name tree over leaves of type `T`.
#[derive(Debug, Clone, PartialEq)]
pub enum NameTree<T> {
    /// `~`: no such name; alternatives go on.
    Neg,
    /// `!`: no such name; alternatives stop.
    Fail,
    /// `$`: a name without addresses; a positive answer.
    Empty,
    /// A name.
    Leaf(T),
    /// `a | b`: the first that is not negative.
    Alt(Vec<NameTree<T>>),
    /// `w * a & v * b`: shares of traffic.
    Union(Vec<Weighted<T>>),
}

/// One branch of a union.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted<T> {
    /// Share relative to the siblings' weights; finite, not negative.
    pub weight: f64,
    /// The branch.
    pub tree: NameTree<T>,
}

/// The value of a tree (naming reference §2.4): what is left when weights are ignored.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<T> {
    /// Negative.
    Neg,
    /// Failed.
    Fail,
    /// The leaves; none for a tree that is Empty.
    Leaves(Vec<T>),
}

impl<T> NameTree<T> {
    /// Replaces every leaf.
    pub fn map<U>(&self, leaf: &mut impl FnMut(&T) -> U) -> NameTree<U> {
        match self {
            NameTree::Neg => NameTree::Neg,
            NameTree::Fail => NameTree::Fail,
            NameTree::Empty => NameTree::Empty,
            NameTree::Leaf(value) => NameTree::Leaf(leaf(value)),
            NameTree::Alt(trees) => NameTree::Alt(trees.iter().map(|tree| tree.map(leaf)).collect()),
            NameTree::Union(branches) => NameTree::Union(
                branches.iter().map(|b| Weighted { weight: b.weight, tree: b.tree.map(leaf) }).collect(),
            ),
        }
    }

    /// Calls `visit` with every leaf, left to right.
    pub fn for_each(&self, visit: &mut impl FnMut(&T)) {
        match self {
            NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
            NameTree::Leaf(value) => visit(value),
            NameTree::Alt(trees) => trees.iter().for_each(|tree| tree.for_each(visit)),
            NameTree::Union(branches) => branches.iter().for_each(|b| b.tree.for_each(visit)),
        }
    }
}

impl<T: Clone> NameTree<T> {
    /// An evaluation-equivalent tree that is a fixed point (naming reference §2.3).
    pub fn simplify(&self) -> NameTree<T> {
        match self {
            NameTree::Alt(trees) => simplify_alt(trees),
            NameTree::Union(branches) => simplify_union(branches),
            other => other.clone(),
        }
    }

    /// The value of the tree (naming reference §2.4).
    pub fn eval(&self) -> Value<T>
    where
        T: PartialEq,
    {
        match self {
            NameTree::Neg => Value::Neg,
            NameTree::Fail => Value::Fail,
            NameTree::Empty => Value::Leaves(Vec::new()),
            NameTree::Leaf(value) => Value::Leaves(vec![value.clone()]),
            NameTree::Alt(trees) => {
                trees.iter().map(NameTree::eval).find(|value| *value != Value::Neg).unwrap_or(Value::Neg)
            }
            NameTree::Union(branches) => eval_union(branches),
        }
    }
}

fn eval_union<T: Clone + PartialEq>(branches: &[Weighted<T>]) -> Value<T> {
    if let [only] = branches {
        return only.tree.eval();
    }
    let mut found: Option<Vec<T>> = None;
    for branch in branches {
        if let Value::Leaves(leaves) = branch.tree.eval() {
            let all = found.get_or_insert_with(Vec::new);
            for leaf in leaves {
                if !all.contains(&leaf) {
                    all.push(leaf);
                }
            }
        }
    }
    found.map_or(Value::Neg, Value::Leaves)
}

fn simplify_alt<T: Clone>(trees: &[NameTree<T>]) -> NameTree<T> {
    let mut kept = Vec::new();
    for tree in trees {
        match tree.simplify() {
            NameTree::Neg => {}
            NameTree::Fail => {
                kept.push(NameTree::Fail);
                break;
            }
            other => kept.push(other),
        }
    }
    match kept.len() {
        0 => NameTree::Neg,
        1 => kept.remove(0),
        _ => NameTree::Alt(kept),
    }
}

fn simplify_union<T: Clone>(branches: &[Weighted<T>]) -> NameTree<T> {
    if let [only] = branches {
        return only.tree.simplify();
    }
    let mut kept: Vec<Weighted<T>> = Vec::new();
    for branch in branches {
        match branch.tree.simplify() {
            NameTree::Neg | NameTree::Fail => {}
            tree => kept.push(Weighted { weight: branch.weight, tree }),
        }
    }
    match kept.len() {
        0 => NameTree::Neg,
        1 => kept.remove(0).tree,
        _ => NameTree::Union(kept),
    }
}
