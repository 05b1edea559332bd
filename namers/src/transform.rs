//! What transformers do to names and addresses (naming reference §9, config reference §10). Pure: no IO, no waiting.
//!
//! An [`AddressTransformer`] filters or changes the addresses of each bound name; a [`Replacement`] puts what another path
//! is bound to in the place of names. Both mark what they made: its id begins with `/%` and their prefix. Called by
//! `transformed`, which keeps the results up to date. Not for: reading the config or finding out what the settings stand
//! for (`local_ips`, the linker).

use dtab::{Addr, AddrSet, Address, BoundName, DelegateTree, Delegation, Meta, NameTree, Path, Weighted};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The fact that names the node an address is on.
const NODE_NAME: &str = "nodeName";

/// A transformer: everything it needs is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Transformer {
    /// Changes addresses.
    Addresses(AddressTransformer),
    /// Changes names.
    Replacement(Replacement),
}

/// Filters or changes the addresses of each bound name. The tree keeps its shape: a name that loses all addresses has a
/// negative address, so nothing falls back.
#[derive(Debug, Clone, PartialEq)]
pub struct AddressTransformer {
    /// What ids begin with, the `/%` included.
    pub prefix: Path,
    /// What happens to the addresses.
    pub effect: AddressEffect,
}

/// What happens to a set of addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum AddressEffect {
    /// `io.l5d.port`: each gets this port.
    Port(u16),
    /// `io.l5d.localhost`, `io.l5d.specificHost`: those with one of these IP addresses stay.
    Hosts(Arc<[IpAddr]>),
    /// `io.l5d.k8s.localnode`: those in the /24 of this address stay; an IPv6 address never does.
    Subnet(Ipv4Addr),
    /// `io.l5d.k8s.localnode` with `hostNetwork`: those whose fact `nodeName` is this stay.
    Node(String),
}

/// `io.l5d.replace`, `io.l5d.const`: the binding of `path` in the place of names. Its names have the id of the prefix and
/// the path, and the residual of the binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    /// What ids begin with, the `/%` included.
    pub prefix: Path,
    /// Bound with an empty dtab.
    pub path: Path,
    /// What is replaced.
    pub replaces: Replaces,
}

/// How much a [`Replacement`] replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// `io.l5d.const`: the whole tree, even when it is negative.
    Tree,
    /// `io.l5d.replace`: each leaf.
    Leaves,
}

impl AddressTransformer {
    /// What an id becomes.
    pub fn id(&self, id: &Path) -> Path {
        self.prefix.concat(id)
    }

    /// The id before, of one that this transformer made.
    pub fn before(&self, id: &Path) -> Option<Path> {
        id.starts_with(&self.prefix).then(|| id.skip(self.prefix.len()))
    }

    /// What a bound tree becomes: other ids, the same residuals.
    pub fn tree(&self, tree: &NameTree<BoundName>) -> NameTree<BoundName> {
        tree.map(&mut |name| self.name(name))
    }

    fn name(&self, name: &BoundName) -> BoundName {
        BoundName { id: self.id(&name.id), residual: name.residual.clone() }
    }

    /// What an address state becomes. A set of which a filter leaves nothing is negative; other states stay.
    pub fn addr(&self, addr: &Addr) -> Addr {
        let Addr::Bound(set) = addr else { return addr.clone() };
        let addresses = match &self.effect {
            AddressEffect::Port(port) => return Addr::Bound(at_port(set, *port)),
            AddressEffect::Hosts(hosts) => kept(set, |address| hosts.iter().any(|host| *host == ip(address))),
            AddressEffect::Subnet(within) => kept(set, |address| in_subnet(*within, ip(address))),
            AddressEffect::Node(node) => kept(set, |address| address.meta.get(NODE_NAME) == Some(node)),
        };
        if addresses.is_empty() { Addr::Neg } else { Addr::Bound(AddrSet { addresses, meta: set.meta.clone() }) }
    }

