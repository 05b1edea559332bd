//! Delegation trees: from `dtab` to the structs of the wire and back.
//!
//! What the wire has no room for is lost: the addresses of leaves, and which text stood for a constant. Called by both
//! ends. Not for: bound trees.

use super::convert::{MAX_NODES, read_weight};
use super::messages::{Contents, DelegateNode, DelegateReq, DelegateTree, Delegation, Stamp};
use dtab::{Addr, Delegation as Found, Dentry, Dtab, Exact, Path};
use std::collections::BTreeMap;

/// Deeper trees are not read.
pub const MAX_DEPTH: usize = 400;
/// The text in place of a dentry where none led to a node.
pub const NO_DENTRY: &str = "/\\x2f=>~";
/// What a client is told whose question is more than one path.
pub const TOO_COMPLEX: &str = "Delegation too complex";
/// The stamp of every answer; a client that asks again with it waits for ever.
pub const STAMP: [u8; 8] = 1_u64.to_be_bytes();

/// Names that transformers have in explanations (naming reference §10.2); the last is for all others.
const TRANSFORMERS: [&str; 4] = [
    "DelegatingNameTreeTransformer$",
    "SubnetLocalTransformer",
    "MetadataFiltertingNameTreeTransformer",
    "transformer",
];

/// The question how `path` resolves.
pub fn question(dtab: String, ns: String, path: Path) -> DelegateReq {
    let contents = Contents::PathLeaf(path);
    let root = DelegateNode { path: Path::empty(), dentry: NO_DENTRY.to_owned(), contents };
    let tree = DelegateTree { root, nodes: BTreeMap::new() };
    DelegateReq { dtab, delegation: Delegation { stamp: Stamp::new(), tree, ns } }
}

/// The path that is asked about; None when the question is more than one path.
pub fn asked(tree: &DelegateTree) -> Option<&Path> {
    match &tree.root.contents {
        Contents::PathLeaf(path) => Some(path),
        _ => None,
    }
}

/// The table of an explanation.
pub fn write(tree: &dtab::DelegateTree) -> DelegateTree {
    let mut nodes = BTreeMap::new();
    let root = write_node(tree, &mut 0, &mut nodes);
    DelegateTree { root, nodes }
}

fn write_node(tree: &dtab::DelegateTree, next: &mut i32, nodes: &mut BTreeMap<i32, DelegateNode>) -> DelegateNode {
    // The texts of constants are no paths.
    let path = Path::parse(&tree.path).unwrap_or_default();
    let mut dentry = tree.dentry.as_ref().map_or_else(|| NO_DENTRY.to_owned(), |dentry| Exact(dentry).to_string());
    let contents = match &tree.node {
        Found::Neg => Contents::Neg,
        Found::Fail => Contents::Fail,
        Found::Empty => Contents::Empty,
        Found::Exception(text) => Contents::Error(text.clone()),
        Found::Leaf(name, _) => Contents::BoundLeaf(name.clone()),
        Found::Delegate(child) => Contents::Delegate(write_last(child, next, nodes)),
        Found::Transformation { name, bound, tree, .. } => {
            dentry = (*name).to_owned();
            Contents::Transformation(bound.clone(), write_last(tree, next, nodes))
        }
        Found::Alt(children) => Contents::Alt(children.iter().map(|child| write_first(child, next, nodes)).collect()),
        Found::Union(branches) => Contents::Weighted(
            branches.iter().map(|(weight, child)| (*weight, write_first(child, next, nodes))).collect(),
        ),
    };
    DelegateNode { path, dentry, contents }
}

/// A child whose number comes before those of its descendants.
fn write_first(tree: &dtab::DelegateTree, next: &mut i32, nodes: &mut BTreeMap<i32, DelegateNode>) -> i32 {
    let id = *next;
    *next += 1;
    let node = write_node(tree, next, nodes);
    nodes.insert(id, node);
    id
}

