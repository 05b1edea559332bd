//! The requests and responses of the calls, as bytes both ways.
//!
//! `write_*` makes the message of one gRPC frame, `read_*` reads one. Called by namerd's interface and by the client. Not
//! for: what a call means.

use super::delegation;
use super::messages as wire;
use super::names;
use super::replicas;
use super::{WireError, frame};
use bytes::Bytes;
use dtab::{Addr, BoundName, DelegateTree, Dtab, NameTree, Path};
use prost::Message;

/// The request of Interpreter: bind `name` in the namespace `root`, with `dtab` after the namespace's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// The namespace, as a path of one label.
    pub root: Option<Path>,
    /// What to bind.
    pub name: Option<Path>,
    /// What comes after the dtab of the namespace.
    pub dtab: Dtab,
}

/// The request of Delegator for a delegation tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegate {
    /// The namespace, as a path of one label.
    pub root: Option<Path>,
    /// What to explain.
    pub tree: Option<NameTree<Path>>,
    /// What comes after the dtab of the namespace.
    pub dtab: Dtab,
}

fn decode<M: Message + Default>(message: Bytes, what: &str) -> Result<M, WireError> {
    M::decode(message).map_err(|error| WireError::new(format!("not a {what}: {error}")))
}

fn maybe_path(path: Option<&wire::Path>) -> Result<Option<Path>, WireError> {
    path.map(names::read_path).transpose()
}

impl Bind {
    /// Reads a BindReq.
    pub fn read(message: Bytes) -> Result<Bind, WireError> {
        let request: wire::BindReq = decode(message, "BindReq")?;
        let (root, name) = (maybe_path(request.root.as_ref())?, maybe_path(request.name.as_ref())?);
        Ok(Bind { root, name, dtab: names::read_dtab(request.dtab.as_ref())? })
    }

    /// A frame with a BindReq.
    pub fn write(&self) -> Bytes {
        let (root, name) = (self.root.as_ref().map(names::path), self.name.as_ref().map(names::path));
        frame::of(&wire::BindReq { root, name, dtab: Some(names::dtab(&self.dtab)) })
    }
}

impl Delegate {
    /// Reads a DelegateTreeReq.
    pub fn read(message: Bytes) -> Result<Delegate, WireError> {
        let request: wire::DelegateTreeReq = decode(message, "DelegateTreeReq")?;
        let tree = request.tree.as_ref().map(names::read_path_tree).transpose()?;
        Ok(Delegate { root: maybe_path(request.root.as_ref())?, tree, dtab: names::read_dtab(request.dtab.as_ref())? })
    }

    /// A frame with a DelegateTreeReq.
    pub fn write(&self) -> Bytes {
        let (root, tree) = (self.root.as_ref().map(names::path), self.tree.as_ref().map(names::path_tree));
        frame::of(&wire::DelegateTreeReq { root, tree, dtab: Some(names::dtab(&self.dtab)) })
    }
}

/// Reads a BoundTreeRsp.
pub fn read_tree(message: Bytes) -> Result<NameTree<BoundName>, WireError> {
    let response: wire::BoundTreeRsp = decode(message, "BoundTreeRsp")?;
    names::read_bound_tree(&response.tree.ok_or_else(|| WireError::new("a BoundTreeRsp has no tree"))?)
}

/// A frame with a BoundTreeRsp.
pub fn write_tree(tree: &NameTree<BoundName>) -> Bytes {
    frame::of(&wire::BoundTreeRsp { tree: Some(names::bound_tree(tree)) })
}

/// Reads a ReplicasReq: the id, if there is one.
pub fn read_id(message: Bytes) -> Result<Option<Path>, WireError> {
    maybe_path(decode::<wire::ReplicasReq>(message, "ReplicasReq")?.id.as_ref())
}

/// A frame with a ReplicasReq.
pub fn write_id(id: &Path) -> Bytes {
    frame::of(&wire::ReplicasReq { id: Some(names::path(id)) })
}

/// Reads Replicas.
pub fn read_addr(message: Bytes) -> Result<Addr, WireError> {
    replicas::read_replicas(decode(message, "Replicas")?)
}

/// A frame with Replicas.
pub fn write_addr(addr: &Addr) -> Bytes {
    frame::of(&replicas::replicas(addr))
}

/// Reads a DtabReq: the namespace, if there is one.
pub fn read_root(message: Bytes) -> Result<Option<Path>, WireError> {
    maybe_path(decode::<wire::DtabReq>(message, "DtabReq")?.root.as_ref())
}

/// A frame with a DtabRsp. `version` is opaque.
pub fn write_versioned(version: &Bytes, dtab: &Dtab) -> Bytes {
    let version = Some(wire::Version { id: Some(version.clone()) });
    frame::of(&wire::DtabRsp { dtab: Some(wire::VersionedDtab { version, dtab: Some(names::dtab(dtab)) }) })
}

/// Reads a DelegateTreeRsp. The addresses of leaves are Pending.
pub fn read_delegation(message: Bytes) -> Result<DelegateTree, WireError> {
    let response: wire::DelegateTreeRsp = decode(message, "DelegateTreeRsp")?;
    delegation::read_tree(response.tree.ok_or_else(|| WireError::new("a DelegateTreeRsp has no tree"))?)
}

/// A frame with a DelegateTreeRsp; None when it has more than `limit` bytes. Without `transformations`, as Linkerd 1 reads
/// it, they are shown as delegations to what comes after them.
pub fn write_delegation(tree: &DelegateTree, transformations: bool, limit: usize) -> Option<Bytes> {
    let response = wire::DelegateTreeRsp { tree: Some(delegation::tree(tree, transformations)) };
    (response.encoded_len() <= limit).then(|| frame::of(&response))
}

/// Reads a text of Codec.
pub fn read_text(message: Bytes) -> Result<String, WireError> {
    Ok(decode::<wire::Text>(message, "text")?.text.unwrap_or_default())
}

/// A frame with a text of Codec.
pub fn write_text(text: String) -> Bytes {
    frame::of(&wire::Text { text: Some(text) })
}

/// Reads a dtab of Codec.
pub fn read_dtab(message: Bytes) -> Result<Dtab, WireError> {
    names::read_dtab(decode::<wire::OneDtab>(message, "dtab")?.dtab.as_ref())
}

/// A frame with a dtab of Codec.
pub fn write_dtab(dtab: &Dtab) -> Bytes {
    frame::of(&wire::OneDtab { dtab: Some(names::dtab(dtab)) })
}

/// Reads a path of Codec.
pub fn read_path(message: Bytes) -> Result<Path, WireError> {
    Ok(maybe_path(decode::<wire::OnePath>(message, "path")?.path.as_ref())?.unwrap_or_default())
}

/// A frame with a path of Codec.
pub fn write_path(path: &Path) -> Bytes {
    frame::of(&wire::OnePath { path: Some(names::path(path)) })
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
