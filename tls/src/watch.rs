//! [`Tls`]: makes servers and clients, and keeps them up to date while their files change (attack T1).
//!
//! For: the place that builds everything from a config; one per process. Events of the OS for the folders of all files,
//! with a look at the content of every file once a second as a net under them: events do not cross network file systems
//! and do not see where symbolic links lead, as those of Kubernetes do. Files are read on blocking threads of the runtime
//! that was given, never by who serves connections.

use crate::client::ClientFiles;
use crate::error::TlsError;
use crate::files::Files;
use crate::held::{QUIET, Reload};
use crate::params::{ClientTlsParams, ServerTlsParams};
use crate::server::ServerTls;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Files are looked at so often, whether there was an event or not.
const POLL: Duration = Duration::from_secs(1);
/// Events that come together are one; a folder where much happens is not looked at more often.
const GATHER: Duration = Duration::from_millis(100);

/// Everything that is made of certificate files. Dropping it ends the watch; what was made stays usable.
pub struct Tls {
    shared: Arc<Shared>,
    clients: Mutex<HashMap<ClientTlsParams, Weak<ClientFiles>>>,
    task: AbortHandle,
}

struct Shared {
    entries: Mutex<Vec<Weak<dyn Reload>>>,
    folders: Mutex<Folders>,
}

struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
}

impl Tls {
    /// Starts the watch on this runtime.
    pub fn new(handle: &Handle) -> Tls {
        let (events, changes) = watch::channel(());
        let watcher = notify::recommended_watcher(move |event| {
            if is_change(event) {
                events.send_replace(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!("no file events, certificate files are polled every second: {error}");
        }
        let folders = Mutex::new(Folders { watcher: watcher.ok(), watched: HashSet::new() });
        let shared = Arc::new(Shared { entries: Mutex::default(), folders });
        let task = handle.spawn(run(shared.clone(), changes)).abort_handle();
        Tls { shared, clients: Mutex::default(), task }
    }

    /// A listener's TLS. Reads its files: blocks.
    pub fn server(&self, params: &ServerTlsParams) -> Result<Arc<ServerTls>, TlsError> {
        let server = Arc::new(ServerTls::new(params)?);
        self.shared.add(Arc::downgrade(&server.held()));
        Ok(server)
    }

    /// What clients with these settings share. Reads its files, unless such a client is there already: blocks.
    pub fn client(&self, params: &ClientTlsParams) -> Result<Arc<ClientFiles>, TlsError> {
        let mut clients = self.clients.lock();
        if let Some(files) = clients.get(params).and_then(Weak::upgrade) {
            return Ok(files);
        }
        let files = Arc::new(ClientFiles::new(params)?);
        self.shared.add(Arc::downgrade(&files.held()));
        clients.retain(|_, files| files.strong_count() > 0);
        clients.insert(params.clone(), Arc::downgrade(&files));
        Ok(files)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(shared: Arc<Shared>, mut changes: watch::Receiver<()>) {
    let mut pause = POLL;
    loop {
        tokio::select! {
            // Without a sender there are no events; the poll remains.
            Ok(()) = changes.changed() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(pause) => {}
        }
        changes.mark_unchanged();
        let shared = shared.clone();
        let looked = tokio::task::spawn_blocking(move || shared.look(Instant::now())).await;
        pause = if looked.unwrap_or(false) { QUIET } else { POLL };
    }
}

impl Shared {
    fn add(&self, entry: Weak<dyn Reload>) {
        self.entries.lock().push(entry);
        self.arm(&self.live());
    }

    fn live(&self) -> Vec<Arc<dyn Reload>> {
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.strong_count() > 0);
        entries.iter().filter_map(Weak::upgrade).collect()
    }

    /// Reads every file once and shows it to whoever is made of it. True when somebody waits for quiet.
    fn look(&self, now: Instant) -> bool {
        let live = self.live();
        self.arm(&live);
        let mut files = Files::default();
        live.iter().flat_map(|entry| entry.paths()).for_each(|path| files.add(path));
        // All of them are asked: no short circuit.
        live.iter().filter(|entry| entry.observe(&files, now)).count() > 0
    }

    /// Watches the folders of all files and no others. A folder that was made anew is found by the poll.
    fn arm(&self, live: &[Arc<dyn Reload>]) {
        let wanted: HashSet<PathBuf> = live.iter().flat_map(|entry| entry.paths()).map(|path| folder(path)).collect();
        let mut folders = self.folders.lock();
        let Folders { watcher: Some(watcher), watched } = &mut *folders else { return };
        watched.retain(|folder| {
            let keep = wanted.contains(folder);
            if !keep {
                // It may be gone.
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        for folder in wanted {
            if !watched.contains(&folder) && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                watched.insert(folder);
            }
        }
    }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reading is no change: our own would wake us for ever.
fn is_change(event: notify::Result<Event>) -> bool {
    match event.map(|event| event.kind) {
        Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) => true,
        Ok(EventKind::Access(_)) => false,
        _ => true,
    }
}