/// A child whose number comes after those of its descendants.
fn write_last(tree: &dtab::DelegateTree, next: &mut i32, nodes: &mut BTreeMap<i32, DelegateNode>) -> i32 {
    let node = write_node(tree, next, nodes);
    let id = *next;
    *next += 1;
    nodes.insert(id, node);
    id
}

/// The explanation of a table; the addresses of its leaves are Pending. Errors with what is wrong with it.
pub fn read(table: &DelegateTree) -> Result<dtab::DelegateTree, String> {
    Walk { nodes: &table.nodes, left: MAX_NODES }.node(&table.root, 0)
}

struct Walk<'a> {
    nodes: &'a BTreeMap<i32, DelegateNode>,
    left: usize,
}

impl Walk<'_> {
    fn node(&mut self, node: &DelegateNode, depth: usize) -> Result<dtab::DelegateTree, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the explanation is deeper than {MAX_DEPTH} levels"));
        }
        let left = self.left.checked_sub(1);
        self.left = left.ok_or_else(|| format!("the explanation has more than {MAX_NODES} nodes"))?;
        let found = match &node.contents {
            Contents::Neg => Found::Neg,
            Contents::Fail => Found::Fail,
            Contents::Empty => Found::Empty,
            Contents::Error(text) => Found::Exception(text.clone()),
            Contents::BoundLeaf(name) => Found::Leaf(name.clone(), Addr::Pending),
            Contents::PathLeaf(path) => Found::Exception(format!("{path} is not bound")),
            Contents::Delegate(id) => Found::Delegate(self.child(*id, depth)?),
            Contents::Transformation(bound, id) => Found::Transformation {
                name: transformer(&node.dentry),
                bound: bound.clone(),
                addr: Addr::Pending,
                tree: self.child(*id, depth)?,
            },
            Contents::Alt(ids) => {
                let children: Result<Vec<_>, String> = ids.iter().map(|id| Ok(*self.child(*id, depth)?)).collect();
                Found::Alt(children?)
            }
            Contents::Weighted(branches) => {
                let branch = |(weight, id): &(f64, i32)| Ok((read_weight(*weight)?, *self.child(*id, depth)?));
                let branches: Result<Vec<_>, String> = branches.iter().map(branch).collect();
                Found::Union(branches?)
            }
        };
        Ok(dtab::DelegateTree { path: shown(&node.path, &found), dentry: dentry(&node.dentry), node: found })
    }

    fn child(&mut self, id: i32, depth: usize) -> Result<Box<dtab::DelegateTree>, String> {
        let nodes = self.nodes;
        let node = nodes.get(&id).ok_or_else(|| format!("unknown node id: {id}"))?;
        Ok(Box::new(self.node(node, depth + 1)?))
    }
}

/// How the path of a node is shown; constants without one have their own text.
fn shown(path: &Path, found: &Found) -> String {
    match found {
        Found::Neg if path.is_empty() => "~".to_owned(),
        Found::Fail if path.is_empty() => "!".to_owned(),
        _ => path.to_string(),
    }
}

/// The dentry of a text; None for [`NO_DENTRY`] and for what is none, such as the name of a transformer.
fn dentry(text: &str) -> Option<Dentry> {
    if text == NO_DENTRY {
        return None;
    }
    let table = Dtab::parse(text).ok()?;
    table.dentries().first().cloned()
}

