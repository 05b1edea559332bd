//! Bound trees and addresses: from `dtab` to the structs of the wire and back.
//!
//! What comes from the wire is not believed: node numbers may lead anywhere, so depth and number of steps are bounded.
//! Called by both ends. Not for: delegation trees.

use super::messages::{AddrMeta, AddrReply, BoundAddr, BoundNode, BoundTree, Stamp, TransportAddress};
use dtab::{Addr, AddrSet, Address, BoundName, Meta, NameTree, Weighted};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Deeper trees are not read.
pub const MAX_DEPTH: usize = 100;
/// Trees of more nodes are not read; one that is referred to twice counts twice.
pub const MAX_NODES: usize = 100_000;

const AUTHORITY: &str = "authority";
const NODE_NAME: &str = "nodeName";

/// The table of a tree. Numbers go depth first from 0; the root has none.
pub fn write_tree(tree: &NameTree<BoundName>) -> BoundTree {
    let mut nodes = BTreeMap::new();
    let root = write_node(tree, &mut 0, &mut nodes);
    BoundTree { root, nodes }
}

fn write_node(tree: &NameTree<BoundName>, next: &mut i32, nodes: &mut BTreeMap<i32, BoundNode>) -> BoundNode {
    let mut child = |tree: &NameTree<BoundName>| {
        let id = *next;
        *next += 1;
        let node = write_node(tree, next, nodes);
        nodes.insert(id, node);
        id
    };
    match tree {
        NameTree::Neg => BoundNode::Neg,
        NameTree::Fail => BoundNode::Fail,
        NameTree::Empty => BoundNode::Empty,
        NameTree::Leaf(name) => BoundNode::Leaf(name.clone()),
        NameTree::Alt(trees) => BoundNode::Alt(trees.iter().map(child).collect()),
        NameTree::Union(branches) => {
            BoundNode::Weighted(branches.iter().map(|branch| (branch.weight, child(&branch.tree))).collect())
        }
    }
}

/// The tree of a table. Errors with what is wrong with it.
pub fn read_tree(table: &BoundTree) -> Result<NameTree<BoundName>, String> {
    Walk { nodes: &table.nodes, left: MAX_NODES }.node(&table.root, 0)
}

struct Walk<'a> {
    nodes: &'a BTreeMap<i32, BoundNode>,
    left: usize,
}

impl Walk<'_> {
    fn node(&mut self, node: &BoundNode, depth: usize) -> Result<NameTree<BoundName>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the tree is deeper than {MAX_DEPTH} levels"));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| format!("the tree has more than {MAX_NODES} nodes"))?;
        Ok(match node {
            BoundNode::Neg => NameTree::Neg,
            BoundNode::Fail => NameTree::Fail,
            BoundNode::Empty => NameTree::Empty,
            BoundNode::Leaf(name) => NameTree::Leaf(name.clone()),
            BoundNode::Alt(ids) => {
                let trees: Result<Vec<_>, String> = ids.iter().map(|id| self.child(*id, depth)).collect();
                NameTree::Alt(trees?)
            }
            BoundNode::Weighted(branches) => {
                let branch = |(weight, id): &(f64, i32)| {
                    Ok(Weighted { weight: read_weight(*weight)?, tree: self.child(*id, depth)? })
                };
                let branches: Result<Vec<_>, String> = branches.iter().map(branch).collect();
                NameTree::Union(branches?)
            }
        })
    }

    fn child(&mut self, id: i32, depth: usize) -> Result<NameTree<BoundName>, String> {
        let nodes = self.nodes;
        let node = nodes.get(&id).ok_or_else(|| format!("unknown node id: {id}"))?;
        self.node(node, depth + 1)
    }
}

pub(super) fn read_weight(weight: f64) -> Result<f64, String> {
    if weight.is_finite() && weight >= 0.0 { Ok(weight) } else { Err(format!("{weight} is no weight")) }
}

/// The answer of `addr`; None for a state that is none: what is Pending is not answered, what has failed is a failure.
pub fn write_addr(addr: &Addr, stamp: Stamp) -> Option<AddrReply> {
    match addr {
        Addr::Pending | Addr::Failed(_) => None,
        Addr::Neg => Some(AddrReply { stamp, bound: None }),
        Addr::Bound(set) => {
            let addresses = set.addresses.iter().map(write_address).collect();
            Some(AddrReply { stamp, bound: Some(BoundAddr { addresses, meta: write_meta(&set.meta, None) }) })
        }
    }
}

fn write_address(address: &Address) -> TransportAddress {
    let ip = match address.socket.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let weight = (address.weight != 1.0).then_some(address.weight);
    TransportAddress { ip, port: address.socket.port().into(), meta: write_meta(&address.meta, weight) }
}

fn write_meta(meta: &Meta, weight: Option<f64>) -> Option<AddrMeta> {
    let meta = AddrMeta { authority: meta.get(AUTHORITY).cloned(), node_name: meta.get(NODE_NAME).cloned(), weight };
    (meta != AddrMeta::default()).then_some(meta)
}

