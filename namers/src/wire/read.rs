//! Reads what [`super`] writes, and what namerd of Linkerd 1 wrote (namerd reference §2.9 to §2.12).
//!
//! Called by the interpreter `io.l5d.namerd.http`. Nothing that a peer sends is believed: paths are parsed, weights and
//! ports are looked at, and the depth is bounded by the reader of JSON. Not for: framing of documents, see `control`.

use dtab::{
    Addr, AddrSet, Address, BoundName, DelegateTree, Delegation, Dentry, Meta, NameTree, Path, Weighted, parse_prefix,
    parse_tree,
};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// The text of an error says what is wrong with the document.
pub type Read<T> = Result<T, String>;

/// The transformers that are known by name.
const TRANSFORMERS: [&str; 4] = [
    "DelegatingNameTreeTransformer$",
    "SubnetLocalTransformer",
    "MetadataFiltertingNameTreeTransformer",
    "MetadataFilteringNameTreeTransformer",
];

/// The tree of a bind document. The addresses in it do not count: whoever wants them follows the id.
pub fn bound_tree(node: &Value) -> Read<NameTree<BoundName>> {
    match text(node, "type")? {
        "neg" => Ok(NameTree::Neg),
        "fail" => Ok(NameTree::Fail),
        "empty" => Ok(NameTree::Empty),
        "leaf" => Ok(NameTree::Leaf(bound(member(node, "bound")?)?)),
        "alt" => Ok(NameTree::Alt(list(node, "alt")?.iter().map(bound_tree).collect::<Read<_>>()?)),
        "union" => {
            let branch = |branch| Ok(Weighted { weight: weight(branch)?, tree: bound_tree(member(branch, "tree")?)? });
            Ok(NameTree::Union(list(node, "union")?.iter().map(branch).collect::<Read<_>>()?))
        }
        other => Err(format!("a bound tree has no node of type {other:?}")),
    }
}

/// An address document.
pub fn addr(document: &Value) -> Read<Addr> {
    match text(document, "type")? {
        "pending" => Ok(Addr::Pending),
        "neg" => Ok(Addr::Neg),
        "failed" => Ok(Addr::failed(document.get("cause").and_then(Value::as_str).unwrap_or("no reason is given"))),
        "bound" => {
            let addresses = list(document, "addrs")?.iter().map(address).collect::<Read<Vec<Address>>>()?;
            Ok(Addr::Bound(AddrSet { meta: meta(document), ..AddrSet::new(addresses) }))
        }
        other => Err(format!("there are no addresses of type {other:?}")),
    }
}

/// A delegation document.
pub fn delegation(node: &Value) -> Read<DelegateTree> {
    let child = |key: &str| delegation(member(node, key)?).map(Box::new);
    let found = match text(node, "type")? {
        "neg" => Delegation::Neg,
        "fail" => Delegation::Fail,
        "empty" => Delegation::Empty,
        "delegate" => Delegation::Delegate(child("delegate")?),
        "exception" => Delegation::Exception(text(node, "message").unwrap_or_default().to_owned()),
        "alt" => Delegation::Alt(list(node, "alt")?.iter().map(delegation).collect::<Read<_>>()?),
        "union" => {
            let branch = |branch| Ok((weight(branch)?, delegation(member(branch, "tree")?)?));
            Delegation::Union(list(node, "union")?.iter().map(branch).collect::<Read<_>>()?)
        }
        "leaf" => {
            let (name, at) = bound_at(node)?;
            Delegation::Leaf(name, at)
        }
        "transformation" => {
            let (bound, addr) = bound_at(node)?;
            let named = text(node, "name")?;
            let name = TRANSFORMERS.into_iter().find(|known| *known == named).unwrap_or("Transformer");
            Delegation::Transformation { name, bound, addr, tree: child("tree")? }
        }
        other => return Err(format!("a delegation tree has no node of type {other:?}")),
    };
    let dentry = node.get("dentry").filter(|dentry| !dentry.is_null()).map(dentry).transpose()?;
    Ok(DelegateTree { path: text(node, "path")?.to_owned(), dentry, node: found })
}

