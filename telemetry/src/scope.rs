//! The tree of scopes: where metrics are registered, found and removed.
//!
//! What it is for: giving out handles (telemetry reference sections 2 and 3). Look handles up once, when a component is
//! built, and keep them: registration takes locks, the handles do not. What it is not: the values (`counter`, `stat`) or
//! the text (`json`, `prometheus`). Called by: whoever builds a component that measures something; the admin pages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::node::{Metric, Node};
use crate::view::View;
use crate::{Counter, JsonError, JsonQuery, Stat, json, prometheus};

type Appendix = Arc<dyn Fn(&mut String) + Send + Sync>;

/// All metrics of a process. A clone is a reference to the same tree.
#[derive(Clone)]
pub struct Metrics {
    tree: Arc<Tree>,
}

struct Tree {
    root: Arc<Node>,
    ids: AtomicU64,
    conflicts: Arc<Counter>,
    appendices: RwLock<Vec<Appendix>>,
}

/// One place in the tree, under which metrics are registered. A clone is a reference to the same place.
#[derive(Clone)]
pub struct Scope {
    tree: Arc<Tree>,
    node: Arc<Node>,
}

/// Keeps a gauge or family registered; dropping it removes that registration (and only that one).
#[must_use = "the gauge disappears when its guard is dropped"]
pub struct GaugeGuard {
    node: Weak<Node>,
    id: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty tree.
    pub fn new() -> Self {
        let tree = Tree {
            root: Node::root(),
            ids: AtomicU64::new(0),
            conflicts: Arc::default(),
            appendices: RwLock::default(),
        };
        Self { tree: Arc::new(tree) }
    }

    /// The scope above all others.
    pub fn root(&self) -> Scope {
        Scope { tree: self.tree.clone(), node: self.tree.root.clone() }
    }

    /// Completes the current window of every stat. Call once a minute, from one place: exporters show the last completed
    /// window (telemetry reference section 2).
    pub fn snapshot(&self) {
        roll(&self.tree.root);
    }

    /// The body of `/admin/metrics.json` (telemetry reference section 8).
    ///
    /// # Errors
    /// The query names a subtree that does not exist: answer 404 with [`JsonError::to_json`].
    pub fn render_json(&self, q: &JsonQuery) -> Result<String, JsonError> {
        json::render(&View::of(&self.tree.root), q)
    }

    /// Appends the body of `/admin/metrics/prometheus` to `out` (telemetry reference section 9): the tree, every name
    /// starting with `prefix`, then what [`Metrics::append_prometheus`] registered, as it is.
    pub fn render_prometheus(&self, prefix: &str, out: &mut String) {
        prometheus::render(&View::of(&self.tree.root), prefix, out);
        let appendices = self.tree.appendices.read().clone();
        appendices.iter().for_each(|write| write(out));
    }

    /// Registers a writer of complete Prometheus text (with `# TYPE` lines and names of its own) that every
    /// [`Metrics::render_prometheus`] appends. Meant for [`crate::ControlMetrics`] and process metrics.
    pub fn append_prometheus(&self, write: impl Fn(&mut String) + Send + Sync + 'static) {
        self.tree.appendices.write().push(Arc::new(write));
    }
}

impl Scope {
    /// The child scope named by exactly one scope element, which may contain `/` (such as `127.0.0.1/4140`).
    pub fn scope(&self, element: &str) -> Scope {
        Scope { tree: self.tree.clone(), node: self.node.child(element) }
    }

    /// The counter at `name`, the same one for every caller. `a/b` means `b` under the scope `a`.
    ///
    /// If another kind of metric is there already, the handle works but is not exported, and the counter
    /// `telemetry/kind_conflicts` grows; the same holds for [`Scope::stat`] and [`Scope::gauge`].
    pub fn counter(&self, name: &str) -> Arc<Counter> {
        self.node.descend(name).counter().unwrap_or_else(|| self.conflict())
    }

    /// The stat at `name`, the same one for every caller. `a/b` means `b` under the scope `a`.
    pub fn stat(&self, name: &str) -> Arc<Stat> {
        self.node.descend(name).stat().unwrap_or_else(|| self.conflict())
    }

    /// Registers a gauge at `name`: `f` is called at read time, outside all locks. Several registrations are summed. The
    /// gauge is gone when the last guard is dropped.
    pub fn gauge(&self, name: &str, f: impl Fn() -> f64 + Send + Sync + 'static) -> GaugeGuard {
        let node = self.node.descend(name);
        let id = self.tree.ids.fetch_add(1, Ordering::Relaxed);
        if node.add_gauge(id, Arc::new(f)) {
            return GaugeGuard { node: Arc::downgrade(&node), id };
        }
        self.conflict::<()>();
        GaugeGuard { node: Weak::new(), id }
    }

