//! Paths, trees and dtabs as messages, both ways.
//!
//! Depth is bounded by the decoder, which refuses what nests deeper than 100 messages; so nothing here recurses further.
//! What a canonical sender leaves out because it is zero is read as zero. Called by `calls` and `delegation`.

use super::WireError;
use super::messages::{self as wire, BoundNode, ElemValue, Empty, PathNode};
use bytes::Bytes;
use dtab::{BoundName, Dentry, Dtab, Element, NameTree, Path, Prefix, Weighted};

pub(crate) fn path(path: &Path) -> wire::Path {
    wire::Path { elems: path.labels().map(Bytes::copy_from_slice).collect() }
}

pub(crate) fn read_path(path: &wire::Path) -> Result<Path, WireError> {
    Path::from_labels(&path.elems).map_err(|_| WireError::new("a path has an empty label"))
}

pub(crate) fn dtab(dtab: &Dtab) -> wire::Dtab {
    wire::Dtab { dentries: dtab.dentries().iter().map(dentry).collect() }
}

/// An absent dtab is an empty one.
pub(crate) fn read_dtab(dtab: Option<&wire::Dtab>) -> Result<Dtab, WireError> {
    let dentries: &[wire::Dentry] = dtab.map_or(&[], |dtab| &dtab.dentries);
    Ok(Dtab::new(dentries.iter().map(read_dentry).collect::<Result<_, _>>()?))
}

pub(crate) fn dentry(dentry: &Dentry) -> wire::Dentry {
    let elem = |element: &Element| {
        let value = match element {
            Element::Wildcard => ElemValue::Wildcard(Empty {}),
            Element::Label(label) => ElemValue::Label(Bytes::copy_from_slice(label)),
        };
        wire::Elem { value: Some(value) }
    };
    let elems = dentry.prefix.elements().iter().map(elem).collect();
    wire::Dentry { prefix: Some(wire::Prefix { elems }), dst: Some(path_tree(&dentry.dst)) }
}

pub(crate) fn read_dentry(dentry: &wire::Dentry) -> Result<Dentry, WireError> {
    let element = |elem: &wire::Elem| match &elem.value {
        Some(ElemValue::Wildcard(_)) => Ok(Element::Wildcard),
        Some(ElemValue::Label(label)) if !label.is_empty() => Ok(Element::Label(label.as_ref().into())),
        _ => Err(WireError::new("a prefix has an empty label")),
    };
    let elems: &[wire::Elem] = dentry.prefix.as_ref().map_or(&[], |prefix| &prefix.elems);
    let elements = elems.iter().map(element).collect::<Result<_, _>>()?;
    let dst = dentry.dst.as_ref().ok_or_else(|| WireError::new("a dentry has no destination"))?;
    Ok(Dentry { prefix: Prefix::new(elements), dst: read_path_tree(dst)? })
}

pub(crate) fn path_tree(tree: &NameTree<Path>) -> wire::PathNameTree {
    let weighted = |branch: &Weighted<Path>| wire::PathWeighted {
        weight: Some(branch.weight),
        tree: Some(path_tree(&branch.tree)),
    };
    let node = match tree {
        NameTree::Neg => PathNode::Neg(Empty {}),
        NameTree::Fail => PathNode::Fail(Empty {}),
        NameTree::Empty => PathNode::Empty(Empty {}),
        NameTree::Leaf(id) => PathNode::Leaf(wire::PathLeaf { id: Some(path(id)) }),
        NameTree::Alt(trees) => PathNode::Alt(wire::PathAlt { trees: trees.iter().map(path_tree).collect() }),
        NameTree::Union(branches) => {
            PathNode::Union(wire::PathUnion { trees: branches.iter().map(weighted).collect() })
        }
    };
    wire::PathNameTree { node: Some(node) }
}

