//! [`SharedStore`]: what all stores behind the network have in common, so that a [`Backend`] knows its protocol alone.
//!
//! Watch tables of `namers` follow namespaces and their list: one watch however many readers, jittered back-off, the last
//! good value in memory and on disk. What is not there by the list is not followed, so that questions for names without end
//! leave room for those that are there. Text that is no dtab is an error beside the last good dtab. Writes run to their end
//! when their caller goes away. Called by the stores in etcd, ZooKeeper and Consul. Not for: stores in this process.

use super::history::{Logged, Record, entry};
use super::{Condition, Entry, Note, Store, StoreError, Version, VersionedDtab};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dtab::{Activity, BoxFuture, Dtab, Exact, State};
use namers::{Discovery, Source, SourceError, WatchOptions, WatchReport, WatchTable, Watched};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

/// Reads and writes may take so long, all their requests together.
const LIMIT: Duration = Duration::from_secs(15);
/// A namespace is followed for so long after its last reader has gone.
const LINGER: Duration = Duration::from_secs(60);
/// Namespaces that are followed at once, at most: most backends need a connection for each.
const MAX_FOLLOWED: usize = 2_000;
/// Namespaces that are asked for at once, at most; one that is not there costs memory alone.
const MAX_ASKED: usize = 100_000;
/// Backends report at least every [`REFRESH`]; a watch that is silent for so long is started again.
const SILENT_AFTER: Duration = Duration::from_secs(180);
/// A value is read again after so long without a change.
pub(crate) const REFRESH: Duration = Duration::from_secs(60);
/// No config makes the pause between two tries of a watch longer.
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The key of the one list.
const ALL: &str = "all";
/// Names longer than this are refused.
const MAX_NAME: usize = 253;

/// A value as the store behind has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    /// What should be the text of a dtab; or why it cannot be one.
    pub(crate) text: Result<Bytes, String>,
    pub(crate) version: Version,
}

/// What must be true for a write to happen.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// The namespace is not there.
    Absent,
    /// It has this version.
    Is(Version),
    /// Nothing.
    Any,
}

/// Where a backend reports what it sees.
pub(crate) type Seen<T> = Box<dyn Fn(T) + Send + Sync>;

/// A protocol to a store that several processes share. Every single request is bounded in time by the backend.
pub(crate) trait Backend: Send + Sync + 'static {
    /// The kind in configs.
    fn kind(&self) -> &'static str;

    /// Where it is, for messages and the name of what is kept on disk.
    fn place(&self) -> &str;

    /// More for the admin page.
    fn details(&self) -> Value {
        Value::Null
    }

    /// Refuses names that cannot be kept.
    fn check_name(&self, namespace: &str) -> Result<(), StoreError> {
        plain_name(namespace)
    }

    /// The value now, no older than the last write that anybody had acknowledged.
    fn read<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>>;

    /// All namespaces now.
    fn names(&self) -> BoxFuture<'_, Result<BTreeSet<String>, StoreError>>;

    /// Reports the value now and after every change, at least every [`REFRESH`]; returns why it cannot go on.
    fn follow(self: Arc<Self>, namespace: String, seen: Seen<Option<Stored>>) -> BoxFuture<'static, StoreError>;

    /// The same for all namespaces.
    fn follow_names(self: Arc<Self>, seen: Seen<BTreeSet<String>>) -> BoxFuture<'static, StoreError>;

    /// Writes and keeps the record.
    fn write<'a>(
        &'a self,
        namespace: &'a str,
        text: String,
        expected: Expected,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<Version, StoreError>>;

    /// Removes and keeps the record.
    fn remove<'a>(
        &'a self,
        namespace: &'a str,
        expected: Option<Version>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// At most `limit` records, newest first.
    fn history<'a>(&'a self, namespace: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Logged>, StoreError>>;
}

/// The rule for names of all these stores: one segment of a path.
pub(crate) fn plain_name(namespace: &str) -> Result<(), StoreError> {
    let wrong = match namespace {
        "" => "it is empty",
        "." | ".." => "it means another place in paths",
        _ if namespace.len() > MAX_NAME => "it is longer than 253 bytes",
        _ if namespace.contains('/') => "it contains a slash",
        _ if namespace.chars().any(char::is_control) => "it contains a control character",
        _ => return Ok(()),
    };
    Err(StoreError::BadName(format!("{namespace:?} cannot be the name of a namespace: {wrong}")))
}

