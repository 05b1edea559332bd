//! Bound trees and addresses as JSON, for the snapshot on disk. Not a wire format: see `wire`.

use dtab::{Addr, AddrSet, Address, BoundName, Meta, NameTree, Path, Weighted};
use serde_json::{Value, json};

/// Deeper trees are not read back.
const MAX_DEPTH: usize = 100;

/// `null` for the three constants would be ambiguous: they are texts.
pub(super) fn tree(tree: &NameTree<BoundName>) -> Value {
    match tree {
        NameTree::Neg => json!("neg"),
        NameTree::Fail => json!("fail"),
        NameTree::Empty => json!("empty"),
        NameTree::Leaf(name) => json!({"id": name.id.to_string(), "residual": name.residual.to_string()}),
        NameTree::Alt(trees) => json!({"alt": trees.iter().map(self::tree).collect::<Vec<_>>()}),
        NameTree::Union(branches) => {
            let branch = |branch: &Weighted<BoundName>| json!([branch.weight, self::tree(&branch.tree)]);
            json!({"union": branches.iter().map(branch).collect::<Vec<_>>()})
        }
    }
}

/// The tree of [`tree`]; None when it is not one.
pub(super) fn read_tree(saved: &Value) -> Option<NameTree<BoundName>> {
    read_within(saved, MAX_DEPTH)
}

fn read_within(saved: &Value, depth: usize) -> Option<NameTree<BoundName>> {
    let depth = depth.checked_sub(1)?;
    if let Some(constant) = saved.as_str() {
        return match constant {
            "neg" => Some(NameTree::Neg),
            "fail" => Some(NameTree::Fail),
            "empty" => Some(NameTree::Empty),
            _ => None,
        };
    }
    if let Some(alt) = saved.get("alt") {
        let trees: Option<Vec<_>> = alt.as_array()?.iter().map(|tree| read_within(tree, depth)).collect();
        return Some(NameTree::Alt(trees?));
    }
    if let Some(union) = saved.get("union") {
        let branches: Option<Vec<_>> = union.as_array()?.iter().map(|branch| read_branch(branch, depth)).collect();
        return Some(NameTree::Union(branches?));
    }
    let part = |key| Path::parse(saved.get(key)?.as_str()?).ok();
    Some(NameTree::Leaf(BoundName { id: part("id")?, residual: part("residual")? }))
}

fn read_branch(saved: &Value, depth: usize) -> Option<Weighted<BoundName>> {
    let weight = saved.get(0)?.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0)?;
    Some(Weighted { weight, tree: read_within(saved.get(1)?, depth)? })
}

/// None for what is not known: only a set of addresses is worth keeping.
pub(super) fn addr(addr: &Addr) -> Option<Value> {
    let Addr::Bound(set) = addr else { return None };
    let address = |address: &Address| json!([address.socket.to_string(), address.weight, address.meta]);
    Some(json!({"addresses": set.addresses.iter().map(address).collect::<Vec<_>>(), "meta": set.meta}))
}

/// The addresses of [`addr`]; None when they are none.
pub(super) fn read_addr(saved: &Value) -> Option<Addr> {
    let addresses: Option<Vec<Address>> = saved.get("addresses")?.as_array()?.iter().map(read_address).collect();
    let set = AddrSet::new(addresses?);
    Some(Addr::Bound(AddrSet { meta: read_meta(saved.get("meta")?)?, ..set }))
}

fn read_address(saved: &Value) -> Option<Address> {
    let socket = saved.get(0)?.as_str()?.parse().ok()?;
    let weight = saved.get(1)?.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0)?;
    Some(Address { socket, weight, meta: read_meta(saved.get(2)?)? })
}

fn read_meta(saved: &Value) -> Option<Meta> {
    saved.as_object()?.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(id: &str) -> NameTree<BoundName> {
        let path = |text| Path::parse(text).expect("a path");
        NameTree::Leaf(BoundName { id: path(id), residual: path("/rest") })
    }

    #[test]
    fn a_tree_comes_back_as_it_was() {
        let union = NameTree::Union(vec![
            Weighted { weight: 0.125, tree: leaf("/#/io.l5d.fs/a") },
            Weighted { weight: 9.0, tree: NameTree::Alt(vec![leaf("/#/b"), NameTree::Empty, NameTree::Fail]) },
        ]);
        for original in [union, NameTree::Neg, leaf("/$/inet/h/80")] {
            assert_eq!(read_tree(&tree(&original)), Some(original));
        }
    }

    #[test]
    fn what_is_no_tree_is_not_believed() {
        let deep = (0..200).fold(json!("neg"), |inner, _| json!({"alt": [inner]}));
        for saved in
            [json!(null), json!("x"), json!({"id": "no path", "residual": "/"}), json!({"union": [[-1, "neg"]]}), deep]
        {
            assert_eq!(read_tree(&saved), None, "{saved}");
        }
    }

    #[test]
    fn addresses_come_back_as_they_were() {
        let mut address = Address::new(([10, 0, 0, 1], 80).into());
        address.weight = 0.5;
        address.meta.insert("nodeName".into(), "a".into());
        let mut set = AddrSet::new([address]);
        set.meta.insert("authority".into(), "web".into());
        let original = Addr::Bound(set);
        assert_eq!(addr(&original).and_then(|saved| read_addr(&saved)), Some(original));
        assert_eq!(addr(&Addr::Neg), None);
        assert_eq!(read_addr(&json!({"addresses": [["nowhere", 1.0, {}]], "meta": {}})), None);
    }
}
