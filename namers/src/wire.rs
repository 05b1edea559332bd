//! JSON of bound trees, delegation trees and addresses, exactly as Linkerd's admin API and namerd write them (naming
//! reference §10.2, namerd reference §2.9).
//!
//! Called by the admin pages of the router and by namerd. Written by hand because the order of members is part of the
//! format. [`read`] reads what is written here, and what Linkerd 1 wrote.

pub mod read;

use dtab::{Addr, AddrSet, Address, BoundName, DelegateTree, Delegation, Dentry, Exact, Meta, NameTree};
use std::fmt::Display;

/// Metadata keys whose values are numbers (namerd reference, "Addr").
const NUMBERS: [&str; 2] = [WEIGHT, TREE_WEIGHT];
const TREE_WEIGHT: &str = "namer_nametree_weight";
const WEIGHT: &str = "endpoint_addr_weight";

/// A delegation tree: every node `type`, `path`, `dentry` unless there is none, then what its type adds.
pub fn delegation(tree: &DelegateTree) -> String {
    let kind = match &tree.node {
        Delegation::Delegate(_) => "delegate",
        Delegation::Alt(_) => "alt",
        Delegation::Union(_) => "union",
        Delegation::Leaf(..) => "leaf",
        Delegation::Neg => "neg",
        Delegation::Fail => "fail",
        Delegation::Empty => "empty",
        Delegation::Exception(_) => "exception",
        Delegation::Transformation { .. } => "transformation",
    };
    let mut object = Object::default();
    object.text("type", kind).text("path", &tree.path);
    if let Some(entry) = &tree.dentry {
        object.raw("dentry", &dentry(entry));
    }
    match &tree.node {
        Delegation::Delegate(child) => object.raw("delegate", &delegation(child)),
        Delegation::Alt(children) => object.raw("alt", &array(children.iter().map(delegation))),
        Delegation::Union(branches) => object.raw("union", &array(branches.iter().map(|(w, child)| branch(*w, child)))),
        Delegation::Leaf(name, at) => object.raw("bound", &bound(name, at)),
        Delegation::Exception(message) => object.text("message", message),
        Delegation::Transformation { name, bound: before, addr, tree } => {
            object.text("name", name).raw("bound", &bound(before, addr)).raw("tree", &delegation(tree))
        }
        Delegation::Neg | Delegation::Fail | Delegation::Empty => &mut object,
    };
    object.close()
}

/// A bound tree: every node `type`, then what its type adds; leaves with the address that `addr_of` gives them.
pub fn bound_tree(tree: &NameTree<BoundName>, addr_of: &dyn Fn(&BoundName) -> Addr) -> String {
    bound_node(tree, None, addr_of)
}

fn bound_node(tree: &NameTree<BoundName>, weight: Option<f64>, addr_of: &dyn Fn(&BoundName) -> Addr) -> String {
    let mut object = Object::default();
    match tree {
        NameTree::Neg => object.text("type", "neg"),
        NameTree::Fail => object.text("type", "fail"),
        NameTree::Empty => object.text("type", "empty"),
        NameTree::Leaf(name) => {
            let at = weighted(&addr_of(name), weight);
            object.text("type", "leaf").raw("bound", &bound(name, &at))
        }
        NameTree::Alt(trees) => {
            let trees = array(trees.iter().map(|tree| bound_node(tree, weight, addr_of)));
            object.text("type", "alt").raw("alt", &trees)
        }
        NameTree::Union(branches) => {
            let branch = |weight: f64, tree: &NameTree<BoundName>| {
                let tree = bound_node(tree, Some(weight), addr_of);
                Object::default().raw("weight", &number(weight)).raw("tree", &tree).close()
            };
            let branches = array(branches.iter().map(|b| branch(b.weight, &b.tree)));
            object.text("type", "union").raw("union", &branches)
        }
    };
    object.close()
}

