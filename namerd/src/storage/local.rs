//! `io.switchyard.local`: dtabs in one file of a folder of this host, durable and without any server.
//!
//! What is acknowledged has been synced to disk, so `kill -9` at any moment loses nothing of it. Reads are answered from
//! memory; writes that come at the same time share one commit, made on a blocking thread. When the disk refuses, what is
//! known stays served, writes are refused, and the file is opened again with each further write until it works. Versions
//! grow over restarts and deletes. One process has the folder at a time. Not for: several namerds over one store.

mod file;
mod shrink;
mod tables;

pub use file::LocalError;

use crate::storage::observed::Observed;
use crate::storage::write::{Condition, Retention, Write};
use crate::storage::{Entry, Note, Store, StoreError, Version, VersionedDtab};
use dtab::{Activity, BoxFuture, Dtab};
use file::File;
use parking_lot::Mutex;
use redb::Database;
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tables::Row;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What history is kept when nothing else is said: 10,000 entries and 64 MiB of text per namespace, 10,000 namespaces gone.
pub const RETENTION: Retention = Retention { entries: 10_000, bytes: 64 << 20, gone: 10_000 };

/// Requests that wait for the disk at most; further ones are refused.
const WAITING: usize = 1_024;
/// Requests that share one commit at most.
const TOGETHER: usize = 128;

/// See the module.
pub struct LocalStore {
    shared: Arc<Shared>,
    handle: Handle,
}

struct Shared {
    observed: Observed,
    retention: Retention,
    path: PathBuf,
    queue: Mutex<Queue>,
    health: Mutex<Health>,
    /// Locked while the disk is used, so on blocking threads only.
    file: Mutex<File>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// A blocking thread takes from the queue.
    served: bool,
}

enum Job {
    Write(Write, oneshot::Sender<Result<Version, StoreError>>),
    History(String, usize, oneshot::Sender<Result<Vec<Row>, StoreError>>),
}

#[derive(Default)]
struct Health {
    commits: u64,
    writes: u64,
    failures: u64,
    last_write: Option<SystemTime>,
    error: Option<String>,
}

impl LocalStore {
    /// Opens the store of this folder; makes an empty one where there is none. Reads and checks the whole file, so it blocks:
    /// for the start of the process. The store uses blocking threads of `handle`.
    pub fn open(folder: PathBuf, retention: Retention, handle: Handle) -> Result<LocalStore, LocalError> {
        let mut file = File::lock(folder)?;
        let path = file.path();
        let shared = Shared {
            observed: Observed::new(),
            retention,
            path,
            queue: Mutex::default(),
            health: Mutex::default(),
            file: Mutex::new(File::nowhere()),
        };
        shared.reopen(&mut file)?;
        if let Err(error) = file.shrink() {
            tracing::warn!("the file of the dtabs stays as large as it is: {error}");
            file.close();
            shared.reopen(&mut file)?;
        }
        *shared.file.lock() = file;
        Ok(LocalStore { shared: Arc::new(shared), handle })
    }

    async fn write(&self, write: Write) -> Result<Version, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Write(write, answer))?;
        answered.await.unwrap_or_else(|_| Err(ending()))
    }

    fn submit(&self, job: Job) -> Result<(), StoreError> {
        let mut queue = self.shared.queue.lock();
        if queue.jobs.len() >= WAITING {
            let text = format!("{WAITING} requests wait for the disk already; nothing was stored: try again later");
            return Err(StoreError::Unavailable(text));
        }
        queue.jobs.push_back(job);
        let served = std::mem::replace(&mut queue.served, true);
        drop(queue);
        if !served {
            let server = Server { shared: self.shared.clone(), done: false };
            self.handle.spawn_blocking(move || server.run());
        }
        Ok(())
    }
}

/// Waits for the commit that is under way, closes the file, and lets another open it. For the end of the process: it may
/// block for as long as a commit takes.
impl Drop for LocalStore {
    fn drop(&mut self) {
        *self.shared.file.lock() = File::nowhere();
    }
}

fn ending() -> StoreError {
    StoreError::Unavailable("this process ends; whether the dtab was stored shows when it is read again".to_owned())
}

/// Serves the queue until it is empty. If it cannot even begin, all who wait are told.
struct Server {
    shared: Arc<Shared>,
    done: bool,
}

impl Server {
    fn run(mut self) {
        loop {
            let mut queue = self.shared.queue.lock();
            let together = queue.jobs.len().min(TOGETHER);
            let batch: Vec<Job> = queue.jobs.drain(..together).collect();
            if batch.is_empty() {
                (queue.served, self.done) = (false, true);
                return;
            }
            drop(queue);
            self.shared.serve(batch);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.done {
            *self.shared.queue.lock() = Queue::default();
        }
    }
}

impl Shared {
    /// Does what is asked for, writes first and in one commit.
    fn serve(&self, batch: Vec<Job>) {
        let mut file = self.file.lock();
        let (mut writes, mut writers, mut readers) = (Vec::new(), Vec::new(), Vec::new());
        for job in batch {
            match job {
                Job::Write(write, answer) => {
                    writes.push(write);
                    writers.push(answer);
                }
                Job::History(namespace, limit, answer) => readers.push((namespace, limit, answer)),
            }
        }
        if !writes.is_empty() {
            let outcomes = self.commit(&mut file, writes);
            for (answer, outcome) in writers.into_iter().zip(outcomes) {
                // Whoever asked may have gone; what is stored stays stored.
                let _ = answer.send(outcome);
            }
        }
        for (namespace, limit, answer) in readers {
            let rows = self.on_disk(&mut file, |database| tables::history(database, &namespace, limit));
            let _ = answer.send(rows.map_err(unavailable));
        }
    }

