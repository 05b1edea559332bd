//! Transformers at work: [`TransformedInterpreter`] changes every binding of an interpreter, [`TransformedNamer`] the
//! answers of one namer (naming reference §9).
//!
//! Decorators: several transformers are one inside the other, the last one outermost. What they publish follows what they
//! read. The addresses of an id are found by taking its mark off, asking the decorated one, and transforming again. Called
//! by the linker. Not for: what a transformer does (`transform`).

use crate::addresses;
use crate::transform::{AddressTransformer, Replacement, Transformer};
use crate::update::{Work, any_of, change, follow};
use dtab::{
    Activity, Addr, AddrSet, BoundName, BoxFuture, DelegateTree, DtabStack, Interpreter, Name, NameTree, Namer, Path,
    State,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;

type Bound = NameTree<BoundName>;

/// An interpreter whose every binding goes through a transformer.
pub struct TransformedInterpreter {
    inner: Arc<dyn Interpreter>,
    live: Live,
}

/// A namer whose answers go through a transformer, but for those that hold a path to be looked up again.
pub struct TransformedNamer {
    inner: Arc<dyn Namer>,
    live: Live,
}

impl TransformedInterpreter {
    /// `inner` behind `transformer`. The path of a replacement is bound by `global`: the configured namers and `/$`,
    /// without the transformers of interpreters. Tasks run on `handle`.
    pub fn new(
        inner: Arc<dyn Interpreter>,
        transformer: Transformer,
        global: Arc<dyn Interpreter>,
        handle: Handle,
    ) -> TransformedInterpreter {
        TransformedInterpreter { inner, live: Live { transformer, global, handle } }
    }
}

impl TransformedInterpreter {
    fn rebound(&self, input: Activity<Bound>) -> Activity<Bound> {
        follow(&self.live.handle, Rebinding { input, change: self.live.change() })
    }
}

impl TransformedNamer {
    /// `inner` behind `transformer`. The path of a replacement is bound by `global`, which must not lead back to this namer.
    /// Tasks run on `handle`.
    pub fn new(
        inner: Arc<dyn Namer>,
        transformer: Transformer,
        global: Arc<dyn Interpreter>,
        handle: Handle,
    ) -> TransformedNamer {
        TransformedNamer { inner, live: Live { transformer, global, handle } }
    }
}

impl Interpreter for TransformedInterpreter {
    /// Pending and Failed pass; so do those of the replacement's own binding.
    fn bind(&self, dtab: &DtabStack, path: &Path) -> Activity<Bound> {
        self.rebound(self.inner.bind(dtab, path))
    }

    fn bind_overridden(&self, dtab: &DtabStack, path: &Path) -> Activity<Bound> {
        self.rebound(self.inner.bind_overridden(dtab, path))
    }

    /// Neg for an id without the mark: this interpreter gave none out.
    fn resolve(&self, id: &Path) -> Activity<Addr> {
        let unknown = || Activity::constant(State::Ok(Addr::Neg));
        self.live.resolve(id, &|before| self.inner.resolve(before)).unwrap_or_else(unknown)
    }

    fn explain<'a>(&'a self, dtab: &'a DtabStack, path: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async move {
            let Transformer::Addresses(transformer) = &self.live.transformer else {
                return Err("a transformer puts another name in the place of all names: nothing to show".to_owned());
            };
            let mut tree = self.inner.explain(dtab, path).await?;
            tree.change_leaves(&mut |leaf| transformer.explain(leaf));
            Ok(tree)
        })
    }

    fn explain_now(&self, dtab: &DtabStack, path: &Path, bytes: usize) -> State<DelegateTree> {
        let Transformer::Addresses(transformer) = &self.live.transformer else {
            return State::Failed("a transformer puts another name in the place of all names".into());
        };
        let mut explained = self.inner.explain_now(dtab, path, bytes);
        if let State::Ok(tree) = &mut explained {
            tree.change_leaves(&mut |leaf| transformer.explain(leaf));
        }
        explained
    }

    fn explains(&self) -> bool {
        matches!(self.live.transformer, Transformer::Addresses(_)) && self.inner.explains()
    }
}

