//! [`FolderEvents`]: wakes whoever reads a folder when something in it changes.
//!
//! Events of the OS (folders are watched, not files: editors and ConfigMaps replace files by rename) with a poll as a net
//! under them, because events do not cross network file systems, symbolic links that lead elsewhere, or a folder that is
//! removed and made anew. Called by the sources of the file-system namer. Not for: reading anything.

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A folder is handed to the OS anew at least this often, in case it is another folder of the same name by now.
const REARM: Duration = Duration::from_millis(900);
/// Events that come together are one.
const GATHER: Duration = Duration::from_millis(10);

type Live = Arc<Mutex<HashMap<PathBuf, Folder>>>;

struct Folder {
    readers: usize,
    changes: watch::Sender<()>,
    /// When it was last handed to the OS; None when that is due.
    armed: Option<Instant>,
}

/// Events of folders; one per namer. Without events from the OS (a limit is reached) the polls remain.
pub(crate) struct FolderEvents {
    live: Live,
    /// Never locked while `live` is held: the event thread takes `live`, and calls on the watcher wait for that thread.
    watcher: Mutex<Option<RecommendedWatcher>>,
}

impl FolderEvents {
    pub(crate) fn new() -> Arc<FolderEvents> {
        let live = Live::default();
        let seen = live.clone();
        let watcher = notify::recommended_watcher(move |event| notice(&seen, event));
        if let Err(error) = &watcher {
            tracing::warn!("no file events, files are polled every second: {error}");
        }
        Arc::new(FolderEvents { live, watcher: Mutex::new(watcher.ok()) })
    }

    /// Wakes for changes in `folder` (absolute), which need not exist.
    pub(crate) fn watch(self: &Arc<Self>, folder: PathBuf) -> FolderWatch {
        let mut live = self.live.lock();
        let entry = live.entry(folder.clone()).or_insert_with(|| Folder {
            readers: 0,
            changes: watch::channel(()).0,
            armed: None,
        });
        entry.readers += 1;
        let changes = entry.changes.subscribe();
        drop(live);
        FolderWatch { events: self.clone(), folder, changes }
    }

    /// Hands the folder to the OS, when that is due. Blocks for some microseconds. Call it before reading the folder.
    pub(crate) fn arm(&self, folder: &Path) {
        {
            let mut live = self.live.lock();
            let Some(entry) = live.get_mut(folder) else { return };
            if entry.armed.is_some_and(|at| at.elapsed() < REARM) {
                return;
            }
            entry.armed = Some(Instant::now());
        }
        let mut watcher = self.watcher.lock();
        let Some(watcher) = watcher.as_mut() else { return };
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            let absent = match &error.kind {
                ErrorKind::PathNotFound => true,
                ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
                _ => false,
            };
            if !absent {
                tracing::debug!("no events for {}: {error}", folder.display());
            } else if let Some(entry) = self.live.lock().get_mut(folder) {
                entry.armed = None;
            }
        }
    }

    fn leave(&self, folder: &Path) {
        {
            let mut live = self.live.lock();
            let Some(entry) = live.get_mut(folder) else { return };
            entry.readers -= 1;
            if entry.readers > 0 {
                return;
            }
            live.remove(folder);
        }
        let mut watcher = self.watcher.lock();
        // A new reader may have come meanwhile; it arms after this lock is free, or has armed before.
        if !self.live.lock().contains_key(folder)
            && let Some(watcher) = watcher.as_mut()
        {
            let _ = watcher.unwatch(folder);
        }
    }
}

/// One reader's interest in a folder; ends by drop.
pub(crate) struct FolderWatch {
    events: Arc<FolderEvents>,
    folder: PathBuf,
    changes: watch::Receiver<()>,
}

impl FolderWatch {
    /// Waits for a change since the last call, at most for `poll`. True when there was one.
    pub(crate) async fn changed(&mut self, poll: Duration) -> bool {
        tokio::select! {
            _ = self.changes.changed() => {}
            () = tokio::time::sleep(poll) => return false,
        }
        tokio::time::sleep(GATHER).await;
        self.changes.mark_unchanged();
        true
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.events.leave(&self.folder);
    }
}

/// Runs on the event thread.
fn notice(live: &Live, event: notify::Result<Event>) {
    let mut live = live.lock();
    let Ok(event) = event else {
        live.values().for_each(|folder| folder.changes.send_replace(()));
        return;
    };
    if event.need_rescan() {
        live.values().for_each(|folder| folder.changes.send_replace(()));
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        // Reading a file is no change; our own reads would wake us for ever.
        EventKind::Access(_) => return,
        _ => {}
    }
    for path in &event.paths {
        if let Some(folder) = live.get_mut(path) {
            // The folder itself was moved or removed, so its watch is of no use.
            folder.armed = None;
            folder.changes.send_replace(());
        }
        if let Some(folder) = path.parent().and_then(|parent| live.get(parent)) {
            folder.changes.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_change_wakes_the_readers_of_its_folder_and_reading_does_not() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let events = FolderEvents::new();
        let mut first = events.watch(one.path().to_owned());
        let mut second = events.watch(two.path().to_owned());
        events.arm(one.path());
        events.arm(two.path());
        std::fs::write(one.path().join("web"), "x").unwrap();
        assert!(first.changed(LONG).await);
        // A write is more than one event.
        while first.changed(Duration::from_millis(50)).await {}
        assert!(std::fs::read(one.path().join("web")).is_ok() && std::fs::read_dir(one.path()).is_ok());
        assert!(!first.changed(Duration::from_millis(50)).await);
        assert!(!second.changed(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn a_folder_made_anew_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("disco");
        std::fs::create_dir(&folder).unwrap();
        let events = FolderEvents::new();
        let mut reader = events.watch(folder.clone());
        events.arm(&folder);
        std::fs::remove_dir(&folder).unwrap();
        assert!(reader.changed(LONG).await);
        events.arm(&folder);
        std::fs::create_dir(&folder).unwrap();
        events.arm(&folder);
        std::fs::write(folder.join("web"), "x").unwrap();
        assert!(reader.changed(LONG).await);
    }

    #[tokio::test]
    async fn the_last_reader_ends_the_watch() {
        let root = tempfile::tempdir().unwrap();
        let events = FolderEvents::new();
        let readers = [events.watch(root.path().to_owned()), events.watch(root.path().to_owned())];
        events.arm(root.path());
        drop(readers);
        assert!(events.live.lock().is_empty());
        let unwatched = events.watcher.lock().as_mut().is_some_and(|w| w.unwatch(root.path()).is_err());
        assert!(unwatched);
    }
}