    /// Stores all of it or nothing, publishes what was stored, and says so. One outcome per write.
    fn commit(&self, file: &mut File, writes: Vec<Write>) -> Vec<Result<Version, StoreError>> {
        let outcomes = match self.on_disk(file, |database| tables::write(database, &writes, &self.retention)) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let error = unavailable(error);
                return writes.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let mut health = self.health.lock();
        (health.commits, health.last_write) = (health.commits + 1, Some(SystemTime::now()));
        for (write, outcome) in writes.into_iter().zip(&outcomes) {
            if let Ok(version) = outcome {
                health.writes += 1;
                let dtab = write.dtab.map(|dtab| VersionedDtab { dtab, version: version.clone() });
                self.observed.set(&write.namespace, dtab);
            }
        }
        outcomes
    }

    /// Uses the database. After an error it is opened again: at once, to learn what has been stored, and if that fails,
    /// before it is used the next time.
    fn on_disk<T>(
        &self,
        file: &mut File,
        mut act: impl FnMut(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, LocalError> {
        if !file.is_open() {
            self.reopen(file).inspect_err(|error| self.note(error))?;
        }
        let outcome = file.with(&mut act);
        match &outcome {
            Ok(_) => self.health.lock().error = None,
            Err(error) => {
                self.note(error);
                file.close();
                if let Err(again) = self.reopen(file) {
                    tracing::warn!("the dtabs stay as they were known: {again}");
                }
            }
        }
        outcome
    }

    fn reopen(&self, file: &mut File) -> Result<(), LocalError> {
        let dtabs = file.open()?;
        self.observed.replace(dtabs);
        Ok(())
    }

    fn note(&self, error: &LocalError) {
        let text = error.to_string();
        let mut health = self.health.lock();
        health.failures += 1;
        if health.error.as_ref() != Some(&text) {
            tracing::error!("the local store fails: {text}");
            health.error = Some(text);
        }
    }
}

fn unavailable(error: LocalError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl Store for LocalStore {
    fn kind(&self) -> &'static str {
        "io.switchyard.local"
    }

    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        self.shared.observed.list()
    }

    fn observe(&self, namespace: &str) -> Activity<Option<VersionedDtab>> {
        self.shared.observed.observe(namespace)
    }

    fn read(&self, namespace: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        let known = self.shared.observed.get(namespace).ok().flatten();
        Box::pin(std::future::ready(Ok(known)))
    }

    fn create(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(self.write(Write::store(namespace, Condition::Absent, dtab, note)))
    }

    fn update(
        &self,
        namespace: &str,
        dtab: Dtab,
        expected: Version,
        note: Note,
    ) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(self.write(Write::store(namespace, Condition::Is(expected), dtab, note)))
    }

    fn put(&self, namespace: &str, dtab: Dtab, note: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        Box::pin(self.write(Write::store(namespace, Condition::Any, dtab, note)))
    }

    fn delete(&self, namespace: &str, expected: Option<Version>, note: Note) -> BoxFuture<'_, Result<(), StoreError>> {
        let write = Write::delete(namespace, expected, note);
        Box::pin(async move { self.write(write).await.map(drop) })
    }

    fn history(&self, namespace: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let namespace = namespace.to_owned();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.submit(Job::History(namespace, limit, answer))?;
            let rows = answered.await.unwrap_or_else(|_| Err(ending()))?;
            let path = self.shared.path.clone();
            let parsed =
                self.handle.spawn_blocking(move || rows.into_iter().map(Row::into_entry).collect::<Result<_, _>>());
            let parsed = parsed.await.map_err(|_| ending())?;
            parsed.map_err(|why| unavailable(LocalError::Damaged { path, why }))
        })
    }

    fn condition(&self) -> super::Condition {
        super::Condition {
            last_success: Some(std::time::Duration::ZERO),
            failing: self.shared.health.lock().error.is_some(),
        }
    }

    fn report(&self) -> serde_json::Value {
        let waiting = self.shared.queue.lock().jobs.len();
        let health = self.shared.health.lock();
        let age = health.last_write.and_then(|at| at.elapsed().ok()).map(|age| age.as_secs());
        serde_json::json!({
            "kind": self.kind(),
            "state": if health.error.is_none() { "ok" } else { "failed" },
            "file": self.shared.path.display().to_string(),
            "namespaces": self.shared.observed.namespaces(),
            "observed": self.shared.observed.observed(),
            "writes": health.writes,
            "commits": health.commits,
            "failures": health.failures,
            "waiting": waiting,
            "lastWriteSecondsAgo": age,
            "lastError": health.error,
        })
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
