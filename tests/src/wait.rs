//! Waiting for something to become true, instead of sleeping.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);

thread_local! {
    /// The logs of the processes that this test started, to be shown when it fails.
    static LOGS: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// Notes a log file that is worth seeing when the present test fails.
pub(crate) fn note_log(path: &Path) {
    LOGS.with_borrow_mut(|logs| logs.push(path.to_owned()));
}

/// The last lines of all noted logs.
pub(crate) fn logs() -> String {
    let paths = LOGS.with_borrow(Clone::clone);
    paths.iter().map(|path| format!("--- {} ---\n{}", path.display(), tail(path))).collect()
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    const LINES: usize = 60;
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("{line}\n")).collect()
}

/// Asks every 5 ms until there is an answer; panics with `what` and the logs when there is none within `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut f: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = f() {
            return answer;
        }
        if started.elapsed() > limit {
            panic!("not within {limit:?}: {what}\n{}", logs());
        }
        std::thread::sleep(POLL);
    }
}

/// Asks every 5 ms for the time `limit`; panics with `what` and the logs as soon as the answer is no.
pub fn holds_for(what: &str, limit: Duration, mut f: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < limit {
        if !f() {
            panic!("no longer after {:?}: {what}\n{}", started.elapsed(), logs());
        }
        std::thread::sleep(POLL);
    }
}

/// Raises its flag when it is dropped. Ends the threads of a scope also when the story fails: the scope waits for them.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
