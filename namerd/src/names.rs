//! [`Names`]: what every interface answers from: names by the dtab of a namespace, over namers of this process.
//!
//! A namespace that does not exist is an empty dtab here, as in Linkerd 1 (namerd reference §1). Equal questions share one
//! binding, however many routers ask. What was known stays known while the store or a namer is away. Called by the
//! interfaces. Not for: protocols, rights.

mod extra;
mod listed;
mod seen;

use crate::storage::{Store, VersionedDtab};
use dtab::{
    Activity, Addr, BoundName, BoxFuture, DelegateTree, Dtab, DtabStack, Interpreter, NameTree, Namer, Path, State,
};
pub(crate) use extra::{MAX_EXTRA, is_too_long, show_question};
use listed::Listed;
use namers::{
    Discovery, FsNamer, LocalInterpreter, Source, SourceError, SystemNamer, WatchOptions, WatchTable, Watched,
};
use seen::Seen;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// See the module; cloning shares it.
#[derive(Clone)]
pub struct Names {
    store: Arc<dyn Store>,
    tables: WatchTable<String, Dtab>,
    trees: WatchTable<Question, NameTree<BoundName>>,
    addrs: WatchTable<Path, Addr>,
    world: World,
    seen: Arc<Seen>,
    listed: Listed,
    /// Numbers of the watch tables.
    options: WatchOptions,
}

/// What names are looked up in.
#[derive(Clone)]
struct World {
    /// In preference order.
    namers: Arc<[Arc<dyn Namer>]>,
    system: SystemNamer,
    discovery: Discovery,
}

impl World {
    fn interpreter(&self, own: Option<Activity<Dtab>>) -> LocalInterpreter {
        let namers = self.namers.to_vec();
        LocalInterpreter::new(namers, own, self.system.clone(), self.discovery.handle.clone())
    }
}

/// What an interface is asked to bind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    namespace: String,
    extra: Dtab,
    path: Path,
}

/// For people: trees are not saved, so that no name of a file depends on it.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_question(f, &self.namespace, &self.path, &self.extra)
    }
}

impl Names {
    /// Names by the dtabs of `store`, over `namers` in preference order. All tasks run on the handle of `discovery`.
    pub fn new(
        store: Arc<dyn Store>,
        namers: Vec<Arc<dyn Namer>>,
        system: SystemNamer,
        discovery: &Discovery,
    ) -> Names {
        let world = World { namers: namers.into(), system, discovery: discovery.clone() };
        let seen = Arc::new(Seen::default());
        // What changes here is pushed: silence is no sign of anything.
        let options = WatchOptions { silent_after: Duration::ZERO, relist: Duration::ZERO, ..discovery.watch.clone() };
        let tables = WatchTable::within(discovery, store.kind(), "dtabs", Tables(store.clone()), options.clone());
        let source = Trees { world: world.clone(), tables: tables.clone(), seen: seen.clone() };
        let trees = WatchTable::within(discovery, "names", "trees", source, options.clone());
        let addrs = WatchTable::within(discovery, "names", "addresses", Addrs(world.clone()), options.clone());
        let listed = Listed::new(Vec::new(), discovery, options.clone());
        Names { store, tables, trees, addrs, world, seen, listed, options }
    }

    /// The same, with namers that can enumerate their names.
    pub fn listing(self, namers: Vec<Arc<FsNamer>>) -> Names {
        let listed = Listed::new(namers, &self.world.discovery, self.options.clone());
        Names { listed, ..self }
    }

    /// The names that namers can enumerate, as bound ids, sorted; at most 10 000 of each namer, and about a second old.
    /// Live until dropped.
    pub fn bound(&self) -> Activity<Arc<[Path]>> {
        self.listed.all()
    }

