//! [`Watched`]: the source's side of one key of a watch table: what was seen, when, and what of it is believed.
//!
//! Three rules live here and nowhere else. A value that was known stays when it can no longer be known. A value from disk
//! stands in until the source has answered (requirements P2.2). An empty answer in place of a value, from a source that
//! has just failed or begun, is held back for a while (P2.3). Called by sources and by `supervise`. Not for: running
//! sources.

use crate::gate::Gate;
use crate::snapshot::Snapshot;
use crate::watch::{Source, Val, WatchOptions};
use dtab::{Publisher, State};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Log lines about keys, per table and second; the others are for the level DEBUG.
const LOG_LINES: u32 = 5;

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
    /// The value is from disk, and was true so long ago; None for a value that this process has seen.
    pub stale: Option<Duration>,
    /// An empty answer is held back.
    pub held: bool,
    /// How often the watch was begun again, for whatever reason.
    pub restarts: u64,
}

/// What all keys of a table have in common.
pub(crate) struct Rules<V> {
    pub(crate) namer: Arc<str>,
    pub(crate) empty_grace: Duration,
    pub(crate) first_answer: Duration,
    is_empty: Box<dyn Fn(&V) -> bool + Send + Sync>,
    disk: Option<Disk<V>>,
    lines: Gate,
}

/// How values get to disk and back.
struct Disk<V> {
    table: String,
    snapshot: Arc<Snapshot>,
    save: Convert<V, Value>,
    restore: Convert<Value, V>,
}

type Convert<A, B> = Box<dyn Fn(&A) -> Option<B> + Send + Sync>;

impl<V: Val> Rules<V> {
    /// The rules of a table whose values come from `source`; `disk` is the snapshot and the table's name in it.
    pub(crate) fn new<K: 'static>(
        namer: Arc<str>,
        source: &Arc<dyn Source<K, V>>,
        options: &WatchOptions,
        disk: Option<(Arc<Snapshot>, String)>,
    ) -> Rules<V> {
        let (judge, saver, restorer) = (source.clone(), source.clone(), source.clone());
        Rules {
            namer,
            empty_grace: options.empty_grace,
            first_answer: options.first_answer,
            is_empty: Box::new(move |value| judge.is_empty(value)),
            disk: disk.map(|(snapshot, table)| Disk {
                table,
                snapshot,
                save: Box::new(move |value| saver.save(value)),
                restore: Box::new(move |value| restorer.restore(value)),
            }),
            lines: Gate::new(LOG_LINES),
        }
    }

    /// Adds one to a counter of the namer.
    pub(crate) fn count(&self, name: &'static str) {
        metrics::counter!(name, "namer" => self.namer.to_string()).increment(1);
    }
}

pub(crate) struct Health<V> {
    begun: Instant,
    event: Option<Instant>,
    success: Option<Instant>,
    error: Option<String>,
    failures: u32,
    runs: u64,
    /// How long the source said that it will be silent.
    quiet: Duration,
    /// The source has just begun or failed: an empty answer is not believed at once.
    unsure: bool,
    /// An empty answer that is not believed yet, and since when there is one.
    held: Option<(V, Instant)>,
    /// From disk or from the table before, and when it was true; gone with the first answer.
    restored: Option<(V, SystemTime)>,
    /// The value published is the one from disk.
    stale: Option<SystemTime>,
    /// The last value will never change.
    done: bool,
}

/// The source's side of one key: where it reports what it sees.
pub struct Watched<V> {
    pub(crate) name: Arc<str>,
    pub(crate) publisher: Publisher<V>,
    pub(crate) rules: Arc<Rules<V>>,
    health: Arc<Mutex<Health<V>>>,
    /// Wakes whoever waits for [`Watched::due`].
    pub(crate) wake: Arc<Notify>,
}

impl<V: Clone> Clone for Watched<V> {
    fn clone(&self) -> Watched<V> {
        Watched {
            name: self.name.clone(),
            publisher: self.publisher.clone(),
            rules: self.rules.clone(),
            health: self.health.clone(),
            wake: self.wake.clone(),
        }
    }
}

impl<V: Val> Watched<V> {
    /// The value, as seen now. An equal value only renews the age.
    pub fn ok(&self, value: V) {
        self.seen(value, None, false);
    }

    /// The value, as seen now, beside something wrong that the operator should know (a malformed line among good ones).
    pub fn ok_but(&self, value: V, problem: &str) {
        self.seen(value, Some(problem), false);
    }

    /// The value, as seen now, from a registry that is not the one seen before: an empty one is held back.
    pub fn ok_anew(&self, value: V) {
        self.seen(value, None, true);
    }

    /// The value cannot be seen now. A value seen before stays (last-known-good), or the one from disk stands in;
    /// otherwise the state is Failed.
    pub fn failed(&self, reason: &str) {
        self.rules.count("watch_errors_total");
        let mut health = self.health.lock();
        health.event = Some(Instant::now());
        health.failures = health.failures.saturating_add(1);
        (health.unsure, health.held, health.quiet) = (true, None, Duration::ZERO);
        self.note(&mut health, Some(reason));
        self.fall_back(&mut health);
        if !self.is_ok() {
            self.publisher.publish(State::Failed(reason.into()));
        }
    }

