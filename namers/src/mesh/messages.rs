//! The messages of `mesh.proto`, field by field.
//!
//! Annotated by hand, not generated, since the old peers want zeros to be present on the wire (namerd reference §3.4):
//! every single scalar is an `Option`, and maps are lists of entries, of which prost would leave out empty halves. Not for:
//! meaning; see `names`, `replicas` and `delegation`.

use bytes::Bytes;
use prost::{Message, Oneof};

/// Nothing but its presence.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Path {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) elems: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathNameTree {
    #[prost(oneof = "PathNode", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) node: Option<PathNode>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum PathNode {
    #[prost(message, tag = "1")]
    Neg(Empty),
    #[prost(message, tag = "2")]
    Fail(Empty),
    #[prost(message, tag = "3")]
    Empty(Empty),
    #[prost(message, tag = "4")]
    Alt(PathAlt),
    #[prost(message, tag = "5")]
    Union(PathUnion),
    #[prost(message, tag = "6")]
    Leaf(PathLeaf),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathAlt {
    #[prost(message, repeated, tag = "1")]
    pub(crate) trees: Vec<PathNameTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathUnion {
    #[prost(message, repeated, tag = "1")]
    pub(crate) trees: Vec<PathWeighted>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathWeighted {
    #[prost(double, optional, tag = "1")]
    pub(crate) weight: Option<f64>,
    #[prost(message, optional, tag = "2")]
    pub(crate) tree: Option<PathNameTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathLeaf {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<Path>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dtab {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dentries: Vec<Dentry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dentry {
    #[prost(message, optional, tag = "1")]
    pub(crate) prefix: Option<Prefix>,
    #[prost(message, optional, tag = "2")]
    pub(crate) dst: Option<PathNameTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Prefix {
    #[prost(message, repeated, tag = "1")]
    pub(crate) elems: Vec<Elem>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Elem {
    #[prost(oneof = "ElemValue", tags = "1, 2")]
    pub(crate) value: Option<ElemValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ElemValue {
    #[prost(bytes = "bytes", tag = "1")]
    Label(Bytes),
    #[prost(message, tag = "2")]
    Wildcard(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VersionedDtab {
    #[prost(message, optional, tag = "1")]
    pub(crate) version: Option<Version>,
    #[prost(message, optional, tag = "2")]
    pub(crate) dtab: Option<Dtab>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Version {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) id: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BindReq {
    #[prost(message, optional, tag = "1")]
    pub(crate) root: Option<Path>,
    #[prost(message, optional, tag = "2")]
    pub(crate) name: Option<Path>,
    #[prost(message, optional, tag = "3")]
    pub(crate) dtab: Option<Dtab>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BoundTreeRsp {
    #[prost(message, optional, tag = "1")]
    pub(crate) tree: Option<BoundNameTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BoundNameTree {
    #[prost(oneof = "BoundNode", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) node: Option<BoundNode>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum BoundNode {
    #[prost(message, tag = "1")]
    Neg(Empty),
    #[prost(message, tag = "2")]
    Fail(Empty),
    #[prost(message, tag = "3")]
    Empty(Empty),
    #[prost(message, tag = "4")]
    Alt(BoundAlt),
    #[prost(message, tag = "5")]
    Union(BoundUnion),
    #[prost(message, tag = "6")]
    Leaf(BoundLeaf),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BoundAlt {
    #[prost(message, repeated, tag = "1")]
    pub(crate) trees: Vec<BoundNameTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BoundUnion {
    #[prost(message, repeated, tag = "1")]
    pub(crate) trees: Vec<BoundWeighted>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BoundWeighted {
    #[prost(double, optional, tag = "1")]
    pub(crate) weight: Option<f64>,
    #[prost(message, optional, tag = "2")]
    pub(crate) tree: Option<BoundNameTree>,
}

/// Of bound trees and of delegation trees.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BoundLeaf {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<Path>,
    #[prost(message, optional, tag = "2")]
    pub(crate) residual: Option<Path>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReplicasReq {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<Path>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Replicas {
    #[prost(oneof = "Replicated", tags = "1, 2, 3, 4")]
    pub(crate) result: Option<Replicated>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Replicated {
    #[prost(message, tag = "1")]
    Pending(Empty),
    #[prost(message, tag = "2")]
    Neg(Empty),
    #[prost(message, tag = "3")]
    Failed(Failed),
    #[prost(message, tag = "4")]
    Bound(Bound),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Failed {
    #[prost(string, optional, tag = "1")]
    pub(crate) message: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bound {
    #[prost(message, repeated, tag = "1")]
    pub(crate) endpoints: Vec<Endpoint>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) metadata: Vec<MetaEntry>,
}

/// An entry of a `map<string, string>`, both halves present.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetaEntry {
    #[prost(string, optional, tag = "1")]
    pub(crate) key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Endpoint {
    /// 0 for IPv4, 1 for IPv6.
    #[prost(int32, optional, tag = "1")]
    pub(crate) inet_af: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) address: Option<Bytes>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) port: Option<i32>,
    #[prost(message, optional, tag = "4")]
    pub(crate) meta: Option<EndpointMeta>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) metadata: Vec<MetaEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EndpointMeta {
    #[prost(string, optional, tag = "1")]
    pub(crate) node_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DtabReq {
    #[prost(message, optional, tag = "1")]
    pub(crate) root: Option<Path>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DtabRsp {
    #[prost(message, optional, tag = "1")]
    pub(crate) dtab: Option<VersionedDtab>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DelegateTreeReq {
    #[prost(message, optional, tag = "1")]
    pub(crate) root: Option<Path>,
    #[prost(message, optional, tag = "2")]
    pub(crate) tree: Option<PathNameTree>,
    #[prost(message, optional, tag = "3")]
    pub(crate) dtab: Option<Dtab>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DelegateTreeRsp {
    #[prost(message, optional, tag = "1")]
    pub(crate) tree: Option<BoundDelegateTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BoundDelegateTree {
    #[prost(message, optional, tag = "1")]
    pub(crate) path: Option<Path>,
    #[prost(message, optional, tag = "2")]
    pub(crate) dentry: Option<Dentry>,
    #[prost(oneof = "DelegateNode", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub(crate) node: Option<DelegateNode>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum DelegateNode {
    #[prost(message, tag = "3")]
    Neg(Empty),
    #[prost(message, tag = "4")]
    Fail(Empty),
    #[prost(message, tag = "5")]
    Empty(Empty),
    #[prost(message, tag = "6")]
    Alt(DelegateAlt),
    #[prost(message, tag = "7")]
    Union(DelegateUnion),
    #[prost(message, tag = "8")]
    Leaf(BoundLeaf),
    #[prost(message, tag = "9")]
    Delegate(Box<BoundDelegateTree>),
    #[prost(message, tag = "10")]
    Transformation(Box<Transformation>),
    #[prost(string, tag = "11")]
    Exception(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DelegateAlt {
    #[prost(message, repeated, tag = "1")]
    pub(crate) trees: Vec<BoundDelegateTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DelegateUnion {
    #[prost(message, repeated, tag = "1")]
    pub(crate) trees: Vec<DelegateWeighted>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DelegateWeighted {
    #[prost(double, optional, tag = "1")]
    pub(crate) weight: Option<f64>,
    #[prost(message, optional, tag = "2")]
    pub(crate) tree: Option<BoundDelegateTree>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Transformation {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) leaf: Option<BoundLeaf>,
    #[prost(message, optional, boxed, tag = "3")]
    pub(crate) tree: Option<Box<BoundDelegateTree>>,
}

/// A request or a response of Codec that is a text.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Text {
    #[prost(string, optional, tag = "1")]
    pub(crate) text: Option<String>,
}

/// A request or a response of Codec that is a dtab.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OneDtab {
    #[prost(message, optional, tag = "1")]
    pub(crate) dtab: Option<Dtab>,
}

/// A request or a response of Codec that is a path.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OnePath {
    #[prost(message, optional, tag = "1")]
    pub(crate) path: Option<Path>,
}
