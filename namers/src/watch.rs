//! [`WatchTable`]: the one generic struct under all namers: *key → stream of values*.
//!
//! A [`Source`] knows how to watch one key. The table owns the rest: one task per live key however many readers, back-off
//! after errors, last-known-good, ages for the admin pages, unsubscribe by drop, a bound on the number of keys, and
//! containment of panics. Called by the namers of this crate. Not for: what a key or a value means.

use dtab::{Activity, BoxFuture, Publisher, State};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// What a key of a table must be.
pub trait Key: Clone + Eq + Hash + Display + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Display + Send + Sync + 'static> Key for T {}

/// What a value of a table must be.
pub trait Val: Clone + PartialEq + Send + Sync + 'static {}
impl<T: Clone + PartialEq + Send + Sync + 'static> Val for T {}

/// Watches keys.
pub trait Source<K, V>: Send + Sync + 'static {
    /// Watches `key` and reports through `out` until the future is dropped.
    ///
    /// `Ok(())` means that the last value reported will never change; the entry stays until nobody reads it. An error is
    /// reported like [`Watched::failed`] and the watch is started again after a back-off.
    fn run(&self, key: K, out: Watched<V>) -> BoxFuture<'static, Result<(), SourceError>>;
}

/// Why a watch ended. The text is for the operator: what failed and for which name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Numbers of a table.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// How long a key without readers is kept. Default 5 s.
    pub linger: Duration,
    /// Live keys at most; a further key is answered Failed. Default 100 000.
    pub max_keys: usize,
    /// First back-off after an error; doubles with each error in a row. The wait is drawn evenly from half of the
    /// back-off to all of it. Default 100 ms. A success resets it.
    pub min_backoff: Duration,
    /// Largest back-off. Default 5 s.
    pub max_backoff: Duration,
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions {
            linger: Duration::from_secs(5),
            max_keys: 100_000,
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
        }
    }
}

/// One live key, as admin state pages show it (requirements P1.2).
#[derive(Debug, Clone, PartialEq)]
pub struct WatchReport {
    /// The key, printed.
    pub key: String,
    /// `pending`, `ok` or `failed: <reason>`.
    pub state: String,
    /// Since the source last reported anything; None before the first report.
    pub age: Option<Duration>,
    /// Since the source last reported success; None before the first one.
    pub last_success: Option<Duration>,
    /// What is wrong now, also beside a good value; None when the last report was a plain success.
    pub last_error: Option<String>,
    /// Number of readers; 0 while the key lingers.
    pub watchers: usize,
}

#[derive(Default)]
struct Health {
    event: Option<Instant>,
    success: Option<Instant>,
    error: Option<String>,
    failures: u32,
}

/// The source's side of one key: where it reports what it sees.
pub struct Watched<V> {
    name: Arc<str>,
    publisher: Publisher<V>,
    health: Arc<Mutex<Health>>,
}

impl<V: Clone> Clone for Watched<V> {
    fn clone(&self) -> Watched<V> {
        Watched { name: self.name.clone(), publisher: self.publisher.clone(), health: self.health.clone() }
    }
}

impl<V: Val> Watched<V> {
    /// The value, as seen now. An equal value only renews the age.
    pub fn ok(&self, value: V) {
        self.succeeded(None);
        self.publisher.publish(State::Ok(value));
    }

    /// The value, as seen now, beside something wrong that the operator should know (a malformed line among good ones).
    pub fn ok_but(&self, value: V, problem: &str) {
        self.succeeded(Some(problem));
        self.publisher.publish(State::Ok(value));
    }

    /// The value cannot be seen now. A value seen before stays (last-known-good); otherwise the state is Failed.
    pub fn failed(&self, reason: &str) {
        {
            let mut health = self.health.lock();
            health.event = Some(Instant::now());
            health.failures = health.failures.saturating_add(1);
            self.note(&mut health, Some(reason));
        }
        if !self.is_ok() {
            self.publisher.publish(State::Failed(reason.into()));
        }
    }

    /// True when a value has been seen.
    pub fn is_ok(&self) -> bool {
        matches!(self.publisher.state(), State::Ok(_))
    }

    fn succeeded(&self, problem: Option<&str>) {
        let mut health = self.health.lock();
        let now = Some(Instant::now());
        health.event = now;
        health.success = now;
        health.failures = 0;
        self.note(&mut health, problem);
    }

    /// Remembers the problem; logs when it is new.
    fn note(&self, health: &mut Health, problem: Option<&str>) {
        if health.error.as_deref() == problem {
            return;
        }
        match problem {
            Some(problem) => tracing::warn!(watch = %self.name, "{problem}"),
            None => tracing::info!(watch = %self.name, "recovered"),
        }
        health.error = problem.map(str::to_owned);
    }

