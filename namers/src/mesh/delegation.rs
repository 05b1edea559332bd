//! Delegation trees as messages, both ways.
//!
//! Linkerd 1 wants a path and a dentry at every node, so the root has a dentry that changes nothing; and it fails on
//! transformations, which callers of its kind get as a plain delegation (namerd reference §3.4). Called by `calls`.

use super::WireError;
use super::messages::{self as wire, DelegateNode, Empty};
use super::names;
use dtab::{Addr, BoundName, DelegateTree, Delegation, Dentry, Element, NameTree, Path, Prefix};

/// What transformations are called in Linkerd; another name is shown as the last one.
const TRANSFORMATIONS: [&str; 4] = [
    "DelegatingNameTreeTransformer$",
    "SubnetLocalTransformer",
    "MetadataFiltertingNameTreeTransformer",
    "Transformer",
];

/// `transformations` says whether the reader knows them.
pub(crate) fn tree(tree: &DelegateTree, transformations: bool) -> wire::BoundDelegateTree {
    let child = |tree: &DelegateTree| self::tree(tree, transformations);
    let node = match &tree.node {
        Delegation::Neg => DelegateNode::Neg(Empty {}),
        Delegation::Fail => DelegateNode::Fail(Empty {}),
        Delegation::Empty => DelegateNode::Empty(Empty {}),
        Delegation::Alt(trees) => DelegateNode::Alt(wire::DelegateAlt { trees: trees.iter().map(child).collect() }),
        Delegation::Union(branches) => DelegateNode::Union(wire::DelegateUnion {
            trees: branches.iter().map(|(w, tree)| weighted(*w, child(tree))).collect(),
        }),
        Delegation::Leaf(name, _) => DelegateNode::Leaf(names::bound_leaf(name)),
        Delegation::Delegate(tree) => DelegateNode::Delegate(Box::new(child(tree))),
        Delegation::Transformation { name, bound, tree, .. } if transformations => {
            DelegateNode::Transformation(Box::new(wire::Transformation {
                name: Some((*name).to_owned()),
                leaf: Some(names::bound_leaf(bound)),
                tree: Some(Box::new(child(tree))),
            }))
        }
        Delegation::Transformation { tree, .. } => DelegateNode::Delegate(Box::new(child(tree))),
        Delegation::Exception(message) => DelegateNode::Exception(message.clone()),
    };
    let path = Path::parse(&tree.path).unwrap_or_default();
    let dentry = tree.dentry.as_ref().map_or_else(|| names::dentry(&no_dentry()), names::dentry);
    wire::BoundDelegateTree { path: Some(names::path(&path)), dentry: Some(dentry), node: Some(node) }
}

fn weighted(weight: f64, tree: wire::BoundDelegateTree) -> wire::DelegateWeighted {
    wire::DelegateWeighted { weight: Some(weight), tree: Some(tree) }
}

/// What stands where no dentry led, as in Linkerd 1: the one label `/`, to nowhere.
fn no_dentry() -> Dentry {
    Dentry { prefix: Prefix::new(vec![Element::Label(b"/".as_slice().into())]), dst: NameTree::Neg }
}

pub(crate) fn read_tree(tree: wire::BoundDelegateTree) -> Result<DelegateTree, WireError> {
    let dentry = tree.dentry.as_ref().map(names::read_dentry).transpose()?.filter(|dentry| *dentry != no_dentry());
    let path = tree.path.as_ref().map_or(Ok(Path::empty()), names::read_path)?;
    let node = match tree.node.ok_or_else(names::no_node)? {
        DelegateNode::Neg(_) => Delegation::Neg,
        DelegateNode::Fail(_) => Delegation::Fail,
        DelegateNode::Empty(_) => Delegation::Empty,
        DelegateNode::Alt(alt) => Delegation::Alt(alt.trees.into_iter().map(read_tree).collect::<Result<_, _>>()?),
        DelegateNode::Union(union) => {
            Delegation::Union(union.trees.into_iter().map(read_branch).collect::<Result<_, _>>()?)
        }
        DelegateNode::Leaf(leaf) => Delegation::Leaf(names::read_bound_leaf(&leaf)?, Addr::Pending),
        DelegateNode::Delegate(tree) => Delegation::Delegate(Box::new(read_tree(*tree)?)),
        DelegateNode::Transformation(transformation) => read_transformation(*transformation)?,
        DelegateNode::Exception(message) => Delegation::Exception(message),
    };
    Ok(DelegateTree { path: shown(&path, &node), dentry, node })
}

fn read_branch(branch: wire::DelegateWeighted) -> Result<(f64, DelegateTree), WireError> {
    Ok((names::weight(branch.weight)?, read_tree(branch.tree.ok_or_else(names::no_branch)?)?))
}

fn read_transformation(transformation: wire::Transformation) -> Result<Delegation, WireError> {
    let lacks = |what| WireError::new(format!("a transformation has no {what}"));
    let bound: BoundName = names::read_bound_leaf(&transformation.leaf.ok_or_else(|| lacks("leaf"))?)?;
    let tree = read_tree(*transformation.tree.ok_or_else(|| lacks("tree"))?)?;
    let called = transformation.name.unwrap_or_default();
    let [.., other] = TRANSFORMATIONS;
    let name = TRANSFORMATIONS.into_iter().find(|known| *known == called).unwrap_or(other);
    Ok(Delegation::Transformation { name, bound, addr: Addr::Pending, tree: Box::new(tree) })
}

/// The text at a node (namerd reference §2.12).
fn shown(path: &Path, node: &Delegation) -> String {
    let fails = path.get(0) == Some(b"$") && path.get(1) == Some(b"fail");
    match node {
        Delegation::Neg if path.is_empty() => "~".to_owned(),
        Delegation::Fail if !fails => "!".to_owned(),
        _ => path.to_string(),
    }
}