impl Namer for TransformedNamer {
    fn prefix(&self) -> &Path {
        self.inner.prefix()
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        let answering = Answering { input: self.inner.lookup(rest), change: self.live.change() };
        follow(&self.live.handle, answering)
    }

    /// An id without the mark is one of an answer that was passed on as it is.
    fn resolve(&self, id: &Path) -> Activity<Addr> {
        self.live.resolve(id, &|before| self.inner.resolve(before)).unwrap_or_else(|| self.inner.resolve(id))
    }
}

/// What both decorators do.
struct Live {
    transformer: Transformer,
    global: Arc<dyn Interpreter>,
    handle: Handle,
}

impl Live {
    /// The transformer for one live tree.
    fn change(&self) -> Change {
        match &self.transformer {
            Transformer::Addresses(transformer) => Change::Addresses(transformer.clone()),
            Transformer::Replacement(replacement) => {
                let binding = self.global.bind(&DtabStack::default(), &replacement.path);
                Change::Replacement(replacement.clone(), binding)
            }
        }
    }

    /// The addresses of an id that this transformer made; None for any other id.
    fn resolve(&self, id: &Path, inner: &dyn Fn(&Path) -> Activity<Addr>) -> Option<Activity<Addr>> {
        match &self.transformer {
            Transformer::Addresses(transformer) => {
                let input = inner(&transformer.before(id)?);
                Some(follow(&self.handle, Readdressing { input, transformer: transformer.clone() }))
            }
            Transformer::Replacement(replacement) => (*id == replacement.id()).then(|| {
                let tree = self.global.bind(&DtabStack::default(), &replacement.path);
                follow(&self.handle, Gathering { tree, global: self.global.clone(), live: HashMap::new() })
            }),
        }
    }
}

/// A transformer with what it reads for one live tree.
enum Change {
    Addresses(AddressTransformer),
    Replacement(Replacement, Activity<Bound>),
}

impl Change {
    /// What becomes of `tree`. Reads the binding of a replacement whatever the tree is, so that a wait for its change is a
    /// wait for something new.
    fn apply(&mut self, tree: State<Bound>) -> State<Bound> {
        match self {
            Change::Addresses(transformer) => match tree {
                State::Ok(tree) => State::Ok(transformer.tree(&tree)),
                other => other,
            },
            Change::Replacement(replacement, binding) => match (tree, binding.get()) {
                (State::Ok(tree), State::Ok(binding)) => State::Ok(replacement.tree(&tree, &binding)),
                (State::Ok(tree), other) if replacement.needs_binding(&tree) => other,
                (other, _) => other,
            },
        }
    }

    fn changed(&mut self) -> Option<BoxFuture<'_, ()>> {
        match self {
            Change::Addresses(_) => None,
            Change::Replacement(_, binding) => Some(change(binding)),
        }
    }
}

/// A binding, transformed.
struct Rebinding {
    input: Activity<Bound>,
    change: Change,
}

impl Work for Rebinding {
    type Out = Bound;

    fn evaluate(&mut self) -> State<Bound> {
        self.change.apply(self.input.get())
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        let waits = [Some(change(&mut self.input)), self.change.changed()];
        Box::pin(any_of(waits.into_iter().flatten().collect()))
    }
}

/// The answer of a namer, transformed.
struct Answering {
    input: Activity<NameTree<Name>>,
    change: Change,
}

impl Work for Answering {
    type Out = NameTree<Name>;