fn decode(namespace: &str, stored: Option<Stored>) -> Result<Option<VersionedDtab>, String> {
    let Some(Stored { text, version }) = stored else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| {
        format!("what is stored for the namespace {namespace} is no dtab (writing one mends it): {error}")
    };
    let text = text.map_err(|error| wrong(&error))?;
    let text = std::str::from_utf8(&text).map_err(|error| wrong(&error))?;
    let dtab = Dtab::parse(text).map_err(|error| wrong(&error))?;
    Ok(Some(VersionedDtab { dtab, version }))
}

struct Dtabs(Arc<dyn Backend>);

impl Source<String, Option<VersionedDtab>> for Dtabs {
    fn run(
        &self,
        namespace: String,
        out: Watched<Option<VersionedDtab>>,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let (backend, name) = (self.0.clone(), namespace.clone());
        let seen = Box::new(move |stored| match decode(&name, stored) {
            Ok(value) => out.ok(value),
            Err(problem) => out.failed(&problem),
        });
        Box::pin(async move { Err(SourceError(backend.follow(namespace, seen).await.to_string())) })
    }

    fn relist(&self, namespace: String) -> Option<BoxFuture<'static, Result<Option<VersionedDtab>, SourceError>>> {
        let backend = self.0.clone();
        Some(Box::pin(async move {
            let stored = backend.read(&namespace).await.map_err(|error| SourceError(error.to_string()))?;
            decode(&namespace, stored).map_err(SourceError)
        }))
    }

    fn is_empty(&self, value: &Option<VersionedDtab>) -> bool {
        value.is_none()
    }

    fn save(&self, value: &Option<VersionedDtab>) -> Option<Value> {
        let value = value.as_ref()?;
        Some(json!({"dtab": Exact(&value.dtab).to_string(), "version": STANDARD.encode(&value.version.0)}))
    }

    fn restore(&self, saved: &Value) -> Option<Option<VersionedDtab>> {
        let text = |key: &str| saved.get(key).and_then(Value::as_str);
        let dtab = Dtab::parse(text("dtab")?).ok()?;
        let version = Version(STANDARD.decode(text("version")?).ok()?.into());
        Some(Some(VersionedDtab { dtab, version }))
    }
}

struct Lists(Arc<dyn Backend>);

impl Source<String, Arc<BTreeSet<String>>> for Lists {
    fn run(&self, _: String, out: Watched<Arc<BTreeSet<String>>>) -> BoxFuture<'static, Result<(), SourceError>> {
        let backend = self.0.clone();
        let seen = Box::new(move |names| out.ok(Arc::new(names)));
        Box::pin(async move { Err(SourceError(backend.follow_names(seen).await.to_string())) })
    }

    fn relist(&self, _: String) -> Option<BoxFuture<'static, Result<Arc<BTreeSet<String>>, SourceError>>> {
        let backend = self.0.clone();
        Some(Box::pin(
            async move { backend.names().await.map(Arc::new).map_err(|error| SourceError(error.to_string())) },
        ))
    }

    fn is_empty(&self, names: &Arc<BTreeSet<String>>) -> bool {
        names.is_empty()
    }

    fn save(&self, names: &Arc<BTreeSet<String>>) -> Option<Value> {
        Some(json!(**names))
    }

    fn restore(&self, saved: &Value) -> Option<Arc<BTreeSet<String>>> {
        let names = saved.as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
        Some(Arc::new(names.collect::<Option<_>>()?))
    }
}

/// Namespaces that were not there when they were asked for: followed only while the list does not say so.
struct Present {
    lists: WatchTable<String, Arc<BTreeSet<String>>>,
    dtabs: WatchTable<String, Option<VersionedDtab>>,
}

impl Present {
    /// Whether the list is one to go by: not from disk, and not failing.
    fn is_fresh(lists: &WatchTable<String, Arc<BTreeSet<String>>>) -> bool {
        lists.report().first().is_some_and(|list| list.stale.is_none() && list.last_error.is_none())
    }
}

