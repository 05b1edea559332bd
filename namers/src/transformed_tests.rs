//! Tests of live transformers: first value, update, outage, recovery, unsubscribe, for trees and for addresses.

use super::*;
use crate::dns::{DnsOptions, DnsResolver};
use crate::fs::FsNamer;
use crate::transform::{AddressEffect, Replaces};
use crate::update::test_support::{eventually, until};
use crate::watch::WatchOptions;
use crate::{LocalInterpreter, SystemNamer};
use dtab::{Delegation, Dtab, Publisher};
use parking_lot::Mutex;
use std::time::Duration;

/// Interpreter and namer at once; answers as the test publishes, whatever is asked.
struct Told {
    prefix: Path,
    bound: Publisher<Bound>,
    tree: Publisher<NameTree<Name>>,
    addrs: Mutex<HashMap<Path, Publisher<Addr>>>,
}

impl Told {
    fn new() -> Arc<Told> {
        let (bound, tree) = (Activity::channel().0, Activity::channel().0);
        Arc::new(Told { prefix: path("/#/told"), bound, tree, addrs: Mutex::default() })
    }

    fn addr(&self, id: &str) -> Publisher<Addr> {
        self.addrs.lock().entry(path(id)).or_insert_with(|| Activity::channel().0).clone()
    }
}

impl Interpreter for Told {
    fn bind(&self, _: &DtabStack, _: &Path) -> Activity<Bound> {
        self.bound.subscribe()
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        self.addr(&id.to_string()).subscribe()
    }

    fn explain<'a>(&'a self, _: &'a DtabStack, _: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async { Err("not told".to_owned()) })
    }
}

