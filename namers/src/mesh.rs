//! The Mesh API, `io.l5d.mesh`: names and addresses over gRPC, as Linkerd 1 and its namerd speak it.
//!
//! Written once for both sides: the router asks with [`MeshClient`], namerd answers with [`calls`] and [`frame`]. The
//! messages are those of `mesh.proto`, the traps are those of the old peers (namerd reference §3.4): they tell a field that
//! is absent from one that is zero, and do not skip what they do not know. Not for: HTTP/2 on the server's side, which is
//! namerd's.

pub mod calls;
mod client;
mod connection;
mod delegation;
pub mod frame;
mod messages;
mod names;
mod replicas;
pub mod status;

pub use crate::mesh::client::{MeshClient, MeshOptions};

/// The content type of requests and responses.
pub const CONTENT_TYPE: &str = "application/grpc+proto";

/// The paths of the calls.
pub mod paths {
    /// One bound tree.
    pub const GET_BOUND_TREE: &str = "/io.linkerd.mesh.Interpreter/GetBoundTree";
    /// Bound trees until the caller leaves.
    pub const STREAM_BOUND_TREE: &str = "/io.linkerd.mesh.Interpreter/StreamBoundTree";
    /// The addresses of an id once.
    pub const GET_REPLICAS: &str = "/io.linkerd.mesh.Resolver/GetReplicas";
    /// The addresses of an id until the caller leaves.
    pub const STREAM_REPLICAS: &str = "/io.linkerd.mesh.Resolver/StreamReplicas";
    /// A stored dtab once.
    pub const GET_DTAB: &str = "/io.linkerd.mesh.Delegator/GetDtab";
    /// A stored dtab until the caller leaves.
    pub const STREAM_DTAB: &str = "/io.linkerd.mesh.Delegator/StreamDtab";
    /// How a name resolves.
    pub const GET_DELEGATE_TREE: &str = "/io.linkerd.mesh.Delegator/GetDelegateTree";
    /// The same as a stream of one.
    pub const STREAM_DELEGATE_TREE: &str = "/io.linkerd.mesh.Delegator/StreamDelegateTree";
    /// From text to a dtab.
    pub const READ_DTAB: &str = "/io.linkerd.mesh.Codec/ReadDtab";
    /// From a dtab to text.
    pub const SHOW_DTAB: &str = "/io.linkerd.mesh.Codec/ShowDtab";
    /// From text to a path.
    pub const READ_PATH: &str = "/io.linkerd.mesh.Codec/ReadPath";
    /// From a path to text.
    pub const SHOW_PATH: &str = "/io.linkerd.mesh.Codec/ShowPath";
    /// All of them.
    pub const ALL: [&str; 12] = [
        GET_BOUND_TREE,
        STREAM_BOUND_TREE,
        GET_REPLICAS,
        STREAM_REPLICAS,
        GET_DTAB,
        STREAM_DTAB,
        GET_DELEGATE_TREE,
        STREAM_DELEGATE_TREE,
        READ_DTAB,
        SHOW_DTAB,
        READ_PATH,
        SHOW_PATH,
    ];
}

/// Why bytes are not the message that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub String);

impl WireError {
    pub(crate) fn new(text: impl Into<String>) -> WireError {
        WireError(text.into())
    }
}
