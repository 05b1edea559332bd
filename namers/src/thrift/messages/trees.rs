//! Trees as bytes: nodes refer to each other by numbers.
//!
//! Called through [`Wire`]. Not for: what the numbers lead to.

use super::plain::{absent, read_path, write_path};
use super::{Bound, BoundNode, BoundTree, Contents, DelegateNode, DelegateTree, Delegation, Stamp};
use crate::thrift::binary::{Reader, Wire, WireError, Writer, kind};
use dtab::{BoundName, Path};
use std::collections::BTreeMap;

fn write_ids(out: &mut Writer, id: i16, ids: &[i32]) {
    out.field(kind::LIST, id);
    out.list(kind::I32, ids.len());
    ids.iter().for_each(|id| out.i32(*id));
}

fn read_ids(from: &mut Reader<'_>) -> Result<Vec<i32>, WireError> {
    from.values(kind::I32, Reader::i32)
}

fn write_weighted(out: &mut Writer, id: i16, branches: &[(f64, i32)]) {
    out.field(kind::LIST, id);
    out.list(kind::STRUCT, branches.len());
    for (weight, node) in branches {
        out.field(kind::DOUBLE, 1);
        out.double(*weight);
        out.field(kind::I32, 2);
        out.i32(*node);
        out.stop();
    }
}

fn read_weighted(from: &mut Reader<'_>) -> Result<Vec<(f64, i32)>, WireError> {
    from.values(kind::STRUCT, |from| {
        let (mut weight, mut node) = (0.0, 0);
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::DOUBLE) => weight = from.double()?,
                (2, kind::I32) => node = from.i32()?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok((weight, node))
    })
}

/// Nodes by number.
fn write_nodes<T: Wire>(out: &mut Writer, id: i16, nodes: &BTreeMap<i32, T>) {
    out.field(kind::MAP, id);
    out.bytes.push(kind::I32);
    out.list(kind::STRUCT, nodes.len());
    for (id, node) in nodes {
        out.i32(*id);
        node.write(out);
    }
}

fn read_nodes<T: Wire>(from: &mut Reader<'_>) -> Result<BTreeMap<i32, T>, WireError> {
    let (key, value, count) = from.map()?;
    if count > 0 && (key, value) != (kind::I32, kind::STRUCT) {
        return Err(WireError::malformed("the nodes of a tree are not numbered structs"));
    }
    (0..count).map(|_| Ok((from.i32()?, T::read(from)?))).collect()
}

fn write_name(out: &mut Writer, name: &BoundName) {
    write_path(out, 1, &name.id);
    write_path(out, 2, &name.residual);
    out.stop();
}