/// The address of a leaf below a union: with the weight of its branch as a fact, the number `namer_nametree_weight`.
pub fn weighted(addr: &Addr, weight: Option<f64>) -> Addr {
    match (addr, weight) {
        (Addr::Bound(set), Some(weight)) => {
            let mut meta = set.meta.clone();
            meta.insert(TREE_WEIGHT.to_owned(), format!("{weight:?}"));
            Addr::Bound(AddrSet { addresses: set.addresses.clone(), meta })
        }
        _ => addr.clone(),
    }
}

/// `{"prefix": "...", "dst": "..."}`.
pub fn dentry(dentry: &Dentry) -> String {
    let mut object = Object::default();
    object.text("prefix", &dentry.prefix.to_string()).text("dst", &Exact(&dentry.dst).to_string());
    object.close()
}

/// A bound name with its addresses: `{"addr": A, "id": "...", "path": "<residual>"}`.
pub fn bound(name: &BoundName, at: &Addr) -> String {
    let mut object = Object::default();
    object.raw("addr", &addr(at)).text("id", &name.id.to_string()).text("path", &name.residual.to_string());
    object.close()
}

/// An address state: `{"type": "bound", "addrs": [...], "meta": {...}}`, or `neg`, `failed` with `cause`, `pending`.
pub fn addr(addr: &Addr) -> String {
    let mut object = Object::default();
    match addr {
        Addr::Pending => object.text("type", "pending"),
        Addr::Neg => object.text("type", "neg"),
        Addr::Failed(cause) => object.text("type", "failed").text("cause", cause),
        Addr::Bound(set) => {
            let addresses = array(set.addresses.iter().map(address));
            object.text("type", "bound").raw("addrs", &addresses).raw("meta", &meta(&set.meta, None))
        }
    };
    object.close()
}

/// `{"ip", "port", "meta"}`; a weight other than 1 is the number `endpoint_addr_weight` in `meta`.
pub fn address(address: &Address) -> String {
    let weight = (address.weight != 1.0).then_some(address.weight);
    let mut object = Object::default();
    object.text("ip", &address.socket.ip().to_string()).raw("port", &address.socket.port());
    object.raw("meta", &meta(&address.meta, weight));
    object.close()
}

fn branch(weight: f64, child: &DelegateTree) -> String {
    let mut object = Object::default();
    object.raw("weight", &number(weight)).raw("tree", &delegation(child));
    object.close()
}

fn meta(meta: &Meta, weight: Option<f64>) -> String {
    let mut object = Object::default();
    for (key, value) in meta {
        match value.parse::<f64>() {
            Ok(value) if NUMBERS.contains(&key.as_str()) && value.is_finite() => object.raw(key, &number(value)),
            _ => object.text(key, value),
        };
    }
    if let Some(weight) = weight.filter(|_| !meta.contains_key(WEIGHT)) {
        object.raw(WEIGHT, &number(weight));
    }
    object.close()
}

/// A JSON number with a decimal point (`1.0`), as Linkerd's doubles; what is not a number is 0.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:?}") } else { "0.0".to_owned() }
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A JSON object under construction; members stay in order.
#[derive(Default)]
struct Object {
    members: String,
}

impl Object {
    fn text(&mut self, key: &str, value: &str) -> &mut Object {
        self.raw(key, &serde_json::Value::from(value))
    }

    /// A member whose value prints as JSON.
    fn raw(&mut self, key: &str, value: &dyn Display) -> &mut Object {
        let comma = if self.members.is_empty() { "" } else { "," };
        let key = serde_json::Value::from(key);
        self.members.push_str(&format!("{comma}{key}:{value}"));
        self
    }