    /// The source will say nothing for so long, and that is no silence.
    pub fn quiet_for(&self, time: Duration) {
        self.health.lock().quiet = time;
    }

    /// True when a value has been seen, or one from disk is there.
    pub fn is_ok(&self) -> bool {
        matches!(self.publisher.state(), State::Ok(_))
    }

    /// True when a value that is not empty is published or on disk.
    pub fn has_content(&self) -> bool {
        self.has_more_than_nothing(&self.health.lock())
    }

    fn has_more_than_nothing(&self, health: &Health<V>) -> bool {
        let shown = matches!(self.publisher.state(), State::Ok(value) if !(self.rules.is_empty)(&value));
        shown || health.restored.is_some()
    }

    fn seen(&self, value: V, problem: Option<&str>, anew: bool) {
        let mut health = self.health.lock();
        let now = Instant::now();
        (health.event, health.success, health.failures) = (Some(now), Some(now), 0);
        let doubtful = std::mem::take(&mut health.unsure) || health.held.is_some() || anew;
        let grace = self.rules.empty_grace;
        if doubtful && !grace.is_zero() && (self.rules.is_empty)(&value) && self.has_more_than_nothing(&health) {
            let since = health.held.as_ref().map_or(now, |(_, since)| *since);
            if now.saturating_duration_since(since) < grace {
                if health.held.replace((value, since)).is_none() {
                    self.rules.count("watch_empty_held_total");
                    self.wake.notify_one();
                }
                let text = format!("an empty answer after an outage or a start is held back for {grace:?}");
                self.note(&mut health, Some(&text));
                return self.fall_back(&mut health);
            }
        }
        self.note(&mut health, problem);
        self.believe(&mut health, value);
    }

    fn believe(&self, health: &mut Health<V>, value: V) {
        (health.held, health.restored, health.stale) = (None, None, None);
        self.save(&value);
        self.publisher.publish(State::Ok(value));
    }

    /// Lets the value from disk stand in when nothing else is known.
    fn fall_back(&self, health: &mut Health<V>) {
        if let Some((value, at)) = &health.restored
            && health.stale.is_none()
        {
            health.stale = Some(*at);
            self.rules.count("stale_served_total");
            self.publisher.publish(State::Ok(value.clone()));
        }
    }

    fn save(&self, value: &V) {
        let Some(disk) = &self.rules.disk else { return };
        let unchanged = matches!(self.publisher.state(), State::Ok(known) if known == *value);
        if (self.rules.is_empty)(value) {
            if !unchanged {
                disk.snapshot.remove(&disk.table, &self.name);
            }
        } else if unchanged && disk.snapshot.confirm(&disk.table, &self.name) {
            // Seen again as it is.
        } else if let Some(saved) = (disk.save)(value) {
            disk.snapshot.save(&disk.table, &self.name, saved);
        }
    }

    /// Remembers the problem; logs when it is new, not more than a few per second of a table.
    fn note(&self, health: &mut Health<V>, problem: Option<&str>) {
        if health.error.as_deref() == problem {
            return;
        }
        let loud = self.rules.lines.pass(Duration::ZERO).is_some();
        match problem {
            Some(problem) if loud => tracing::warn!(watch = %self.name, "{problem}"),
            Some(problem) => tracing::debug!(watch = %self.name, "{problem}"),
            None if loud => tracing::info!(watch = %self.name, "recovered"),
            None => tracing::debug!(watch = %self.name, "recovered"),
        }
        health.error = problem.map(str::to_owned);
    }
}

/// The side of whoever runs the source.
impl<V: Val> Watched<V> {
    pub(crate) fn new(name: Arc<str>, publisher: Publisher<V>, rules: Arc<Rules<V>>) -> Watched<V> {
        let health = Health {
            begun: Instant::now(),
            event: None,
            success: None,
            error: None,
            failures: 0,
            runs: 0,
            quiet: Duration::ZERO,
            unsure: true,
            held: None,
            restored: None,
            stale: None,
            done: false,
        };
        Watched { name, publisher, rules, health: Arc::new(Mutex::new(health)), wake: Arc::default() }
    }

    /// Takes what the disk has of this key.
    pub(crate) fn restore(&self) {
        let Some(disk) = &self.rules.disk else { return };
        disk.snapshot.read_by(&disk.table, &self.name, true);
        let Some((saved, at)) = disk.snapshot.restore(&disk.table, &self.name) else { return };
        let value = (disk.restore)(&saved).filter(|value| !(self.rules.is_empty)(value));
        let mut health = self.health.lock();
        // What stands in already is not older.
        if health.restored.is_none() {
            health.restored = value.map(|value| (value, at));
        }
    }