fn bound_at(node: &Value) -> Read<(BoundName, Addr)> {
    let of = member(node, "bound")?;
    Ok((bound(of)?, of.get("addr").map_or(Ok(Addr::Pending), addr)?))
}

fn bound(of: &Value) -> Read<BoundName> {
    Ok(BoundName { id: path(text(of, "id")?)?, residual: path(of.get("path").and_then(Value::as_str).unwrap_or("/"))? })
}

fn path(text: &str) -> Read<Path> {
    Path::parse(text).map_err(|error| format!("{text:?} is not a path: {error}"))
}

fn dentry(of: &Value) -> Read<Dentry> {
    let prefix = parse_prefix(text(of, "prefix")?).map_err(|error| error.to_string())?;
    Ok(Dentry { prefix, dst: parse_tree(text(of, "dst")?).map_err(|error| error.to_string())? })
}

fn address(of: &Value) -> Read<Address> {
    let ip: IpAddr = text(of, "ip")?.parse().map_err(|_| format!("{} is not an IP address", of["ip"]))?;
    let port = member(of, "port")?.as_u64().and_then(|port| u16::try_from(port).ok());
    let socket = SocketAddr::new(ip, port.ok_or_else(|| format!("{} is not a port", of["port"]))?);
    let mut meta = meta(of);
    let said = meta.remove(super::WEIGHT).and_then(|weight| weight.parse::<f64>().ok());
    let weight = said.filter(|weight| weight.is_finite() && *weight >= 0.0).unwrap_or(1.0);
    Ok(Address { socket, weight, meta })
}

/// Facts; what is neither text nor number is kept as JSON.
fn meta(of: &Value) -> Meta {
    let fact = |(key, value): (&String, &Value)| match value {
        Value::String(text) => (key.clone(), text.clone()),
        other => (key.clone(), other.to_string()),
    };
    of.get("meta").and_then(Value::as_object).map(|facts| facts.iter().map(fact).collect()).unwrap_or_default()
}

fn weight(branch: &Value) -> Read<f64> {
    let weight = member(branch, "weight")?.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0);
    weight.ok_or_else(|| format!("{} is not a weight", branch["weight"]))
}

fn member<'a>(of: &'a Value, key: &str) -> Read<&'a Value> {
    of.get(key).ok_or_else(|| format!("{key} is missing in {}", shown(of)))
}

fn text<'a>(of: &'a Value, key: &str) -> Read<&'a str> {
    member(of, key)?.as_str().ok_or_else(|| format!("{key} is not a text in {}", shown(of)))
}

fn list<'a>(of: &'a Value, key: &str) -> Read<&'a Vec<Value>> {
    member(of, key)?.as_array().ok_or_else(|| format!("{key} is not a list in {}", shown(of)))
}

