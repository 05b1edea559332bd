//! Tables of what transformers do.

use super::*;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

/// `socket[*weight][@nodeName]`, separated by spaces.
fn set(text: &str) -> AddrSet {
    let address = |text: &str| {
        let (text, node) = text.split_once('@').map_or((text, None), |(text, node)| (text, Some(node)));
        let (socket, weight) = text.split_once('*').unwrap_or((text, "1"));
        let mut address = Address::new(socket.parse().unwrap());
        address.weight = weight.parse().unwrap();
        address.meta.extend(node.map(|node| (NODE_NAME.to_owned(), node.to_owned())));
        address
    };
    AddrSet::new(text.split_whitespace().map(address))
}

fn show(addr: &Addr) -> String {
    let Addr::Bound(set) = addr else { return format!("{addr:?}") };
    let one = |a: &Address| {
        let weight = if a.weight == 1.0 { String::new() } else { format!("*{}", a.weight) };
        let node = a.meta.get(NODE_NAME).map_or(String::new(), |node| format!("@{node}"));
        format!("{}{weight}{node}", a.socket)
    };
    set.addresses.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn apply(effect: AddressEffect, addresses: &str) -> String {
    show(&transformer(effect).addr(&Addr::Bound(set(addresses))))
}

fn transformer(effect: AddressEffect) -> AddressTransformer {
    AddressTransformer { prefix: path("/%/p/1"), effect }
}

fn hosts(hosts: &[&str]) -> AddressEffect {
    AddressEffect::Hosts(hosts.iter().map(|host| host.parse().unwrap()).collect())
}

#[test]
fn a_port_is_put_on_every_address() {
    for (before, after) in [
        ("10.0.0.1:80 10.0.0.2:81", "10.0.0.1:4141 10.0.0.2:4141"),
        ("[fd00::1]:80", "[fd00::1]:4141"),
        ("10.0.0.1:80*2.5@n", "10.0.0.1:4141*2.5@n"),
        ("10.0.0.1:80 10.0.0.1:81", "10.0.0.1:4141"),
        ("10.0.0.1:80*1 10.0.0.1:81*3 10.0.0.1:82*2 10.0.0.2:80", "10.0.0.1:4141*3 10.0.0.2:4141"),
        ("10.0.0.1:80@a 10.0.0.1:81@a", "10.0.0.1:4141@a"),
        ("10.0.0.1:80@a 10.0.0.1:81@b", "10.0.0.1:4141"),
        ("", ""),
    ] {
        assert_eq!(apply(AddressEffect::Port(4141), before), after, "{before}");
    }
}

#[test]
fn hosts_are_filtered_by_address_alone() {
    let local = || hosts(&["10.0.0.1", "fd00::1"]);
    for (before, after) in [
        ("10.0.0.1:80*2@n 10.0.0.1:81 10.0.0.2:80", "10.0.0.1:80*2@n 10.0.0.1:81"),
        ("[fd00::1]:80 [fd00::2]:80", "[fd00::1]:80"),
        ("[::ffff:10.0.0.1]:80", "[::ffff:10.0.0.1]:80"),
        ("10.0.0.2:80", "Neg"),
        ("", "Neg"),
    ] {
        assert_eq!(apply(local(), before), after, "{before}");
    }
    assert_eq!(apply(hosts(&[]), "10.0.0.1:80"), "Neg");
}

#[test]
fn a_node_is_a_24_or_a_name() {
    let subnet = || AddressEffect::Subnet("10.1.2.3".parse().unwrap());
    for (before, after) in [
        ("10.1.2.0:80 10.1.2.255:80*2 10.1.3.3:80 10.0.2.3:80 11.1.2.3:80", "10.1.2.0:80 10.1.2.255:80*2"),
        ("[::ffff:10.1.2.9]:80 [fd00::10.1.2.3]:80", "[::ffff:10.1.2.9]:80"),
        ("[fd00::1]:80", "Neg"),
    ] {
        assert_eq!(apply(subnet(), before), after, "{before}");
    }
    let node = AddressEffect::Node("n1".into());
    assert_eq!(apply(node.clone(), "10.0.0.1:80@n1 10.0.0.2:80@n2 10.0.0.3:80"), "10.0.0.1:80@n1");
    assert_eq!(apply(node, "10.0.0.3:80"), "Neg");
}

#[test]
fn other_states_pass_and_facts_of_the_set_stay() {
    for effect in [AddressEffect::Port(1), hosts(&["10.0.0.1"]), AddressEffect::Node("n".into())] {
        for state in [Addr::Pending, Addr::Neg, Addr::failed("down")] {
            assert_eq!(transformer(effect.clone()).addr(&state), state);
        }
    }
    let mut with_facts = set("10.0.0.1:80");
    with_facts.meta.insert("authority".into(), "web".into());
    for effect in [AddressEffect::Port(80), hosts(&["10.0.0.1"])] {
        assert_eq!(transformer(effect).addr(&Addr::Bound(with_facts.clone())), Addr::Bound(with_facts.clone()));
    }
}

#[test]
fn ids_are_marked_and_unmarked() {
    let transformer = transformer(AddressEffect::Port(1));
    for id in ["/#/fs/web", "/$/inet/127.1/80", "/%/p/1/#/fs/web"] {
        let marked = transformer.id(&path(id));
        assert_eq!(marked.to_string(), format!("/%/p/1{id}"));
        assert_eq!(transformer.before(&marked), Some(path(id)));
    }
    for id in ["/#/fs/web", "/%/p/2/#/fs/web", "/%/p", "/"] {
        assert_eq!(transformer.before(&path(id)), None, "{id}");
    }
}

fn bound(text: &str) -> NameTree<BoundName> {
    dtab::parse_tree(text).unwrap().map(&mut |id| BoundName { id: id.clone(), residual: path("/rest") })
}

fn ids(tree: &NameTree<BoundName>) -> String {
    tree.map(&mut |name| format!("{}[{}]", name.id, name.residual)).to_string()
}

#[test]
fn trees_keep_their_shape() {
    let port = transformer(AddressEffect::Port(1));
    assert_eq!(
        ids(&port.tree(&bound("3*/a & $ & (/b & 0.5*/c)"))),
        "3.00*/%/p/1/a[/rest] & $ & (/%/p/1/b[/rest] & 0.50*/%/p/1/c[/rest])"
    );
    for constant in ["~", "!", "$"] {
        assert_eq!(port.tree(&bound(constant)), bound(constant));
    }
    let binding = dtab::parse_tree("/x").unwrap().map(&mut |id| BoundName { id: id.clone(), residual: path("/own") });
    for (replaces, before, after) in [
        (Replaces::Leaves, "1*/a & 3*/b", "/%/r/to[/own] & 3.00*/%/r/to[/own]"),
        (Replaces::Leaves, "1*/a & 3*$", "/%/r/to[/own] & 3.00*$"),
        (Replaces::Leaves, "~", "~"),
        (Replaces::Leaves, "!", "!"),
        (Replaces::Tree, "1*/a & 3*/b", "/%/r/to[/own]"),
        (Replaces::Tree, "~", "/%/r/to[/own]"),
        (Replaces::Tree, "!", "/%/r/to[/own]"),
        (Replaces::Tree, "$", "/%/r/to[/own]"),
    ] {
        let replacement = Replacement { prefix: path("/%/r"), path: path("/to"), replaces };
        assert_eq!(ids(&replacement.tree(&bound(before), &binding)), after, "{replaces:?} {before}");
    }
    let nothing = Replacement { prefix: path("/%/r"), path: path("/to"), replaces: Replaces::Leaves };
    assert_eq!(ids(&nothing.tree(&bound("1*/a & 3*/b"), &NameTree::Neg)), "~ & 3.00*~");
}
