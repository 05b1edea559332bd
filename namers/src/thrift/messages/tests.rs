//! Bytes as the IDL has them, and properties over all structs.

use super::*;
use crate::thrift::binary::{Wire, WireError};
use proptest::prelude::*;
use std::fmt::Debug;

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

#[test]
fn a_bind_request_is_these_bytes() {
    let name = NameRef { stamp: vec![0xff, 1], name: path("/svc/web"), ns: "ns".into() };
    let request = BindReq { dtab: "/a=>/b".into(), name };
    let bytes = [
        &b"\x0b\0\x01\0\0\0\x06/a=>/b"[..],
        b"\x0c\0\x02\x0b\0\x01\0\0\0\x02\xff\x01",
        b"\x0f\0\x02\x0b\0\0\0\x02\0\0\0\x03svc\0\0\0\x03web",
        b"\x0b\0\x03\0\0\0\x02ns\0",
        b"\x0f\0\x03\x0b\0\0\0\0\0",
    ];
    assert_eq!(request.encode(), bytes.concat());
}

#[test]
fn a_bound_tree_is_these_bytes() {
    let leaf = BoundNode::Leaf(BoundName { id: path("/a"), residual: Path::empty() });
    let nodes = BTreeMap::from([(0, leaf), (1, BoundNode::Neg)]);
    let tree = BoundTree { root: BoundNode::Weighted(vec![(1.0, 0), (0.5, 1)]), nodes };
    let bound = Bound { stamp: 7_u64.to_be_bytes().to_vec(), tree, ns: "ns".into() };
    let bytes = [
        &b"\x0b\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x07"[..],
        b"\x0c\0\x02\x0c\0\x01\x0f\0\x06\x0c\0\0\0\x02",
        b"\x04\0\x01\x3f\xf0\0\0\0\0\0\0\x08\0\x02\0\0\0\0\0",
        b"\x04\0\x01\x3f\xe0\0\0\0\0\0\0\x08\0\x02\0\0\0\x01\0\0",
        b"\x0d\0\x02\x08\x0c\0\0\0\x02",
        b"\0\0\0\0\x0c\0\x04\x0f\0\x01\x0b\0\0\0\x01\0\0\0\x01a\x0f\0\x02\x0b\0\0\0\0\0\0",
        b"\0\0\0\x01\x0c\0\x01\0\0",
        b"\0\x0b\0\x03\0\0\0\x02ns\0",
    ];
    assert_eq!(bound.encode(), bytes.concat());
}

#[test]
fn addresses_are_these_bytes() {
    let meta = AddrMeta { authority: Some("a".into()), node_name: Some("n".into()), weight: Some(2.0) };
    let address = TransportAddress { ip: vec![127, 0, 0, 1], port: 80, meta: Some(meta) };
    let reply = AddrReply { stamp: vec![1], bound: Some(BoundAddr { addresses: vec![address], meta: None }) };
    let bytes = [
        &b"\x0b\0\x01\0\0\0\x01\x01\x0c\0\x02\x0c\0\x01\x0e\0\x01\x0c\0\0\0\x01"[..],
        b"\x0b\0\x01\0\0\0\x04\x7f\0\0\x01\x08\0\x02\0\0\0\x50",
        b"\x0c\0\x03\x0b\0\x01\0\0\0\x01a\x0b\0\x02\0\0\0\x01n\x04\0\x03\x40\0\0\0\0\0\0\0\0\0",
        b"\0\0\0",
    ];
    assert_eq!(reply.encode(), bytes.concat());
    let neg = AddrReply { stamp: Stamp::new(), bound: None };
    assert_eq!(neg.encode(), b"\x0b\0\x01\0\0\0\0\x0c\0\x02\x0c\0\x02\0\0\0");
}

#[test]
fn failures_have_the_fields_of_their_method() {
    let plain = Failure { reason: "no".into(), ..Failure::default() };
    assert_eq!(plain.encode(), b"\x0b\0\x01\0\0\0\x02no\0");
    let of_bind = Failure { name: Some(NameRef::default()), ns: Some("n".into()), ..plain };
    let bytes = [
        &b"\x0b\0\x01\0\0\0\x02no\x08\0\x02\0\0\0\0"[..],
        b"\x0c\0\x03\x0b\0\x01\0\0\0\0\x0f\0\x02\x0b\0\0\0\0\x0b\0\x03\0\0\0\0\0\x0b\0\x04\0\0\0\x01n\0",
    ];
    assert_eq!(of_bind.encode(), bytes.concat());
}

#[test]
fn an_explained_name_is_these_bytes() {
    let name = BoundName { id: path("/a"), residual: path("/b") };
    let root = DelegateNode { path: path("/c"), dentry: "x".into(), contents: Contents::Transformation(name, 3) };
    let bytes = [
        &b"\x0f\0\x01\x0b\0\0\0\x01\0\0\0\x01c\x0b\0\x02\0\0\0\x01x\x0c\0\x03\x0c\0\x0a"[..],
        b"\x0c\0\x01\x0f\0\x01\x0b\0\0\0\x01\0\0\0\x01a\x0f\0\x02\x0b\0\0\0\x01\0\0\0\x01b\0",
        b"\x08\0\x02\0\0\0\x03\0\0\0",
    ];
    assert_eq!(root.encode(), bytes.concat());
}