    fn evaluate(&mut self) -> State<NameTree<Name>> {
        let answer = self.input.get();
        let bound = match &answer {
            State::Ok(tree) => all_bound(tree).map(State::Ok),
            State::Pending => Some(State::Pending),
            State::Failed(reason) => Some(State::Failed(reason.clone())),
        };
        let passes = bound.is_none();
        match self.change.apply(bound.unwrap_or(State::Pending)) {
            _ if passes => answer,
            State::Ok(tree) => State::Ok(tree.map(&mut |name| Name::Bound(name.clone()))),
            State::Pending => State::Pending,
            State::Failed(reason) => State::Failed(reason),
        }
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        let waits = [Some(change(&mut self.input)), self.change.changed()];
        Box::pin(any_of(waits.into_iter().flatten().collect()))
    }
}

/// The tree when every leaf is bound.
fn all_bound(tree: &NameTree<Name>) -> Option<Bound> {
    let mut unbound = false;
    tree.for_each(&mut |name| unbound |= matches!(name, Name::Path(_)));
    let name = |name: &Name| match name {
        Name::Bound(name) => name.clone(),
        Name::Path(path) => BoundName { id: path.clone(), residual: Path::empty() },
    };
    (!unbound).then(|| tree.map(&mut |leaf| name(leaf)))
}

/// Addresses, transformed.
struct Readdressing {
    input: Activity<Addr>,
    transformer: AddressTransformer,
}

impl Work for Readdressing {
    type Out = Addr;

    fn evaluate(&mut self) -> State<Addr> {
        addresses::publish(self.transformer.addr(&addresses::read(self.input.get())))
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        change(&mut self.input)
    }

    fn keeps(&self, current: &State<Addr>, new: &State<Addr>) -> bool {
        addresses::keeps(current, new)
    }
}

/// The addresses of all names that a path is bound to. Mostly that is one name.
struct Gathering {
    tree: Activity<Bound>,
    global: Arc<dyn Interpreter>,
    live: HashMap<Path, Activity<Addr>>,
}

impl Work for Gathering {
    type Out = Addr;

    fn evaluate(&mut self) -> State<Addr> {
        let tree = match self.tree.get() {
            State::Ok(tree) => tree,
            State::Pending => return State::Pending,
            State::Failed(reason) => return State::Ok(Addr::Failed(reason)),
        };
        let mut before = std::mem::take(&mut self.live);
        let mut ids = Vec::new();
        tree.for_each(&mut |name| ids.push(name.id.clone()));
        let mut known = Vec::new();
        for id in ids {
            if !self.live.contains_key(&id) {
                let mut addr = before.remove(&id).unwrap_or_else(|| self.global.resolve(&id));
                known.push(addresses::read(addr.get()));
                self.live.insert(id, addr);
            }
        }
        addresses::publish(merge(known))
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        let mut waits: Vec<BoxFuture<'_, ()>> = self.live.values_mut().map(change).collect();
        waits.push(change(&mut self.tree));
        Box::pin(any_of(waits))
    }

    fn keeps(&self, current: &State<Addr>, new: &State<Addr>) -> bool {
        addresses::keeps(current, new)
    }
}

/// All addresses that are known; without any, whether some may still be.
fn merge(states: Vec<Addr>) -> Addr {
    let mut sets: Vec<AddrSet> = Vec::new();
    let (mut pending, mut failed) = (false, None);
    for state in states {
        match state {
            Addr::Bound(set) => sets.push(set),
            Addr::Pending => pending = true,
            Addr::Failed(reason) => failed = failed.or(Some(reason)),
            Addr::Neg => {}
        }
    }
    match (sets.len(), pending, failed) {
        (0, true, _) => Addr::Pending,
        (0, false, Some(reason)) => Addr::Failed(reason),
        (0, false, None) => Addr::Neg,
        (1, ..) => Addr::Bound(sets.remove(0)),
        _ => Addr::Bound(AddrSet::new(sets.iter().flat_map(|set| set.addresses.iter().cloned()))),
    }
}

#[cfg(test)]
#[path = "transformed_tests.rs"]
mod tests;