pub(crate) fn read_path_tree(tree: &wire::PathNameTree) -> Result<NameTree<Path>, WireError> {
    let branch = |branch: &wire::PathWeighted| {
        let tree = branch.tree.as_ref().ok_or_else(no_branch)?;
        Ok(Weighted { weight: weight(branch.weight)?, tree: read_path_tree(tree)? })
    };
    Ok(match &tree.node {
        Some(PathNode::Neg(_)) => NameTree::Neg,
        Some(PathNode::Fail(_)) => NameTree::Fail,
        Some(PathNode::Empty(_)) => NameTree::Empty,
        Some(PathNode::Leaf(leaf)) => NameTree::Leaf(leaf.id.as_ref().map_or(Ok(Path::empty()), read_path)?),
        Some(PathNode::Alt(alt)) => {
            NameTree::Alt(alt.trees.iter().map(read_path_tree).collect::<Result<_, WireError>>()?)
        }
        Some(PathNode::Union(union)) => {
            NameTree::Union(union.trees.iter().map(branch).collect::<Result<_, WireError>>()?)
        }
        None => return Err(no_node()),
    })
}

pub(crate) fn bound_leaf(name: &BoundName) -> wire::BoundLeaf {
    wire::BoundLeaf { id: Some(path(&name.id)), residual: Some(path(&name.residual)) }
}

/// Errors without an id; an absent residual is an empty one.
pub(crate) fn read_bound_leaf(leaf: &wire::BoundLeaf) -> Result<BoundName, WireError> {
    let id = leaf.id.as_ref().ok_or_else(|| WireError::new("a bound name has no id"))?;
    let residual = leaf.residual.as_ref().map_or(Ok(Path::empty()), read_path)?;
    Ok(BoundName { id: read_path(id)?, residual })
}

pub(crate) fn bound_tree(tree: &NameTree<BoundName>) -> wire::BoundNameTree {
    let weighted = |branch: &Weighted<BoundName>| wire::BoundWeighted {
        weight: Some(branch.weight),
        tree: Some(bound_tree(&branch.tree)),
    };
    let node = match tree {
        NameTree::Neg => BoundNode::Neg(Empty {}),
        NameTree::Fail => BoundNode::Fail(Empty {}),
        NameTree::Empty => BoundNode::Empty(Empty {}),
        NameTree::Leaf(name) => BoundNode::Leaf(bound_leaf(name)),
        NameTree::Alt(trees) => BoundNode::Alt(wire::BoundAlt { trees: trees.iter().map(bound_tree).collect() }),
        NameTree::Union(branches) => {
            BoundNode::Union(wire::BoundUnion { trees: branches.iter().map(weighted).collect() })
        }
    };
    wire::BoundNameTree { node: Some(node) }
}

pub(crate) fn read_bound_tree(tree: &wire::BoundNameTree) -> Result<NameTree<BoundName>, WireError> {
    let branch = |branch: &wire::BoundWeighted| {
        let tree = branch.tree.as_ref().ok_or_else(no_branch)?;
        Ok(Weighted { weight: weight(branch.weight)?, tree: read_bound_tree(tree)? })
    };
    Ok(match &tree.node {
        Some(BoundNode::Neg(_)) => NameTree::Neg,
        Some(BoundNode::Fail(_)) => NameTree::Fail,
        Some(BoundNode::Empty(_)) => NameTree::Empty,
        Some(BoundNode::Leaf(leaf)) => NameTree::Leaf(read_bound_leaf(leaf)?),
        Some(BoundNode::Alt(alt)) => {
            NameTree::Alt(alt.trees.iter().map(read_bound_tree).collect::<Result<_, WireError>>()?)
        }
        Some(BoundNode::Union(union)) => {
            NameTree::Union(union.trees.iter().map(branch).collect::<Result<_, WireError>>()?)
        }
        None => return Err(no_node()),
    })
}

/// An absent weight is zero, as for every sender of proto3 but the old ones.
pub(crate) fn weight(weight: Option<f64>) -> Result<f64, WireError> {
    let weight = weight.unwrap_or(0.0);
    let sound = weight.is_finite() && weight >= 0.0;
    sound.then_some(weight).ok_or_else(|| WireError::new(format!("{weight} is not a weight")))
}

pub(crate) fn no_branch() -> WireError {
    WireError::new("a branch of a union has no tree")
}

pub(crate) fn no_node() -> WireError {
    WireError::new("a tree has no node that this version knows")
}