impl Namer for Told {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn lookup(&self, _: &Path) -> Activity<NameTree<Name>> {
        self.tree.subscribe()
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        Interpreter::resolve(self, id)
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn stack(text: &str) -> DtabStack {
    DtabStack::new([Dtab::parse(text).unwrap()])
}

fn bound(text: &str) -> Bound {
    dtab::parse_tree(text).unwrap().map(&mut |id| BoundName { id: id.clone(), residual: Path::empty() })
}

fn named(text: &str) -> NameTree<Name> {
    bound(text).map(&mut |name| Name::Bound(name.clone()))
}

fn sockets(text: &str) -> Addr {
    Addr::bound(text.split_whitespace().map(|socket| socket.parse().unwrap()))
}

fn port() -> Transformer {
    let prefix = path("/%/io.l5d.port/4141");
    Transformer::Addresses(AddressTransformer { prefix, effect: AddressEffect::Port(4141) })
}

fn only(host: &str) -> Transformer {
    let effect = AddressEffect::Hosts([host.parse().unwrap()].into());
    Transformer::Addresses(AddressTransformer { prefix: path("/%/io.l5d.specificHost"), effect })
}

fn replacement(replaces: Replaces, to: &str) -> Transformer {
    Transformer::Replacement(Replacement { prefix: path("/%/io.l5d.const"), path: path(to), replaces })
}

fn local(namers: Vec<Arc<dyn Namer>>) -> Arc<dyn Interpreter> {
    let dns = DnsResolver::with_servers(&[], DnsOptions::default(), Handle::current());
    let system = SystemNamer::new(dns, Handle::current());
    Arc::new(LocalInterpreter::new(namers, None, system, Handle::current()))
}

fn wrapped(inner: Arc<dyn Interpreter>, transformer: Transformer) -> Arc<dyn Interpreter> {
    let global = local(Vec::new());
    Arc::new(TransformedInterpreter::new(inner, transformer, global, Handle::current()))
}

fn wrapped_namer(inner: Arc<dyn Namer>, transformer: Transformer) -> Arc<dyn Namer> {
    let global = local(Vec::new());
    Arc::new(TransformedNamer::new(inner, transformer, global, Handle::current()))
}

async fn quiet<T: Clone + Send + Sync + 'static>(activity: &mut Activity<T>) -> bool {
    tokio::time::timeout(Duration::from_millis(30), activity.changed()).await.is_err()
}

#[tokio::test]
async fn a_binding_is_followed() {
    let told = Told::new();
    let interpreter = wrapped(told.clone(), port());
    let mut tree = interpreter.bind(&stack(""), &path("/svc/web"));
    assert_eq!(tree.get(), State::Pending);
    told.bound.publish(State::Failed("down".into()));
    until(&mut tree, |s| *s == State::Failed("down".into())).await;
    told.bound.publish(State::Ok(bound("/#/told/web")));
    until(&mut tree, |s| *s == State::Ok(bound("/%/io.l5d.port/4141/#/told/web"))).await;
    told.bound.publish(State::Ok(bound("1*/#/told/a & 2*/#/told/b")));
    let both = bound("1*/%/io.l5d.port/4141/#/told/a & 2*/%/io.l5d.port/4141/#/told/b");
    until(&mut tree, |s| *s == State::Ok(both.clone())).await;
    told.bound.publish(State::Failed("down".into()));
    assert!(quiet(&mut tree).await, "the last good tree stays");
    told.bound.publish(State::Ok(NameTree::Neg));
    until(&mut tree, |s| *s == State::Ok(NameTree::Neg)).await;
    assert_eq!(interpreter.bind(&stack(""), &path("/x")).get(), State::Ok(NameTree::Neg), "there on return");
    drop(tree);
    eventually("nobody watches", || told.bound.watchers() == 0).await;
}

#[tokio::test]
async fn addresses_are_followed() {
    let told = Told::new();
    let interpreter = wrapped(wrapped(told.clone(), only("10.0.0.1")), port());
    let id = path("/%/io.l5d.port/4141/%/io.l5d.specificHost/#/told/web");
    let mut addr = interpreter.resolve(&id);
    let source = told.addr("/#/told/web");
    assert_eq!(addr.get(), State::Pending);
    source.publish(State::Failed("down".into()));
    until(&mut addr, |s| *s == State::Ok(Addr::failed("down"))).await;
    source.publish(State::Ok(sockets("10.0.0.1:80 10.0.0.2:80")));
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.1:4141"))).await;
    source.publish(State::Ok(sockets("10.0.0.2:80")));
    until(&mut addr, |s| *s == State::Ok(Addr::Neg)).await;
    source.publish(State::Ok(sockets("10.0.0.1:80 10.0.0.1:81")));
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.1:4141"))).await;
    for bad in [State::Pending, State::Failed("x".into()), State::Ok(Addr::failed("x"))] {
        source.publish(bad);
        assert!(quiet(&mut addr).await, "the last good addresses stay");
    }
    source.publish(State::Ok(sockets("10.0.0.1:99")));
    assert!(quiet(&mut addr).await, "what the transformer hides is no change");
    drop(addr);
    eventually("nobody watches", || source.watchers() == 0).await;
    for unknown in ["/#/told/web", "/%/io.l5d.port/4142/#/told/web", "/"] {
        assert_eq!(interpreter.resolve(&path(unknown)).get(), State::Ok(Addr::Neg), "{unknown}");
    }
}

#[tokio::test]
async fn an_id_of_the_file_namer_is_live() {
    let root = tempfile::tempdir().unwrap();
    let web = root.path().join("web");
    std::fs::write(&web, "10.0.0.1 80").unwrap();
    let dns = DnsResolver::with_servers(&[], DnsOptions::default(), Handle::current());
    let options = WatchOptions { linger: Duration::from_millis(20), ..WatchOptions::default() };
    let prefix = path("/#/io.l5d.fs");
    let fs = FsNamer::with_options(prefix, root.path().to_owned(), dns, options, Handle::current()).unwrap();
    let fs = Arc::new(fs);
    let interpreter = wrapped(local(vec![fs.clone()]), port());
    let id = path("/%/io.l5d.port/4141/#/io.l5d.fs/web");
    let mut addr = interpreter.resolve(&id);
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.1:4141"))).await;
    std::fs::write(&web, "10.0.0.2 81\n10.0.0.2 82").unwrap();
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.2:4141"))).await;
    std::fs::write(&web, "rubbish").unwrap();
    eventually("the outage shows", || fs.report().iter().any(|watch| watch.last_error.is_some())).await;
    assert_eq!(addr.get(), State::Ok(sockets("10.0.0.2:4141")), "the last good addresses stay");
    std::fs::write(&web, "10.0.0.3 80").unwrap();
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.3:4141"))).await;
    drop(addr);
    eventually("nothing is watched", || fs.report().is_empty()).await;
}

#[tokio::test]
async fn a_namer_is_transformed_alone() {
    let told = Told::new();
    let namer = wrapped_namer(told.clone(), port());
    let interpreter = local(vec![namer]);
    told.tree.publish(State::Ok(named("/#/told/web")));
    let mut tree = interpreter.bind(&stack("/svc=>/#/told/x | /$/inet/1"), &path("/svc"));
    assert_eq!(tree.get(), State::Ok(bound("/%/io.l5d.port/4141/#/told/web")));
    told.addr("/#/told/web").publish(State::Ok(sockets("10.0.0.1:80")));
    let mut addr = interpreter.resolve(&path("/%/io.l5d.port/4141/#/told/web"));
    assert_eq!(addr.get(), State::Ok(sockets("10.0.0.1:4141")));
    told.tree.publish(State::Ok(NameTree::Neg));
    until(&mut tree, |s| *s == State::Ok(bound("/$/inet/1"))).await;
    told.tree.publish(State::Ok(NameTree::Leaf(Name::Path(path("/$/inet/10.0.0.9/80")))));
    until(&mut tree, |s| *s == State::Ok(bound("/$/inet/10.0.0.9/80"))).await;
    let mixed = NameTree::Alt(vec![named("/#/told/web"), NameTree::Leaf(Name::Path(path("/$/inet/1")))]);
    told.tree.publish(State::Ok(mixed));
    until(&mut tree, |s| *s == State::Ok(bound("/#/told/web"))).await;
    assert_eq!(
        interpreter.resolve(&path("/#/told/web")).get(),
        State::Ok(sockets("10.0.0.1:80")),
        "passed on as it is"
    );
    told.tree.publish(State::Failed("down".into()));
    assert!(quiet(&mut tree).await, "the last good tree stays");
    drop(tree);
    eventually("nobody watches", || told.tree.watchers() == 0).await;
    drop(addr);
    eventually("nobody watches", || told.addr("/#/told/web").watchers() == 1).await;
}

#[tokio::test]
async fn a_replacement_is_followed() {
    let (told, other) = (Told::new(), Told::new());
    let to = |replaces| replacement(replaces, "/#/told/other/rest");
    let global: Arc<dyn Interpreter> = other.clone();
    let interpreter =
        |replaces| TransformedInterpreter::new(told.clone(), to(replaces), global.clone(), Handle::current());
    let (constant, replace) = (interpreter(Replaces::Tree), interpreter(Replaces::Leaves));
    let mut trees = [constant.bind(&stack(""), &path("/x")), replace.bind(&stack(""), &path("/x"))];
    told.bound.publish(State::Ok(NameTree::Neg));
    until(&mut trees[1], |s| *s == State::Ok(NameTree::Neg)).await;
    assert_eq!(trees[0].get(), State::Pending, "its path is not bound yet");
    let rest = NameTree::Leaf(BoundName { id: path("/#/told/other"), residual: path("/rest") });
    other.bound.publish(State::Ok(rest));
    let id = path("/%/io.l5d.const/#/told/other/rest");
    let leaf = NameTree::Leaf(BoundName { id: id.clone(), residual: path("/rest") });
    until(&mut trees[0], |s| *s == State::Ok(leaf.clone())).await;
    assert!(quiet(&mut trees[1]).await, "a negative tree stays one");
    told.bound.publish(State::Ok(bound("/#/told/a")));
    until(&mut trees[1], |s| *s == State::Ok(leaf.clone())).await;

    let mut addr = constant.resolve(&id);
    assert_eq!(addr.get(), State::Pending);
    other.addr("/#/told/other").publish(State::Ok(sockets("10.0.0.1:80")));
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.1:80"))).await;
    other.bound.publish(State::Ok(bound("/#/told/b & /#/told/c")));
    assert!(quiet(&mut addr).await, "nothing is known of the new names yet");
    other.addr("/#/told/b").publish(State::Ok(sockets("10.0.0.2:80")));
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.2:80"))).await;
    other.addr("/#/told/c").publish(State::Ok(sockets("10.0.0.3:80")));
    until(&mut addr, |s| *s == State::Ok(sockets("10.0.0.2:80 10.0.0.3:80"))).await;
    other.bound.publish(State::Ok(NameTree::Neg));
    until(&mut addr, |s| *s == State::Ok(Addr::Neg)).await;
    drop((trees, addr));
    eventually("nobody watches", || other.bound.watchers() + told.bound.watchers() == 0).await;
    eventually("nobody watches", || other.addr("/#/told/b").watchers() == 0).await;
    assert!(!constant.explains() && constant.explain(&stack(""), &path("/x")).await.is_err());
    assert_eq!(constant.resolve(&path("/%/io.l5d.const/#/told/other")).get(), State::Ok(Addr::Neg));
}

#[tokio::test]
async fn a_constant_namer_is_found_by_its_ids() {
    let told = Told::new();
    told.tree.publish(State::Ok(NameTree::Neg));
    let namer = wrapped_namer(wrapped_namer(told, replacement(Replaces::Tree, "/$/inet/127.1/80")), port());
    let interpreter = local(vec![namer]);
    let id = "/%/io.l5d.port/4141/%/io.l5d.const/$/inet/127.1/80";
    assert_eq!(interpreter.bind(&stack("/svc=>/#/told"), &path("/svc/x")).get(), State::Ok(bound(id)));
    assert_eq!(interpreter.resolve(&path(id)).get(), State::Ok(sockets("127.0.0.1:4141")));
}

#[tokio::test]
async fn explaining_shows_each_transformer() {
    let interpreter = wrapped(wrapped(local(Vec::new()), only("127.0.0.1")), port());
    let tree = interpreter.explain(&stack("/svc=>/$/inet"), &path("/svc/127.1/80/x")).await.unwrap();
    let Delegation::Delegate(first) = tree.node else { panic!("{tree:?}") };
    let Delegation::Transformation { name, bound, addr, tree } = &first.node else { panic!("{first:?}") };
    assert_eq!((first.path.as_str(), &first.dentry), ("/$/inet/127.1/80/x", &None));
    assert_eq!(
        (*name, bound.id.to_string(), addr),
        ("SubnetLocalTransformer", "/$/inet/127.1/80".into(), &sockets("127.0.0.1:80"))
    );
    let Delegation::Transformation { name, bound, tree: last, .. } = &tree.node else { panic!("{tree:?}") };
    assert_eq!(
        (*name, bound.id.to_string()),
        ("DelegatingNameTreeTransformer$", "/%/io.l5d.specificHost/$/inet/127.1/80".into())
    );
    assert!(tree.dentry.is_none() && last.dentry.is_some());
    let Delegation::Leaf(bound, addr) = &last.node else { panic!("{last:?}") };
    assert_eq!((bound.residual.to_string(), addr), ("/x".into(), &sockets("127.0.0.1:4141")));
    assert_eq!(last.path, bound.id.to_string());
    assert!(interpreter.explains());
}