/// The state in an answer of `addr`. Errors with what is wrong with it.
pub fn read_addr(reply: &AddrReply) -> Result<Addr, String> {
    let Some(bound) = &reply.bound else { return Ok(Addr::Neg) };
    let addresses: Result<Vec<Address>, String> = bound.addresses.iter().map(read_address).collect();
    let set = AddrSet::new(addresses?);
    Ok(Addr::Bound(AddrSet { meta: read_meta(bound.meta.as_ref()), ..set }))
}

fn read_address(address: &TransportAddress) -> Result<Address, String> {
    let ip = match (<[u8; 4]>::try_from(&address.ip[..]), <[u8; 16]>::try_from(&address.ip[..])) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(format!("an IP address of {} bytes is none", address.ip.len())),
    };
    let port = u16::try_from(address.port).map_err(|_| format!("{} is no port", address.port))?;
    let weight = address.meta.as_ref().and_then(|meta| meta.weight).unwrap_or(1.0);
    let socket = SocketAddr::new(ip, port);
    Ok(Address { socket, weight: read_weight(weight)?, meta: read_meta(address.meta.as_ref()) })
}

fn read_meta(meta: Option<&AddrMeta>) -> Meta {
    let Some(meta) = meta else { return Meta::new() };
    let facts = [(AUTHORITY, &meta.authority), (NODE_NAME, &meta.node_name)];
    facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtab::Path;

    fn leaf(id: &str) -> NameTree<BoundName> {
        let path = |text| Path::parse(text).expect("a path");
        NameTree::Leaf(BoundName { id: path(id), residual: path("/rest") })
    }

    fn node(id: &str) -> BoundNode {
        write_tree(&leaf(id)).root
    }

    #[test]
    fn nodes_are_numbered_depth_first() {
        let inner = NameTree::Alt(vec![leaf("/a"), NameTree::Fail]);
        let branch = |weight, tree| Weighted { weight, tree };
        let tree = NameTree::Union(vec![branch(9.0, inner), branch(0.001, leaf("/b")), branch(0.0, NameTree::Empty)]);
        let table = write_tree(&tree);
        assert_eq!(table.root, BoundNode::Weighted(vec![(9.0, 0), (0.001, 3), (0.0, 4)]));
        let nodes = [BoundNode::Alt(vec![1, 2]), node("/a"), BoundNode::Fail, node("/b"), BoundNode::Empty];
        assert_eq!(table.nodes, (0..).zip(nodes).collect());
        assert_eq!(read_tree(&table), Ok(tree));
        assert_eq!(read_tree(&write_tree(&NameTree::Neg)), Ok(NameTree::Neg));
    }

    #[test]
    fn a_table_that_is_no_tree_is_refused() {
        let read = |root, nodes: Vec<(i32, BoundNode)>| {
            read_tree(&BoundTree { root, nodes: nodes.into_iter().collect() }).expect_err("no tree")
        };
        assert_eq!(read(BoundNode::Alt(vec![5]), Vec::new()), "unknown node id: 5");
        let around = vec![(0, BoundNode::Alt(vec![0]))];
        assert_eq!(read(BoundNode::Alt(vec![0]), around), "the tree is deeper than 100 levels");
        let doubling = (0..60).map(|i| (i, BoundNode::Alt(vec![i + 1, i + 1]))).chain([(60, BoundNode::Neg)]);
        assert_eq!(read(BoundNode::Alt(vec![0]), doubling.collect()), "the tree has more than 100000 nodes");
        let nan = BoundNode::Weighted(vec![(f64::NAN, 0)]);
        assert_eq!(read(nan, vec![(0, BoundNode::Neg)]), "NaN is no weight");
    }

    #[test]
    fn addresses_come_back_with_their_facts() {
        let mut first = Address::new(([10, 0, 0, 1], 80).into());
        first.weight = 0.125;
        first.meta.insert(NODE_NAME.into(), "7".into());
        let second = Address::new("[::1]:81".parse().expect("an address"));
        let mut third = Address::new(([10, 0, 0, 2], 80).into());
        third.weight = 2.0;
        let mut set = AddrSet::new([first, second, third]);
        set.meta.insert(AUTHORITY.into(), "web".into());
        for addr in [Addr::Bound(set), Addr::Neg, Addr::bound([])] {
            let reply = write_addr(&addr, vec![1]).expect("an answer");
            assert_eq!(read_addr(&reply), Ok(addr));
        }
        assert_eq!(write_addr(&Addr::Pending, Stamp::new()), None);
        assert_eq!(write_addr(&Addr::failed("x"), Stamp::new()), None);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let read = |ip: Vec<u8>, port, weight| {
            let meta = Some(AddrMeta { weight, ..AddrMeta::default() });
            let addresses = vec![TransportAddress { ip, port, meta }];
            let bound = Some(BoundAddr { addresses, meta: None });
            read_addr(&AddrReply { stamp: Stamp::new(), bound }).expect_err("no address")
        };
        assert_eq!(read(vec![1, 2, 3], 80, None), "an IP address of 3 bytes is none");
        assert_eq!(read(vec![1, 2, 3, 4], 65536, None), "65536 is no port");
        assert_eq!(read(vec![1, 2, 3, 4], -1, None), "-1 is no port");
        assert_eq!(read(vec![1, 2, 3, 4], 1, Some(-1.0)), "-1 is no weight");
    }
}
