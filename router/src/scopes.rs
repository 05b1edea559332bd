//! Metric scopes with an end: a scope is pruned when the last thing that counts in it is gone.
//!
//! Services, clients and their pairs come and go with the names that are asked for; several can share one scope (a
//! name under different overrides). Whoever counts holds a [`ScopeLease`].

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use telemetry::Scope;

/// The live scopes of one router, by path below it.
pub struct Scopes {
    root: Scope,
    live: Mutex<HashMap<Vec<String>, Weak<ScopeLease>>>,
}

/// A scope in use; pruned with the last lease on it.
pub struct ScopeLease {
    /// The scope.
    pub scope: Scope,
    path: Vec<String>,
    owner: Arc<Scopes>,
}

impl Scopes {
    /// Scopes below `root`, which is `rt/<router>`.
    pub fn new(root: Scope) -> Arc<Scopes> {
        Arc::new(Scopes { root, live: Mutex::default() })
    }

    /// The scope above them.
    pub fn root(&self) -> &Scope {
        &self.root
    }

    /// A lease on the scope at `path`, shared with everybody who counts there.
    pub fn lease(self: &Arc<Scopes>, path: &[&str]) -> Arc<ScopeLease> {
        let path: Vec<String> = path.iter().map(|&element| element.to_owned()).collect();
        let mut live = self.live.lock();
        if let Some(lease) = live.get(&path).and_then(Weak::upgrade) {
            return lease;
        }
        let scope = path.iter().fold(self.root.clone(), |scope, element| scope.scope(element));
        let lease = Arc::new(ScopeLease { scope, path: path.clone(), owner: self.clone() });
        live.insert(path, Arc::downgrade(&lease));
        lease
    }
}

impl Drop for ScopeLease {
    fn drop(&mut self) {
        let mut live = self.owner.live.lock();
        // Somebody else may have taken a new lease on the same scope since this one ended.
        if live.get(&self.path).is_some_and(|lease| lease.strong_count() == 0) {
            live.remove(&self.path);
            self.scope.prune();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::{JsonQuery, Metrics};

    fn names(metrics: &Metrics) -> String {
        metrics.render_json(&JsonQuery::default()).expect("JSON")
    }

    #[test]
    fn a_scope_ends_with_its_last_lease() {
        let metrics = Metrics::new();
        let scopes = Scopes::new(metrics.root().scope("rt"));
        let (a, b) = (scopes.lease(&["service", "svc/web"]), scopes.lease(&["service", "svc/web"]));
        a.scope.counter("requests").incr();
        b.scope.counter("requests").incr();
        assert!(names(&metrics).contains("rt/service/svc/web/requests\":2"), "{}", names(&metrics));
        drop(a);
        assert!(names(&metrics).contains("svc/web"));
        drop(b);
        assert!(!names(&metrics).contains("svc/web"), "{}", names(&metrics));
        let again = scopes.lease(&["service", "svc/web"]);
        again.scope.counter("requests").incr();
        assert!(names(&metrics).contains("rt/service/svc/web/requests\":1"));
        assert_eq!(scopes.live.lock().len(), 1);
    }
}