    fn report(&self) -> WatchReport {
        let health = self.health.lock();
        let state = match self.publisher.state() {
            State::Pending => "pending".to_owned(),
            State::Ok(_) => "ok".to_owned(),
            State::Failed(reason) => format!("failed: {reason}"),
        };
        WatchReport {
            key: self.name.to_string(),
            state,
            age: health.event.map(|at| at.elapsed()),
            last_success: health.success.map(|at| at.elapsed()),
            last_error: health.error.clone(),
            watchers: self.publisher.watchers(),
        }
    }
}

/// A table of live watches; cloning shares it.
pub struct WatchTable<K, V> {
    shared: Arc<Shared<K, V>>,
}

impl<K, V> Clone for WatchTable<K, V> {
    fn clone(&self) -> WatchTable<K, V> {
        WatchTable { shared: self.shared.clone() }
    }
}

struct Shared<K, V> {
    source: Box<dyn Source<K, V>>,
    options: WatchOptions,
    handle: Handle,
    live: Mutex<HashMap<K, Watched<V>>>,
}

impl<K: Key, V: Val> WatchTable<K, V> {
    /// An empty table; all its tasks run on `handle`.
    pub fn new(source: impl Source<K, V>, options: WatchOptions, handle: Handle) -> WatchTable<K, V> {
        let live = Mutex::new(HashMap::new());
        WatchTable { shared: Arc::new(Shared { source: Box::new(source), options, handle, live }) }
    }

    /// The value of `key` over time. The first reader starts the watch; it ends when the last has been gone for the
    /// linger. Callable from any thread. Failed for ever when the table is full.
    pub fn get(&self, key: &K) -> Activity<V> {
        let mut live = self.shared.live.lock();
        if let Some(watched) = live.get(key) {
            return watched.publisher.subscribe();
        }
        if live.len() >= self.shared.options.max_keys {
            let limit = self.shared.options.max_keys;
            let text = format!("cannot watch {key}: the limit of {limit} watched names is reached");
            return Activity::constant(State::Failed(text.into()));
        }
        let (publisher, activity) = Activity::channel();
        let watched = Watched { name: key.to_string().into(), publisher, health: Arc::default() };
        live.insert(key.clone(), watched.clone());
        drop(live);
        self.shared.handle.spawn(supervise(self.shared.clone(), key.clone(), watched));
        activity
    }

    /// Number of live keys, those that linger included.
    pub fn len(&self) -> usize {
        self.shared.live.lock().len()
    }

    /// True without live keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All live keys, sorted by their print.
    pub fn report(&self) -> Vec<WatchReport> {
        let live: Vec<Watched<V>> = self.shared.live.lock().values().cloned().collect();
        let mut reports: Vec<WatchReport> = live.iter().map(Watched::report).collect();
        reports.sort_by(|a, b| a.key.cmp(&b.key));
        reports
    }
}

/// Drives the source of one key until nobody has read it for the linger.
async fn supervise<K: Key, V: Val>(shared: Arc<Shared<K, V>>, key: K, watched: Watched<V>) {
    let mut driving = Box::pin(drive(shared.clone(), key.clone(), watched.clone()));
    loop {
        tokio::select! {
            () = &mut driving => {}
            () = watched.publisher.unwatched() => {}
        }
        tokio::select! {
            () = &mut driving => {}
            () = tokio::time::sleep(shared.options.linger) => {}
        }
        let mut live = shared.live.lock();
        if watched.publisher.watchers() == 0 {
            live.remove(&key);
            return;
        }
    }
}

/// Runs the source again and again; never returns.
async fn drive<K: Key, V: Val>(shared: Arc<Shared<K, V>>, key: K, watched: Watched<V>) {
    loop {
        match contained(&*shared.source, key.clone(), watched.clone()).await {
            Ok(()) => std::future::pending::<()>().await,
            Err(SourceError(reason)) => watched.failed(&reason),
        }
        let failures = watched.health.lock().failures;
        tokio::time::sleep(backoff(&shared.options, failures)).await;
    }
}

/// Runs the source once; a panic in it is an error.
async fn contained<K: Key, V: Val>(source: &dyn Source<K, V>, key: K, watched: Watched<V>) -> Result<(), SourceError> {
    let mut running = None;
    std::future::poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future = running.get_or_insert_with(|| source.run(key.clone(), watched.clone()));
            future.as_mut().poll(context)
        }));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(SourceError(panic_text(&*panic)))))
    })
    .await
}

/// What a caught panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error (panic): {}", said.unwrap_or("no message"))
}

fn backoff(options: &WatchOptions, failures: u32) -> Duration {
    let doubled = options.min_backoff.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let full = doubled.min(options.max_backoff);
    full / 2 + full.mul_f64(fastrand::f64() / 2.0)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
