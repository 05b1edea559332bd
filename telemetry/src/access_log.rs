//! Access logs: one line per finished request, in a file.
//!
//! What it is for: [`AccessLog::record`] formats a line on the thread of the request and puts it into a bounded queue; a
//! thread of its own writes. A request never waits: what does not fit is dropped and counted. There is one writer per
//! file, whoever names it, so lines of several routers do not mix. What it is not: the log of the process (`tracing`).
//! Called by: the linker ([`AccessLog::open`]), the data path (`record`), signals ([`reopen_all`]), the end of the process
//! ([`flush_all`]).
//!
//! Metrics, with the label `file`: `access_log_dropped_total`, lines that were not written; `access_log_errors_total`,
//! failures to write, rename or open; `access_log_queued_bytes`, memory of the lines that wait to be written, and
//! `access_log_queued_bytes_limit`, the most that it may be.

mod file;
mod line;
mod policy;
mod writer;

pub use line::LogFormat;
pub use policy::{ROLL_POLICIES, RollPolicy};

use crate::RequestRecord;
use jiff::Timestamp;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use writer::{Message, Shared, Writer};

/// What a line takes beside its bytes: its place in the queue, and what the allocator adds.
const LINE_BYTES: usize = 64;
/// Opening a file takes no longer, unless it is a pipe that nobody reads.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// How a file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLogOptions {
    /// When a new file is begun.
    pub policy: RollPolicy,
    /// Whether what is in the file at the start of the process is kept.
    pub append: bool,
    /// Old files that are kept; none keeps all.
    pub rotate_count: Option<usize>,
    /// Memory of the lines that wait to be written, at most, in bytes; a line that would take more is dropped.
    pub queue_bytes: usize,
}

impl Default for AccessLogOptions {
    /// One file, for ever, and 8 MiB for what waits.
    fn default() -> AccessLogOptions {
        AccessLogOptions { policy: RollPolicy::Never, append: true, rotate_count: None, queue_bytes: 8 << 20 }
    }
}

/// What is counted of a file.
#[derive(Clone)]
struct Counters {
    dropped: metrics::Counter,
    errors: metrics::Counter,
    queued: metrics::Gauge,
    limit: metrics::Gauge,
}

impl Counters {
    fn of(path: &Path) -> Counters {
        let name = path.display().to_string();
        Counters {
            dropped: metrics::counter!("access_log_dropped_total", "file" => name.clone()),
            errors: metrics::counter!("access_log_errors_total", "file" => name.clone()),
            queued: metrics::gauge!("access_log_queued_bytes", "file" => name.clone()),
            limit: metrics::gauge!("access_log_queued_bytes_limit", "file" => name),
        }
    }
}

/// A handle on the writer of one file, and the form of the lines it is given. A clone leads to the same file; the writer
/// ends with the last handle, after writing what it has.
#[derive(Clone)]
pub struct AccessLog {
    format: LogFormat,
    file: Arc<Handle>,
    /// For a writer that had others before; see [`AccessLog::enforce`].
    options: Option<AccessLogOptions>,
}

struct Handle {
    /// As it was first named.
    path: PathBuf,
    queue: Sender<Message>,
    shared: Arc<Shared>,
    counters: Counters,
}

/// The writers of the process.
static WRITERS: Mutex<Vec<Weak<Handle>>> = Mutex::new(Vec::new());

impl AccessLog {
    /// A log in the file at `path`, which is made if it is missing. When the process writes to that file already, by
    /// whatever path, lines go to the same writer and `options` apply to it from [`AccessLog::enforce`] on; what is in the
    /// file stays then.
    ///
    /// # Errors
    /// Those of opening the file; `TimedOut` when it does not open at all.
    pub fn open(path: &Path, format: LogFormat, options: AccessLogOptions) -> io::Result<AccessLog> {
        let mut writers = WRITERS.lock();
        writers.retain(|writer| writer.strong_count() > 0);
        let known = writers.iter().filter_map(Weak::upgrade).find(|known| same_file(&known.path, path));
        if let Some(file) = known {
            return Ok(AccessLog { format, file, options: Some(options) });
        }
        let file = Arc::new(Handle::start(path, options)?);
        writers.push(Arc::downgrade(&file));
        Ok(AccessLog { format, file, options: None })
    }

