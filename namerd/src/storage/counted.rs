//! [`Counted`]: a store whose calls are counted, below `dtabstore` (namerd reference §1).
//!
//! Called by `linker`, which puts it around whichever store the config names. Not for: what the calls do.

use super::{Condition, Entry, Note, Store, StoreError, Version, VersionedDtab};
use dtab::{Activity, BoxFuture, Dtab, State};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use telemetry::{Counter, Scope, Stat};

/// See the module.
pub struct Counted {
    store: Arc<dyn Store>,
    read: Calls,
    create: Calls,
    update: Calls,
    put: Calls,
    delete: Calls,
    history: Calls,
}

/// Of one method: `success`, `failures`, `latency_ms`.
struct Calls {
    success: Arc<Counter>,
    failures: Arc<Counter>,
    latency_ms: Arc<Stat>,
}

impl Calls {
    fn new(scope: &Scope, name: &str) -> Calls {
        let scope = scope.scope(name);
        Calls {
            success: scope.counter("success"),
            failures: scope.counter("failures"),
            latency_ms: scope.stat("latency_ms"),
        }
    }

    /// A failure is what the store could not do; that it has found a wish impossible is none.
    async fn count<T>(&self, call: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        let since = Instant::now();
        let done = call.await;
        self.latency_ms.add(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
        match &done {
            Err(StoreError::Unavailable(_) | StoreError::Forbidden(_)) => self.failures.incr(),
            _ => self.success.incr(),
        }
        done
    }
}

impl Counted {
    /// `store`, counted below `scope`: its calls, `namespaces`, `failing` (0 or 1), and `last_success_ms`, the age of the
    /// last answer of what is behind. The gauges stay as long as the scope.
    pub fn new(store: Arc<dyn Store>, scope: &Scope) -> Counted {
        let list = store.list();
        let namespaces = move || match list.peek() {
            State::Ok(list) => list.len() as f64,
            State::Pending | State::Failed(_) => 0.0,
        };
        scope.gauge("namespaces", namespaces).keep();
        let behind = store.clone();
        scope.gauge("failing", move || f64::from(u8::from(behind.condition().failing))).keep();
        let behind = store.clone();
        let age = move || behind.condition().last_success.map_or(-1.0, |age| age.as_millis() as f64);
        scope.gauge("last_success_ms", age).keep();
        let calls = |name| Calls::new(scope, name);
        Counted {
            read: calls("read"),
            create: calls("create"),
            update: calls("update"),
            put: calls("put"),
            delete: calls("delete"),
            history: calls("history"),
            store,
        }
    }
}

impl Store for Counted {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        self.store.list()
    }

    fn observe(&self, namespace: &str) -> Activity<Option<VersionedDtab>> {
        self.store.observe(namespace)
    }

    fn read(&self, namespace: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        Box::pin(self.read.count(self.store.read(namespace)))
    }

    fn create(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(self.create.count(self.store.create(namespace, dtab, note)))
    }

    fn update(
        &self,
        namespace: &str,
        dtab: Dtab,
        expected: Version,
        note: Note,
    ) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(self.update.count(self.store.update(namespace, dtab, expected, note)))
    }

    fn put(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(self.put.count(self.store.put(namespace, dtab, note)))
    }

    fn delete(&self, namespace: &str, expected: Option<Version>, note: Note) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.delete.count(self.store.delete(namespace, expected, note)))
    }

    fn history(&self, namespace: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        Box::pin(self.history.count(self.store.history(namespace, limit)))
    }

    fn report(&self) -> serde_json::Value {
        self.store.report()
    }

    fn condition(&self) -> Condition {
        self.store.condition()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::{MemoryStore, RETENTION};
    use telemetry::{JsonQuery, Metrics};

    #[tokio::test]
    async fn calls_and_namespaces_are_counted() {
        let metrics = Metrics::new();
        let store = Arc::new(MemoryStore::new(Default::default(), RETENTION));
        let store = Counted::new(store, &metrics.root().scope("dtabstore"));
        let dtab = || Dtab::parse("/a => /b").expect("a dtab");
        store.create("one", dtab(), Note::default()).await.expect("made");
        assert_eq!(store.create("one", dtab(), Note::default()).await, Err(StoreError::Exists));
        store.put("two", dtab(), Note::default()).await.expect("put");
        store.read("one").await.expect("read");
        let all: serde_json::Value =
            serde_json::from_str(&metrics.render_json(&JsonQuery::default()).expect("metrics")).expect("JSON");
        for (name, expected) in [
            ("create/success", 2.0),
            ("create/failures", 0.0),
            ("put/success", 1.0),
            ("read/success", 1.0),
            ("namespaces", 2.0),
            ("failing", 0.0),
            ("last_success_ms", 0.0),
        ] {
            assert_eq!(all[format!("dtabstore/{name}")].as_f64(), Some(expected), "{name}: {all}");
        }
    }
}