    /// The value that others may take over, and when it was true: the one published, else the one that would stand in.
    pub(crate) fn known(&self) -> Option<(V, SystemTime)> {
        let health = self.health.lock();
        let State::Ok(value) = self.publisher.state() else { return health.restored.clone() };
        let age = health.success.filter(|_| health.failures > 0).map_or(Duration::ZERO, |at| at.elapsed());
        let now = SystemTime::now();
        Some((value, health.stale.unwrap_or_else(|| now.checked_sub(age).unwrap_or(now))))
    }

    /// Lets a value that was true at that time stand in until the first answer; an empty one does not.
    pub(crate) fn stand_in(&self, (value, at): (V, SystemTime)) {
        if !(self.rules.is_empty)(&value) {
            let mut health = self.health.lock();
            health.restored = Some((value, at));
            self.fall_back(&mut health);
        }
    }

    /// Nobody reads the key any more.
    pub(crate) fn leave(&self) {
        if let Some(disk) = &self.rules.disk {
            disk.snapshot.read_by(&disk.table, &self.name, false);
        }
    }

    /// The source begins, for the first time or again.
    pub(crate) fn begin(&self) {
        let mut health = self.health.lock();
        (health.begun, health.unsure, health.quiet) = (Instant::now(), true, Duration::ZERO);
        health.runs += 1;
        if health.runs > 1 {
            self.rules.count("watch_restarts_total");
        }
    }

    /// The last value will never change.
    pub(crate) fn end(&self) {
        self.health.lock().done = true;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.health.lock().done
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.health.lock().failures
    }

    /// When the source is silent for too long, if it says nothing until then; None when it may be silent for ever.
    pub(crate) fn silent_at(&self, bound: Duration) -> Option<Instant> {
        let health = self.health.lock();
        let last = health.event.map_or(health.begun, |event| event.max(health.begun));
        (!bound.is_zero() && !health.done).then(|| last + health.quiet + bound)
    }

    /// When [`Watched::settle`] has something to do; None when that is not known yet.
    pub(crate) fn due(&self) -> Option<Instant> {
        let health = self.health.lock();
        if let Some((_, since)) = &health.held {
            return Some(*since + self.rules.empty_grace);
        }
        let waits = health.restored.is_some() && health.stale.is_none();
        waits.then(|| health.begun + self.rules.first_answer)
    }

    /// Believes an empty answer whose time is over; lets the value from disk stand in for a source that is slow.
    pub(crate) fn settle(&self) {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let mut health = self.health.lock();
        match health.held.take() {
            Some((value, _)) => {
                let text = "an empty answer that was held back is now believed";
                tracing::warn!(watch = %self.name, "{text}");
                self.note(&mut health, None);
                self.believe(&mut health, value);
            }
            None => self.fall_back(&mut health),
        }
    }

    /// False when the source should have seen `truth` and has another value.
    pub(crate) fn agrees(&self, truth: &V) -> bool {
        let health = self.health.lock();
        let comparable = health.held.is_none() && health.stale.is_none() && health.failures == 0;
        !comparable || !matches!(self.publisher.state(), State::Ok(value) if value != *truth)
    }

    pub(crate) fn report(&self) -> WatchReport {
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
            stale: health.stale.map(|at| at.elapsed().unwrap_or_default()),
            held: health.held.is_some(),
            restarts: health.runs.saturating_sub(1),
        }
    }

    /// Adds this key to the sums of its table.
    pub(crate) fn add_to(&self, sums: &mut WatchSums) {
        let health = self.health.lock();
        sums.watches += 1;
        if health.done || self.publisher.watchers() == 0 {
            return;
        }
        let age = |at: Option<Instant>| at.unwrap_or(health.begun).elapsed();
        sums.age = sums.age.max(age(health.event));
        sums.last_success = sums.last_success.max(age(health.success));
        sums.failing += usize::from(health.failures > 0);
        if let Some(at) = health.stale {
            sums.stale += 1;
            sums.stale_age = sums.stale_age.max(at.elapsed().unwrap_or_default());
        }
    }
}

/// A whole table in numbers, for metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchSums {
    /// Live keys, those that linger included.
    pub watches: usize,
    /// How many there may be.
    pub limit: usize,
    /// Keys with readers whose source fails now.
    pub failing: usize,
    /// Keys with readers whose value is from disk.
    pub stale: usize,
    /// Largest time since a report, over the keys with readers.
    pub age: Duration,
    /// Largest time since a success, over the keys with readers.
    pub last_success: Duration,
    /// Largest age of a value from disk.
    pub stale_age: Duration,
}

impl WatchSums {
    /// Both together.
    pub(crate) fn add(&mut self, other: &WatchSums) {
        self.watches += other.watches;
        self.limit += other.limit;
        self.failing += other.failing;
        self.stale += other.stale;
        self.age = self.age.max(other.age);
        self.last_success = self.last_success.max(other.last_success);
        self.stale_age = self.stale_age.max(other.stale_age);
    }
}
