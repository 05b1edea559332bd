//! Bytes that the peers of Linkerd 1 insist on, and messages of all kinds there and back.

use super::*;
use dtab::{AddrSet, Address, Delegation, Meta, Weighted};
use proptest::prelude::*;

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

/// The message of a frame.
fn message(frame: &Bytes) -> Bytes {
    assert_eq!(frame[..5], [&[0][..], &(frame.len() as u32 - 5).to_be_bytes()].concat());
    frame.slice(5..)
}

fn name(id: &str, residual: &str) -> BoundName {
    BoundName { id: path(id), residual: path(residual) }
}

#[test]
fn an_ipv4_endpoint_says_its_family_and_its_port_also_when_they_are_zero() {
    let addr = Addr::bound(["10.0.0.1:0".parse().expect("an address")]);
    let bytes = message(&write_addr(&addr));
    // bound { endpoints { inet_af: 0, address: 10.0.0.1, port: 0 } }
    assert_eq!(bytes, &[0x22, 0x0c, 0x0a, 0x0a, 0x08, 0, 0x12, 4, 10, 0, 0, 1, 0x18, 0][..]);
    assert_eq!(read_addr(bytes), Ok(addr));
}

#[test]
fn an_ipv6_endpoint_and_its_facts() {
    let mut address = Address::new("[::1]:300".parse().expect("an address"));
    address.weight = 0.5;
    address.meta = Meta::from([("".into(), "".into()), ("nodeName".into(), "n".into())]);
    let set = AddrSet { meta: Meta::from([("a".into(), "".into())]), ..AddrSet::new([address]) };
    let bytes = message(&write_addr(&Addr::Bound(set.clone())));
    let mut endpoint = vec![0x08, 1, 0x12, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x18, 0xac, 2];
    endpoint.extend([0x22, 3, 0x0a, 1, b'n']);
    // Both halves of an entry are present, whatever they are.
    endpoint.extend([0x2a, 4, 0x0a, 0, 0x12, 0]);
    endpoint.extend(b"\x2a\x0d\x0a\x08nodeName\x12\x01n");
    endpoint.extend(b"\x2a\x1b\x0a\x14endpoint_addr_weight\x12\x030.5");
    let metadata = [0x12, 5, 0x0a, 1, b'a', 0x12, 0];
    let bound = [&[0x0a, endpoint.len() as u8][..], &endpoint, &metadata].concat();
    assert_eq!(bytes, [&[0x22, bound.len() as u8][..], &bound].concat());
    assert_eq!(read_addr(bytes), Ok(Addr::Bound(set)));
}

#[test]
fn the_states_without_addresses() {
    for (addr, bytes) in [
        (Addr::Pending, &[0x0a, 0][..]),
        (Addr::Neg, &[0x12, 0]),
        (Addr::failed("x"), &[0x1a, 3, 0x0a, 1, b'x']),
        (Addr::failed(""), &[0x1a, 2, 0x0a, 0]),
        (Addr::bound([]), &[0x22, 0]),
    ] {
        assert_eq!(message(&write_addr(&addr)), bytes);
        assert_eq!(read_addr(Bytes::copy_from_slice(bytes)), Ok(addr));
    }
}

#[test]
fn a_branch_says_its_weight_also_when_it_is_zero_and_a_leaf_its_residual_when_it_is_empty() {
    let tree = NameTree::Union(vec![Weighted { weight: 0.0, tree: NameTree::Leaf(name("/i", "/")) }]);
    let leaf = [0x32, 7, 0x0a, 3, 0x0a, 1, b'i', 0x12, 0];
    let branch = [&[0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 9][..], &leaf].concat();
    let union = [&[0x0a, 0x18, 0x2a, 0x16, 0x0a, 0x14][..], &branch].concat();
    assert_eq!(message(&write_tree(&tree)), union);
    assert_eq!(read_tree(union.into()), Ok(tree));
}

#[test]
fn every_node_of_a_delegation_has_a_path_and_a_dentry() {
    let leaf = DelegateTree {
        path: "/i".into(),
        dentry: Some(Dtab::parse("/s => /i").expect("a dtab").dentries()[0].clone()),
        node: Delegation::Leaf(name("/i", "/"), Addr::Neg),
    };
    let root = DelegateTree { path: "/s".into(), dentry: None, node: Delegation::Delegate(Box::new(leaf.clone())) };
    let path = |label| [0x0a, 3, 0x0a, 1, label];
    let no_dentry = [0x12, 0x0b, 0x0a, 5, 0x0a, 3, 0x0a, 1, b'/', 0x12, 2, 0x0a, 0];
    let dentry = [&[0x12, 0x10, 0x0a, 5, 0x0a, 3, 0x0a, 1, b's', 0x12, 7, 0x32, 5][..], &path(b'i')].concat();
    let bound = [&[0x42, 7][..], &path(b'i'), &[0x12, 0]].concat();
    let child = [&path(b'i')[..], &dentry, &bound].concat();
    let tree = [&path(b's')[..], &no_dentry, &[0x4a, child.len() as u8], &child].concat();
    let response = [&[0x0a, tree.len() as u8][..], &tree].concat();
    let frame = write_delegation(&root, true, 1000).expect("a short tree");
    assert_eq!(message(&frame), response);
    // Addresses do not travel, and the dentry that changes nothing is none.
    let mut read = read_delegation(response.into()).expect("a tree");
    read.for_each_leaf(&mut |_, addr| *addr = Addr::Neg);
    assert_eq!(read, root);
    assert!(write_delegation(&root, true, 10).is_none());
}

