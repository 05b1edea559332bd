//! What a walk through names reads from the configured namers, kept from one evaluation to the next.
//!
//! [`Subscriptions`] are the namers' side of `dtab::bind` and `dtab::explain`; [`Binder`] is the update loop of one
//! binding. Called by the local interpreter. Not for: the walk itself, which is pure and lives in `dtab`.

use crate::update::{Work, any_of, change};
use crate::watch::panic_text;
use dtab::{Activity, BoundName, BoxFuture, Dtab, DtabStack, Lookups, Name, NameTree, Namer, Path, State};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A namer whose lookup panicked is asked again after this.
const PANIC_RETRY: Duration = Duration::from_secs(5);

/// A union of which some branches are not known yet is not published for so long: at a start, or after an edit, all
/// traffic would go to the branch that happens to be known (namerd reference §1, a quirk of Linkerd).
const GAPS: Duration = Duration::from_millis(500);

/// A configured namer with its prefix.
pub(crate) struct Configured {
    pub(crate) prefix: Path,
    pub(crate) namer: Arc<dyn Namer>,
}

type Tree = State<NameTree<Name>>;

struct Subscription {
    activity: Activity<NameTree<Name>>,
    /// What the evaluation under way has read. One evaluation reads once: a second read would mark a newer state as
    /// seen that the first part of the evaluation did not use.
    read: Option<Tree>,
}

/// Live lookups, by namer and path.
pub(crate) struct Subscriptions {
    namers: Arc<[Configured]>,
    live: HashMap<(usize, Path), Subscription>,
    panicked: bool,
}

impl Subscriptions {
    pub(crate) fn new(namers: Arc<[Configured]>) -> Subscriptions {
        Subscriptions { namers, live: HashMap::new(), panicked: false }
    }

    /// Runs one evaluation: lookups are answered by `self`, and those that it did not make are dropped afterwards.
    pub(crate) fn evaluate<T>(&mut self, walk: impl FnOnce(&mut dyn Lookups) -> T) -> T {
        self.panicked = false;
        let result = walk(self);
        self.live.retain(|_, subscription| subscription.read.take().is_some());
        result
    }

    /// A wait for each lookup that the last evaluation made.
    pub(crate) fn changes(&mut self) -> Vec<BoxFuture<'_, ()>> {
        let mut waits: Vec<BoxFuture<'_, ()>> = self.live.values_mut().map(|live| change(&mut live.activity)).collect();
        if self.panicked {
            waits.push(Box::pin(tokio::time::sleep(PANIC_RETRY)));
        }
        waits
    }

    fn read(&mut self, index: usize, rest: Path) -> Tree {
        let key = (index, rest);
        if let Some(live) = self.live.get_mut(&key) {
            return live.read.get_or_insert_with(|| live.activity.get()).clone();
        }
        let Configured { prefix, namer } = &self.namers[index];
        match catch_unwind(AssertUnwindSafe(|| namer.lookup(&key.1))) {
            Ok(mut activity) => {
                let state = activity.get();
                self.live.insert(key, Subscription { activity, read: Some(state.clone()) });
                state
            }
            Err(panic) => {
                self.panicked = true;
                State::Failed(format!("namer {prefix}: {}", panic_text(&*panic)).into())
            }
        }
    }
}

impl Lookups for Subscriptions {
    /// The first answer that is not Neg (naming reference §4.1, step 2).
    fn lookup(&mut self, path: &Path) -> Tree {
        for index in 0..self.namers.len() {
            let prefix = &self.namers[index].prefix;
            if !path.starts_with(prefix) {
                continue;
            }
            let rest = path.skip(prefix.len());
            match self.read(index, rest) {
                State::Ok(NameTree::Neg) => {}
                answer => return answer,
            }
        }
        State::Ok(NameTree::Neg)
    }
}

/// One live binding.
pub(crate) struct Binder {
    own: Option<Activity<Dtab>>,
    dtab: DtabStack,
    path: Path,
    subscriptions: Subscriptions,
    waiting: Waiting,
}

