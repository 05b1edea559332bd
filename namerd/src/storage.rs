//! Where dtabs are kept: the trait [`Store`] and what crosses it.
//!
//! Each kind has one file below this folder. Called by [`crate::names`] and the interfaces. Not for: parsing dtabs, rights
//! of callers.

pub mod consul;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod counted;
pub mod etcd;
mod history;
mod http;
pub mod local;
pub mod memory;
mod note;
pub mod observed;
mod shared;
mod write;
#[cfg(feature = "zk")]
pub mod zk;

pub use http::Endpoint;
pub use note::Note;
pub use write::Retention;

use bytes::Bytes;
use dtab::{Activity, BoxFuture, Dtab};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Opaque; a client gets it as an ETag and gives it back to change what it has seen. Versions of one store are ordered in
/// time and never reused, also not after a delete or a restart, as far as the store behind can promise it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub Bytes);

/// A dtab as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionedDtab {
    /// The dtab.
    pub dtab: Dtab,
    /// Of this state of it.
    pub version: Version,
}

/// One write, in the past.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The version that it made; of a delete, a version of its own.
    pub version: Version,
    /// When.
    pub time: SystemTime,
    /// Who and why.
    pub note: Note,
    /// What was stored; None for a delete.
    pub dtab: Option<Dtab>,
}

/// Why a store does not do what it is asked for. The texts are for callers: what, why, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Create: the namespace is there already.
    #[error("the namespace exists already")]
    Exists,
    /// Update or delete: there is no such namespace.
    #[error("there is no such namespace")]
    NotFound,
    /// Update: the namespace has another version.
    #[error("the namespace has changed since that version was read")]
    Mismatch,
    /// The name cannot be one of this store.
    #[error("{0}")]
    BadName(String),
    /// The store does not let this process do it.
    #[error("the store refuses: {0}")]
    Forbidden(String),
    /// The store behind does not answer, or not sensibly. Nothing is known of the outcome of a write.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// Keeps dtabs by namespace. Shared; all methods may be called at any time from any task.
///
/// What is observed survives an outage of the store behind: the last value stays, and changes are found when it is back,
/// without a restart. A store that has never answered leaves Pending, and Failed once it is known why.
pub trait Store: Send + Sync + 'static {
    /// The kind in configs, e.g. `io.l5d.inMemory`.
    fn kind(&self) -> &'static str;

    /// All namespaces, over time.
    fn list(&self) -> Activity<Arc<BTreeSet<String>>>;

    /// The dtab of a namespace, over time; None while there is none. Live until dropped.
    fn observe(&self, namespace: &str) -> Activity<Option<VersionedDtab>>;

    /// The dtab of a namespace now: as new as every write that this process has seen acknowledged.
    fn read(&self, namespace: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>>;

    /// Makes a namespace. Errors with Exists.
    fn create(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>>;

    /// Replaces the dtab that has this version. Errors with NotFound or Mismatch.
    fn update(
        &self,
        namespace: &str,
        dtab: Dtab,
        expected: Version,
        note: Note,
    ) -> BoxFuture<'_, Result<Version, StoreError>>;

    /// Makes or replaces the dtab, whatever its version.
    fn put(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>>;

    /// Removes the namespace; with `expected`, only in that version. Errors with NotFound or Mismatch.
    fn delete(&self, namespace: &str, expected: Option<Version>, note: Note) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The writes to a namespace, newest first, at most `limit`; those before a delete included.
    fn history(&self, namespace: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>>;

    /// What the admin page `/storage/<kind>.json` shows: reachability, ages, last error.
    fn report(&self) -> serde_json::Value;

    /// How it is, in numbers, for metrics. A store in this process always answers.
    fn condition(&self) -> Condition {
        Condition { last_success: Some(Duration::ZERO), failing: false }
    }
}

/// How a store is, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Since what is behind last answered; None when it never has.
    pub last_success: Option<Duration>,
    /// The last thing asked of it failed, or something that is followed does.
    pub failing: bool,
}