#[test]
fn a_transformation_is_a_delegation_for_those_who_do_not_know_it() {
    let after = DelegateTree {
        path: "/%/p/i".into(),
        dentry: None,
        node: Delegation::Leaf(name("/%/p/i", "/"), Addr::Pending),
    };
    let node = Delegation::Transformation {
        name: "SubnetLocalTransformer",
        bound: name("/i", "/x"),
        addr: Addr::Pending,
        tree: Box::new(after.clone()),
    };
    let tree = DelegateTree { path: "/i".into(), dentry: None, node };
    let there_and_back = |transformations| {
        read_delegation(message(&write_delegation(&tree, transformations, 1000).expect("a tree"))).expect("a tree")
    };
    assert_eq!(there_and_back(true), tree);
    assert_eq!(there_and_back(false), DelegateTree { node: Delegation::Delegate(Box::new(after)), ..tree.clone() });
}

#[test]
fn all_kinds_of_nodes_come_back() {
    let node = |path: &str, node| DelegateTree { path: path.into(), dentry: None, node };
    let children = vec![
        node("~", Delegation::Neg),
        node("/x", Delegation::Neg),
        node("!", Delegation::Fail),
        node("/$/fail/x", Delegation::Fail),
        node("/", Delegation::Empty),
        node("/e", Delegation::Exception("why".into())),
    ];
    let union = children.iter().map(|child| (0.25, child.clone())).collect();
    let tree = node("/a", Delegation::Alt([children, vec![node("/u", Delegation::Union(union))]].concat()));
    let frame = write_delegation(&tree, true, 10_000).expect("a tree");
    let read = read_delegation(message(&frame)).expect("a tree");
    // `!` at a path of its own is shown by the path's text only below /$/fail.
    assert_eq!(read, tree);
}

#[test]
fn requests_carry_all_their_parts() {
    let bind = Bind { root: Some(path("/r")), name: Some(path("/n")), dtab: Dtab::empty() };
    assert_eq!(message(&bind.write()), &[0x0a, 3, 0x0a, 1, b'r', 0x12, 3, 0x0a, 1, b'n', 0x1a, 0][..]);
    let dtab = Dtab::parse("/a/* => 0.5 * /b & ~ | ! | $ | /c").expect("a dtab");
    let bind = Bind { dtab: dtab.clone(), ..bind };
    assert_eq!(Bind::read(message(&bind.write())), Ok(bind));
    let delegate = Delegate { root: None, tree: Some(NameTree::Leaf(path("/n"))), dtab: dtab.clone() };
    assert_eq!(Delegate::read(message(&delegate.write())), Ok(delegate));
    assert_eq!(read_id(message(&write_id(&path("/i")))), Ok(Some(path("/i"))));
    assert_eq!((read_id(Bytes::new()), read_root(Bytes::new())), (Ok(None), Ok(None)));
    assert_eq!(read_dtab(message(&write_dtab(&dtab))), Ok(dtab));
    assert_eq!(read_path(message(&write_path(&path("/p")))), Ok(path("/p")));
    assert_eq!(read_text(message(&write_text("t".into()))), Ok("t".into()));
}

#[test]
fn a_stored_dtab_has_its_version_as_it_is() {
    let dtab = Dtab::parse("/a => /b").expect("a dtab");
    let bytes = message(&write_versioned(&Bytes::from_static(&[0, 255]), &dtab));
    assert_eq!(bytes[..8], [0x0a, 0x1a, 0x0a, 4, 0x0a, 2, 0, 255], "{bytes:x?}");
}

