//! A store that fails as it is told to.

use crate::storage::{Entry, Note, Store, StoreError, Version, VersionedDtab};
use dtab::{Activity, BoxFuture, Dtab, State};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How requests to the store end.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Never.
    Silence,
    Error(StoreError),
    /// A defect of ours.
    Panic,
}

/// What observers see of every namespace, and what all requests come to.
pub(super) struct Away(pub(super) Activity<Option<VersionedDtab>>, pub(super) Fault);

impl Away {
    fn ends<'a, T: Send + 'a>(&self) -> BoxFuture<'a, Result<T, StoreError>> {
        let fault = self.1.clone();
        Box::pin(async {
            match fault {
                Fault::Silence => std::future::pending().await,
                Fault::Error(error) => Err(error),
                Fault::Panic => panic!("a defect on purpose"),
            }
        })
    }
}

impl Store for Away {
    fn kind(&self) -> &'static str {
        "away"
    }
    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        Activity::constant(State::Pending)
    }
    fn observe(&self, _: &str) -> Activity<Option<VersionedDtab>> {
        self.0.clone()
    }
    fn read(&self, _: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        self.ends()
    }
    fn create(&self, _: &str, _: Dtab, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.ends()
    }
    fn update(&self, _: &str, _: Dtab, _: Version, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.ends()
    }
    fn put(&self, _: &str, _: Dtab, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.ends()
    }
    fn delete(&self, _: &str, _: Option<Version>, _: Note) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ends()
    }
    fn history(&self, _: &str, _: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.ends()
    }
    fn report(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
