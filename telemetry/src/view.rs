//! The values of the tree at one moment, as plain data.
//!
//! What it is for: both exporters read this, so gauges are evaluated and families are merged in one place. What it is
//! not: atomic; counters move on while it is taken. Called by: `Metrics::render_*`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Summary;
use crate::node::{FamilyFn, Metric, Node};

/// One node: its own value and its children by name.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) value: Option<Value>,
    pub(crate) children: BTreeMap<Arc<str>, View>,
}

/// The value of a metric.
#[derive(Clone, Copy)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(f64),
    Stat(Summary),
}

impl View {
    pub(crate) fn of(node: &Node) -> View {
        let (metric, families) = node.read();
        let value = metric.map(|m| match m {
            Metric::Counter(counter) => Value::Counter(counter.get()),
            Metric::Stat(stat) => Value::Stat(stat.summary()),
            Metric::Gauge(all) => Value::Gauge(all.iter().map(|(_, f)| f()).sum()),
        });
        let children = node.children().iter().map(|child| (child.name(), View::of(child))).collect();
        let mut view = View { value, children };
        families.iter().for_each(|family| view.merge(family));
        view
    }

    /// Adds the counters of a family as children.
    fn merge(&mut self, family: &FamilyFn) {
        family(&mut |name, count| {
            if count == 0 {
                return;
            }
            let child = match self.children.get_mut(name) {
                Some(child) => child,
                None => self.children.entry(name.into()).or_default(),
            };
            match &mut child.value {
                None => child.value = Some(Value::Counter(count)),
                Some(Value::Counter(total)) => *total = total.wrapping_add(count),
                Some(_) => {}
            }
        });
    }

    /// The subtree at `path`: elements joined with `/`, each of which may itself contain `/`. The longest matching
    /// element is tried first, then shorter ones.
    pub(crate) fn find(&self, path: &str) -> Option<&View> {
        if path.is_empty() {
            return Some(self);
        }
        let mut ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        ends.push(path.len());
        ends.iter().rev().find_map(|&end| {
            let child = self.children.get(&path[..end])?;
            child.find(path[end..].strip_prefix('/').unwrap_or(""))
        })
    }
}