fn read_name(from: &mut Reader<'_>) -> Result<BoundName, WireError> {
    let (mut bound, mut residual) = (Path::empty(), Path::empty());
    from.fields(|from, kind, id| {
        match (id, kind) {
            (1, kind::LIST) => bound = read_path(from)?,
            (2, kind::LIST) => residual = read_path(from)?,
            _ => from.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(BoundName { id: bound, residual })
}

impl Wire for BoundNode {
    fn write(&self, out: &mut Writer) {
        match self {
            BoundNode::Neg => out.void_field(1),
            BoundNode::Empty => out.void_field(2),
            BoundNode::Fail => out.void_field(3),
            BoundNode::Leaf(name) => {
                out.field(kind::STRUCT, 4);
                write_name(out, name);
            }
            BoundNode::Alt(nodes) => write_ids(out, 5, nodes),
            BoundNode::Weighted(branches) => write_weighted(out, 6, branches),
        }
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<BoundNode, WireError> {
        let mut node = None;
        from.fields(|from, kind, id| {
            node = Some(match (id, kind) {
                (4, kind::STRUCT) => BoundNode::Leaf(read_name(from)?),
                (5, kind::LIST) => BoundNode::Alt(read_ids(from)?),
                (6, kind::LIST) => BoundNode::Weighted(read_weighted(from)?),
                _ => {
                    from.skip(kind)?;
                    match (id, kind) {
                        (1, kind::STRUCT) => BoundNode::Neg,
                        (2, kind::STRUCT) => BoundNode::Empty,
                        (3, kind::STRUCT) => BoundNode::Fail,
                        _ => return Ok(()),
                    }
                }
            });
            Ok(())
        })?;
        node.ok_or_else(|| absent("the kind of a node"))
    }
}

impl Wire for BoundTree {
    fn write(&self, out: &mut Writer) {
        out.struct_field(1, &self.root);
        write_nodes(out, 2, &self.nodes);
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<BoundTree, WireError> {
        let (mut root, mut nodes) = (None, BTreeMap::new());
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRUCT) => root = Some(BoundNode::read(from)?),
                (2, kind::MAP) => nodes = read_nodes(from)?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(BoundTree { root: root.ok_or_else(|| absent("the root of a tree"))?, nodes })
    }
}

impl Wire for Bound {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, &self.stamp);
        out.struct_field(2, &self.tree);
        out.string_field(3, self.ns.as_bytes());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<Bound, WireError> {
        let (mut stamp, mut tree, mut ns) = (Stamp::new(), None, String::new());
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => stamp = from.bytes()?.to_vec(),
                (2, kind::STRUCT) => tree = Some(BoundTree::read(from)?),
                (3, kind::STRING) => ns = from.text()?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(Bound { stamp, tree: tree.ok_or_else(|| absent("the tree"))?, ns })
    }
}

impl Wire for Contents {
    fn write(&self, out: &mut Writer) {
        match self {
            Contents::Error(text) => out.string_field(1, text.as_bytes()),
            Contents::Empty => out.void_field(2),
            Contents::Fail => out.void_field(3),
            Contents::Neg => out.void_field(4),
            Contents::Delegate(node) => {
                out.field(kind::I32, 5);
                out.i32(*node);
            }
            Contents::BoundLeaf(name) => {
                out.field(kind::STRUCT, 6);
                write_name(out, name);
            }
            Contents::PathLeaf(path) => write_path(out, 7, path),
            Contents::Alt(nodes) => write_ids(out, 8, nodes),
            Contents::Weighted(branches) => write_weighted(out, 9, branches),
            Contents::Transformation(name, node) => {
                out.field(kind::STRUCT, 10);
                out.field(kind::STRUCT, 1);
                write_name(out, name);
                out.field(kind::I32, 2);
                out.i32(*node);
                out.stop();
            }
        }
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<Contents, WireError> {
        let mut contents = None;
        from.fields(|from, kind, id| {
            contents = Some(match (id, kind) {
                (1, kind::STRING) => Contents::Error(from.text()?),
                (5, kind::I32) => Contents::Delegate(from.i32()?),
                (6, kind::STRUCT) => Contents::BoundLeaf(read_name(from)?),
                (7, kind::LIST) => Contents::PathLeaf(read_path(from)?),
                (8, kind::LIST) => Contents::Alt(read_ids(from)?),
                (9, kind::LIST) => Contents::Weighted(read_weighted(from)?),
                (10, kind::STRUCT) => read_transformation(from)?,
                _ => {
                    from.skip(kind)?;
                    match (id, kind) {
                        (2, kind::STRUCT) => Contents::Empty,
                        (3, kind::STRUCT) => Contents::Fail,
                        (4, kind::STRUCT) => Contents::Neg,
                        _ => return Ok(()),
                    }
                }
            });
            Ok(())
        })?;
        contents.ok_or_else(|| absent("what came of a lookup"))
    }
}

fn read_transformation(from: &mut Reader<'_>) -> Result<Contents, WireError> {
    let (mut name, mut tree) = (None, None);
    from.fields(|from, kind, id| {
        match (id, kind) {
            (1, kind::STRUCT) => name = Some(read_name(from)?),
            (2, kind::I32) => tree = Some(from.i32()?),
            _ => from.skip(kind)?,
        }
        Ok(())
    })?;
    let (name, tree) = name.zip(tree).ok_or_else(|| absent("a part of a transformation"))?;
    Ok(Contents::Transformation(name, tree))
}

impl Wire for DelegateNode {
    fn write(&self, out: &mut Writer) {
        write_path(out, 1, &self.path);
        out.string_field(2, self.dentry.as_bytes());
        out.struct_field(3, &self.contents);
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<DelegateNode, WireError> {
        let (mut path, mut dentry, mut contents) = (Path::empty(), String::new(), None);
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::LIST) => path = read_path(from)?,
                (2, kind::STRING) => dentry = from.text()?,
                (3, kind::STRUCT) => contents = Some(Contents::read(from)?),
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(DelegateNode { path, dentry, contents: contents.ok_or_else(|| absent("what came of a lookup"))? })
    }
}

impl Wire for DelegateTree {
    fn write(&self, out: &mut Writer) {
        out.struct_field(1, &self.root);
        write_nodes(out, 2, &self.nodes);
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<DelegateTree, WireError> {
        let (mut root, mut nodes) = (None, BTreeMap::new());
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRUCT) => root = Some(DelegateNode::read(from)?),
                (2, kind::MAP) => nodes = read_nodes(from)?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(DelegateTree { root: root.ok_or_else(|| absent("the root of a tree"))?, nodes })
    }
}

impl Wire for Delegation {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, &self.stamp);
        out.struct_field(2, &self.tree);
        out.string_field(3, self.ns.as_bytes());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<Delegation, WireError> {
        let (mut stamp, mut tree, mut ns) = (Stamp::new(), None, String::new());
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => stamp = from.bytes()?.to_vec(),
                (2, kind::STRUCT) => tree = Some(DelegateTree::read(from)?),
                (3, kind::STRING) => ns = from.text()?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(Delegation { stamp, tree: tree.ok_or_else(|| absent("the tree"))?, ns })
    }
}
