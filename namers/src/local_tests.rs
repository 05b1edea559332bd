//! Tests of the local interpreter over a namer that is told what to answer, and over files.

use super::*;
use crate::dns::{DnsOptions, DnsResolver};
use crate::fs::FsNamer;
use crate::update::test_support::{eventually, until};
use crate::watch::WatchOptions;
use dtab::{Delegation, Name, Publisher, Weighted};
use parking_lot::Mutex;
use std::collections::HashMap;

type Trees = HashMap<Path, Publisher<NameTree<Name>>>;

/// Answers as the test publishes; counts what is asked.
struct Told {
    prefix: Path,
    trees: Mutex<Trees>,
    addrs: Mutex<HashMap<Path, Publisher<Addr>>>,
    lookups: Mutex<Vec<String>>,
}

impl Told {
    fn new() -> Arc<Told> {
        let prefix = path("/#/told");
        Arc::new(Told { prefix, trees: Mutex::default(), addrs: Mutex::default(), lookups: Mutex::default() })
    }

    fn publisher(&self, rest: &str) -> Publisher<NameTree<Name>> {
        self.trees.lock().entry(path(rest)).or_insert_with(|| Activity::channel().0).clone()
    }

    fn set(&self, rest: &str, state: State<NameTree<Name>>) {
        self.publisher(rest).publish(state);
    }

    fn bind(&self, rest: &str) {
        let id = self.prefix.concat(&path(rest));
        self.set(rest, State::Ok(NameTree::Leaf(Name::Bound(BoundName { id, residual: Path::empty() }))));
    }

    fn neg(&self, rest: &str) {
        self.set(rest, State::Ok(NameTree::Neg));
    }

    fn addr(&self, id: &str) -> Publisher<Addr> {
        self.addrs.lock().entry(path(id)).or_insert_with(|| Activity::channel().0).clone()
    }

    fn watchers(&self, rest: &str) -> usize {
        self.publisher(rest).watchers()
    }
}