#[test]
fn what_is_missing_is_named() {
    for (read, error) in [
        (BoundNode::decode(b"\0").map(drop), "the kind of a node is missing"),
        (BoundTree::decode(b"\0").map(drop), "the root of a tree is missing"),
        (Bound::decode(b"\0").map(drop), "the tree is missing"),
        (AddrReply::decode(b"\x0c\0\x02\0\0").map(drop), "the state of the addresses is missing"),
        (DelegateReq::decode(b"\0").map(drop), "the name to explain is missing"),
        (Contents::decode(b"\x0c\0\x0a\0\0").map(drop), "a part of a transformation is missing"),
        (NameRef::decode(b"\x0f\0\x02\x0b\0\0\0\x01\0\0\0\0\0").map(drop), "a path has an empty label"),
    ] {
        assert_eq!(read, Err(WireError::malformed(error)));
    }
}

fn a_path() -> impl Strategy<Value = Path> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5), 0..4)
        .prop_map(|labels| Path::from_labels(labels).expect("labels that are not empty"))
}

fn a_name() -> impl Strategy<Value = BoundName> {
    (a_path(), a_path()).prop_map(|(id, residual)| BoundName { id, residual })
}

fn a_ref() -> impl Strategy<Value = NameRef> {
    (any::<Stamp>(), a_path(), any::<String>()).prop_map(|(stamp, name, ns)| NameRef { stamp, name, ns })
}

fn branches() -> impl Strategy<Value = Vec<(f64, i32)>> {
    proptest::collection::vec((0.0..100.0, any::<i32>()), 0..4)
}

fn a_node() -> impl Strategy<Value = BoundNode> {
    prop_oneof![
        Just(BoundNode::Neg),
        Just(BoundNode::Empty),
        Just(BoundNode::Fail),
        a_name().prop_map(BoundNode::Leaf),
        any::<Vec<i32>>().prop_map(BoundNode::Alt),
        branches().prop_map(BoundNode::Weighted),
    ]
}

fn bound() -> impl Strategy<Value = Bound> {
    let nodes = proptest::collection::btree_map(any::<i32>(), a_node(), 0..5);
    (any::<Stamp>(), a_node(), nodes, any::<String>()).prop_map(|(stamp, root, nodes, ns)| Bound {
        stamp,
        tree: BoundTree { root, nodes },
        ns,
    })
}

fn contents() -> impl Strategy<Value = Contents> {
    prop_oneof![
        any::<String>().prop_map(Contents::Error),
        Just(Contents::Empty),
        Just(Contents::Fail),
        Just(Contents::Neg),
        any::<i32>().prop_map(Contents::Delegate),
        a_name().prop_map(Contents::BoundLeaf),
        a_path().prop_map(Contents::PathLeaf),
        any::<Vec<i32>>().prop_map(Contents::Alt),
        branches().prop_map(Contents::Weighted),
        (a_name(), any::<i32>()).prop_map(|(name, node)| Contents::Transformation(name, node)),
    ]
}

fn a_delegation() -> impl Strategy<Value = Delegation> {
    let node = || {
        (a_path(), any::<String>(), contents()).prop_map(|(path, dentry, contents)| DelegateNode {
            path,
            dentry,
            contents,
        })
    };
    let nodes = proptest::collection::btree_map(any::<i32>(), node(), 0..5);
    (any::<Stamp>(), node(), nodes, any::<String>()).prop_map(|(stamp, root, nodes, ns)| Delegation {
        stamp,
        tree: DelegateTree { root, nodes },
        ns,
    })
}

fn a_meta() -> impl Strategy<Value = Option<AddrMeta>> {
    let meta = (any::<Option<String>>(), any::<Option<String>>(), proptest::option::of(0.0..100.0));
    proptest::option::of(meta.prop_map(|(authority, node_name, weight)| AddrMeta { authority, node_name, weight }))
}

fn an_addr() -> impl Strategy<Value = AddrReply> {
    let address =
        (any::<Vec<u8>>(), any::<i32>(), a_meta()).prop_map(|(ip, port, meta)| TransportAddress { ip, port, meta });
    let bound = (proptest::collection::vec(address, 0..4), a_meta());
    let bound = bound.prop_map(|(addresses, meta)| BoundAddr { addresses, meta });
    (any::<Stamp>(), proptest::option::of(bound)).prop_map(|(stamp, bound)| AddrReply { stamp, bound })
}

fn comes_back<T: Wire + PartialEq + Debug>(value: &T) -> Result<(), TestCaseError> {
    let bytes = value.encode();
    prop_assert_eq!(&T::decode(&bytes).expect("what was written"), value);
    for end in 0..bytes.len() {
        prop_assert!(T::decode(&bytes[..end]).is_err(), "a part of {} bytes was read", end);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_struct_comes_back(
        name in a_ref(), bound in bound(), delegation in a_delegation(), addr in an_addr(), text: String,
        ns: Option<String>,
    ) {
        comes_back(&BindReq { dtab: text.clone(), name: name.clone() })?;
        comes_back(&AddrReq(name.clone()))?;
        comes_back(&DtabReq { stamp: name.stamp.clone(), ns: text.clone() })?;
        comes_back(&DtabRef { stamp: name.stamp.clone(), dtab: text.clone() })?;
        comes_back(&Failure { reason: text.clone(), name: Some(name), ns })?;
        comes_back(&DelegateReq { dtab: text, delegation })?;
        comes_back(&bound)?;
        comes_back(&addr)?;
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (BindReq::decode(&bytes), AddrReq::decode(&bytes), DtabReq::decode(&bytes));
        let _ = (Bound::decode(&bytes), AddrReply::decode(&bytes), Delegation::decode(&bytes));
        let _ = (DelegateReq::decode(&bytes), DtabRef::decode(&bytes), Failure::decode(&bytes));
    }
}