    fn close(&self) -> String {
        format!("{{{}}}", self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtab::{AddrSet, Dtab, Path};

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn leaf(at: Addr) -> DelegateTree {
        let name = BoundName { id: path("/#/t/web"), residual: path("/x") };
        DelegateTree { path: "/#/t/web/x".into(), dentry: None, node: Delegation::Leaf(name, at) }
    }

    #[test]
    fn members_stand_in_the_order_of_the_reference() {
        let entry = Dtab::parse("/svc => 0.001 * /#/t & 9 * /#/t/b").unwrap().dentries()[0].clone();
        let child = DelegateTree { dentry: Some(entry), ..leaf(Addr::bound(["10.0.0.1:80".parse().unwrap()])) };
        let neg = DelegateTree { path: "~".into(), dentry: None, node: Delegation::Neg };
        let union = Delegation::Union(vec![(1.0, child), (9.0, neg)]);
        let tree = DelegateTree { path: "/svc/web/x".into(), dentry: None, node: union };
        let expected = concat!(
            r##"{"type":"union","path":"/svc/web/x","union":[{"weight":1.0,"tree":{"type":"leaf","path":"/#/t/web/x","##,
            r##""dentry":{"prefix":"/svc","dst":"0.001*/#/t & 9.00*/#/t/b"},"bound":{"addr":{"type":"bound","addrs":["##,
            r##"{"ip":"10.0.0.1","port":80,"meta":{}}],"meta":{}},"id":"/#/t/web","path":"/x"}}},"##,
            r##"{"weight":9.0,"tree":{"type":"neg","path":"~"}}]}"##,
        );
        assert_eq!(delegation(&tree), expected);
    }

    #[test]
    fn a_transformation_shows_the_name_before_and_the_leaf_after() {
        let after = leaf(Addr::Neg);
        let node = Delegation::Transformation {
            name: "SubnetLocalTransformer",
            bound: BoundName { id: path("/#/t/web"), residual: Path::empty() },
            addr: Addr::failed("x"),
            tree: Box::new(DelegateTree { path: "/%/p/#/t/web".into(), ..after }),
        };
        let expected = concat!(
            r##"{"type":"transformation","path":"/#/t/web","name":"SubnetLocalTransformer","##,
            r##""bound":{"addr":{"type":"failed","cause":"x"},"id":"/#/t/web","path":"/"},"##,
            r##""tree":{"type":"leaf","path":"/%/p/#/t/web","bound":{"addr":{"type":"neg"},"id":"/#/t/web","path":"/x"}}}"##,
        );
        assert_eq!(delegation(&DelegateTree { path: "/#/t/web".into(), dentry: None, node }), expected);
    }

    #[test]
    fn every_kind_of_node_is_json() {
        let nodes = [
            Delegation::Delegate(Box::new(leaf(Addr::Neg))),
            Delegation::Alt(vec![leaf(Addr::Pending), leaf(Addr::failed("a \"quoted\"\ncause"))]),
            Delegation::Fail,
            Delegation::Empty,
            Delegation::Exception("no \\ way".into()),
        ];
        for node in nodes {
            let text = delegation(&DelegateTree { path: "/\u{1}\"".into(), dentry: None, node });
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["path"], "/\u{1}\"", "{text}");
        }
        let failed: serde_json::Value = serde_json::from_str(&addr(&Addr::failed("a \"b\""))).unwrap();
        assert_eq!(failed["cause"], "a \"b\"");
    }

    #[test]
    fn weights_are_numbers() {
        let mut one = Address::new("[::1]:80".parse().unwrap());
        one.weight = 2.5;
        one.meta.insert("nodeName".into(), "7".into());
        let mut set = AddrSet::new([one]);
        set.meta.insert("namer_nametree_weight".into(), "0.5".into());
        let expected = concat!(
            r#"{"type":"bound","addrs":[{"ip":"::1","port":80,"meta":{"nodeName":"7","endpoint_addr_weight":2.5}}],"#,
            r#""meta":{"namer_nametree_weight":0.5}}"#,
        );
        assert_eq!(addr(&Addr::Bound(set)), expected);
    }
}