impl Source<String, Option<VersionedDtab>> for Present {
    fn run(
        &self,
        namespace: String,
        out: Watched<Option<VersionedDtab>>,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let (lists, dtabs) = (self.lists.clone(), self.dtabs.clone());
        Box::pin(async move {
            let mut list = lists.get(&ALL.to_owned());
            let mut followed: Option<Activity<Option<VersionedDtab>>> = None;
            loop {
                let unlisted = matches!(list.get(), State::Ok(names) if !names.contains(&namespace));
                let valued = followed.as_ref().is_some_and(|live| matches!(live.peek(), State::Ok(Some(_))));
                if unlisted && !valued && Present::is_fresh(&lists) {
                    followed = None;
                    out.ok(None);
                    // A list that fails from now on says nothing of it: that is looked at now and then.
                    let _ = timeout(REFRESH, list.changed()).await;
                    continue;
                }
                let live = followed.get_or_insert_with(|| dtabs.get(&namespace));
                match live.get() {
                    State::Pending => {}
                    State::Ok(value) => out.ok(value),
                    State::Failed(reason) => out.failed(&reason),
                }
                tokio::select! {
                    () = live.changed() => {}
                    () = list.changed() => {}
                    () = sleep(REFRESH) => {}
                }
            }
        })
    }
}

/// What reads and writes, other than watches, have met.
#[derive(Debug, Default)]
struct Health {
    success: Option<Instant>,
    error: Option<(Instant, String)>,
}

/// See the module.
pub(crate) struct SharedStore {
    backend: Arc<dyn Backend>,
    lists: WatchTable<String, Arc<BTreeSet<String>>>,
    dtabs: WatchTable<String, Option<VersionedDtab>>,
    present: WatchTable<String, Option<VersionedDtab>>,
    /// Keeps the list followed from the first question for a namespace on.
    list: OnceLock<Activity<Arc<BTreeSet<String>>>>,
    handle: Handle,
    health: Arc<Mutex<Health>>,
}

impl SharedStore {
    /// A store over `backend`, as a part of `discovery`.
    pub(crate) fn open(backend: Arc<dyn Backend>, discovery: &Discovery) -> Arc<dyn Store> {
        let watch = WatchOptions {
            linger: LINGER,
            max_keys: MAX_FOLLOWED,
            silent_after: SILENT_AFTER,
            ..discovery.watch.clone()
        };
        let (kind, place) = (backend.kind(), backend.place().to_owned());
        let at = (kind, place.as_str());
        let lists = WatchTable::within_at(discovery, at, "namespaces", Lists(backend.clone()), watch.clone());
        let dtabs = WatchTable::within_at(discovery, at, "dtabs", Dtabs(backend.clone()), watch.clone());
        // It is told of changes by the tables behind, which know what silence means.
        let asked = WatchOptions {
            linger: watch.negative_linger,
            max_keys: MAX_ASKED,
            silent_after: Duration::ZERO,
            relist: Duration::ZERO,
            ..watch
        };
        let present = Present { lists: lists.clone(), dtabs: dtabs.clone() };
        let present = WatchTable::new(present, asked, discovery.handle.clone());
        let (handle, health) = (discovery.handle.clone(), Arc::default());
        Arc::new(SharedStore { backend, lists, dtabs, present, list: OnceLock::new(), handle, health })
    }

    /// Does `work` to its end, also when the caller goes away; a panic in a protocol's library is an error.
    fn run<T: Send + 'static>(
        &self,
        namespace: &str,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        if let Err(error) = self.backend.check_name(namespace) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let place = self.backend.place().to_owned();
        Box::pin(async move {
            let outcome = match self.handle.spawn(timeout(LIMIT, work)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(StoreError::Unavailable(format!("{place}: not done within {LIMIT:?}"))),
                Err(error) => Err(StoreError::Unavailable(format!("{place}: internal error: {error}"))),
            };
            let mut health = self.health.lock();
            match &outcome {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Forbidden(_))) => {
                    health.error = Some((Instant::now(), error.to_string()));
                }
                _ => (health.success, health.error) = (Some(Instant::now()), None),
            }
            outcome
        })
    }

    fn write(
        &self,
        namespace: &str,
        dtab: &Dtab,
        expected: Expected,
        note: Note,
    ) -> BoxFuture<'_, Result<Version, StoreError>> {
        let (backend, name, text) = (self.backend.clone(), namespace.to_owned(), Exact(dtab).to_string());
        self.run(namespace, async move {
            let record = Record::now(note, Some(text.clone()));
            backend.write(&name, text, expected, &record).await
        })
    }
}