impl Namer for Told {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        let text = rest.to_string();
        assert_ne!(text, "/panic", "asked to");
        self.lookups.lock().push(text.clone());
        self.publisher(&text).subscribe()
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        if !id.starts_with(&self.prefix) {
            return Activity::constant(State::Ok(Addr::Neg));
        }
        self.addr(&id.to_string()).subscribe()
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn stack(text: &str) -> DtabStack {
    DtabStack::new([Dtab::parse(text).unwrap()])
}

fn system() -> SystemNamer {
    let dns = DnsResolver::with_servers(&[], DnsOptions::default(), Handle::current());
    SystemNamer::new(dns, Handle::current())
}

fn interpreter(namers: Vec<Arc<dyn Namer>>) -> LocalInterpreter {
    LocalInterpreter::new(namers, None, system(), Handle::current())
}

fn told() -> (Arc<Told>, LocalInterpreter) {
    let told = Told::new();
    (told.clone(), interpreter(vec![told]))
}

fn leaf(id: &str) -> NameTree<BoundName> {
    NameTree::Leaf(BoundName { id: path(id), residual: Path::empty() })
}

fn ok(id: &str) -> State<NameTree<BoundName>> {
    State::Ok(leaf(id))
}

#[tokio::test]
async fn what_needs_no_waiting_is_there_on_return() {
    let (told, interpreter) = told();
    told.bind("/web");
    assert_eq!(interpreter.bind(&stack("/svc=>/#/told"), &path("/svc/web")).get(), ok("/#/told/web"));
    let inet = interpreter.bind(&stack("/svc=>/$/inet"), &path("/svc/127.1/80")).get();
    assert_eq!(inet, ok("/$/inet/127.1/80"));
    assert_eq!(interpreter.bind(&stack(""), &path("/svc/web")).get(), State::Ok(NameTree::Neg));
    let unknown = interpreter.bind(&stack("/svc=>/$/nope"), &path("/svc/web")).get();
    assert!(matches!(unknown, State::Failed(text) if text.starts_with("Unknown namer: nope")));
}

#[tokio::test]
async fn alternatives_are_asked_only_when_needed() {
    let (told, interpreter) = told();
    told.bind("/a");
    told.bind("/b");
    let mut bound = interpreter.bind(&stack("/svc=>/#/told/a|/#/told/b|/#/told/c"), &path("/svc"));
    assert_eq!(bound.get(), ok("/#/told/a"));
    assert_eq!(*told.lookups.lock(), ["/a"]);
    told.neg("/a");
    until(&mut bound, |s| *s == ok("/#/told/b")).await;
    assert_eq!(*told.lookups.lock(), ["/a", "/b"]);
    told.bind("/a");
    until(&mut bound, |s| *s == ok("/#/told/a")).await;
    assert_eq!(told.lookups.lock().len(), 2, "what is still read is not asked again");
    eventually("the unused alternative is dropped", || told.watchers("/b") == 0).await;
    assert_eq!(told.watchers("/a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_union_goes_without_its_pending_branches() {
    let (told, interpreter) = told();
    told.bind("/a");
    let mut bound = interpreter.bind(&stack("/svc => 1 * /#/told/a & 3 * /#/told/b"), &path("/svc"));
    until(&mut bound, |s| *s == ok("/#/told/a")).await;
    told.bind("/b");
    let both = NameTree::Union(vec![
        Weighted { weight: 1.0, tree: leaf("/#/told/a") },
        Weighted { weight: 3.0, tree: leaf("/#/told/b") },
    ]);
    until(&mut bound, |s| *s == State::Ok(both.clone())).await;
    told.set("/a", State::Failed("down".into()));
    until(&mut bound, |s| *s == ok("/#/told/b")).await;
}

#[tokio::test]
async fn the_last_good_tree_is_kept() {
    let (told, interpreter) = told();
    let mut bound = interpreter.bind(&stack("/svc=>/#/told"), &path("/svc/web"));
    assert_eq!(bound.get(), State::Pending);
    told.set("/web", State::Failed("down".into()));
    until(&mut bound, |s| *s == State::Failed("down".into())).await;
    told.bind("/web");
    until(&mut bound, |s| *s == ok("/#/told/web")).await;
    for bad in [State::Failed("down".into()), State::Pending] {
        told.set("/web", bad);
        assert!(tokio::time::timeout(Duration::from_millis(30), bound.changed()).await.is_err());
        assert_eq!(bound.get(), ok("/#/told/web"));
    }
    told.neg("/web");
    until(&mut bound, |s| *s == State::Ok(NameTree::Neg)).await;
}

#[tokio::test]
async fn equal_results_are_not_published_again() {
    let (told, interpreter) = told();
    told.bind("/a");
    told.neg("/b");
    let mut bound = interpreter.bind(&stack("/svc => /#/told/b | /#/told/a"), &path("/svc"));
    assert_eq!(bound.get(), ok("/#/told/a"));
    told.set("/b", State::Ok(NameTree::Alt(vec![])));
    assert!(tokio::time::timeout(Duration::from_millis(30), bound.changed()).await.is_err());
}

#[tokio::test]
async fn a_name_read_twice_in_one_walk_is_asked_once() {
    let (told, interpreter) = told();
    told.bind("/a");
    let mut bound = interpreter.bind(&stack("/svc => /#/told/a & /#/told/a"), &path("/svc"));
    bound.get();
    assert_eq!(*told.lookups.lock(), ["/a"]);
    told.neg("/a");
    until(&mut bound, |s| *s == State::Ok(NameTree::Neg)).await;
}

#[tokio::test]
async fn dropping_the_binding_ends_its_lookups() {
    let (told, interpreter) = told();
    told.bind("/web");
    let bound = interpreter.bind(&stack("/svc=>/#/told"), &path("/svc/web"));
    let copy = bound.clone();
    assert_eq!(told.watchers("/web"), 1);
    drop(bound);
    assert_eq!(told.watchers("/web"), 1);
    drop(copy);
    eventually("nobody watches", || told.watchers("/web") == 0).await;
    let addr = interpreter.resolve(&path("/#/told/web"));
    assert_eq!(told.addr("/#/told/web").watchers(), 1);
    drop(addr);
    eventually("nobody watches", || told.addr("/#/told/web").watchers() == 0).await;
}

#[tokio::test]
async fn the_own_dtab_comes_first_and_changes_bind_again() {
    let told = Told::new();
    told.bind("/a");
    told.bind("/b");
    let (own, activity) = Activity::channel();
    let interpreter = LocalInterpreter::new(vec![told], Some(activity), system(), Handle::current());
    let mut bound = interpreter.bind(&stack("/router => /#/told/a"), &path("/svc"));
    assert_eq!(bound.get(), State::Pending);
    own.publish(State::Ok(Dtab::parse("/svc => /router; /router => /#/told/b").unwrap()));
    until(&mut bound, |s| *s == ok("/#/told/a")).await;
    own.publish(State::Ok(Dtab::parse("/svc => /#/told/b").unwrap()));
    until(&mut bound, |s| *s == ok("/#/told/b")).await;
    own.publish(State::Failed("unparsable".into()));
    assert!(tokio::time::timeout(Duration::from_millis(30), bound.changed()).await.is_err());
    let new = interpreter.bind(&stack(""), &path("/svc")).get();
    assert_eq!(new, State::Failed("unparsable".into()));
}

#[tokio::test]
async fn namers_are_asked_in_preference_order() {
    let (first, second) = (Told::new(), Told::new());
    let interpreter = interpreter(vec![first.clone(), second.clone()]);
    second.bind("/web");
    first.neg("/web");
    let mut bound = interpreter.bind(&stack(""), &path("/#/told/web"));
    assert_eq!(bound.get(), ok("/#/told/web"));
    first.set("/web", State::Ok(NameTree::Fail));
    until(&mut bound, |s| *s == State::Ok(NameTree::Fail)).await;
    first.addr("/#/told/web").publish(State::Ok(Addr::Neg));
    let known = Addr::bound(["10.0.0.1:80".parse().unwrap()]);
    second.addr("/#/told/web").publish(State::Ok(known.clone()));
    assert_eq!(interpreter.resolve(&path("/#/told/web")).get(), State::Ok(known));
}

#[tokio::test]
async fn a_namer_that_panics_is_failed() {
    let (_, interpreter) = told();
    let bound = interpreter.bind(&stack("/svc => /#/told/panic | /$/inet/1"), &path("/svc")).get();
    assert!(matches!(&bound, State::Failed(text) if text.contains("namer /#/told: internal error")), "{bound:?}");
    let other = interpreter.bind(&stack("/svc => /#/told/panic & /$/inet/1"), &path("/svc")).get();
    assert_eq!(other, ok("/$/inet/1"));
}

#[tokio::test]
async fn addresses_are_found_by_id_and_the_last_good_are_kept() {
    let (told, interpreter) = told();
    let mut addr = interpreter.resolve(&path("/#/told/web"));
    let source = told.addr("/#/told/web");
    assert_eq!(addr.get(), State::Pending);
    source.publish(State::Failed("down".into()));
    until(&mut addr, |s| *s == State::Ok(Addr::failed("down"))).await;
    let known = State::Ok(Addr::bound(["10.0.0.1:80".parse().unwrap()]));
    source.publish(known.clone());
    until(&mut addr, |s| *s == known).await;
    for bad in [State::Pending, State::Ok(Addr::Pending), State::Failed("x".into()), State::Ok(Addr::failed("x"))] {
        source.publish(bad);
        assert!(tokio::time::timeout(Duration::from_millis(20), addr.changed()).await.is_err());
    }
    source.publish(State::Ok(Addr::Neg));
    until(&mut addr, |s| *s == State::Ok(Addr::Neg)).await;
    for (id, expected) in [("/#/other/web", Addr::Neg), ("/%/x/y", Addr::Neg), ("/svc", Addr::Neg), ("/", Addr::Neg)] {
        assert_eq!(interpreter.resolve(&path(id)).get(), State::Ok(expected), "{id}");
    }
    let inet = Addr::bound(["127.0.0.1:80".parse().unwrap()]);
    assert_eq!(interpreter.resolve(&path("/$/inet/80")).get(), State::Ok(inet));
    for id in ["/%/io.l5d.port/4141/#/told/web", "/%/p/$/inet/80"] {
        let found = interpreter.resolve(&path(id)).get();
        assert_eq!(found, State::Ok(Addr::Neg), "{id}: nobody knows what was done to these addresses");
    }
}

#[tokio::test]
async fn explaining_waits_and_fills_in_addresses() {
    let (told, interpreter) = told();
    let dtab = stack("/svc => /#/told/a | /#/told/b");
    let explaining = tokio::spawn(async move { interpreter.explain(&dtab, &path("/svc")).await });
    eventually("the namer is asked", || !told.lookups.lock().is_empty()).await;
    told.bind("/a");
    told.neg("/b");
    let known = Addr::bound(["10.0.0.1:80".parse().unwrap()]);
    told.addr("/#/told/a").publish(State::Ok(known.clone()));
    let mut tree = explaining.await.unwrap().unwrap();
    let mut seen = Vec::new();
    tree.for_each_leaf(&mut |name, addr| seen.push((name.id.to_string(), addr.clone())));
    assert_eq!(seen, [("/#/told/a".to_owned(), known)]);
    eventually("nobody watches", || told.watchers("/a") + told.watchers("/b") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn explaining_gives_up_after_two_seconds() {
    let (told, interpreter) = told();
    let dtab = stack("/svc => /#/told/a");
    let started = Instant::now();
    assert_eq!(interpreter.explain(&dtab, &path("/svc")).await, Err(TIMED_OUT.to_owned()));
    told.bind("/a");
    // The name is known; that its addresses are not is what the tree says.
    let mut tree = interpreter.explain(&dtab, &path("/svc")).await.unwrap();
    let mut seen = Vec::new();
    tree.for_each_leaf(&mut |name, addr| seen.push((name.id.to_string(), addr.clone())));
    assert_eq!(seen, [("/#/told/a".to_owned(), Addr::Pending)]);
    assert_eq!(started.elapsed().as_secs(), 4);
    let looping = interpreter.explain(&stack("/a => /b; /b => /a"), &path("/a")).await;
    assert_eq!(looping.map_err(|e| e.contains("recursion level")), Err(true));
    let none = interpreter.explain(&stack(""), &path("/a")).await.unwrap();
    assert_eq!(none.node, Delegation::Neg);
}

#[tokio::test]
async fn a_file_that_vanishes_falls_back_and_returns() {
    let root = tempfile::tempdir().unwrap();
    let web = root.path().join("web");
    std::fs::write(&web, "10.0.0.1 80").unwrap();
    std::fs::write(root.path().join("default"), "10.0.0.2 80").unwrap();
    let dns = DnsResolver::with_servers(&[], DnsOptions::default(), Handle::current());
    let options = WatchOptions { linger: Duration::from_millis(20), ..WatchOptions::default() };
    let prefix = path("/#/io.l5d.fs");
    let fs = FsNamer::with_options(prefix, root.path().to_owned(), dns, options, Handle::current()).unwrap();
    let fs = Arc::new(fs);
    let interpreter = interpreter(vec![fs.clone()]);
    let dtab = stack("/svc => /#/io.l5d.fs/default; /svc => /#/io.l5d.fs/web");
    let mut bound = interpreter.bind(&dtab, &path("/svc"));
    until(&mut bound, |s| *s == ok("/#/io.l5d.fs/web")).await;
    std::fs::remove_file(&web).unwrap();
    until(&mut bound, |s| *s == ok("/#/io.l5d.fs/default")).await;
    std::fs::write(&web, "10.0.0.1 80").unwrap();
    until(&mut bound, |s| *s == ok("/#/io.l5d.fs/web")).await;
    drop(bound);
    eventually("nothing is watched", || fs.report().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_union_with_a_gap_is_waited_for_a_little() {
    let told = Told::new();
    let interpreter = interpreter(vec![told.clone()]);
    told.bind("/new");
    let table = stack("/svc => 9 * /#/told/old & 1 * /#/told/new");
    let mut bound = interpreter.bind(&table, &path("/svc"));
    assert_eq!(bound.get(), State::Pending, "all traffic would go to the new one");
    told.bind("/old");
    until(&mut bound, |state| matches!(state, State::Ok(NameTree::Union(branches)) if branches.len() == 2)).await;
    // A branch that says nothing is waited for no longer than that.
    let table = stack("/svc => 9 * /#/told/never & 1 * /#/told/new");
    let begun = Instant::now();
    let mut bound = interpreter.bind(&table, &path("/svc"));
    until(&mut bound, |state| matches!(state, State::Ok(NameTree::Leaf(_)))).await;
    assert!(begun.elapsed() >= Duration::from_millis(500) && begun.elapsed() < Duration::from_secs(2));
}
