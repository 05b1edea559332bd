//! The thread behind an access log: takes lines from the queue, writes them, begins new files.
//!
//! What it is for: keeping slow and full disks away from requests. What it cannot write it keeps, within
//! [`PENDING_BYTES`], and tries again every [`RETRY`]; it says so once, counts it, and never gives up. What it is not: on
//! any other thread. Called by: `AccessLog::open`, which starts it; it ends with the last handle.

use super::file::LogFile;
use super::{AccessLogOptions, Counters, taken_by};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Bytes that wait for a file that cannot be written, at most.
const PENDING_BYTES: usize = 1024 * 1024;
/// After a line the writer lets others come for so long.
const GATHER: Duration = Duration::from_millis(10);
/// Lines are written together up to this size.
const BATCH_BYTES: usize = 64 * 1024;
/// How long until something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread is told.
pub(super) enum Message {
    /// A line with its end.
    Line(Vec<u8>),
    /// Look at [`Shared`].
    Wake,
    /// Answer when all that came before is written, or cannot be.
    Flush(Sender<()>),
}

/// What handles and the thread share beside the queue.
#[derive(Default)]
pub(super) struct Shared {
    /// Memory of the lines in the queue.
    pub(super) queued: AtomicUsize,
    /// The most that it may be.
    pub(super) limit: AtomicUsize,
    /// A [`Message::Wake`] is in the queue.
    pub(super) woken: AtomicBool,
    /// The file is to be opened anew.
    pub(super) reopen: AtomicBool,
    /// Options that are to be in force from now on.
    pub(super) options: parking_lot::Mutex<Option<AccessLogOptions>>,
}

/// See the module.
pub(super) struct Writer {
    path: PathBuf,
    options: AccessLogOptions,
    file: LogFile,
    shared: Arc<Shared>,
    counters: Counters,
    clock: fn() -> Timestamp,
    /// Lines that are not written yet, the first one perhaps in part.
    pending: Vec<u8>,
    /// Something failed, and was reported; it is tried again then.
    failing: Option<Instant>,
    /// A new file could not be begun; it is tried again then.
    roll_after: Option<Timestamp>,
}

impl Writer {
    /// Opens the file; errors are those of the system. `clock` tells when a file is over.
    pub(super) fn open(
        path: &Path,
        options: AccessLogOptions,
        shared: Arc<Shared>,
        counters: Counters,
        clock: fn() -> Timestamp,
    ) -> std::io::Result<Writer> {
        let file = LogFile::open(path, options.policy, !options.append, clock())?;
        let (pending, path) = (Vec::new(), path.to_owned());
        Ok(Writer { path, options, file, shared, counters, clock, pending, failing: None, roll_after: None })
    }

    /// Runs until the last handle is gone.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let message = match self.failing {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(message) => {
                    // Meanwhile lines gather without waking this thread, which costs more than writing them.
                    if matches!(message, Message::Line(_)) {
                        std::thread::sleep(GATHER);
                    }
                    self.take_all(message, queue);
                }
                Err(RecvTimeoutError::Timeout) => self.write(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.counters.limit.set(0.0);
                    return self.write();
                }
            }
        }
    }

    /// Takes what is in the queue, then writes.
    pub(super) fn take_all(&mut self, first: Message, queue: &Receiver<Message>) {
        let mut next = Some(first);
        while let Some(message) = next {
            self.follow_orders();
            match message {
                Message::Line(line) => {
                    let bytes = taken_by(&line);
                    self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
                    self.counters.queued.decrement(bytes as f64);
                    self.take(&line);
                }
                // What was asked for since is looked at below, or has a message of its own.
                Message::Wake => {
                    self.shared.woken.store(false, Ordering::Release);
                    self.follow_orders();
                }
                Message::Flush(answer) => {
                    self.write();
                    // Whoever asked may have given up.
                    let _ = answer.send(());
                }
            }
            next = queue.try_recv().ok();
        }
        if self.failing.is_none_or(|at| at <= Instant::now()) {
            self.write();
        }
    }

    /// Does what handles have asked for beside the queue.
    fn follow_orders(&mut self) {
        if let Some(options) = self.shared.options.lock().take() {
            self.options = options;
            self.file.set_policy(options.policy);
        }
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.write();
            match LogFile::open(&self.path, self.options.policy, false, (self.clock)()) {
                Ok(file) => self.file = file,
                Err(error) => self.complain("cannot open the access log anew; lines go on to the old file", &error),
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        if self.failing.is_some_and(|at| at <= Instant::now()) {
            self.write();
        }
        if self.failing.is_some() && self.pending.len() + line.len() > PENDING_BYTES {
            return self.counters.dropped.increment(1);
        }
        let now = (self.clock)();
        let waiting = self.pending.len() as u64;
        if self.roll_after.is_none_or(|at| now >= at) && self.file.is_over(now, waiting, line.len() as u64) {
            self.write();
            if self.pending.is_empty() {
                self.roll(now);
            }
        }
        self.pending.extend_from_slice(line);
        if self.failing.is_none() && self.pending.len() >= BATCH_BYTES {
            self.write();
        }
    }

    /// Begins a new file. When that fails the old one goes on, for a minute at least.
    fn roll(&mut self, now: Timestamp) {
        match self.file.roll(&self.path, self.options.policy, self.options.rotate_count, now) {
            Ok(file) => {
                self.file = file;
                self.roll_after = None;
            }
            Err(error) => {
                self.complain("cannot begin a new access log; lines go on to the old file", &error);
                self.roll_after = Some(now + Duration::from_secs(60));
            }
        }
    }

    fn write(&mut self) {
        if self.pending.is_empty() {
            self.failing = None;
            return;
        }
        match self.file.write(&mut self.pending) {
            Ok(()) => {
                if self.failing.take().is_some() {
                    tracing::info!(file = %self.path.display(), "the access log is written again");
                }
            }
            Err(error) => {
                if self.failing.is_none() {
                    self.complain("cannot write the access log; trying again every second, lines are dropped", &error);
                } else {
                    self.counters.errors.increment(1);
                }
                self.failing = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Counts a failure and says so.
    fn complain(&self, what: &str, error: &std::io::Error) {
        self.counters.errors.increment(1);
        tracing::error!(file = %self.path.display(), %error, "{what}");
    }
}
