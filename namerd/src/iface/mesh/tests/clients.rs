//! The router's own client against this interface.

use super::world::{World, path, within};
use dtab::{
    Activity, Addr, BoundName, BoxFuture, DelegateTree, Delegation, Dtab, DtabStack, Interpreter, NameTree, Path, State,
};
use namers::Discovery;
use namers::mesh::{MeshClient, MeshOptions};
use namers::remote::peers::Peers;
use namers::remote::{RemoteInterpreter, RemoteOptions, TokenSource};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;

/// Replicas at these addresses, whatever the name.
struct At(Vec<SocketAddr>);

impl Interpreter for At {
    fn bind(&self, _: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        let bound = BoundName { id: path.clone(), residual: Path::empty() };
        Activity::constant(State::Ok(NameTree::Leaf(bound)))
    }

    fn resolve(&self, _: &Path) -> Activity<Addr> {
        Activity::constant(State::Ok(Addr::bound(self.0.iter().copied())))
    }

    fn explain<'a>(&'a self, _: &'a DtabStack, _: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async { Err("not explained".into()) })
    }
}

fn interpreter(addresses: &[SocketAddr]) -> RemoteInterpreter {
    interpreter_with(addresses, None)
}

/// A client that shows the token of this file.
pub(super) fn interpreter_with(addresses: &[SocketAddr], token: Option<std::path::PathBuf>) -> RemoteInterpreter {
    let peers = Peers::new(Arc::new(At(addresses.to_vec())), path("/$/inet/namerd/4321"), None);
    let token = token.map(|file| Arc::new(move || setup::tokens::read(&file)) as TokenSource);
    let client = MeshClient::new(peers, path("/default"), MeshOptions { token, ..MeshOptions::default() });
    let mut discovery = Discovery::new(Handle::current());
    discovery.watch.linger = Duration::from_millis(1);
    discovery.watch.negative_linger = Duration::from_millis(1);
    discovery.watch.empty_grace = Duration::ZERO;
    let options = RemoteOptions { min_backoff: Duration::from_millis(50), max_backoff: Duration::from_millis(200) };
    RemoteInterpreter::new(Arc::new(client), "io.l5d.mesh /$/inet/namerd/4321 /default", &discovery, &options)
}

pub(super) fn bind(interpreter: &RemoteInterpreter, name: &str) -> Activity<NameTree<BoundName>> {
    interpreter.bind(&stack(""), &path(name))
}

fn stack(text: &str) -> DtabStack {
    DtabStack::new([Dtab::parse(text).expect("a dtab")])
}

fn bound(id: &str, residual: &str) -> NameTree<BoundName> {
    NameTree::Leaf(BoundName { id: path(id), residual: path(residual) })
}

async fn becomes<T: Clone + PartialEq + std::fmt::Debug>(live: &mut Activity<T>, wanted: T) {
    within(&format!("{wanted:?}"), async {
        while live.get() != State::Ok(wanted.clone()) {
            live.changed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn names_and_addresses_are_followed_and_left() {
    let world = World::new().await;
    world.store.says(Some("/svc => /#/t/a"));
    let interpreter = interpreter(&[world.address]);
    let mut tree = interpreter.bind(&DtabStack::default(), &path("/svc/x"));
    becomes(&mut tree, bound("/#/t/a", "/x")).await;
    let mut with_own = interpreter.bind(&stack("/svc => /#/t/own"), &path("/svc/x"));
    becomes(&mut with_own, bound("/#/t/own", "/x")).await;
    world.store.says(Some("/svc => /#/t/b"));
    becomes(&mut tree, bound("/#/t/b", "/x")).await;

    let addr = Addr::bound(["10.0.0.1:80".parse().expect("an address"), "[fd00::1]:80".parse().expect("an address")]);
    world.namer.says("b", addr.clone());
    let mut addresses = interpreter.resolve(&path("/#/t/b"));
    becomes(&mut addresses, addr).await;
    world.namer.says("b", Addr::Neg);
    becomes(&mut addresses, Addr::Neg).await;
    assert_eq!(world.namer.watched(), 1);
    drop(addresses);
    world.watched(0).await;
    assert_eq!(world.accepted.load(Ordering::Relaxed), 1, "one connection for all");
}

#[tokio::test]
async fn a_name_is_explained() {
    let world = World::new().await;
    world.store.says(Some("/svc => /#/t/a | /nowhere"));
    world.namer.says("a", Addr::Neg);
    let interpreter = interpreter(&[world.address]);
    let dtab = stack("/nowhere => !");
    let tree = interpreter.explain(&dtab, &path("/svc/x")).await.expect("a tree");
    assert_eq!((tree.path.as_str(), &tree.dentry), ("/svc/x", &None));
    let Delegation::Alt(children) = &tree.node else { panic!("{tree:?}") };
    assert_eq!(children[0].dentry.as_ref().map(ToString::to_string).as_deref(), Some("/svc=>/#/t/a | /nowhere"));
    // Leaves carry no addresses here: the interpreter has asked for them.
    let local = world
        .names
        .explain(Some("default"), &Dtab::parse("/nowhere => !").expect("a dtab"), &path("/svc/x"))
        .await
        .expect("a tree");
    assert_eq!(tree, local);
    let error = interpreter.explain(&dtab, &Path::empty()).await.expect_err("no name");
    assert!(error.contains("No name given"), "{error}");
}

#[tokio::test]
async fn what_was_known_stays_and_goes_on_at_another_replica() {
    let (one, two) = (World::new().await, World::new().await);
    for world in [&one, &two] {
        world.store.says(Some("/svc => /#/t/a"));
    }
    let interpreter = interpreter(&[one.address, two.address]);
    let mut tree = interpreter.bind(&DtabStack::default(), &path("/svc/x"));
    becomes(&mut tree, bound("/#/t/a", "/x")).await;
    let (used, other) = if one.accepted.load(Ordering::Relaxed) > 0 { (&one, &two) } else { (&two, &one) };
    used.kill();
    other.store.says(Some("/svc => /#/t/b"));
    becomes(&mut tree, bound("/#/t/b", "/x")).await;
    other.kill();
    // Nobody is left: the last value is.
    other.served(0).await;
    assert_eq!(tree.get(), State::Ok(bound("/#/t/b", "/x")));
}

#[tokio::test]
async fn a_namerd_that_closes_is_left_for_another() {
    let (one, two) = (World::new().await, World::new().await);
    for world in [&one, &two] {
        world.store.says(Some("/svc => /#/t/a"));
    }
    let interpreter = interpreter(&[one.address, two.address]);
    let mut trees: Vec<_> =
        (0..300).map(|i| interpreter.bind(&DtabStack::default(), &path(&format!("/svc/{i}")))).collect();
    for (i, tree) in trees.iter_mut().enumerate() {
        becomes(tree, bound("/#/t/a", &format!("/{i}"))).await;
    }
    let (used, other) = if one.accepted.load(Ordering::Relaxed) > 0 { (&one, &two) } else { (&two, &one) };
    assert_eq!((used.accepted.load(Ordering::Relaxed), other.accepted.load(Ordering::Relaxed)), (1, 0));
    used.close();
    used.served(0).await;
    other.store.says(Some("/svc => /#/t/b"));
    for (i, tree) in trees.iter_mut().enumerate() {
        becomes(tree, bound("/#/t/b", &format!("/{i}"))).await;
    }
    assert_eq!(other.accepted.load(Ordering::Relaxed), 1, "one connection again");
}
