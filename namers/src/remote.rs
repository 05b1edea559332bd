//! Interpreters that ask another process: what `io.l5d.namerd`, `io.l5d.namerd.http` and `io.l5d.mesh` have in common.
//!
//! A protocol implements [`RemoteNames`]: how to follow one tree, follow one id and explain one name. [`RemoteInterpreter`]
//! adds what all of them owe their users: one subscription however many readers, jittered back-off, the last good value in
//! memory and on disk, ages on the admin pages, unsubscribe by drop. Called by whoever builds a router from its config. Not
//! for: bytes on the wire, which are written once beside each protocol and used by namerd's servers as well.

#[cfg(test)]
pub(crate) mod at;
pub mod peers;
mod saved;

use crate::addresses;
use crate::watch::{Source, SourceError, WatchOptions, WatchTable, Watched};
use crate::watches::Discovery;
use dtab::{Activity, Addr, BoundName, BoxFuture, DelegateTree, Dtab, DtabStack, Exact, Interpreter, NameTree, Path};
use http::HeaderValue;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long explaining waits for namerd (naming reference §10.1).
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(2);
const TIMED_OUT: &str = "Request timed out.";
/// A name under the override of a request is kept for so long without readers.
const OVERRIDE_LINGER: Duration = Duration::from_millis(100);
/// Names under overrides, at most: they must not take the room of others.
const MAX_OVERRIDES: usize = 2000;

/// Back-off of the interpreters of Linkerd 1, and the table's numbers.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// First back-off after a failure.
    pub min_backoff: Duration,
    /// Largest back-off, jittered like all others.
    pub max_backoff: Duration,
}

/// Gives the bearer token for a request. Errors say why it cannot be had.
pub type TokenSource = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The value of `Authorization` with the present token; marked as a secret.
pub(crate) fn authorization(token: &TokenSource) -> Result<HeaderValue, String> {
    let token = token().map_err(|reason| format!("the token for namerd cannot be read: {reason}"))?;
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| "the token for namerd has bytes that a header cannot have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// One protocol to one namespace of a namerd.
pub trait RemoteNames: Send + Sync + 'static {
    /// Follows the tree of `path` by `dtab`, which comes after the namespace's own. Reports every value by
    /// [`Watched::ok`] until it is dropped, and the first one of another connection by [`Watched::ok_anew`]. An error, also the end of a stream, is reported by the caller, which keeps the
    /// last good value and calls again after a back-off. A stream that is silent because nothing changes is no error: the
    /// protocol finds out by keep-alives whether the peer lives.
    fn follow_tree(
        &self,
        dtab: Dtab,
        path: Path,
        out: Watched<NameTree<BoundName>>,
    ) -> BoxFuture<'static, Result<(), SourceError>>;

    /// Follows the addresses of a bound id in the same way.
    fn follow_addr(&self, id: Path, out: Watched<Addr>) -> BoxFuture<'static, Result<(), SourceError>>;

    /// How `path` resolves, step by step; bounded in time by the caller.
    fn explain(&self, dtab: Dtab, path: Path) -> BoxFuture<'_, Result<DelegateTree, String>>;
}

/// A name as a remote interpreter is asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TreeKey {
    dtab: Dtab,
    path: Path,
}

impl fmt::Display for TreeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtab.is_empty() {
            true => write!(f, "{}", self.path),
            false => write!(f, "{} by {}", self.path, Exact(&self.dtab)),
        }
    }
}

struct Trees(Arc<dyn RemoteNames>);

impl Source<TreeKey, NameTree<BoundName>> for Trees {
    fn run(&self, key: TreeKey, out: Watched<NameTree<BoundName>>) -> BoxFuture<'static, Result<(), SourceError>> {
        self.0.follow_tree(key.dtab, key.path, out)
    }

    fn save(&self, tree: &NameTree<BoundName>) -> Option<serde_json::Value> {
        Some(saved::tree(tree))
    }

    fn restore(&self, saved: &serde_json::Value) -> Option<NameTree<BoundName>> {
        saved::read_tree(saved)
    }

    /// A namerd that has just begun, on an empty store, knows no name.
    fn is_empty(&self, tree: &NameTree<BoundName>) -> bool {
        *tree == NameTree::Neg
    }
}

