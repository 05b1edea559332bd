//! One node of the scope tree: a name, at most one metric, dynamic child counters, children.
//!
//! What it is for: the storage behind `Scope`. What it is not: public, or on the request path; every lock here is held
//! for a map or vector operation only, never while foreign code runs. Called by: `scope` and `view`.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use crate::{Counter, Stat};

/// A gauge's callback.
pub(crate) type GaugeFn = Arc<dyn Fn() -> f64 + Send + Sync>;
/// A family's callback: reports (child name, count) pairs.
pub(crate) type FamilyFn = Arc<dyn Fn(&mut dyn FnMut(&str, u64)) + Send + Sync>;

/// A scope of the tree. Children point to their parent weakly; a pruned node lives as long as somebody holds it.
pub(crate) struct Node {
    name: Arc<str>,
    parent: Weak<Node>,
    children: RwLock<BTreeMap<Arc<str>, Arc<Node>>>,
    slot: Mutex<Slot>,
}

/// What a node measures itself.
#[derive(Default)]
struct Slot {
    metric: Option<Metric>,
    families: Vec<(u64, FamilyFn)>,
}

/// The metric of a node.
#[derive(Clone)]
pub(crate) enum Metric {
    Counter(Arc<Counter>),
    Stat(Arc<Stat>),
    Gauge(Vec<(u64, GaugeFn)>),
}

impl Node {
    pub(crate) fn root() -> Arc<Self> {
        Self::new("".into(), Weak::new())
    }

    fn new(name: Arc<str>, parent: Weak<Node>) -> Arc<Self> {
        Arc::new(Self { name, parent, children: RwLock::default(), slot: Mutex::default() })
    }

    /// The child of this name, made if missing. `element` may contain `/`.
    pub(crate) fn child(self: &Arc<Self>, element: &str) -> Arc<Node> {
        if let Some(found) = self.children.read().get(element) {
            return found.clone();
        }
        let name: Arc<str> = element.into();
        let make = || Self::new(name.clone(), Arc::downgrade(self));
        self.children.write().entry(name.clone()).or_insert_with(make).clone()
    }

    /// The descendant at `a/b/c`, one level per non-empty part.
    pub(crate) fn descend(self: &Arc<Self>, path: &str) -> Arc<Node> {
        path.split('/').filter(|p| !p.is_empty()).fold(self.clone(), |node, part| node.child(part))
    }

    pub(crate) fn children(&self) -> Vec<Arc<Node>> {
        self.children.read().values().cloned().collect()
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// Takes this subtree out of the tree; the root only loses its children.
    pub(crate) fn prune(self: &Arc<Self>) {
        let Some(parent) = self.parent.upgrade() else {
            let gone = std::mem::take(&mut *self.children.write());
            drop(gone);
            return;
        };
        let mut siblings = parent.children.write();
        if siblings.get(&self.name).is_some_and(|current| Arc::ptr_eq(current, self)) {
            let gone = siblings.remove(&self.name);
            drop(siblings);
            drop(gone);
        }
    }

    /// The counter here, made if the node is free; `None` if another kind occupies it.
    pub(crate) fn counter(&self) -> Option<Arc<Counter>> {
        let mut slot = self.slot.lock();
        match slot.metric.get_or_insert_with(|| Metric::Counter(Arc::default())) {
            Metric::Counter(counter) => Some(counter.clone()),
            _ => None,
        }
    }

    /// Puts an existing counter here if the node is free.
    pub(crate) fn offer_counter(&self, counter: &Arc<Counter>) {
        self.slot.lock().metric.get_or_insert_with(|| Metric::Counter(counter.clone()));
    }

    /// The stat here, made if the node is free; `None` if another kind occupies it.
    pub(crate) fn stat(&self) -> Option<Arc<Stat>> {
        let mut slot = self.slot.lock();
        match slot.metric.get_or_insert_with(|| Metric::Stat(Arc::default())) {
            Metric::Stat(stat) => Some(stat.clone()),
            _ => None,
        }
    }

    /// Adds a gauge registration; false if another kind occupies the node.
    pub(crate) fn add_gauge(&self, id: u64, gauge: GaugeFn) -> bool {
        let mut slot = self.slot.lock();
        match slot.metric.get_or_insert_with(|| Metric::Gauge(Vec::new())) {
            Metric::Gauge(all) => {
                all.push((id, gauge));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn add_family(&self, id: u64, family: FamilyFn) {
        self.slot.lock().families.push((id, family));
    }

    /// Removes the gauge or family registered under `id`; what the callback owns is dropped after the lock.
    pub(crate) fn remove(&self, id: u64) {
        let mut slot = self.slot.lock();
        let family = take(&mut slot.families, id);
        let mut gauge = None;
        if let Some(Metric::Gauge(all)) = &mut slot.metric {
            gauge = take(all, id);
            if all.is_empty() {
                slot.metric = None;
            }
        }
        drop(slot);
        drop((family, gauge));
    }

    /// Handles to everything measured here, for reading without the lock.
    pub(crate) fn read(&self) -> (Option<Metric>, Vec<FamilyFn>) {
        let slot = self.slot.lock();
        (slot.metric.clone(), slot.families.iter().map(|(_, f)| f.clone()).collect())
    }
}

fn take<T>(all: &mut Vec<(u64, T)>, id: u64) -> Option<T> {
    let at = all.iter().position(|(i, _)| *i == id)?;
    Some(all.swap_remove(at).1)
}