impl Store for SharedStore {
    fn kind(&self) -> &'static str {
        self.backend.kind()
    }

    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        self.lists.get(&ALL.to_owned())
    }

    fn observe(&self, namespace: &str) -> Activity<Option<VersionedDtab>> {
        match self.backend.check_name(namespace) {
            Ok(()) if self.may_be_absent(namespace) => self.present.get(&namespace.to_owned()),
            Ok(()) => self.dtabs.get(&namespace.to_owned()),
            Err(error) => Activity::constant(State::Failed(error.to_string().into())),
        }
    }

    fn read(&self, namespace: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        let (backend, name) = (self.backend.clone(), namespace.to_owned());
        self.run(namespace, async move {
            decode(&name, backend.read(&name).await?)
                .map_err(|problem| StoreError::Unavailable(format!("{}: {problem}", backend.place())))
        })
    }

    fn create(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.write(namespace, &dtab, Expected::Absent, note)
    }

    fn update(
        &self,
        namespace: &str,
        dtab: Dtab,
        expected: Version,
        note: Note,
    ) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.write(namespace, &dtab, Expected::Is(expected), note)
    }

    fn put(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.write(namespace, &dtab, Expected::Any, note)
    }

    fn delete(&self, namespace: &str, expected: Option<Version>, note: Note) -> BoxFuture<'_, Result<(), StoreError>> {
        let (backend, name) = (self.backend.clone(), namespace.to_owned());
        self.run(namespace, async move { backend.remove(&name, expected, &Record::now(note, None)).await })
    }

    fn history(&self, namespace: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let (backend, name) = (self.backend.clone(), namespace.to_owned());
        if limit == 0 {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        self.run(namespace, async move {
            Ok(backend.history(&name, limit).await?.iter().filter_map(entry).take(limit).collect())
        })
    }

    fn condition(&self) -> Condition {
        self.judged(&self.lists.report(), &self.dtabs.report())
    }

    fn report(&self) -> Value {
        let (lists, dtabs) = (self.lists.report(), self.dtabs.report());
        let judged = self.judged(&lists, &dtabs);
        let error = self.health.lock().error.clone();
        let error = error.map(|(at, text)| json!({"text": text, "ageMs": millis(at.elapsed())}));
        json!({
            "kind": self.backend.kind(),
            "place": self.backend.place(),
            "ok": !judged.failing,
            "lastSuccessMs": judged.last_success.map(millis),
            "lastError": error,
            "details": self.backend.details(),
            "observed": dtabs.len(),
            "list": lists.first().map(show),
            "namespaces": dtabs.iter().map(|watch| (watch.key.clone(), show(watch))).collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl SharedStore {
    /// Whether the list does not have the namespace, or is not known yet.
    fn may_be_absent(&self, namespace: &str) -> bool {
        let list = self.list.get_or_init(|| self.list());
        match list.peek() {
            State::Pending => true,
            State::Ok(names) => !names.contains(namespace) && Present::is_fresh(&self.lists),
            State::Failed(_) => false,
        }
    }

    /// How the store behind is, by what was asked of it last and by these watches.
    fn judged(&self, lists: &[WatchReport], dtabs: &[WatchReport]) -> Condition {
        let health = self.health.lock();
        let watched = || lists.iter().chain(dtabs);
        let since = watched().filter_map(|watch| watch.last_success).chain(health.success.map(|at| at.elapsed())).min();
        let answers = health.error.as_ref().is_none_or(|(at, _)| since.is_some_and(|since| since < at.elapsed()));
        Condition { last_success: since, failing: !answers || watched().any(|watch| watch.last_error.is_some()) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn show(watch: &WatchReport) -> Value {
    json!({
        "state": watch.state,
        "lastSuccessMs": watch.last_success.map(millis),
        "lastError": watch.last_error,
        "watchers": watch.watchers,
        "fromDiskMs": watch.stale.map(millis),
        "restarts": watch.restarts,
    })
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