struct Addrs(Arc<dyn RemoteNames>);

impl Source<Path, Addr> for Addrs {
    fn run(&self, id: Path, out: Watched<Addr>) -> BoxFuture<'static, Result<(), SourceError>> {
        self.0.follow_addr(id, out)
    }

    fn save(&self, addr: &Addr) -> Option<serde_json::Value> {
        saved::addr(addr)
    }

    fn restore(&self, saved: &serde_json::Value) -> Option<Addr> {
        saved::read_addr(saved)
    }

    fn is_empty(&self, addr: &Addr) -> bool {
        !matches!(addr, Addr::Bound(set) if !set.addresses.is_empty())
    }
}

/// An interpreter over one namespace of a namerd.
pub struct RemoteInterpreter {
    trees: WatchTable<TreeKey, NameTree<BoundName>>,
    /// Trees under the overrides of requests; never on disk.
    overrides: WatchTable<TreeKey, NameTree<BoundName>>,
    addrs: WatchTable<Path, Addr>,
    remote: Arc<dyn RemoteNames>,
}

impl RemoteInterpreter {
    /// An interpreter that asks `remote`. `place` says which one and which namespace, e.g.
    /// `io.l5d.mesh /$/inet/namerd/4321 /default`: it names the interpreter on admin pages, and what is on disk serves for
    /// the same place alone.
    pub fn new(
        remote: Arc<dyn RemoteNames>,
        place: &str,
        discovery: &Discovery,
        options: &RemoteOptions,
    ) -> RemoteInterpreter {
        let watch = WatchOptions {
            min_backoff: options.min_backoff,
            max_backoff: options.max_backoff,
            silent_after: Duration::ZERO,
            relist: Duration::ZERO,
            ..discovery.watch.clone()
        };
        let brief = WatchOptions {
            linger: OVERRIDE_LINGER,
            negative_linger: OVERRIDE_LINGER,
            max_keys: MAX_OVERRIDES,
            ..watch.clone()
        };
        let unsaved = Discovery { snapshot: None, ..discovery.clone() };
        RemoteInterpreter {
            overrides: WatchTable::within(&unsaved, place, "overrides", Trees(remote.clone()), brief),
            trees: WatchTable::within(discovery, place, "trees", Trees(remote.clone()), watch.clone()),
            addrs: WatchTable::within(discovery, place, "addresses", Addrs(remote.clone()), watch),
            remote,
        }
    }

    /// Takes over what `old` knows of the same place: it stands in until namerd has answered this one.
    pub fn inherit(&self, old: &RemoteInterpreter) {
        self.trees.inherit(&old.trees);
        self.addrs.inherit(&old.addrs);
    }
}

/// All entries of a stack in one table: what a request to namerd carries.
fn flat(dtab: &DtabStack) -> Dtab {
    Dtab::new(dtab.dentries().cloned().collect())
}

impl Interpreter for RemoteInterpreter {
    fn bind(&self, dtab: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        self.trees.get(&TreeKey { dtab: flat(dtab), path: path.clone() })
    }

    fn bind_overridden(&self, dtab: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        self.overrides.get(&TreeKey { dtab: flat(dtab), path: path.clone() })
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        self.addrs.get(id)
    }

    fn explain<'a>(&'a self, dtab: &'a DtabStack, path: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        let explained = self.remote.explain(flat(dtab), path.clone());
        Box::pin(async {
            let deadline = Instant::now() + EXPLAIN_TIMEOUT;
            let explained = tokio::time::timeout_at(deadline, explained).await;
            let mut tree = explained.unwrap_or_else(|_| Err(TIMED_OUT.into()))?;
            // Thrift and gRPC carry no addresses here.
            addresses::fill(&mut tree, deadline, |id| self.resolve(id)).await;
            Ok(tree)
        })
    }
}