/// The beginning of a value.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    fn leaf(id: &str) -> NameTree<BoundName> {
        NameTree::Leaf(BoundName { id: path(id).expect("a path"), residual: Path::empty() })
    }

    #[test]
    fn the_example_of_the_reference_is_written_and_read() {
        let branch = |weight, id| Weighted { weight, tree: leaf(id) };
        let union = NameTree::Union(vec![branch(1.0, "/#/k8s/world-v2"), branch(9.0, "/#/k8s/world-v1")]);
        let mut address = Address::new(([10, 4, 1, 7], 7778).into());
        address.meta.insert("nodeName".into(), "node-a".into());
        let addr = Addr::Bound(AddrSet::new([address]));
        let expected = concat!(
            r##"{"type":"union","union":[{"weight":1.0,"tree":{"type":"leaf","bound":{"addr":{"type":"bound","addrs":["##,
            r##"{"ip":"10.4.1.7","port":7778,"meta":{"nodeName":"node-a"}}],"meta":{"namer_nametree_weight":1.0}},"##,
            r##""id":"/#/k8s/world-v2","path":"/"}}},{"weight":9.0,"tree":{"type":"leaf","bound":{"addr":{"type":"bound","##,
            r##""addrs":[{"ip":"10.4.1.7","port":7778,"meta":{"nodeName":"node-a"}}],"meta":{"namer_nametree_weight":9.0}},"##,
            r##""id":"/#/k8s/world-v1","path":"/"}}}]}"##,
        );
        let written = wire::bound_tree(&union, &|_| addr.clone());
        assert_eq!(written, expected);
        assert_eq!(bound_tree(&json(&written)), Ok(union));
    }

    #[test]
    fn every_bound_tree_comes_back() {
        let alt = NameTree::Alt(vec![NameTree::Neg, NameTree::Fail, NameTree::Empty, leaf("/$/inet/h/80")]);
        let union = NameTree::Union(vec![Weighted { weight: 0.125, tree: alt }]);
        assert_eq!(bound_tree(&json(&wire::bound_tree(&union, &|_| Addr::Neg))), Ok(union));
    }

    #[test]
    fn addresses_come_back_with_weights_and_facts() {
        let mut address = Address::new("[::1]:80".parse().expect("an address"));
        address.weight = 2.5;
        address.meta.insert("nodeName".into(), "n".into());
        let mut set = AddrSet::new([address]);
        set.meta.insert("authority".into(), "web".into());
        for original in
            [Addr::Bound(set), Addr::Neg, Addr::Pending, Addr::failed("why"), Addr::Bound(AddrSet::default())]
        {
            assert_eq!(addr(&json(&wire::addr(&original))), Ok(original));
        }
        let nested = json(r#"{"type":"bound","addrs":[{"ip":"1.2.3.4","port":1,"meta":{"node_meta":{"a":"b"}}}]}"#);
        let Ok(Addr::Bound(set)) = addr(&nested) else { panic!("it is an address") };
        assert_eq!(set.addresses[0].meta["node_meta"], r#"{"a":"b"}"#);
        assert_eq!(addr(&json(r#"{"type":"failed"}"#)), Ok(Addr::failed("no reason is given")));
    }

    #[test]
    fn delegations_come_back() {
        let text = concat!(
            r##"{"type":"delegate","path":"/a/x","delegate":{"type":"alt","path":"/b/x","dentry":{"prefix":"/a","dst":"/b"},"##,
            r##""alt":[{"type":"leaf","path":"/#/fs/x","dentry":{"prefix":"/b","dst":"/#/fs"},"bound":{"addr":{"type":"neg"},"##,
            r##""id":"/#/fs/x","path":"/"}},{"type":"exception","path":"/c","message":"no"},{"type":"union","path":"/u","##,
            r##""union":[{"weight":1.0,"tree":{"type":"neg","path":"~"}},{"weight":2.0,"tree":{"type":"transformation","##,
            r##""path":"/#/t","name":"SubnetLocalTransformer","bound":{"addr":{"type":"pending"},"id":"/#/t","path":"/"},"##,
            r##""tree":{"type":"empty","path":"/%/p/#/t"}}}]}]}}"##,
        );
        let read = delegation(&json(text)).expect("a tree");
        assert_eq!(wire::delegation(&read), text);
    }

    #[test]
    fn what_is_no_tree_is_an_error() {
        for text in [
            "null",
            "[]",
            r#"{"type":"exception"}"#,
            r#"{"type":"leaf"}"#,
            r#"{"type":"leaf","bound":{"path":"/"}}"#,
            r#"{"type":"leaf","bound":{"id":"no path"}}"#,
            r#"{"type":"union","union":[{"weight":-1,"tree":{"type":"neg"}}]}"#,
            r#"{"type":"union","union":[{"tree":{"type":"neg"}}]}"#,
            r#"{"type":"alt","alt":{}}"#,
        ] {
            assert!(bound_tree(&json(text)).is_err(), "{text}");
            assert!(delegation(&json(text)).is_err(), "{text}");
        }
        for text in [r#"{"type":"bound"}"#, r#"{"type":"bound","addrs":[{"ip":"host","port":1}]}"#] {
            assert!(addr(&json(text)).is_err(), "{text}");
        }
        assert!(addr(&json(r#"{"type":"bound","addrs":[{"ip":"1.1.1.1","port":65536}]}"#)).is_err());
    }
}