#[test]
fn what_canonical_senders_leave_out_is_zero() {
    // endpoints { address: 10.0.0.1, port: 80 }
    let bytes = [0x22, 0x0a, 0x0a, 0x08, 0x12, 4, 10, 0, 0, 1, 0x18, 80];
    assert_eq!(
        read_addr(Bytes::copy_from_slice(&bytes)),
        Ok(Addr::bound(["10.0.0.1:80".parse().expect("an address")]))
    );
    // union { trees { tree { neg } } }, a field that nobody knows
    let bytes = [0x0a, 8, 0x2a, 6, 0x0a, 4, 0x12, 2, 0x0a, 0, 0x7a, 1, 0];
    let union = NameTree::Union(vec![Weighted { weight: 0.0, tree: NameTree::Neg }]);
    assert_eq!(read_tree(Bytes::copy_from_slice(&bytes)), Ok(union));
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let nan = [&[0x0a, 0x11, 0x2a, 0x0f, 0x0a, 0x0d, 0x09][..], &f64::NAN.to_le_bytes(), &[0x12, 2, 0x0a, 0]].concat();
    for (bytes, reason) in [
        (vec![], "has no tree"),
        (vec![0x0a, 0], "no node"),
        (vec![0x0a, 2, 0x32, 0], "has no id"),
        (vec![0x0a, 6, 0x32, 4, 0x0a, 2, 0x0a, 0], "empty label"),
        (vec![0x0a, 4, 0x2a, 2, 0x0a, 0], "has no tree"),
        (nan, "not a weight"),
        (vec![0x0a, 200], "not a BoundTreeRsp"),
    ] {
        let error = read_tree(bytes.clone().into()).expect_err("no tree");
        assert!(error.0.contains(reason), "{bytes:x?}: {error}");
    }
    for endpoint in
        [&[0x08, 1, 0x12, 4, 1, 2, 3, 4][..], &[0x08, 2, 0x12, 0], &[0x12, 4, 1, 2, 3, 4, 0x18, 0x80, 0x80, 4]]
    {
        let bytes = [&[0x22, endpoint.len() as u8 + 2, 0x0a, endpoint.len() as u8][..], endpoint].concat();
        assert!(read_addr(bytes.into()).is_err(), "{endpoint:x?}");
    }
}

#[test]
fn what_nests_too_deep_is_refused_without_harm() {
    let deep = (0..10_000).fold(NameTree::Neg, |tree: NameTree<BoundName>, depth| match depth < 400 {
        true => NameTree::Alt(vec![tree]),
        false => tree,
    });
    let error = read_tree(message(&write_tree(&deep))).expect_err("too deep");
    assert!(error.0.contains("recursion"), "{error}");
}

fn paths() -> impl Strategy<Value = Path> {
    let label = proptest::collection::vec(any::<u8>(), 1..5);
    proptest::collection::vec(label, 0..4).prop_map(|labels| Path::from_labels(labels).expect("labels"))
}

fn bound_names() -> impl Strategy<Value = BoundName> {
    (paths(), paths()).prop_map(|(id, residual)| BoundName { id, residual })
}

fn trees<T: Clone + std::fmt::Debug + 'static>(
    leaf: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = NameTree<T>> {
    let end =
        prop_oneof![Just(NameTree::Neg), Just(NameTree::Fail), Just(NameTree::Empty), leaf.prop_map(NameTree::Leaf)];
    end.prop_recursive(5, 40, 4, |tree| {
        let branch = (0.0..10.0_f64, tree.clone()).prop_map(|(weight, tree)| Weighted { weight, tree });
        prop_oneof![
            proptest::collection::vec(tree, 0..4).prop_map(NameTree::Alt),
            proptest::collection::vec(branch, 0..4).prop_map(NameTree::Union),
        ]
    })
}

proptest! {
    #[test]
    fn bound_trees_come_back(tree in trees(bound_names())) {
        prop_assert_eq!(read_tree(message(&write_tree(&tree))), Ok(tree));
    }

    #[test]
    fn trees_of_paths_come_back(tree in trees(paths()), root in paths()) {
        let delegate = Delegate { root: Some(root), tree: Some(tree), dtab: Dtab::empty() };
        prop_assert_eq!(Delegate::read(message(&delegate.write())), Ok(delegate));
    }

    #[test]
    fn addresses_come_back(sockets in proptest::collection::vec(any::<std::net::SocketAddr>(), 0..9), key in ".*", value in ".*") {
        let plain = sockets.into_iter().map(|socket| match socket {
            std::net::SocketAddr::V6(v6) => std::net::SocketAddr::new((*v6.ip()).into(), v6.port()),
            v4 => v4,
        });
        let set = AddrSet { meta: Meta::from([(key, value)]), ..AddrSet::new(plain.map(Address::new)) };
        prop_assert_eq!(read_addr(message(&write_addr(&Addr::Bound(set.clone())))), Ok(Addr::Bound(set)));
    }

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = (Bind::read(bytes.clone()), Delegate::read(bytes.clone()), read_tree(bytes.clone()));
        let _ = (read_addr(bytes.clone()), read_delegation(bytes.clone()), read_dtab(bytes.clone()), read_path(bytes));
    }

    #[test]
    fn no_changed_bytes_do_harm(tree in trees(bound_names()), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = message(&write_tree(&tree)).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read_tree(bytes.into());
    }
}