    /// Puts its options in force in a writer that was there before.
    pub fn enforce(&self) {
        if let Some(options) = self.options {
            self.file.limit(options.queue_bytes);
            *self.file.shared.options.lock() = Some(options);
            self.file.wake();
        }
    }

    /// Adds a line for `record`, or counts it as dropped. Never blocks.
    pub fn record(&self, record: &RequestRecord<'_>) {
        let mut line = Vec::with_capacity(256);
        line::write(self.format, record, &mut line);
        self.file.push(line);
    }
}

impl Handle {
    /// Starts the writer and waits until the file is open.
    fn start(path: &Path, options: AccessLogOptions) -> io::Result<Handle> {
        let counters = Counters::of(path);
        // What is in it is bounded by `push`.
        let (queue, messages) = mpsc::channel();
        let (opened, opening) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let (theirs, counted, at) = (shared.clone(), counters.clone(), path.to_owned());
        // Opening may block for ever, as for a pipe that nobody reads: it is done where that hurts nobody.
        let run = move || match Writer::open(&at, options, theirs, counted, Timestamp::now) {
            Ok(writer) => {
                // When nobody waits any more, the queue is closed as well.
                let _ = opened.send(Ok(()));
                writer.run(&messages);
            }
            Err(error) => _ = opened.send(Err(error)),
        };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?;
        match opening.recv_timeout(OPEN_WITHIN) {
            Ok(outcome) => outcome?,
            Err(_) => {
                let text = format!("it does not open within {OPEN_WITHIN:?}; is it a pipe that nobody reads?");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
        let handle = Handle { path: path.to_owned(), queue, shared, counters };
        handle.limit(options.queue_bytes);
        Ok(handle)
    }

    /// Lets so many bytes wait from now on.
    fn limit(&self, bytes: usize) {
        self.shared.limit.store(bytes, Ordering::Relaxed);
        self.counters.limit.set(bytes as f64);
    }

    fn push(&self, line: Vec<u8>) {
        let bytes = taken_by(&line);
        let before = self.shared.queued.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.shared.limit.load(Ordering::Relaxed) {
            self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
            return self.counters.dropped.increment(1);
        }
        self.counters.queued.increment(bytes as f64);
        if self.queue.send(Message::Line(line)).is_err() {
            // The writer is gone, with all that waited for it.
            self.counters.dropped.increment(1);
        }
    }

    /// Makes the writer look at what it shares, unless it is about to.
    fn wake(&self) {
        if !self.shared.woken.swap(true, Ordering::AcqRel) {
            // Without a writer there is nobody to wake.
            let _ = self.queue.send(Message::Wake);
        }
    }

    /// Waits until what was recorded before is written or cannot be, at most until `until`.
    fn flush(&self, until: Instant) {
        let (answer, answered) = mpsc::channel();
        // Either it is done, or there is no writer, or the time is over.
        let _ = self.queue.send(Message::Flush(answer));
        let _ = answered.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// The memory that a line takes in the queue.
fn taken_by(line: &Vec<u8>) -> usize {
    line.capacity() + LINE_BYTES
}

/// Whether two paths lead to one file, or will.
fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        path.canonicalize().or_else(|_| {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok::<_, io::Error>(folder.canonicalize()?.join(path.file_name().unwrap_or_default()))
        })
    };
    one == other || matches!((real(one), real(other)), (Ok(one), Ok(other)) if one == other)
}

fn all() -> Vec<Arc<Handle>> {
    WRITERS.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Opens the file of every access log anew, so that one that was moved away is left alone from now on. Nothing is
/// truncated by it. Call on a signal.
pub fn reopen_all() {
    for file in all() {
        file.shared.reopen.store(true, Ordering::Release);
        file.wake();
    }
}

/// Waits until every access log has written what it was given, at most for `limit` in all. Blocks: call when the process
/// ends.
pub fn flush_all(limit: Duration) {
    let until = Instant::now() + limit;
    all().iter().for_each(|file| file.flush(until));
}

#[cfg(test)]
mod tests;
