//! The structs of the service `Namer` (namerd reference §4.1), as plain types.
//!
//! A union is an enum, an absent member is empty. Trees are tables of nodes, as on the wire; `trees` makes name trees of
//! them. Called by both ends. How each is written and read is
//! below this folder. Not for: the envelope of calls.

mod plain;
mod trees;

use dtab::{BoundName, Path};
use std::collections::BTreeMap;

/// Opaque to clients; empty for none.
pub type Stamp = Vec<u8>;

/// A version of a name in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameRef {
    /// The last version seen.
    pub stamp: Stamp,
    /// The path, or the bound id.
    pub name: Path,
    /// The namespace.
    pub ns: String,
}

/// What `bind` is asked. Its third field, the client's id, is written empty and not read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BindReq {
    /// Text of a dtab that comes after the namespace's own.
    pub dtab: String,
    /// Which name.
    pub name: NameRef,
}

/// What `addr` is asked: which id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddrReq(pub NameRef);

/// What `dtab` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DtabReq {
    /// The last version seen.
    pub stamp: Stamp,
    /// The namespace.
    pub ns: String,
}

/// What `delegate` is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct DelegateReq {
    /// Text of a dtab that comes after the namespace's own.
    pub dtab: String,
    /// Stamp, namespace, and the name as a tree of one leaf.
    pub delegation: Delegation,
}

/// What `bind` answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Of this tree.
    pub stamp: Stamp,
    /// The tree.
    pub tree: BoundTree,
    /// The namespace.
    pub ns: String,
}

/// A bound tree: the root, and all other nodes by number.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundTree {
    /// Where it begins.
    pub root: BoundNode,
    /// What it refers to.
    pub nodes: BTreeMap<i32, BoundNode>,
}

/// A node of a bound tree.
#[derive(Debug, Clone, PartialEq)]
pub enum BoundNode {
    /// No such name.
    Neg,
    /// A name without addresses.
    Empty,
    /// No such name, and no alternatives.
    Fail,
    /// A bound name.
    Leaf(BoundName),
    /// Alternatives in preference order.
    Alt(Vec<i32>),
    /// A weighted union.
    Weighted(Vec<(f64, i32)>),
}

/// What `addr` answers.
#[derive(Debug, Clone, PartialEq)]
pub struct AddrReply {
    /// Of this state.
    pub stamp: Stamp,
    /// The addresses; None when there is no such name.
    pub bound: Option<BoundAddr>,
}

/// A set of addresses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BoundAddr {
    /// The addresses.
    pub addresses: Vec<TransportAddress>,
    /// Facts about all of them.
    pub meta: Option<AddrMeta>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TransportAddress {
    /// Four bytes or sixteen.
    pub ip: Vec<u8>,
    /// The port.
    pub port: i32,
    /// Facts about it.
    pub meta: Option<AddrMeta>,
}

/// Facts about addresses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddrMeta {
    /// The host that requests are to name.
    pub authority: Option<String>,
    /// The node on which it runs.
    pub node_name: Option<String>,
    /// Its share; on the wire `endpoint_addr_weight`.
    pub weight: Option<f64>,
}

/// The exceptions of `bind`, `addr`, `delegate` and `dtab`; they differ in which fields are there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// Why.
    pub reason: String,
    /// What was asked; for `bind` and `addr`.
    pub name: Option<NameRef>,
    /// The namespace; for `bind`.
    pub ns: Option<String>,
}

/// What `delegate` answers, and what it is asked with.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegation {
    /// Empty in a question.
    pub stamp: Stamp,
    /// The tree.
    pub tree: DelegateTree,
    /// The namespace.
    pub ns: String,
}

/// A delegation tree: the root, and all other nodes by number.
#[derive(Debug, Clone, PartialEq)]
pub struct DelegateTree {
    /// Where it begins.
    pub root: DelegateNode,
    /// What it refers to.
    pub nodes: BTreeMap<i32, DelegateNode>,
}

/// A node of a delegation tree.
#[derive(Debug, Clone, PartialEq)]
pub struct DelegateNode {
    /// The path that was looked up.
    pub path: Path,
    /// Text of the dentry that led here; of a transformation, the transformer's name.
    pub dentry: String,
    /// What came of it.
    pub contents: Contents,
}

/// What came of a lookup.
#[derive(Debug, Clone, PartialEq)]
pub enum Contents {
    /// It failed with this text.
    Error(String),
    /// A name without addresses.
    Empty,
    /// No such name, and no alternatives.
    Fail,
    /// No such name.
    Neg,
    /// One dentry matched.
    Delegate(i32),
    /// A bound name.
    BoundLeaf(BoundName),
    /// A name that is not bound: the question.
    PathLeaf(Path),
    /// Alternatives in preference order.
    Alt(Vec<i32>),
    /// A weighted union.
    Weighted(Vec<(f64, i32)>),
    /// A transformer changed this name into that node.
    Transformation(BoundName, i32),
}

/// What `dtab` answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DtabRef {
    /// Of this dtab.
    pub stamp: Stamp,
    /// Its text.
    pub dtab: String,
}

#[cfg(test)]
mod tests;