fn transformer(name: &str) -> &'static str {
    let [.., other] = TRANSFORMERS;
    TRANSFORMERS.into_iter().find(|known| *known == name).unwrap_or(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AddressEffect, AddressTransformer};
    use dtab::BoundName;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    fn tree(path: &str, dentry: &str, node: Found) -> dtab::DelegateTree {
        let dentry = Dtab::parse(dentry).expect("a dtab").dentries().first().cloned();
        dtab::DelegateTree { path: path.to_owned(), dentry, node }
    }

    fn name(id: &str) -> BoundName {
        BoundName { id: path(id), residual: Path::empty() }
    }

    fn everything() -> dtab::DelegateTree {
        let leaf =
            || tree("/#/io.l5d.fs/web", "/host=>/#/io.l5d.fs", Found::Leaf(name("/#/io.l5d.fs/web"), Addr::Pending));
        let bound = name("/#/io.l5d.fs/web");
        let transformed = Found::Transformation {
            name: "SubnetLocalTransformer",
            bound,
            addr: Addr::Pending,
            tree: Box::new(tree("/%/x/#/io.l5d.fs/web", "", Found::Leaf(name("/%/x/#/io.l5d.fs/web"), Addr::Pending))),
        };
        let union = Found::Union(vec![(0.25, leaf()), (9.0, tree("/b", "/c=>~", Found::Empty))]);
        let children = vec![
            tree("/host/web", "/svc=>/host", Found::Delegate(Box::new(leaf()))),
            tree("/x", "", transformed),
            tree("/y", "/svc=>0.001*/y & /z", union),
            tree("~", "/svc=>~", Found::Neg),
            tree("!", "/svc=>!", Found::Fail),
            tree("/e", "/svc=>/e", Found::Exception("no".into())),
        ];
        tree("/svc/web", "", Found::Alt(children))
    }

    #[test]
    fn an_explanation_comes_back() {
        let original = everything();
        assert_eq!(read(&write(&original)), Ok(original));
    }

    #[test]
    fn numbers_are_those_of_the_original() {
        let table = write(&everything());
        assert_eq!(table.root.contents, Contents::Alt(vec![0, 2, 4, 7, 8, 9]));
        assert_eq!(table.root.dentry, "/\\x2f=>~");
        assert_eq!(table.nodes[&0].contents, Contents::Delegate(1));
        assert_eq!(table.nodes[&2].dentry, "SubnetLocalTransformer");
        assert_eq!(table.nodes[&4].contents, Contents::Weighted(vec![(0.25, 5), (9.0, 6)]));
        assert_eq!(table.nodes[&7].path, Path::empty());
        let chain = tree("/a", "", Found::Delegate(Box::new(tree("/b", "", Found::Delegate(Box::new(everything()))))));
        assert_eq!(write(&chain).root.contents, Contents::Delegate(11));
    }

    #[test]
    fn a_question_is_one_path() {
        let request = question("/a=>/b".into(), "ns".into(), path("/svc/web"));
        assert_eq!(asked(&request.delegation.tree), Some(&path("/svc/web")));
        assert_eq!(asked(&write(&everything())), None);
    }

    #[test]
    fn a_table_that_is_no_tree_is_refused() {
        let node = |contents| DelegateNode { path: Path::empty(), dentry: String::new(), contents };
        let nodes = BTreeMap::from([(0, node(Contents::Delegate(0)))]);
        let around = DelegateTree { root: node(Contents::Delegate(0)), nodes };
        assert_eq!(read(&around), Err("the explanation is deeper than 400 levels".into()));
        let nowhere = DelegateTree { root: node(Contents::Transformation(name("/a"), 3)), nodes: BTreeMap::new() };
        assert_eq!(read(&nowhere), Err("unknown node id: 3".into()));
    }

    #[test]
    fn transformers_are_known_by_their_names() {
        let effects = [AddressEffect::Port(1), AddressEffect::Hosts([].into()), AddressEffect::Node("n".into())];
        for effect in effects {
            let mut leaf = tree("/x", "", Found::Leaf(name("/x"), Addr::Neg));
            AddressTransformer { prefix: path("/%/x"), effect }.explain(&mut leaf);
            let Found::Transformation { name, .. } = leaf.node else { panic!("{leaf:?}") };
            assert_eq!(transformer(name), name);
        }
        assert_eq!(transformer("Other"), "transformer");
    }
}
