//! The seams between naming and IO: [`Namer`] and [`Interpreter`], and the plain data that crosses them.

use crate::{Activity, Addr, DelegateTree, DtabStack, NameTree, Path, State};
use std::pin::Pin;

/// A boxed future, so that the traits stay usable as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A concrete name: plain data, no handles, so that trees of them compare, hash, log and travel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BoundName {
    /// Identifies the cluster, e.g. `/#/io.l5d.fs/web`.
    pub id: Path,
    /// What the binding namer did not consume.
    pub residual: Path,
}

/// What a namer answers with at a leaf: a path to look up again, or a concrete name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// To be looked up again, from the dtab on.
    Path(Path),
    /// Bound; the walk ends here.
    Bound(BoundName),
}

/// Answers the paths below its prefix (naming reference §6).
pub trait Namer: Send + Sync {
    /// The prefix with its leading `/#`, e.g. `/#/io.l5d.fs`.
    fn prefix(&self) -> &Path;

    /// Looks up `rest`, the path after the prefix. Ids in the answer begin with the prefix, or with `/%` when a transformer
    /// has changed them. The answer is live until dropped.
    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>>;

    /// The addresses of an id that this namer gave out, Neg for any other; live until dropped.
    fn resolve(&self, id: &Path) -> Activity<Addr>;
}

/// Turns (dtab, path) into bound names (naming reference §4, §11).
pub trait Interpreter: Send + Sync {
    /// Binds `path`; `dtab` is the router's table and the override table. The result holds no Alt and is live until dropped.
    fn bind(&self, dtab: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>>;

    /// The same for a `dtab` with entries of a request's own. There can be as many of those as there are requests: what
    /// is kept for them is kept apart, and not for long.
    fn bind_overridden(&self, dtab: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        self.bind(dtab, path)
    }

    /// The addresses of a bound id; live until dropped.
    fn resolve(&self, id: &Path) -> Activity<Addr>;

    /// How `path` resolves, step by step. Errors with the reason when the exploration fails as a whole.
    fn explain<'a>(&'a self, dtab: &'a DtabStack, path: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>>;

    /// False when [`Interpreter::explain`] never has an answer, because a transformer puts another name in place of all
    /// (naming reference §9).
    fn explains(&self) -> bool {
        true
    }

    /// How `path` resolves as far as it is known at this moment, for the text of an error: does not wait, and shows what
    /// is not known yet as an exception in its place. The addresses of leaves are not filled in. At most `bytes` bytes of
    /// paths and dentries. Failed when there is no such tree.
    fn explain_now(&self, _dtab: &DtabStack, _path: &Path, _bytes: usize) -> State<DelegateTree> {
        State::Failed("this interpreter explains by request only".into())
    }
}