    /// The store behind, for what concerns dtabs and not names.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The tree of `path` by the namespace's dtab and then `extra`. Holds no Alt; live until dropped. The last good tree
    /// stays when a later one cannot be known.
    pub fn bind(&self, namespace: &str, extra: &Dtab, path: &Path) -> Activity<NameTree<BoundName>> {
        let question = Question { namespace: namespace.to_owned(), extra: extra.clone(), path: path.clone() };
        self.trees.get(&question)
    }

    /// The addresses of a bound id; live until dropped. An id with a transformer's prefix (`/%/…`) that no namer of this
    /// process has given out is that of the name behind the prefix, as in Linkerd 1 (namerd reference §2.10).
    pub fn resolve(&self, id: &Path) -> Activity<Addr> {
        self.addrs.get(id)
    }

    /// How `path` resolves by the namespace's dtab, if one is named, and then `extra`. At most 2 s.
    pub async fn explain(&self, namespace: Option<&str>, extra: &Dtab, path: &Path) -> Result<DelegateTree, String> {
        let own = namespace.map(|namespace| self.tables.get(&namespace.to_owned()));
        self.world.interpreter(own).explain(&DtabStack::new([extra.clone()]), path).await
    }

    /// An interpreter over the namers of this process, without a dtab.
    pub fn without_dtab(&self) -> LocalInterpreter {
        self.world.interpreter(None)
    }

    /// All names that interfaces have bound in this namespace within the last hour, sorted.
    pub fn known(&self, namespace: &str) -> Vec<Path> {
        self.seen.of(namespace)
    }
}

/// The dtabs of namespaces.
struct Tables(Arc<dyn Store>);

impl Source<String, Dtab> for Tables {
    fn run(&self, namespace: String, out: Watched<Dtab>) -> BoxFuture<'static, Result<(), SourceError>> {
        let stored = self.0.observe(&namespace);
        let dtab = |stored: Option<VersionedDtab>| stored.map_or_else(Dtab::empty, |stored| stored.dtab);
        Box::pin(publish(stored, out, dtab))
    }
}

/// Publishes what `from` says, until it is dropped.
async fn publish<T: Clone, V: namers::Val>(
    mut from: Activity<T>,
    out: Watched<V>,
    value: impl Fn(T) -> V,
) -> Result<(), SourceError> {
    loop {
        match from.get() {
            State::Pending => {}
            State::Ok(found) => out.ok(value(found)),
            State::Failed(reason) => out.failed(&reason),
        }
        from.changed().await;
    }
}

/// Bound names.
struct Trees {
    world: World,
    tables: WatchTable<String, Dtab>,
    seen: Arc<Seen>,
}

impl Source<Question, NameTree<BoundName>> for Trees {
    fn run(
        &self,
        question: Question,
        out: Watched<NameTree<BoundName>>,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let interpreter = self.world.interpreter(Some(self.tables.get(&question.namespace)));
        let seen = self.seen.clone();
        Box::pin(async move {
            let _seen = seen.begin(&question.namespace, &question.path);
            let bound = interpreter.bind(&DtabStack::new([question.extra]), &question.path);
            publish(bound, out, |tree| tree).await
        })
    }
}

/// The addresses of ids.
struct Addrs(World);

impl Source<Path, Addr> for Addrs {
    fn run(&self, id: Path, out: Watched<Addr>) -> BoxFuture<'static, Result<(), SourceError>> {
        let interpreter = self.0.interpreter(None);
        Box::pin(async move {
            let mut live = interpreter.resolve(&id);
            if let Some(behind) = behind(&id)
                && live.settled().await == State::Ok(Addr::Neg)
            {
                live = interpreter.resolve(&behind);
            }
            publish(live, out, |addr| addr).await
        })
    }
}

/// The id without what transformers have put before it; None when they have not.
fn behind(id: &Path) -> Option<Path> {
    if id.get(0) != Some(b"%") {
        return None;
    }
    let at = id.labels().position(|label| label == b"#" || label == b"$")?;
    Some(id.skip(at))
}

#[cfg(test)]
mod tests;