/// How long a tree with gaps is withheld.
#[derive(Default)]
struct Waiting {
    /// Until when gaps in unions are waited for; None without gaps.
    patience: Option<Instant>,
    /// The last tree was withheld, so that it must be looked at again when the time is over.
    withheld: bool,
    /// What the last tree was bound by: another dtab has its own gaps, with their own time.
    dtab: Option<DtabStack>,
}

impl Binder {
    /// The binding of `path` by `dtab`, above a dtab of the interpreter's own.
    pub(crate) fn new(
        own: Option<Activity<Dtab>>,
        dtab: DtabStack,
        path: Path,
        subscriptions: Subscriptions,
    ) -> Binder {
        Binder { own, dtab, path, subscriptions, waiting: Waiting::default() }
    }
}

impl Waiting {
    /// Pending for a while, when unions have gaps: what was published before stays meanwhile.
    fn complete(
        &mut self,
        dtab: DtabStack,
        tree: State<NameTree<BoundName>>,
        gaps: bool,
    ) -> State<NameTree<BoundName>> {
        if !gaps || self.dtab.as_ref() != Some(&dtab) {
            self.patience = None;
        }
        self.dtab = Some(dtab);
        let now = Instant::now();
        self.withheld = gaps && now < *self.patience.get_or_insert(now + GAPS);
        if self.withheld { State::Pending } else { tree }
    }
}

impl Work for Binder {
    type Out = NameTree<BoundName>;

    fn evaluate(&mut self) -> State<NameTree<BoundName>> {
        self.waiting.withheld = false;
        match stacked(self.own.as_mut(), &self.dtab) {
            State::Ok(dtab) => {
                let (tree, gaps) =
                    self.subscriptions.evaluate(|lookups| dtab::bind_with_gaps(&dtab, &self.path, lookups));
                self.waiting.complete(dtab, tree, gaps)
            }
            State::Pending => State::Pending,
            State::Failed(reason) => State::Failed(reason),
        }
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        let mut waits = self.subscriptions.changes();
        waits.extend(self.own.as_mut().map(change));
        // Also when the time is over since the evaluation: then it is done again at once.
        if let Some(until) = self.waiting.patience.filter(|_| self.waiting.withheld) {
            waits.push(Box::pin(tokio::time::sleep_until(until)));
        }
        Box::pin(any_of(waits))
    }
}

/// The interpreter's own dtab below the one given (naming reference §4.1).
pub(crate) fn stacked(own: Option<&mut Activity<Dtab>>, dtab: &DtabStack) -> State<DtabStack> {
    match own.map(Activity::get) {
        None => State::Ok(dtab.clone()),
        Some(State::Ok(own)) => State::Ok(dtab.below(own)),
        Some(State::Pending) => State::Pending,
        Some(State::Failed(reason)) => State::Failed(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(text: &str) -> DtabStack {
        DtabStack::new([Dtab::parse(text).expect("a dtab")])
    }

    #[tokio::test(start_paused = true)]
    async fn a_withheld_tree_is_looked_at_again_though_its_time_is_over() {
        let subscriptions = Subscriptions::new(Arc::new([]));
        let mut binder = Binder::new(None, DtabStack::default(), Path::empty(), subscriptions);
        let tree = State::Ok(NameTree::Neg);
        assert_eq!(binder.waiting.complete(stack("/a => /b"), tree.clone(), true), State::Pending);
        tokio::time::advance(GAPS * 2).await;
        tokio::time::timeout(Duration::from_millis(1), binder.changed()).await.expect("at once");
        assert_eq!(binder.waiting.complete(stack("/a => /b"), tree.clone(), true), tree);
        assert_eq!(binder.waiting.complete(stack("/a => /c"), tree.clone(), true), State::Pending, "another dtab");
        assert_eq!(binder.waiting.complete(stack("/a => /c"), tree.clone(), false), tree);
        assert!(tokio::time::timeout(GAPS * 2, binder.changed()).await.is_err(), "nothing is withheld");
    }
}
