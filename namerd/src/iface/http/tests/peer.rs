//! Our interpreter `io.l5d.namerd.http` against this interface.

use super::*;
use dtab::{AddrSet, DtabStack, Interpreter};
use namers::LocalInterpreter;
use namers::control::{ControlNames, ControlOptions};
use namers::remote::peers::Peers;
use namers::remote::{RemoteInterpreter, RemoteOptions};

fn interpreter(at: SocketAddr, token: Option<&'static str>) -> RemoteInterpreter {
    let discovery = Discovery::new(Handle::current());
    let dns = DnsResolver::within(&discovery, &[], DnsOptions::default());
    let system = SystemNamer::new(dns, Handle::current());
    let system = Arc::new(LocalInterpreter::new(Vec::new(), None, system, Handle::current()));
    let peers = Peers::new(system, path(&format!("/$/inet/127.0.0.1/{}", at.port())), None);
    let token = token.map(|token| Arc::new(move || Ok(token.to_owned())) as namers::remote::TokenSource);
    let names = ControlNames::new(peers, "default", ControlOptions { host: None, token });
    let backoff = Duration::from_millis(5);
    let options = RemoteOptions { min_backoff: backoff, max_backoff: backoff * 4 };
    RemoteInterpreter::new(Arc::new(names), "test", &discovery, &options)
}

async fn until<T: Clone + std::fmt::Debug>(what: &mut Activity<T>, good: impl Fn(&T) -> bool) -> T {
    let found = tokio::time::timeout(SOON, async {
        loop {
            match what.get() {
                State::Ok(value) if good(&value) => return value,
                _ => what.changed().await,
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{:?}", what.peek()))
}

fn leads_to<'a>(id: &'a str) -> impl Fn(&NameTree<BoundName>) -> bool + 'a {
    move |tree| matches!(tree, NameTree::Leaf(name) if name.id == path(id))
}

#[tokio::test]
async fn names_are_followed_over_restarts_of_namerd() {
    let store = memory(&[("default", "/svc => /$/inet/127.0.0.1/1")]);
    let open = HttpParams::default;
    let server = Server::with(store.clone(), Access::default(), open(), "127.0.0.1:0").await;
    let remote = interpreter(server.address, None);
    let mut tree = remote.bind(&DtabStack::default(), &path("/svc"));
    until(&mut tree, leads_to("/$/inet/127.0.0.1/1")).await;
    let own =
        DtabStack::new([Dtab::parse("/svc => 0.001 * /$/inet/127.0.0.1/8 & /$/inet/127.0.0.1/9").expect("a dtab")]);
    let mut overridden = remote.bind(&own, &path("/svc"));
    let union = until(&mut overridden, |tree| matches!(tree, NameTree::Union(_))).await;
    assert!(matches!(union, NameTree::Union(branches) if branches[0].weight == 0.001), "weights are exact");
    let mut addr = remote.resolve(&path("/$/inet/127.0.0.1/1"));
    let expected = AddrSet::new([dtab::Address::new(([127, 0, 0, 1], 1).into())]);
    assert_eq!(until(&mut addr, |_| true).await, Addr::Bound(expected));
    server.put("default", "/svc => /$/inet/127.0.0.1/2").await;
    until(&mut tree, leads_to("/$/inet/127.0.0.1/2")).await;
    let explained = remote.explain(&DtabStack::default(), &path("/svc")).await.expect("a tree");
    assert!(namers::wire::delegation(&explained).contains("\"id\":\"/$/inet/127.0.0.1/2\""), "{explained:?}");

    let at = server.address.to_string();
    server.closing.send_replace(true);
    server.has_watches(0).await;
    drop(server);
    until(&mut tree, leads_to("/$/inet/127.0.0.1/2")).await;
    let again = Server::with(store, Access::default(), open(), &at).await;
    again.put("default", "/svc => /$/inet/127.0.0.1/3").await;
    until(&mut tree, leads_to("/$/inet/127.0.0.1/3")).await;
    drop((tree, overridden, addr));
}

#[tokio::test]
async fn a_token_is_shown_where_one_is_asked_for() {
    use crate::access::{AccessParams, Namespaces, Right, Rule, TokenParams};
    use setup::tokens::TokenFile;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    std::fs::write(&file, "router-token-0123456789").expect("it is written");
    let rules = vec![Rule { right: Right::Read, namespaces: Namespaces::All, prefixes: None }];
    let tokens = vec![TokenParams { name: "router".into(), file: TokenFile::new(file), rules }];
    let access = Access::new(Some(AccessParams { tokens, ..AccessParams::default() }));
    let store = memory(&[("default", "/svc => /$/inet/127.0.0.1/1")]);
    let server = Server::with(store, access, HttpParams::default(), "127.0.0.1:0").await;
    let known = interpreter(server.address, Some("router-token-0123456789"));
    until(&mut known.bind(&DtabStack::default(), &path("/svc")), leads_to("/$/inet/127.0.0.1/1")).await;
    let unknown = interpreter(server.address, None);
    let mut tree = unknown.bind(&DtabStack::default(), &path("/svc"));
    let State::Failed(reason) = tree.settled().await else { panic!("it was let in") };
    assert!(reason.contains("401") && reason.contains("callers without credentials"), "{reason}");
}