    /// Registers dynamic counters under `name`, e.g. `status` with the children `200` and `2XX`: at read time `f` reports
    /// (child, count) pairs. A child is one scope element. Zeros are not emitted; equal children of several registrations
    /// and of registered counters are summed. The node itself may hold a metric as well (such as `failures`).
    pub fn family(&self, name: &str, f: impl Fn(&mut dyn FnMut(&str, u64)) + Send + Sync + 'static) -> GaugeGuard {
        let node = self.node.descend(name);
        let id = self.tree.ids.fetch_add(1, Ordering::Relaxed);
        node.add_family(id, Arc::new(f));
        GaugeGuard { node: Arc::downgrade(&node), id }
    }

    /// Removes this subtree from the tree. Handles and scopes still held keep working, unexported; asking the parent for
    /// this element again makes a new scope that starts from 0. On the root: removes everything below it.
    pub fn prune(&self) {
        self.node.prune();
    }

    /// Counts a registration on a node that another kind occupies; gives a detached handle.
    fn conflict<T: Default>(&self) -> T {
        self.tree.conflicts.incr();
        self.tree.root.descend("telemetry/kind_conflicts").offer_counter(&self.tree.conflicts);
        T::default()
    }
}

impl GaugeGuard {
    /// Leaves the registration in place for as long as its scope exists.
    pub fn keep(mut self) {
        self.node = Weak::new();
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade() {
            node.remove(self.id);
        }
    }
}

fn roll(node: &Node) {
    if let (Some(Metric::Stat(stat)), _) = node.read() {
        stat.roll();
    }
    node.children().iter().for_each(|child| roll(child));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(metrics: &Metrics) -> serde_json::Value {
        serde_json::from_str(&metrics.render_json(&JsonQuery::default()).unwrap()).unwrap()
    }

    #[test]
    fn the_same_name_is_the_same_handle() {
        let metrics = Metrics::new();
        let scope = metrics.root().scope("rt").scope("http");
        scope.counter("a/b").incr();
        scope.scope("a").counter("b").add(2);
        assert_eq!(flat(&metrics), serde_json::json!({"rt/http/a/b": 3}));
    }

    #[test]
    fn an_occupied_node_gives_a_detached_handle_and_is_counted() {
        let metrics = Metrics::new();
        let root = metrics.root();
        root.counter("x").incr();
        root.stat("x").add(4);
        let guard = root.gauge("x", || 9.0);
        assert_eq!(flat(&metrics), serde_json::json!({"x": 1, "telemetry/kind_conflicts": 2}));
        drop(guard);
        assert_eq!(flat(&metrics)["x"], 1);
    }

    #[test]
    fn gauges_are_summed_while_their_guards_live() {
        let metrics = Metrics::new();
        let root = metrics.root();
        let one = root.gauge("pool/size", || 1.0);
        let two = root.gauge("pool/size", || 2.5);
        assert_eq!(flat(&metrics)["pool/size"], 3.5);
        drop(one);
        assert_eq!(flat(&metrics)["pool/size"], 2.5);
        drop(two);
        assert_eq!(flat(&metrics), serde_json::json!({}));
        root.gauge("pool/size", || 4.0).keep();
        assert_eq!(flat(&metrics)["pool/size"], 4.0);
    }

    #[test]
    fn families_emit_what_is_not_zero_and_add_up() {
        let metrics = Metrics::new();
        let root = metrics.root();
        root.counter("failures").add(3);
        root.counter("failures/b").incr();
        let _one = root.family("failures", |emit| {
            emit("a/x", 1);
            emit("zero", 0);
        });
        let two = root.family("failures", |emit| {
            emit("a/x", 4);
            emit("b", 1);
        });
        assert_eq!(flat(&metrics), serde_json::json!({"failures": 3, "failures/a/x": 5, "failures/b": 2}));
        drop(two);
        assert_eq!(flat(&metrics), serde_json::json!({"failures": 3, "failures/a/x": 1, "failures/b": 1}));
    }

    #[test]
    fn prune_detaches_and_a_new_scope_starts_from_zero() {
        let metrics = Metrics::new();
        let clients = metrics.root().scope("client");
        let old = clients.scope("#/io.l5d.fs/web");
        let requests = old.counter("requests");
        requests.incr();
        old.prune();
        assert_eq!(flat(&metrics), serde_json::json!({}));
        requests.incr();
        assert_eq!(requests.get(), 2);
        clients.scope("#/io.l5d.fs/web").counter("requests").add(7);
        old.prune();
        assert_eq!(flat(&metrics), serde_json::json!({"client/#/io.l5d.fs/web/requests": 7}));
        metrics.root().prune();
        assert_eq!(flat(&metrics), serde_json::json!({}));
    }

    #[test]
    fn a_gauge_may_use_the_tree_and_own_guards() {
        let metrics = Metrics::new();
        let root = metrics.root();
        let inner = root.gauge("g", || 1.0);
        let tree = root.clone();
        let outer = root.gauge("g", move || {
            let _ = &inner;
            tree.counter("reads").incr();
            1.0
        });
        assert_eq!(flat(&metrics)["g"], 2.0);
        drop(outer);
        assert_eq!(flat(&metrics)["reads"], 1);
        assert_eq!(flat(&metrics).get("g"), None);
    }
}