    /// Makes a leaf of a delegation tree what is shown of it: a transformation to another leaf (naming reference §10.2).
    pub fn explain(&self, leaf: &mut DelegateTree) {
        let Delegation::Leaf(bound, addr) = &leaf.node else { return };
        let after = self.name(bound);
        let path = after.id.to_string();
        let node = Delegation::Leaf(after, self.addr(addr));
        leaf.node = Delegation::Transformation {
            name: self.shown(),
            bound: bound.clone(),
            addr: addr.clone(),
            tree: Box::new(DelegateTree { path, dentry: leaf.dentry.take(), node }),
        };
    }

    /// The names that Linkerd shows, spelt as there.
    fn shown(&self) -> &'static str {
        match self.effect {
            AddressEffect::Port(_) => "DelegatingNameTreeTransformer$",
            AddressEffect::Hosts(_) | AddressEffect::Subnet(_) => "SubnetLocalTransformer",
            AddressEffect::Node(_) => "MetadataFiltertingNameTreeTransformer",
        }
    }
}

impl Replacement {
    /// The id of every name that this transformer makes.
    pub fn id(&self) -> Path {
        self.prefix.concat(&self.path)
    }

    /// True when what becomes of `tree` depends on the binding of the path.
    pub fn needs_binding(&self, tree: &NameTree<BoundName>) -> bool {
        let mut leaves = false;
        tree.for_each(&mut |_| leaves = true);
        leaves || self.replaces == Replaces::Tree
    }

    /// What a bound tree becomes when the path is bound to `binding`. Shape and weights of the tree are kept.
    pub fn tree(&self, tree: &NameTree<BoundName>, binding: &NameTree<BoundName>) -> NameTree<BoundName> {
        let renamed = binding.map(&mut |name| BoundName { id: self.id(), residual: name.residual.clone() });
        match self.replaces {
            Replaces::Tree => renamed,
            Replaces::Leaves => substitute(tree, &renamed),
        }
    }
}

/// `tree` with `other` for each leaf.
fn substitute(tree: &NameTree<BoundName>, other: &NameTree<BoundName>) -> NameTree<BoundName> {
    match tree {
        NameTree::Leaf(_) => other.clone(),
        NameTree::Neg | NameTree::Fail | NameTree::Empty => tree.clone(),
        NameTree::Alt(trees) => NameTree::Alt(trees.iter().map(|tree| substitute(tree, other)).collect()),
        NameTree::Union(branches) => {
            let branch = |b: &Weighted<BoundName>| Weighted { weight: b.weight, tree: substitute(&b.tree, other) };
            NameTree::Union(branches.iter().map(branch).collect())
        }
    }
}

/// The IP address; IPv4 written as IPv6 (`::ffff:10.0.0.1`) is IPv4.
fn ip(address: &Address) -> IpAddr {
    address.socket.ip().to_canonical()
}

fn kept(set: &AddrSet, keep: impl Fn(&Address) -> bool) -> Arc<[Address]> {
    set.addresses.iter().filter(|address| keep(address)).cloned().collect()
}

fn in_subnet(within: Ipv4Addr, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == within.octets()[..3],
        IpAddr::V6(_) => false,
    }
}

/// Every address at `port`. Addresses of one host become one: its weight is the largest of theirs, so that two of weight 1
/// are one of weight 1 as in Linkerd, and its facts are those that all of them share.
fn at_port(set: &AddrSet, port: u16) -> AddrSet {
    let mut moved: Vec<Address> =
        set.addresses.iter().map(|address| Address { socket: at(address, port), ..address.clone() }).collect();
    moved.sort_by_key(|address| address.socket);
    moved.dedup_by(|other, first| {
        let same = other.socket == first.socket;
        if same {
            first.weight = first.weight.max(other.weight);
            first.meta = shared(&first.meta, &other.meta);
        }
        same
    });
    AddrSet { addresses: moved.into(), meta: set.meta.clone() }
}

fn at(address: &Address, port: u16) -> SocketAddr {
    let mut socket = address.socket;
    socket.set_port(port);
    socket
}

fn shared(one: &Meta, other: &Meta) -> Meta {
    one.iter().filter(|(key, value)| other.get(*key) == Some(value)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
#[path = "transform_tests.rs"]
mod tests;
