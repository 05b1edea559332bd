//! Failures by class.
//!
//! What it is for: `failures/<class>` below the `failures` counter of a request scope (telemetry reference section 4.1).
//! What it is not: that counter itself (`request`), or on the path of successful requests. Called by: the request path
//! when a request failed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::{Counter, Scope};

/// The failure classes of one scope. A class appears with its first failure.
pub struct Failures {
    scope: Scope,
    classes: RwLock<HashMap<&'static str, Arc<[Arc<Counter>]>>>,
}

impl Failures {
    /// Classes will appear under `scope`/`failures`.
    pub fn new(scope: &Scope) -> Self {
        Self { scope: scope.scope("failures"), classes: RwLock::default() }
    }

    /// Counts a failure. `class` is a constant; levels of a cause chain or a leading flag are separated by `/`, and each
    /// level is counted: `rejected/A` moves `failures/rejected` and `failures/rejected/A`.
    pub fn record(&self, class: &'static str) {
        if let Some(levels) = self.classes.read().get(class) {
            return levels.iter().for_each(|c| c.incr());
        }
        let levels = self.levels(class);
        levels.iter().for_each(|c| c.incr());
        self.classes.write().insert(class, levels);
    }

    fn levels(&self, class: &str) -> Arc<[Arc<Counter>]> {
        let ends = class.match_indices('/').map(|(at, _)| at).chain([class.len()]);
        ends.filter(|end| *end > 0).map(|end| self.scope.counter(&class[..end])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    #[test]
    fn every_level_is_counted() {
        let metrics = Metrics::new();
        metrics.root().counter("failures").add(3);
        let failures = Failures::new(&metrics.root());
        failures.record("rejected/A/B");
        failures.record("rejected/A/B");
        failures.record("C");
        let text = metrics.render_json(&JsonQuery::default()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "failures": 3, "failures/rejected": 2, "failures/rejected/A": 2, "failures/rejected/A/B": 2, "failures/C": 1
            })
        );
    }
}
