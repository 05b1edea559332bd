//! Who may read what: by the certificate of the connection and nothing else.

use super::*;
use crate::access::{AccessParams, IdentityParams, Namespaces, Right, Rule};
use namers::thrift::delegation::question;
use namers::thrift::messages::{AddrReply, Delegation, DtabRef};

/// `router.example` reads `ns`.
fn policy() -> Access {
    let named = Namespaces::Named(vec!["ns".into()]);
    let rules = vec![Rule { right: Right::Read, namespaces: named, prefixes: None }];
    let identities = vec![IdentityParams { identity: "router.example".into(), rules }];
    Access::new(Some(AccessParams { identities, ..AccessParams::default() }))
}

fn guarded(identity: Option<&str>) -> Server {
    let server = server_for(policy(), identity, &ThriftOptions::default());
    server.world.binds("web", "/#/test/a");
    of(&server.world.addrs, "/#/test/a").publish(State::Ok(Addr::Neg));
    server.world.stores("other", "/svc => /x", "1");
    server
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Failure>) -> String {
    answer.expect_err("a refusal").reason
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_told_why_it_reads_nothing() {
    let server = guarded(None);
    let (mut client, _task) = server.connect();
    let ns = "callers without credentials may not read namespace ns; show a client certificate";
    client.binds(1, b"", "/svc/web").await;
    let failure = client.answer::<Bound>(1).await.expect_err("a refusal");
    assert!(failure.reason.contains(ns), "{failure:?}");
    assert_eq!((failure.ns.as_deref(), failure.name), (Some("ns"), Some(name(b"", "/svc/web"))));
    client.calls(2, "addr", &addr(b"", "/#/test/a")).await;
    let text = reason(client.answer::<AddrReply>(2).await);
    assert!(text.contains("callers without credentials may not read anything here"), "{text}");
    client.calls(3, "dtab", &dtab_of(b"", "ns")).await;
    assert!(reason(client.answer::<DtabRef>(3).await).contains(ns));
    client.calls(4, "delegate", &question(String::new(), "ns".into(), path("/svc/web"))).await;
    assert!(reason(client.answer::<Delegation>(4).await).contains(ns));
    assert!(server.interface.calls.readers().is_empty(), "nothing is looked up for a stranger");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_reads_its_namespace_and_no_other() {
    let server = guarded(Some("router.example"));
    let (mut client, _task) = server.connect();
    client.binds(1, b"", "/svc/web").await;
    assert_eq!(client.bound(1).await.1, "/#/test/a");
    client.calls(2, "addr", &addr(b"", "/#/test/a")).await;
    client.answer::<AddrReply>(2).await.expect("addresses");
    client.calls(3, "dtab", &dtab_of(b"", "ns")).await;
    assert_eq!(client.answer::<DtabRef>(3).await.expect("a dtab").dtab, "/svc=>/#/test");
    client.calls(4, "delegate", &question(String::new(), "ns".into(), path("/svc/web"))).await;
    client.answer::<Delegation>(4).await.expect("an explanation");
    client.calls(5, "dtab", &dtab_of(b"", "other")).await;
    let text = reason(client.answer::<DtabRef>(5).await);
    assert!(text.contains("router.example may not read namespace other"), "{text}");
}

/// A weight that two decimals cannot say (namerd reference §11, 18).
#[tokio::test(start_paused = true)]
async fn dtabs_and_explanations_keep_small_weights() {
    let server = server();
    let stored = "/svc=>0.001*/#/test & 9.00*/#/test";
    server.world.stores("ns", stored, "2");
    of(&server.world.addrs, "/#/test/a").publish(State::Ok(Addr::Neg));
    server.world.binds("web", "/#/test/a");
    let (mut client, _task) = server.connect();
    client.calls(1, "dtab", &dtab_of(b"", "ns")).await;
    assert_eq!(client.answer::<DtabRef>(1).await.expect("a dtab").dtab, stored);
    client.calls(2, "delegate", &question(String::new(), "ns".into(), path("/svc/web"))).await;
    let found = client.answer::<Delegation>(2).await.expect("an explanation");
    let dentries: Vec<_> = found.tree.nodes.values().map(|node| node.dentry.as_str()).collect();
    assert!(dentries.contains(&stored), "{dentries:?}");
}
